"""``engine store backup`` beside a busy engine, and a restored copy: nothing accepted before it began is missing."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import SECRET, until
from processes import COMMAND, Serve, left_behind

from engine.store.queries import DeliveryQuery, EventQuery
from engine.testing import WebhookSink, payloads

CONFIG = """
secrets: ["${SECRET}"]
retention: {bodies: forever, events: forever}
defaults: {timeout: 10s, retry: {attempts: 30, within: 1h, min: 50ms, max: 300ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions: [{forward_webhook: {url: "${SINK}", body: {run: "{{ run.id }}"}}}]
"""
#: Events of 100 KB that are there before, and how many senders go on meanwhile.
BEFORE, SENDERS = 300, 4


class Load:
    """Sends event after event, and notes which were accepted."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._numbers = iter(range(10**6))
        self.accepted: dict[str, str] = {}
        self.slowest = 0.0
        self.refused = 0

    async def send(self, http: aiohttp.ClientSession, size: int = 0) -> None:
        run = payloads.run(next(self._numbers))
        body = payloads.to_body(payloads.rule([run]) | {"pad": random.randbytes(size // 2).hex()})
        began = asyncio.get_running_loop().time()
        async with http.post(self._serve.url(SECRET), data=body) as answer:
            if answer.status != 202:
                self.refused += 1
                return
            self.accepted[(await answer.json())["event"]] = run["id"]
        self.slowest = max(self.slowest, asyncio.get_running_loop().time() - began)

    async def keep_sending(self, http: aiohttp.ClientSession) -> None:
        while True:
            await self.send(http, 2000)


async def engine(*arguments: str) -> tuple[int, str, str]:
    piped = asyncio.subprocess.PIPE
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    made = await asyncio.create_subprocess_exec(COMMAND, *arguments, stdout=piped, stderr=piped, env=environ)
    stdout, stderr = await asyncio.wait_for(made.communicate(), 60)
    return made.returncode or 0, stdout.decode(), stderr.decode()


@pytest.mark.timeout(110)
@pytest.mark.parametrize("sealed", [False, True])
async def test_a_backup_under_load_has_all_that_was_accepted_before(tmp_path: Path, sealed: bool) -> None:
    key = {"ENGINE_STORE_KEY": "ZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGQ="} if sealed else {}
    config, data, copy = tmp_path / "config.yaml", tmp_path / "data", tmp_path / "backup" / "engine.db"
    config.write_text(CONFIG)
    copy.parent.mkdir()
    async with WebhookSink() as sink, aiohttp.ClientSession() as http:
        environ = {"SECRET": SECRET, "SINK": sink.url, **key}
        serve = Serve(config, data, environ)
        await serve.start()
        load = Load(serve)
        await asyncio.gather(*(load.send(http, 100_000) for _ in range(BEFORE)))
        sending = [asyncio.create_task(load.keep_sending(http)) for _ in range(SENDERS)]
        await asyncio.sleep(0.5)
        before = dict(load.accepted)
        code, said, words = await engine("store", "backup", str(copy), "--data", str(data), "--json")
        after = len(load.accepted)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        assert (code, words) == (0, "")
        assert json.loads(said) | {"seconds": 0} == {
            "file": str(copy),
            "bytes": copy.stat().st_size,
            "seconds": 0,
            "store": str(data / "engine.db"),
        }
        assert after > len(before), "nothing was sent meanwhile: this proves nothing"
        assert (load.refused, load.slowest < 3) == (0, True)
        assert await serve.terminate() == 0
    if not sealed:
        async with left_behind(copy.parent) as store:
            assert {row.id for row in await store.events(EventQuery(limit=10_000))} >= before.keys()
    async with WebhookSink() as sink:
        restored = Serve(config, copy.parent, environ | {"SINK": sink.url})
        await restored.start()
        async with aiohttp.ClientSession() as http:
            rows = await until(lambda: deliveries_of(http, restored, len(before)), 60)
        assert {row["event_id"] for row in rows} >= before.keys()
        assert await restored.terminate() == 0


async def deliveries_of(http: aiohttp.ClientSession, serve: Serve, count: int) -> list[dict[str, Any]] | None:
    """All deliveries, once every one that the copy knows of has succeeded."""
    rows: list[dict[str, Any]] = []
    page: dict[str, str] = {"limit": "1000"}
    while True:
        async with http.get(f"http://{serve.admin}/api/v1/deliveries", params=page) as answer:
            found = await answer.json()
        rows += found["deliveries"]
        if not found["next"]:
            break
        page["before"] = found["next"]
    good = [row for row in rows if row["state"] == "succeeded"]
    return rows if len(good) == len(rows) >= count else None


async def test_a_stopped_store_is_backed_up_too_and_refusals_are_words(tmp_path: Path) -> None:
    config, data = tmp_path / "config.yaml", tmp_path / "data"
    config.write_text(CONFIG)
    async with WebhookSink() as sink, aiohttp.ClientSession() as http:
        serve = Serve(config, data, {"SECRET": SECRET, "SINK": sink.url})
        await serve.start()
        load = Load(serve)
        await load.send(http)
        await until(lambda: len(sink.received) == 1)
        await serve.kill()
    copy = tmp_path / "copy.db"
    code, said, words = await engine("store", "backup", str(copy), "--data", str(data))
    assert (code, words) == (0, "")
    assert said.startswith(f"{copy}: ")
    assert said.endswith(" s\n")
    (tmp_path / "restored").mkdir()
    copy.rename(tmp_path / "restored" / "engine.db")
    async with left_behind(tmp_path / "restored") as store:
        assert [row.id for row in await store.events(EventQuery())] == list(load.accepted)
        assert len(await store.deliveries(DeliveryQuery())) == 1
    again = await engine("store", "backup", str(config), "--data", str(data))
    assert again[0] == 2
    assert again[2] == f"error: {config} exists already; a backup replaces nothing: name a new file\n"
    other = await engine("store", "backup", str(copy), "--store", "postgresql://host/db")
    assert other[0] == 2
    assert "only a SQLite store" in other[2]

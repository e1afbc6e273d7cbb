"""Make a pair of kept stores with the engine of this checkout: one plain, one sealed.

Run ``python tests/store/kept/generate.py schema-N`` once, right before the schema (or anything else that is stored)
changes; see the README beside this file.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from chaos.serving import Serve
from engine.admin.events import Queries
from engine.core.masking import Masker
from engine.core.signatures import sign
from engine.store import open_store
from engine.store.encryption import new_key
from engine.testing import LangSmithStandIn, WebhookSink, payloads
from engine.testing.server import Answer, Recorded

HERE = Path(__file__).parent
CONFIG = HERE / "config.yaml"
SECRET, SIGNING_SECRET = "the-secret-of-the-kept-stores", "the-signing-secret-of-the-kept-stores"
RULES: Mapping[str, str] = yaml.safe_load(CONFIG.read_text())["rules"]
#: What the destinations of the configuration answer, by the variable that names them.
DESTINATIONS = {
    "SINK": {},
    "DOWN": {"status": 503},
    "REFUSED": {"status": 401},
    "GONE": {"status": 410},
    "PAUSED": {"status": 429, "retry_after": 3000},
    "SLOW": {"hang": 3600},
}
#: Webhooks that are no rule's. All but the signed issue have no identity.
OTHERS = {
    "prompt": payloads.prompt_commit(),
    "alert": payloads.alert(),
    "issue": payloads.issue(),
    "note": {"note": "no webhook of LangSmith's"},
}


class Objects(WebhookSink):
    """Serves the objects that LangSmith leaves out of its webhooks."""

    async def answer(self, recorded: Recorded) -> Answer:
        """The object, or an error, or nothing for an hour."""
        if recorded.path.endswith("/hang"):
            await asyncio.sleep(3600)
        if recorded.path.endswith("/missing"):
            return Answer("no such object", 404)
        return Answer({"question": "why?", "pad": "y" * 9000})


async def main(version: str) -> None:
    """Both stores, with what the engine of now says of them."""
    folder = HERE / version
    folder.mkdir()
    await make(folder, "plain", "")
    key = new_key()
    (folder / "sealed.key").write_text(key + "\n")
    await make(folder, "sealed", key)


async def make(folder: Path, name: str, key: str) -> None:
    """One store."""
    async with AsyncExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stand_ins = {one: await stack.enter_async_context(WebhookSink()) for one in DESTINATIONS}
        for one, fault in DESTINATIONS.items():
            if fault:
                stand_ins[one].faults.add(times=None, **fault)
        # Nobody listens there later, whoever has the port.
        objects = await stack.enter_async_context(Objects(host="127.0.0.2"))
        langsmith = await stack.enter_async_context(LangSmithStandIn())
        environ = {one: stand_in.url for one, stand_in in stand_ins.items()}
        environ |= {
            "SECRET": SECRET,
            "SIGNING_SECRET": SIGNING_SECRET,
            "LANGSMITH_ENDPOINT": langsmith.url,
            "LANGSMITH_API_KEY": "key",
        }
        environ |= {"OPEN_DAYS": _not_today(), "ENGINE_STORE_KEY": key}
        events = await Filling(data, environ, stand_ins, objects).fill()
        _rename_host(data / "data" / "engine.db")
        facts = {"events": events, "origins": {one: stand_in.origin for one, stand_in in stand_ins.items()}}
        _pack(data / "data" / "engine.db", folder / f"{name}.db.gz")
        facts |= await said_of(data / "data" / "engine.db", key, list(events.values()))
        (folder / f"{name}.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


class Filling:
    """A real process that is brought into every state, and killed."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], stand_ins: Mapping[str, WebhookSink], objects: WebhookSink
    ) -> None:
        self._config = folder / "config.yaml"
        self._serve = Serve(self._config, folder / "data", environ)
        self._stand_ins, self._objects = stand_ins, objects
        self._numbers = iter(range(1000))
        self.events: dict[str, str] = {}

    async def fill(self) -> dict[str, str]:
        """The events' ids, by the names of their rules and a number."""
        # An evaluation that may be tried once is dead at once.
        self._config.write_text(CONFIG.read_text().replace("attempts: 8", "attempts: 1"))
        await self._serve.start()
        await self._post("undecided", _without_inputs(self._run(), f"{self._objects.origin}/missing"))
        await self._until("/api/v1/events?state=dead", 1)
        self._config.write_text(CONFIG.read_text())
        await self._ask("/-/reload", {})
        await self._ask("/api/v1/mutes", {"route": "muted", "reason": "we know"})
        await self._settled()
        await self._unsettled()
        await self._serve.kill()
        return self.events

    async def _settled(self) -> None:
        """What is over, or waits for something."""
        await self._post("delivered", self._run(), self._run())
        await self._post("delivered", self._run(outputs={"answer": "x" * 20_000}))
        await self._until("/api/v1/deliveries?state=succeeded", 3, of="delivered")
        self._stand_ins["SINK"].faults.add(status=422, path="/hook", body="no such customer")
        await self._post("dead", self._run())
        await self._until("/api/v1/deliveries?state=dead", 1)
        for name in ("waiting", "removed", "gone", "paused", "muted", "held", "wait-for", "throttled"):
            await self._post(name, self._run())
        await self._post("digest", self._run(name="chat"), self._run(name="chat"), self._run(name="other"))
        await self._post("digest", self._run(name="chat"))
        await self._post("fetched", _without_inputs(self._run(), f"{self._objects.origin}/why"))
        await self._post("unknown", self._run())
        for name, payload in OTHERS.items():
            await self._send(name, payload)
        await self._post("refused", self._run())
        await self._until("/api/v1/deliveries?state=succeeded", 1, of="throttled")
        await self._post("throttled", self._run(), self._run())
        await asyncio.sleep(2)
        await self._post("refused", self._run())
        await self._post("paused", self._run())
        await self._post("gone", self._run())
        await asyncio.sleep(2)

    async def _unsettled(self) -> None:
        """What is under way when the process is killed."""
        await self._post("running", self._run())
        await self._post("unfinished", _without_inputs(self._run(), f"{self._objects.origin}/hang"))
        await self._until("/api/v1/deliveries?state=running", 1)
        await self._until("/api/v1/events?state=pending", 2)
        await asyncio.sleep(1)

    def _run(self, **changes: Any) -> dict[str, Any]:
        return payloads.run(next(self._numbers), **changes)

    async def _post(self, rule: str, *runs: Mapping[str, Any]) -> None:
        start = datetime(2026, 5, 4, tzinfo=UTC) + timedelta(seconds=len(self.events))
        rule_id = RULES.get(rule, "00000000-0000-4000-8000-000000000099")
        payload = payloads.rule(runs, rule_id=rule_id, start_time=start.isoformat())
        await self._send(rule, payload)

    async def _send(self, sort: str, payload: Mapping[str, Any]) -> None:
        url, body = self._serve.url(SECRET), payloads.to_body(payload)
        headers = signed_headers(body) if sort == "issue" else {}
        async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            event_id = (await answer.json())["event"]
        number = sum(name.rpartition(" ")[0] == sort for name in self.events) + 1
        self.events[f"{sort} {number}"] = event_id

    async def _ask(self, path: str, body: Any = None) -> Any:
        url, method = f"http://{self._serve.admin}{path}", "GET" if body is None else "POST"
        async with aiohttp.ClientSession() as http, http.request(method, url, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def _until(self, path: str, count: int, of: str = "") -> None:
        for _ in range(300):
            rows = next(iter((await self._ask(path)).values()))
            if sum(not of or row["route"] == of for row in rows) >= count:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path} never had {count}")


def signed_headers(body: bytes) -> dict[str, str]:
    """What LangSmith's issue webhooks are signed with."""
    return sign("langsmith", SIGNING_SECRET, body, "", 0.0)


async def said_of(path: Path, key: str, event_ids: list[str]) -> dict[str, Any]:
    """What people are shown of a store."""
    store = open_store(path, keys=key)
    await store.open()
    try:
        queries = Queries(store, lambda: Masker([]), lambda: {name: [rule] for name, rule in RULES.items()})
        deliveries = (await queries.deliveries({"limit": "1000"}))["deliveries"]
        return {
            "events_list": (await queries.events({"limit": "1000"}))["events"],
            "deliveries_list": deliveries,
            "event": {one: _brief(await queries.event(one)) for one in event_ids},
            "delivery": {row["id"]: await queries.delivery(row["id"]) for row in deliveries},
        }
    finally:
        await store.close()


def _brief(event: dict[str, Any]) -> dict[str, Any]:
    """An event whose long parts are told by their hash; its deliveries are in their own list."""
    brief = {name: value for name, value in event.items() if name != "deliveries"}
    for name in ("payload", "fetched"):
        brief[name] = hashlib.sha256(json.dumps(event[name], sort_keys=True).encode()).hexdigest()
    return brief


def _without_inputs(run: Mapping[str, Any], url: str) -> dict[str, Any]:
    return payloads.with_s3(run, inputs=url)


def _not_today() -> str:
    now = datetime.now(UTC)
    return f"{now + timedelta(days=3):%a}"


def _rename_host(path: Path) -> None:
    """The name of the machine it was made on is nobody's business."""
    with closing(sqlite3.connect(path)) as db, db:
        for column in ("work.owner", "attempt.worker", "replica.owner", "replica.host"):
            table, _, name = column.partition(".")
            db.execute(f"UPDATE {table} SET {name} = replace({name}, ?, 'host')", (socket.gethostname(),))


def _pack(path: Path, packed: Path) -> None:
    """The store with its log, as one file; the store itself stays."""
    with tempfile.TemporaryDirectory() as folder:
        for part in _parts(path):
            shutil.copy(part, folder)
        whole = Path(folder) / path.name
        with closing(sqlite3.connect(whole)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        packed.write_bytes(gzip.compress(whole.read_bytes(), 9, mtime=0))


def _parts(path: Path) -> Iterator[Path]:
    yield from (part for part in path.parent.glob(f"{path.name}*") if part.suffix in (".db", ".db-wal"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

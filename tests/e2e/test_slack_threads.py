"""Messages of one key form one thread, across restarts, replays and other versions of the store."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from harness import CLIENTS

from engine.store.encryption import new_key
from engine.testing import payloads

KEPT = Path(__file__).parents[1] / "store" / "kept"
RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
CONFIG = (
    CLIENTS
    + f"""
routes:
  {RULE}:
    filters: []
    actions:
      - post_to_slack:
          channel: "#q"
          text: "{{{{ run.id }}}}"
          thread_by: "{{{{ run.name }}}}"
"""
)


async def post(engine, number, count):
    run = payloads.run(number, name="the-thread's-key")
    start_time = f"2026-01-01T00:00:{number:02}+00:00"
    await engine.post(payloads.rule([run], rule_id=RULE, start_time=start_time))
    return await engine.settled(count)


@pytest.mark.parametrize("key", ["", new_key()], ids=["plain", "sealed"])
async def test_a_thread_goes_on_after_a_restart_and_when_it_is_replayed(engine, slack, key):
    await engine.start(CONFIG, store_key=key)
    (first,) = await post(engine, 0, 1)
    await engine.stop()
    await engine.start(store_key=key)
    await post(engine, 1, 2)
    root = slack.messages[0].ts
    assert [message.thread_ts for message in slack.messages] == [None, root]
    async with engine.http.post(
        f"http://{engine.running.admin}/api/v1/replay", json={"deliveries": [first.id]}
    ) as answer:
        assert answer.status == 200, await answer.text()
    await engine.quiet()
    assert [message.thread_ts for message in slack.messages] == [None, root, root]
    await engine.stop()
    with closing(sqlite3.connect(engine.config.parent / "data" / "engine.db")) as db:
        ((name, encoding, data),) = db.execute("SELECT name, encoding, data FROM thread").fetchall()
    assert "the-thread" not in name
    assert (encoding >= 2, root.encode() == data) == (bool(key), not key)


@pytest.mark.parametrize("store", ["plain", "sealed"])
async def test_an_older_store_is_upgraded_to_keep_threads(engine, slack, tmp_path, store):
    (tmp_path / "data").mkdir(mode=0o700)
    for kept in sorted(KEPT.glob(f"*/{store}.db.gz")):
        key = (kept.parent / "sealed.key").read_text().strip() if store == "sealed" else ""
        (tmp_path / "data" / "engine.db").write_bytes(gzip.decompress(kept.read_bytes()))
        for file in (tmp_path / "data").glob("engine.db-*"):
            file.unlink()
        slack.messages.clear()
        for number in range(2):
            await engine.start(CONFIG, store_key=key)
            run = payloads.run(number, name="the-thread's-key")
            await engine.post(payloads.rule([run], rule_id=RULE, start_time=f"2026-01-01T00:00:{number:02}+00:00"))
            await engine.settled(number + 1, route=RULE)
            await engine.stop()
        assert [message.thread_ts for message in slack.messages] == [None, slack.messages[0].ts]

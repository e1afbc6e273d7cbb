"""Stores that earlier versions wrote: they open, people are shown the same, and their unfinished work is finished.

``tests/store/kept`` has the stores, and how they were made. Each was left by a process that was killed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from harness import SECRET, Engine, until

from engine.store.queries import DeliveryQuery, EventQuery
from engine.testing import LangSmithStandIn, WebhookSink, payloads
from engine.testing.server import Recorded

KEPT = Path(__file__).parents[1] / "store" / "kept"
sys.path.insert(0, str(KEPT))
from generate import DESTINATIONS, OTHERS, RULES, SIGNING_SECRET, said_of, signed_headers  # noqa: E402 - beside the stores

DAY = 86400.0
#: Each version's stores, plain and sealed.
STORES = [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in sorted(KEPT.glob("*/*.json"))]
#: What a killed process had in hand falls due when the store is opened.
SHOWN_ANEW = {"due_at", "updated_at"}


@dataclass(slots=True)
class Kept:
    """A copy of a kept store, with an engine that can be started on it and the destinations it delivers to."""

    engine: Engine
    facts: dict[str, Any]
    key: str
    stand_ins: dict[str, WebhookSink]
    langsmith: LangSmithStandIn

    @property
    def path(self) -> Path:
        return self.engine.config.parent / "data" / "engine.db"

    def age(self, seconds: float) -> None:
        """As if the last event had been accepted so long ago."""
        with closing(sqlite3.connect(self.path)) as db, db:
            (last,) = db.execute("SELECT max(received_at) FROM event").fetchone()
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for _, column, kind, *_ in db.execute(f"PRAGMA table_info({table})").fetchall():
                    if kind == "REAL" and column.endswith("_at"):
                        db.execute(f"UPDATE {table} SET {column} = {column} + ?", (time.time() - seconds - last,))

    @property
    def knows_bodies(self) -> bool:
        """Whether it was written by a version that knows a webhook without an identity by its body for a while."""
        with closing(sqlite3.connect(self.path)) as db:
            return bool(db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'latest_body'").fetchone()[0])

    def move_destinations(self) -> None:
        """The stand-ins have other ports than those of then."""
        with closing(sqlite3.connect(self.path)) as db, db:
            for name, origin in self.facts["origins"].items():
                moved = (self.stand_ins[name].origin, origin)
                db.execute("UPDATE work SET lane = ? WHERE lane = ?", moved)
                db.execute("UPDATE control SET subject = ? WHERE subject = ?", moved)

    async def start(self) -> None:
        config = (KEPT / "config.yaml").read_text()
        route = config.index("  removed:\n    actions")
        self.engine.config.write_text(config[:route])
        await self.engine.start(store_key=self.key)

    def event(self, name: str) -> str:
        return self.facts["events"][name]

    def delivery(self, event: str, run: str = "", action: str = "forward_webhook") -> str:
        """The id that a delivery had then."""
        (found,) = (
            row["id"]
            for row in self.facts["deliveries_list"]
            if row["event_id"] == self.event(event) and row["action"] == action and run in (row["run_id"], "")
        )
        return found

    @property
    def sent(self) -> list[Recorded]:
        return [one for stand_in in self.stand_ins.values() for one in stand_in.received]

    def sent_to(self) -> dict[str, list[str]]:
        """Ids of what was sent, by the word in the URL."""
        found: dict[str, list[str]] = {}
        for one in self.sent:
            found.setdefault(next(iter(one.query)), []).append(one.headers["webhook-id"])
        return {word: sorted(ids) for word, ids in found.items()}

    def body_of(self, word: str) -> Any:
        (found,) = (one.body for one in self.sent if word in one.query)
        return found

    async def body(self, event: str) -> bytes:
        return (await self.engine.running.store.event(self.event(event))).body

    async def payload(self, event: str) -> dict[str, Any]:
        return json.loads(await self.body(event))

    async def run_of(self, event: str) -> dict[str, Any]:
        (run,) = (await self.payload(event))["runs"]
        return run

    async def post(self, rule: str, *runs: dict[str, Any]) -> str:
        start = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=time.monotonic_ns() % 10**6)
        payload = payloads.rule(runs, rule_id=RULES[rule], start_time=start.isoformat())
        return (await self.engine.post(payload))["event"]

    async def send_again(self, event: str) -> dict[str, Any]:
        """The answer to a kept event's very bytes, signed as they were."""
        body = await self.body(event)
        headers = signed_headers(body) if event.startswith("issue") else {}
        async with self.engine.http.post(self.engine.url, data=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            return await answer.json()

    async def states(self) -> Counter[tuple[str, str, str]]:
        rows = await self.engine.running.store.deliveries(DeliveryQuery(limit=1000))
        return Counter((row.route, row.action, row.state) for row in rows)


@pytest.fixture(params=STORES)
async def kept(request, tmp_path: Path, langsmith) -> AsyncIterator[Kept]:
    """Opened nowhere yet."""
    facts: Path = request.param
    key = facts.with_suffix(".key").read_text().strip() if facts.with_suffix(".key").exists() else ""
    async with AsyncExitStack() as stack:
        stand_ins = {name: await stack.enter_async_context(WebhookSink()) for name in DESTINATIONS}
        environ = {name: stand_in.url for name, stand_in in stand_ins.items()}
        environ |= {"LANGSMITH_ENDPOINT": langsmith.url, "LANGSMITH_API_KEY": "key", "SECRET": SECRET}
        environ |= {"OPEN_DAYS": "mon-sun", "SIGNING_SECRET": SIGNING_SECRET}
        made = Kept(Engine(tmp_path, environ), json.loads(facts.read_text()), key, stand_ins, langsmith)
        made.path.parent.mkdir(mode=0o700)
        made.path.write_bytes(gzip.decompress(facts.with_suffix(".db.gz").read_bytes()))
        made.move_destinations()
        yield made
        await made.engine.stop()


async def test_people_are_shown_what_they_were_shown_then(kept: Kept) -> None:
    said = await said_of(kept.path, kept.key, list(kept.facts["events"].values()))
    running = kept.delivery("running 1")
    for told in ("events_list", "deliveries_list"):
        then, now = kept.facts[told], said[told]
        assert [row["id"] for row in now] == [row["id"] for row in then]
        for row, other in zip(now, then, strict=True):
            assert_shown(row, other, other["id"] == running)
    for told in ("event", "delivery"):
        assert said[told].keys() == kept.facts[told].keys()
        for key, other in kept.facts[told].items():
            assert_shown(said[told][key], other, key == running)


def assert_shown(now: dict[str, Any], then: dict[str, Any], anew: bool) -> None:
    """All that was shown then is shown now; there may be more."""
    known = then.keys() - (SHOWN_ANEW if anew else set())
    assert {name: _known(now[name], then[name]) for name in known} == {name: then[name] for name in known}


def _known(now: Any, then: Any) -> Any:
    """What is shown now, without the keys of objects that were not there then."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: _known(value, then[key]) for key, value in now.items() if key in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [_known(*pair) for pair in zip(now, then, strict=True)]
    return now


async def test_unfinished_work_is_finished_after_a_long_time(kept: Kept) -> None:
    kept.age(40 * DAY)
    for run in map(payloads.run, range(100)):
        kept.langsmith.add_run(run | {"inputs": {"question": "why?"}})
        kept.langsmith.add_feedback(run["id"], key="correctness", score=0.2)
    await kept.start()
    waited = (await kept.run_of("wait-for 1"))["id"]
    expected = {
        "waiting": [kept.delivery("waiting 1")],
        "told": [kept.delivery("dead 1", action="on_dead.forward_webhook")],
        "digest": sorted(row["id"] for row in kept.facts["deliveries_list"] if row["route"] == "digest"),
        "refused": sorted([kept.delivery("refused 1"), kept.delivery("refused 2")]),
        "gone": sorted([kept.delivery("gone 1"), kept.delivery("gone 2")]),
        "paused": sorted([kept.delivery("paused 1"), kept.delivery("paused 2")]),
        "held": [kept.delivery("held 1")],
        "fetched": [kept.delivery("fetched 1")],
        "running": [kept.delivery("running 1")],
    }
    await until(lambda: set(kept.sent_to()) == {*expected, "wait-for", "unfinished"}, 60)
    await until(lambda: settled(kept), 60)
    sent = kept.sent_to()
    assert len(sent.pop("wait-for")) == len(sent.pop("unfinished")) == 1
    assert sent == expected
    assert kept.body_of("told")["reason"] == "HTTP 422: no such customer"
    assert kept.body_of("fetched") == {"inputs": {"question": "why?", "pad": "y" * 9000}}
    assert kept.body_of("unfinished") == {"inputs": {"question": "why?"}}
    assert kept.body_of("wait-for") == {"run": waited}
    digested = [run["id"] for name in ("digest 1", "digest 2") for run in (await kept.payload(name))["runs"]]
    assert sorted((one.body["runs"] for one in kept.sent if "digest" in one.query), key=len) == [
        [digested[2]],
        [digested[0], digested[1], digested[3]],
    ]
    assert await kept.states() == Counter(
        {
            ("delivered", "forward_webhook", "succeeded"): 3,
            ("waiting", "forward_webhook", "succeeded"): 1,
            ("dead", "forward_webhook", "dead"): 1,
            ("dead", "on_dead.forward_webhook", "succeeded"): 1,
            ("digest", "forward_webhook", "succeeded"): 2,
            ("throttled", "forward_webhook", "succeeded"): 1,
            ("refused", "forward_webhook", "succeeded"): 2,
            ("gone", "forward_webhook", "succeeded"): 2,
            ("paused", "forward_webhook", "succeeded"): 2,
            ("held", "forward_webhook", "succeeded"): 1,
            ("wait-for", "forward_webhook", "succeeded"): 1,
            ("fetched", "forward_webhook", "succeeded"): 1,
            ("unfinished", "forward_webhook", "succeeded"): 1,
            ("running", "forward_webhook", "succeeded"): 1,
            ("removed", "forward_webhook", "due"): 1,
        }
    )


async def settled(kept: Kept) -> bool:
    """Only what has no route any more is left."""
    backlog = await kept.engine.running.store.backlog()
    busy = kept.engine.running.worker.busy
    return not (backlog.evaluations or busy) and backlog.by_route == {"removed": 1}


async def test_what_was_accepted_then_is_known_now_and_can_be_replayed(kept: Kept) -> None:
    kept.age(40 * DAY)
    await kept.start()
    await until(lambda: "running" in kept.sent_to())
    for name, event_id in kept.facts["events"].items():
        if name.removesuffix(" 1") not in OTHERS or name == "issue 1":
            assert await kept.send_again(name) == {"event": event_id, "duplicate": True}
    undecided = await kept.run_of("undecided 1")
    (known,) = (run for run in map(payloads.run, range(100)) if run["id"] == undecided["id"])
    kept.langsmith.add_run(known | {"inputs": {"question": "why?"}})
    await replay(kept, deliveries=[kept.delivery("dead 1"), kept.delivery("delivered 2")])
    await replay(kept, events=[kept.event("undecided 1")])
    await until(lambda: {"dead", "delivered", "undecided"} <= kept.sent_to().keys())
    assert kept.sent_to()["dead"] == [kept.delivery("dead 1")]
    assert kept.sent_to()["delivered"] == [kept.delivery("delivered 2")]
    assert kept.body_of("undecided") == {"run": undecided["id"]}


async def test_what_has_no_identity_is_a_new_event_now_and_keeps_no_other_out(kept: Kept) -> None:
    kept.age(5)  # well within the time in which a sender may repeat it
    if kept.knows_bodies:
        kept.age(DAY)
    await kept.start()
    names = [name for name in kept.facts["events"] if name.removesuffix(" 1") in OTHERS and name != "issue 1"]
    for name in names:
        first = await kept.send_again(name)
        assert first["duplicate"] is False
        assert await kept.send_again(name) == {"event": first["event"], "duplicate": True}
    known = [name for name in ("delivered 1", "issue 1") if name in kept.facts["events"]]
    for name in known:
        assert await kept.send_again(name) == {"event": kept.event(name), "duplicate": True}
        assert (await kept.engine.running.store.event(kept.event(name))).row.copies == 1
    rows = await kept.engine.running.store.events(EventQuery(limit=1000))
    assert Counter(row.copies for row in rows) == {
        0: len(kept.facts["events"]) - len(known),
        1: len(names) + len(known),
    }


async def test_what_is_held_back_is_still_held_back_a_moment_later(kept: Kept) -> None:
    kept.age(5)
    kept.engine.environ["OPEN_DAYS"] = f"{datetime.now(UTC) + timedelta(days=3):%a}"
    await kept.start()
    muted = await kept.post("muted", payloads.run(200))
    throttled = await kept.post("throttled", payloads.run(201))
    collected = await kept.post("digest", payloads.run(202, name="chat"))
    # That a key is refused or a URL gone was said to another configuration.
    expected = {
        "refused": [kept.delivery("refused 2")],
        "gone": [kept.delivery("gone 2")],
        "running": [kept.delivery("running 1")],
    }
    await until(lambda: set(kept.sent_to()) == set(expected), 30)
    (silent,) = await until(lambda: decisions(kept, muted))
    (skipped,) = await until(lambda: decisions(kept, throttled))
    (item,) = await until(lambda: decisions(kept, collected))
    await asyncio.sleep(0.5)
    assert kept.sent_to() == expected
    assert "we know" in silent["reason"]
    assert skipped["skipped"]["forward_webhook"].startswith("throttled: one was made at")
    (chat,) = (row["id"] for row in kept.facts["deliveries_list"] if row["item_count"] == 3)
    assert item["collected"] == {"forward_webhook": chat}
    states = await kept.states()
    for route, count in {"digest": 2, "paused": 2, "held": 1, "waiting": 1, "removed": 1, "refused": 1}.items():
        assert states[route, "forward_webhook", "due"] == count
    assert await paused(kept) == [kept.stand_ins["PAUSED"].origin]


async def decisions(kept: Kept, event_id: str) -> list[dict[str, Any]]:
    detail = await kept.engine.running.store.event(event_id)
    return [decision for one in detail.evaluations for decision in one["decisions"]]


async def paused(kept: Kept) -> list[str]:
    async with kept.engine.http.get(f"http://{kept.engine.running.admin}/api/v1/destinations") as answer:
        rows = (await answer.json())["destinations"]
    return [row["name"] for row in rows if row["state"] == "paused"]


async def replay(kept: Kept, **what: list[str]) -> None:
    async with kept.engine.http.post(f"http://{kept.engine.running.admin}/api/v1/replay", json=what) as answer:
        assert answer.status == 200, await answer.text()

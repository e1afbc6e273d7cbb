"""Work in hands on SQLite: whatever comes between a claim and its caller, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from store_cases import (
    T0,
    Clock,
    accepted,
    all_claimed,
    attempt,
    deliver,
    eventually,
    make_event,
    replay_whole,
    routed,
    succeed,
)

from engine.core.errors import StoreBusy, StoreError
from engine.store import open_store
from engine.store.queries import EventQuery
from engine.store.records import Again
from engine.store.sqlite import leases as sqlite_leases
from engine.store.sqlite.store import SqliteStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = open_store(tmp_path / "engine.db", owner="me", clock=clock)
    assert isinstance(store, SqliteStore)
    await store.open()
    yield store
    await store.close()


def all_rows(db: sqlite3.Connection, statement: str) -> list[Any]:
    return db.execute(statement).fetchall()


@pytest.mark.parametrize(
    "fault", [StoreError("the disk"), MemoryError(), RuntimeError("boom"), asyncio.CancelledError()], ids=repr
)
async def test_what_can_not_be_loaded_is_given_back(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, fault: BaseException
):
    """Nobody would hold it, and nobody could claim it."""
    event = make_event()
    await store.append(event, leased=False)

    async def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(store._work, "ask", fail)
        with pytest.raises(type(fault)):
            await store.claim(now=T0, limit=5)
    assert [claimed.event for claimed in await all_claimed(store)] == [event]


async def test_what_cannot_be_marked_dead_is_released_with_the_rest(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
):
    bad, good = make_event(1), make_event(2)
    for event in (bad, good):
        await store.append(event, leased=False)
    await store._do(lambda db: db.execute("DELETE FROM event_body WHERE event_id = ?", (bad.id,)))

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise sqlite3.OperationalError("no")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_leases, "mark_dead", refuse)
        with pytest.raises(StoreError):
            await store.claim(now=T0, limit=5)
    assert [claimed.event for claimed in await all_claimed(store)] == [good]
    assert [row.id for row in await store.events(EventQuery(state="dead"))] == [bad.id]
    detail = await store.event(bad.id)
    assert detail is not None
    assert [(one.number, one.outcome, "no longer kept" in one.reason) for one in detail.attempts] == [(1, "dead", True)]


async def test_a_question_that_fails_in_an_unforeseen_way_is_a_store_error(store: SqliteStore):
    def boom(_db: sqlite3.Connection) -> None:
        raise RecursionError("deep")

    with pytest.raises(StoreError, match="RecursionError: deep"):
        await store._work.ask(boom)


async def test_a_claim_whose_event_loop_is_gone_is_given_back(store: SqliteStore):
    event = make_event()
    await store.append(event, leased=False)
    begin, claiming = threading.Event(), threading.Event()

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(store.claim(now=T0, limit=5))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        claiming.set()
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    holding = asyncio.create_task(store._do(lambda _db: begin.wait(10)))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(elsewhere)
    begin.set()
    await holding

    async def is_back() -> bool:
        return len(await all_claimed(store)) == 1

    await eventually(is_back)


async def test_an_answer_that_came_a_moment_before_the_caller_was_cancelled_is_made_good(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
):
    """Between the answer and the caller's next step a cancellation can still come."""
    event = make_event()
    await store.append(event, leased=True)
    work = deliver(event)
    answer = store._writer._answer_on_loop

    def answer_and_cancel(verbs: Any) -> None:
        answer(verbs)
        settling.cancel()

    with monkeypatch.context() as patched:
        patched.setattr(store._writer, "_answer_on_loop", answer_and_cancel)
        settling = asyncio.create_task(store.settle_routed(routed(event, work)))
        with pytest.raises(asyncio.CancelledError):
            await settling
    assert [claimed.work.id for claimed in await all_claimed(store)] == [work.id]


async def test_a_beat_leaves_alone_what_is_being_loaded(store: SqliteStore, clock: Clock):
    """A slow disk may take longer than a lease lasts before a claim is in anybody's hands."""
    await store.append(make_event(), leased=False)
    go = threading.Event()
    slow = asyncio.create_task(store._work.ask(lambda _db: go.wait(10)))
    claiming = asyncio.create_task(store.claim(now=T0, limit=5))

    async def is_taken() -> bool:
        return bool(store._loading)

    await eventually(is_taken)
    clock.now = T0 + 100
    await store.heartbeat(now=clock.now, holding=[])
    go.set()
    await slow
    assert len(await claiming) == 1
    assert await all_claimed(store) == []


async def test_a_heartbeat_returns_what_it_freed(store: SqliteStore, clock: Clock, caplog: pytest.LogCaptureFixture):
    _, (work,) = await accepted(store, "one")
    with caplog.at_level(logging.WARNING):
        await store.heartbeat(now=T0 + 10, holding=[])
        assert caplog.records == []
        await store.heartbeat(now=T0 + 31, holding=[])
    (record,) = caplog.records
    assert record.__dict__["work"] == [work.id]


async def test_a_settle_that_was_late_begins_its_leases_when_it_was_written(store: SqliteStore, clock: Clock):
    """A full disk may put off a settle for long, its values being those of before."""
    event = make_event()
    await store.append(event, leased=True)
    clock.now = T0 + 600
    work = deliver(event)
    await store.settle_routed(routed(event, work))
    await store.heartbeat(now=T0 + 601, holding=[])
    assert await all_claimed(store) == []
    await succeed(store, work)


async def test_orphans_are_looked_for_in_an_index(store: SqliteStore):
    def plan(db: sqlite3.Connection) -> str:
        rows = db.execute("EXPLAIN QUERY PLAN " + sqlite_leases._ORPHANS, ("me", T0, T0 + 60, "[]")).fetchall()
        return " ".join(row[3] for row in rows)

    assert "USING INDEX work_leased" in await store._people.ask(plan)


async def test_a_large_event_with_many_deliveries_is_in_memory_once(store: SqliteStore):
    event = make_event(noise=os.urandom(400_000).hex())
    await store.append(event, leased=True)
    await store.save_fetched(event.id, {"inputs": {"run-0": os.urandom(400_000).hex()}})
    deliveries = [deliver(event, f"d{number}") for number in range(200)]
    await store.settle_routed(routed(event, *deliveries, leased=False))
    tracemalloc.start()
    try:
        claimed = await all_claimed(store, limit=200)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(claimed) == 200
    assert peak < 40 * 2**20


async def test_the_workers_questions_do_not_wait_behind_peoples(store: SqliteStore):
    event, _ = await accepted(store, "one")
    go = threading.Event()
    slow = asyncio.create_task(store._people.ask(lambda _db: go.wait(10)))
    async with asyncio.timeout(5):
        assert len(await store.decisions(event.id, 0)) == 1
    assert not slow.done()
    go.set()
    await slow


async def test_the_attempts_of_an_evaluation_say_since_when_it_is_under_way(store: SqliteStore):
    event = make_event(at=T0 - 500)
    await store.append(event, leased=True)
    await store.settle_routed(routed(event, pending=Again(T0 + 9), attempt=attempt("again", reason="not yet")))
    assert await store._people.ask(all_rows, "SELECT first_at FROM attempt") == [(T0 - 500,)]


async def test_what_was_fetched_replaces_what_is_damaged(store: SqliteStore):
    event, _ = await accepted(store, "one")
    await store.save_fetched(event.id, {"inputs": {"a": "x" * 20_000}})
    await store._do(lambda db: db.execute("UPDATE fetched SET data = x'00'"))
    await store.save_fetched(event.id, {"inputs": {"b": 1}})
    detail = await store.event(event.id)
    assert detail is not None
    assert detail.fetched == {"inputs": {"b": 1}, "outputs": {}, "feedback": None}


async def test_a_replay_asked_for_while_the_disk_refuses_the_settle_is_not_lost(store: SqliteStore):
    event, (work,) = await accepted(store, "one")
    await replay_whole(store, event, [work])
    await store._do(lambda db: db.execute("PRAGMA query_only = ON"))
    with pytest.raises(StoreBusy):
        await store.settle_attempt(work, attempt(), None)
    assert await store.settle_attempt(work, attempt(), None)
    (claimed,) = await all_claimed(store)
    assert claimed.work.replays == 1

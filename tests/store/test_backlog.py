"""Counting what waits reads indexes alone, and counts what the table says."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from store_cases import T0, Clock, accepted, attempt, make_event

from engine.store import open_store
from engine.store.queries import Backlog
from engine.store.records import Again, Dead
from engine.store.sqlite.connection import connect
from engine.store.sqlite.query_events import _DEAD, _UNDER_WAY, _WAITING

#: Rows that no index is to be read without.
MANY = 3000


@pytest.mark.parametrize("seed", range(3))
async def test_the_counts_are_those_of_the_table(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = open_store(folder / "engine.db", clock=Clock())
    await store.open()
    try:
        for number in range(40):
            if rng.random() < 0.3:
                await store.append(make_event(100 + number), leased=rng.random() < 0.5)
                continue
            _, works = await accepted(store, "a", "b", number=number)
            for work in works:
                lane = rng.choice(["", "slack #a", "https://b.example"])
                fate = rng.random()
                if fate < 0.3:
                    await store.settle_attempt(work, attempt("again"), Again(T0 + number, lane))
                elif fate < 0.5:
                    await store.settle_attempt(work, attempt("dead"), Dead("no"))
                elif fate < 0.7:
                    await store.settle_attempt(work, attempt(), None)
                elif fate < 0.8:
                    await store.release([work.id], due_at=T0, lane=lane)
        await store.claim(now=T0, limit=3)
        found = await store.backlog()
    finally:
        await store.close()
    # Closing gives back what was in hand, which changes lanes' counts and no others.
    with closing(sqlite3.connect(folder / "engine.db")) as db:
        (evaluations,) = db.execute("SELECT count(*) FROM work WHERE kind = 'evaluate' AND dead_at IS NULL").fetchone()
        (dead,) = db.execute("SELECT count(*) FROM work WHERE dead_at IS NOT NULL").fetchone()
        (deliveries,) = db.execute("SELECT count(*) FROM work WHERE kind = 'deliver' AND dead_at IS NULL").fetchone()
    assert (found.evaluations, found.dead, found.deliveries) == (evaluations, dead, deliveries)
    assert found.by_route == {"corrections/a": deliveries}
    assert 0 < found.unassigned + sum(found.by_lane.values()) < deliveries


async def test_the_routes_and_destinations_of_many_are_counted_in_indexes_alone(folder: Path) -> None:
    store = open_store(folder / "engine.db", clock=Clock(T0 + MANY))
    await store.open()
    await store.close()
    with closing(sqlite3.connect(folder / "engine.db")) as db, db:
        db.executemany(
            "INSERT INTO work (id, kind, event_id, route, action, idx, first_at, due_at, attempts, replays, owner,"
            " leased_at, dead_at, lane) VALUES (?, ?, ?, ?, 'log', 0, 0, ?, 0, 0, ?, ?, ?, ?)",
            [work_row(number) for number in range(MANY)],
        )
    with closing(connect(folder / "engine.db", read_only=True)) as db:
        plans = {name: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")] for name, query in QUERIES.items()}
    assert plans["waiting"] == ["SCAN work USING COVERING INDEX work_waiting"]
    assert plans["dead"] == ["SCAN work USING COVERING INDEX work_dead"]
    assert plans["under way"][0] == "SCAN work USING INDEX work_leased"
    store = open_store(folder / "engine.db", clock=Clock(T0 + MANY))
    await store.open()
    assert await store.backlog() == Backlog(
        evaluations=MANY // 6,
        deliveries=MANY // 2,
        dead=MANY // 3,
        oldest_due_at=0.0,
        by_route={"r/0": MANY // 4, "r/1": MANY // 4},
        by_lane={"slack #a": MANY // 2},
        unassigned=0,
    )
    await store.close()


QUERIES = {"waiting": _WAITING, "dead": _DEAD, "under way": _UNDER_WAY}


def work_row(number: int) -> tuple[Any, ...]:
    """Of six: one evaluation that waits, two dead deliveries, two that wait and one in the hands of a process gone."""
    kind = "evaluate" if number % 6 == 0 else "deliver"
    dead = T0 if number % 6 in (1, 2) else None
    owner, leased = ("gone", T0) if number % 6 == 5 else (None, None)
    lane = "" if kind == "evaluate" else "slack #a"
    route = "" if kind == "evaluate" else f"r/{number // 6 % 2}"
    return (f"w{number:05d}", kind, f"e{number:05d}", route, float(number), owner, leased, dead, lane)

"""Which events SQLite's store takes for copies, against a model; and what it remembers for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from contract_repeating import SPAN, prompt, webhook
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import T0, Clock

from engine.core.event import Event, Signed, parse_event
from engine.store import open_store
from engine.store.sqlite.append import Append, append
from engine.store.sqlite.connection import Database, _schema_files

#: Subject, body, whether a signed id makes it known for good, and how many seconds after the last one.
STEPS = st.lists(
    st.tuples(
        st.sampled_from("pq"), st.sampled_from("ab"), st.booleans(), st.sampled_from([0.0, 1.0, 25.0, SPAN, 70.0])
    ),
    max_size=25,
)


def made(subject: str, body: str, signed: bool) -> Event:
    by = Signed("somebody", subject + body) if signed else None
    return parse_event(b'{"prompt_id":"%s","commit":"%s"}' % (subject.encode(), body.encode()), T0, by)


def expected(steps: Sequence[tuple[str, str, bool, float]], sizes: Sequence[int]) -> list[bool]:
    """What is a copy, one step after another. All of a batch are taken in at its first one's time."""
    latest: dict[str, tuple[str, float] | None] = {}
    known: set[str] = set()
    found, now, start = [], T0, 0
    for size in sizes:
        for place, (subject, body, signed, later) in enumerate(steps[start : start + size]):
            now += 0.0 if place else later
            first = latest.get(subject)
            if signed:
                copy = subject + body in known
                known.add(subject + body)
            else:
                copy = first is not None and first[0] == body and now <= first[1] + SPAN
            if not copy:
                latest[subject] = None if signed else (body, now)
            found.append(copy)
        start += size
    return found


@settings(max_examples=60, deadline=None)
@given(STEPS, st.lists(st.integers(1, 6), min_size=25, max_size=25))
def test_copies_are_those_of_a_model_however_they_fall_into_batches(steps, sizes):
    clock = Clock()
    found, start = [], 0
    with closing(in_memory()) as db:
        for size in sizes:
            batch = steps[start : start + size]
            clock.now += batch[0][3] if batch else 0.0
            db.execute("BEGIN")
            found += [one.duplicate for one in append(clock, db, [Append(made(*step[:3]), None) for step in batch])]
            db.execute("COMMIT")
            start += size
        rows = db.execute("SELECT id, copies FROM event").fetchall()
    assert found == expected(steps, sizes)
    assert len(rows) == found.count(False)
    assert sum(copies for _, copies in rows) == found.count(True)


def in_memory() -> Database:
    db = sqlite3.connect(":memory:", isolation_level=None, factory=Database)
    for script in _schema_files():
        db.executescript(script)
    return db


async def test_bodies_are_remembered_no_longer_than_they_are_known(folder: Path):
    clock = Clock()
    store = open_store(folder / "engine.db", clock=clock)
    await store.open()
    events = [webhook(note=number) for number in range(500)] + [prompt(name=str(number)) for number in range(50)]
    await asyncio.gather(*(store.append(event, leased=True) for event in events))
    assert remembered(folder / "engine.db") == 550
    clock.now += SPAN + 1
    for number in range(6):
        await store.append(webhook(note=f"later {number}"), leased=True)
    assert remembered(folder / "engine.db") == 6
    await store.append(prompt(signed_id="1", name="of no interest"), leased=True)
    assert remembered(folder / "engine.db") == 6
    await store.close()


def remembered(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT count(*) FROM latest_body").fetchone()[0]

"""The verbs of the busy path, a batch at a time: append, and the two that settle.

Each statement counts (see ``packing.Insert``), so a batch reads what it must know in one row of
JSON, decides in Python, and writes many rows at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.event import Event
from engine.store.packing import Insert, clean, clean_or_none, clean_reason, dump_json, ids_json, load_json, pack
from engine.store.protocol import Again, Appended, Attempt, Dead, Routed, Work

_EVENTS = Insert("INSERT INTO event (id, dedup_key, kind, rule_id, received_at, size, repaired) VALUES ", 7)
_BODIES = Insert("INSERT INTO event_body (event_id, encoding, body) VALUES ", 3)
WORK = Insert(
    "INSERT INTO work (id, kind, event_id, route, action, idx, run_id, first_at, due_at, attempts, replays, owner,"
    " error) VALUES ",
    13,
)
_ATTEMPTS = Insert(
    "INSERT INTO attempt (event_id, work_id, kind, route, action, idx, run_id, first_at, replay, number, started_at,"
    " seconds, outcome, reason, status, destination, worker, detail) VALUES ",
    18,
)
_DECISIONS = Insert(
    "INSERT INTO decision (event_id, replays, decided_at, config_hash, matched, unmatched_reason, encoding, decisions)"
    " VALUES ",
    8,
)
_FIRST_IDS = """
SELECT json_group_object(dedup_key, id) FROM event WHERE dedup_key IN (SELECT value FROM json_each(?))
"""
_HELD = """
SELECT json_group_array(json_array(id, attempts, replays)) FROM work
WHERE id IN (SELECT value FROM json_each(?)) AND owner = ? AND dead_at IS NULL
"""
_REPLAYS_SO_FAR = """
SELECT json_group_object(id, replays) FROM (
  SELECT id, max(replays) AS replays FROM (
    SELECT id, replays FROM work WHERE id IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT work_id, replay FROM attempt WHERE work_id IN (SELECT value FROM json_each(?1))
  ) GROUP BY id
)
"""
_DELETE = "DELETE FROM work WHERE id IN (SELECT value FROM json_each(?))"
_MOVE_ON = """
UPDATE work SET attempts = work.attempts + 1, owner = NULL, due_at = coalesce(new.due_at, work.due_at),
  dead_at = new.dead_at, error = new.error
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS due_at,
    json_extract(value, '$[2]') AS dead_at, json_extract(value, '$[3]') AS error
  FROM json_each(?)
) AS new WHERE work.id = new.id
"""


@dataclass(frozen=True, slots=True)
class Append:
    """An event, and the owner its evaluation is born with; None is nobody."""

    event: Event
    owner: str | None


@dataclass(frozen=True, slots=True)
class Settle:
    """An attempt at a piece of work, and what follows."""

    work: Work
    attempt: Attempt
    then: Again | Dead | None


@dataclass(slots=True)
class _Batch:
    """What a batch of settles comes to, gathered before any of it is written."""

    finished: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    moved: list[tuple[str, float | None, float | None, str]] = field(default_factory=list)
    work: list[tuple[Any, ...]] = field(default_factory=list)
    attempts: list[tuple[Any, ...]] = field(default_factory=list)
    decisions: list[tuple[Any, ...]] = field(default_factory=list)

    def conclude(self, work_id: str, then: Again | Dead | None, reason: str, at: float) -> None:
        """What becomes of a piece of work; ``at`` is when it died, if it did."""
        if then is None:
            self.finished.append(work_id)
        elif isinstance(then, Again):
            self.moved.append((work_id, then.due_at, None, clean_reason(reason)))
        else:
            self.moved.append((work_id, None, at, clean_reason(then.reason)))

    def write(self, db: sqlite3.Connection) -> None:
        """Everything gathered, in as few statements as there are sorts of it."""
        if gone := self.finished + self.replaced:
            db.execute(_DELETE, (ids_json(gone),))
        if self.moved:
            db.execute(_MOVE_ON, (dump_json(self.moved).decode(),))
        WORK.run(db, self.work)
        _ATTEMPTS.run(db, self.attempts)
        _DECISIONS.run(db, self.decisions)


def append(db: sqlite3.Connection, requests: Sequence[Append]) -> list[Appended]:
    """Keep events and the evaluations they are due; the second of a dedup key gets the first's id."""
    keys = [clean(request.event.dedup_key) for request in requests]
    first_ids: dict[str, str] = load_json(db.execute(_FIRST_IDS, (ids_json(keys),)).fetchone()[0])
    events, bodies, work, results = [], [], [], []
    for key, request in zip(keys, requests, strict=True):
        first = first_ids.get(key)
        if first is not None:
            results.append(Appended(first, duplicate=True))
            continue
        event, at = request.event, request.event.received_at
        first_ids[key] = event.id
        rule_id = clean_or_none(event.rule_id)
        events.append((event.id, key, str(event.kind), rule_id, at, len(event.body), int(event.repaired)))
        bodies.append((event.id, *pack(event.body)))
        work.append((event.id, "evaluate", event.id, "", "", -1, None, at, at, 0, 0, request.owner, None))
        results.append(Appended(event.id, duplicate=False))
    _EVENTS.run(db, events)
    _BODIES.run(db, bodies)
    WORK.run(db, work)
    return results


def settle_attempts(owner: str, db: sqlite3.Connection, requests: Sequence[Settle]) -> list[bool]:
    """Record attempts and what follows, where the work is still this owner's and at that attempt."""
    held = _held(db, owner, [request.work.id for request in requests])
    batch, results = _Batch(), []
    for request in requests:
        work, attempt = request.work, request.attempt
        mine = held.get(work.id) == (work.attempts, work.replays)
        results.append(mine)
        if mine:
            del held[work.id]
            batch.conclude(work.id, request.then, attempt.reason, attempt.started_at + attempt.seconds)
            batch.attempts.append(_attempt_row(work, attempt))
    batch.write(db)
    return results


def settle_routed(owner: str, db: sqlite3.Connection, requests: Sequence[Routed]) -> list[frozenset[str]]:
    """Record what evaluations came to, where they are still this owner's, and insert their deliveries."""
    held = _held(db, owner, [request.event_id for request in requests])
    # A first evaluation can't have deliveries yet, so there is nothing to look for.
    again = [one for one in requests if held.get(one.event_id, (0, 0)) != (0, 0)]
    so_far = _replays_so_far(db, [delivery.id for one in again for delivery in one.deliveries])
    batch, results = _Batch(), []
    for request in requests:
        state = held.pop(request.event_id, None)
        results.append(frozenset() if state is None else _route(batch, owner, request, state[1], so_far))
    batch.write(db)
    return results


def _route(batch: _Batch, owner: str, routed: Routed, replays: int, so_far: dict[str, int]) -> frozenset[str]:
    inserted = set()
    for delivery in routed.deliveries:
        known = so_far.get(delivery.id)
        if known is not None and delivery.replays <= known:
            continue
        if known is not None:
            batch.replaced.append(delivery.id)
        so_far[delivery.id] = delivery.replays
        batch.work.append(_work_row(delivery, owner if delivery.id in routed.leased else None))
        inserted.add(delivery.id)
    reason = routed.attempt.reason if routed.attempt is not None else ""
    batch.conclude(routed.event_id, routed.pending, reason, routed.decided_at)
    if routed.pending is None or routed.decisions:
        batch.decisions.append(_decision_row(routed, replays))
    if routed.attempt is not None:
        evaluation = Work(routed.event_id, "evaluate", routed.event_id, routed.attempt.started_at, 0.0)
        batch.attempts.append(_attempt_row(evaluation, routed.attempt))
    return frozenset(inserted)


def _held(db: sqlite3.Connection, owner: str, ids: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Attempts and replays of what of this work is alive and the owner's."""
    rows = load_json(db.execute(_HELD, (ids_json(ids), owner)).fetchone()[0])
    return {row[0]: (row[1], row[2]) for row in rows}


def _replays_so_far(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """The highest replay of each delivery that ever was."""
    found: dict[str, int] = load_json(db.execute(_REPLAYS_SO_FAR, (ids_json(ids),)).fetchone()[0]) if ids else {}
    return found


def _work_row(work: Work, owner: str | None) -> tuple[Any, ...]:
    return (
        work.id,
        work.kind,
        work.event_id,
        clean(work.route),
        clean(work.action),
        work.index,
        clean_or_none(work.run_id),
        work.first_at,
        work.due_at,
        work.attempts,
        work.replays,
        owner,
        None if work.error is None else clean_reason(work.error),
    )


def _attempt_row(work: Work, attempt: Attempt) -> tuple[Any, ...]:
    return (
        work.event_id,
        work.id,
        work.kind,
        clean(work.route),
        clean(work.action),
        work.index,
        clean_or_none(work.run_id),
        work.first_at,
        attempt.replay,
        attempt.number,
        attempt.started_at,
        attempt.seconds,
        attempt.outcome,
        clean_reason(attempt.reason),
        attempt.status,
        clean(attempt.destination),
        clean(attempt.worker),
        None if attempt.detail is None else dump_json(attempt.detail),
    )


def _decision_row(routed: Routed, replays: int) -> tuple[Any, ...]:
    return (
        routed.event_id,
        replays,
        routed.decided_at,
        clean(routed.config_hash),
        routed.matched,
        clean_or_none(routed.unmatched_reason),
        *pack(dump_json(routed.decisions)),
    )

"""The verbs of the busy path, a batch at a time: append, and the two that settle.

Each statement counts (see ``packing.Insert``), so a batch reads what it must know in one row of
JSON, decides in Python, and writes many rows at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.event import Event
from engine.store.packing import Insert, clean, clean_or_none, clean_reason, dump_json, ids_json, load_json, pack
from engine.store.protocol import Again, Appended, Attempt, Dead, Routed, Work

_EVENTS = Insert("INSERT INTO event (id, dedup_key, kind, rule_id, received_at, size, repaired) VALUES ", 7)
_BODIES = Insert("INSERT INTO event_body (event_id, encoding, body) VALUES ", 3)
WORK = Insert(
    "INSERT INTO work (id, kind, event_id, route, action, idx, run_id, first_at, due_at, attempts, replays, owner,"
    " leased_at, error) VALUES ",
    14,
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
SELECT json_group_array(json_array(id, attempts, replays, first_at, wanted IS NOT NULL)) FROM work
WHERE id IN (SELECT value FROM json_each(?)) AND owner = ? AND dead_at IS NULL
"""
_KNOWN = """
SELECT json_group_array(json_array(id, replays, running)) FROM (
  SELECT id, max(replays) AS replays, max(running) AS running FROM (
    SELECT id, coalesce(wanted, replays) AS replays, owner IS NOT NULL AS running
    FROM work WHERE id IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT work_id, replay, 0 FROM attempt WHERE work_id IN (SELECT value FROM json_each(?1))
  ) GROUP BY id
)
"""
_DELETE = "DELETE FROM work WHERE id IN (SELECT value FROM json_each(?))"
_MOVE_ON = """
UPDATE work SET attempts = work.attempts + 1, owner = NULL, leased_at = NULL,
  due_at = coalesce(new.due_at, work.due_at), dead_at = new.dead_at, error = new.error
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS due_at,
    json_extract(value, '$[2]') AS dead_at, json_extract(value, '$[3]') AS error
  FROM json_each(?)
) AS new WHERE work.id = new.id
"""
_BEGIN_AGAIN = """
UPDATE work SET attempts = 0, replays = wanted, wanted = NULL, owner = NULL, leased_at = NULL,
  first_at = ?1, due_at = ?1, error = new.error
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS error FROM json_each(?2)
) AS new WHERE work.id = new.id
"""
_WANT = """
UPDATE work SET wanted = new.replays
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS replays FROM json_each(?)
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


class _Held(NamedTuple):
    """Where a piece of work that is this owner's stands; ``wanted``: somebody asked for a replay meanwhile.

    A tuple, like ``_Known``: many thousands a second are made on the thread that all wait for.
    """

    attempts: int
    replays: int
    first_at: float
    wanted: bool

    def is_at(self, work: Work) -> bool:
        """Whether nothing became of the work since it was taken up."""
        return (self.attempts, self.replays) == (work.attempts, work.replays)


class _Known(NamedTuple):
    """A delivery that was there before: the highest replay it ever had or will have, and whether it is being made."""

    replays: int
    running: bool = False


@dataclass(slots=True)
class _Batch:
    """What a batch of settles comes to, gathered before any of it is written; ``now`` is when that is."""

    owner: str
    now: float
    finished: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    moved: list[tuple[str, float | None, float | None, str]] = field(default_factory=list)
    begun_again: list[tuple[str, str | None]] = field(default_factory=list)
    wanted: list[tuple[str, int]] = field(default_factory=list)
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
        if self.begun_again:
            db.execute(_BEGIN_AGAIN, (self.now, dump_json(self.begun_again).decode()))
        if self.wanted:
            db.execute(_WANT, (dump_json(self.wanted).decode(),))
        WORK.run(db, self.work)
        _ATTEMPTS.run(db, self.attempts)
        _DECISIONS.run(db, self.decisions)


def append(clock: Callable[[], float], db: sqlite3.Connection, requests: Sequence[Append]) -> list[Appended]:
    """Keep events and the evaluations they are due; the second of a dedup key gets the first's id."""
    now = clock()
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
        lease = (request.owner, None if request.owner is None else now)
        work.append((event.id, "evaluate", event.id, "", "", -1, None, at, at, 0, 0, *lease, None))
        results.append(Appended(event.id, duplicate=False))
    _EVENTS.run(db, events)
    _BODIES.run(db, bodies)
    WORK.run(db, work)
    return results


def settle_attempts(
    owner: str, clock: Callable[[], float], db: sqlite3.Connection, requests: Sequence[Settle]
) -> list[bool]:
    """Record attempts and what follows, where the work is still this owner's and at that attempt."""
    held = _held(db, owner, [request.work.id for request in requests])
    batch, results = _Batch(owner, clock()), []
    for request in requests:
        state = held.get(request.work.id)
        mine = state is not None and state.is_at(request.work)
        results.append(mine)
        if mine:
            _settle(batch, request, held.pop(request.work.id))
    batch.write(db)
    return results


def _settle(batch: _Batch, request: Settle, held: _Held) -> None:
    work, attempt, then = request.work, request.attempt, request.then
    if held.wanted:
        reason = then.reason if isinstance(then, Dead) else attempt.reason
        batch.begun_again.append((work.id, clean_reason(reason) or None))
    else:
        batch.conclude(work.id, then, attempt.reason, attempt.started_at + attempt.seconds)
    batch.attempts.append(_attempt_row(work, attempt))


def settle_routed(
    owner: str, clock: Callable[[], float], db: sqlite3.Connection, requests: Sequence[Routed]
) -> list[frozenset[str]]:
    """Record what evaluations came to, where they are still this owner's, and insert their deliveries."""
    held = _held(db, owner, [request.event_id for request in requests])
    known = _known(db, [delivery.id for one in requests if _is_later(held, one) for delivery in one.deliveries])
    batch, results = _Batch(owner, clock()), []
    for request in requests:
        state = held.get(request.event_id)
        if state is None or (request.work is not None and not state.is_at(request.work)):
            results.append(frozenset[str]())
            continue
        del held[request.event_id]
        results.append(_route(batch, request, state, known))
    batch.write(db)
    return results


def _is_later(held: Mapping[str, _Held], routed: Routed) -> bool:
    """Whether it may have deliveries already; a first evaluation can't."""
    state = held.get(routed.event_id)
    return state is not None and (state.attempts, state.replays) != (0, 0)


def _route(batch: _Batch, routed: Routed, held: _Held, known: dict[str, _Known]) -> frozenset[str]:
    inserted = frozenset(work.id for work in routed.deliveries if _deliver(batch, routed, work, known))
    reason = routed.attempt.reason if routed.attempt is not None else ""
    batch.conclude(routed.event_id, routed.pending, reason, routed.decided_at)
    if routed.pending is None or routed.decisions:
        batch.decisions.append(_decision_row(routed, held.replays))
    if routed.attempt is not None:
        evaluation = Work(routed.event_id, "evaluate", routed.event_id, held.first_at, held.first_at)
        batch.attempts.append(_attempt_row(evaluation, routed.attempt))
    return inserted


def _deliver(batch: _Batch, routed: Routed, delivery: Work, known: dict[str, _Known]) -> bool:
    """Insert a delivery unless it is there, or ask for its replay where it is being made. True if inserted."""
    before = known.get(delivery.id)
    if before is not None and delivery.replays <= before.replays:
        return False
    known[delivery.id] = _Known(delivery.replays, running=before is not None and before.running)
    if before is not None and before.running:
        batch.wanted.append((delivery.id, delivery.replays))
        return False
    if before is not None:
        batch.replaced.append(delivery.id)
    leased = delivery.id in routed.leased
    batch.work.append(_work_row(delivery, batch.owner if leased else None, batch.now if leased else None))
    return True


def _held(db: sqlite3.Connection, owner: str, ids: Iterable[str]) -> dict[str, _Held]:
    """Where the work stands of this that is alive and the owner's."""
    rows = load_json(db.execute(_HELD, (ids_json(ids), owner)).fetchone()[0])
    return {work_id: _Held(*state) for work_id, *state in rows}


def _known(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, _Known]:
    """Those of the deliveries that ever were."""
    rows = load_json(db.execute(_KNOWN, (ids_json(ids),)).fetchone()[0]) if ids else ()
    return {work_id: _Known(replays, bool(running)) for work_id, replays, running in rows}


def _work_row(work: Work, owner: str | None, leased_at: float | None) -> tuple[Any, ...]:
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
        leased_at,
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

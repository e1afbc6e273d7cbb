"""The two operations that settle work, in batches.

Statements are expensive (see ``packing.Insert``). So a batch reads what it needs as one row of JSON, decides in Python,
and writes many rows with one statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never

from engine.store.packing import clean, clean_reason, dump_json, ids_json, load_json
from engine.store.records import Again, Attempt, Dead, Digest, Gate, Routed, Settled, Wait, Work
from engine.store.sqlite.rows import (
    ATTEMPTS,
    DECISIONS,
    VARIABLES,
    WORK,
    attempt_row,
    decision_row,
    variables_row,
    work_row,
)
from engine.store.sqlite.windows import free_throttles, load_gates, report_later, write_gates
from engine.store.windows import Amendments, Collected, Gates, Passed, Throttled

_OWNED = """
SELECT json_group_array(json_array(id, attempts, replays, first_at, wanted IS NOT NULL)) FROM work
WHERE id IN (SELECT value FROM json_each(?)) AND owner = ? AND dead_at IS NULL
"""
_EXISTING = """
SELECT json_group_array(json_array(id, replays, running, digest)) FROM (
  SELECT id, max(replays) AS replays, max(running) AS running, max(digest) AS digest FROM (
    SELECT id, coalesce(wanted, replays) AS replays, owner IS NOT NULL AS running, NULL AS digest
    FROM work WHERE id IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT work_id, replay, 0, NULL FROM attempt WHERE work_id IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT i.item_id, i.replays, 0, w.id FROM digest_item AS i
    LEFT JOIN work AS w ON w.id = i.delivery_id AND w.owner IS NULL AND w.dead_at IS NULL
    WHERE i.item_id IN (SELECT value FROM json_each(?1))
  ) GROUP BY id
)
"""
_DELETE = "DELETE FROM work WHERE id IN (SELECT value FROM json_each(?))"
_MOVE_ON = """
UPDATE work SET attempts = work.attempts + new.spent, owner = NULL, leased_at = NULL,
  due_at = coalesce(new.due_at, work.due_at), dead_at = new.dead_at, error = new.error,
  lane = coalesce(new.lane, work.lane), first_at = coalesce(new.first_at, work.first_at),
  until_at = coalesce(new.until_at, work.until_at), target = new.target
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS due_at,
    json_extract(value, '$[2]') AS dead_at, json_extract(value, '$[3]') AS error, json_extract(value, '$[4]') AS lane,
    json_extract(value, '$[5]') AS spent, json_extract(value, '$[6]') AS first_at,
    json_extract(value, '$[7]') AS until_at, json_extract(value, '$[8]') AS target
  FROM json_each(?)
) AS new WHERE work.id = new.id
"""
_BEGIN_AGAIN = """
UPDATE work SET attempts = 0, replays = wanted, wanted = NULL, owner = NULL, leased_at = NULL,
  first_at = ?1, due_at = ?1, until_at = ?1, error = new.error
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
class Settle:
    """An attempt at a piece of work, and its consequence."""

    work: Work
    attempt: Attempt
    then: Again | Dead | None
    on_dead: Sequence[Work] = ()


class _Owned(NamedTuple):
    """The stored state of a piece of work that this owner has claimed. ``wanted``: a replay was requested meanwhile.

    A named tuple, like ``_Existing``, because the writer's thread creates thousands of them each second.
    """

    attempts: int
    replays: int
    first_at: float
    wanted: bool

    def is_at(self, work: Work) -> bool:
        """Whether the stored work is at the same attempt and replay."""
        return (self.attempts, self.replays) == (work.attempts, work.replays)


class _Existing(NamedTuple):
    """A delivery that existed before: its highest replay, made or requested, and whether an attempt is running.

    ``digest`` is the waiting digest that has it as an item, if any.
    """

    replays: int
    running: bool = False
    digest: str | None = None


@dataclass(slots=True)
class _Batch:
    """The changes of a batch, collected before they are written. ``now`` is the time of writing."""

    owner: str
    now: float
    finished: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    moved: list[tuple[Any, ...]] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    begun_again: list[tuple[str, str | None]] = field(default_factory=list)
    wanted: list[tuple[str, int]] = field(default_factory=list)
    work: list[tuple[Any, ...]] = field(default_factory=list)
    attempts: list[tuple[Any, ...]] = field(default_factory=list)
    decisions: list[tuple[Any, ...]] = field(default_factory=list)
    variables: list[tuple[Any, ...]] = field(default_factory=list)

    def conclude(self, work_id: str, then: Again | Wait | Dead | None, reason: str, at: float) -> None:
        """Record the consequence for a piece of work. ``at`` is the time of its death, if it died."""
        match then:
            case None:
                self.finished.append(work_id)
            case Again(due_at, lane, spent, waits_for, until, target):
                why = clean_reason(waits_for or reason)
                self.moved.append((work_id, due_at, None, why, clean(lane), int(spent), None, until, target or None))
            case Wait(due_at, waits_for, counted):
                first_at = None if counted else due_at
                self.moved.append((work_id, due_at, None, clean_reason(waits_for), None, 0, first_at, None, None))
            case Dead(died_of):
                self.moved.append((work_id, None, at, clean_reason(died_of), None, 1, None, None, None))
                self.died.append(work_id)
            case _:
                assert_never(then)

    def insert(self, work: Work, passed: Passed | None = None, *, leased: bool = False) -> None:
        """Insert new work, owned or due. ``passed`` is the result of its throttle."""
        self.work.append(work_row(work, *((self.owner, self.now) if leased else ())))
        if passed is not None:
            self.variables.append(variables_row(work, passed.variables, passed.key, passed.reported))
        elif work.variables is not None:
            self.variables.append(variables_row(work, work.variables))

    def write(self, db: sqlite3.Connection) -> None:
        """Write all changes, with one statement for each kind."""
        if gone := self.finished + self.replaced:
            db.execute(_DELETE, (ids_json(gone),))
        if self.moved:
            db.execute(_MOVE_ON, (dump_json(self.moved).decode(),))
        if self.died:
            free_throttles(db, self.died, now=self.now)
        if self.begun_again:
            db.execute(_BEGIN_AGAIN, (self.now, dump_json(self.begun_again).decode()))
        if self.wanted:
            db.execute(_WANT, (dump_json(self.wanted).decode(),))
        WORK.run(db, self.work)
        ATTEMPTS.run(db, self.attempts)
        DECISIONS.run(db, self.decisions)
        VARIABLES.run(db, self.variables)


def settle_attempts(
    owner: str, clock: Callable[[], float], db: sqlite3.Connection, requests: Sequence[Settle]
) -> list[bool]:
    """Record attempts and their consequences for work that this owner still has, at the same attempt."""
    held = _owned(db, owner, [request.work.id for request in requests])
    known = _existing(db, [work.id for request in requests for work in request.on_dead])
    batch, results = _Batch(owner, clock()), []
    for request in requests:
        state = held.get(request.work.id)
        owned = state is not None and state.is_at(request.work)
        results.append(owned)
        if owned:
            _settle(batch, request, held.pop(request.work.id), known)
    batch.write(db)
    return results


def _settle(batch: _Batch, request: Settle, held: _Owned, known: dict[str, _Existing]) -> None:
    work, attempt, then = request.work, request.attempt, request.then
    if held.wanted:
        reason = then.reason if isinstance(then, Dead) else attempt.reason
        batch.begun_again.append((work.id, clean_reason(reason) or None))
    else:
        batch.conclude(work.id, then, attempt.reason, attempt.started_at + attempt.seconds)
        for follower in request.on_dead:
            if follower.id not in known:
                known[follower.id] = _Existing(follower.replays)
                batch.insert(follower)
    batch.attempts.append(attempt_row(work, attempt))


def settle_routed(
    owner: str, clock: Callable[[], float], db: sqlite3.Connection, requests: Sequence[Routed]
) -> list[Settled]:
    """Record the results of evaluations that this owner still has, and insert their deliveries."""
    held = _owned(db, owner, [request.event_id for request in requests])
    known = _existing(db, [delivery.id for one in requests if _is_later(held, one) for delivery in one.deliveries])
    batch = _Batch(owner, clock())
    if replaced := [one.id for request in requests for one in request.deliveries if _replaces(one, known)]:
        report_later(db, replaced, now=batch.now)
    gates = load_gates(db, requests, now=batch.now)
    results = []
    for request in requests:
        state = held.get(request.event_id)
        if state is None or (request.work is not None and not state.is_at(request.work)):
            results.append(Settled())
            continue
        del held[request.event_id]
        results.append(_Routing(batch, request, known, gates).settle(state))
    batch.write(db)
    write_gates(db, gates, now=batch.now)
    return results


def _is_later(held: Mapping[str, _Owned], routed: Routed) -> bool:
    """Whether the event may have deliveries already, which is impossible at its first evaluation."""
    state = held.get(routed.event_id)
    return state is not None and (state.attempts, state.replays) != (0, 0)


def _replaces(delivery: Work, known: Mapping[str, _Existing]) -> bool:
    """Whether it replaces a delivery that waits or is dead."""
    before = known.get(delivery.id)
    return before is not None and not before.running and delivery.replays > before.replays


class _Routing:
    """Adds the deliveries of one evaluation to a batch."""

    def __init__(self, batch: _Batch, routed: Routed, known: dict[str, _Existing], gates: Gates) -> None:
        self._batch, self._routed, self._known, self._gates = batch, routed, known, gates
        self._amendments = Amendments()
        self._inserted: set[str] = set()
        self._leased: set[str] = set()
        self._variables: dict[str, Mapping[str, Any]] = {}
        self._throttled: dict[str, str] = {}
        self._collected: dict[str, str] = {}

    def settle(self, held: _Owned) -> Settled:
        """Add deliveries first and decisions last, because decisions include what throttles and digests did."""
        batch, routed = self._batch, self._routed
        for delivery in routed.deliveries:
            self._deliver(delivery)
        reason = routed.attempt.reason if routed.attempt is not None else ""
        batch.conclude(routed.event_id, routed.pending, reason, routed.decided_at)
        if routed.pending is None or routed.decisions:
            batch.decisions.append(decision_row(routed, held.replays, self._amendments))
        if routed.attempt is not None:
            evaluation = Work(routed.event_id, "evaluate", routed.event_id, held.first_at, held.first_at)
            batch.attempts.append(attempt_row(evaluation, routed.attempt))
        sets = (frozenset(self._inserted), frozenset(self._leased))
        return Settled(*sets, self._variables, self._throttled, self._collected)

    def _deliver(self, delivery: Work) -> None:
        """Insert a delivery unless it exists, or request its replay if an attempt is running."""
        before = self._known.get(delivery.id)
        if before is not None and delivery.replays <= before.replays:
            return
        running = before is not None and before.running
        self._known[delivery.id] = _Existing(delivery.replays, running=running)
        gate = self._routed.gates.get(delivery.id)
        if isinstance(gate, Digest):
            # A waiting digest has this item already. Collecting it again would send it twice.
            digest = None if before is None else before.digest
            met = self._gates.meet(delivery, gate) if digest is None else Collected(digest, None)
            self._become(delivery, met)
        elif running:
            self._batch.wanted.append((delivery.id, delivery.replays))
        else:
            if before is not None:
                self._batch.replaced.append(delivery.id)
            self._through(delivery, gate)

    def _through(self, delivery: Work, gate: Gate | None) -> None:
        if gate is None:
            self._insert(delivery)
            return
        self._become(delivery, self._gates.meet(delivery, gate))

    def _become(self, delivery: Work, met: Passed | Throttled | Collected) -> None:
        match met:
            case Passed(deliver, variables):
                self._variables[deliver.id] = variables
                self._insert(deliver, met)
            case Throttled(reason):
                self._throttled[delivery.id] = reason
                self._amendments.note(delivery, met)
            case Collected(delivery_id, opened):
                self._collected[delivery.id] = delivery_id
                self._amendments.note(delivery, met)
                if opened is not None:
                    self._inserted.add(opened.id)
                    self._batch.insert(opened)
            case _:
                assert_never(met)

    def _insert(self, delivery: Work, passed: Passed | None = None) -> None:
        leased = delivery.id in self._routed.leased
        self._inserted.add(delivery.id)
        if leased:
            self._leased.add(delivery.id)
        self._batch.insert(delivery, passed, leased=leased)


def _owned(db: sqlite3.Connection, owner: str, ids: Iterable[str]) -> dict[str, _Owned]:
    """The state of the work that the owner has claimed and that is not dead."""
    rows = load_json(db.execute(_OWNED, (ids_json(ids), owner)).fetchone()[0])
    return {work_id: _Owned(*state) for work_id, *state in rows}


def _existing(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, _Existing]:
    """Those of the deliveries that exist or existed."""
    rows = load_json(db.execute(_EXISTING, (ids_json(ids),)).fetchone()[0]) if ids else ()
    return {work_id: _Existing(replays, bool(running), digest) for work_id, replays, running, digest in rows}

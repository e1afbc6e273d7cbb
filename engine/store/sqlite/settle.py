"""The two operations that settle work, in batches.

Statements are expensive (see ``writer.Insert``). So a batch reads what it needs as one row of JSON, decides in Python,
and writes many rows with one statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_never

from engine.store.packing import (
    ATTEMPT_COLUMNS,
    DECISION_COLUMNS,
    VARIABLES_COLUMNS,
    WORK_COLUMNS,
    attempt_row,
    clean,
    clean_reason,
    decision_row,
    dump_json,
    ids_json,
    variables_row,
    work_row,
)
from engine.store.records import Again, Attempt, Dead, Digest, Routed, Settled, Wait, Work
from engine.store.sqlite.connection import Database
from engine.store.sqlite.windows import free_throttles, load_gates, report_later, write_gates
from engine.store.sqlite.writer import Insert, rows_of
from engine.store.windows import Gates, Met, amended

#: Inserts of the batch, in the order in which they run.
WORK = Insert("work", WORK_COLUMNS)
_ATTEMPTS = Insert("attempt", ATTEMPT_COLUMNS)
_DECISIONS = Insert("decision", DECISION_COLUMNS)
_VARIABLES = Insert("delivery_words", VARIABLES_COLUMNS, "INSERT OR REPLACE")
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
_DELETE = "DELETE FROM work WHERE id IN (SELECT value FROM json_each(:rows))"
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
  FROM json_each(:rows)
) AS new WHERE work.id = new.id
"""
_BEGIN_AGAIN = """
UPDATE work SET attempts = 0, replays = wanted, wanted = NULL, owner = NULL, leased_at = NULL,
  first_at = :now, due_at = :now, until_at = :now, error = new.error
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS error FROM json_each(:rows)
) AS new WHERE work.id = new.id
"""
_WANT = """
UPDATE work SET wanted = new.replays
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS replays FROM json_each(:rows)
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


class _Batch:
    """The changes of a batch, collected before they are written. ``now`` is the time of writing.

    ``changes`` has the rows of JSON for each statement, ``rows`` those of each insert.
    """

    def __init__(self, db: Database, owner: str, now: float) -> None:
        self._db, self._owner, self.now = db, owner, now
        self.changes: defaultdict[str, list[Any]] = defaultdict(list)
        self._rows: defaultdict[Insert, list[tuple[Any, ...]]] = defaultdict(list)
        self._died: list[str] = []

    def conclude(self, work_id: str, then: Again | Wait | Dead | None, reason: str, at: float) -> None:
        """Record the consequence for a piece of work. ``at`` is the time of its death, if it died."""
        match then:
            case None:
                self.changes[_DELETE].append(work_id)
            case Again(due_at, lane, spent, waits_for, until, target):
                why = clean_reason(waits_for or reason)
                self.changes[_MOVE_ON].append(
                    (work_id, due_at, None, why, clean(lane), int(spent), None, until, target or None)
                )
            case Wait(due_at, waits_for, counted):
                first_at = None if counted else due_at
                self.changes[_MOVE_ON].append(
                    (work_id, due_at, None, clean_reason(waits_for), None, 0, first_at, None, None)
                )
            case Dead(died_of):
                self.changes[_MOVE_ON].append((work_id, None, at, clean_reason(died_of), None, 1, None, None, None))
                self._died.append(work_id)
            case _:
                assert_never(then)

    def insert(self, work: Work, met: Met = Met(), *, leased: bool = False) -> None:  # noqa: B008 - immutable
        """Insert new work, owned or due. ``met`` is the result of its throttle."""
        self._rows[WORK].append(work_row(work, *((self._owner, self.now) if leased else ())))
        if work.variables is not None:
            self._rows[_VARIABLES].append(variables_row(work, met.key, met.reported, self._db.keyring))

    def attempted(self, work: Work, attempt: Attempt) -> None:
        """Add an attempt to the history."""
        self._rows[_ATTEMPTS].append(attempt_row(work, attempt, self._db.keyring))

    def decided(self, routed: Routed, met: Mapping[str, Met], replays: int) -> None:
        """Add an evaluation to the history."""
        decisions = amended(routed, met) if routed.gates else routed.decisions
        self._rows[_DECISIONS].append(decision_row(routed, decisions, replays, self._db.keyring))

    def write(self) -> None:
        """Write all changes, with one statement for each kind."""
        for statement, rows in self.changes.items():
            self._db.execute(statement, {"rows": dump_json(rows).decode(), "now": self.now})
        if self._died:
            free_throttles(self._db, self._died, now=self.now)
        for insert, values in self._rows.items():
            insert.run(self._db, values)


def settle_attempts(owner: str, clock: Callable[[], float], db: Database, requests: Sequence[Settle]) -> list[bool]:
    """Record attempts and their consequences for work that this owner still has, at the same attempt."""
    held = _owned(db, owner, [request.work.id for request in requests])
    known = _existing(db, [work.id for request in requests for work in request.on_dead])
    batch, results = _Batch(db, owner, clock()), []
    for request in requests:
        state = held.get(request.work.id)
        owned = state is not None and state.is_at(request.work)
        results.append(owned)
        if owned:
            _settle(batch, request, held.pop(request.work.id), known)
    batch.write()
    return results


def _settle(batch: _Batch, request: Settle, held: _Owned, known: dict[str, _Existing]) -> None:
    work, attempt, then = request.work, request.attempt, request.then
    if held.wanted:
        reason = then.reason if isinstance(then, Dead) else attempt.reason
        batch.changes[_BEGIN_AGAIN].append((work.id, clean_reason(reason) or None))
    else:
        batch.conclude(work.id, then, attempt.reason, attempt.started_at + attempt.seconds)
        for follower in request.on_dead:
            if follower.id not in known:
                known[follower.id] = _Existing(follower.replays)
                batch.insert(follower)
    batch.attempted(work, attempt)


def settle_routed(owner: str, clock: Callable[[], float], db: Database, requests: Sequence[Routed]) -> list[Settled]:
    """Record the results of evaluations that this owner still has, and insert their deliveries."""
    held, now = _owned(db, owner, [request.event_id for request in requests]), clock()
    # At its first evaluation an event has no deliveries. A wait counts as no attempt, but gives the work a reason.
    later = [
        one
        for one in requests
        if (state := held.get(one.event_id)) and (state.attempts + state.replays or (one.work and one.work.error))
    ]
    known = _existing(db, [delivery.id for one in later for delivery in one.deliveries])
    replaced = [work.id for one in later for work in one.deliveries if _replaces(work, known.get(work.id))]
    if replaced:
        report_later(db, replaced, now=now)
    gates = load_gates(db, requests, now=now) if any(one.gates for one in requests) else None
    batch, results = _Batch(db, owner, now), []
    for request in requests:
        state = held.get(request.event_id)
        if state is None or (request.work is not None and not state.is_at(request.work)):
            results.append(Settled())
        else:
            results.append(_route(batch, request, held.pop(request.event_id), known, gates))
    batch.write()
    if gates is not None:
        write_gates(db, gates, now=now)
    return results


def _replaces(delivery: Work, before: _Existing | None) -> bool:
    """Whether it replaces a delivery that waits or is dead."""
    return before is not None and not before.running and delivery.replays > before.replays


def _route(batch: _Batch, routed: Routed, held: _Owned, known: dict[str, _Existing], gates: Gates | None) -> Settled:
    """Insert the deliveries of an evaluation, and then its decisions, which say what throttles and digests did."""
    met: dict[str, Met] = {}
    for delivery in routed.deliveries:
        met.setdefault(delivery.id, _deliver(batch, routed, delivery, known, gates))
    new = [
        (one.insert, one, one.insert.id in routed.leased and not one.collected) for one in met.values() if one.insert
    ]
    for work, one, leased in new:
        batch.insert(work, one, leased=leased)
    reason = routed.attempt.reason if routed.attempt is not None else ""
    batch.conclude(routed.event_id, routed.pending, reason, routed.decided_at)
    if routed.pending is None or routed.decisions:
        batch.decided(routed, met, held.replays)
    if routed.attempt is not None:
        evaluation = Work(routed.event_id, "evaluate", routed.event_id, held.first_at, held.first_at)
        batch.attempted(evaluation, routed.attempt)
    return Settled(
        inserted=frozenset(work.id for work, _, _ in new),
        leased=frozenset(work.id for work, _, leased in new if leased),
        variables={work.id: work.variables for work, _, _ in new if work.variables is not None},
        throttled={delivery_id: one.throttled for delivery_id, one in met.items() if one.throttled},
        collected={delivery_id: one.collected for delivery_id, one in met.items() if one.collected},
    )


def _deliver(batch: _Batch, routed: Routed, delivery: Work, known: dict[str, _Existing], gates: Gates | None) -> Met:
    """What becomes of a delivery: nothing if it exists; if an attempt is running, its replay is requested."""
    before = known.get(delivery.id)
    if before is not None and delivery.replays <= before.replays:
        return Met()
    known[delivery.id] = _Existing(delivery.replays, running=before is not None and before.running)
    gate = routed.gates.get(delivery.id)
    if isinstance(gate, Digest) and before is not None and before.digest is not None:
        # A waiting digest has this item already. Collecting it again would send it twice.
        return Met(collected=before.digest)
    if not isinstance(gate, Digest) and before is not None:
        if before.running:
            batch.changes[_WANT].append((delivery.id, delivery.replays))
            return Met()
        batch.changes[_DELETE].append(delivery.id)
    return Met(delivery) if gate is None or gates is None else gates.meet(delivery, gate)


def _owned(db: Database, owner: str, ids: Iterable[str]) -> dict[str, _Owned]:
    """The state of the work that the owner has claimed and that is not dead."""
    return {work_id: _Owned(*state) for work_id, *state in rows_of(db, _OWNED, (ids_json(ids), owner))}


def _existing(db: Database, ids: Sequence[str]) -> dict[str, _Existing]:
    """Those of the deliveries that exist or existed."""
    rows = rows_of(db, _EXISTING, (ids_json(ids),)) if ids else ()
    return {work_id: _Existing(replays, bool(running), digest) for work_id, replays, running, digest in rows}

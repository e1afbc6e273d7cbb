"""Claiming due work, in the writer's transaction.

The cost depends on what is taken and on what was stored since the last claim, not on how many lanes wait. The table
``lane`` has for each lane the time from which claims look at it: when its first work is due, or later if a claim
skipped it because nothing could be taken. Triggers update the table for stored work; a claim updates the lanes it
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import NamedTuple

from engine.store.packing import dump_json, ids_json
from engine.store.protocol import BUSY_RECHECK, PAUSED_RECHECK
from engine.store.records import WorkKind
from engine.store.sqlite.connection import Database
from engine.store.sqlite.fetched import SIZE
from engine.store.sqlite.writer import rows_of

#: The size of a piece's events: their bodies and fetched data.
_BYTES = f"""coalesce(e.size, 0) + coalesce(b.fetched_size, 0) + {SIZE.format(id="w.event_id")} + coalesce((
  SELECT sum(o.size + {SIZE.format(id="o.id")})
  FROM digest_item AS i JOIN event AS o ON o.id = i.event_id WHERE i.delivery_id = w.id
), 0)"""  # noqa: S608 - ours
#: What is due in a lane, oldest first: id, event, bytes, and due time.
_DUE = f"""
SELECT json_group_array(json_array(w.id, w.event_id, {_BYTES}, w.due_at)) FROM (
  SELECT id, event_id, due_at FROM work
  WHERE lane = ?1 AND kind = ?2 AND owner IS NULL AND dead_at IS NULL AND due_at <= ?3 ORDER BY due_at LIMIT ?4
) AS w
LEFT JOIN event AS e ON e.id = w.event_id
LEFT JOIN event_body AS b ON b.event_id = w.event_id
"""  # noqa: S608 - ours
#: Work past its ``until``, with its lane.
_OVERDUE = f"""
SELECT json_group_array(json_array(w.lane, w.id, w.event_id, {_BYTES}, w.due_at)) FROM (
  SELECT lane, id, event_id, due_at FROM work
  WHERE until_at <= ?1 AND owner IS NULL AND dead_at IS NULL ORDER BY until_at LIMIT ?2
) AS w
LEFT JOIN event AS e ON e.id = w.event_id
LEFT JOIN event_body AS b ON b.event_id = w.event_id
"""  # noqa: S608 - ours
_PUT_OFF = "UPDATE work SET until_at = ? WHERE id IN (SELECT value FROM json_each(?))"
_LANES = """
SELECT json_group_array(name) FROM (SELECT name FROM lane WHERE look_at <= ? ORDER BY look_at, name LIMIT ?)
"""
_LOOK_LATER = """
UPDATE lane SET look_at = ?1 + new.seconds
FROM (
  SELECT json_extract(value, '$[0]') AS name, json_extract(value, '$[1]') AS seconds FROM json_each(?2)
) AS new WHERE lane.name = new.name
"""
#: Set a lane's time to when its first work is due, if any work waits there.
_CORRECT = """
UPDATE lane SET look_at = (
  SELECT min(w.due_at) FROM work AS w
  WHERE w.lane = lane.name AND w.kind = 'deliver' AND w.owner IS NULL AND w.dead_at IS NULL
) WHERE name IN (SELECT j.value FROM json_each(?1) AS j WHERE EXISTS (
  SELECT 1 FROM work AS w WHERE w.lane = j.value AND w.kind = 'deliver' AND w.owner IS NULL AND w.dead_at IS NULL
))
"""
_REMOVE = """
DELETE FROM lane WHERE name IN (SELECT j.value FROM json_each(?1) AS j WHERE NOT EXISTS (
  SELECT 1 FROM work AS w WHERE w.lane = j.value AND w.kind = 'deliver' AND w.owner IS NULL AND w.dead_at IS NULL
))
"""
_TAKE = "UPDATE work SET owner = ?, leased_at = ? WHERE id IN (SELECT value FROM json_each(?))"
_FIRST_EVALUATION = """
SELECT min(due_at) FROM work WHERE lane = '' AND kind = 'evaluate' AND owner IS NULL AND dead_at IS NULL
"""
_FIRST_OVERDUE = """
SELECT min(until_at) FROM work WHERE until_at IS NOT NULL AND owner IS NULL AND dead_at IS NULL
"""
_FIRST_LANES = "SELECT name, look_at FROM lane ORDER BY look_at LIMIT ?"
#: How many lanes a claim skips at most, besides those it takes something from.
MOST_SKIPPED = 256
#: For how many seconds overdue work in a lane that is not paused is not looked at again.
_OPEN_RECHECK = 3600.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim's arguments, see ``Store.claim``."""

    now: float
    limit: int
    max_bytes: int
    kind: WorkKind | None = None
    capacity: Mapping[str, int] = field(default_factory=dict)
    paused: Collection[str] = ()
    reopened: Collection[str] = ()

    def capacity_of(self, lane: str) -> int:
        """How many deliveries may be taken from a lane."""
        return 0 if lane in self.paused else max(self.capacity.get(lane, self.limit), 0)

    def wants(self, kind: WorkKind) -> bool:
        """Whether the claim includes work of this kind."""
        return self.kind in (None, kind)


@dataclass(frozen=True, slots=True)
class Taken:
    """The ids of the claimed work, lanes in turn. For the other fields see ``ClaimResult``."""

    ids: list[str]
    remaining: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()


class _Found(NamedTuple):
    """A piece of work that may be taken."""

    id: str
    event_id: str
    size: int
    due_at: float


@dataclass(slots=True)
class _Queue:
    """A lane, or the evaluations, of which ``room`` pieces may be taken. ``whole``: no more than ``found`` are due."""

    lane: str
    kind: WorkKind
    room: int
    found: list[_Found] = field(default_factory=list)
    whole: bool = False

    def read(self, db: Database, now: float, most: int) -> None:
        """Read what is due, the oldest first."""
        most = min(self.room, most)
        rows = rows_of(db, _DUE, (self.lane, self.kind, now, most + 1))
        self.found, self.whole = [_Found(*row) for row in rows[:most]], len(rows) <= most


def claim(owner: str, clock: Callable[[], float], db: Database, requests: Sequence[Claim]) -> list[Taken]:
    """Take the oldest due work."""
    return [_claim(owner, clock(), db, request) for request in requests]


def _claim(owner: str, at: float, db: Database, request: Claim) -> Taken:
    overdue, lanes = [], []
    if request.wants("deliver"):
        overdue = _overdue(db, request)
        if request.reopened:
            db.execute(_CORRECT, (ids_json(request.reopened),))
        lanes = rows_of(db, _LANES, (request.now, request.limit + MOST_SKIPPED))
    queues, skipped = _queues(db, request, lanes)
    turns = chain(overdue, _in_turns(queues))
    ids = _within(islice(turns, max(request.limit, 0)), request.max_bytes)
    if ids:
        db.execute(_TAKE, (owner, at, ids_json(ids)))
    _correct(db, request, [queue.lane for queue in queues if queue.kind == "deliver"], skipped)
    done = [each.whole and {found.id for found in each.found} <= set(ids) for each in queues]
    emptied = frozenset(each.lane for each, all_ in zip(queues, done, strict=True) if all_ and each.kind == "deliver")
    return Taken(ids, frozenset(lanes) - emptied, frozenset(skipped), emptied)


def _overdue(db: Database, request: Claim) -> list[_Found]:
    """Work past its ``until`` in paused lanes. In other lanes it is claimed in its turn."""
    rows = rows_of(db, _OVERDUE, (request.now, (request.limit + 1) // 2))
    if open_ := [work_id for lane, work_id, *_ in rows if lane not in request.paused]:
        db.execute(_PUT_OFF, (request.now + _OPEN_RECHECK, ids_json(open_)))
    return [_Found(*found) for lane, *found in rows if lane in request.paused]


def _queues(db: Database, request: Claim, lanes: Sequence[str]) -> tuple[list[_Queue], list[str]]:
    """What may be taken from each lane, and the lanes that were skipped because they have no capacity."""
    queues, skipped, limit = [], [], max(request.limit, 0)
    if request.wants("evaluate") and limit:
        queues.append(_Queue("", "evaluate", limit))
        queues[0].read(db, request.now, limit)
    most, found = -(-2 * limit // max(len(lanes), 1)), 0
    for lane in lanes:
        if found >= limit:
            break  # enough lanes have work to fill the claim
        if (room := request.capacity_of(lane)) <= 0:
            skipped.append(lane)
        else:
            queues.append(queue := _Queue(lane, "deliver", room))
            queue.read(db, request.now, most)
            found += bool(queue.found)
    _read_more(db, request, queues)
    return sorted(queues, key=lambda queue: queue.found[0].due_at if queue.found else 0.0), skipped


def _read_more(db: Database, request: Claim, queues: Sequence[_Queue]) -> None:
    """If the claim is not full, take more from the lanes that have more."""
    missing = request.limit - sum(len(queue.found) for queue in queues)
    for queue in queues:
        before = len(queue.found)
        if missing > 0 and not queue.whole and before < queue.room:
            queue.read(db, request.now, before + missing)
            missing -= len(queue.found) - before


def _in_turns(queues: Iterable[_Queue]) -> Iterable[_Found]:
    """One piece of each queue, then the next of each, so that no lane has to wait until another is empty.

    The queue that waits longest comes first: otherwise small claims would take from the same lane every time.
    """
    turns = chain.from_iterable(zip_longest(*(queue.found for queue in queues)))
    return (found for found in turns if found is not None)


def _within(found: Iterable[_Found], max_bytes: int) -> list[str]:
    """The first ids whose events fit into ``max_bytes`` together; at least one, or large events would wait for ever."""
    ids: list[str] = []
    events: set[str] = set()
    total = 0
    for work_id, event_id, size, _ in found:
        total += 0 if event_id in events else size
        if ids and total > max_bytes:
            break
        events.add(event_id)
        ids.append(work_id)
    return ids


def _correct(db: Database, request: Claim, looked_at: Collection[str], skipped: Sequence[str]) -> None:
    """Update the time from which claims look at each lane of this claim."""
    if looked_at:
        names = ids_json(looked_at)
        db.execute(_REMOVE, (names,))
        db.execute(_CORRECT, (names,))
    if skipped:
        later = [(lane, PAUSED_RECHECK if lane in request.paused else BUSY_RECHECK) for lane in skipped]
        db.execute(_LOOK_LATER, (request.now, dump_json(later).decode()))


def next_due(db: Database, *, kind: WorkKind | None = None, paused: Collection[str] = ()) -> float | None:
    """When unowned work outside the paused lanes is due next; perhaps a little early."""
    times = [db.execute(_FIRST_EVALUATION).fetchone()[0]] if kind != "deliver" else []
    if kind != "evaluate":
        rows = db.execute(_FIRST_LANES, (MOST_SKIPPED,)).fetchall()
        others = [look_at for name, look_at in rows if name not in paused]
        if not others and len(rows) == MOST_SKIPPED:  # lanes after these may be open
            others = [rows[-1][1]]
        times += [*others[:1], db.execute(_FIRST_OVERDUE).fetchone()[0]]
    return min((at for at in times if at is not None), default=None)

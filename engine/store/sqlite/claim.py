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

from engine.store.packing import ids_json, load_json
from engine.store.protocol import BUSY_RECHECK, PAUSED_RECHECK
from engine.store.records import WorkKind
from engine.store.sqlite.connection import Database
from engine.store.sqlite.fetched import SIZE

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
_LOOK_LATER = "UPDATE lane SET look_at = ? WHERE name IN (SELECT value FROM json_each(?))"
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


@dataclass(frozen=True, slots=True)
class _Queue:
    """What may be taken from a lane, or from the evaluations. ``whole``: nothing else is due there."""

    lane: str
    kind: WorkKind
    found: Sequence[_Found]
    whole: bool


def claim(owner: str, clock: Callable[[], float], db: Database, requests: Sequence[Claim]) -> list[Taken]:
    """Take the oldest due work."""
    return [_claim(owner, clock(), db, request) for request in requests]


def _claim(owner: str, at: float, db: Database, request: Claim) -> Taken:
    overdue = _overdue(db, request) if request.wants("deliver") else []
    lanes = _lanes(db, request) if request.wants("deliver") else []
    queues, skipped = _queues(db, request, lanes)
    turns = chain(overdue, _in_turns(queues))
    ids = _within(islice(turns, max(request.limit, 0)), request.max_bytes)
    if ids:
        db.execute(_TAKE, (owner, at, ids_json(ids)))
    taken = set(ids)
    looked_at = {queue.lane for queue in queues if queue.kind == "deliver"}
    emptied = looked_at - {each.lane for each in queues if not each.whole or not taken.issuperset(_ids(each))}
    _correct(db, request, looked_at, skipped)
    return Taken(ids, frozenset(lanes) - emptied, frozenset(skipped), frozenset(emptied))


def _ids(queue: _Queue) -> list[str]:
    return [found.id for found in queue.found]


def _overdue(db: Database, request: Claim) -> list[_Found]:
    """Work past its ``until`` in paused lanes. In other lanes it is claimed in its turn."""
    rows = load_json(db.execute(_OVERDUE, (request.now, (request.limit + 1) // 2)).fetchone()[0])
    if open_ := [work_id for lane, work_id, *_ in rows if lane not in request.paused]:
        db.execute(_PUT_OFF, (request.now + _OPEN_RECHECK, ids_json(open_)))
    return [_Found(*found) for lane, *found in rows if lane in request.paused]


def _lanes(db: Database, request: Claim) -> list[str]:
    """The lanes to look at, the longest-waiting first."""
    if request.reopened:
        db.execute(_CORRECT, (ids_json(request.reopened),))
    lanes: list[str] = load_json(db.execute(_LANES, (request.now, request.limit + MOST_SKIPPED)).fetchone()[0])
    return lanes


def _queues(db: Database, request: Claim, lanes: Sequence[str]) -> tuple[list[_Queue], list[str]]:
    """What may be taken from each lane, and the lanes that were skipped because they have no capacity."""
    queues, skipped, limit = [], [], max(request.limit, 0)
    if request.wants("evaluate") and limit:
        queues.append(_queue(db, request, "", "evaluate", limit))
    most, found = -(-2 * limit // max(len(lanes), 1)), 0
    for lane in lanes:
        if found >= limit:
            break  # enough lanes have work to fill the claim
        if (room := request.capacity_of(lane)) <= 0:
            skipped.append(lane)
        else:
            queues.append(queue := _queue(db, request, lane, "deliver", min(room, most)))
            found += bool(queue.found)
    return _longer(db, request, queues), skipped


def _longer(db: Database, request: Claim, queues: Sequence[_Queue]) -> list[_Queue]:
    """If the claim is not full, take more from the lanes that have more. The longest-waiting lane comes first."""
    missing, longer = request.limit - sum(len(queue.found) for queue in queues), []
    for queue in queues:
        room = request.capacity_of(queue.lane) if queue.kind == "deliver" else request.limit
        if missing > 0 and not queue.whole and len(queue.found) < room:
            more = _queue(db, request, queue.lane, queue.kind, min(room, len(queue.found) + missing))
            missing -= len(more.found) - len(queue.found)
            longer.append(more)
        else:
            longer.append(queue)
    return sorted(longer, key=lambda queue: queue.found[0].due_at if queue.found else 0.0)


def _queue(db: Database, request: Claim, lane: str, kind: WorkKind, most: int) -> _Queue:
    rows = load_json(db.execute(_DUE, (lane, kind, request.now, most + 1)).fetchone()[0])
    return _Queue(lane, kind, [_Found(*row) for row in rows[:most]], whole=len(rows) <= most)


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
    paused = [lane for lane in skipped if lane in request.paused]
    busy = [lane for lane in skipped if lane not in request.paused]
    for lanes, seconds in ((paused, PAUSED_RECHECK), (busy, BUSY_RECHECK)):
        if lanes:
            db.execute(_LOOK_LATER, (request.now + seconds, ids_json(lanes)))


def next_due(db: Database, *, kind: WorkKind | None = None, paused: Collection[str] = ()) -> float | None:
    """When unowned work outside the paused lanes is due next; perhaps a little early."""
    times: list[float] = []
    if kind != "deliver" and (first := db.execute(_FIRST_EVALUATION).fetchone()[0]) is not None:
        times.append(first)
    if kind != "evaluate":
        rows = db.execute(_FIRST_LANES, (MOST_SKIPPED,)).fetchall()
        times += [look_at for name, look_at in rows if name not in paused][:1]
        if not times and len(rows) == MOST_SKIPPED:
            times.append(rows[-1][1])
        if (first := db.execute(_FIRST_OVERDUE).fetchone()[0]) is not None:
            times.append(first)
    return min(times, default=None)

"""Ownership of work: loading, release, heartbeat. All but ``load_claimed`` run in the writer's transaction."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from engine.core.errors import BadBody
from engine.core.event import Event, restored_event
from engine.core.memory_budget import size_of
from engine.store.encryption import MissingKey
from engine.store.packing import clean, clean_or_none, clean_reason, dump_json, ids_json, load_json, unpack
from engine.store.protocol import ORPHANED_AFTER
from engine.store.queries import ItemRow
from engine.store.records import Claimed, Item, Work, WorkKind
from engine.store.sqlite.connection import Database, damage_as_value_error
from engine.store.sqlite.fetched import SIZE, load_fetched
from engine.store.sqlite.load import load_items, load_variables
from engine.store.sqlite.windows import free_throttles

#: The lanes with waiting work, found one after the other by the index, and when the first work of each kind is due.
_QUEUE_HEADS = """
WITH RECURSIVE head (lane) AS (
  SELECT min(lane) FROM work WHERE owner IS NULL AND dead_at IS NULL
  UNION ALL
  SELECT (SELECT min(w.lane) FROM work AS w WHERE w.lane > head.lane AND w.owner IS NULL AND w.dead_at IS NULL)
  FROM head WHERE head.lane IS NOT NULL
)
SELECT json_group_array(json_array(lane, kind, (
  SELECT min(w.due_at) FROM work AS w
  WHERE w.lane = head.lane AND w.kind = kinds.kind AND w.owner IS NULL AND w.dead_at IS NULL
))) FROM head, (SELECT 'evaluate' AS kind UNION ALL SELECT 'deliver') AS kinds WHERE lane IS NOT NULL
"""
#: Removes the owner. A replay that was requested meanwhile begins now.
_GIVE_BACK = """
UPDATE work SET owner = NULL, leased_at = NULL, wanted = NULL, replays = coalesce(wanted, replays),
  attempts = CASE WHEN wanted IS NULL THEN attempts ELSE 0 END,
  first_at = CASE WHEN wanted IS NULL THEN first_at + :uncounted ELSE :now END,
  until_at = CASE WHEN wanted IS NULL THEN coalesce(:until, until_at + :uncounted) ELSE :now END"""
_PUT_OFF = """
SELECT json_group_array(id) FROM work
WHERE due_at > ?1 AND owner IS NULL AND dead_at IS NULL AND substr(error, 1, ?2) = ?3
"""
_MAKE_DUE = """
UPDATE work SET due_at = ?1
WHERE id IN (SELECT value FROM json_each(?2)) AND due_at > ?1 AND owner IS NULL AND dead_at IS NULL
"""
_CHANGED = """
SELECT json_group_array(json_array(w.id, w.target, w.lane)) FROM (
  SELECT json_extract(value, '$[0]') AS route, json_extract(value, '$[1]') AS action,
    json_extract(value, '$[2]') AS targets
  FROM json_each(?)
) AS j JOIN work AS w ON w.route = j.route AND w.action = j.action
WHERE w.owner IS NULL AND w.dead_at IS NULL AND w.target IS NOT NULL
  AND w.target NOT IN (SELECT value FROM json_each(j.targets))
"""
_MAKE_CHANGED_DUE = """
UPDATE work SET due_at = min(work.due_at, ?1), lane = '', target = NULL
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS target FROM json_each(?2)
) AS j
WHERE work.id = j.id AND work.target = j.target AND work.owner IS NULL AND work.dead_at IS NULL
RETURNING work.id
"""
_RETRIED = """
SELECT json_group_array(id) FROM work
WHERE due_at > ?1 AND lane = ?2 AND target IS NOT NULL AND owner IS NULL AND dead_at IS NULL
"""
_RELEASE = """
  due_at = CASE WHEN wanted IS NULL THEN :due_at ELSE :now END, lane = coalesce(:lane, lane),
  error = CASE WHEN :reason = '' THEN error ELSE :reason END,
  target = CASE WHEN :due_at > :now THEN NULL ELSE coalesce(:target, target) END
WHERE id IN (SELECT value FROM json_each(:ids)) AND owner = :owner AND dead_at IS NULL
"""
_FREE_OTHERS = """
  due_at = min(due_at, :now)
WHERE owner IS NOT NULL AND owner NOT IN (SELECT owner FROM replica)
"""
_MARK_DEAD = """
  dead_at = :now, error = :reason
WHERE id = :id AND owner = :owner AND dead_at IS NULL
"""
_DEAD_ATTEMPT = """
INSERT INTO attempt (event_id, work_id, kind, route, action, idx, run_id, first_at, replay, number, started_at, seconds,
  outcome, reason, destination, worker)
SELECT event_id, id, kind, route, action, idx, run_id, first_at, replays, attempts + 1, :now, 0.0, 'dead', :reason, '',
  owner
FROM work WHERE id = :id AND owner = :owner AND dead_at IS NULL
"""
#: Work claimed in the future was claimed before the clock was set back.
_ORPHANS = """
SELECT json_group_array(id) FROM work
WHERE owner = ? AND (leased_at < ? OR leased_at > ?) AND dead_at IS NULL
  AND id NOT IN (SELECT value FROM json_each(?))
"""
_HEARTBEAT = """
INSERT INTO replica (owner, host, pid, started_at, beat_at) VALUES (?1, ?2, ?3, ?4, ?4)
ON CONFLICT (owner) DO UPDATE SET beat_at = excluded.beat_at
"""
_CLAIMED = """
SELECT w.id, w.kind, w.event_id, w.first_at, w.due_at, w.route, w.action, w.idx, w.run_id, w.attempts, w.replays,
  w.error, w.lane, EXISTS (SELECT 1 FROM delivery_words AS d WHERE d.work_id = w.id)
FROM json_each(?) AS j JOIN work AS w ON w.id = j.value
WHERE w.owner = ? AND w.dead_at IS NULL ORDER BY j.key
"""
_EVENT = f"""
SELECT e.kind, e.rule_id, e.dedup_key, e.received_at, e.repaired, e.trace, b.encoding, b.body,
  coalesce(b.fetched_size, 0) + {SIZE.format(id="e.id")}, b.fetched_encoding, b.fetched
FROM event AS e JOIN event_body AS b ON b.event_id = e.id WHERE e.id = ?
"""  # noqa: S608 - ours


_logger = logging.getLogger(__name__)


class Head(NamedTuple):
    """A queue with waiting work: its lane and kind, and when its first work is due."""

    lane: str
    kind: WorkKind
    due_at: float


def queue_heads(db: Database) -> list[Head]:
    """The queues with waiting work."""
    return [Head(*head) for head in load_json(db.execute(_QUEUE_HEADS).fetchone()[0]) if head[2] is not None]


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """Limits for loading an event: a body with more values is not parsed; fetched data with more bytes is left out."""

    max_values: int
    max_fetched: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Claimed work after loading: usable, unreadable for ever, or waiting for a key; the last two with reasons."""

    claimed: list[Claimed] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    missing_key: dict[str, str] = field(default_factory=dict)


def load_claimed(db: Database, *, owner: str, ids: Sequence[str], limits: LoadLimits) -> Loaded:
    """Load claimed work with its events, in the order of the ids.

    Each event and each delivery's variables are read by a statement of their own, so that damaged data affects only
    the work that needs it.
    """
    loaded = Loaded()
    events = _Events(db, limits)
    items = load_items(db, ids)
    for *known, has_variables in db.execute(_CLAIMED, (ids_json(ids), owner)).fetchall():
        work, broken = Work(*known), ""
        try:
            try:
                work = replace(work, variables=load_variables(db, work.id) if has_variables else None)
            except ValueError as error:
                broken = f"its template variables are damaged: {error}"
            digest_items = events.items(work.id, items.get(work.id, ()))
            found = digest_items[0] if digest_items else events.get(work.event_id)
            if isinstance(found, str):
                loaded.unreadable[work.id] = found
            else:
                loaded.claimed.append(
                    Claimed(work, found.event, found.fetched, digest_items, broken, found.fetched_size)
                )
        except MissingKey as error:
            loaded.missing_key[work.id] = str(error)
    return loaded


class _Events:
    """The events of one claim, each read once."""

    def __init__(self, db: Database, limits: LoadLimits) -> None:
        self._db, self._limits = db, limits
        self._read: dict[str, Item | str] = {}

    def get(self, event_id: str) -> Item | str:
        """An event with its fetched data, or why it cannot be loaded."""
        if event_id not in self._read:
            self._read[event_id] = _load_event(self._db, event_id, self._limits)
        return self._read[event_id]

    def items(self, delivery_id: str, rows: Iterable[ItemRow]) -> list[Item]:
        """The items of a digest. A damaged item is left out, so that the others are still sent."""
        items = []
        for row in rows:
            found = self.get(row.event_id)
            if isinstance(found, str):
                details = {"delivery": delivery_id, "event": row.event_id, "reason": found}
                _logger.error("an item of a digest is left out", extra=details)
            else:
                items.append(replace(found, index=row.index))
        return items


def _load_event(db: Database, event_id: str, limits: LoadLimits) -> Item | str:
    """An event with its fetched data, or why it can never be loaded."""
    try:
        with damage_as_value_error():
            row = db.execute(_EVENT, (event_id,)).fetchone()
            if row is None:
                return "the event's body is no longer kept"
            *columns, size, encoding, data = row
            fetched = load_fetched(db, event_id, encoding, data) if size <= limits.max_fetched else None
            return Item(
                _event(db, event_id, columns, limits.max_values), -1, fetched, size_of(fetched) if fetched else 0
            )
    except (BadBody, ValueError) as error:
        return str(error)


def _event(db: Database, event_id: str, columns: Sequence[Any], max_values: int) -> Event:
    kind, rule_id, dedup_key, received_at, repaired, trace, encoding, data = columns
    body = unpack(encoding, data, db.keyring, f"event_body.body:{event_id}")
    return restored_event(
        event_id,
        kind,
        rule_id,
        dedup_key,
        received_at,
        body,
        repaired=bool(repaired),
        trace=trace or "",
        max_values=max_values,
    )


def release(
    owner: str,
    db: Database,
    *,
    ids: Sequence[str],
    due_at: float,
    now: float,
    lane: str | None = None,
    reason: str = "",
    uncounted: float = 0.0,
    until: float | None = None,
    target: str | None = None,
) -> None:
    """Make the owner's work due, as if it had not been claimed.

    Work that is due later loses its target, because it waits for something other than its destination.
    """
    given = {"ids": ids_json(ids), "owner": owner, "lane": clean_or_none(lane), "reason": clean_reason(reason)}
    when = {"now": now, "due_at": due_at, "uncounted": uncounted, "until": until}
    _give_back(db, _RELEASE, {**when, "target": target, **given})


def put_off(db: Database, waits_for: str, now: float) -> list[str]:
    """The ids of work postponed beyond ``now`` whose reason begins with ``waits_for``."""
    ids: list[str] = load_json(db.execute(_PUT_OFF, (now, len(waits_for), waits_for)).fetchone()[0])
    return ids


def make_due(db: Database, *, ids: Sequence[str], now: float) -> None:
    """Make work due that is still postponed."""
    db.execute(_MAKE_DUE, (now, ids_json(ids)))


def changed(db: Database, targets: Sequence[tuple[str, str, Sequence[str]]]) -> list[tuple[str, str, str]]:
    """Waiting work whose target is not a current target of its route and action: id, target and lane."""
    rows = db.execute(_CHANGED, (dump_json(targets).decode(),)).fetchone()
    return [(work_id, target, lane) for work_id, target, lane in load_json(rows[0])]


def make_changed_due(db: Database, *, found: Sequence[tuple[str, str, str]], now: float) -> list[str]:
    """Make that work due in no lane, unless it changed meanwhile. Returns the lanes it was in."""
    rows = db.execute(_MAKE_CHANGED_DUE, (now, dump_json(found).decode())).fetchall()
    lanes = {work_id: lane for work_id, _, lane in found}
    return [lanes[work_id] for (work_id,) in rows]


def retried(db: Database, lane: str, now: float) -> list[str]:
    """The ids of work that waits for another attempt in a lane."""
    ids: list[str] = load_json(db.execute(_RETRIED, (now, clean(lane))).fetchone()[0])
    return ids


def mark_dead(owner: str, db: Database, *, reasons: Mapping[str, str], now: float) -> None:
    """Mark claimed work dead that cannot be attempted, and record an attempt with the reason."""
    for work_id, reason in reasons.items():
        given = {"now": now, "reason": clean_reason(reason), "id": work_id, "owner": owner}
        db.execute(_DEAD_ATTEMPT, given)
        _give_back(db, _MARK_DEAD, given)
    free_throttles(db, list(reasons), now=now)


def register(owner: str, db: Database, *, now: float) -> None:
    """Register as the only replica (the caller holds the lock), and release the work of earlier ones."""
    db.execute("DELETE FROM replica")
    db.execute("UPDATE lane SET look_at = 0")  # which destinations are paused is not known yet
    _give_back(db, _FREE_OTHERS, {"now": now})
    heartbeat(owner, db, now=now, holding=None)


def heartbeat(owner: str, db: Database, *, now: float, holding: Collection[str] | None) -> list[str]:
    """Record that the owner is alive, and release its orphaned work. Returns the ids of that work.

    Other replicas need no check: the lock ensures that there are none.
    """
    db.execute(_HEARTBEAT, (owner, socket.gethostname(), os.getpid(), now))
    if holding is None:
        return []
    edges = (now - ORPHANED_AFTER, now + ORPHANED_AFTER)
    found = db.execute(_ORPHANS, (owner, *edges, ids_json(holding))).fetchone()
    orphans: list[str] = load_json(found[0])
    if orphans:
        release(owner, db, ids=orphans, due_at=now, now=now)
    return orphans


def unregister(owner: str, db: Database, *, now: float) -> None:
    """Remove the owner from the replicas, and release its work."""
    db.execute("DELETE FROM replica WHERE owner = ?", (owner,))
    _give_back(db, _FREE_OTHERS, {"now": now})


def _give_back(db: Database, which: str, values: Mapping[str, Any]) -> None:
    db.execute(",".join([_GIVE_BACK, which]), {"uncounted": 0.0, "until": None, **values})

"""Ownership of work: release and heartbeat; and making postponed work due.

The functions that return what is to change run on a reader, the others in the writer's transaction.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from engine.store.packing import clean, clean_or_none, clean_reason, dump_json, ids_json
from engine.store.protocol import ORPHANED_AFTER
from engine.store.sqlite.connection import Database
from engine.store.sqlite.windows import free_throttles
from engine.store.sqlite.writer import rows_of

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
_FREE_ALL = """
  due_at = min(due_at, :now)
WHERE owner IS NOT NULL
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


def release(
    db: Database,
    owner: str,
    ids: Sequence[str],
    *,
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
    return rows_of(db, _PUT_OFF, (now, len(waits_for), waits_for))


def make_due(db: Database, *, ids: Sequence[str], now: float) -> None:
    """Make work due that is still postponed."""
    db.execute(_MAKE_DUE, (now, ids_json(ids)))


def changed(db: Database, targets: Sequence[tuple[str, str, Sequence[str]]]) -> list[tuple[str, str, str]]:
    """Waiting work whose target is not a current target of its route and action: id, target and lane."""
    return rows_of(db, _CHANGED, (dump_json(targets).decode(),))


def make_changed_due(db: Database, *, found: Sequence[tuple[str, str, str]], now: float) -> list[str]:
    """Make that work due in no lane, unless it changed meanwhile. Returns the lanes it was in."""
    rows = db.execute(_MAKE_CHANGED_DUE, (now, dump_json(found).decode())).fetchall()
    lanes = {work_id: lane for work_id, _, lane in found}
    return [lanes[work_id] for (work_id,) in rows]


def retried(db: Database, lane: str, now: float) -> list[str]:
    """The ids of work that waits for another attempt in a lane."""
    return rows_of(db, _RETRIED, (now, clean(lane)))


def mark_dead(db: Database, owner: str, *, reasons: Mapping[str, str], now: float) -> None:
    """Mark claimed work dead that cannot be attempted, and record an attempt with the reason."""
    for work_id, reason in reasons.items():
        given = {"now": now, "reason": clean_reason(reason), "id": work_id, "owner": owner}
        db.execute(_DEAD_ATTEMPT, given)
        _give_back(db, _MARK_DEAD, given)
    free_throttles(db, list(reasons), now=now)


def register(db: Database, owner: str, *, now: float) -> None:
    """Register as the only replica (the caller holds the lock), and release the work of earlier ones."""
    unregister(db, now=now)
    db.execute("UPDATE lane SET look_at = 0")  # which destinations are paused is not known yet
    heartbeat(db, owner, now=now, holding=None)


def heartbeat(db: Database, owner: str, *, now: float, holding: Collection[str] | None) -> list[str]:
    """Record that the owner is alive, and release its orphaned work. Returns the ids of that work.

    Other replicas need no check: the lock ensures that there are none.
    """
    db.execute(_HEARTBEAT, (owner, socket.gethostname(), os.getpid(), now))
    if holding is None:
        return []
    edges = (now - ORPHANED_AFTER, now + ORPHANED_AFTER)
    orphans = rows_of(db, _ORPHANS, (owner, *edges, ids_json(holding)))
    if orphans:
        release(db, owner, orphans, due_at=now, now=now)
    return orphans


def unregister(db: Database, *, now: float) -> None:
    """Remove this and all earlier replicas (the lock ensures that no other runs), and release their work."""
    db.execute("DELETE FROM replica")
    _give_back(db, _FREE_ALL, {"now": now})


def _give_back(db: Database, which: str, values: Mapping[str, Any]) -> None:
    db.execute(",".join([_GIVE_BACK, which]), {"uncounted": 0.0, "until": None, **values})

"""The quieter verbs that write: claim, release, signs of life, replay, prune. Each runs in the writer's transaction."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from engine.store.packing import clean, clean_reason, dump_json, ids_json, load_json, pack
from engine.store.protocol import DeliveryQuery, DeliveryRow
from engine.store.sqlite_deliveries import list_deliveries
from engine.store.sqlite_settle import WORK

_DUE_IDS = """
SELECT json_group_array(id) FROM (
  SELECT id FROM work WHERE owner IS NULL AND dead_at IS NULL AND due_at <= ? ORDER BY due_at LIMIT ?
)
"""
_TAKE = "UPDATE work SET owner = ? WHERE id IN (SELECT value FROM json_each(?))"
_RELEASE = """
UPDATE work SET owner = NULL, due_at = ?
WHERE id IN (SELECT value FROM json_each(?)) AND owner = ? AND dead_at IS NULL
"""
_FREE_OTHERS = """
UPDATE work SET owner = NULL, due_at = min(due_at, ?)
WHERE owner IS NOT NULL AND owner NOT IN (SELECT owner FROM replica)
"""
_BEAT = """
INSERT INTO replica (owner, host, pid, started_at, beat_at) VALUES (?1, ?2, ?3, ?4, ?4)
ON CONFLICT (owner) DO UPDATE SET beat_at = excluded.beat_at
"""
_BURY = """
UPDATE work SET owner = NULL, dead_at = ?, error = ?
WHERE id = ? AND owner = ? AND dead_at IS NULL
"""
_REVIVE = """
UPDATE work SET owner = NULL, dead_at = NULL, attempts = 0, replays = replays + 1, first_at = ?1, due_at = ?1
WHERE id IN (SELECT value FROM json_each(?2))
"""
_SAVE_FETCHED = "UPDATE event_body SET fetched_encoding = ?, fetched = ? WHERE event_id = ?"
_WITH_BODY = """
SELECT json_group_array(event_id) FROM event_body WHERE event_id IN (SELECT value FROM json_each(?))
"""
#: The evaluation's next replay is beyond any its deliveries have had, so that all of them fire again.
_EVALUATIONS = """
SELECT json_group_array(json_array(
  j.value, w.id IS NOT NULL, w.owner IS NOT NULL, 1 + max(
    coalesce((SELECT max(replays) FROM decision WHERE event_id = j.value), 0),
    coalesce((SELECT max(replays) FROM work WHERE event_id = j.value), 0),
    coalesce((SELECT max(replay) FROM attempt WHERE event_id = j.value), 0)
  )
))
FROM json_each(?) AS j
JOIN event_body AS b ON b.event_id = j.value
LEFT JOIN work AS w ON w.id = j.value
"""
_PRUNABLE = """
SELECT json_group_array(id) FROM (
  SELECT e.id FROM event AS e
  WHERE e.received_at < ? AND NOT EXISTS (SELECT 1 FROM work AS w WHERE w.event_id = e.id)
  ORDER BY e.received_at LIMIT ?
)
"""
_PRUNE = (
    "DELETE FROM attempt WHERE event_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM decision WHERE event_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM event_body WHERE event_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM event WHERE id IN (SELECT value FROM json_each(?))",
)


def claim(owner: str, db: sqlite3.Connection, *, now: float, limit: int) -> list[str]:
    """Take the oldest due work; its ids, oldest first."""
    ids: list[str] = load_json(db.execute(_DUE_IDS, (now, max(limit, 0))).fetchone()[0])
    if ids:
        db.execute(_TAKE, (owner, ids_json(ids)))
    return ids


def release(owner: str, db: sqlite3.Connection, *, ids: Sequence[str], due_at: float) -> None:
    """Make work of the owner's due, as if it had not been taken."""
    db.execute(_RELEASE, (due_at, ids_json(ids), owner))


def bury(owner: str, db: sqlite3.Connection, *, reasons: Mapping[str, str], now: float) -> None:
    """Declare claimed work dead that can't even be begun."""
    for work_id, reason in reasons.items():
        db.execute(_BURY, (now, clean_reason(reason), work_id, owner))


def arrive(owner: str, db: sqlite3.Connection, *, now: float) -> None:
    """Be the one replica there is (the caller holds the lock), and make due whatever others held."""
    db.execute("DELETE FROM replica")
    db.execute(_FREE_OTHERS, (now,))
    beat(owner, db, now=now)


def beat(owner: str, db: sqlite3.Connection, *, now: float) -> None:
    """Write down that the owner lives. Nobody else can: the lock sees to that."""
    db.execute(_BEAT, (owner, socket.gethostname(), os.getpid(), now))


def leave(owner: str, db: sqlite3.Connection, *, now: float) -> None:
    """Give back what the owner still holds, and be gone."""
    db.execute("DELETE FROM replica WHERE owner = ?", (owner,))
    db.execute(_FREE_OTHERS, (now,))


def save_fetched(db: sqlite3.Connection, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[None]:
    """Keep with each event what hydration fetched, in place of what was kept before."""
    for event_id, fetched in requests:
        db.execute(_SAVE_FETCHED, (*pack(dump_json(fetched)), event_id))
    return [None] * len(requests)


def replay_deliveries(db: sqlite3.Connection, *, query: DeliveryQuery, now: float, dry_run: bool) -> list[str]:
    """Make deliveries due again that are not running and whose event still has its body."""
    rows = [row for row in list_deliveries(db, query) if row.state != "running"]
    kept = set(load_json(db.execute(_WITH_BODY, (ids_json(row.event_id for row in rows),)).fetchone()[0]))
    rows = [row for row in rows if row.event_id in kept]
    if not dry_run:
        WORK.run(db, [_again(row, now) for row in rows if row.state == "succeeded"])
        db.execute(_REVIVE, (now, ids_json(row.id for row in rows if row.state != "succeeded")))
    return [row.id for row in rows]


def _again(row: DeliveryRow, now: float) -> tuple[Any, ...]:
    place = (row.id, "deliver", row.event_id, row.route, row.action, row.index, row.run_id)
    return (*place, now, now, 0, row.replays + 1, None, None)


def replay_events(db: sqlite3.Connection, *, ids: Sequence[str], now: float, dry_run: bool) -> list[str]:
    """Make events due for evaluation again, but for those that are being evaluated right now."""
    wanted = list(dict.fromkeys(clean(event_id) for event_id in ids))
    rows = load_json(db.execute(_EVALUATIONS, (ids_json(wanted),)).fetchone()[0])
    free = {event_id: (exists, replays) for event_id, exists, running, replays in rows if not running}
    if not dry_run:
        waiting = [event_id for event_id, (exists, _) in free.items() if exists]
        db.execute("DELETE FROM work WHERE id IN (SELECT value FROM json_each(?))", (ids_json(waiting),))
        WORK.run(db, [_evaluation(event_id, replays, now) for event_id, (_, replays) in free.items()])
    return [event_id for event_id in wanted if event_id in free]


def _evaluation(event_id: str, replays: int, now: float) -> tuple[Any, ...]:
    return (event_id, "evaluate", event_id, "", "", -1, None, now, now, 0, replays, None, None)


def prune(db: sqlite3.Connection, *, before: float, limit: int) -> int:
    """Delete whole events, oldest first, of which nothing is open or dead."""
    ids = load_json(db.execute(_PRUNABLE, (before, max(limit, 0))).fetchone()[0])
    for statement in _PRUNE if ids else ():
        db.execute(statement, (ids_json(ids),))
    return len(ids)

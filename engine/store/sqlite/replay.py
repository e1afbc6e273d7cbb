"""Replaying work, and discarding dead work. Every function but ``replayable`` runs in the writer's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from engine.store.packing import clean, ids_json, work_row
from engine.store.queries import DeliveryQuery, DeliveryRow
from engine.store.records import Work
from engine.store.sqlite.connection import Database
from engine.store.sqlite.query_deliveries import list_deliveries
from engine.store.sqlite.settle import WORK
from engine.store.sqlite.writer import rows_of

_REVIVE = """
UPDATE work SET dead_at = NULL, attempts = 0, replays = replays + 1, first_at = ?1, due_at = ?1, until_at = ?1
WHERE id IN (SELECT value FROM json_each(?2))
"""
_WITH_BODY = """
SELECT json_group_array(event_id) FROM event_body WHERE event_id IN (SELECT value FROM json_each(?))
"""
#: A digest with a missing item would be sent incomplete.
_INCOMPLETE = """
SELECT json_group_array(DISTINCT i.delivery_id) FROM digest_item AS i
WHERE i.delivery_id IN (SELECT value FROM json_each(?))
  AND NOT EXISTS (SELECT 1 FROM event_body AS b WHERE b.event_id = i.event_id)
"""
#: The evaluation's next replay number is greater than that of any of its deliveries, so that all of them run again.
_EVALUATIONS = """
SELECT json_group_array(json_array(
  j.value, w.id IS NOT NULL, w.owner IS NOT NULL, 1 + max(
    coalesce((SELECT max(replays) FROM decision WHERE event_id = j.value), 0),
    coalesce((SELECT max(coalesce(wanted, replays)) FROM work WHERE event_id = j.value), 0),
    coalesce((SELECT max(replay) FROM attempt WHERE event_id = j.value), 0)
  )
))
FROM json_each(?) AS j
JOIN event_body AS b ON b.event_id = j.value
LEFT JOIN work AS w ON w.id = j.value
"""


_DEAD = "SELECT json_group_array(id) FROM work WHERE id IN (SELECT value FROM json_each(?)) AND dead_at IS NOT NULL"
_DISCARDED_ATTEMPT = """
INSERT INTO attempt (event_id, work_id, kind, route, action, idx, run_id, first_at, replay, number, started_at, seconds,
  outcome, reason, destination, worker)
SELECT event_id, id, kind, route, action, idx, run_id, first_at, replays, attempts, :now, 0.0, 'discarded',
  :reason || coalesce('; it was dead: ' || nullif(error, ''), ''), '', :by
FROM work WHERE id IN (SELECT value FROM json_each(:ids))
"""
_DELETE = "DELETE FROM work WHERE id IN (SELECT value FROM json_each(?))"


def discard(db: Database, *, ids: Sequence[str], now: float, by: str, reason: str) -> list[str]:
    """Discard dead deliveries and evaluations. Their history records who did it and why."""
    dead = set(rows_of(db, _DEAD, (ids_json(map(clean, ids)),)))
    message = f"discarded by {clean(by)}" + (f": {clean(reason)}" if reason else "")
    db.execute(_DISCARDED_ATTEMPT, {"ids": ids_json(dead), "now": now, "reason": message, "by": clean(by)})
    db.execute(_DELETE, (ids_json(dead),))
    return [one for one in dict.fromkeys(map(clean, ids)) if one in dead]


def replayable(db: Database, query: DeliveryQuery) -> tuple[list[str], str | None]:
    """Deliveries of a page that are not running and whose events have bodies; and the last id if the page was full."""
    rows = list_deliveries(db, query)
    last = rows[-1].id if len(rows) >= max(query.limit, 1) else None
    return [row.id for row in _with_bodies(db, rows)], last


def _with_bodies(db: Database, rows: Sequence[DeliveryRow]) -> list[DeliveryRow]:
    rows = [row for row in rows if row.state != "running"]
    kept = set(rows_of(db, _WITH_BODY, (ids_json(row.event_id for row in rows),)))
    incomplete = set(rows_of(db, _INCOMPLETE, (ids_json(row.id for row in rows),)))
    return [row for row in rows if row.event_id in kept and row.id not in incomplete]


def replay_deliveries(db: Database, *, query: DeliveryQuery, now: float) -> list[str]:
    """Make the deliveries of a query due again, if they can still be replayed."""
    rows = _with_bodies(db, list_deliveries(db, query))
    ended = ("succeeded", "discarded")
    WORK.run(db, [work_row(_again(row, now)) for row in rows if row.state in ended])
    db.execute(_REVIVE, (now, ids_json(row.id for row in rows if row.state not in ended)))
    return [row.id for row in rows]


def _again(row: DeliveryRow, now: float) -> Work:
    place = (row.route, row.action, row.index, row.run_id)
    return Work(row.id, "deliver", row.event_id, now, now, *place, replays=row.replays + 1)


def replay_events(db: Database, *, ids: Sequence[str], now: float, dry_run: bool) -> list[str]:
    """Make events due for evaluation again, except those that are being evaluated now."""
    wanted = list(dict.fromkeys(clean(event_id) for event_id in ids))
    rows = rows_of(db, _EVALUATIONS, (ids_json(wanted),))
    free = {event_id: (exists, replays) for event_id, exists, running, replays in rows if not running}
    if not dry_run:
        waiting = [event_id for event_id, (exists, _) in free.items() if exists]
        db.execute("DELETE FROM work WHERE id IN (SELECT value FROM json_each(?))", (ids_json(waiting),))
        again = [Work(one, "evaluate", one, now, now, replays=replays) for one, (_, replays) in free.items()]
        WORK.run(db, [work_row(one) for one in again])
    return [event_id for event_id in wanted if event_id in free]

"""Pruning in steps. A reader finds what may be deleted; the writer only deletes it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from engine.core.event import event_ids_since
from engine.store.packing import ids_json
from engine.store.queries import Prunable, Size
from engine.store.sqlite import named_values
from engine.store.sqlite.connection import LOG_BYTES, Database, log_of
from engine.store.sqlite.writer import rows_of

#: An event may be deleted if it has no waiting or dead work, is not an item of such a digest, and nothing happened
#: since ``before`` to it or to a digest it is an item of. So all items of a digest are kept equally long.
_IDLE = """
e.received_at < :before
AND NOT EXISTS (SELECT 1 FROM work AS w WHERE w.event_id = e.id)
AND NOT EXISTS (SELECT 1 FROM digest_item AS i JOIN work AS w ON w.id = i.delivery_id WHERE i.event_id = e.id)
AND NOT EXISTS (SELECT 1 FROM attempt AS a WHERE a.event_id = e.id AND a.started_at >= :before)
AND NOT EXISTS (
  SELECT 1 FROM digest_item AS i JOIN attempt AS a ON a.work_id = i.delivery_id
  WHERE i.event_id = e.id AND a.started_at >= :before
)
AND NOT EXISTS (SELECT 1 FROM decision AS d WHERE d.event_id = e.id AND d.decided_at >= :before)
"""
_NEVER_MATCHED = """
AND NOT EXISTS (SELECT 1 FROM decision AS d WHERE d.event_id = e.id AND (d.matched > 0 OR d.fallback > 0))
"""
_HAS_DIED = "EXISTS (SELECT 1 FROM work AS w WHERE w.event_id = e.id AND w.dead_at < :before)"
_MAY_GO = {"dead": _HAS_DIED, "unmatched": _IDLE + _NEVER_MATCHED, "bodies": _IDLE, "events": _IDLE}
#: Which events to look at, selected through an index.
_LOOKED_AT = {
    "dead": "SELECT DISTINCT event_id AS id FROM work WHERE dead_at IS NOT NULL AND event_id",
    "unmatched": "SELECT DISTINCT event_id AS id FROM decision WHERE unmatched_reason IS NOT NULL AND event_id",
    "bodies": "SELECT event_id AS id FROM event_body WHERE event_id",
    "events": "SELECT id FROM event WHERE id",
}
#: Ids are ordered by time, so events that are too young are not looked at.
_FIND = """
WITH looked AS ({looked_at} BETWEEN :after AND :edge AND {column} > :after ORDER BY 1 LIMIT :limit)
SELECT json_group_array(json_array(j.id, {may_go}, coalesce(length(b.body), 0) + coalesce(length(b.fetched), 0)
  + coalesce((SELECT sum(length(data)) FROM fetched WHERE event_id = j.id), 0)))
FROM looked AS j JOIN event AS e ON e.id = j.id LEFT JOIN event_body AS b ON b.event_id = j.id
"""
_STILL = "SELECT json_group_array(e.id) FROM json_each(:ids) AS j JOIN event AS e ON e.id = j.value WHERE {may_go}"
_DIED = """
SELECT json_group_array(id) FROM (
  SELECT id FROM work WHERE event_id IN (SELECT value FROM json_each(:ids)) AND dead_at < :before LIMIT :limit
)
"""
#: The tables in which an event may have very many rows, each with its key.
_MANY = {
    "attempt": "seq",
    "decision": "seq",
    "delivery_words": "work_id",
    "digest_item": "(delivery_id, item_id)",
    "fetched": "rowid",
}
_SOME = """
DELETE FROM {table} WHERE {key} IN (
  SELECT {columns} FROM {table} WHERE event_id IN (SELECT value FROM json_each(:ids)) LIMIT :limit
)
"""
#: The tables from which the rest is deleted, each with the column of the ids. The rows of the last one are counted.
_DELETED_FROM = {
    "dead": {"digest_item": "delivery_id", "delivery_words": "work_id", "work": "id"},
    "unmatched": {"event_body": "event_id", "event": "id"},
    "bodies": {"fetched": "event_id", "event_body": "event_id"},
    "events": {"event_body": "event_id", "event": "id"},
}
_DELETE = "DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))"
#: How much longer a throttle's window with suppressed deliveries is kept, in seconds, because the next delivery reports
#: them. It is deleted then: keys come from events, most never occur again, and their windows would fill the store.
_UNTOLD = 30 * 86400.0
_CLOSED = "closes_at < :before AND (purpose <> 'throttle' OR count = 0 OR closes_at < :before - :untold)"
_FIND_WINDOWS = f"""
SELECT json_group_array(json_array(purpose, route, action, group_key)) FROM (
  SELECT purpose, route, action, group_key FROM window WHERE {_CLOSED} LIMIT :limit
)
"""  # noqa: S608 - ours
_WINDOWS = f"""
DELETE FROM window WHERE (purpose, route, action, group_key) IN (
  SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]') FROM json_each(:keys)
) AND {_CLOSED}
"""  # noqa: S608 - ours
_CONTROLS = """
DELETE FROM control WHERE (kind, subject) IN (SELECT kind, subject FROM control WHERE until_at < :before LIMIT :limit)
"""


def find(
    db: Database, *, what: Prunable, before: float, after: str, limit: int, max_bytes: int
) -> tuple[list[str], str, bool]:
    """The next events after an id that can be pruned, up to ``max_bytes``; the first may be larger.

    Also returns the last event that was looked at, and whether there are more.
    """
    column = "id" if what == "events" else "event_id"
    statement = _FIND.format(looked_at=_LOOKED_AT[what], column=column, may_go=_MAY_GO[what])
    values = {"before": before, "after": after, "edge": event_ids_since(before), "limit": limit}
    looked = rows_of(db, statement, values)
    ids: list[str] = []
    total, last = 0, after
    for event_id, may_go, size in looked:
        total += size if may_go else 0
        if ids and total > max_bytes:
            return ids, last, True
        ids += [event_id] if may_go else []
        last = event_id
    return ids, last, len(looked) >= limit


def remove(db: Database, *, what: Prunable, ids: Sequence[str], before: float, limit: int) -> tuple[int, bool]:
    """Delete what was found, if it may still be deleted. Returns how many, and whether nothing remains."""
    still = _STILL.format(may_go=_MAY_GO[what])
    ids = rows_of(db, still, {"ids": ids_json(ids), "before": before})
    if what == "dead":
        ids = rows_of(db, _DIED, {"ids": ids_json(ids), "before": before, "limit": limit})
    elif what != "bodies" and not _remove_rows(db, ids, limit):
        return 0, False
    deleted_from = _DELETED_FROM[what].items()
    counts = [
        db.execute(_DELETE.format(table=table, key=key), (ids_json(ids),)).rowcount for table, key in deleted_from
    ]
    return counts[-1], what != "dead" or len(ids) < limit


def _remove_rows(db: Database, ids: Sequence[str], limit: int) -> bool:
    """Delete up to ``limit`` rows of events from the tables in which they may have many. Whether that was less."""
    for table, key in _MANY.items():
        statement = _SOME.format(table=table, key=key, columns=key.strip("()"))
        limit -= db.execute(statement, {"ids": ids_json(ids), "limit": max(limit, 0)}).rowcount
    return limit > 0


def find_windows(db: Database, *, before: float, limit: int) -> str:
    """The keys, as JSON, of windows that closed before a time and have nothing to report."""
    keys: str = db.execute(_FIND_WINDOWS, {"before": before, "untold": _UNTOLD, "limit": limit}).fetchone()[0]
    return keys


def remove_marks(db: Database, *, before: float, windows: str, limit: int) -> tuple[int, bool]:
    """Delete the windows found, if they may still be deleted, and expired mutes, pauses and unused threads."""
    closed = db.execute(_WINDOWS, {"keys": windows, "before": before, "untold": _UNTOLD}).rowcount
    expired = db.execute(_CONTROLS, {"before": before, "limit": limit}).rowcount
    unused = named_values.remove_old_threads(db, before=before, limit=limit)
    return closed + expired + unused, max(closed, expired, unused) < limit


def size(db: Database, path: Path) -> Size:
    """The size of the file and its log, and the free space of the disk."""
    page, pages, free = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    log, disk = log_of(path), shutil.disk_usage(path.parent)
    excess = max(log.stat().st_size - LOG_BYTES, 0) if log.exists() else 0
    return Size(page * (pages - free) + excess, page * free, disk.free, disk.total)


def shrink(db: Database, *, max_bytes: int) -> int:
    """Move free pages to the file's end and truncate the file. Returns by how many bytes.

    Has no effect on files created by older versions, which have no incremental vacuum.
    """
    (size,), (before,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count"))
    # The pragma does its work while its rows are fetched.
    db.execute(f"PRAGMA incremental_vacuum({max_bytes // size:d})").fetchall()
    return int(size * (before - db.execute("PRAGMA page_count").fetchone()[0]))

"""Loading and writing the windows of throttles and digests for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from engine.store.packing import ITEM_COLUMNS, dump_json, ids_json, item_row, load_json
from engine.store.records import Digest, Routed
from engine.store.sqlite.connection import Database
from engine.store.sqlite.fetched import SIZE
from engine.store.sqlite.writer import Insert, rows_of
from engine.store.windows import Gates, Window, WindowKey, window_key

_WINDOWS = """
SELECT json_group_array(json_array(w.purpose, w.route, w.action, w.group_key, w.opened_at, w.closes_at, w.count,
  w.holder, w.bytes))
FROM json_each(?) AS j JOIN window AS w ON w.purpose = json_extract(j.value, '$[0]')
  AND w.route = json_extract(j.value, '$[1]') AND w.action = json_extract(j.value, '$[2]')
  AND w.group_key = json_extract(j.value, '$[3]')
"""
_SIZES = f"""
SELECT json_group_object(e.id, e.size + coalesce(b.fetched_size, 0) + {SIZE.format(id="e.id")})
FROM event AS e LEFT JOIN event_body AS b ON b.event_id = e.id WHERE e.id IN (SELECT value FROM json_each(?))
"""  # noqa: S608 - ours
#: A digest that is due or has been attempted accepts no more items, because its items may have been read already.
_COLLECTING = """
SELECT json_group_array(id) FROM work
WHERE id IN (SELECT value FROM json_each(?)) AND owner IS NULL AND dead_at IS NULL AND attempts = 0 AND due_at > ?
"""
_PUT = """
INSERT OR REPLACE INTO window (purpose, route, action, group_key, opened_at, closes_at, count, holder, bytes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ITEMS = Insert("digest_item", ITEM_COLUMNS, "INSERT OR REPLACE")
_REMOVE = "DELETE FROM window WHERE purpose = ? AND route = ? AND action = ? AND group_key = ?"
_MAKE_DUE = "UPDATE work SET due_at = ? WHERE id IN (SELECT value FROM json_each(?))"
_GIVE_BACK = """
UPDATE window SET closes_at = min(closes_at, ?1), holder = NULL
WHERE purpose = 'throttle' AND holder IN (SELECT value FROM json_each(?2))
"""
#: Adds the suppressed deliveries that these were to report to the current window, because their own window may be over
#: or deleted. Deliveries that succeeded once have reported them.
_REPORT_LATER = """
INSERT INTO window (purpose, route, action, group_key, opened_at, closes_at, count)
SELECT 'throttle', w.route, w.action, d.group_key, min(w.first_at), ?1, sum(d.told)
FROM delivery_words AS d JOIN work AS w ON w.id = d.work_id
WHERE d.work_id IN (SELECT value FROM json_each(?2)) AND d.told > 0
  AND NOT EXISTS (SELECT 1 FROM attempt AS a WHERE a.work_id = d.work_id AND a.outcome = 'succeeded')
GROUP BY w.route, w.action, d.group_key
ON CONFLICT (purpose, route, action, group_key) DO UPDATE SET count = window.count + excluded.count
"""
_REPORT_NOTHING = "UPDATE delivery_words SET told = 0 WHERE work_id IN (SELECT value FROM json_each(?)) AND told > 0"


def load_gates(db: Database, requests: Sequence[Routed], *, now: float) -> Gates:
    """Load the windows that the deliveries of a batch need, and the sizes of the events that a digest may collect."""
    met = [(work, gate) for one in requests for work in one.deliveries if (gate := one.gates.get(work.id)) is not None]
    keys = {window_key(work, gate) for work, gate in met}
    rows = rows_of(db, _WINDOWS, (dump_json([list(key) for key in keys]).decode(),))
    windows = {WindowKey(*row[:4]): Window(*row[4:]) for row in rows}
    holders = [window.holder for key, window in windows.items() if key.purpose == "digest" and window.holder]
    collecting = rows_of(db, _COLLECTING, (ids_json(holders), now))
    events = {work.event_id for work, gate in met if isinstance(gate, Digest)}
    return Gates(now, windows, collecting, load_json(db.execute(_SIZES, (ids_json(events),)).fetchone()[0]))


def write_gates(db: Database, gates: Gates, *, now: float) -> None:
    """Write the changed windows and items. The digests themselves are inserted before."""
    for key, window in gates.changed.items():
        if window is None:
            db.execute(_REMOVE, key)
        else:
            db.execute(_PUT, (*key, *astuple(window)))
    _ITEMS.run(db, [item_row(delivery_id, work, now) for delivery_id, work in gates.items])
    if gates.full:
        db.execute(_MAKE_DUE, (now, ids_json(gates.full)))


def free_throttles(db: Database, ids: Sequence[str], *, now: float) -> None:
    """Free the throttle slots of dead deliveries. Suppressed deliveries stay counted and will be reported."""
    db.execute(_GIVE_BACK, (now, ids_json(ids)))
    report_later(db, ids, now=now)


def report_later(db: Database, ids: Sequence[str], *, now: float) -> None:
    """Let the next delivery report the suppressed deliveries that these were to report and did not."""
    db.execute(_REPORT_LATER, (now, ids_json(ids)))
    db.execute(_REPORT_NOTHING, (ids_json(ids),))

"""Queries of events and evaluations, and the backlog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from engine.core.decisions import held_back, is_muted
from engine.store.packing import clean, load_json, unpack
from engine.store.queries import Backlog, DeliveryQuery, DeliveryRow, EventDetail, EventQuery, EventRow
from engine.store.sqlite.connection import Database, read_or_default
from engine.store.sqlite.fetched import load_fetched
from engine.store.sqlite.query_deliveries import (
    attempts_of,
    equal_texts,
    list_deliveries,
    page_start,
    select,
    state_condition,
    unique_start,
)
from engine.store.sqlite.writer import rows_of

#: Its evaluation was discarded and has not succeeded since.
_DISCARDED = """EXISTS (
    SELECT 1 FROM attempt AS x
    WHERE x.work_id = e.id AND x.outcome = 'discarded' AND x.started_at >= coalesce(d.decided_at, 0)
  )"""
# A dead evaluation has no final decision, so it has no unmatched reason.
_EVENTS = f"""
SELECT e.id, e.kind, e.rule_id, e.received_at, e.size, e.repaired,
  CASE WHEN w.dead_at IS NOT NULL THEN 'dead' WHEN w.id IS NOT NULL THEN 'pending'
    WHEN {_DISCARDED} THEN 'discarded' ELSE 'routed' END,
  CASE WHEN w.dead_at IS NULL AND NOT {_DISCARDED} THEN d.unmatched_reason END, coalesce(d.matched, 0),
  (SELECT count(*) FROM work AS o WHERE o.event_id = e.id AND o.kind = 'deliver' AND o.dead_at IS NULL),
  (SELECT count(*) FROM work AS o WHERE o.event_id = e.id AND o.kind = 'deliver' AND o.dead_at IS NOT NULL),
  coalesce(w.error, ''), e.copies, d.fallback
FROM event AS e
LEFT JOIN work AS w ON w.id = e.id
LEFT JOIN decision AS d ON d.seq = (SELECT max(seq) FROM decision WHERE event_id = e.id)
WHERE 1
"""  # noqa: S608 - ours
#: So many events are looked at, at most, for what a mute held back.
_EVENTS_READ = 1000
#: So many attempts are read, at most, to find the destinations of the last hours.
_ATTEMPTS_READ = 10_000
#: Beside max(), SQLite's other columns are those of its row.
_LAST_ATTEMPTS = """
SELECT destination, max(seq), started_at, CASE outcome WHEN 'succeeded' THEN '' ELSE reason END
FROM (SELECT * FROM attempt ORDER BY seq DESC LIMIT ?)
WHERE kind = 'deliver' AND destination <> '' AND outcome <> 'discarded' AND started_at >= ?
GROUP BY destination
"""
_NEWEST = "\nORDER BY e.received_at DESC, e.id DESC LIMIT ?"
#: The first condition of each finds candidates through an index, the second is the actual condition.
_STATES = {
    "pending": "w.id IS NOT NULL AND w.dead_at IS NULL",
    "dead": "e.id IN (SELECT event_id FROM work WHERE dead_at IS NOT NULL AND kind = 'evaluate')",
    "routed": f"w.id IS NULL AND NOT {_DISCARDED}",
    "discarded": f"w.id IS NULL AND {_DISCARDED}",
}
_UNMATCHED = f"""
e.id IN (SELECT event_id FROM decision WHERE unmatched_reason IS NOT NULL)
AND d.unmatched_reason IS NOT NULL AND w.dead_at IS NULL AND NOT {_DISCARDED}
"""  # noqa: S608 - ours
_MATCHED = f"(d.unmatched_reason IS NULL OR w.dead_at IS NOT NULL OR {_DISCARDED})"
_TEXTS = {"kind": "e.kind = ?", "rule_id": "e.rule_id = ?", "event_id": "e.id = ?"}
_RECEIVED = "SELECT received_at FROM event WHERE id = ?"
_STARTING_WITH = "SELECT id FROM event WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 6"
_BODY = "SELECT encoding, body, fetched_encoding, fetched FROM event_body WHERE event_id = ?"
_DIGESTS = "SELECT DISTINCT delivery_id FROM digest_item WHERE event_id = ?"
_EVALUATIONS = """
SELECT seq, replays, decided_at, config_hash, matched, fallback, unmatched_reason
FROM decision WHERE event_id = ?1 AND (?2 IS NULL OR replays = ?2) ORDER BY seq
"""
_LAST_SMALL = """
SELECT seq FROM decision
WHERE seq = (SELECT max(seq) FROM decision WHERE event_id = ?) AND length(decisions) <= ?
"""
#: Lists read the decisions of an event only up to this stored size, in bytes.
_MOST_DECISIONS = 64 * 1024
_DECISIONS = "SELECT encoding, decisions FROM decision WHERE seq = ?"
# Each of these reads an index, not the table, except for claimed work, of which there is little.
_WAITING = """
SELECT kind, lane, route, count(*) FROM work INDEXED BY work_waiting
WHERE owner IS NULL AND dead_at IS NULL GROUP BY kind, lane, route
"""
_UNDER_WAY = """
SELECT kind, NULL, route, count(*) FROM work INDEXED BY work_leased
WHERE owner IS NOT NULL AND dead_at IS NULL GROUP BY kind, route
"""
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
_DEAD = "SELECT count(*) FROM work INDEXED BY work_dead WHERE dead_at IS NOT NULL"


def list_events(db: Database, query: EventQuery) -> list[EventRow]:
    """Events of a query, newest first."""
    rows = select(db, _EVENTS, _conditions(db, query), _NEWEST, query.limit)
    return [_with_held(db, _event_row(row)) for row in rows]


def _with_held(db: Database, row: EventRow) -> EventRow:
    """Add how many of its matches were held back, from its last evaluation; not if its decisions are very large."""
    found = db.execute(_LAST_SMALL, (row.id, _MOST_DECISIONS)).fetchone() if row.matched else None
    return row if found is None else replace(row, held=held_back(_decisions(db, row.id, found[0])))


def muted_events(db: Database, route: str, *, since: float) -> list[str]:
    """The ids of events, newest first, of which a mute of this route held back matches, as last decided."""
    rows = list_events(db, EventQuery(since=since, limit=_EVENTS_READ))
    return [row.id for row in rows if row.held.get("mute") and _holds(db, row.id, route)]


def _holds(db: Database, event_id: str, route: str) -> bool:
    (seq,) = db.execute(_LAST_SMALL, (event_id, _MOST_DECISIONS)).fetchone()
    return any(one.get("route") == route and is_muted(one) for one in _decisions(db, event_id, seq))


def one_event(db: Database, start: str) -> EventDetail | None:
    """The event with all details, by its id or a unique prefix of it.

    Raises:
        AmbiguousId: several ids have this prefix.
    """
    event_id = unique_start(db, _STARTING_WITH, start, "events")
    if event_id is None:
        return None
    (found,) = list_events(db, EventQuery(event_id=event_id, limit=1))
    read = partial(read_or_default, what="event_body", of=event_id)
    encoding, body, *fetched = read(lambda: db.execute(_BODY, (event_id,)).fetchone(), None) or (0, None, 0, None)
    return EventDetail(
        row=found,
        body=None
        if body is None
        else read(lambda: unpack(encoding, body, db.keyring, f"event_body.body:{event_id}"), None),
        fetched=read(lambda: load_fetched(db, event_id, *fetched), None),
        evaluations=evaluations(db, event_id),
        deliveries=_deliveries(db, event_id),
        attempts=attempts_of(db, event_id, event_id),
    )


def _deliveries(db: Database, event_id: str) -> list[DeliveryRow]:
    """An event's own deliveries, and the digests of other events that contain it."""
    own = list_deliveries(db, DeliveryQuery(event_id=event_id, limit=2**31))
    digests = [row[0] for row in db.execute(_DIGESTS, (event_id,))]
    others = list_deliveries(db, DeliveryQuery(ids=digests, limit=2**31)) if digests else []
    return [*own, *(row for row in others if row.event_id != event_id)]


def backlog(db: Database, *, now: float) -> Backlog:
    """How much work waits, and since when."""
    (dead,) = db.execute(_DEAD).fetchone()
    evaluations, by_route, lanes = 0, Counter[str](), Counter[str]()
    for kind, lane, route, count in (*db.execute(_WAITING), *db.execute(_UNDER_WAY)):
        if kind == "evaluate":
            evaluations += count
            continue
        by_route[route] += count
        if lane is not None:
            lanes[lane] += count
    heads = [head for head in rows_of(db, _QUEUE_HEADS, ()) if head[2] is not None]
    oldest = min((due_at for _, _, due_at in heads), default=None)
    upcoming = {lane: due_at for lane, kind, due_at in heads if kind == "deliver"}
    due = oldest if oldest is not None and oldest <= now else None
    unassigned = lanes.pop("", 0)
    return Backlog(evaluations, sum(by_route.values()), dead, due, by_route, lanes, unassigned, upcoming)


def last_attempts(db: Database, *, since: float) -> dict[str, tuple[float, str]]:
    """By destination, when the last attempt at it began, and why it failed."""
    found = db.execute(_LAST_ATTEMPTS, (_ATTEMPTS_READ, since))
    return {destination: (started_at, reason) for destination, _, started_at, reason in found}


def _conditions(db: Database, query: EventQuery) -> Iterator[tuple[Any, ...]]:
    yield from equal_texts(_TEXTS, query)
    for condition, at in (("e.received_at >= ?", query.since), ("e.received_at <= ?", query.until)):
        if at is not None:
            yield condition, at
    if query.state is not None:
        yield (state_condition(_STATES, query.state),)
    if query.error:
        yield "instr(lower(w.error), lower(?)) > 0", clean(query.error)
    if query.unmatched is not None:
        yield (_UNMATCHED if query.unmatched else _MATCHED,)
    if query.before is not None:
        yield "e.received_at <= ? AND (e.received_at, e.id) < (?, ?)", *page_start(db, _RECEIVED, query.before, "event")


def _event_row(row: tuple[Any, ...]) -> EventRow:
    event_id, kind, rule_id, received_at, size, repaired, *state = row
    return EventRow(event_id, kind, rule_id, received_at, size, bool(repaired), *state)


def evaluations(db: Database, event_id: str, replays: int | None = None) -> list[dict[str, Any]]:
    """The evaluations of one replay of an event, or of all. Damaged decisions are empty."""
    names = ("replays", "decided_at", "config_hash", "matched", "fallback", "unmatched_reason")
    rows = db.execute(_EVALUATIONS, (clean(event_id), replays)).fetchall()
    return [{**dict(zip(names, row, strict=True)), "decisions": _decisions(db, event_id, seq)} for seq, *row in rows]


def _decisions(db: Database, event_id: str, seq: int) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        encoding, data = db.execute(_DECISIONS, (seq,)).fetchone()
        found: list[dict[str, Any]] = load_json(unpack(encoding, data, db.keyring, f"decision.decisions:{event_id}"))
        return found

    return read_or_default(read, [], "decision.decisions", event_id)

"""Queries of deliveries: from ``work`` while they wait or are dead, from ``attempt`` after they succeeded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.core.errors import AmbiguousId, BadQuestion
from engine.store.packing import clean, ids_json, unpack_detail
from engine.store.queries import DeliveryDetail, DeliveryQuery, DeliveryRow
from engine.store.records import Attempt
from engine.store.sqlite.connection import Database, read_or_default
from engine.store.sqlite.load import load_items, load_variables

#: Appended to a prefix, it sorts after all texts with that prefix.
AFTER_ALL = "\U0010ffff"
_STATES = {
    "due": "d.owner IS NULL AND d.dead_at IS NULL",
    "running": "d.owner IS NOT NULL AND d.dead_at IS NULL",
    "dead": "d.dead_at IS NOT NULL",
    "succeeded": "d.outcome = 'succeeded'",
    "discarded": "d.outcome = 'discarded'",
}
#: States of deliveries that are no longer in ``work``.
_ENDED_STATES = ("succeeded", "discarded")


@dataclass(frozen=True, slots=True)
class _Table:
    """One of the two tables with deliveries, named d in ``head``, ``tail`` and the conditions between them."""

    head: str
    ids: str
    before: str
    tail: str


# Postponed and collected deliveries are due long after the decision. An ``on_dead`` delivery is decided on by a death.
_WORK = _Table(
    head="""
SELECT d.id, d.event_id, d.route, d.action, d.idx, d.run_id,
  CASE WHEN d.dead_at IS NOT NULL THEN 'dead' WHEN d.owner IS NULL THEN 'due' ELSE 'running' END,
  count(a.seq) FILTER (WHERE a.outcome <> 'discarded'), d.replays,
  min(d.first_at, d.decided_at, coalesce(min(a.first_at), d.first_at)),
  max(
    CASE d.replays WHEN 0 THEN min(d.first_at, d.decided_at) ELSE d.first_at END,
    coalesce(d.dead_at, 0), coalesce(max(a.started_at + a.seconds), 0)
  ),
  CASE WHEN d.dead_at IS NULL AND d.owner IS NULL THEN d.due_at END, coalesce(d.error, ''), d.items,
  coalesce(nullif(d.lane, ''), (
    SELECT destination FROM attempt WHERE event_id = d.event_id AND work_id = d.id ORDER BY seq DESC LIMIT 1
  ), '')
FROM (SELECT d.*,
  CASE WHEN d.action LIKE 'on_dead.%' THEN d.first_at ELSE coalesce(
    (SELECT min(added_at) FROM digest_item WHERE delivery_id = d.id),
    (SELECT max(decided_at) FROM decision WHERE event_id = d.event_id), d.first_at
  ) END AS decided_at,
  (SELECT count(*) FROM digest_item WHERE delivery_id = d.id) AS items
FROM (SELECT d.* FROM work AS d WHERE d.kind = 'deliver'""",
    ids="d.id IN (SELECT value FROM json_each(?))",
    before="d.event_id <= ? AND (d.event_id, d.id) < (?, ?)",
    tail="""
ORDER BY d.event_id DESC, d.id DESC LIMIT ?) AS d) AS d
LEFT JOIN attempt AS a ON a.event_id = d.event_id AND a.work_id = d.id
GROUP BY d.event_id, d.id
""",
)
#: The last success or discarding of deliveries that are not waiting again.
_ENDED = _Table(
    head="""
SELECT d.work_id, d.event_id, d.route, d.action, d.idx, d.run_id, d.outcome,
  count(a.seq) FILTER (WHERE a.outcome <> 'discarded'), d.replay, min(d.decided_at, min(a.first_at)),
  d.started_at + d.seconds, NULL, CASE d.outcome WHEN 'discarded' THEN d.reason ELSE '' END, d.items,
  d.destination
FROM (SELECT d.*,
  CASE WHEN d.action LIKE 'on_dead.%' THEN d.first_at ELSE coalesce(
    (SELECT min(added_at) FROM digest_item WHERE delivery_id = d.work_id),
    (SELECT max(decided_at) FROM decision WHERE event_id = d.event_id), d.first_at
  ) END AS decided_at,
  (SELECT count(*) FROM digest_item WHERE delivery_id = d.work_id) AS items
FROM (SELECT d.* FROM attempt AS d WHERE d.kind = 'deliver' AND d.outcome IN ('succeeded', 'discarded')
  AND NOT EXISTS (SELECT 1 FROM work AS w WHERE w.id = d.work_id)
  AND NOT EXISTS (
    SELECT 1 FROM attempt AS b WHERE b.event_id = d.event_id AND b.work_id = d.work_id
      AND b.outcome IN ('succeeded', 'discarded') AND b.seq > d.seq
  )""",
    ids="d.work_id IN (SELECT value FROM json_each(?))",
    before="d.event_id <= ? AND (d.event_id, d.work_id) < (?, ?)",
    tail="""
ORDER BY d.event_id DESC, d.work_id DESC LIMIT ?) AS d) AS d
JOIN attempt AS a ON a.event_id = d.event_id AND a.work_id = d.work_id
GROUP BY d.event_id, d.work_id
""",
)
_ATTEMPTS = """
SELECT number, replay, started_at, seconds, outcome, reason, status, destination, detail, worker
FROM attempt WHERE event_id = ? AND work_id = ? ORDER BY seq
"""
_PROGRESS = """
SELECT outcome, detail FROM attempt WHERE work_id = ? AND (detail IS NOT NULL OR outcome = 'succeeded')
ORDER BY seq DESC LIMIT 1
"""
_ONES_EVENT = """
SELECT event_id FROM work WHERE id = ?1 UNION ALL SELECT event_id FROM attempt WHERE work_id = ?1 LIMIT 1
"""
_STARTING_WITH = """
SELECT DISTINCT id FROM (
  SELECT id FROM (SELECT id FROM work WHERE id >= ?1 AND id < ?2 AND kind = 'deliver' ORDER BY id DESC LIMIT 6)
  UNION ALL
  SELECT work_id FROM (
    SELECT DISTINCT work_id FROM attempt
    WHERE work_id >= ?1 AND work_id < ?2 AND kind = 'deliver' ORDER BY work_id DESC LIMIT 6
  )
) ORDER BY id DESC LIMIT 6
"""
# Ids are ordered by time, but only approximately by received_at: the boundary is searched among events near that time.
_SINCE = """
d.event_id >= (SELECT min(id) FROM (SELECT id FROM event WHERE received_at >= ? ORDER BY received_at LIMIT 1000))
AND (SELECT received_at FROM event WHERE id = d.event_id) >= ?
"""
_UNTIL = """
d.event_id <= (SELECT max(id) FROM (SELECT id FROM event WHERE received_at <= ? ORDER BY received_at DESC LIMIT 1000))
AND (SELECT received_at FROM event WHERE id = d.event_id) <= ?
"""
_TEXTS = {
    "route": "d.route = ?",
    "action": "d.action = ?",
    "event_id": "d.event_id = ?",
}


def list_deliveries(db: Database, query: DeliveryQuery) -> list[DeliveryRow]:
    """Deliveries of a query, newest event first."""
    work = [] if query.state in _ENDED_STATES else _select(db, query, _WORK)
    ended = _select(db, query, _ENDED) if query.state in (None, *_ENDED_STATES) and not query.error else []
    return sorted([*work, *ended], key=lambda row: (row.event_id, row.id), reverse=True)[: max(query.limit, 0)]


def one_delivery(db: Database, start: str) -> DeliveryDetail | None:
    """The delivery with all details, by its id or a unique prefix of it.

    Raises:
        AmbiguousId: several ids have this prefix.
    """
    delivery_id = unique_start(db, _STARTING_WITH, start, "deliveries")
    rows = list_deliveries(db, DeliveryQuery(ids=(delivery_id,), limit=1)) if delivery_id else []
    if not rows:
        return None
    variables = read_or_default(lambda: load_variables(db, rows[0].id), None, "delivery_words.words", rows[0].id)
    items = load_items(db, [rows[0].id]).get(rows[0].id, ())
    return DeliveryDetail(rows[0], attempts_of(db, rows[0].event_id, rows[0].id), items, variables)


def attempts_of(db: Database, event_id: str, work_id: str) -> list[Attempt]:
    """Every attempt at a piece of work, oldest first."""
    return [_attempt(db, work_id, row) for row in db.execute(_ATTEMPTS, (event_id, work_id))]


def progress_of(db: Database, work_id: str) -> Mapping[str, Any]:
    """What the last failed attempt recorded, if any and unless an attempt succeeded after it."""
    found = db.execute(_PROGRESS, (work_id,)).fetchone()
    return {} if found is None or found[0] == "succeeded" else _detail(db, work_id, found[1]) or {}


def _attempt(db: Database, work_id: str, row: tuple[Any, ...]) -> Attempt:
    number, replay, started_at, seconds, outcome, reason, status, destination, detail, worker = row
    kept = _detail(db, work_id, detail)
    return Attempt(number, replay, started_at, seconds, outcome, reason, status, destination, kept, worker)


def _detail(db: Database, work_id: str, data: bytes | None) -> Mapping[str, Any] | None:
    if data is None:
        return None
    return read_or_default(lambda: unpack_detail(data, db.keyring, work_id), None, "attempt.detail", work_id)


def unique_start(db: Database, statement: str, start: str, what: str) -> str | None:
    """The id that equals a text or is the only one with it as a prefix; None if there is none.

    Raises:
        AmbiguousId: several ids have this prefix.
    """
    start = clean(start.strip())
    if db.execute(statement, (start, start + "\0")).fetchone():
        return start
    found = tuple(row[0] for row in db.execute(statement, (start, start + AFTER_ALL)))
    if len(found) > 1:
        such = ", ".join(found)
        raise AmbiguousId(f"{start!r} is ambiguous: several {what} have ids that begin with it, such as {such}", found)
    return found[0] if found else None


def _select(db: Database, query: DeliveryQuery, table: _Table) -> list[DeliveryRow]:
    rows = select(db, table.head, _conditions(db, query, table), table.tail, query.limit)
    return [DeliveryRow(*row) for row in rows]


def _conditions(db: Database, query: DeliveryQuery, table: _Table) -> Iterator[tuple[Any, ...]]:
    """SQL conditions, each followed by its values."""
    if query.state is not None:
        yield (state_condition(_STATES, query.state),)
    yield from equal_texts(_TEXTS, query)
    if query.ids:
        yield table.ids, ids_json(query.ids)
    if query.error:
        yield "d.error IS NOT NULL AND instr(lower(d.error), lower(?)) > 0", clean(query.error)
    if query.before is not None:
        yield table.before, *page_start(db, _ONES_EVENT, query.before, "delivery")
    for condition, at in ((_SINCE, query.since), (_UNTIL, query.until)):
        if at is not None:
            yield condition, at, at


def select(
    db: Database, head: str, conditions: Iterable[tuple[Any, ...]], tail: str, limit: int
) -> Iterable[tuple[Any, ...]]:
    """The rows that meet all conditions, each of which is followed by its values."""
    clauses, values = [head], []
    for clause, *bound in conditions:
        clauses.append(clause)
        values += bound
    return db.execute(" AND ".join(clauses) + tail, (*values, max(limit, 0)))


def state_condition(states: Mapping[str, str], state: str) -> str:
    """The condition for a state.

    Raises:
        BadQuestion: there is no such state.
    """
    if state not in states:
        raise BadQuestion(f"{state!r} is not a state; use one of: {', '.join(states)}")
    return states[state]


def equal_texts(conditions: Mapping[str, str], query: object) -> Iterator[tuple[str, str]]:
    """The conditions for those attributes of a query that are given."""
    for name, condition in conditions.items():
        if (text := getattr(query, name)) is not None:
            yield condition, clean(text)


def page_start(db: Database, statement: str, before: str, what: str) -> tuple[Any, Any, str]:
    """Where the page after an id begins: what it is ordered by (twice, for an index), and the id.

    Raises:
        BadQuestion: there is nothing with this id.
    """
    found = db.execute(statement, (clean(before),)).fetchone()
    if found is None:
        raise BadQuestion(f"there is no {what} {before!r}, which the page should follow")
    return found[0], found[0], clean(before)

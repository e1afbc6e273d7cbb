"""Storing events in batches: each webhook once, with a count of its copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.core.event import Event
from engine.store.packing import clean, clean_or_none, dump_json, ids_json, load_json, pack
from engine.store.records import Appended
from engine.store.sqlite.connection import Database
from engine.store.sqlite.settle import WORK
from engine.store.sqlite.writer import Insert

#: By how many seconds the first copy may lie in the future, because clocks are corrected. If the clock was set back by
#: more, the real time since the first copy is unknown.
_CLOCK_SLACK = 1.0
#: How many obsolete rows one batch deletes at most, in addition to the number it adds.
_SWEPT = 100

_EVENTS = Insert("event", "id, dedup_key, kind, rule_id, received_at, size, repaired, trace")
_BODIES = Insert("event_body", "event_id, encoding, body")
_LATEST = Insert("latest_body", "subject, body_key, event_id, first_at, until_at", "INSERT OR REPLACE")
_EXISTING = """
SELECT
  (SELECT json_group_object(dedup_key, id) FROM event WHERE dedup_key IN (SELECT value FROM json_each(?1))),
  (SELECT json_group_array(json_array(subject, body_key, event_id, first_at, until_at)) FROM latest_body
   WHERE subject IN (SELECT value FROM json_each(?2)) AND event_id IN (SELECT id FROM event))
"""
_COUNT = """
UPDATE event SET copies = copies + new.count
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS count FROM json_each(?)
) AS new WHERE event.id = new.id
"""
_END = "DELETE FROM latest_body WHERE subject IN (SELECT value FROM json_each(?))"
_SWEEP = """
DELETE FROM latest_body WHERE subject IN (SELECT subject FROM latest_body WHERE until_at < ? ORDER BY until_at LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Append:
    """An event, and the owner of its evaluation, if any."""

    event: Event
    owner: str | None


class _Latest(NamedTuple):
    """The latest event of a subject whose events differ only in their bodies."""

    body_key: str
    event_id: str
    first_at: float
    until_at: float


class _Known:
    """What is known about the keys and subjects of a batch: what is stored, read in one query, and what is new."""

    def __init__(self, now: float, db: Database, events: Sequence[Event]) -> None:
        self._now = now
        keys = [event.dedup_key for event in events if event.retry_span is None]
        first_ids, latest = db.execute(_EXISTING, (ids_json(keys), ids_json(set(map(_subject, events))))).fetchone()
        self._first_ids: dict[str, str] = load_json(first_ids)
        self._latest = {subject: _Latest(*row) for subject, *row in load_json(latest)}
        #: The new latest event of each subject that has changed; None: there is none.
        self.changed: dict[str, _Latest | None] = {}

    def first(self, event: Event) -> str | None:
        """The id of the event that this one is a copy of, if any."""
        if event.retry_span is None:
            return self._first_ids.get(clean(event.dedup_key))
        latest = self._latest.get(_subject(event))
        if latest is None or latest.body_key != clean(event.dedup_key):
            return None
        return latest.event_id if latest.first_at - _CLOCK_SLACK <= self._now <= latest.until_at else None

    def add(self, event: Event) -> None:
        """Record how copies of the event are recognised. It replaces the latest event of its subject."""
        subject, key = _subject(event), clean(event.dedup_key)
        if event.retry_span is not None:
            latest = _Latest(key, event.id, self._now, self._now + event.retry_span)
            self._latest[subject] = self.changed[subject] = latest
            return
        self._first_ids[key] = event.id
        if self._latest.pop(subject, None) is not None:
            self.changed[subject] = None

    def write(self, db: Database) -> None:
        """Store what has changed."""
        if ended := [subject for subject, latest in self.changed.items() if latest is None]:
            db.execute(_END, (ids_json(ended),))
        rows = [(subject, *latest) for subject, latest in self.changed.items() if latest is not None]
        _LATEST.run(db, rows)
        db.execute(_SWEEP, (self._now, len(rows) + _SWEPT))


def append(clock: Callable[[], float], db: Database, requests: Sequence[Append]) -> list[Appended]:
    """Store events and their evaluations; a copy gets the id of the first event.

    The time of a copy is the time at which the writer's thread stores it: of two copies that arrive at once, one is
    the first.
    """
    now = clock()
    known, results, new = _Known(now, db, [request.event for request in requests]), [], []
    for request in requests:
        first = known.first(request.event)
        results.append(Appended(first or request.event.id, duplicate=first is not None))
        if first is None:
            known.add(request.event)
            new.append(request)
    _EVENTS.run(db, [_event_row(one.event) for one in new])
    _BODIES.run(db, [_body_row(one.event, db) for one in new])
    WORK.run(db, [_work_row(one, now) for one in new])
    if copies := Counter(one.event_id for one in results if one.duplicate):
        db.execute(_COUNT, (dump_json(list(copies.items())).decode(),))
    if known.changed:
        known.write(db)
    return results


def _event_row(event: Event) -> tuple[Any, ...]:
    key = clean(event.dedup_key) if event.retry_span is None else event.id
    facts = (event.received_at, len(event.body), int(event.repaired), event.trace or None)
    return (event.id, key, str(event.kind), clean_or_none(event.rule_id), *facts)


def _body_row(event: Event, db: Database) -> tuple[Any, ...]:
    return (event.id, *pack(event.body, db.keyring, f"event_body.body:{event.id}"))


def _work_row(request: Append, now: float) -> tuple[Any, ...]:
    event_id, at = request.event.id, request.event.received_at
    lease = (request.owner, None if request.owner is None else now)
    return (event_id, "evaluate", event_id, "", "", -1, None, at, at, 0, 0, *lease, None, "", None, None)


def _subject(event: Event) -> str:
    """The subject of an event; its dedup key if it names none. A later event of the same subject ends deduplication."""
    return clean(event.subject or event.dedup_key)

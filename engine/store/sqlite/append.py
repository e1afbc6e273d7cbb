"""Storing events in batches: each webhook once, with a count of its copies."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.core.event import Event
from engine.store.packing import Insert, clean, clean_or_none, dump_json, ids_json, load_json, pack
from engine.store.records import Appended
from engine.store.sqlite.encryption import EncryptingInsert
from engine.store.sqlite.rows import WORK

#: By how many seconds the first copy may lie in the future, because clocks are corrected. If the clock was set back by
#: more, the real time since the first copy is unknown.
_CLOCK_SLACK = 1.0
#: How many obsolete rows one batch deletes at most, in addition to the number it adds.
_SWEPT = 100

_EVENTS = Insert("INSERT INTO event (id, dedup_key, kind, rule_id, received_at, size, repaired, trace) VALUES ", 8)
_BODIES = EncryptingInsert(
    Insert("INSERT INTO event_body (event_id, encoding, body) VALUES ", 3), "event_body.body", row=0, data=2
)
_LATEST = Insert(
    "INSERT OR REPLACE INTO latest_body (subject, body_key, event_id, first_at, until_at) VALUES ",
    5,
)
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


@dataclass(slots=True)
class _Batch:
    """The rows of a batch of appends. ``first_ids`` and ``latest`` begin with what is stored, and grow."""

    now: float
    first_ids: dict[str, str]
    latest: dict[str, _Latest]
    changed: set[str] = field(default_factory=set)
    copies: Counter[str] = field(default_factory=Counter)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    bodies: list[tuple[Any, ...]] = field(default_factory=list)
    work: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, request: Append) -> Appended:
        """Add an event, or count it as a copy of an earlier one."""
        event = request.event
        key = clean(event.dedup_key)
        first = self._first(event, key)
        if first is not None:
            self.copies[first] += 1
            return Appended(first, duplicate=True)
        self._keep(request, key if event.retry_span is None else event.id)
        self._note(event, key)
        return Appended(event.id, duplicate=False)

    def _first(self, event: Event, key: str) -> str | None:
        """The id of the event that this one is a copy of, if any."""
        if event.retry_span is None:
            return self.first_ids.get(key)
        latest = self.latest.get(_subject(event))
        if latest is None or latest.body_key != key:
            return None
        return latest.event_id if latest.first_at - _CLOCK_SLACK <= self.now <= latest.until_at else None

    def _note(self, event: Event, key: str) -> None:
        """Record how copies of the event are recognised. It replaces the latest event of its subject."""
        subject = _subject(event)
        if event.retry_span is not None:
            self.latest[subject] = _Latest(key, event.id, self.now, self.now + event.retry_span)
            self.changed.add(subject)
            return
        self.first_ids[key] = event.id
        if self.latest.pop(subject, None) is not None:
            self.changed.add(subject)

    def _keep(self, request: Append, key: str) -> None:
        event, at = request.event, request.event.received_at
        facts = (len(event.body), int(event.repaired), event.trace or None)
        self.events.append((event.id, key, str(event.kind), clean_or_none(event.rule_id), at, *facts))
        self.bodies.append((event.id, *pack(event.body)))
        lease = (request.owner, None if request.owner is None else self.now)
        self.work.append((event.id, "evaluate", event.id, "", "", -1, None, at, at, 0, 0, *lease, None, "", None, None))

    def write(self, db: sqlite3.Connection) -> None:
        """Write all rows, with one statement for each table."""
        _EVENTS.run(db, self.events)
        _BODIES.run(db, self.bodies)
        WORK.run(db, self.work)
        if self.copies:
            db.execute(_COUNT, (dump_json(list(self.copies.items())).decode(),))
        if self.changed:
            self._write_latest(db)

    def _write_latest(self, db: sqlite3.Connection) -> None:
        rows = [(subject, *self.latest[subject]) for subject in self.changed if subject in self.latest]
        if ended := self.changed - self.latest.keys():
            db.execute(_END, (ids_json(ended),))
        _LATEST.run(db, rows)
        db.execute(_SWEEP, (self.now, len(rows) + _SWEPT))


def append(clock: Callable[[], float], db: sqlite3.Connection, requests: Sequence[Append]) -> list[Appended]:
    """Store events and their evaluations; a copy gets the id of the first event.

    The time of a copy is the time at which the writer's thread stores it: of two copies that arrive at once, one is
    the first.
    """
    batch = _batch(clock(), db, [request.event for request in requests])
    results = [batch.add(request) for request in requests]
    batch.write(db)
    return results


def _batch(now: float, db: sqlite3.Connection, events: Sequence[Event]) -> _Batch:
    """A batch with what is stored about the events' keys and subjects, read in one query."""
    keys = [event.dedup_key for event in events if event.retry_span is None]
    subjects = dict.fromkeys(map(_subject, events))
    first_ids, latest = db.execute(_EXISTING, (ids_json(keys), ids_json(subjects))).fetchone()
    return _Batch(now, load_json(first_ids), {subject: _Latest(*row) for subject, *row in load_json(latest)})


def _subject(event: Event) -> str:
    """The subject of an event; its dedup key if it names none. A later event of the same subject ends deduplication."""
    return clean(event.subject or event.dedup_key)

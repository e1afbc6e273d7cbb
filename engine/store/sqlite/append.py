"""Keeping events, a batch at a time: each webhook once, and how often it came."""

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

#: By so many seconds a first copy may seem to come from the future: clocks are corrected. Of a clock that was set back
#: by more it is not known how long ago that was.
_CLOCK_SLACK = 1.0
#: How many rows that are of no use any more one batch deletes at most, beyond as many as it adds.
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
    """An event, and the owner that its evaluation begins with, if any."""

    event: Event
    owner: str | None


class _Latest(NamedTuple):
    """The latest event of a subject, where only its body tells it from others."""

    body_key: str
    event_id: str
    first_at: float
    until_at: float


@dataclass(slots=True)
class _Batch:
    """What a batch of appends comes to; ``first_ids`` and ``latest`` are what was known before, and are added to."""

    now: float
    first_ids: dict[str, str]
    latest: dict[str, _Latest]
    changed: set[str] = field(default_factory=set)
    copies: Counter[str] = field(default_factory=Counter)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    bodies: list[tuple[Any, ...]] = field(default_factory=list)
    work: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, request: Append) -> Appended:
        """Take an event in, or count it as a copy of one that came before."""
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
        """The event that this one is a copy of."""
        if event.retry_span is None:
            return self.first_ids.get(key)
        latest = self.latest.get(_subject(event))
        if latest is None or latest.body_key != key:
            return None
        return latest.event_id if latest.first_at - _CLOCK_SLACK <= self.now <= latest.until_at else None

    def _note(self, event: Event, key: str) -> None:
        """Remember what copies of the event are known by; what was known of its subject's last event is over."""
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
        """Everything gathered, in as few statements as there are sorts of it."""
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
    """Keep events and the evaluations they are due; a copy of one gets the first's id.

    Copies are told by the time at which the store takes them in, on the one thread that writes:
    of two that arrive at once, one is the first.
    """
    batch = _batch(clock(), db, [request.event for request in requests])
    results = [batch.add(request) for request in requests]
    batch.write(db)
    return results


def _batch(now: float, db: sqlite3.Connection, events: Sequence[Event]) -> _Batch:
    """With all that is known of the events' keys and subjects, in one look."""
    keys = [event.dedup_key for event in events if event.retry_span is None]
    subjects = dict.fromkeys(map(_subject, events))
    first_ids, latest = db.execute(_EXISTING, (ids_json(keys), ids_json(subjects))).fetchone()
    return _Batch(now, load_json(first_ids), {subject: _Latest(*row) for subject, *row in load_json(latest)})


def _subject(event: Event) -> str:
    """What another event ends the time in which copies of this one are known by: its body, where it names nothing."""
    return clean(event.subject or event.dedup_key)

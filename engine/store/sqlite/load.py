"""Loading work with what belongs to it: events and fetched data, template variables, and the items of digests."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.core.errors import BadBody
from engine.core.event import restored_event
from engine.core.memory_budget import size_of
from engine.store.encryption import MissingKey
from engine.store.packing import ids_json, load_json, unpack
from engine.store.queries import ItemRow
from engine.store.records import Claimed, Item, Work
from engine.store.sqlite.connection import Database, damage_as_value_error
from engine.store.sqlite.fetched import SIZE, load_fetched

_VARIABLES = "SELECT encoding, words FROM delivery_words WHERE work_id = ?"
_ITEMS = """
SELECT delivery_id, event_id, idx, run_id FROM digest_item WHERE delivery_id IN (SELECT value FROM json_each(?))
ORDER BY delivery_id, added_at, event_id, idx
"""
_CLAIMED = """
SELECT w.id, w.kind, w.event_id, w.first_at, w.due_at, w.route, w.action, w.idx, w.run_id, w.attempts, w.replays,
  w.error, w.lane, EXISTS (SELECT 1 FROM delivery_words AS d WHERE d.work_id = w.id)
FROM json_each(?) AS j JOIN work AS w ON w.id = j.value
WHERE w.owner = ? AND w.dead_at IS NULL ORDER BY j.key
"""
_EVENT = f"""
SELECT e.kind, e.rule_id, e.dedup_key, e.received_at, e.repaired, e.trace, b.encoding, b.body,
  coalesce(b.fetched_size, 0) + {SIZE.format(id="e.id")}, b.fetched_encoding, b.fetched
FROM event AS e JOIN event_body AS b ON b.event_id = e.id WHERE e.id = ?
"""  # noqa: S608 - ours

_logger = logging.getLogger(__name__)


def load_variables(db: Database, work_id: str) -> Mapping[str, Any] | None:
    """A delivery's template variables; None if it has none.

    Raises:
        MissingKey: they are encrypted with a key that is not configured.
        ValueError: they are damaged.
    """
    with damage_as_value_error():
        row = db.execute(_VARIABLES, (work_id,)).fetchone()
        if row is None:
            return None
        encoding, data = row
        variables = load_json(unpack(encoding, data, db.keyring, f"delivery_words.words:{work_id}"))
    if not isinstance(variables, dict):
        raise ValueError("they are not a JSON object")  # noqa: TRY004 - reported as damage
    return variables


def load_items(db: Database, ids: Sequence[str]) -> dict[str, list[ItemRow]]:
    """The items of those deliveries that are digests, in the order in which they are sent."""
    items: dict[str, list[ItemRow]] = {}
    for delivery_id, *item in db.execute(_ITEMS, (ids_json(ids),)):
        items.setdefault(delivery_id, []).append(ItemRow(*item))
    return items


@dataclass(frozen=True, slots=True)
class Loaded:
    """Claimed work after loading: usable, unreadable for ever, or waiting for a key; the last two with reasons."""

    claimed: list[Claimed] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    missing_key: dict[str, str] = field(default_factory=dict)


def load_claimed(db: Database, owner: str, ids: Sequence[str], max_values: int, max_fetched: int) -> Loaded:
    """Load claimed work with its events, in the order of the ids.

    A body with more than ``max_values`` values is not parsed; fetched data with more than ``max_fetched`` bytes is left
    out. Each event and each delivery's variables are read by a statement of their own, so that damaged data affects
    only the work that needs it.
    """
    loaded, events, items = Loaded(), _Events(db, max_values, max_fetched), load_items(db, ids)
    for *known, has_variables in db.execute(_CLAIMED, (ids_json(ids), owner)).fetchall():
        work, broken = Work(*known), ""
        try:
            try:
                work = replace(work, variables=load_variables(db, work.id) if has_variables else None)
            except ValueError as error:
                broken = f"its template variables are damaged: {error}"
            readable = events.items(work.id, items.get(work.id, ()))
            first = readable[0] if readable else events.get(work.event_id)
            loaded.claimed.append(Claimed(work, first.event, first.fetched, readable, broken, first.fetched_size))
        except MissingKey as error:
            loaded.missing_key[work.id] = str(error)
        except (BadBody, ValueError) as error:
            loaded.unreadable[work.id] = str(error)
    return loaded


class _Events:
    """The events of one claim, each read once."""

    def __init__(self, db: Database, max_values: int, max_fetched: int) -> None:
        self._db, self._max_values, self._max_fetched = db, max_values, max_fetched
        self._read: dict[str, Item] = {}

    def get(self, event_id: str) -> Item:
        """An event with its fetched data.

        Raises:
            BadBody, ValueError: it can never be loaded.
            MissingKey: it is encrypted with a key that is not configured.
        """
        if event_id not in self._read:
            with damage_as_value_error():
                self._read[event_id] = self._load(event_id)
        return self._read[event_id]

    def _load(self, event_id: str) -> Item:
        row = self._db.execute(_EVENT, (event_id,)).fetchone()
        if row is None:
            raise ValueError("the event's body is no longer kept")
        kind, rule_id, dedup_key, received_at, repaired, trace, encoding, data, size, *old = row
        event = restored_event(
            event_id,
            kind,
            rule_id,
            dedup_key,
            received_at,
            unpack(encoding, data, self._db.keyring, f"event_body.body:{event_id}"),
            repaired=bool(repaired),
            trace=trace or "",
            max_values=self._max_values,
        )
        fetched = load_fetched(self._db, event_id, *old) if size <= self._max_fetched else None
        return Item(event, -1, fetched, size_of(fetched) if fetched else 0)

    def items(self, delivery_id: str, rows: Iterable[ItemRow]) -> list[Item]:
        """The items of a digest. A damaged item is left out, so that the others are still sent."""
        items = []
        for row in rows:
            try:
                items.append(replace(self.get(row.event_id), index=row.index))
            except (BadBody, ValueError) as error:
                details = {"delivery": delivery_id, "event": row.event_id, "reason": str(error)}
                _logger.error("an item of a digest is left out", extra=details)
        return items

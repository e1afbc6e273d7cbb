"""What stands beside a delivery in SQLite: what its templates see besides the event, and the items of a digest."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from engine.store.packing import ids_json, load_json
from engine.store.queries import ItemRow
from engine.store.sqlite.connection import damage_as_value_error
from engine.store.sqlite.encryption import decrypted

_VARIABLES = "SELECT encoding, words FROM delivery_words WHERE work_id = ?"
_ITEMS = """
SELECT delivery_id, event_id, idx, run_id FROM digest_item WHERE delivery_id IN (SELECT value FROM json_each(?))
ORDER BY delivery_id, added_at, event_id, idx
"""


def load_variables(db: sqlite3.Connection, work_id: str) -> Mapping[str, Any] | None:
    """A delivery's words; None where it has none.

    Raises:
        MissingKey: they are sealed with a key that is not at hand.
        ValueError: they are damaged.
    """
    with damage_as_value_error():
        row = db.execute(_VARIABLES, (work_id,)).fetchone()
        if row is None:
            return None
        encoding, data = row
        words = load_json(decrypted(db, encoding, data, "delivery_words.words", work_id))
    if not isinstance(words, dict):
        raise ValueError("they are no JSON object")  # noqa: TRY004 - it is damage like any other
    return words


def load_items(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, list[ItemRow]]:
    """The items of the digests among some deliveries, in the order in which they are sent."""
    items: dict[str, list[ItemRow]] = {}
    for delivery_id, *item in db.execute(_ITEMS, (ids_json(ids),)):
        items.setdefault(delivery_id, []).append(ItemRow(*item))
    return items

"""Reading what belongs to a delivery besides its work: its template variables, and the items of a digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.store.packing import ids_json, load_json, unpack
from engine.store.queries import ItemRow
from engine.store.sqlite.connection import Database, damage_as_value_error

_VARIABLES = "SELECT encoding, words FROM delivery_words WHERE work_id = ?"
_ITEMS = """
SELECT delivery_id, event_id, idx, run_id FROM digest_item WHERE delivery_id IN (SELECT value FROM json_each(?))
ORDER BY delivery_id, added_at, event_id, idx
"""


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

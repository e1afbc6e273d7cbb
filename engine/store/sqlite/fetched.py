"""Data that hydration fetched: one row for each run and part of an event."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.store.packing import clean, dump_json, ids_json, load_json, pack, unpack
from engine.store.sqlite.connection import Database, left_out
from engine.store.sqlite.writer import Insert, rows_of

#: About how many bytes of JSON one transaction writes, because appends wait for it.
SAVED_BYTES: Final = 4 * 2**20
#: SQL for the JSON size of an event's rows in bytes; ``{id}`` is the event's id.
SIZE: Final = "coalesce((SELECT sum(size) FROM fetched WHERE event_id = {id}), 0)"

_PARTS: Final = ("inputs", "outputs", "feedback")
_SAVE = Insert("fetched", "event_id, part, run_key, size, encoding, data", "INSERT OR REPLACE")
_KEPT = "SELECT json_group_array(event_id) FROM event_body WHERE event_id IN (SELECT value FROM json_each(?))"
_LOAD = "SELECT part, run_key, encoding, data FROM fetched WHERE event_id = ?"


class Piece(NamedTuple):
    """A part of one run of an event, as JSON."""

    event_id: str
    part: str
    run_key: str
    data: bytes


def pieces_of(event_id: str, fetched: Mapping[str, Any]) -> Iterator[list[Piece]]:
    """Split the fetched data of an event into groups, one for each transaction."""
    group: list[Piece] = []
    size = 0
    for part in _PARTS:
        for key, value in (fetched.get(part) or {}).items():
            group.append(Piece(clean(event_id), part, clean(key), dump_json(value)))
            size += len(group[-1].data)
            if size >= SAVED_BYTES:
                yield group
                group, size = [], 0
    if group:
        yield group


def save_fetched(db: Database, requests: Sequence[Sequence[Piece]]) -> list[None]:
    """Store pieces, replacing earlier ones. Pieces of events that have no body any more are dropped."""
    pieces = {piece[:3]: piece for request in requests for piece in request}
    kept = set(rows_of(db, _KEPT, (ids_json({piece.event_id for piece in pieces.values()}),)))
    _SAVE.run(db, [_row(db, piece) for piece in pieces.values() if piece.event_id in kept])
    return [None] * len(requests)


def _row(db: Database, piece: Piece) -> tuple[Any, ...]:
    packed = pack(piece.data, db.keyring, f"fetched.data:{_place(*piece[:3])}")
    return (*piece[:3], len(piece.data), *packed)


def load_fetched(db: Database, event_id: str, encoding: int | None, data: bytes | None) -> Mapping[str, Any] | None:
    """The fetched data of an event: for each part the values by run. None if there is none.

    ``encoding`` and ``data`` are the columns of ``event_body`` that earlier versions wrote. Damaged values are left
    out, as if they had not been fetched.

    Raises:
        MissingKey: a value is encrypted with a key that is not configured.
    """
    found: dict[str, Any] = {"inputs": {}, "outputs": {}, "feedback": None}
    if data is not None and encoding is not None:
        with left_out("event_body.fetched", event_id):
            found |= load_json(unpack(encoding, data, db.keyring, f"event_body.fetched:{event_id}"))
    rows = db.execute(_LOAD, (event_id,))
    while (row := _next(rows, event_id)) is not None:
        part, run_key, encoding, data = row
        place = _place(event_id, part, run_key)
        with left_out("fetched.data", place):
            value = load_json(unpack(encoding, data, db.keyring, f"fetched.data:{place}"))
            found[part] = found[part] or {}
            found[part][run_key] = value
    return found if any(found.values()) else None


def _next(rows: sqlite3.Cursor, event_id: str) -> tuple[str, str, int, bytes] | None:
    """The next row. None at the end, or at a damaged page."""
    with left_out("fetched", event_id):
        row: tuple[str, str, int, bytes] | None = rows.fetchone()
        return row
    return None


def _place(event_id: str, part: str, run_key: str) -> str:
    return f"{event_id}:{part}:{run_key}"

"""Message threads: the first message of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from engine.store.packing import ids_json, pack
from engine.store.sqlite.connection import read_or_default
from engine.store.sqlite.encryption import decrypted, encrypted

#: How many threads are kept: the most recently used ones.
MOST_THREADS: Final = 10_000
_COLUMN = "thread.data"
_FIND = """
SELECT name, encoding, data FROM thread WHERE name IN (SELECT value FROM json_each(?)) ORDER BY used_at DESC LIMIT 1
"""
_PUT = """
INSERT INTO thread (name, encoding, data, used_at) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET encoding = excluded.encoding, data = excluded.data, used_at = excluded.used_at
"""
_REMOVE = "DELETE FROM thread WHERE name IN (SELECT value FROM json_each(?))"
_TOO_MANY = """
DELETE FROM thread WHERE name IN (SELECT name FROM thread ORDER BY used_at DESC LIMIT -1 OFFSET ?)
"""
_OLD = "DELETE FROM thread WHERE name IN (SELECT name FROM thread WHERE used_at < ? ORDER BY used_at LIMIT ?)"


def find(db: sqlite3.Connection, names: Sequence[str]) -> str | None:
    """The first message of the thread with one of these names; None if there is none."""
    row = db.execute(_FIND, (ids_json(names),)).fetchone()
    if row is None:
        return None
    name, encoding, data = row
    return read_or_default(lambda: decrypted(db, encoding, data, _COLUMN, name).decode(), None, _COLUMN, name)


def put(db: sqlite3.Connection, *, names: Sequence[str], first: str | None, now: float) -> None:
    """Store a thread's first message under the first of its names. None forgets the thread."""
    if first is None:
        db.execute(_REMOVE, (ids_json(names),))
        return
    db.execute(_REMOVE, (ids_json(names[1:]),))
    db.execute(_PUT, (names[0], *encrypted(db, *pack(first.encode()), _COLUMN, names[0]), now))
    db.execute(_TOO_MANY, (MOST_THREADS,))


def remove_old(db: sqlite3.Connection, *, before: float, limit: int) -> int:
    """Delete threads not used since ``before``. Returns how many."""
    return db.execute(_OLD, (before, limit)).rowcount

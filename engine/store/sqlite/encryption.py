"""Sealed values in SQLite's rows: which columns they stand in, and whether the keys at hand are those of the file."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.core.errors import StoreError
from engine.store.encryption import ENCRYPTED, VARIABLE, Keyring, MissingKey
from engine.store.packing import Insert, unpack

#: What may be sealed, by column: how a row with a sealed value is told, and where the value begins in it.
_ENCRYPTED_COLUMNS: Final = {
    "event_body.body": ("encoding >= 2", 1),
    "event_body.fetched": ("fetched_encoding >= 2", 1),
    "fetched.data": ("encoding >= 2", 1),
    "decision.decisions": ("encoding >= 2", 1),
    "delivery_words.words": ("encoding >= 2", 1),
    "thread.data": ("encoding >= 2", 1),
    "attempt.detail": ("substr(detail, 1, 1) IN (x'02', x'03')", 2),
}
_CHECK = b"langsmith-rules-engine"
_NOTHING: Final = Keyring()


class Database(sqlite3.Connection):
    """A connection that has the keys of its file."""

    keyring: Keyring = _NOTHING


def keyring_of(db: sqlite3.Connection) -> Keyring:
    """The keys of a connection; none where it has none."""
    return db.keyring if isinstance(db, Database) else _NOTHING


@dataclass(frozen=True, slots=True)
class EncryptingInsert:
    """An ``Insert`` whose rows hold one value each that is sealed where there is a key.

    ``row`` is the index of the column that names the row, ``data`` the value's. The column before
    the value is its encoding, unless ``tagged``: then the value itself begins with a byte that tells.
    """

    insert: Insert
    column: str
    row: int
    data: int
    tagged: bool = False

    def run(self, db: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Insert the rows, each of the insert's ``width`` values."""
        keyring = keyring_of(db)
        self.insert.run(db, [self._encrypted(keyring, row) for row in rows] if keyring.encrypts else rows)

    def _encrypted(self, keyring: Keyring, row: Sequence[Any]) -> Sequence[Any]:
        data = row[self.data]
        if data is None:
            return row
        changed = list(row)
        sealed = keyring.encrypt(data, _place(self.column, row[self.row]))
        if self.tagged:
            changed[self.data] = bytes((ENCRYPTED,)) + sealed
        else:
            changed[self.data - 1 : self.data + 1] = row[self.data - 1] + ENCRYPTED, sealed
        return changed


def encrypted(db: sqlite3.Connection, encoding: int, data: bytes, column: str, row: str) -> tuple[int, bytes]:
    """A packed value as it stands in a row: sealed where there is a key."""
    keyring = keyring_of(db)
    return (encoding + ENCRYPTED, keyring.encrypt(data, _place(column, row))) if keyring.encrypts else (encoding, data)


def decrypted(db: sqlite3.Connection, encoding: int, data: bytes, column: str, row: str) -> bytes:
    """What was packed, and maybe sealed.

    Raises:
        MissingKey: it is sealed with a key that is not at hand.
        ValueError: the data is damaged, or its encoding is not known.
    """
    if encoding < ENCRYPTED:
        return unpack(encoding, data)
    return unpack(encoding - ENCRYPTED, keyring_of(db).decrypt(data, _place(column, row)))


def decrypted_tagged(db: sqlite3.Connection, data: bytes, column: str, row: str) -> bytes:
    """The same for a value that tells by its first byte whether it is sealed: JSON begins with none of these."""
    return decrypted(db, data[0], data[1:], column, row) if data[:1] == bytes((ENCRYPTED,)) else data


def check_keys(db: sqlite3.Connection, path: Path, keyring: Keyring) -> None:
    """See that everything sealed in the file can be opened, and remember the key that seals from now on.

    Raises:
        StoreError: a key is missing; says which, and what to do.
    """
    known = dict(db.execute("SELECT substr(name, 5), value FROM meta WHERE name LIKE 'key:%'"))
    for key_id, check in known.items():
        if not _opens(keyring, check):
            if _is_used(db, key_id):
                raise StoreError(_missing(path, key_id, keyring))
            db.execute("DELETE FROM meta WHERE name = ?", (f"key:{key_id}",))
    if keyring.encrypts and keyring.ids[0] not in known:
        check = base64.b64encode(keyring.encrypt(_CHECK, "meta.value")).decode()
        db.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (f"key:{keyring.ids[0]}", check))


def _opens(keyring: Keyring, check: str) -> bool:
    try:
        return keyring.decrypt(base64.b64decode(check), "meta.value") == _CHECK
    except (MissingKey, ValueError):
        return False


def _is_used(db: sqlite3.Connection, key_id: str) -> bool:
    """Whether any row is still sealed with a key. Looks through all of them; a key is taken away once in a while."""
    for place, (told, start) in _ENCRYPTED_COLUMNS.items():
        table, _, column = place.partition(".")
        statement = f"SELECT 1 FROM {table} WHERE {told} AND substr({column}, ?, 4) = ? LIMIT 1"  # noqa: S608 - ours
        if db.execute(statement, (start, bytes.fromhex(key_id))).fetchone():
            return True
    return False


def _missing(path: Path, key_id: str, keyring: Keyring) -> str:
    if not keyring.encrypts:
        what = f"{VARIABLE} is not set; set it to the key it was written with"
    else:
        what = f"{VARIABLE} holds {', '.join(keyring.ids)}; add the missing key behind the first, with a comma"
    return (
        f"{path} holds data sealed with the key {key_id}: {what}. Nothing was changed. If that key is lost, move the "
        "file away together with its -wal and -shm files and start with an empty store"
    )


def _place(column: str, row: str) -> str:
    return f"{column}:{row}"

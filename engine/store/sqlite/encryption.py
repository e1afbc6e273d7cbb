"""Encrypted values in rows, and the check that all keys of a file are configured."""

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

#: Columns that may be encrypted: the condition for an encrypted row, and the position of the key id in the value.
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
_NO_KEYS: Final = Keyring()


class Database(sqlite3.Connection):
    """A connection with the keys of its file."""

    keyring: Keyring = _NO_KEYS


def keyring_of(db: sqlite3.Connection) -> Keyring:
    """The keys of a connection."""
    return db.keyring if isinstance(db, Database) else _NO_KEYS


@dataclass(frozen=True, slots=True)
class EncryptingInsert:
    """An ``Insert`` that encrypts one column, if there is a key.

    ``row`` is the index of the column that identifies the row, ``data`` that of the encrypted column. The column before
    it has the encoding, unless ``tagged``: then a first byte of the value says whether it is encrypted.
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
        ciphertext = keyring.encrypt(data, _place(self.column, row[self.row]))
        if self.tagged:
            changed[self.data] = bytes((ENCRYPTED,)) + ciphertext
        else:
            changed[self.data - 1 : self.data + 1] = row[self.data - 1] + ENCRYPTED, ciphertext
        return changed


def encrypted(db: sqlite3.Connection, encoding: int, data: bytes, column: str, row: str) -> tuple[int, bytes]:
    """Encrypt a packed value, if there is a key."""
    keyring = keyring_of(db)
    return (encoding + ENCRYPTED, keyring.encrypt(data, _place(column, row))) if keyring.encrypts else (encoding, data)


def decrypted(db: sqlite3.Connection, encoding: int, data: bytes, column: str, row: str) -> bytes:
    """Decrypt a value if it is encrypted, and unpack it.

    Raises:
        MissingKey: it is encrypted with a key that is not configured.
        ValueError: the data is damaged, or its encoding is unknown.
    """
    if encoding < ENCRYPTED:
        return unpack(encoding, data)
    return unpack(encoding - ENCRYPTED, keyring_of(db).decrypt(data, _place(column, row)))


def decrypted_tagged(db: sqlite3.Connection, data: bytes, column: str, row: str) -> bytes:
    """``decrypted`` for tagged values. JSON never begins with the tag byte."""
    return decrypted(db, data[0], data[1:], column, row) if data[:1] == bytes((ENCRYPTED,)) else data


def check_keys(db: sqlite3.Connection, path: Path, keyring: Keyring) -> None:
    """Check that all encrypted data in the file can be decrypted, and record the current encrypting key.

    Raises:
        StoreError: a key is missing; says which one, and what to do.
    """
    known = dict(db.execute("SELECT substr(name, 5), value FROM meta WHERE name LIKE 'key:%'"))
    for key_id, check in known.items():
        if not _decrypts(keyring, check):
            if _is_used(db, key_id):
                raise StoreError(_missing(path, key_id, keyring))
            db.execute("DELETE FROM meta WHERE name = ?", (f"key:{key_id}",))
    if keyring.encrypts and keyring.ids[0] not in known:
        check = base64.b64encode(keyring.encrypt(_CHECK, "meta.value")).decode()
        db.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (f"key:{keyring.ids[0]}", check))


def _decrypts(keyring: Keyring, check: str) -> bool:
    try:
        return keyring.decrypt(base64.b64decode(check), "meta.value") == _CHECK
    except (MissingKey, ValueError):
        return False


def _is_used(db: sqlite3.Connection, key_id: str) -> bool:
    """Whether any row is still encrypted with a key. Scans all rows; that is rare, when a key was removed."""
    for place, (condition, start) in _ENCRYPTED_COLUMNS.items():
        table, _, column = place.partition(".")
        statement = f"SELECT 1 FROM {table} WHERE {condition} AND substr({column}, ?, 4) = ? LIMIT 1"  # noqa: S608 - ours
        if db.execute(statement, (start, bytes.fromhex(key_id))).fetchone():
            return True
    return False


def _missing(path: Path, key_id: str, keyring: Keyring) -> str:
    if not keyring.encrypts:
        what = f"{VARIABLE} is not set; set it to that key"
    else:
        what = f"{VARIABLE} has {', '.join(keyring.ids)}; add the missing key after the first, with a comma"
    return (
        f"{path} has data encrypted with the key {key_id}: {what}. Nothing was changed. If that key is lost, move the "
        "file away together with its -wal and -shm files and start with an empty store"
    )


def _place(column: str, row: str) -> str:
    return f"{column}:{row}"

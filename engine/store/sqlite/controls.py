"""Mutes and pauses, notes, and the key of fingerprints."""

from __future__ import annotations

import sqlite3
from secrets import token_hex
from typing import Any

from engine.store.packing import clean, dump_json, load_json
from engine.store.records import Control

_ALIVE = """
SELECT kind, subject, reason, set_by, set_at, until_at, state FROM control
WHERE until_at IS NULL OR until_at > ? ORDER BY kind, subject
"""
_PUT = """
INSERT OR REPLACE INTO control (kind, subject, reason, set_by, set_at, until_at, state) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_FINGERPRINT_KEY = "fingerprint_key"
_REMOVE = "DELETE FROM control WHERE kind = ? AND subject = ?"


def note(db: sqlite3.Connection, name: str) -> str | None:
    """The text of a note; None if there is none."""
    found = db.execute("SELECT value FROM meta WHERE name = ?", (f"note:{name}",)).fetchone()
    return None if found is None else str(found[0])


def save_note(db: sqlite3.Connection, *, name: str, text: str) -> None:
    """Store a note, replacing the earlier one."""
    db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (f"note:{name}", text))


def fingerprint_key(db: sqlite3.Connection) -> bytes:
    """The key of this store's fingerprints, created when the store is first opened."""
    db.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (_FINGERPRINT_KEY, token_hex(32)))
    key: str = db.execute("SELECT value FROM meta WHERE name = ?", (_FINGERPRINT_KEY,)).fetchone()[0]
    return key.encode()


def alive(db: sqlite3.Connection, *, now: float) -> list[Control]:
    """All mutes and pauses that have not expired."""
    return [_control(row) for row in db.execute(_ALIVE, (now,))]


def _control(row: tuple[Any, ...]) -> Control:
    kind, subject, reason, set_by, set_at, until_at, state = row
    return Control(kind, subject, reason, set_by, set_at, until_at, None if state is None else load_json(state))


def put(db: sqlite3.Connection, *, control: Control) -> None:
    """Store a mute or pause, replacing an earlier one of its subject."""
    state = None if control.state is None else dump_json(control.state)
    texts = (control.kind, clean(control.subject), clean(control.reason), clean(control.set_by))
    db.execute(_PUT, (*texts, control.set_at, control.until_at, state))


def remove(db: sqlite3.Connection, *, kind: str, subject: str) -> bool:
    """Remove a mute or pause. Returns whether there was one."""
    return db.execute(_REMOVE, (kind, clean(subject))).rowcount > 0

"""What the store keeps by name: mutes and pauses, message threads, notes, and the key of fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex

from engine.store import protocol
from engine.store.packing import clean, dump_json, ids_json, load_json, pack, unpack
from engine.store.records import Control
from engine.store.sqlite.connection import Database, read_or_default

_ALIVE = """
SELECT kind, subject, reason, set_by, set_at, until_at, coalesce(state, 'null') FROM control
WHERE until_at IS NULL OR until_at > ? ORDER BY kind, subject
"""
_PUT_CONTROL = """
INSERT OR REPLACE INTO control (kind, subject, reason, set_by, set_at, until_at, state) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_REMOVE_CONTROL = "DELETE FROM control WHERE kind = ? AND subject = ?"
_FIND_THREAD = """
SELECT name, encoding, data FROM thread WHERE name IN (SELECT value FROM json_each(?)) ORDER BY used_at DESC LIMIT 1
"""
_PUT_THREAD = """
INSERT INTO thread (name, encoding, data, used_at) VALUES (?, ?, ?, ?)
"""
_REMOVE_THREADS = "DELETE FROM thread WHERE name IN (SELECT value FROM json_each(?))"
_TOO_MANY_THREADS = """
DELETE FROM thread WHERE name IN (SELECT name FROM thread ORDER BY used_at DESC LIMIT -1 OFFSET ?)
"""
_OLD_THREADS = "DELETE FROM thread WHERE name IN (SELECT name FROM thread WHERE used_at < ? ORDER BY used_at LIMIT ?)"
_FINGERPRINT_KEY = "fingerprint_key"
_SAVE = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"


def note(db: Database, name: str) -> str | None:
    """The text of a note; None if there is none."""
    found = db.execute("SELECT value FROM meta WHERE name = ?", (f"note:{name}",)).fetchone()
    return None if found is None else str(found[0])


def save_note(db: Database, *, name: str, text: str) -> None:
    """Store a note, replacing the earlier one."""
    db.execute(_SAVE, (f"note:{name}", text))


def fingerprint_key(db: Database) -> bytes:
    """The key of this store's fingerprints, created when the store is first opened."""
    db.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (_FINGERPRINT_KEY, token_hex(32)))
    key: str = db.execute("SELECT value FROM meta WHERE name = ?", (_FINGERPRINT_KEY,)).fetchone()[0]
    return key.encode()


def controls(db: Database, *, now: float) -> list[Control]:
    """All mutes and pauses that have not expired."""
    rows = [(*row, load_json(state)) for *row, state in db.execute(_ALIVE, (now,))]
    return [Control(*row) for row in rows]


def set_control(db: Database, *, control: Control) -> None:
    """Store a mute or pause, replacing an earlier one of its subject."""
    state = None if control.state is None else dump_json(control.state)
    texts = (control.kind, clean(control.subject), clean(control.reason), clean(control.set_by))
    db.execute(_PUT_CONTROL, (*texts, control.set_at, control.until_at, state))


def remove_control(db: Database, *, kind: str, subject: str) -> bool:
    """Remove a mute or pause. Returns whether there was one."""
    return db.execute(_REMOVE_CONTROL, (kind, clean(subject))).rowcount > 0


def thread(db: Database, names: Sequence[str]) -> str | None:
    """The first message of the thread with one of these names; None if there is none."""
    row = db.execute(_FIND_THREAD, (ids_json(names),)).fetchone()
    if row is None:
        return None
    name, encoding, data = row
    place = f"thread.data:{name}"
    return read_or_default(lambda: unpack(encoding, data, db.keyring, place).decode(), None, "thread.data", name)


def save_thread(db: Database, *, names: Sequence[str], first: str | None, now: float) -> None:
    """Store a thread's first message under the first of its names. None forgets the thread."""
    db.execute(_REMOVE_THREADS, (ids_json(names),))
    if first is not None:
        packed = pack(first.encode(), db.keyring, f"thread.data:{names[0]}")
        db.execute(_PUT_THREAD, (names[0], *packed, now))
        db.execute(_TOO_MANY_THREADS, (protocol.MOST_THREADS,))


def remove_old_threads(db: Database, *, before: float, limit: int) -> int:
    """Delete threads not used since ``before``. Returns how many."""
    return db.execute(_OLD_THREADS, (before, limit)).rowcount

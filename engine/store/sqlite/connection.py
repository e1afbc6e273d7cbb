"""Opening the SQLite file: checks of ownership and damage, schema migrations, and error messages."""

from __future__ import annotations

import base64
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Final, TypeVar

from engine.core.errors import StoreBusy, StoreError
from engine.store.encryption import VARIABLE, Keyring, MissingKey

T = TypeVar("T")

_logger = logging.getLogger(__name__)

#: "LSRE", in the file's header: marks the database as an engine's store.
APPLICATION_ID = 0x4C535245
_MAGIC = b"SQLite format 3\0"
#: The first version with UPDATE … FROM.
_OLDEST_SQLITE = (3, 33, 0)
#: Files up to this size are checked for damage when opened; larger ones would make a start slow.
_CHECK_UP_TO = 64 * 2**20
_PAGE_SIZE = 8192
#: Pages of write-ahead log after which SQLite makes a checkpoint: 32 MiB, so that a burst is rarely interrupted.
_CHECKPOINT_PAGES = 4096
#: The usual size of that log, in bytes. It grows larger only while a long read prevents checkpoints.
LOG_BYTES = 64 * 2**20
_SETTINGS = ("temp_store = MEMORY", "cache_size = -65536")
_READ_SETTINGS = ("query_only = ON",)
_WRITE_SETTINGS = (
    f"page_size = {_PAGE_SIZE:d}",
    "synchronous = FULL",
    f"wal_autocheckpoint = {_CHECKPOINT_PAGES:d}",
    f"journal_size_limit = {LOG_BYTES:d}",
    # Without this, every deleted body is overwritten with zeros: ten times the work, and appends wait for it.
    "secure_delete = FAST",
)
_TRANSIENT = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error",
    sqlite3.SQLITE_READONLY: "the file or its disk is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_BUSY: "another program holds the file's lock",
    sqlite3.SQLITE_LOCKED: "another program holds the file's lock",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_PERM: "access to the file is denied",
}
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
_KEY_CHECK = b"langsmith-rules-engine"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database(sqlite3.Connection):
    """A connection with the encryption keys of its file, if there are any."""

    keyring: Keyring | None = None


def result_code(error: BaseException) -> int:
    """SQLite's primary result code of an exception; 0 if it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_transient(error: BaseException) -> bool:
    """Whether the cause is external (disk, permissions, another program) and may be temporary."""
    return isinstance(error, StoreBusy) or result_code(error) in _TRANSIENT


def is_damage(error: BaseException) -> bool:
    """Whether the cause is a damaged file."""
    return result_code(error) in _DAMAGED


@contextmanager
def damage_as_value_error() -> Iterator[None]:
    """Turn every error that reading a damaged value or page may raise into a ``ValueError``."""
    try:
        yield
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise ValueError(f"it can't be read, because the store's file is damaged there: {error}") from error


@contextmanager
def left_out(what: str, of: str, errors: tuple[type[Exception], ...] = (ValueError,)) -> Iterator[None]:
    """Log that data that can't be read is left out, and go on after the block.

    ``what`` is the column or table, and ``of`` the id of its row. ``errors`` are those that say that it can't be read.
    """
    try:
        with damage_as_value_error():
            yield
    except errors as error:
        details = {"column": what, "of": of, "reason": str(error)}
        _logger.error("data that can't be read is left out", extra=details)


def read_or_default(read: Callable[[], T], otherwise: T, what: str, of: str) -> T:
    """Call ``read``; return ``otherwise`` if the value is damaged or needs a missing key."""
    with left_out(what, of, (ValueError, MissingKey)):
        return read()
    return otherwise


def as_store_error(path: Path, error: BaseException) -> StoreError:
    """The error for callers of the store."""
    if isinstance(error, StoreError):
        return error
    if is_transient(error):
        return StoreBusy(f"{path}: {_TRANSIENT[result_code(error)]} ({error})")
    if is_damage(error):
        return damaged(path, str(error))
    if isinstance(error, OSError):
        return StoreError(f"{path} cannot be used: {error.strerror}")
    return StoreError(f"{path}: {type(error).__name__}: {error}")


def damaged(path: Path, detail: str) -> StoreError:
    """The error for a damaged file; says what to do."""
    return StoreError(
        f"{path} is damaged ({detail}); restore it from a backup, or move it away together with its -wal and -shm "
        "files and start with an empty store"
    )


def connect(path: Path, keyring: Keyring | None = None, *, read_only: bool = False) -> Database:
    """Open a connection with the settings of the store. Transactions need explicit BEGIN and COMMIT.

    It never creates the file: an empty file in place of a removed one would look like a new store.
    """
    mode = "ro" if read_only else "rw"
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=2.0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=Database,
    )
    db.keyring = keyring
    try:
        for setting in (*_SETTINGS, *(_READ_SETTINGS if read_only else _WRITE_SETTINGS)):
            db.execute(f"PRAGMA {setting}")
    except BaseException:
        db.close()
        raise
    return db


def log_of(path: Path) -> Path:
    """The path of a file's write-ahead log."""
    return path.with_name(path.name + "-wal")


def make_directory(path: Path) -> None:
    """Create the file's directory if it does not exist.

    Raises:
        StoreError: it cannot be created or is not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"the data directory {path.parent} cannot be created: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError(f"the data directory {path.parent} is not writable; change its owner or choose another")


def prepare(path: Path, keyring: Keyring | None = None) -> None:
    """Create the store, or check it and migrate it to this version. The caller holds the lock.

    Raises:
        StoreError: the file is not a store, is newer or damaged, needs a missing key, or cannot be accessed.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old; 3.33 or newer is needed")
    try:
        _check_header(path)
        with closing(connect(path)) as db:
            if not path.stat().st_size:  # has no effect on a file with content
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _check_ours(db, path)
            _check_whole(db, path)
            _migrate(db, path)
            _check_keys(db, path, keyring or Keyring())
    except (OSError, sqlite3.Error) as error:
        raise as_store_error(path, error) from error


def _check_header(path: Path) -> None:
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return
    if not path.is_file():
        raise StoreError(f"{path} is not a file")
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start and start != _MAGIC:
        raise StoreError(f"{path} is not a SQLite database; choose another path")


def _check_ours(db: sqlite3.Connection, path: Path) -> None:
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if mark != APPLICATION_ID and (mark or tables):
        raise StoreError(f"{path} is another program's SQLite database; choose another path")


def _check_whole(db: sqlite3.Connection, path: Path) -> None:
    small = path.stat().st_size <= _CHECK_UP_TO
    if small and (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise damaged(path, str(verdict))


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    files = _schema_files()
    version = _version(db, path)
    if version > len(files):
        raise StoreError(
            f"{path} was written by a newer version of the engine (its schema is {version}, this version knows "
            f"{len(files)}); run that version, or choose another path"
        )
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreError(f"{path} cannot use a write-ahead log; put it on a local disk")
    for number in range(version + 1, len(files) + 1):
        _apply(db, number, files[number - 1])


def is_current(path: Path) -> bool:
    """Whether a file is a store that needs no migration. Does not change the file."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return _version(db, path) == len(_schema_files())
    except (sqlite3.Error, StoreError):
        return False


def _apply(db: sqlite3.Connection, number: int, script: str) -> None:
    """Apply one step of the schema in a transaction."""
    try:
        db.executescript(f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID:d};\n{script}")
        db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('schema_version', ?)", (str(number),))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection, path: Path) -> int:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return 0
    row = db.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    if row is not None and not row[0].isdecimal():
        raise damaged(path, f"its schema's version is {row[0]!r}")
    return int(row[0]) if row else 0


def _schema_files() -> list[str]:
    folder = resources.files("engine.store.sqlite") / "schema"
    files = [file for file in folder.iterdir() if file.name.startswith("sqlite-") and file.name.endswith(".sql")]
    return [file.read_text(encoding="utf-8") for file in sorted(files, key=lambda file: file.name)]


def _check_keys(db: sqlite3.Connection, path: Path, keyring: Keyring) -> None:
    """Check that all encrypted data in the file can be decrypted, and record the current encrypting key."""
    known = dict(db.execute("SELECT substr(name, 5), value FROM meta WHERE name LIKE 'key:%'"))
    for key_id, check in known.items():
        if not _decrypts(keyring, check):
            if _is_used(db, key_id):
                raise StoreError(_missing_key(path, key_id, keyring))
            db.execute("DELETE FROM meta WHERE name = ?", (f"key:{key_id}",))
    if keyring.ids and keyring.ids[0] not in known:
        check = base64.b64encode(keyring.encrypt(_KEY_CHECK, "meta.value")).decode()
        db.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (f"key:{keyring.ids[0]}", check))


def _decrypts(keyring: Keyring, check: str) -> bool:
    try:
        return keyring.decrypt(base64.b64decode(check), "meta.value") == _KEY_CHECK
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


def _missing_key(path: Path, key_id: str, keyring: Keyring) -> str:
    others = f"{VARIABLE} has {', '.join(keyring.ids)}; add the missing key after the first, with a comma"
    what = others if keyring.ids else f"{VARIABLE} is not set; set it to that key"
    return (
        f"{path} has data encrypted with the key {key_id}: {what}. Nothing was changed. If that key is lost, move the "
        "file away together with its -wal and -shm files and start with an empty store"
    )

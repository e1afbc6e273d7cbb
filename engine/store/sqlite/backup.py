"""A backup of SQLite's file, made while an engine works on it or while none does.

SQLite's own ``.backup`` starts again whenever another connection writes, so beside a busy engine it never ends.
``VACUUM INTO`` reads one state of the store from the beginning to the end.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.core.errors import StoreError
from engine.core.units import format_size
from engine.store.sqlite.connection import APPLICATION_ID, as_store_error, connect, is_damage, result_code

#: What has to be left on a disk that holds the store, too, in bytes; on small disks a twentieth of them.
_RESERVE = 64 * 2**20
#: After so many of SQLite's steps a signal is noticed, such as Ctrl+C.
_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup: its file, how many bytes it has and how many seconds it took."""

    file: Path
    size: int
    seconds: float


def back_up(source: Path, target: Path) -> Backup:
    """Write a copy of a store to a new file that only its owner may read.

    It has everything that was committed when it began. What is sealed in the store is sealed in the copy. The copy
    gets its name when it is complete and on the disk; until then it has another one in the same folder.

    Raises:
        StoreError: the source is no store, the target exists already or cannot be written, or there is no room.
    """
    began = time.monotonic()
    _check_target(target)
    try:
        with closing(_source(source)) as db, _partial(target.parent) as partial:
            _check_room(db, source, target)
            _copy(db, partial, target)
            _sync(partial)
            size = partial.stat().st_size
            _name(partial, target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise as_store_error(source, error) from error
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    return Backup(target, size, time.monotonic() - began)


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """A new file that only its owner may read, under a name that no other backup has; removed at the end.

    A process id would not do for the name: in containers all backups have the same.
    """
    handle, name = tempfile.mkstemp(prefix=".engine-backup-", suffix=".partial", dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        with suppress(OSError):
            Path(name).unlink()


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise StoreError(f"{target} cannot be written: there is no folder {target.parent}; make it first")
    if os.path.lexists(target):
        raise StoreError(f"{target} exists already; a backup replaces nothing: name a new file")


def _source(path: Path) -> sqlite3.Connection:
    """A read-only connection to a store."""
    if not path.is_file():
        raise StoreError(f"there is no store at {path}")
    db = connect(path, read_only=True)
    try:
        _check_ours(db, path)
        db.execute("PRAGMA query_only = OFF")  # VACUUM INTO counts as writing; the file is open for reading alone
    except BaseException:
        db.close()
        raise
    return db


def _check_ours(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is not an engine's store")


def _check_room(db: sqlite3.Connection, source: Path, target: Path) -> None:
    """The copy has no spare pages. What the engine writes meanwhile is in the store's write-ahead log."""
    pages, spare, size = (
        db.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "freelist_count", "page_size")
    )
    needed, disk = (pages - spare) * size, shutil.disk_usage(target.parent)
    shared = source.stat().st_dev == target.parent.stat().st_dev
    left = disk.free - (min(_RESERVE, disk.total // 20) if shared else 0)
    if needed > left:
        there = format_size(max(left, 0))
        raise StoreError(f"{target} cannot be written: it needs {format_size(needed)}, and {there} can be used there")


def _go_on() -> int:
    """Called now and then while SQLite works: Python handles signals then, and what they raise ends the statement."""
    return 0


def _copy(db: sqlite3.Connection, partial: Path, target: Path) -> None:
    db.set_progress_handler(_go_on, _STEPS)
    try:
        db.execute("VACUUM INTO ?", (str(partial),))
    except sqlite3.Error as error:
        if is_damage(error):
            raise
        if result_code(error) == sqlite3.SQLITE_INTERRUPT:
            raise StoreError("the backup was interrupted; nothing is left of it") from error
        if result_code(error) == sqlite3.SQLITE_FULL:
            raise StoreError(f"{target} cannot be written: the disk is full") from error
        raise StoreError(f"{target} cannot be written: {error}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _name(partial: Path, target: Path) -> None:
    """Rename, but never over a file that somebody made meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise StoreError(f"{target} exists already; a backup replaces nothing: name a new file") from None
    except OSError:  # a file system without hard links
        _check_target(target)
        partial.rename(target)

"""Backup of the SQLite file, with or without a running engine.

SQLite's ``.backup`` restarts whenever another connection writes, so it would never finish beside a busy engine.
``VACUUM INTO`` reads one consistent state of the store.
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

#: Bytes that must stay free on a disk that also holds the store; on small disks a twentieth of the disk.
_RESERVE = 64 * 2**20
#: After how many steps of SQLite signals such as Ctrl+C are handled.
_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup: its file, its size in bytes, and its duration in seconds."""

    file: Path
    size: int
    seconds: float


def back_up(source: Path, target: Path) -> Backup:
    """Write a copy of a store to a new file that only its owner may read.

    The copy has everything that was committed when the backup began. Encrypted data stays encrypted. The copy is
    written under a temporary name in the target's folder, and renamed when it is complete and synced to the disk.

    Raises:
        StoreError: the source is not a store, the target exists or cannot be written, or the disk is too full.
    """
    began = time.monotonic()
    _check_target(target)
    if not source.is_file():
        raise StoreError(f"there is no store at {source}")
    try:
        with closing(connect(source, read_only=True)) as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StoreError(f"{source} is not an engine's store")
            _check_room(db, source, target)
            with _partial(target.parent) as partial:
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
    """A temporary file with a unique name that only its owner may read; removed at the end.

    The process id would not make the name unique: in containers it is often the same.
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


def _check_room(db: sqlite3.Connection, source: Path, target: Path) -> None:
    """Check the free space. The copy has no free pages; concurrent writes grow the store's write-ahead log."""
    pages, spare, size = (
        db.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "freelist_count", "page_size")
    )
    needed, disk = (pages - spare) * size, shutil.disk_usage(target.parent)
    shared = source.stat().st_dev == target.parent.stat().st_dev
    usable = disk.free - (min(_RESERVE, disk.total // 20) if shared else 0)
    if needed > usable:
        there = format_size(max(usable, 0))
        raise StoreError(f"{target} cannot be written: it needs {format_size(needed)}, and {there} can be used there")


def _go_on() -> int:
    """SQLite's progress handler. Calling it lets Python handle signals; an exception ends the statement."""
    return 0


def _copy(db: sqlite3.Connection, partial: Path, target: Path) -> None:
    db.execute("PRAGMA query_only = OFF")  # VACUUM INTO counts as a write; the file itself is opened read-only
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
    """Rename the partial file, without replacing a file that was created meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise StoreError(f"{target} exists already; a backup replaces nothing: name a new file") from None
    except OSError:  # a file system without hard links
        _check_target(target)
        partial.rename(target)

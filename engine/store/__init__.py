"""Durable storage of events, of the work still to be done, and of the history. Knows no rules and no actions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.core.errors import StoreError
from engine.core.json_text import MAX_VALUES
from engine.store.protocol import Store

_WRITE_AS = "write it as a path, as sqlite:///relative/path or as sqlite:////absolute/path"


def open_store(
    url_or_path: str | Path,
    *,
    owner: str | None = None,
    clock: Callable[[], float] = time.time,
    keys: str = "",
    max_values: int = MAX_VALUES,
) -> Store:
    """Create the store for a URL or path. Call ``await store.open()`` before using it.

    Args:
        url_or_path: SQLite's file, or a directory in which the file is ``engine.db``.
        owner: this replica's name; by default a name that no other process has.
        clock: returns Unix seconds.
        keys: encryption keys as in ``ENGINE_STORE_KEY``; with a key, payloads are encrypted at rest.
        max_values: events with more JSON values are loaded unparsed.

    Raises:
        StoreError: the URL's scheme is unknown or not supported by this version, or a key is invalid.
    """
    from engine.store.encryption import keyring_from
    from engine.store.sqlite.store import SqliteStore

    path, keyring = _sqlite_path(url_or_path), keyring_from(keys)
    return SqliteStore(path, owner=owner, clock=clock, keyring=keyring, max_values=max_values)


def _sqlite_path(url_or_path: str | Path) -> Path:
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return _file_in(Path(url_or_path))
    parts = urlsplit(url_or_path)
    if parts.scheme in ("postgres", "postgresql"):
        raise StoreError("PostgreSQL support is not part of this version; use a path or sqlite:///path")
    if parts.scheme != "sqlite":
        raise StoreError(f"{parts.scheme}:// is not supported by this version; {_WRITE_AS}")
    if parts.netloc or len(parts.path) < 2 or parts.query or parts.fragment:
        raise StoreError(f"{url_or_path!r} names no file; {_WRITE_AS}")
    return _file_in(Path(unquote(parts.path[1:])))


def _file_in(path: Path) -> Path:
    if not path.name:
        raise StoreError(f"an empty path names no store; {_WRITE_AS}")
    return path / "engine.db" if path.is_dir() else path

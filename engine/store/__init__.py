"""What was accepted and what is still to be done, kept safe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.core.errors import StoreError
from engine.core.json_scan import MAX_VALUES
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
    """The store behind a URL or path, not opened yet: ``await store.open()`` comes next.

    A path is that of SQLite's file, or of a directory, in which the file is ``engine.db``.
    ``owner`` is this replica's name (default: one that no other process has). ``clock`` gives
    Unix seconds. With ``keys`` (see ``keyring``) what it holds of payloads is sealed. Events with more
    than ``max_values`` values are loaded unparsed.

    Raises:
        StoreError: the URL's scheme is not known, or not part of this version; a key is none.
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
        raise StoreError(f"{parts.scheme}:// is not a store this version knows; {_WRITE_AS}")
    if parts.netloc or len(parts.path) < 2 or parts.query or parts.fragment:
        raise StoreError(f"{url_or_path!r} names no file; {_WRITE_AS}")
    return _file_in(Path(unquote(parts.path[1:])))


def _file_in(path: Path) -> Path:
    if not path.name:
        raise StoreError(f"an empty path names no store; {_WRITE_AS}")
    return path / "engine.db" if path.is_dir() else path

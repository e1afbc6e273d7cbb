"""A thread that reads, so that a long look at history never holds up the writer or the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from engine.core.errors import StoreError
from engine.store.encryption import Keyring
from engine.store.sqlite.connection import WatchedFile, as_store_error, connect

P = ParamSpec("P")
T = TypeVar("T")
Query = Callable[Concatenate[sqlite3.Connection, P], T]


class Reader:
    """Owns a read-only connection. Each query sees one state of the store, however many statements it takes."""

    def __init__(self, path: Path, name: str, keyring: Keyring | None = None) -> None:
        self._path, self._keyring = path, keyring or Keyring()
        self._file = WatchedFile(path)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"store-{name}")
        self._db: sqlite3.Connection | None = None
        self._open = False

    def start(self) -> None:
        """Begin to take queries."""
        self._file.note()
        self._open = True

    async def ask(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query on the reader's thread.

        Raises:
            StoreError: the store is not open, or cannot be read.
        """
        if not self._open:
            raise StoreError("the store is not open")
        loop = asyncio.get_running_loop()
        try:
            answer = loop.run_in_executor(self._pool, lambda: self._ask(query, *args, **kwargs))
        except RuntimeError:  # stopped by another thread at this very moment
            raise StoreError("the store is not open") from None
        return await answer

    def stop(self) -> None:
        """Finish what was asked, then end. Blocks until then."""
        self._open = False
        self._pool.shutdown(wait=True)
        self._drop_connection()

    def _ask(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            self._file.check()
            if self._db is None:
                self._db = connect(self._path, self._keyring, read_only=True)
            self._db.execute("BEGIN")
            try:
                return query(self._db, *args, **kwargs)
            finally:
                # Nothing was written. After a damaged page COMMIT would fail, too, and take a good answer away.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        except StoreError:
            raise
        except Exception as error:  # a question's end: whatever went wrong is the asker's answer
            self._drop_connection()
            raise as_store_error(self._path, error) from error

    def _drop_connection(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

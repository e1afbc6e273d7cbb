"""A thread that reads, so that long queries block neither the writer nor the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate

from engine.core.errors import StoreError
from engine.store.encryption import Keyring
from engine.store.sqlite.connection import Database, as_store_error, connect
from engine.store.sqlite.writer import P, T, check_in_place, identity_of


class Reader:
    """Owns a read-only connection. Each query runs in one transaction and sees one state of the store."""

    def __init__(self, path: Path, name: str, keyring: Keyring | None = None) -> None:
        self._path, self._keyring = path, keyring
        self._identity: tuple[int, int] | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"store-{name}")
        self._db: Database | None = None

    def start(self) -> None:
        """Start accepting queries."""
        self._identity = identity_of(self._path)

    async def ask(self, query: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query on the reader's thread.

        Raises:
            StoreError: the store is not open, or cannot be read.
        """
        if self._identity is None:
            raise StoreError("the store is not open")
        try:
            answer = asyncio.wrap_future(self._pool.submit(lambda: self._ask(query, *args, **kwargs)))
        except RuntimeError:  # the reader was stopped
            raise StoreError("the store is not open") from None
        return await answer

    def stop(self) -> None:
        """Finish the submitted queries, then stop. Blocks until then."""
        self._pool.shutdown(wait=True)
        self._drop_connection()

    def _ask(self, query: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            check_in_place({self._path: self._identity})
            if self._db is None:
                self._db = connect(self._path, self._keyring, read_only=True)
            self._db.execute("BEGIN")
            try:
                return query(self._db, *args, **kwargs)
            finally:
                # Nothing was written. COMMIT would fail after a damaged page was met, and a valid result would be lost.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        except StoreError:
            raise
        except Exception as error:  # the end of a query: any error goes to the caller
            self._drop_connection()
            raise as_store_error(self._path, error) from error

    def _drop_connection(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

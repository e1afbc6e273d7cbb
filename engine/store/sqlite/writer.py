"""The thread that writes, with group commits: all waiting calls share one transaction.

A caller submits a call and awaits its future. While a transaction is being committed, further calls collect for the
next one. So a busy store makes a few hundred fsyncs a second instead of thousands, and an idle store commits at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from engine.core.errors import StoreError, StoreGone
from engine.store.encryption import Keyring
from engine.store.packing import load_json
from engine.store.protocol import Commits
from engine.store.sqlite.connection import Database, as_store_error, connect, is_transient, log_of, result_code

#: A batch has at most this many calls or bytes of bodies, because its first call waits for the whole batch.
_MOST_CALLS = 1024
_MOST_BYTES = 8 * 2**20
#: After a batch of at least ``_BUSY`` calls the writer waits this many seconds for more calls before the next batch.
#: That halves the number of transactions and saves a busy process a tenth of its CPU time.
_BUSY = 8
_GATHERING = 0.002
#: After this many calls in a row failed because of the disk, the rest of the batch fails without an attempt.
_STRIKES = 3
#: Disk failures that a single call may cause by its size. Other disk failures affect every call.
_BY_SIZE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)
#: Failures after which the connection can be used again.
_CONNECTION_SURVIVES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

#: An INSERT writes at most this many rows.
_MOST_ROWS = 512

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Insert:
    """Inserts any number of rows in few statements.

    Each statement releases the GIL and must reacquire it from a busy event loop. ``executemany`` does that for each
    row, this class once for 512 rows and at most three times for the rest. It uses few distinct statements, so they
    stay prepared.
    """

    def __init__(self, table: str, columns: str, verb: str = "INSERT") -> None:
        self._head = f"{verb} INTO {table} ({columns}) VALUES "
        self._row = "(?" + ",?" * columns.count(",") + ")"

    def run(self, db: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Insert the rows, each with a value for every column."""
        start = 0
        while missing := len(rows) - start:
            step = next(power for power in (64, 8, 1) if missing >= power)
            size = min(missing - missing % step, _MOST_ROWS)
            values = list(chain.from_iterable(rows[start : start + size]))
            db.execute(self._head + f"{self._row}," * (size - 1) + self._row, values)
            start += size


def rows_of(db: sqlite3.Connection, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """The result of a statement that returns all its rows as one row of JSON, because each row would cost the GIL."""
    rows: list[Any] = load_json(db.execute(statement, values).fetchone()[0])
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Generic[R, T]):
    """An operation of the store, with requests of the type R and results of the type T.

    ``apply`` executes a group of calls in the open transaction and returns one result for each. Calls of a
    ``mergeable`` operation may be reordered with other mergeable calls and executed as one group; other calls keep
    their position. ``abandon`` gets the request and the result of a call whose caller was cancelled.
    """

    apply: Callable[[Database, Sequence[R]], Sequence[T]]
    mergeable: bool = False
    abandon: Callable[[R, T], None] | None = None


def operation(verb: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> Operation[None, T]:
    """An operation that calls a function once."""
    return Operation(lambda db, _requests: [verb(db, *args, **kwargs)])


@dataclass(slots=True, eq=False)
class Call:
    """One call of an operation. ``future`` is None if nothing waits for it."""

    operation: Operation[Any, Any]
    request: Any
    weight: int
    future: asyncio.Future[Any] | None
    result: Any = None
    error: StoreError | None = None

    def abandon(self) -> None:
        """The caller was cancelled: undo what the call did."""
        if self.error is None and self.operation.abandon is not None:
            self.operation.abandon(self.request, self.result)


class Writer:
    """Owns the writing connection. Continues after a full, read-only or failing disk recovers."""

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        self._path, self._keyring = path, keyring
        #: Duration and number of calls of the transactions.
        self.commits = Commits()
        #: The file and its log, each with its identity when it was opened.
        self._watched: dict[Path, tuple[int, int] | None] = {}
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._db: Database | None = None
        #: Whether it accepts calls.
        self.is_open = False
        #: Held while a call is queued or the queue is closed, so that nothing is queued after the end marker.
        self._closing = threading.Lock()
        self._logger = logging.getLogger(__name__)

    def start(self) -> None:
        """Start accepting calls."""
        self._watched[self._path] = identity_of(self._path)
        self.is_open = True
        self._thread.start()

    def submit(self, operation: Operation[R, T], request: R, weight: int = 0) -> asyncio.Future[T]:
        """Submit a call from an event loop. ``weight`` is its size in bytes, for large requests.

        The future fails with a ``StoreError`` if the call fails.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._put(Call(operation, request, weight, future)):
            future.set_exception(_not_open())
        return future

    def _put(self, call: Call) -> bool:
        with self._closing:
            if self.is_open:
                self._queue.put(call)
            return self.is_open

    async def do(self, operation: Operation[R, T], request: R, weight: int = 0) -> T:
        """Submit a call and wait for its result. If the caller is cancelled, the call is abandoned.

        Raises:
            StoreError: the store is not open, or the call failed.
        """
        future = self.submit(operation, request, weight)
        try:
            return await future
        except asyncio.CancelledError:
            # If the result had not arrived yet, the writer sees the cancelled future.
            if future.done() and not future.cancelled() and future.exception() is None:
                Call(operation, request, 0, None, future.result()).abandon()
            raise

    def post(self, operation: Operation[R, T], request: R) -> None:
        """Submit a call that nothing waits for. It is dropped if the writer has stopped."""
        self._put(Call(operation, request, 0, None))

    def stop(self) -> None:
        """Execute what was submitted, then stop. Blocks until then."""
        with self._closing:
            if self.is_open:
                self.is_open = False
                self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    # Everything below runs on the writer's thread, except _answer_on_loop

    def _run(self) -> None:
        batch: list[Call] = []
        try:
            last = False
            while not last:
                batch, last = self._drain(_GATHERING if len(batch) >= _BUSY else 0.0)
                if batch:
                    begun = time.perf_counter()
                    self._commit(batch)
                    self.commits.seconds.add(time.perf_counter() - begun)
                    self.commits.verbs.add(len(batch))
                    self._answer(batch)
            self._drop_connection()
        except BaseException:
            self._give_up(batch)
            raise

    def _give_up(self, batch: list[Call]) -> None:
        """The thread ends because of a bug: waiting and later callers get an error."""
        with self._closing:
            self.is_open = False
        while not self._queue.empty():
            if (call := self._queue.get()) is not None:
                batch.append(call)
        self._fail(batch, _not_open())
        self._answer(batch)

    def _drain(self, gathering: float) -> tuple[list[Call], bool]:
        """The next batch: what is queued ``gathering`` seconds after the first call; and whether it is the last."""
        batch: list[Call] = []
        weight = 0
        call = self._queue.get()
        if gathering:
            time.sleep(gathering)
        while call is not None:
            batch.append(call)
            weight += call.weight
            if len(batch) >= _MOST_CALLS or weight >= _MOST_BYTES or self._queue.empty():
                return batch, False
            call = self._queue.get()  # no other thread takes from the queue
        return batch, True

    def _commit(self, batch: Sequence[Call]) -> None:
        """Commit the batch in one transaction. If it fails, split it in halves until the failing call is alone."""
        strikes = 0
        parts = [batch]
        while parts:
            part = parts.pop()
            error = self._try(part)
            if error is None:
                strikes = 0
            elif is_transient(error) and (result_code(error) not in _BY_SIZE or strikes >= _STRIKES):
                self._fail([call for rest in [part, *parts] for call in rest], error)
                return
            elif len(part) == 1:
                strikes += is_transient(error)
                self._fail(part, error)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]

    def _try(self, calls: Sequence[Call]) -> Exception | None:
        """Execute all calls in one transaction. On failure none has an effect, and the error is returned."""
        try:
            check_in_place(self._watched)
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            for operation, group in _groups(calls):
                results = operation.apply(db, [call.request for call in group])
                for call, result in zip(group, results, strict=True):
                    call.result = result
            db.execute("COMMIT")
            check_in_place(self._watched)
        except Exception as error:  # noqa: BLE001 - the end of a transaction: any error goes to the callers
            self._roll_back(error)
            return error
        return None

    def _connection(self) -> Database:
        if self._db is None:
            self._db = connect(self._path, self._keyring)
            self._db.execute("PRAGMA user_version")  # the first statement of a connection opens its log
            self._watched[log_of(self._path)] = identity_of(log_of(self._path))
        return self._db

    def _roll_back(self, error: Exception) -> None:
        """Roll back. If the connection may be unusable, drop it, and the next call gets a new one."""
        usable = not isinstance(error, sqlite3.OperationalError) or result_code(error) in _CONNECTION_SURVIVES
        try:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            usable = False
        if not usable:
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
            self._watched.pop(log_of(self._path), None)

    def _fail(self, calls: Sequence[Call], cause: Exception) -> None:
        error = as_store_error(self._path, cause)
        for call in calls:
            # One exception for each call, because every caller adds its own traceback.
            call.error = type(error)(*error.args)
            call.error.__cause__ = cause

    def _answer(self, batch: Sequence[Call]) -> None:
        """Deliver the results. Each event loop is woken once, however many of its callers wait."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Call]] = {}
        for call in batch:
            if call.future is not None:
                by_loop.setdefault(call.future.get_loop(), []).append(call)
            elif call.error is not None:
                self._logger.warning("the call of a cancelled caller could not be undone: %s", call.error)
        for loop, calls in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._answer_on_loop, calls)
            except RuntimeError:  # the loop is closed, and its callers are gone
                for call in calls:
                    call.abandon()

    def _answer_on_loop(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if call.future is None or call.future.done():
                call.abandon()
            elif call.error is None:
                call.future.set_result(call.result)
            else:
                call.future.set_exception(call.error)


def identity_of(path: Path) -> tuple[int, int] | None:
    """What identifies the file at a path; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every transaction, and pathlib takes twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_in_place(files: Mapping[Path, tuple[int, int] | None]) -> None:
    """Check that each path still leads to the file with this identity.

    A process can go on writing to a removed file, but loses everything in it when it ends.

    Raises:
        StoreGone: it does not.
    """
    for path, identity in files.items():
        if identity is not None and identity != identity_of(path):
            raise StoreGone(
                f"{path} was removed or replaced while the engine uses it; put the file back, or restart the engine"
            )


def _not_open() -> StoreError:
    return StoreError("the store is not open")


def _groups(calls: Sequence[Call]) -> Iterator[tuple[Operation[Any, Any], list[Call]]]:
    """Group calls by operation, in an order that concurrent callers could have produced.

    Mergeable calls that wait at the same time are concurrent, because each caller awaits its result. Other calls keep
    their position: a cancelled caller may submit one right after a call whose result it did not await.
    """
    merged: dict[Operation[Any, Any], list[Call]] = {}
    for call in calls:
        if call.operation.mergeable:
            merged.setdefault(call.operation, []).append(call)
        else:
            yield from merged.items()
            merged = {}
            yield call.operation, [call]
    yield from merged.items()

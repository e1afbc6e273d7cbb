"""The one thread that writes: everything that waits goes into one transaction, and is answered together.

A caller hands in a verb and awaits its future. While a transaction is being made durable, the
next one fills up; so a busy store pays for one fsync a few hundred times a second, not a few
thousand, and an idle one answers at once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from engine.core.errors import StoreError
from engine.store.commits import Commits
from engine.store.encryption import Keyring
from engine.store.sqlite.connection import WatchedFile, as_store_error, connect, is_transient, log_of, result_code

#: A batch ends after so many verbs, or so many bytes of bodies: those in it wait for all of it.
_MOST_VERBS = 1024
_MOST_BYTES = 8 * 2**20
#: After a batch of so many verbs more are on their way, and are waited for, so many seconds, before the next one:
#: half as many transactions then do the same work, which saves a busy process a tenth of its processor time.
_BUSY = 8
_GATHERING = 0.002
#: So many verbs in a row that fail for reasons of the disk speak for the rest of their batch.
_STRIKES = 3
#: Failures of the disk that a single verb may cause by its size; others hold for all alike.
_BY_SIZE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)
#: Failures after which a connection goes on as if nothing had been.
_CONNECTION_SURVIVES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

Apply = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One sort of verb.

    ``apply`` does a group of them in the open transaction and returns one result each.
    ``mergeable``: verbs of this kind may pass others that are mergeable, to be done as one group;
    those that are not keep their place. ``compensate`` makes good what a verb did for a caller
    that did not wait for the answer: another kind and its request, or None.
    """

    apply: Apply
    mergeable: bool = False
    compensate: Callable[[Any, Any], tuple[Operation, Any] | None] | None = None


@dataclass(slots=True, eq=False)
class Call:
    """One thing to write, and who waits for it (nobody: the engine's own making good)."""

    kind: Operation
    request: Any
    weight: int
    future: asyncio.Future[Any] | None
    result: Any = None
    error: StoreError | None = None


class Writer:
    """Owns the connection that writes. Survives a full disk, a read-only one and one that fails."""

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        self._path, self._keyring = path, keyring or Keyring()
        #: How long transactions took, and how much each did.
        self.commits = Commits()
        self._file, self._log = WatchedFile(path), WatchedFile(log_of(path))
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._db: sqlite3.Connection | None = None
        self._open = False
        #: Held while a verb is queued or the queue is closed: nothing is queued behind its end.
        self._closing = threading.Lock()
        self._logger = logging.getLogger(__name__)

    def start(self) -> None:
        """Begin to take verbs."""
        self._file.note()
        self._open = True
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it takes verbs."""
        return self._open

    def submit(self, kind: Operation, request: Any, weight: int = 0) -> asyncio.Future[Any]:
        """Hand in a verb; ``weight`` is its size in bytes where that matters. To be called on an event loop.

        The future fails with a ``StoreError`` where the verb could not be done.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._queued(Call(kind, request, weight, future)):
            future.set_exception(_not_open())
        return future

    def _queued(self, verb: Call) -> bool:
        with self._closing:
            if self._open:
                self._queue.put(verb)
            return self._open

    async def do(self, kind: Operation, request: Any, weight: int = 0) -> Any:
        """Hand in a verb and wait for its answer. One that is cancelled meanwhile is made good, see ``Operation``.

        Raises:
            StoreError: the store is not open, or refuses.
        """
        future = self.submit(kind, request, weight)
        try:
            return await future
        except asyncio.CancelledError:
            # The answer may have come a moment before; else the writer sees that nobody waits.
            if future.done() and not future.cancelled() and future.exception() is None:
                self._compensate(kind, request, future.result())
            raise

    def post(self, kind: Operation, request: Any) -> None:
        """Hand in a verb that nobody waits for; after the end it is left undone."""
        self._queued(Call(kind, request, 0, None))

    def stop(self) -> None:
        """Do what was handed in, then end. Blocks until then."""
        with self._closing:
            if self._open:
                self._open = False
                self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    # Everything below runs on the writer's thread, but for _answer_on_loop

    def _run(self) -> None:
        last = busy = False
        batch: list[Call] = []
        try:
            while not last:
                batch, last = self._drain(_GATHERING if busy else 0.0)
                busy = len(batch) >= _BUSY
                if batch:
                    begun = time.perf_counter()
                    self._commit(batch)
                    self.commits.add(len(batch), time.perf_counter() - begun)
                    self._answer(batch)
            self._drop_connection()
        except BaseException:
            self._give_up(batch)
            raise

    def _give_up(self, batch: Sequence[Call]) -> None:
        """The thread ends by a fault of the engine: waiting and later callers get an error."""
        with self._closing:
            self._open = False
        waiting = [*batch]
        with suppress(Empty):
            while True:
                if (verb := self._queue.get_nowait()) is not None:
                    waiting.append(verb)
        self._fail(waiting, _not_open())
        self._answer(waiting)

    def _drain(self, gathering: float) -> tuple[list[Call], bool]:
        """Whatever waits so many seconds after the first verb, at least that, and whether it is the last."""
        batch: list[Call] = []
        weight = 0
        verb = self._queue.get()
        if gathering:
            time.sleep(gathering)
        while verb is not None:
            batch.append(verb)
            weight += verb.weight
            if len(batch) >= _MOST_VERBS or weight >= _MOST_BYTES:
                return batch, False
            try:
                verb = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: Sequence[Call]) -> None:
        """One transaction if possible; where one verb fails, halves of it, until it stands alone."""
        strikes = 0
        parts = [batch]
        while parts:
            part = parts.pop()
            error = self._try(part)
            if error is None:
                strikes = 0
            elif is_transient(error) and (result_code(error) not in _BY_SIZE or strikes >= _STRIKES):
                self._fail([verb for rest in [part, *parts] for verb in rest], error)
                return
            elif len(part) == 1:
                strikes += is_transient(error)
                self._fail(part, error)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]

    def _try(self, verbs: Sequence[Call]) -> Exception | None:
        """All verbs in one transaction, or none of them and why."""
        try:
            self._check_place()
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            for kind, group in _groups(verbs):
                results = kind.apply(db, [verb.request for verb in group])
                for verb, result in zip(group, results, strict=True):
                    verb.result = result
            db.execute("COMMIT")
            self._check_place()
        except Exception as error:  # noqa: BLE001 - a transaction's end: whatever went wrong is answered to its verbs
            self._roll_back(error)
            return error
        return None

    def _check_place(self) -> None:
        """What is committed to a file that is not there any more is not kept: nobody may be told that it is."""
        self._file.check()
        self._log.check()

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = connect(self._path, self._keyring)
            self._db.execute("PRAGMA user_version")  # a connection's first look at the file opens its log
            self._log.note()
        return self._db

    def _roll_back(self, error: Exception) -> None:
        """Leave the connection as if nothing had been; where that is in doubt, the next verb gets a new one."""
        code = result_code(error)
        if self._db is None:
            return
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop_connection()
            return
        if isinstance(error, sqlite3.OperationalError) and code not in _CONNECTION_SURVIVES:
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
            self._log.forget()

    def _fail(self, verbs: Sequence[Call], cause: Exception) -> None:
        error = as_store_error(self._path, cause)
        for verb in verbs:
            # Each its own, for each caller adds its own traceback.
            verb.error = type(error)(*error.args)
            verb.error.__cause__ = cause

    def _answer(self, batch: Sequence[Call]) -> None:
        """Wake each event loop once, however many of its callers wait."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Call]] = {}
        for verb in batch:
            if verb.future is not None:
                by_loop.setdefault(verb.future.get_loop(), []).append(verb)
            elif verb.error is not None:
                self._logger.warning("what a caller that went away had in hand could not be given back: %s", verb.error)
        for loop, verbs in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._answer_on_loop, verbs)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._compensate_all(verbs)

    def _answer_on_loop(self, verbs: Sequence[Call]) -> None:
        compensate = []
        for verb in verbs:
            future = verb.future
            if future is None or future.done():
                compensate.append(verb)
            elif verb.error is None:
                future.set_result(verb.result)
            else:
                future.set_exception(verb.error)
        if compensate:
            self._compensate_all(compensate)

    def _compensate_all(self, verbs: Sequence[Call]) -> None:
        for verb in verbs:
            if verb.error is None:
                self._compensate(verb.kind, verb.request, verb.result)

    def _compensate(self, kind: Operation, request: Any, result: Any) -> None:
        amends = None if kind.compensate is None else kind.compensate(request, result)
        if amends is not None:
            self.post(*amends)


def _not_open() -> StoreError:
    return StoreError("the store is not open")


def _groups(verbs: Sequence[Call]) -> Iterator[tuple[Operation, list[Call]]]:
    """Verbs in groups of a kind, in an order that some order of their callers could have had.

    Mergeable verbs that wait at the same time are concurrent, for each caller awaits its
    answer; all others keep their place, as a caller that was cancelled may follow up with one.
    """
    merged: dict[Operation, list[Call]] = {}
    for verb in verbs:
        if verb.kind.mergeable:
            merged.setdefault(verb.kind, []).append(verb)
        else:
            yield from merged.items()
            merged = {}
            yield verb.kind, [verb]
    yield from merged.items()

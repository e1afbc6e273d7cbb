"""Runs computations that may take long in threads, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, Generic, TypeVar

from engine.core.deadline import LIMIT, Deadline, Deferred, Overdue, within
from engine.core.error_text import named_error
from engine.core.errors import TookTooLong

T = TypeVar("T")

#: The CPU time that a computation may take on the event loop, in seconds.
ON_LOOP: Final = 0.02
#: The work that one template may do on the event loop: 20 ms of the slowest kind.
_WORK_ON_LOOP: Final = 20_000
#: A computation in a thread that took less CPU time than this, in seconds, could have run on the loop.
_SHORT: Final = 0.005
#: After so many short ones in a row, computations of a kind start on the loop again.
_SHORT_IN_A_ROW: Final = 8
#: So many kinds are remembered to take long; the oldest is forgotten first.
_MOST_REMEMBERED: Final = 1000
#: How long past its limit a thread is waited for, in seconds of CPU time: it may be in a call that checks no deadline.
_MARGIN: Final = 5.0
#: Between two looks at the CPU time of a thread that is late, in seconds.
_LOOK: Final = 1.0


class Offload:
    """Starts computations on the event loop, and moves to a thread what does not end there within 20 ms of CPU time.

    A computation must be free of side effects: the part that ran on the loop is thrown away.
    What took long is remembered by kind and size, and starts in a thread until it was short again eight times in a
    row. At most ``most`` threads run at once, for they share one interpreter with the loop. Kinds take turns.

    ``limit`` is the CPU time that a computation may take in a thread, in seconds.
    """

    def __init__(self, most: int = 2, limit: float = LIMIT, margin: float = _MARGIN) -> None:
        self._limit, self._margin = limit, margin
        self._slots = _Slots(most)
        #: By kind and size: how many computations in a row were short since one took long.
        self._long: dict[Hashable, int] = {}
        #: How many computations were started in a thread.
        self.offloaded = 0

    @property
    def waiting(self) -> int:
        """How many computations wait for a thread."""
        return self._slots.waiting

    async def run(self, kind: Hashable, work: Callable[[], T], *, size: int = 0, large: bool = False) -> T:
        """The value of a computation.

        Args:
            kind: what computations are remembered by, and take turns by.
            size: how large its input is, in bytes; what took long with a large input may be short with a small one.
            large: it starts in a thread.

        Raises:
            TookTooLong: it reached the limit.
        """
        key = (kind, size.bit_length())
        if not large and key not in self._long:
            try:
                with within(Deadline(ON_LOOP, Deferred, _WORK_ON_LOOP)):
                    return work()
            except Deferred:
                self._remember(key)
        await self._slots.acquire(kind)
        try:
            thread = _Thread(work, self._limit, self._slots.release)
        except BaseException:  # the system gives no thread
            self._slots.release()
            raise
        self.offloaded += 1
        value = await thread.value(self._limit + self._margin)
        if key in self._long:
            self._weigh(key, thread.seconds)
        return value

    def _remember(self, key: Hashable) -> None:
        if len(self._long) >= _MOST_REMEMBERED:
            del self._long[next(iter(self._long))]
        self._long[key] = 0

    def _weigh(self, key: Hashable, seconds: float) -> None:
        self._long[key] = self._long[key] + 1 if seconds < _SHORT else 0
        if self._long[key] >= _SHORT_IN_A_ROW:
            del self._long[key]


class _Slots:
    """A number of slots. Who waits gets one in turn by kind: a thousand of one kind are one turn for another."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def acquire(self, kind: Hashable) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            kind = next(iter(self._waiting))
            turns = self._waiting.pop(kind)
            turn = turns.popleft()
            if turns:
                self._waiting[kind] = turns  # behind all other kinds
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _Thread(Generic[T]):
    """One computation in a thread. ``release`` is called on the loop when the thread has ended, however late."""

    def __init__(self, work: Callable[[], T], limit: float, release: Callable[[], None]) -> None:
        self._work, self._limit, self._release = work, limit, release
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[T] = self._loop.create_future()
        #: The CPU time of the thread so far, in seconds.
        self._cpu_seconds: Callable[[], float] = float
        #: The CPU time it took, in seconds.
        self.seconds = 0.0
        threading.Thread(target=self._run, name="offload", daemon=True).start()

    async def value(self, limit: float) -> T:
        """What the computation came to.

        Raises:
            TookTooLong: it reached its own limit, or is still running after ``limit`` seconds of CPU time.
        """
        wait, used = limit, 0.0
        try:
            while not (await asyncio.wait([self._answer], timeout=wait))[0]:
                with contextlib.suppress(OSError):  # the thread has just ended
                    used = self._cpu_seconds()
                if used >= limit:
                    raise TookTooLong(self._limit, running=True)
                wait = min(_LOOK, limit)
            return self._answer.result()
        finally:
            self._answer.cancel()  # if it has not come by now, nobody waits for it

    def _run(self) -> None:
        settle = _outcome(self._compute, self._answer)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end, settle)

    def _compute(self) -> T:
        self._cpu_seconds = _clock_of_this_thread()
        begun = time.thread_time()
        try:
            with within(Deadline(self._limit)):
                return self._work()
        except Overdue:
            raise TookTooLong(self._limit) from None
        finally:
            self.seconds = time.thread_time() - begun

    def _end(self, settle: Callable[[], None]) -> None:
        self._release()
        settle()


def _clock_of_this_thread() -> Callable[[], float]:
    """A function that other threads may call; where the system does not tell CPU time to them, it tells the time."""
    if hasattr(time, "pthread_getcpuclockid"):
        return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
    started = time.monotonic()
    return lambda: time.monotonic() - started


async def in_thread(work: Callable[[], T]) -> T:
    """A function's value, from a daemon thread of its own: unlike a pool's, it can't keep the process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        settle = _outcome(work, answer)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name="offload", daemon=True).start()
    return await answer


def _outcome(work: Callable[[], Any], answer: asyncio.Future[Any]) -> Callable[[], None]:
    """Run a function; what is returned hands its value, or its exception, to the future."""
    try:
        settle = partial(answer.set_result, work())
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
        settle = partial(answer.set_exception, _raisable(error))
    return lambda: None if answer.done() else settle()


def _raisable(error: BaseException) -> Exception:
    """A future cannot raise StopIteration, and what would end the program must not do so from a thread."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"it raised {named_error(error)}")

"""Limits the CPU time of computations, and runs long ones in threads, so that they do not block the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Generic, TypeVar

from engine.core.error_text import named_error
from engine.core.errors import TookTooLong

T = TypeVar("T")

#: The CPU time that one evaluation, or one rendering, may take, in seconds.
LIMIT = 10.0
#: A long loop checks the deadline after so many values, about every millisecond.
STRIDE = 1000
#: The CPU time that a computation may take on the event loop, in seconds.
ON_LOOP: Final = 0.02
#: The work that one template may do on the event loop: 20 ms of the slowest kind.
_WORK_ON_LOOP: Final = 20_000
#: A computation in a thread that took less CPU time than this, in seconds, could have run on the loop.
_SHORT: Final = 0.005
#: After so many consecutive short ones, computations of a kind start on the loop again.
_SHORT_IN_A_ROW: Final = 8
#: The maximum number of long kinds that are remembered. The oldest is dropped first.
_MOST_REMEMBERED: Final = 1000
#: How long past its limit to wait for a thread, in seconds of CPU time: it may be in a call that checks no deadline.
_MARGIN: Final = 5.0
#: Seconds between two checks of the CPU time of a late thread.
_LOOK: Final = 1.0


class OutOfTime(BaseException):
    """A computation reached its limit.

    Not an ``Exception``: a condition turns those into *undecided* and continues, but this ends the whole computation.
    """


class Overdue(OutOfTime):
    """The final limit is reached: the computation has no result."""


class Deferred(OutOfTime):
    """The limit for the event loop is reached: the computation starts again in a thread."""


class Deadline:
    """The limit of one computation, in seconds of its thread's CPU time.

    CPU time, because the result is final: a suspended machine must not make an event undecided. ``work`` limits one
    template, in the units of its budget; None allows the whole budget. It stops a template before a large step; the
    clock could only stop it afterwards.
    """

    __slots__ = ("_cpu_end", "_error", "_look_at", "seconds", "work")

    def __init__(self, seconds: float, error: type[OutOfTime] = Overdue, work: int | None = None) -> None:
        self.seconds, self.work, self._error = seconds, work, error
        self._cpu_end = time.thread_time() + seconds
        self._look_at = time.monotonic() + seconds

    def check(self, work: int = 0) -> None:
        """Check the limit. ``work`` is the total work of a template after its next step.

        Raises:
            OutOfTime: the limit is reached.
        """
        if self.work is not None and work > self.work:
            self.exceed()
        # Reading CPU time costs a system call. It never runs faster than the clock, so the clock is checked first.
        if time.monotonic() < self._look_at:
            return
        remaining = self._cpu_end - time.thread_time()
        if remaining <= 0:
            self.exceed()
        self._look_at = time.monotonic() + remaining

    def exceed(self) -> None:
        """End the computation now.

        Raises:
            OutOfTime: always.
        """
        raise self._error(f"took longer than {self.seconds:g} s of CPU time")


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)

#: The deadline of the running computation, or None.
current = _current.get


class within:  # noqa: N801 - used as a with block; a generator would cost five times as much
    """Run the block under a deadline."""

    __slots__ = ("_deadline", "_token")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __enter__(self) -> None:
        self._token = _current.set(self._deadline)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def check() -> None:
    """Check the current deadline, if there is one.

    Raises:
        OutOfTime: the limit is reached.
    """
    deadline = _current.get()
    if deadline is not None:
        deadline.check()


def watched(values: Collection[Any]) -> Iterable[Any]:
    """Iterate over values, checking the deadline if there are many.

    Raises:
        OutOfTime: the limit is reached during the iteration.
    """
    return values if len(values) <= STRIDE else _watched(list(values))


def _watched(values: list[Any]) -> Iterator[Any]:
    for start in range(0, len(values), STRIDE):
        check()
        yield from values[start : start + STRIDE]


class Offload:
    """Runs computations on the event loop, and moves those longer than 20 ms of CPU time to a thread.

    A computation must have no side effects: in the thread it starts again from the beginning. Long ones are remembered
    by kind and size, and start in a thread until they were short eight times in a row. At most ``most`` threads run at
    once, because they share one interpreter with the loop. Kinds take turns.

    ``limit`` is the CPU time of a computation in a thread, in seconds.
    """

    def __init__(self, most: int = 2, limit: float = LIMIT, margin: float = _MARGIN) -> None:
        self._limit, self._margin = limit, margin
        self._slots = _Slots(most)
        #: By kind and size: the number of consecutive short computations since a long one.
        self._long: dict[Hashable, int] = {}
        #: The number of computations started in a thread.
        self.offloaded = 0

    @property
    def waiting(self) -> int:
        """The number of computations that wait for a thread."""
        return self._slots.waiting

    async def run(self, kind: Hashable, work: Callable[[], T], *, size: int = 0, large: bool = False) -> T:
        """Run a computation and return its value.

        Args:
            kind: computations of one kind are remembered together and share one turn.
            size: the size of the input in bytes; a small input may be short where a large one was long.
            large: start in a thread at once.

        Raises:
            TookTooLong: the computation reached the limit.
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
        except BaseException:  # the system cannot start a thread
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
    """A number of slots, assigned to the waiting kinds in turn, however many computations of one kind wait."""

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
                self._waiting[kind] = turns  # after all other kinds
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _Thread(Generic[T]):
    """One computation in a thread. ``release`` is called on the loop when the thread ends, however late."""

    def __init__(self, work: Callable[[], T], limit: float, release: Callable[[], None]) -> None:
        self._work, self._limit = work, limit
        #: The CPU time of the thread so far, in seconds.
        self._cpu_seconds: Callable[[], float] = float
        #: The CPU time of the computation, in seconds.
        self.seconds = 0.0
        self._answer = _start(self._compute, release)

    async def value(self, limit: float) -> T:
        """The value of the computation.

        Raises:
            TookTooLong: it reached its limit, or still runs after ``limit`` seconds of CPU time.
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
            self._answer.cancel()  # a later answer is ignored

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


def _clock_of_this_thread() -> Callable[[], float]:
    """A function that reads this thread's CPU time from other threads, or elapsed time where that is not supported."""
    if hasattr(time, "pthread_getcpuclockid"):
        return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
    started = time.monotonic()
    return lambda: time.monotonic() - started


async def in_thread(work: Callable[[], T]) -> T:
    """Run a function in its own daemon thread. Unlike a thread of a pool, it cannot block the end of the process."""
    return await _start(work)


def _start(work: Callable[[], T], finished: Callable[[], None] = lambda: None) -> asyncio.Future[T]:
    """Run a function in a daemon thread. ``finished`` is called on the loop when the thread ends, however late."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            settle = partial(answer.set_result, work())
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting task
            settle = partial(answer.set_exception, _raisable(error))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(end, settle)

    def end(settle: Callable[[], None]) -> None:
        finished()
        if not answer.done():
            settle()

    threading.Thread(target=run, name="offload", daemon=True).start()
    return answer


def _raisable(error: BaseException) -> Exception:
    """An exception that a future can raise. StopIteration and SystemExit are wrapped."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"it raised {named_error(error)}")

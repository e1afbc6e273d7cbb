"""A limit on the CPU time of a computation, which the computation itself checks as it goes on."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

#: The CPU time that one evaluation, or one rendering, may take, in seconds.
LIMIT = 10.0
#: Between two checks within a long loop lie at most so many values; about a millisecond.
STRIDE = 1000


class OutOfTime(BaseException):
    """A computation has reached its limit.

    Not an ``Exception``: a condition turns those into *undecided* and goes on, but this ends the whole computation.
    """


class Overdue(OutOfTime):
    """The limit was the last one: the computation has no result."""


class Deferred(OutOfTime):
    """The limit was that of the event loop: the computation starts again in a thread."""


class Deadline:
    """The limit of one computation, in seconds of its thread's CPU time.

    CPU time, because the result is final: a machine that stood still must not make an event undecided.
    ``work`` is how much one template may do, in the units of its budget; None: as much as the budget allows. It
    stops a template before a large step, where the clock could only stop it after that.
    """

    __slots__ = ("_cpu_end", "_error", "_look_at", "seconds", "work")

    def __init__(self, seconds: float, error: type[OutOfTime] = Overdue, work: int | None = None) -> None:
        self.seconds, self.work, self._error = seconds, work, error
        self._cpu_end = time.thread_time() + seconds
        self._look_at = time.monotonic() + seconds

    def check(self, work: int = 0) -> None:
        """Go on only within the limit. ``work`` is how much a template is about to have done.

        Raises:
            OutOfTime: it is reached.
        """
        if self.work is not None and work > self.work:
            self.exceed()
        # CPU time costs a system call. As it never runs faster than the clock, the clock is asked first.
        if time.monotonic() < self._look_at:
            return
        left = self._cpu_end - time.thread_time()
        if left <= 0:
            self.exceed()
        self._look_at = time.monotonic() + left

    def exceed(self) -> None:
        """End the computation now.

        Raises:
            OutOfTime: always.
        """
        raise self._error(f"took longer than {self.seconds:g} s of CPU time")


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)

#: The deadline of the computation that is running; None where it has none.
current = _current.get


class within:  # noqa: N801 - reads as a block's head; a generator would cost five times as much
    """Run the block under a deadline."""

    __slots__ = ("_deadline", "_token")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __enter__(self) -> None:
        self._token = _current.set(self._deadline)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def check() -> None:
    """Go on only within the current limit, if there is one.

    Raises:
        OutOfTime: it is reached.
    """
    deadline = _current.get()
    if deadline is not None:
        deadline.check()


def watched(values: Collection[Any]) -> Iterable[Any]:
    """The values; where they are many, the deadline is checked on the way.

    Raises:
        OutOfTime: while they are read.
    """
    return values if len(values) <= STRIDE else _watched(list(values))


def _watched(values: list[Any]) -> Iterator[Any]:
    for start in range(0, len(values), STRIDE):
        check()
        yield from values[start : start + STRIDE]

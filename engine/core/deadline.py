"""A limit on the CPU time of a computation. The computation checks it while it runs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

#: The CPU time that one evaluation, or one rendering, may take, in seconds.
LIMIT = 10.0
#: A long loop checks the deadline after so many values, about every millisecond.
STRIDE = 1000


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

"""The memory limit for fetched data: one budget for the process, one account per event."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import count
from sys import getsizeof
from typing import Any, Final

from engine.core.errors import DataTooLarge, NotNow
from engine.core.units import format_size

#: How long an event waits for memory that other events use, in seconds.
PATIENCE: Final = 5.0
#: Seconds between two checks whether memory is free.
_LOOK: Final = 0.05
#: The overhead of CPython's garbage collector for a dict or a list, in bytes.
_TRACKED: Final = 16


class Memory:
    """The memory limit in bytes for the events of the process, including fetched data.

    ``others`` returns the bytes of everything else. If the budget is used up, only the oldest account waits. All others
    fail with ``NotNow``: accounts that each hold a part and all wait would deadlock.
    """

    def __init__(self, limit: float = math.inf, others: Callable[[], int] = lambda: 0) -> None:
        self.limit, self._others = limit, others
        #: The bytes of fetched data.
        self.held = 0
        self._numbers = count()
        self._first: Account | None = None

    def account(self, base: int = 0) -> Account:
        """Open an account for an event that takes ``base`` bytes itself."""
        return Account(self, base, next(self._numbers))

    def fits(self, size: int) -> bool:
        """Whether so many bytes fit now."""
        return self._others() + self.held + size <= self.limit

    def is_first(self, account: Account) -> bool:
        """Whether a waiting account is the oldest one, which may continue to wait."""
        if self._first is None or account.number < self._first.number:
            self._first = account
        return self._first is account

    def waited(self, account: Account) -> None:
        """An account stopped waiting."""
        if self._first is account:
            self._first = None


class Account:
    """The memory of one event's fetched data. It is released when the account is no longer referenced."""

    def __init__(self, memory: Memory, base: int, number: int) -> None:
        self._memory, self._base = memory, base
        #: Accounts are numbered in the order in which they were opened.
        self.number = number
        #: The bytes of this account.
        self.size = 0
        self._waiting = 0

    def __del__(self) -> None:
        self._memory.held -= self.size

    def check(self, size: int) -> None:
        """Check that so many more bytes would fit if no other event used any.

        Raises:
            DataTooLarge: they would not fit.
        """
        if self._base + self.size + size > self._memory.limit:
            limit = format_size(int(self._memory.limit))
            raise DataTooLarge(f"it exceeds the memory limit (--memory-limit is {limit})")

    def add(self, size: int) -> None:
        """Add bytes that are in memory already, regardless of the limit."""
        self.size += size
        self._memory.held += size

    async def grow(self, size: int) -> None:
        """Reserve so many bytes, waiting for other events to release some if necessary.

        Raises:
            DataTooLarge: they can never fit.
            NotNow: an older account waits, or not enough was released in time.
        """
        self.check(size)
        if not self._memory.fits(size):
            await self._wait(size)
        self.add(size)

    def shrink(self, size: int) -> None:
        """Release so many bytes."""
        self.add(-size)

    async def _wait(self, size: int) -> None:
        clock = asyncio.get_running_loop().time
        ends = clock() + PATIENCE
        self._waiting += 1
        try:
            while not self._memory.fits(size):
                if not self._memory.is_first(self) or clock() > ends:
                    raise NotNow("other events use all of the memory limit (--memory-limit)")
                await asyncio.sleep(_LOOK)
                self.check(size)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._memory.waited(self)


def size_of(value: Any) -> int:
    """The approximate size of a JSON value in memory, in bytes. A shared value counts each time."""
    total, rest = 0, [value]
    while rest:
        value = rest.pop()
        total += getsizeof(value)
        if isinstance(value, dict):
            total += _TRACKED + sum(map(getsizeof, value))
            rest.extend(value.values())
        elif isinstance(value, list):
            total += _TRACKED
            rest.extend(value)
    return total

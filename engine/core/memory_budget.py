"""How much memory fetched data may take: one budget for the process, an account for each event."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import count
from sys import getsizeof
from typing import Any, Final

from engine.core.errors import DataTooLarge, NotNow
from engine.core.units import format_size

#: How long an event's data waits for others to give memory back, in seconds.
PATIENCE: Final = 5.0
#: Between two looks whether they did, in seconds.
_LOOK: Final = 0.05
#: What CPython's garbage collector adds to a dict or a list, in bytes.
_TRACKED: Final = 16


class Memory:
    """So many bytes for what the process holds of events, fetched data among it.

    ``others`` tells how many bytes the rest takes. When there is no room, the account that was opened first waits for
    it, and the others are told to come back later: accounts that hold a part each and all wait would wait for ever.
    """

    def __init__(self, limit: float = math.inf, others: Callable[[], int] = lambda: 0) -> None:
        self.limit, self._others = limit, others
        #: How many bytes fetched data takes.
        self.held = 0
        self._numbers = count()
        self._first: Account | None = None

    def account(self, base: int = 0) -> Account:
        """An account of an event that takes ``base`` bytes itself."""
        return Account(self, base, next(self._numbers))

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes now."""
        return self._others() + self.held + size <= self.limit

    def is_first(self, account: Account) -> bool:
        """Whether an account that waits is the one that goes on waiting."""
        if self._first is None or account.number < self._first.number:
            self._first = account
        return self._first is account

    def waited(self, account: Account) -> None:
        """An account waits no more."""
        if self._first is account:
            self._first = None


class Account:
    """What the fetched data of one event takes. It is given back when nothing refers to the account any more."""

    def __init__(self, memory: Memory, base: int, number: int) -> None:
        self._memory, self._base = memory, base
        #: The lower, the earlier it was opened.
        self.number = number
        #: How many bytes it has.
        self.size = 0
        self._waiting = 0

    def __del__(self) -> None:
        self._memory.held -= self.size

    def check(self, size: int) -> None:
        """See that so many bytes more could fit, if no other event had any.

        Raises:
            DataTooLarge: they could not.
        """
        if self._base + self.size + size > self._memory.limit:
            limit = format_size(int(self._memory.limit))
            raise DataTooLarge(f"it is larger than the memory limit allows (--memory-limit is {limit})")

    def add(self, size: int) -> None:
        """Take so many bytes that are there already, whatever the limit says."""
        self.size += size
        self._memory.held += size

    async def grow(self, size: int) -> None:
        """Take so many bytes; wait for others to give some back, if need be.

        Raises:
            DataTooLarge: they could never fit.
            NotNow: others need them, or did not give enough back in time.
        """
        self.check(size)
        if not self._memory.fits(size):
            await self._wait(size)
        self.add(size)

    def shrink(self, size: int) -> None:
        """Give so many bytes back."""
        self.add(-size)

    async def _wait(self, size: int) -> None:
        clock = asyncio.get_running_loop().time
        ends = clock() + PATIENCE
        self._waiting += 1
        try:
            while not self._memory.fits(size):
                if not self._memory.is_first(self) or clock() > ends:
                    raise NotNow("other events take all the memory there is (--memory-limit)")
                await asyncio.sleep(_LOOK)
                self.check(size)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._memory.waited(self)


def size_of(value: Any) -> int:
    """About how many bytes a JSON value takes in memory. A value that stands in several places counts each time."""
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

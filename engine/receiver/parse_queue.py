"""A queue for threads that parse bodies: few at once, at most one large body, none after its deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.receiver.admission import NoCapacity

#: How many bodies are decompressed and parsed at once. More would not be faster, because orjson holds the GIL.
THREADS = 2
#: Bodies with more bytes are parsed one after the other: in parallel all would be late and need memory at once.
_LARGE = 4 * 1024 * 1024
#: The assumed ratio of compression.
_COMPRESSED = 8


class ParseQueue:
    """Admits bodies to the parsing threads in the order of arrival."""

    def __init__(self) -> None:
        self._any = asyncio.Semaphore(THREADS)
        self._large = asyncio.Semaphore(1)

    @asynccontextmanager
    async def turn(self, size: int, begin_by: float, *, compressed: bool = False) -> AsyncIterator[None]:
        """A context in which a body of ``size`` bytes may be parsed. ``begin_by`` is in seconds of the monotonic clock.

        A body that need not wait is admitted even after ``begin_by``.

        Raises:
            NoCapacity: no thread was free until ``begin_by``.
        """
        kinds = [self._any]
        if size * (_COMPRESSED if compressed else 1) > _LARGE:
            kinds.insert(0, self._large)
        taken: list[asyncio.Semaphore] = []
        try:
            await self._take(kinds, taken, begin_by)
            yield
        finally:
            for semaphore in taken:
                semaphore.release()

    async def _take(self, kinds: list[asyncio.Semaphore], taken: list[asyncio.Semaphore], begin_by: float) -> None:
        try:
            async with asyncio.timeout(begin_by - time.monotonic()):
                for semaphore in kinds:
                    await semaphore.acquire()
                    taken.append(semaphore)
        except TimeoutError as error:
            raise NoCapacity("too many large bodies wait to be parsed") from error

"""ParseQueue of bodies at the threads that parse them: few at once, one large one, and none that comes too late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.receiver.admission import NoCapacity

#: How many bodies are decompressed and parsed at once. orjson holds the interpreter's lock, so that more would not be
#: faster.
THREADS = 2
#: Bodies of more bytes are parsed one after the other: together they would all be late, and take their memory at once.
_LARGE = 4 * 1024 * 1024
#: How many times its own size a compressed body is taken for.
_COMPRESSED = 8


class ParseQueue:
    """Lets bodies to the threads in the order in which they came."""

    def __init__(self) -> None:
        self._any = asyncio.Semaphore(THREADS)
        self._large = asyncio.Semaphore(1)

    @asynccontextmanager
    async def turn(self, size: int, begin_by: float, *, compressed: bool = False) -> AsyncIterator[None]:
        """While a body of ``size`` bytes is parsed. ``begin_by`` is in seconds of the monotonic clock.

        A body whose turn is at once is let through whatever ``begin_by`` says.

        Raises:
            NoCapacity: its turn has not come by then.
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

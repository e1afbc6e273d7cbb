"""A loop in a thread of its own, for code that is not ours: a plug-in that blocks can't stall acceptance."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds past an attempt's own timeout after which a plug-in counts as blocking its loop.
_BLOCKED_AFTER = 1.0


class ForeignLoop:
    """Runs coroutines on an event loop in a daemon thread. Start it once, close it once."""

    def __init__(self, name: str = "plug-ins") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run what ``make`` returns over there and wait for it here. Cancelling the wait cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_run(make), self._loop))

    async def call_within(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """The same, bounded here as well: a loop that is blocked can't keep its own time.

        Raises:
            TimeoutError: it took longer.
        """
        try:
            async with asyncio.timeout(seconds + _BLOCKED_AFTER):
                return await self.call(make)
        except TimeoutError as error:
            message = str(error) or f"no answer after {seconds:g} s: the plug-in blocks its loop"
            raise TimeoutError(message) from error

    async def close(self, last: Callable[[], Awaitable[None]], seconds: float = 5.0) -> None:
        """Run ``last`` over there, to close what lives there, and stop. A blocked loop is left to die with us."""

        async def finish() -> None:
            await last()

        try:
            await self.call_within(finish, seconds)
        except TimeoutError:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, seconds)
        if not self._thread.is_alive():
            self._loop.close()


async def _run(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Make the coroutine on the loop it runs on: what it captures may belong there."""
    return await make()

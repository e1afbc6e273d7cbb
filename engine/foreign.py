"""A loop in a thread of its own, for code that is not ours: a plug-in that blocks can't stall acceptance."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from engine.errors import EngineError

T = TypeVar("T")

#: Seconds past an attempt's own timeout after which a plug-in counts as blocking its loop.
_BLOCKED_AFTER = 1.0
#: How long a call waits for the loop to get to it, in seconds.
_LONGEST_QUEUE = 30.0


class NotStarted(EngineError):  # noqa: N818 - a state, not a fault of the call
    """The loop was blocked by others for so long that a call was taken back. Nothing of it ran."""


class ForeignLoop:
    """Runs coroutines on an event loop in a daemon thread. Start it once, close it once."""

    def __init__(
        self, logger: logging.Logger, name: str = "plug-ins", *, longest_queue: float = _LONGEST_QUEUE
    ) -> None:
        self._logger = logger
        self._longest_queue = longest_queue
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._closing = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._closing:
            try:
                self._loop.run_forever()
            except BaseException as error:
                # A task that a plug-in left behind may call sys.exit.
                self._logger.error("a plug-in tried to end the plug-ins' loop; it goes on", exc_info=error)

    async def call_within(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """Run what ``make`` returns over there and wait for it here. Cancelling the wait cancels it there.

        The time counts from when it starts there, and is kept here as well: a loop that is blocked
        can't keep its own.

        Raises:
            TimeoutError: it took longer.
            NotStarted: the loop never got to it.
        """
        ticket: _Ticket[T] = _Ticket()
        there = asyncio.run_coroutine_threadsafe(_run(make, ticket), self._loop)
        try:
            await asyncio.wait({ticket.started}, timeout=self._longest_queue)
            if ticket.give_up():
                raise NotStarted(f"the plug-ins' loop was blocked for {self._longest_queue:g} s")
            async with asyncio.timeout(seconds + _BLOCKED_AFTER):
                return await ticket.outcome
        except TimeoutError as error:
            message = str(error) or f"no answer after {seconds:g} s: the plug-in blocks its loop"
            raise TimeoutError(message) from error
        finally:
            ticket.give_up()
            there.cancel()

    async def close(self, last: Callable[[], Awaitable[None]], seconds: float = 5.0) -> None:
        """Run ``last`` over there, to close what lives there, and stop. A blocked loop is left to die with us."""

        async def finish() -> None:
            await last()

        self._closing = True
        with contextlib.suppress(TimeoutError, NotStarted):
            async with asyncio.timeout(seconds):
                await self.call_within(finish, seconds)
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, seconds)
        if not self._thread.is_alive():
            self._loop.close()


class _Ticket(Generic[T]):
    """One call between two threads: whether it started or was taken back first, and what it came to.

    The outcome is told the moment it is there. A future of the loop over there would tell it only
    after others, which may block, have had their turn.
    """

    def __init__(self) -> None:
        self._here = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._settled = False
        self.started: asyncio.Future[None] = self._here.create_future()
        self.outcome: asyncio.Future[T] = self._here.create_future()

    def start(self) -> bool:
        """Over there, before anything of the call runs. False: it was taken back."""
        if not self._settle():
            return False
        self._tell(self.started, lambda: self.started.set_result(None))
        return True

    def give_up(self) -> bool:
        """Here, when nobody wants to wait any longer. False: it has started."""
        return self._settle()

    def succeed(self, value: T) -> None:
        """Over there, at the end."""
        self._tell(self.outcome, lambda: self.outcome.set_result(value))

    def fail(self, error: BaseException) -> None:
        """Over there, at the end."""
        self._tell(self.outcome, lambda: self.outcome.set_exception(error))

    def _settle(self) -> bool:
        with self._lock:
            first, self._settled = not self._settled, True
        return first

    def _tell(self, future: asyncio.Future[Any], settle: Callable[[], None]) -> None:
        def tell() -> None:
            if not future.done():
                settle()

        with contextlib.suppress(RuntimeError):  # the loop here is closed: nobody waits any more
            self._here.call_soon_threadsafe(tell)


async def _run(make: Callable[[], Coroutine[Any, Any, T]], ticket: _Ticket[T]) -> None:
    """Make the coroutine on the loop it runs on: what it captures may belong there."""
    if not ticket.start():
        return
    try:
        ticket.succeed(await make())
    except asyncio.CancelledError as error:
        ticket.fail(error)
        raise
    except (SystemExit, KeyboardInterrupt) as error:
        # asyncio would let these end the loop, and with it every other plug-in.
        ticket.fail(RuntimeError(f"the plug-in raised {type(error).__name__}: {error}"))
    except Exception as error:  # noqa: BLE001 - it is passed on, to the other thread
        ticket.fail(error)

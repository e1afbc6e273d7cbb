"""A loop in a thread of its own, for code that is not ours: a plug-in that blocks can't stall acceptance."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from engine.core.errors import EngineError, Retry
from engine.worker.plugin_call import Call

T = TypeVar("T")
M = TypeVar("M")

#: Seconds past an attempt's own timeout after which a plug-in counts as blocking its loop.
_BLOCKED_AFTER = 1.0
#: Seconds that such a loop is given to show that it lives, before it is given up for a new one.
_PATIENCE = 3.0
#: Loops given up for good: each is a thread that may never end.
_MOST_GIVEN_UP = 16
#: Loops that one plug-in may cost, until its file changes.
_MOST_BLOCKED = 2
#: Calls of one plug-in under way at once, as many as one destination's; one that is slow takes no other's places.
_MOST_CALLS_OF_ONE = 32
#: Calls under way at once: one that blocks delays the others, and their time is counted.
_MOST_CALLS = 256
#: How long a call waits for the loop to get to it, in seconds.
_LONGEST_QUEUE = 30.0


class NotStarted(EngineError):  # noqa: N818 - a state, not a fault of the call
    """The loop was busy with others for so long that a call was taken back. Nothing of it ran."""


class PluginBlocks(Retry):
    """A plug-in that has blocked its thread for good before is not run again until it is loaded anew."""


@dataclass(slots=True, eq=False)
class _Place(Generic[M]):
    """One loop in one thread. ``means`` is what its calls work with; ``waiting`` are the calls not begun yet."""

    loop: asyncio.AbstractEventLoop
    means: M
    logger: logging.Logger
    waiting: set[asyncio.Future[bool]] = field(default_factory=set)
    over: bool = False
    suspected: bool = False
    thread: int = 0

    def run(self) -> None:
        """The thread's work: to run the loop until it is over, whatever the code on it tries."""
        self.thread = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._complain)
        while not self.over:
            try:
                self.loop.run_forever()
            except BaseException as error:
                # A task that a plug-in left behind may call sys.exit.
                self.logger.error("a plug-in tried to end the program; it goes on", exc_info=error)
        self.loop.close()

    def end(self) -> None:
        """Stop the loop for good. To be called on it."""
        self.over = True
        self.loop.stop()

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What failed without anybody waiting for it: a task that a plug-in left behind."""
        self.logger.warning("a plug-in left behind: %s", context.get("message"), exc_info=context.get("exception"))


class _Slots:
    """Places for calls under way: so many for one plug-in, so many for all of them."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(_MOST_CALLS)
        self._own: dict[object, asyncio.Semaphore] = {}
        self._users: Counter[object] = Counter()

    async def take(self, who: object) -> None:
        """Wait for a place. Whoever waits for one of its own keeps none of all."""
        own = self._own.setdefault(who, asyncio.Semaphore(_MOST_CALLS_OF_ONE))
        self._users[who] += 1
        try:
            await own.acquire()
            try:
                await self._all.acquire()
            except BaseException:
                own.release()
                raise
        except BaseException:
            self._leave(who)
            raise

    def give_back(self, who: object) -> None:
        """Let the next one have it."""
        self._all.release()
        self._own[who].release()
        self._leave(who)

    def _leave(self, who: object) -> None:
        self._users[who] -= 1
        if not self._users[who]:  # after a reload it never comes again
            del self._users[who], self._own[who]


class ForeignLoop(Generic[M]):
    """Runs coroutines on an event loop in a daemon thread. Start it once, close it once.

    A loop that is blocked for good is given up for a new one, so that the calls that wait go
    on. ``open_means`` makes what the calls of one loop share, ``close_means`` closes it there.
    """

    def __init__(
        self,
        open_means: Callable[[], M],
        close_means: Callable[[M], Awaitable[None]],
        logger: logging.Logger,
        *,
        longest_queue: float = _LONGEST_QUEUE,
    ) -> None:
        self._open_means, self._close_means, self._logger = open_means, close_means, logger
        self._longest_queue = longest_queue
        self._slots = _Slots()
        self._given_up = 0
        self._blocked: Counter[object] = Counter()
        self._probes: set[asyncio.Task[None]] = set()
        self._place = self._make_place()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._place.run, name="plug-ins", daemon=True).start()

    @property
    def thread(self) -> int:
        """The thread its calls run in at the moment; 0 before it runs."""
        return self._place.thread

    def _make_place(self) -> _Place[M]:
        return _Place(asyncio.new_event_loop(), self._open_means(), self._logger)

    async def call_within(self, who: object, make: Callable[[M], Coroutine[Any, Any, T]], seconds: float) -> T:
        """Run what ``make`` returns over there and wait for it here. Cancelling the wait cancels it there.

        ``seconds`` count from when it starts there, and are kept here as well: a loop that is
        blocked can't keep its own time. ``who`` is whose code it is.

        Raises:
            NotStarted: the loop never got to it.
            PluginBlocks: whose code it is has blocked its thread for good more than once.
            PluginExit: it tried to end the program.
            TimeoutError: it took longer.
        """
        place, call = await self._begin(who, make)
        try:
            async with asyncio.timeout(seconds + _BLOCKED_AFTER) as limit:
                return await call.answer
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._suspect(place)
            raise TimeoutError(f"no answer after {seconds:g} s: the plug-in blocks its loop") from error
        finally:
            call.take_back()
            self._slots.give_back(who)

    async def _begin(self, who: object, make: Callable[[M], Coroutine[Any, Any, T]]) -> tuple[_Place[M], Call[M, T]]:
        """Wait for a slot, which is the caller's from then on, and until the call starts."""
        try:
            async with asyncio.timeout(self._longest_queue):
                await self._slots.take(who)
                try:
                    return await self._hand_over(who, make)
                except BaseException:
                    self._slots.give_back(who)
                    raise
        except TimeoutError as error:
            raise NotStarted(f"the plug-ins' loop was blocked for {self._longest_queue:g} s") from error

    async def _hand_over(
        self, who: object, make: Callable[[M], Coroutine[Any, Any, T]]
    ) -> tuple[_Place[M], Call[M, T]]:
        """Where a loop is given up before the call starts there, it goes to the next one."""
        while True:
            if self._blocked[who] >= _MOST_BLOCKED:
                raise PluginBlocks("the plug-in blocks its thread for good; it is not run again until its file changes")
            place, call = self._place, Call(who, make)
            call.send(place.loop, place.means)
            place.waiting.add(call.started)
            try:
                if await call.started or not call.take_back():
                    return place, call
            except BaseException:
                call.take_back()
                raise
            finally:
                place.waiting.discard(call.started)

    # A loop that is blocked

    def _suspect(self, place: _Place[M]) -> None:
        """Something on this loop did not even time out: find out whether it lives."""
        if place is self._place and not place.suspected:
            place.suspected = True
            probe = asyncio.create_task(self._probe(place))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, place: _Place[M]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), place.loop))
        except TimeoutError:
            self._give_up(place)
        finally:
            place.suspected = False

    def _give_up(self, place: _Place[M]) -> None:
        """Leave a loop to the code that blocks it, and go on with a new one."""
        who, where = _blocker(place.thread)
        self._blocked[who] += 1
        if self._given_up >= _MOST_GIVEN_UP:
            words = "plug-ins block %d threads for good, and no more are made: restart the engine%s"
            self._logger.error(words, self._given_up, where)
            return
        self._given_up += 1
        self._logger.error("a plug-in blocks its thread for good: the others go on in a new one%s", where)
        self._place = self._make_place()
        self.start()
        for started in place.waiting:
            if not started.done():
                started.set_result(False)
        asyncio.run_coroutine_threadsafe(self._finish(place), place.loop)

    # The end

    async def _finish(self, place: _Place[M]) -> None:
        """Over there, if it ever gets to it: end what is under way, close what lives there, stop."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)
        await self._close_means(place.means)
        asyncio.get_running_loop().call_soon(place.end)

    async def close(self, seconds: float = 3.0) -> None:
        """Close what lives over there, and stop. A blocked loop is left to die with us."""
        for probe in self._probes:
            probe.cancel()
        place = self._place
        finished = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._finish(place), place.loop))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await finished


def _blocker(thread: int) -> tuple[object, str]:
    """Whose call blocks a thread, and where it stands; nobody's, if it is a task that a plug-in left behind."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the only way to look at another thread
    where = "\n" + "".join(traceback.format_stack(frame)[-3:]) if frame is not None else ""
    while frame is not None:
        if frame.f_code is Call.run.__code__:
            return frame.f_locals["self"].who, where
        frame = frame.f_back
    return None, where

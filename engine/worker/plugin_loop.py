"""Runs each plug-in on an event loop of its own, in its own thread: one that blocks stops only itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from engine.core.error_text import named_error
from engine.core.errors import EngineError, Retry

T = TypeVar("T")
M = TypeVar("M")

#: Seconds past an attempt's own timeout after which the plug-in may be blocking its loop.
_BLOCKED_AFTER = 1.0
#: A loop that does not react for so many seconds then is blocked.
_PATIENCE = 3.0
#: Calls of one plug-in in progress at once, as many as one destination's: one that blocks delays the others.
_MOST_CALLS = 32
#: How long a call waits for the loop to start it, in seconds.
_LONGEST_QUEUE = 30.0


class NotStarted(EngineError):  # noqa: N818 - a state, not a fault of the call
    """The plug-in was busy with other calls for too long, so a call was withdrawn. Nothing of it ran."""


class PluginBlocks(Retry):
    """The plug-in blocks its thread. It is not run again until its file changes, or the call that blocks it ends."""


class PluginExit(EngineError):  # noqa: N818 - what it tried
    """A plug-in raised what would end the whole program, such as ``sys.exit()``."""


class PluginLoops(Generic[M]):
    """Runs coroutines of plug-ins, each plug-in on a loop in its own daemon thread. Close it once.

    ``open_resources`` makes what the calls of one loop share, ``close_resources`` closes it on that loop.
    """

    def __init__(
        self,
        open_resources: Callable[[], M],
        close_resources: Callable[[M], Awaitable[None]],
        logger: logging.Logger,
        *,
        longest_queue: float = _LONGEST_QUEUE,
    ) -> None:
        self._open, self._close, self._logger = open_resources, close_resources, logger
        self._longest_queue = longest_queue
        self._loops: dict[Hashable, _PluginLoop[M]] = {}
        self._loaded: Collection[Hashable] | None = None

    async def call(self, plugin: Hashable, make: Callable[[M], Coroutine[Any, Any, T]], seconds: float) -> T:
        """Run what ``make`` returns on the plug-in's loop and wait for it. Cancelling the wait cancels it there.

        ``seconds`` count from its start, and are kept here as well: a blocked loop cannot keep its own time.

        Raises:
            NotStarted: the loop did not start it in time.
            PluginBlocks: the plug-in blocks its thread.
            PluginExit: it tried to end the program.
            TimeoutError: it took longer.
        """
        loop = self._loops.get(plugin)
        if loop is None:
            loop = self._loops[plugin] = _PluginLoop(self._open(), self._close, self._logger, self._longest_queue)
        loop.calls += 1
        try:
            return await loop.call(make, seconds)
        finally:
            loop.calls -= 1
            self._close_unused()

    def reloaded(self, loaded: Collection[Hashable]) -> None:
        """Close the loops of plug-ins that are no longer loaded, when their calls have ended."""
        self._loaded = loaded
        self._close_unused()

    def _close_unused(self) -> None:
        if self._loaded is not None:
            for plugin in [one for one, loop in self._loops.items() if one not in self._loaded and not loop.calls]:
                self._loops.pop(plugin).close()

    async def close(self, seconds: float = 3.0) -> None:
        """Close all loops. A blocked one ends with the process."""
        closing = [asyncio.wrap_future(loop.close()) for loop in self._loops.values()]
        if closing:
            await asyncio.wait(closing, timeout=seconds)


class _PluginLoop(Generic[M]):
    """The loop and thread of one plug-in. ``resources`` is what its calls share."""

    def __init__(
        self, resources: M, close: Callable[[M], Awaitable[None]], logger: logging.Logger, longest_queue: float
    ) -> None:
        self._resources, self._close, self._logger, self._longest_queue = resources, close, logger, longest_queue
        #: How many calls wait or run.
        self.calls = 0
        self._slots = asyncio.Semaphore(_MOST_CALLS)
        #: Done while the loop is known to be blocked.
        self._blocked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._probe: asyncio.Task[None] | None = None
        self._ended = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_forever, name="plug-ins", daemon=True)
        self._thread.start()

    def _run_forever(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(self._report)
        while not self._ended:
            try:
                self._loop.run_forever()
            except BaseException as error:  # a task that the plug-in left behind may call sys.exit
                self._logger.error("a plug-in tried to end the program; it continues", exc_info=error)
        self._loop.close()

    def _report(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an exception of a task that the plug-in left behind."""
        self._logger.warning("a plug-in left behind: %s", context.get("message"), exc_info=context.get("exception"))

    async def call(self, make: Callable[[M], Coroutine[Any, Any, T]], seconds: float) -> T:
        """See ``PluginLoops.call``."""
        until = asyncio.get_running_loop().time() + self._longest_queue
        try:
            async with asyncio.timeout_at(until):
                await self._slots.acquire()
        except TimeoutError:
            raise self._not_started() from None
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        task = asyncio.run_coroutine_threadsafe(self._run(make, started, answer), self._loop)
        try:
            await self._wait_until_started(started, until)
            return await self._wait_for_answer(answer, seconds)
        finally:
            started.cancel()
            task.cancel()
            self._slots.release()

    async def _run(
        self,
        make: Callable[[M], Coroutine[Any, Any, T]],
        started: concurrent.futures.Future[None],
        answer: concurrent.futures.Future[T],
    ) -> None:
        """Run one call on the plug-in's loop, unless it was withdrawn. The coroutine is made on that loop, too.

        The answer is set here: that of the task would be sent only when the loop comes to it, which others may block.
        """
        if not started.set_running_or_notify_cancel():
            return
        answer.set_running_or_notify_cancel()
        started.set_result(None)
        try:
            answer.set_result(await make(self._resources))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised again in the waiting thread
            answer.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - it would end the loop
            exit_ = PluginExit(f"the plug-in raised {named_error(error)}")
            answer.set_exception(exit_.with_traceback(error.__traceback__))

    async def _wait_until_started(self, started: concurrent.futures.Future[None], until: float) -> None:
        start = asyncio.wrap_future(started)
        seconds = max(until - asyncio.get_running_loop().time(), 0.0)
        await asyncio.wait([start, self._blocked], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not start.done() and started.cancel():
            raise self._not_started()

    def _not_started(self) -> EngineError:
        if self._blocked.done():
            why = "until its file changes, or the call that blocks it ends"
            return PluginBlocks(f"the plug-in blocks its thread: it is not run again {why}")
        self._start_probe()
        return NotStarted(f"the plug-in's thread was blocked for {self._longest_queue:g} s")

    async def _wait_for_answer(self, answer: concurrent.futures.Future[T], seconds: float) -> T:
        try:
            async with asyncio.timeout(seconds + _BLOCKED_AFTER) as limit:
                return await asyncio.wrap_future(answer)
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._start_probe()
            raise TimeoutError(f"no answer after {seconds:g} s: the plug-in blocks its loop") from error

    def _start_probe(self) -> None:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._find_out())

    async def _find_out(self) -> None:
        """A call did not start, or did not even time out: find out whether the loop reacts, and wait until it does."""
        reaction = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop))
        await asyncio.wait([reaction], timeout=_PATIENCE)
        if reaction.done():
            return
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - the only way to look at a thread
        where = "\n" + "".join(traceback.format_stack(frame)[-3:]) if frame is not None else ""
        self._logger.error("a plug-in blocks its thread, and is not run again until that ends%s", where)
        self._blocked.set_result(None)
        await reaction
        self._logger.warning("a plug-in's thread is no longer blocked: it is run again")
        self._blocked = asyncio.get_running_loop().create_future()

    def close(self) -> concurrent.futures.Future[None]:
        """Cancel what runs, close the resources and end the thread, when the loop comes to it."""
        if self._probe is not None:
            self._probe.cancel()
        return asyncio.run_coroutine_threadsafe(self._finish(), self._loop)

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)
        await self._close(self._resources)
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._ended = True
        self._loop.stop()

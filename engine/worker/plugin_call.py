"""One call between two threads: whether it started or was taken back first, and what it came to."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from engine.core.error_text import named_error
from engine.core.errors import EngineError

T = TypeVar("T")
M = TypeVar("M")


class PluginExit(EngineError):  # noqa: N818 - what it tried
    """A plug-in raised what would end the whole program, such as ``sys.exit()``."""


class Call(Generic[M, T]):
    """A coroutine for another thread's loop. Make it on the loop that waits for it.

    ``started`` comes true as it starts there, and ``answer`` is what it came to. That is told
    the moment it is there: a future of the loop over there would tell it only after others,
    which may block, have had their turn. ``who`` is whose code it is.
    """

    def __init__(self, who: object, make: Callable[[M], Coroutine[Any, Any, T]]) -> None:
        self.who = who
        self._make = make
        self._here = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._settled = False
        self._there: concurrent.futures.Future[None] | None = None
        self.started: asyncio.Future[bool] = self._here.create_future()
        self.answer: asyncio.Future[T] = self._here.create_future()

    def send(self, loop: asyncio.AbstractEventLoop, means: M) -> None:
        """Hand it over."""
        self._there = asyncio.run_coroutine_threadsafe(self.run(means), loop)

    def take_back(self) -> bool:
        """Nobody waits for it any longer: it ends, or does not start at all. False: it had started."""
        if self._there is not None:
            self._there.cancel()
        return self._first()

    async def run(self, means: M) -> None:
        """Over there. The coroutine is made on the loop it runs on: what it captures may belong there."""
        if not self._first():
            return
        self._tell(self.started, lambda: self.started.set_result(True))
        try:
            answer = await self._make(means)
            self._tell(self.answer, lambda: self.answer.set_result(answer))
        except asyncio.CancelledError:
            self._tell(self.answer, self.answer.cancel)
            raise
        except Exception as error:  # noqa: BLE001 - it is passed on, to the other thread
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 - asyncio would let it end the loop, and all other plug-ins with it
            self._fail(PluginExit(f"the plug-in raised {named_error(error)}").with_traceback(error.__traceback__))

    def _first(self) -> bool:
        """Of starting and taking back, only one happens."""
        with self._lock:
            first, self._settled = not self._settled, True
        return first

    def _fail(self, error: Exception) -> None:
        self._tell(self.answer, lambda: self.answer.set_exception(error))

    def _tell(self, future: asyncio.Future[Any], settle: Callable[[], object]) -> None:
        def tell() -> None:
            if not future.done():
                settle()

        with contextlib.suppress(RuntimeError):  # the loop here is closed: nobody waits any more
            self._here.call_soon_threadsafe(tell)

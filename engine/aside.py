"""Work that may take long, aside from the event loop: in a thread whose end nobody waits for when the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from engine.error_text import named_error

T = TypeVar("T")

#: What took longer than this on the loop is done aside from then on, in seconds.
_LONG = 0.02
#: How many kinds of work are remembered to take long.
_MOST_KNOWN = 1000


class Aside:
    """Does work on the loop while it is quick, and in threads from the first time that it is not.

    Only ``most`` threads run at once: they share one interpreter with the loop. The rest waits.
    """

    def __init__(self, most: int = 2) -> None:
        self._slots = asyncio.Semaphore(most)
        self._long: set[Hashable] = set()

    async def do(self, kind: Hashable, work: Callable[[], T], *, large: bool = False) -> T:
        """The work's value. ``kind`` is what it is known by; ``large`` work goes aside without a try."""
        if large or kind in self._long:
            async with self._slots:
                return await in_thread(work)
        begun = time.perf_counter()
        try:
            return work()
        finally:
            if time.perf_counter() - begun > _LONG:
                self._remember(kind)

    def _remember(self, kind: Hashable) -> None:
        if len(self._long) >= _MOST_KNOWN:
            self._long.clear()
        self._long.add(kind)


async def in_thread(work: Callable[[], T]) -> T:
    """A function's value, from a daemon thread of its own: unlike a pool's, it can't keep the process from ending."""
    here = asyncio.get_running_loop()
    answer: asyncio.Future[T] = here.create_future()

    def tell(settle: Callable[[Any], None], news: Any) -> None:
        if not answer.done():
            settle(news)

    def run() -> None:
        settle: Callable[[Any], None] = answer.set_result
        news: Any
        try:
            news = work()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            settle, news = answer.set_exception, _raisable(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            here.call_soon_threadsafe(tell, settle, news)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await answer


def _raisable(error: BaseException) -> Exception:
    """A future cannot raise StopIteration, and what would end the program must not do so from a thread."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"it raised {named_error(error)}")

"""How late the event loop is, and what keeps it: a ticker on the loop, and a thread that looks while it is stuck."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

from engine.core.counters import Counts, Distribution, Names
from engine.telemetry.blame import Culprit, culprit_of

#: Between two ticks, in seconds.
_TICK = 0.1
#: From when on a loop that does not tick is looked at, in seconds.
STALL = 0.25
#: So many culprits have a label of their own.
_MOST_CULPRITS = 50
_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Nothing of ours was found at work when the loop was late.
_NOBODY = Culprit("unknown", "nothing of the engine was seen at work: the machine was busy, or stood still")


class LoopLag:
    """Measures one event loop, that of the thread which starts it.

    ``threads`` tells which other threads may stop it, by holding the interpreter's lock in code in C. Nobody can
    look while that lasts; where nothing is found afterwards, ``suspects`` tells who it must have been.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        threads: Callable[[], list[int]] = list,
        suspects: Callable[[], Culprit | None] = lambda: None,
        stall: float = STALL,
        tick: float = _TICK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger, self._threads, self._suspects = logger, threads, suspects
        self._stall, self._tick, self._clock = stall, tick, clock
        self.lag = Distribution(_BOUNDS)
        self.stalls = Counts()
        self.stall_seconds = Counts()
        self._names = Names(_MOST_CULPRITS)
        self._over = threading.Event()
        self._looking = threading.Lock()
        self._due = 0.0
        self._found: Culprit | None = None
        self._main = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin. To be called on the loop."""
        self._main = threading.get_ident()
        self._plan()
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        """End. To be called on the loop."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        self._due = self._clock() + self._tick
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_tick)

    def _on_tick(self) -> None:
        late = max(self._clock() - self._due, 0.0)
        self.lag.add(late)
        if late >= self._stall:
            with self._looking:  # the watching thread may be about to find it
                found = self._found or self._look(late=True)
            self._tell(late, found or _NOBODY)
        self._found = None
        self._plan()

    def _tell(self, seconds: float, culprit: Culprit) -> None:
        name = self._names.meet(culprit.name)
        self.stalls.add(name)
        self.stall_seconds.add(name, amount=seconds)
        facts = {"culprit": culprit.name, "seconds": round(seconds, 3), "where": culprit.where}
        self._logger.warning("the event loop was blocked: nothing was accepted or sent meanwhile", extra=facts)

    # In a thread of its own: the loop can't look at itself while it is stuck

    def _watch(self) -> None:
        pause = self._stall / 2
        while not self._over.is_set():
            before = self._clock()
            self._over.wait(pause)
            with self._looking:
                now = self._clock()
                if self._found is None and now - self._due >= self._stall:
                    # Late itself: somebody held the interpreter's lock. The loop's thread may be anywhere by now.
                    self._found = self._look(late=now - before >= 2 * pause)

    def _look(self, *, late: bool) -> Culprit | None:
        """What the loop's thread is at. ``late``: others come first, for somebody held the interpreter's lock."""
        frames = sys._current_frames()  # noqa: SLF001 - the only way to look at another thread
        try:
            return self._find(frames, late=late)
        finally:
            # This frame is among them. With the cycle all the frames would stay, and the events in them.
            frames.clear()

    def _find(self, frames: Mapping[int, FrameType], *, late: bool) -> Culprit | None:
        others = self._threads() if late else []
        found = next(filter(None, (culprit_of(frames[thread]) for thread in others if thread in frames)), None)
        if found is None and late:
            found = self._suspects()
        if found is None and threading.get_ident() != self._main:
            found = culprit_of(frames[self._main])
        return found


def threads_of(*names: str) -> list[int]:
    """The threads whose names begin like this."""
    return [thread.ident for thread in threading.enumerate() if thread.ident and thread.name.startswith(names)]

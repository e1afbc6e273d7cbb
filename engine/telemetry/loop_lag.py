"""How late the event loop is, and which code blocks it: a timer on the loop, and a thread that looks at its stack."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from types import FrameType

from engine.core.counters import Counts, Distribution, Names
from engine.rules.route import Route
from engine.worker.attempt import Job

#: Seconds between two ticks.
_TICK = 0.1
#: After how many seconds without a tick the loop counts as blocked.
STALL = 0.25
#: How many names have their own label.
_MOST_NAMES = 50
_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: The beginnings of the names of other threads that may block the loop by holding the interpreter lock in C code.
_THREADS = ("plug-ins", "receiver", "offload")
#: The modules of a loop or thread itself. The frames above theirs are the callback or task that runs.
_LOOP = (
    "asyncio.base_events", "asyncio.events", "asyncio.runners", "asyncio.selector_events", "concurrent.futures.thread",
    "engine.worker.plugin_loop", "engine.telemetry.loop_lag", "selectors", "threading", "uvloop",
)  # fmt: skip
_PLUGINS = "_langsmith_rules_engine_plugins"

#: What blocked the loop, as a label value, and where it is in the code.
Blame = tuple[str, str]
_UNKNOWN = ("unknown", "no code of the engine was running: the machine was busy or suspended")


class LoopLag:
    """Measures the event loop of the thread that calls ``start``.

    ``jobs`` returns the attempts that run in plug-ins. They are blamed if nothing else is found: the stack cannot be
    read while C code holds the interpreter lock.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        jobs: Callable[[], Iterable[Job]] = tuple,
        stall: float = STALL,
        tick: float = _TICK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger, self._jobs = logger, jobs
        self._stall, self._tick, self._clock = stall, tick, clock
        self.lag = Distribution(_BOUNDS)
        self.stalls, self.stall_seconds = Counts(), Counts()
        self._names = Names(_MOST_NAMES)
        self._over, self._looking = threading.Event(), threading.Lock()
        self._due, self._main = 0.0, 0
        self._found: Blame | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start measuring. Call it on the loop."""
        self._main = threading.get_ident()
        self._plan()
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop measuring. Call it on the loop."""
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
                self._report(late, self._found or self._look(late=True) or _UNKNOWN)
        self._found = None
        self._plan()

    def _report(self, seconds: float, blame: Blame) -> None:
        name = self._names.meet(blame[0])
        self.stalls.add(name)
        self.stall_seconds.add(name, amount=seconds)
        fields = {"culprit": blame[0], "seconds": round(seconds, 3), "where": blame[1]}
        self._logger.warning("the event loop was blocked: nothing was accepted or sent meanwhile", extra=fields)

    def _watch(self) -> None:
        """Look at the loop's stack while it is blocked. Runs in a thread."""
        pause = self._stall / 2
        while not self._over.is_set():
            before = self._clock()
            self._over.wait(pause)
            with self._looking:
                now = self._clock()
                if self._found is None and now - self._due >= self._stall:
                    # If this thread is late too, the interpreter lock was held. The loop may have moved on since.
                    self._found = self._look(late=now - before >= 2 * pause)

    def _look(self, *, late: bool) -> Blame | None:
        """What blocks the loop. ``late``: the interpreter lock was held, so other threads are looked at first."""
        frames = sys._current_frames()  # noqa: SLF001 - the only way to read the stack of another thread
        try:
            return self._find(frames, late=late)
        finally:
            # This frame is among them: the cycle would keep all frames, and the events in them.
            frames.clear()

    def _find(self, frames: Mapping[int, FrameType], *, late: bool) -> Blame | None:
        if late:
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            others = [frame for ident, frame in frames.items() if names.get(ident, "").startswith(_THREADS)]
            if found := next(filter(None, map(_blame, others)), None) or _blame_jobs(self._jobs()):
                return found
        return _blame(frames[self._main]) if threading.get_ident() != self._main else None


def _blame_jobs(jobs: Iterable[Job]) -> Blame | None:
    """The attempts in plug-ins, any of which may have held the interpreter lock."""
    names = sorted({_name_of(job) for job in jobs})
    if not names:
        return None
    where = f"code in C that held the interpreter's lock, or the machine was suspended: {', '.join(names[:5])}"
    return names[0] if len(names) == 1 else "plug-ins", where


def _blame(frame: FrameType) -> Blame | None:
    """What a thread runs, by its innermost frame; None if it only waits.

    An attempt is named by its action and route, else a route that is being evaluated, else a plug-in, else the
    innermost function of the engine, else the outermost module.
    """
    stack = [one for one, _ in traceback.walk_stack(frame)]
    running = list(takewhile(lambda one: _module(one) not in _LOOP, stack))
    if not running:
        return None
    name = next(_names(running), None) or _module(running[-1]).partition(".")[0]
    code = running[0].f_code
    return name, f"{Path(code.co_filename).name}:{running[0].f_lineno} {code.co_name}"


def _names(stack: list[FrameType]) -> Iterator[str]:
    variables = [frame.f_locals for frame in stack if _module(frame).startswith("engine.")]
    yield from (_name_of(job) for each in variables if isinstance(job := each.get("job"), Job))
    yield from (f"route {route.id}" for each in variables if isinstance(route := each.get("route"), Route))
    modules = [_module(frame) for frame in stack]
    yield from (f"plug-in {module.rpartition('.')[2]}" for module in modules if module.startswith(_PLUGINS))
    for module, frame in zip(modules, stack, strict=True):
        if module.startswith(("engine.", "actions.")):
            yield f"{module}.{frame.f_code.co_qualname}"


def _name_of(job: Job) -> str:
    return f"action {job.action.registered.name} of route {job.route.id}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))

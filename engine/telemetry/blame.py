"""Whose code a thread is running: the action, the route or the function, found on its stack."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import FrameType

from engine.rules.route import Route
from engine.worker.attempt import Job

#: Where a loop's own frames begin: what lies within them is the callback or task that runs.
_LOOP = (
    "asyncio.base_events", "asyncio.events", "asyncio.runners", "asyncio.selector_events", "concurrent.futures.thread",
    "engine.worker.plugin_loop", "engine.telemetry.loop_lag", "selectors", "threading", "uvloop",
)  # fmt: skip
_PLUGINS = "_langsmith_rules_engine_plugins"


@dataclass(frozen=True, slots=True)
class Culprit:
    """Who it is, in a name that metrics may have, and where it stands."""

    name: str
    where: str


def name_of(job: Job) -> str:
    """How an action at work is called."""
    return f"action {job.action.registered.name} of route {job.route.id}"


def suspect_of(jobs: Iterable[Job]) -> Culprit | None:
    """Who held the interpreter's lock while nobody could look, where only these may have."""
    names = sorted({name_of(job) for job in jobs})
    if not names:
        return None
    name = names[0] if len(names) == 1 else "plug-ins"
    return Culprit(
        name, f"code in C that held the interpreter's lock, or the machine stood still: {', '.join(names[:5])}"
    )


def culprit_of(frame: FrameType) -> Culprit | None:
    """What a thread's innermost frame belongs to; None where the thread only waits.

    An action is named with its route, whoever's code runs for it; else a route that is being decided; else the
    engine's own function.
    """
    stack = (one for one, _ in traceback.walk_stack(frame))
    running = list(takewhile(lambda one: _module(one) not in _LOOP, stack))
    if not running:
        return None
    return Culprit(next(_names(running), None) or _function(running), _where(running[0]))


def _names(stack: list[FrameType]) -> Iterator[str]:
    """From what the engine's frames have in hand; a delivery before a route, whoever's code is innermost."""
    hands = [frame.f_locals for frame in stack if _module(frame).startswith("engine.")]
    for hand in hands:
        if isinstance(job := hand.get("job"), Job):
            yield name_of(job)
    for hand in hands:
        if isinstance(route := hand.get("route"), Route):
            yield f"route {route.id}"
    for frame in stack:
        if _module(frame).startswith(_PLUGINS):
            yield f"plug-in {_module(frame).rpartition('.')[2]}"


def _function(stack: list[FrameType]) -> str:
    """The innermost function of the engine; outside of it, the outermost module."""
    for frame in stack:
        if _module(frame).startswith(("engine.", "actions.")):
            return f"{_module(frame)}.{frame.f_code.co_qualname}"
    return _module(stack[-1]).partition(".")[0]


def _where(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))

"""A line of the log about what ``engine check`` warns of, whenever a configuration was loaded."""

from __future__ import annotations

import asyncio
import logging

from engine.core.errors import ConfigError
from engine.core.offload import in_thread
from engine.rules.lint.configuration import advise
from engine.rules.load_limit import LONGEST_LOADING
from engine.rules.reload import Loaded, Reloader

#: How much of a warning the line holds, in characters.
_LONGEST = 300


async def log_warnings(reloader: Reloader, logger: logging.Logger) -> None:
    """Log how many warnings ``engine check`` has for the rules at work, and the first, whenever others are loaded."""
    changed, warned = asyncio.Event(), None
    changed.set()
    reloader.listen(lambda _: changed.set())
    while True:
        await changed.wait()
        changed.clear()
        loaded = reloader.current
        if loaded is not warned:
            warned = loaded
            if (words := await _warning(loaded)) is not None:
                logger.warning(*words)


async def _warning(loaded: Loaded) -> tuple[str, int, str, str] | None:
    """A line about a configuration's warnings; None where there are none, or plug-ins do not let it be told."""
    try:
        async with asyncio.timeout(LONGEST_LOADING):
            broken, found = set(loaded.broken), await in_thread(lambda: advise(loaded))
    except (TimeoutError, ConfigError):
        return None
    warnings = [one for one in found if one not in broken]  # those were logged already
    if not warnings:
        return None
    first = f"{warnings[0].place}: {warnings[0].message}"[:_LONGEST]
    count = len(warnings)
    return "loaded with %d warning%s, the first is %s (engine check shows them)", count, "s"[: count != 1], first

"""Log a summary of the warnings of ``engine check`` after each load of the configuration."""

from __future__ import annotations

import asyncio
import logging

from engine.core.errors import ConfigError
from engine.core.offload import in_thread
from engine.rules.lint.configuration import lint
from engine.rules.load_limit import LONGEST_LOADING
from engine.rules.reload import Loaded, Reloader

#: Characters of a warning that go into the line.
_LONGEST = 300


async def log_warnings(reloader: Reloader, logger: logging.Logger) -> None:
    """Log the number of warnings and the first one, for the current configuration and after each reload."""
    changed, warned = asyncio.Event(), None
    changed.set()
    reloader.listen(lambda _: changed.set())
    while True:
        await changed.wait()
        changed.clear()
        loaded = reloader.current
        if loaded is not warned:
            warned = loaded
            if (line := await _warning(loaded)) is not None:
                logger.warning(*line)


async def _warning(loaded: Loaded) -> tuple[str, int, str, str] | None:
    """The log line for a configuration's warnings; None if there are none, or a plug-in prevents finding them."""
    try:
        async with asyncio.timeout(LONGEST_LOADING):
            broken, found = set(loaded.broken), await in_thread(lambda: lint(loaded))
    except (TimeoutError, ConfigError):
        return None
    warnings = [one for one in found if one not in broken]  # these were logged before
    if not warnings:
        return None
    first, count = f"{warnings[0].place}: {warnings[0].message}"[:_LONGEST], len(warnings)
    several = "" if count == 1 else "s"
    return "loaded with %d warning%s, the first is %s (engine check shows them)", count, several, first

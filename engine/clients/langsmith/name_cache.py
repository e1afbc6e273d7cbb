"""A cache of ids by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

#: For how many seconds an id is cached.
_TTL = 300.0
#: How many names are cached. Names can come from templates, and so from event data.
_MOST = 1024


class NameCache:
    """Caches ids by name, with expiry. Concurrent callers share a look-up and cannot cancel it. Misses are not kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, tuple[str, float]] = {}
        self._pending: dict[str, asyncio.Task[str | None]] = {}

    async def get(self, name: str, look_up: Callable[[str], Awaitable[str | None]]) -> str | None:
        """The id, or None. Raises what ``look_up`` raises.

        ``look_up`` is an argument and not an attribute, because it refers to the owner of the cache: a reference cycle.
        """
        known = self._known.get(name)
        if known is not None and self._clock() < known[1]:
            return known[0]
        task = self._pending.get(name)
        if task is None:
            task = self._pending[name] = asyncio.ensure_future(look_up(name))
            task.add_done_callback(lambda done: self._settle(name, done))
        return await asyncio.shield(task)

    def keep(self, name: str, found: str) -> None:
        """Cache an id. The oldest one is removed if there are too many."""
        self._known.pop(name, None)
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[name] = (found, self._clock() + _TTL)

    def forget(self, name: str) -> None:
        """Remove a name from the cache."""
        self._known.pop(name, None)

    def close(self) -> None:
        """Cancel running look-ups."""
        for task in self._pending.values():
            task.cancel()

    def _settle(self, name: str, task: asyncio.Task[str | None]) -> None:
        del self._pending[name]
        # Reading the exception also marks it as retrieved, in case every caller was cancelled.
        if not task.cancelled() and task.exception() is None and (found := task.result()) is not None:
            self.keep(name, found)

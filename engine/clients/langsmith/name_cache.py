"""Ids behind names, looked up once and trusted for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

#: Seconds for which the id behind a name is trusted.
_TTL = 300.0
#: NameCache kept at most: a name can be a template, and so come from event data.
_MOST = 1024


class NameCache:
    """Name → id with expiry. Callers at once share one look-up, which none of them can cancel; absence is not kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, tuple[str, float]] = {}
        self._pending: dict[str, asyncio.Task[str | None]] = {}

    async def get(self, name: str, look_up: Callable[[str], Awaitable[str | None]]) -> str | None:
        """The id, or None. Raises what the look-up raises.

        ``look_up`` is not kept: it refers to the object that owns this, and neither would be freed when it is dropped.
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
        """Remember an id; the oldest goes when there are too many."""
        self._known.pop(name, None)
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[name] = (found, self._clock() + _TTL)

    def forget(self, name: str) -> None:
        """Look a name up afresh next time."""
        self._known.pop(name, None)

    def close(self) -> None:
        """Abandon the look-ups under way."""
        for task in self._pending.values():
            task.cancel()

    def _settle(self, name: str, task: asyncio.Task[str | None]) -> None:
        del self._pending[name]
        # Asking for the exception also marks it as seen, should every caller have been cancelled meanwhile.
        if not task.cancelled() and task.exception() is None and (found := task.result()) is not None:
            self.keep(name, found)

"""The events in this process's hands, with what hydration brought: one for all the deliveries of an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from engine.document import Fetched
from engine.event import Event
from engine.hydrate import Hydrator
from engine.route import Needs


@dataclass(slots=True, weakref_slot=True)
class Held:
    """One event at hand, and what was fetched for it so far. ``hands`` counts the pieces of work that have it."""

    event: Event
    fetched: Fetched
    hands: int = 0


class Holdings:
    """Shares what is held of an event among its deliveries, and fetches what they lack.

    ``save`` keeps with the event what was fetched, so that a retry or replay has it.
    """

    def __init__(self, hydrator: Hydrator, save: Callable[[str, Fetched], Awaitable[None]]) -> None:
        self._hydrator, self._save = hydrator, save
        self._held: WeakValueDictionary[str, Held] = WeakValueDictionary()

    def take(self, event: Event, fetched: Fetched) -> Held:
        """Hold an event, or hand out what is held of it already."""
        held = self._held.get(event.id)
        if held is None:
            held = self._held[event.id] = Held(event, fetched)
        return held

    async def hydrate(self, held: Held, wanted: Needs, index: int | None) -> bool:
        """Fetch what is wanted and not at hand. True if anything changed.

        ``index`` is the run it is wanted for; None is all of them.
        """
        before = held.fetched
        fetched = await self._hydrator.fetch(held.event, wanted, None if index is None else [index], before)
        if fetched is before:
            return False
        # Meanwhile another delivery of the event may have fetched something else.
        held.fetched = held.fetched.merge(fetched)
        if fetched.to_json() != before.to_json():
            await self._save(held.event.id, fetched)
        return True

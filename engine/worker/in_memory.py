"""The events in this process's hands, with what hydration brought: one for all the deliveries of an event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from engine.core.document import Fetched
from engine.core.errors import StoreError
from engine.core.event import Event
from engine.core.json_text import may_have_long_numbers
from engine.core.memory_budget import Account, Memory
from engine.rules.route import Needs
from engine.worker.destinations.destination import EventBytes
from engine.worker.hydrate import Hydrator

#: Documents of one digest whose data is fetched at once.
_AT_ONCE = 8


@dataclass(slots=True, weakref_slot=True)
class Held:
    """One event at hand, and what was fetched for it so far."""

    event: Event
    fetched: Fetched
    account: Account | None = None
    _long: bool | None = None

    @property
    def exact_body(self) -> bytes:
        """The event's body if whole numbers beyond 64 bits may be in it, else nothing. It is looked through once."""
        if self._long is None:
            self._long = may_have_long_numbers(self.event.body)
        return self.event.body if self._long else b""


def sizes(helds: Iterable[Held]) -> dict[str, int]:
    """How many bytes of memory each event takes, by its id."""
    return {held.event.id: held.event.size for held in helds}


class Hands:
    """Room for work of one kind: so many pieces, whose events take so many bytes of memory, or little more."""

    def __init__(self, limit: int, byte_limit: int) -> None:
        self.limit, self.byte_limit = limit, byte_limit
        #: How many pieces are in hand or expected.
        self.count = 0
        self._expected, self._taken = 0, EventBytes()

    @property
    def bytes(self) -> int:
        """How many bytes their events take, each counted once."""
        return self._expected + self._taken.total

    def expect(self, size: int) -> None:
        """A piece of work will be in hand when the store has kept its event, which takes so many bytes."""
        self.count += 1
        self._expected += size

    def arrived(self, size: int) -> None:
        """The store has kept it, or not: what becomes of it is another matter."""
        self.count -= 1
        self._expected -= size

    def take(self, helds: Sequence[Held]) -> None:
        """A piece of work that is about these events is in hand."""
        self.count += 1
        self._taken.add(sizes(helds))

    def drop(self, helds: Sequence[Held]) -> None:
        """It is over."""
        self.count -= 1
        self._taken.remove(sizes(helds))

    def fits(self, size: int) -> bool:
        """Whether an event of so many bytes fits; where nothing else is, any does."""
        return not self.bytes or self.bytes + size <= self.byte_limit

    def room(self, waiting: int = 0) -> int:
        """How many more may be taken; ``waiting`` of those in hand take no room."""
        return max(self.limit - self.count + waiting, 0) if self.bytes < self.byte_limit else 0


#: A document at hand: an event, and the place of a run in it (-1: the whole event).
Place = tuple[Held, int]


class Holdings:
    """Shares what is held of an event among its deliveries, and fetches what they lack.

    ``save`` keeps with the event what was fetched, so that a retry or replay has it. What is held of fetched data
    counts against ``memory``.
    """

    def __init__(
        self,
        hydrator: Hydrator,
        save: Callable[[str, Fetched], Awaitable[None]],
        memory: Memory | None = None,
    ) -> None:
        self._hydrator, self._save = hydrator, save
        self.memory = memory or Memory()
        self._logger = logging.getLogger(__name__)
        self._held: WeakValueDictionary[str, Held] = WeakValueDictionary()

    def take(self, event: Event, fetched: Fetched, size: int = 0) -> Held:
        """Hold an event, or hand out what is held of it already. ``size``: about how many bytes ``fetched`` takes."""
        held = self._held.get(event.id)
        if held is None:
            held = self._held[event.id] = Held(event, fetched)
            if size:
                self._account(held).add(size)
        return held

    def _account(self, held: Held) -> Account:
        """What an event's fetched data takes: few events have any."""
        if held.account is None:
            held.account = self.memory.account(held.event.size)
        return held.account

    def at_hand(self, event_id: str) -> Held | None:
        """What is held of an event, if anything is."""
        return self._held.get(event_id)

    async def hydrate(self, held: Held, wanted: Needs, index: int | None, *, refresh: bool = False) -> bool:
        """Fetch what is wanted and not at hand. True if anything changed.

        ``index`` is the run it is wanted for; None is all of them. ``refresh`` asks for feedback anew.
        """
        before = held.fetched
        places = None if index is None else [index]
        account = self._account(held)
        fetched = await self._hydrator.fetch(held.event, wanted, places, before, refresh=refresh, account=account)
        if fetched is before:
            return False
        # Meanwhile another delivery of the event may have fetched something else, or waited for the same.
        new = fetched.beyond(before).beyond(held.fetched)
        held.fetched = held.fetched.merge(fetched)
        if not new.is_empty:
            await self._keep(held.event.id, new)
        return True

    async def _keep(self, event_id: str, fetched: Fetched) -> None:
        """What was fetched is at hand: that it could not be kept besides is no failure of the work it is for."""
        try:
            await self._save(event_id, fetched)
        except StoreError as error:
            told = {"event": event_id, "reason": str(error)}
            self._logger.warning("what was fetched is not kept; a retry fetches it again", extra=told)

    async def hydrate_each(self, places: Sequence[Place], wanted: Needs) -> bool:
        """Fetch what is wanted for several documents, some at a time. True if anything changed."""
        came = False
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            came |= any(await asyncio.gather(*(self.hydrate(held, wanted, index) for held, index in some)))
        return came

"""What evaluations and deliveries share: the current rules, the store, and the events in memory."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakValueDictionary

from engine.action.failures import Failure
from engine.action.retry import RetryPolicy
from engine.core.document import Fetched
from engine.core.errors import StoreBusy, StoreError
from engine.core.event import Event
from engine.core.json_text import may_have_long_numbers
from engine.core.masking import Masker
from engine.core.memory_budget import Account, Memory
from engine.rules.route import Needs
from engine.rules.router import Router
from engine.store.protocol import Store
from engine.store.records import Again, Attempt, Control, Dead, Work
from engine.worker.hydrate import Hydrator
from engine.worker.observer import Observer

T = TypeVar("T")

#: The pause between two tries of a write that must succeed, in seconds: the first one, doubling to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
#: For how many documents of one digest data is fetched at once.
_FETCHED_AT_ONCE = 8
#: How often the store is read, in seconds: another process on the same store may mute a route as well.
_REFRESH_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a reload replaces as a whole: the router, and the masker that knows its secrets."""

    router: Router
    masker: Masker


@dataclass(slots=True, weakref_slot=True)
class LoadedEvent:
    """An event in memory, and what was fetched for it so far."""

    event: Event
    fetched: Fetched
    account: Account | None = None
    _exact_body: bytes | None = None

    @property
    def exact_body(self) -> bytes:
        """The event's body if it may contain integers beyond 64 bits, else nothing. It is searched once."""
        if self._exact_body is None:
            self._exact_body = self.event.body if may_have_long_numbers(self.event.body) else b""
        return self._exact_body


#: A document: a loaded event, and the index of a run in it (-1: the whole event).
Place = tuple[LoadedEvent, int]


def sizes(events: Iterable[LoadedEvent]) -> dict[str, int]:
    """The memory that each event takes, in bytes, by its id."""
    return {loaded.event.id: loaded.event.size for loaded in events}


class InMemoryEvents:
    """The events in memory. The work of one event shares a ``LoadedEvent``, with what was fetched for it.

    ``save`` stores with an event what was fetched, for retries and replays. Fetched data counts against ``memory``.
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
        self._loaded: WeakValueDictionary[str, LoadedEvent] = WeakValueDictionary()

    def load(self, event: Event, fetched: Fetched, size: int = 0) -> LoadedEvent:
        """The loaded event, which may be in memory already. ``size``: about how many bytes ``fetched`` takes."""
        loaded = self._loaded.get(event.id)
        if loaded is None:
            loaded = self._loaded[event.id] = LoadedEvent(event, fetched)
            if size:
                self._account(loaded).add(size)
        return loaded

    def _account(self, loaded: LoadedEvent) -> Account:
        """The account of an event's fetched data. Few events need one."""
        if loaded.account is None:
            loaded.account = self.memory.account(loaded.event.size)
        return loaded.account

    def get(self, event_id: str) -> LoadedEvent | None:
        """An event that is in memory."""
        return self._loaded.get(event_id)

    async def fetch(self, loaded: LoadedEvent, wanted: Needs, index: int | None, *, refresh: bool = False) -> bool:
        """Fetch what of ``wanted`` is missing. Returns whether anything changed.

        ``index`` is the run it is wanted for; None means all of them. ``refresh`` fetches feedback again.
        """
        before, account = loaded.fetched, self._account(loaded)
        indexes = None if index is None else [index]
        fetched = await self._hydrator.fetch(loaded.event, wanted, indexes, before, refresh=refresh, account=account)
        if fetched is before:
            return False
        # Meanwhile another delivery of the event may have fetched something else, or waited for the same.
        new = fetched.beyond(before).beyond(loaded.fetched)
        loaded.fetched = loaded.fetched.merge(fetched)
        if not new.is_empty:
            try:
                await self._save(loaded.event.id, new)
            except StoreError as error:  # the work that needs the data has it
                facts = {"event": loaded.event.id, "reason": str(error)}
                self._logger.warning("fetched data could not be stored; a retry fetches it again", extra=facts)
        return True

    async def fetch_each(self, places: Sequence[Place], wanted: Needs) -> bool:
        """Fetch what several documents need, some at a time. Returns whether anything changed."""
        changed = False
        for start in range(0, len(places), _FETCHED_AT_ONCE):
            some = places[start : start + _FETCHED_AT_ONCE]
            changed |= any(await asyncio.gather(*(self.fetch(loaded, wanted, index) for loaded, index in some)))
        return changed


class Mutes:
    """The current mutes, in memory: routing reads them for every event and must not wait for the store."""

    def __init__(self, store: Store, logger: logging.Logger) -> None:
        self._store, self._logger = store, logger
        #: The mutes by route id. Expired ones may still be among them; check with ``is_muting``.
        self.muted: Mapping[str, Control] = {}

    async def refresh(self) -> None:
        """Read the mutes from the store.

        Raises:
            StoreError: the store cannot be read.
        """
        found = await self._store.controls()
        self.muted = {control.subject: control for control in found if control.kind == "mute"}

    async def keep_fresh(self) -> None:
        """Refresh periodically until cancelled. While the store cannot be read, the last known mutes apply."""
        while True:
            await asyncio.sleep(_REFRESH_EVERY)
            try:
                await self.refresh()
            except StoreError as error:
                self._logger.error("cannot read the muted routes; trying again", extra={"reason": str(error)})


@dataclass(slots=True)
class Context:
    """What evaluations and deliveries share. A reload replaces ``rules``."""

    store: Store
    rules: Rules
    events: InMemoryEvents
    observer: Observer
    logger: logging.Logger
    mutes: Mutes
    clock: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.Random)

    async def persist(self, verb: Callable[[], Awaitable[T]]) -> T:
        """Retry a store call until it succeeds.

        Raises:
            StoreError: the store will never do it.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return await verb()
            except StoreBusy as error:
                self.logger.error("the store cannot write; trying again", extra={"reason": str(error)})
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def failed(
        self, work: Work, policy: RetryPolicy, failure: Failure, started_at: float, *, destination: str = ""
    ) -> tuple[Attempt, Again | Dead]:
        """A failed attempt, as stored, and what follows from it by the retry policy."""
        now, masker = self.clock(), self.rules.masker
        reason = masker.text(failure.reason)
        # How long it has failed, without the time that it was due and waited for its turn.
        waited = max(work.due_at - work.first_at, 0.0) + max(now - started_at, 0.0)
        delay = policy.next_delay(failure, attempt=work.attempts + 1, waited=waited, rng=self.rng)
        attempt = Attempt(
            number=work.attempts + 1,
            replay=work.replays,
            started_at=started_at,
            seconds=max(now - started_at, 0.0),
            outcome="dead" if delay is None else "again",
            reason=reason,
            status=failure.status,
            destination=masker.text(destination),
            worker=self.store.owner,
        )
        return attempt, Dead(reason) if delay is None else Again(now + delay, spent=policy.spends(failure))

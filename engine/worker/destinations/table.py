"""All destinations of a process: which exist, which are blocked, and how much may be claimed for each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from engine.clients.limits import LimitTable
from engine.core.fair_share import FairShare
from engine.worker.destinations.destination import Destination, Shared

#: From this many destinations on, idle ones are evicted.
_FIRST_EVICTION = 256
#: The most destinations in memory. Beyond it blocked ones are evicted as well, the longest blocked first.
MAX_DESTINATIONS = 10_000
#: How many blocked destinations are evicted at a time.
_EVICTED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What the next claim may take.

    ``capacity`` is how much may be taken for each destination in use. ``blocked`` ones take nothing. ``unblocked`` ones
    take deliveries again, and the claim stops skipping them. ``number`` counts the claims.
    """

    capacity: Mapping[str, int]
    blocked: Collection[str]
    unblocked: Collection[str]
    number: int


class DestinationTable:
    """The destinations of one process, by name. Idle ones without failures are evicted.

    All together have at most ``total`` attempts in flight, shared by ``FairShare`` whatever their limits are. For
    ``max_bytes`` and ``max_waiting`` see ``Shared``. ``on_forget`` is called with each destination that is removed.
    """

    def __init__(
        self,
        rng: random.Random,
        total: int = 1_000_000,
        on_forget: Callable[[Destination], None] = lambda _: None,
        max_bytes: float = math.inf,
        max_waiting: float = math.inf,
    ) -> None:
        self.shared = Shared(rng, FairShare(total), max_bytes, max_waiting)
        self._on_forget = on_forget
        self._destinations: dict[str, Destination] = {}
        #: The destinations by whether they are blocked, so that a claim need not look at all of them.
        self._blocked: dict[str, Destination] = {}
        self._unblocked: dict[str, Destination] = {}
        #: When these were read last, and when the first block ends.
        self._sorted_at, self._next_end = 0.0, math.inf
        self._evict_at = _FIRST_EVICTION
        self._claims = 0
        #: Names that claims still skip, though the destination was forgotten and nothing blocks it.
        self._forgotten: set[str] = set()

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._destinations.values())

    def __len__(self) -> int:
        return len(self._destinations)

    def get(self, name: str) -> Destination | None:
        """A destination that is in memory."""
        return self._destinations.get(name)

    def get_or_add(self, name: str, raw_name: str, limits: LimitTable, now: float) -> Destination:
        """A destination, under its present limits. No limit is higher than its share of all slots."""
        own, most = limits.of(raw_name), self.shared.fair_share.max_each
        if own.concurrency > most:
            own = replace(own, concurrency=most)
        found = self._destinations.get(name)
        if found is None:
            self._evict(now)
            found = self._destinations[name] = Destination(name, raw_name, own, now, self.shared)
        found.raw_name = raw_name
        found.set_limits(own, now)
        return found

    def capacity(self, now: float) -> Mapping[str, int]:
        """How much may be claimed for each destination that is neither blocked nor idle. Others have no limit."""
        self._sort(now)
        return {name: one.capacity(now) for name, one in self._unblocked.items() if one.in_use}

    def blocked(self, now: float) -> Collection[str]:
        """The names of the blocked destinations."""
        self._sort(now)
        return set(self._blocked)

    def _sort(self, now: float) -> None:
        """Sort the destinations that changed into blocked and unblocked ones; all blocked ones if a block has ended.

        A clock that was set back may have ended any.
        """
        changed, self.shared.changed = self.shared.changed, set()
        if now >= self._next_end or now < self._sorted_at:
            changed.update(self._blocked.values())
            self._next_end = math.inf
        self._sorted_at = now
        for one in changed:
            if self._destinations.get(one.name) is not one:
                continue
            block = one.block(now)
            into, out_of = (self._unblocked, self._blocked) if block is None else (self._blocked, self._unblocked)
            into[one.name] = one
            out_of.pop(one.name, None)
            if block is not None and block.until is not None:
                self._next_end = min(self._next_end, block.until)

    def ready_at(self, now: float) -> float | None:
        """When the first destination without capacity takes stored deliveries again by time alone, or None."""
        times = (one.ready_at(now) for one in self if one.has_stored and not one.capacity(now))
        return min((at for at in times if at is not None), default=None)

    def claim_request(self, now: float) -> ClaimRequest:
        """What the next claim may take. Pass it to ``apply_claim`` afterwards."""
        self._claims += 1
        capacity = self.capacity(now)
        unblocked = {name for name, count in capacity.items() if count and self._destinations[name].skipped}
        return ClaimRequest(capacity, set(self._blocked), unblocked | self._forgotten, self._claims)

    def note_stored(self, destination: Destination) -> None:
        """Note that a delivery waits in the store for a destination, or will in a moment, and is due."""
        destination.has_stored, destination.stored_during = True, self._claims

    def apply_claim(
        self, request: ClaimRequest, remaining: Collection[str], skipped: Collection[str], emptied: Collection[str]
    ) -> None:
        """Apply the result of a claim (see the store's ``claim``). It may not have seen what was stored meanwhile."""
        self._forgotten.difference_update(request.unblocked)
        for destination in self._known(emptied):
            if destination.stored_during < request.number:
                destination.has_stored = False
        for destination in self._known(remaining):
            destination.has_stored = True
        for destination in self._known(request.unblocked):
            destination.skipped = False
        for destination in self._known(skipped):
            destination.skipped = True

    def _known(self, names: Collection[str]) -> Iterator[Destination]:
        return (found for name in names if (found := self._destinations.get(name)) is not None)

    def forget(self, destination: Destination) -> None:
        """Remove a destination. The next claim stops skipping it."""
        self._remove(destination)
        self._forgotten.add(destination.name)

    def _remove(self, destination: Destination) -> None:
        for table in (self._destinations, self._blocked, self._unblocked):
            table.pop(destination.name, None)
        self._on_forget(destination)

    def _evict(self, now: float) -> None:
        if len(self._destinations) < self._evict_at:
            return
        idle = [one for one in self if one.is_idle(now)]
        remaining = len(self._destinations) - len(idle)
        # More than necessary, as this looks at all destinations.
        surplus = remaining - MAX_DESTINATIONS + _EVICTED_AT_ONCE if remaining >= MAX_DESTINATIONS else 0
        for one in idle + self._longest_blocked(surplus, set(idle)):
            self._remove(one)
        self._evict_at = min(max(2 * len(self._destinations), _FIRST_EVICTION), MAX_DESTINATIONS)

    def _longest_blocked(self, count: int, excluded: set[Destination]) -> list[Destination]:
        others = [one for one in self if not (one.in_flight or one.waiting or one in excluded)]
        return sorted(others, key=lambda one: one.last_block.since if one.last_block else 0.0)[: max(count, 0)]

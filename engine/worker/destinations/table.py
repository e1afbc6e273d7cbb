"""All destinations of a process: which admit attempts, and how much may be claimed for each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from engine.action.failures import Failure, Says, Scope
from engine.clients.limits import Limits, LimitTable
from engine.core.fair_share import FairShare, WaitingMemory
from engine.worker.destinations.circuit import Block
from engine.worker.destinations.destination import Destination

#: From this many destinations on, idle ones are evicted.
_FIRST_EVICTION = 256
#: The most destinations in memory. Beyond it blocked ones are evicted as well, the longest blocked first.
MAX_DESTINATIONS = 10_000
#: How many blocked destinations are evicted at a time.
_EVICTED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Admitted:
    """An attempt may start. It has its slot until ``finish`` or ``abandon``.

    ``probe``: the attempt finds out whether the destination is healthy again. ``number`` counts the attempts of the
    destination. ``events`` are the events that the delivery keeps in memory, with their sizes in bytes.
    """

    destination: Destination
    probe: bool
    number: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    #: What an answer is about, and the scoped blocks that this attempt probes.
    scope: Scope = field(default_factory=Scope)
    probed: tuple[Destination, ...] = ()


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """An attempt may not start. With ``block`` None the destination is not blocked, but has no free slot."""

    destination: Destination
    block: Block | None


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

    All together have at most ``total`` attempts in flight, shared by ``fair_share`` whatever their limits are. One
    destination takes no more deliveries when their events have ``max_bytes`` bytes; all deliveries that wait in memory
    have ``max_waiting`` bytes. ``on_forget`` is called with the name of each evicted destination.
    """

    def __init__(
        self,
        rng: random.Random,
        total: int = 1_000_000,
        on_forget: Callable[[str], None] = lambda _name: None,
        max_bytes: float = math.inf,
        max_waiting: float = math.inf,
    ) -> None:
        self._rng, self._on_forget, self._max_bytes = rng, on_forget, max_bytes
        self.fair_share, self.waiting_memory = FairShare(total), WaitingMemory(max_waiting)
        self._destinations: dict[str, Destination] = {}
        self._blocks = _BlockIndex()
        self._evict_at = _FIRST_EVICTION
        self._claims = 0
        #: Names that claims still skip, though the destination was forgotten and nothing blocks it.
        self._unblocked: set[str] = set()

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._destinations.values())

    def __len__(self) -> int:
        return len(self._destinations)

    def get(self, name: str) -> Destination | None:
        """A destination that is in memory."""
        return self._destinations.get(name)

    def get_or_add(self, name: str, raw_name: str, limits: LimitTable, now: float) -> Destination:
        """A destination, under its present limits."""
        own = self.limits_of(raw_name, limits)
        found = self._destinations.get(name)
        if found is None:
            self._evict(now)
            share, memory = self.fair_share, self.waiting_memory
            found = Destination(name, raw_name, own, now, self._rng, share, self._max_bytes, memory)
            self._destinations[name] = found
            self._blocks.update(found, now)
        found.raw_name = raw_name
        found.set_limits(own, now)
        return found

    def limits_of(self, raw_name: str, limits: LimitTable) -> Limits:
        """The limits of a destination in this process."""
        own = limits.of(raw_name)
        most = self.fair_share.max_each
        return own if own.concurrency <= most else replace(own, concurrency=most)

    def admit(self, destination: Destination, now: float) -> Admitted | NotAdmitted:
        """Start an attempt, if one may start."""
        if destination.free_slots(now) > 0:
            return Admitted(destination, *destination.start(now))
        block = destination.block(now)
        if block is None and not self.fair_share.available(destination.in_flight):
            self.fair_share.has_waiters = True
        return NotAdmitted(destination, block)

    def finish(self, admitted: Admitted, failure: Failure | None, now: float) -> None:
        """Record the end of an attempt; a failure of None is success."""
        admitted.destination.finish(failure, now, probe=admitted.probe, number=admitted.number)
        self._blocks.update(admitted.destination, now)

    def restore(self, destination: Destination, block: Block, now: float) -> None:
        """Set the block that was stored before a restart."""
        destination.restore(block)
        self._blocks.update(destination, now)

    def record_block(self, destination: Destination, says: Says, reason: str, now: float) -> None:
        """Block, or keep blocking, a destination that has no attempts of its own."""
        destination.record_block(says, reason, now)
        self._blocks.update(destination, now)

    def start_probing(self, destination: Destination, now: float) -> None:
        """Admit one attempt at a time from now on."""
        destination.start_probing(now)
        self._blocks.update(destination, now)

    def reset(self, destination: Destination, now: float) -> None:
        """Remove a block."""
        destination.reset()
        self._blocks.update(destination, now)

    def capacity(self, now: float, *, ahead: bool = True) -> Mapping[str, int]:
        """How much may be claimed for each destination that is neither blocked nor idle. Others have no limit.

        ``ahead``: count deliveries that would wait in memory as well.
        """
        self._blocks.expire(now)
        return {name: one.capacity(now, ahead=ahead) for name, one in self._blocks.unblocked.items() if one.in_use}

    def blocked(self, now: float) -> Collection[str]:
        """The names of the blocked destinations."""
        self._blocks.expire(now)
        return set(self._blocks.blocked)

    def ready_at(self, now: float) -> float | None:
        """When the first destination without capacity takes stored deliveries again by time alone, or None."""
        times = (one.ready_at(now) for one in self if one.has_stored and not one.capacity(now))
        return min((at for at in times if at is not None), default=None)

    def claim_request(self, now: float, *, ahead: bool = True) -> ClaimRequest:
        """What the next claim may take. Pass it to ``apply_claim`` afterwards."""
        self._claims += 1
        capacity = self.capacity(now, ahead=ahead)
        unblocked = {name for name, count in capacity.items() if count and self._destinations[name].skipped}
        return ClaimRequest(capacity, self.blocked(now), unblocked | self._unblocked, self._claims)

    def note_stored(self, destination: Destination) -> None:
        """Note that a delivery waits in the store for a destination, or will in a moment, and is due."""
        destination.has_stored, destination.stored_during = True, self._claims

    def apply_claim(
        self, request: ClaimRequest, remaining: Collection[str], skipped: Collection[str], emptied: Collection[str]
    ) -> None:
        """Apply the result of a claim (see the store's ``claim``). It may not have seen what was stored meanwhile."""
        self._unblocked.difference_update(request.unblocked)
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
        del self._destinations[destination.name]
        self._blocks.forget(destination)
        self._unblocked.add(destination.name)

    def _evict(self, now: float) -> None:
        if len(self._destinations) < self._evict_at:
            return
        idle = [one.name for one in self if one.is_idle(now)]
        remaining = len(self._destinations) - len(idle)
        # More than necessary, as this looks at all destinations.
        surplus = remaining - MAX_DESTINATIONS + _EVICTED_AT_ONCE if remaining >= MAX_DESTINATIONS else 0
        for name in idle + self._longest_blocked(surplus, set(idle)):
            self._blocks.forget(self._destinations.pop(name))
            self._on_forget(name)
        self._evict_at = min(max(2 * len(self._destinations), _FIRST_EVICTION), MAX_DESTINATIONS)

    def _longest_blocked(self, count: int, excluded: set[str]) -> list[str]:
        if count <= 0:
            return []
        others = [one for one in self if not (one.in_flight or one.waiting or one.name in excluded)]
        since = {one.name: one.last_block.since if one.last_block else 0.0 for one in others}
        return sorted(since, key=since.__getitem__)[:count]


class _BlockIndex:
    """Which destinations are blocked, so that a claim need not look at all of them."""

    def __init__(self) -> None:
        self.unblocked: dict[str, Destination] = {}
        #: With the end of the block; None without one.
        self.blocked: dict[str, tuple[Destination, float | None]] = {}
        self._ends: list[tuple[float, str]] = []
        self._now = 0.0

    def update(self, destination: Destination, now: float) -> None:
        """Note whether a destination is blocked now."""
        block = destination.block(now)
        if block is None:
            self.blocked.pop(destination.name, None)
            self.unblocked[destination.name] = destination
            return
        self.unblocked.pop(destination.name, None)
        if self.blocked.get(destination.name) != (destination, block.until):
            self.blocked[destination.name] = destination, block.until
            if block.until is not None:
                heappush(self._ends, (block.until, destination.name))

    def expire(self, now: float) -> None:
        """Unblock the destinations whose block has ended. After a clock was set back, look at all of them."""
        if now < self._now:
            self._update_all(list(self.blocked), now)
        self._now = now
        while self._ends and self._ends[0][0] <= now:
            self._update_all([heappop(self._ends)[1]], now)

    def _update_all(self, names: Iterable[str], now: float) -> None:
        for name in names:
            if name in self.blocked:
                self.update(self.blocked[name][0], now)

    def forget(self, destination: Destination) -> None:
        """Remove a destination."""
        self.unblocked.pop(destination.name, None)
        self.blocked.pop(destination.name, None)

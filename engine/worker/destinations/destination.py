"""One destination: its attempts in flight, and how many more may start."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.action.failures import Failure, Health, Scope
from engine.clients.limits import Limits
from engine.core.fair_share import FairShare
from engine.worker.destinations.circuit import Block, BlockKind, Circuit

#: The longest reason of a failure that is kept, in characters.
MAX_REASON = 200
#: How long an idle destination remembers its failures, in seconds.
_REMEMBERED = 600.0
#: The interval, in seconds, at which the pace is checked while deliveries wait in memory. They also wait in memory
#: for a pause that ends within it.
PACE_INTERVAL = 5.0
#: A delivery that would wait for more than this many intervals returns to the store.
MAX_PACE_INTERVALS = 6
#: The memory that a waiting delivery takes besides its event, in bytes.
WAITING_BYTES = 8192
#: A destination without free slots is stuck if no attempt has started or ended for this many seconds. Nothing waits
#: in memory for it.
_STUCK_AFTER = 1.0
_NO_EVENTS: Mapping[str, int] = {}
_WHOLE = Scope()
#: The states that people see. ``probing``: one attempt at a time finds out whether the destination is healthy again.
State = Literal["healthy", "paused", "failing", "unauthorized", "gone", "probing"]
#: The state that people see for each kind of block.
STATE_OF: Mapping[BlockKind, State] = {
    "paused": "paused",
    "failing": "failing",
    "refused": "unauthorized",
    "gone": "gone",
}


class TokenBucket:
    """How many attempts may start in a time: ``rate`` tokens a second, up to ``burst``. ``rate`` 0 is no limit."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = float(burst), now

    def set_limits(self, rate: float, burst: int, now: float) -> None:
        """Use other limits; tokens up to the new ``burst`` stay."""
        if self.ready(now) is None:  # no token was taken
            self._tokens = float(self.burst)
        self.rate, self.burst, self._tokens = rate, burst, min(self._tokens, float(burst))

    def ready(self, now: float) -> int | None:
        """How many tokens there are; None without a limit."""
        # A clock that was set back adds no tokens; filling continues from its new time.
        self._tokens = min(self._tokens + max(now - self._at, 0.0) * self.rate, float(self.burst))
        self._at = now
        return int(self._tokens + 1e-9) if self.rate else None

    def take(self, now: float) -> None:
        """Take one token. There must be one."""
        if self.ready(now) is not None:
            self._tokens = max(self._tokens - 1.0, 0.0)

    def next_at(self, now: float) -> float:
        """When there is a token, in Unix seconds; ``now`` if there is one."""
        if self.ready(now) != 0:
            return now
        return now + math.nextafter((1.0 - self._tokens) / self.rate, math.inf)


class EventBytes:
    """Counts the bytes of events. An event counts once, however many pieces of work use it."""

    __slots__ = ("_users", "total")

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self.total = 0

    def added_by(self, events: Mapping[str, int]) -> int:
        """How many bytes ``add`` would add."""
        return sum(size for event, size in events.items() if event not in self._users)

    def add(self, events: Mapping[str, int]) -> int:
        """Count the events of a piece of work (sizes in bytes by id). Returns how many bytes that adds."""
        users, added = self._users, 0
        for event, size in events.items():
            users[event] = count = users.get(event, 0) + 1
            if count == 1:
                added += size
        self.total += added
        return added

    def remove(self, events: Mapping[str, int]) -> int:
        """Stop counting the events of a piece of work that is done. Returns how many bytes that frees."""
        users, freed = self._users, 0
        for event, size in events.items():
            users[event] -= 1
            if not users[event]:
                del users[event]
                freed += size
        self.total -= freed
        return freed


@dataclass(slots=True)
class Shared:
    """What the destinations of a process share.

    One destination takes no more deliveries when their events have ``max_bytes`` bytes; all deliveries that wait in
    memory have ``max_waiting`` bytes. ``changed`` are the destinations whose block may have changed since it was read.
    """

    rng: random.Random
    fair_share: FairShare
    max_bytes: float = math.inf
    max_waiting: float = math.inf
    waiting_bytes: int = 0
    changed: set[Destination] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An attempt may start. It has its slot until ``Destination.finish`` or ``Destination.abandon``.

    ``probe``: the attempt finds out whether the destination is healthy again. ``number`` counts the attempts of the
    destination. ``events`` are the events that the delivery keeps in memory, with their sizes in bytes. ``scope`` is
    what the answer will be about, ``probed`` are the scoped blocks that the attempt probes as well.
    """

    destination: Destination
    probe: bool
    number: int
    events: Mapping[str, int]
    scope: Scope
    probed: tuple[Destination, ...] = ()


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """An attempt may not start. With ``block`` None the destination is not blocked, but has no free slot."""

    destination: Destination
    block: Block | None


class Destination:
    """Counts the attempts and the waiting deliveries of one destination.

    ``raw_name`` is what limits are matched against; it may hold secrets. ``name`` is what people and the store see.
    ``waiting`` counts the deliveries that wait in memory. ``has_stored``: deliveries that are due probably wait in the
    store; new ones queue there behind them. ``stored_during`` is the number of the claim during which that was last
    noted. ``skipped``: claims skip this destination until one says that it has capacity. ``event_bytes`` counts the
    events of the deliveries that wait in memory or are in flight.
    """

    __slots__ = (
        "_moved_at", "_pace_seen", "_ramp", "_shared", "_slowed_at", "_started", "_token_bucket", "_used_at",
        "_waiting_events", "circuit", "event_bytes", "has_stored", "in_flight", "last_failure", "limits", "name",
        "raw_name", "skipped", "stored_during", "waiting",
    )  # fmt: skip

    def __init__(self, name: str, raw_name: str, limits: Limits, now: float, shared: Shared) -> None:
        self.name, self.raw_name, self.limits, self._shared = name, raw_name, limits, shared
        self.in_flight = self.waiting = self.stored_during = 0
        self.event_bytes, self._waiting_events = EventBytes(), EventBytes()
        self.has_stored = self.skipped = False
        #: Why the latest attempt failed, as one line; empty if it succeeded.
        self.last_failure = ""
        self._token_bucket = TokenBucket(limits.rate, limits.burst, now)
        self.circuit = Circuit(shared.rng)
        #: The concurrency during recovery; None when the limits alone apply.
        self._ramp: int | None = None
        #: How many attempts have started; how many had when the destination last slowed down, and at the last check
        #: of the pace.
        self._started = self._slowed_at = self._pace_seen = 0
        self._used_at = self._moved_at = now
        shared.changed.add(self)

    def set_limits(self, limits: Limits, now: float) -> None:
        """Use other limits."""
        if limits != self.limits:
            self.limits = limits
            self._token_bucket.set_limits(limits.rate, limits.burst, now)

    # What may start

    def block(self, now: float) -> Block | None:
        """The block that admits nothing now, if there is one."""
        block = self.circuit.block
        return block if block is not None and block.is_closed(now) else None

    def is_brief(self, now: float) -> bool:
        """Whether the block may end soon, so that deliveries keep waiting in memory."""
        block = self.block(now)
        return block is not None and block.soft and block.until is not None and block.until - now <= PACE_INTERVAL

    def state(self, now: float) -> State:
        """The state that people see."""
        block = self.circuit.block
        if block is None or (block.kind == "paused" and not block.is_closed(now)):
            return "healthy"
        return "probing" if block.probes(now) else STATE_OF[block.kind]

    @property
    def last_block(self) -> Block | None:
        """The present block, or a past one that is not known to be over."""
        return self.circuit.block

    def free_slots(self, now: float) -> int:
        """How many attempts may start now."""
        own, tokens = self._own_slots(now), self._token_bucket.ready(now)
        own = own if tokens is None else min(own, tokens)
        shared = self._shared.fair_share.available(self.in_flight)
        if own and not shared and (self.has_stored or self.waiting):
            self._shared.fair_share.has_waiters = True
        return min(own, shared)

    def _own_slots(self, now: float) -> int:
        """The slots that are free without regard to the rate and to other destinations."""
        return max(self._concurrency(now) - self.in_flight, 0)

    def _concurrency(self, now: float) -> int:
        """How many attempts may be in flight without regard to the rate and to other destinations."""
        block = self.circuit.block
        if block is not None and block.is_closed(now):
            return 0
        if block is not None and block.probes(now):
            return 1
        return self.limits.concurrency if self._ramp is None else min(self._ramp, self.limits.concurrency)

    def capacity(self, now: float) -> int:
        """How many deliveries may be claimed for it: those that may start, and some to wait in memory."""
        if self.is_memory_full:
            return 0
        return max(self.free_slots(now) + self._ahead(now) - self.waiting, 0)

    @property
    def in_use(self) -> bool:
        """Whether its capacity may be less than that of an unknown destination."""
        return bool(
            self.in_flight or self.waiting or self.has_stored or self._ramp or self.limits.rate or self.last_block
        )

    @property
    def is_memory_full(self) -> bool:
        """Whether its events take all the memory that one destination may have."""
        return self.event_bytes.total >= self._shared.max_bytes

    def needs_claim(self, now: float) -> bool:
        """Whether it is time to claim more deliveries for it."""
        return self.has_stored and self.waiting * 2 <= self._ahead(now) and self.capacity(now) > 0

    def _ahead(self, now: float) -> int:
        probes = self._ramp == 1 or self.state(now) != "healthy"
        return self._concurrency(now) if self.may_wait(now) and not probes else 0

    def may_wait(self, now: float, events: Mapping[str, int] | None = None) -> bool:
        """Whether one more delivery with these events may wait in memory.

        It may if a slot will probably be free soon: not if the destination is stuck, if the rate is too low, or if
        other destinations use all shared slots.
        """
        own = self._own_slots(now)
        stuck = not own and now - self._moved_at > _STUCK_AFTER
        blocked = self.block(now) is not None and not self.is_brief(now)
        if stuck or blocked or (own and not self._shared.fair_share.available(self.in_flight)):
            return False
        most = int(self.limits.rate * PACE_INTERVAL) if self.limits.rate else math.inf
        added = self._waiting_events.added_by(events or {}) + WAITING_BYTES
        waiting_bytes = self._waiting_events.total + self.waiting * WAITING_BYTES
        return self.waiting < most and waiting_bytes + added <= self._shared.max_waiting - self._shared.waiting_bytes

    def start_waiting(self, events: Mapping[str, int]) -> None:
        """Count one more delivery that waits in memory, with its events."""
        self.waiting += 1
        self._shared.waiting_bytes += self._waiting_events.add(events) + WAITING_BYTES

    def stop_waiting(self, events: Mapping[str, int]) -> None:
        """Count one delivery less that waits in memory."""
        self.waiting -= 1
        self._shared.waiting_bytes -= self._waiting_events.remove(events) + WAITING_BYTES

    def surplus(self) -> int:
        """How many waiting deliveries would wait too long, at the pace since the last call."""
        started, self._pace_seen = self._started - self._pace_seen, self._started
        return max(self.waiting - started * MAX_PACE_INTERVALS, 0)

    def ready_at(self, now: float) -> float | None:
        """When the next attempt may start by time alone, in Unix seconds; None if time alone changes nothing."""
        block = self.block(now)
        if block is not None:
            return block.until
        at = self._token_bucket.next_at(now)
        return at if at > now else None

    # What happens

    def admit(
        self, now: float, events: Mapping[str, int] = _NO_EVENTS, scope: Scope = _WHOLE
    ) -> Admitted | NotAdmitted:
        """Start an attempt, if one may start."""
        if self.free_slots(now) <= 0:
            block, share = self.block(now), self._shared.fair_share
            if block is None and not share.available(self.in_flight):
                share.has_waiters = True
            return NotAdmitted(self, block)
        block = self.circuit.block
        probe = block is not None and block.probes(now)
        self._token_bucket.take(now)
        self._shared.fair_share.taken += 1
        self.in_flight += 1
        self._started += 1
        self._used_at = self._moved_at = now
        return Admitted(self, probe, self._started, events, scope)

    def finish(self, admitted: Admitted, failure: Failure | None, now: float) -> None:
        """Record the end of an attempt; a failure of None is success."""
        health = "healthy" if failure is None else failure.health
        self.last_failure = "" if failure is None else " ".join(failure.reason.split())[:MAX_REASON]
        if health != "healthy" or not self.circuit.is_clean:
            self._record(health, admitted, failure, now)
        if self._ramp is not None and health == "healthy" and self.state(now) == "healthy":
            self._ramp = self._ramp + 1 if self._ramp < self.limits.concurrency else None
        self.abandon(now)

    def _record(self, health: Health, admitted: Admitted, failure: Failure | None, now: float) -> None:
        """Record what an attempt says of the destination, and slow down if that blocks it.

        After a pause, halve the concurrency; after any other block, start again with one attempt. Attempts that had
        started before the last slow-down say nothing new.
        """
        before, number = self.circuit.block, admitted.number
        reason, after = ("", None) if failure is None else (failure.reason, failure.after)
        self.circuit.record(health, reason, now, after=after, probe=admitted.probe, number=number)
        self._shared.changed.add(self)
        block = self.circuit.block
        if block is None or block is before:
            return
        if block.kind != "paused":
            self._ramp = 1
        elif number > self._slowed_at:
            self._ramp, self._slowed_at = max(self.in_flight // 2, 1), self._started

    def abandon(self, now: float) -> None:
        """Free the slot of an attempt whose outcome is not known."""
        self._shared.fair_share.taken -= 1
        self.in_flight -= 1
        self._used_at = self._moved_at = now

    def restore(self, block: Block) -> None:
        """Set the block that was stored before a restart."""
        self.circuit.block, self._ramp, self.has_stored = block, 1, True
        self._shared.changed.add(self)

    def record_block(self, health: Health, reason: str, now: float) -> None:
        """Record what an attempt at another destination says of this one, which is a URL or a credential."""
        block = self.circuit.block
        if block is not None and block.kind == health == "gone" and not block.is_closed(now):
            self.circuit.reset()
        self.circuit.record(health, reason, now, probe=True)
        self._shared.changed.add(self)

    def start_probing(self, now: float) -> None:
        """Admit one attempt at a time from now on."""
        if (block := self.circuit.block) is not None:
            self.circuit.block = replace(block, until=now)
        self._shared.changed.add(self)

    def reset(self) -> None:
        """Remove the block, and start again with one attempt at a time. Attempts in flight go on."""
        self.circuit.reset()
        self._ramp = 1
        self._shared.changed.add(self)

    def is_idle(self, now: float) -> bool:
        """Whether it can be forgotten without a difference."""
        tokens = self._token_bucket.ready(now)
        if self.in_flight or self.waiting or self.block(now) is not None or tokens not in (None, self.limits.burst):
            return False
        return now - self._used_at >= _REMEMBERED or (self.circuit.is_initial and self._ramp is None)

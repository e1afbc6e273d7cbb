"""One destination's lane: what is under way to it, and how much more may be."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from engine.action.failures import Failure, Says
from engine.clients.limits import Limits
from engine.core.fair_share import Memory, Places
from engine.worker.destinations.circuit import Block, BlockKind, Shutter
from engine.worker.destinations.event_bytes import EventBytes
from engine.worker.destinations.token_bucket import Bucket

#: So much of a failure's reason is kept, in characters.
_TOLD = 200
#: Idle lanes remember failures for so long, in seconds.
_MEMORY = 600.0
#: A lane's pace is looked at so often while deliveries wait in memory for it, in seconds; a pause that is over within
#: that time is waited for in memory.
PATIENCE = 5.0
#: Who would wait longer than so many such times goes back to the store.
MOST_LOOKS = 6
#: What a delivery that waits takes in memory, besides its event, in bytes.
WAITS_BYTES = 8192
#: A full lane that nobody has entered or left for so long is stuck: nobody waits in memory for it. In seconds.
_STUCK_AFTER = 1.0
#: In which state people see a lane. ``probing``: one attempt at a time finds out whether it is healthy again.
State = Literal["healthy", "paused", "failing", "unauthorized", "gone", "probing"]
#: What people call a kind of block.
STATE_OF: Mapping[BlockKind, State] = {
    "paused": "paused",
    "failing": "failing",
    "refused": "unauthorized",
    "gone": "gone",
}


class Lane:
    """Counts attempts, tells how many more may begin. Use it through ``Lanes``.

    ``destination`` is what its limits go by, ``name`` what people and the store call it.
    ``waiting`` are those that wait in memory; ``stored`` says that others probably wait in the store, and
    are due: who comes goes there, too, behind them; ``stored_during`` is the claim during which that was noted last.
    ``passed``: claims pass over it until they are told that it has room. ``held`` are the bytes of memory of the
    events that deliveries are about which wait in memory or are under way; from ``most_held`` on no more come.
    """

    __slots__ = (
        "_begun", "_bucket", "_cut_at", "_looked_at", "_memory", "_moved_at", "_places", "_ramp", "_shutter",
        "_used_at", "_waiting_events", "destination", "held", "last_failure", "limits", "most_held", "name", "passed",
        "stored", "stored_during", "under_way", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        destination: str,
        limits: Limits,
        now: float,
        rng: random.Random,
        places: Places,
        most_held: float = math.inf,
        memory: Memory | None = None,
    ) -> None:
        self.name, self.destination, self.limits, self._places = name, destination, limits, places
        self.under_way = self.waiting = 0
        self.held, self._waiting_events = EventBytes(), EventBytes()
        self._memory = memory or Memory(math.inf)
        self.most_held = most_held
        self.stored = self.passed = False
        self.stored_during = 0
        #: Why the latest attempt failed, if it did, cut to a line.
        self.last_failure = ""
        self._bucket = Bucket(limits.rate, limits.burst, now)
        self._shutter = Shutter(rng)
        #: While it recovers, so many at once; None when it is as it was.
        self._ramp: int | None = None
        #: How many attempts ever began, and how many had when it was last told to slow down.
        self._begun = self._cut_at = self._looked_at = 0
        self._used_at = self._moved_at = now

    def change(self, limits: Limits, now: float) -> None:
        """Go on under other limits."""
        if limits != self.limits:
            self.limits = limits
            self._bucket.change(limits.rate, limits.burst, now)

    # What may begin

    def block(self, now: float) -> Block | None:
        """What keeps everything from it, if something does."""
        block = self._shutter.block
        return block if block is not None and block.is_closed(now) else None

    def is_brief(self, now: float) -> bool:
        """Whether what blocks it may be over any moment, so that those who wait in memory go on waiting."""
        block = self.block(now)
        return block is not None and block.soft and block.until is not None and block.until - now <= PATIENCE

    def state(self, now: float) -> State:
        """In a word."""
        block = self._shutter.block
        if block is None or (block.kind == "paused" and not block.is_closed(now)):
            return "healthy"
        return "probing" if block.probes(now) else STATE_OF[block.kind]

    @property
    def failures(self) -> int:
        """How many attempts in a row it answered with a fault of its own, or not at all."""
        return self._shutter.in_vain

    @property
    def last_block(self) -> Block | None:
        """What blocks it, or has blocked it and is not known to be over."""
        return self._shutter.block

    def free(self, now: float) -> int:
        """How many attempts may begin now."""
        own, tokens = self._own(now), self._bucket.ready(now)
        own = own if tokens is None else min(own, tokens)
        shared = self._places.more(self.under_way)
        if own and not shared and (self.stored or self.waiting):
            self._places.short = True
        return min(own, shared)

    def _own(self, now: float) -> int:
        """How many more may be under way, leaving the rate and the other lanes out of account."""
        return max(self._most(now) - self.under_way, 0)

    def _most(self, now: float) -> int:
        """How many may be under way, leaving the same out of account."""
        block = self._shutter.block
        if block is not None and block.is_closed(now):
            return 0
        if block is not None and block.probes(now):
            return 1
        return self.limits.concurrency if self._ramp is None else min(self._ramp, self.limits.concurrency)

    def room(self, now: float, *, ahead: bool = True) -> int:
        """How many may be taken out of the store for it: those that may begin, and some to wait in memory."""
        if self.is_heavy:
            return 0
        return max(self.free(now) + (self._ahead(now) if ahead else 0) - self.waiting, 0)

    @property
    def in_use(self) -> bool:
        """Whether it may have less room than one that nobody knows."""
        return bool(self.under_way or self.waiting or self.stored or self._ramp or self.limits.rate or self.last_block)

    @property
    def is_heavy(self) -> bool:
        """Whether it holds all the memory that one lane may."""
        return self.held.total >= self.most_held

    def wants(self, now: float) -> bool:
        """Whether it is time to take more out of the store."""
        return self.stored and self.waiting * 2 <= self._ahead(now) and self.room(now) > 0

    def _ahead(self, now: float) -> int:
        finds_out = self._ramp == 1 or self.state(now) != "healthy"
        return self._most(now) if self.may_wait(now) and not finds_out else 0

    def may_wait(self, now: float, events: Mapping[str, int] | None = None) -> bool:
        """Whether one more, with these events, may wait in memory: its turn will come soon, as far as one knows.

        There is no use in waiting for one that hangs, or once for a minute's rate, or for places that others have.
        """
        own = self._own(now)
        stuck = not own and now - self._moved_at > _STUCK_AFTER
        blocked = self.block(now) is not None and not self.is_brief(now)
        if stuck or (own and not self._places.more(self.under_way)) or blocked:
            return False
        rate = self.limits.rate
        turns = int(rate * PATIENCE) if rate else math.inf
        more = self._waiting_events.more(events or {}) + WAITS_BYTES
        return self.waiting < turns and self._waiting_bytes + more <= self._memory.free

    @property
    def _waiting_bytes(self) -> int:
        return self._waiting_events.total + self.waiting * WAITS_BYTES

    def wait(self, events: Mapping[str, int]) -> None:
        """One more waits in memory, with its events."""
        self.waiting += 1
        self._memory.taken += self._waiting_events.take(events) + WAITS_BYTES

    def wait_no_longer(self, events: Mapping[str, int]) -> None:
        """One that waited does not any more."""
        self.waiting -= 1
        self._memory.taken -= self._waiting_events.drop(events) + WAITS_BYTES

    def surplus(self) -> int:
        """How many of those that wait will not get their turn in time, at the pace since this was last asked."""
        begun, self._looked_at = self._begun - self._looked_at, self._begun
        return max(self.waiting - begun * MOST_LOOKS, 0)

    def opens_at(self, now: float) -> float | None:
        """When time alone lets the next attempt begin; None: it does not, or there is nothing to wait for."""
        block = self.block(now)
        if block is not None:
            return block.until
        at = self._bucket.next_at(now)
        return at if at > now else None

    # What happens

    def enter(self, now: float) -> tuple[bool, int]:
        """An attempt begins; there must be room. Whether it is to find out how the destination is, and its number."""
        block = self._shutter.block
        probe = block is not None and block.probes(now)
        self._bucket.take(now)
        self._places.taken += 1
        self.under_way += 1
        self._begun += 1
        self._used_at = self._moved_at = now
        return probe, self._begun

    def left(self, failure: Failure | None, now: float, *, probe: bool = False, number: int = 0) -> None:
        """An attempt ended; None is success."""
        before, says = self._shutter.block, "healthy" if failure is None else failure.says
        self.last_failure = "" if failure is None else " ".join(failure.reason.split())[:_TOLD]
        reason, after = ("", None) if failure is None else (failure.reason, failure.after)
        self._shutter.learn(says, reason, now, after=after, probe=probe, number=number)
        block = self._shutter.block
        if block is not None and block is not before:
            self._slow_down(block, number)
        elif says == "healthy" and self._ramp is not None and self.state(now) == "healthy":
            self._ramp = self._ramp + 1 if self._ramp < self.limits.concurrency else None
        self._leave(now)

    def _slow_down(self, block: Block, number: int) -> None:
        """After a pause go on with half of what was under way; after anything else with one attempt.

        Attempts that had begun when it slowed down last say nothing new.
        """
        if block.kind != "paused":
            self._ramp = 1
        elif number > self._cut_at:
            self._ramp = max(self.under_way // 2, 1)
            self._cut_at = self._begun

    def given_up(self, now: float) -> None:
        """An attempt ended without telling anything: this process gave it up."""
        self._leave(now)

    def _leave(self, now: float) -> None:
        self._places.taken -= 1
        self.under_way -= 1
        self._used_at = self._moved_at = now

    def restore(self, block: Block) -> None:
        """Block it as it was before a restart."""
        self._shutter.block, self._ramp, self.stored = block, 1, True

    def blocked(self, says: Says, reason: str, now: float) -> None:
        """It is a URL or a credential, and an attempt said that it is refused."""
        block = self._shutter.block
        if block is not None and block.kind == says == "gone" and not block.is_closed(now):
            self._shutter.reset()
        self._shutter.learn(says, reason, now, probe=True)

    def find_out(self, now: float) -> None:
        """Let one attempt in at a time."""
        if (block := self._shutter.block) is not None:
            self._shutter.block = replace(block, until=now)

    def reset(self) -> None:
        """Let attempts in again, one at a time at first: people know better, or think so. What is under way stays."""
        self._shutter.reset()
        self._ramp = 1

    def is_idle(self, now: float) -> bool:
        """Whether it can be forgotten without anybody noticing."""
        if self.under_way or self.waiting or self.block(now) is not None or not self._bucket.is_full(now):
            return False
        return now - self._used_at >= _MEMORY or (self._shutter.unremarkable and self._ramp is None)

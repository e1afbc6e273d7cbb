"""All lanes: who may enter, how much may be taken out of the store for each, which are shut."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from engine.action.failures import Failure, Says, Scope
from engine.clients.limits import Limits, LimitTable
from engine.core.fair_share import Memory, Places
from engine.worker.destinations.circuit import Block
from engine.worker.destinations.destination import Lane

#: So many lanes are kept before the idle ones are looked for.
_FEW = 256
#: The most that are kept in mind; past it blocked ones are forgotten, too, those first that were shut first.
MOST_LANES = 10_000
#: How many blocked ones are forgotten at a time.
_MADE_ROOM = 500


@dataclass(frozen=True, slots=True)
class Admitted:
    """An attempt may begin, and has its place until it says that it left. A ``probe`` finds out how things are.

    ``number`` counts the attempts of its lane. ``events`` are those that its lane holds in memory for it, with their
    sizes in bytes.
    """

    lane: Lane
    probe: bool
    number: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    #: What its answer is about, and the stops that it finds out about.
    scope: Scope = field(default_factory=Scope)
    stops: tuple[Lane, ...] = ()


@dataclass(frozen=True, slots=True)
class Shut:
    """It may not. ``block`` None: its destination is healthy, but there is no place free."""

    lane: Lane
    block: Block | None


@dataclass(frozen=True, slots=True)
class Ask:
    """What a claim is told: how much may be taken of each lane in use, which take nothing, which take something again.

    ``number`` counts the claims.
    """

    rooms: Mapping[str, int]
    shut: Collection[str]
    opened: Collection[str]
    number: int


class Lanes:
    """The lanes of one process, by destination. Those that are idle and unremarkable are forgotten.

    They have at most ``total`` attempts under way together, shared as ``places`` say, whatever their limits are; none
    begins to hold more when it holds ``most_held`` bytes, and all that wait in memory have ``most_waiting``.
    ``forgotten`` is told the names of those that are.
    """

    def __init__(
        self,
        rng: random.Random,
        total: int = 1_000_000,
        forgotten: Callable[[str], None] = lambda _name: None,
        most_held: float = math.inf,
        most_waiting: float = math.inf,
    ) -> None:
        self._rng, self._forgotten, self._most_held = rng, forgotten, most_held
        self.places, self.memory = Places(total), Memory(most_waiting)
        self._lanes: dict[str, Lane] = {}
        self._doors = _Doors()
        self._look_at = _FEW
        self._claims = 0
        #: Lanes that claims pass over, though nothing is known any more that keeps them.
        self._opened: set[str] = set()

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, name: str) -> Lane | None:
        """A lane that is known."""
        return self._lanes.get(name)

    def lane(self, name: str, destination: str, table: LimitTable, now: float) -> Lane:
        """A destination's lane, under the limits of now."""
        limits = self.limits(destination, table)
        lane = self._lanes.get(name)
        if lane is None:
            self._make_room(now)
            lane = Lane(name, destination, limits, now, self._rng, self.places, self._most_held, self.memory)
            self._lanes[name] = lane
            self._doors.note(lane, now)
        lane.destination = destination
        lane.change(limits, now)
        return lane

    def limits(self, destination: str, table: LimitTable) -> Limits:
        """What holds for a destination here."""
        limits = table.of(destination)
        most = self.places.most
        return limits if limits.concurrency <= most else replace(limits, concurrency=most)

    def enter(self, lane: Lane, now: float) -> Admitted | Shut:
        """Begin an attempt, if one may."""
        if lane.free(now) > 0:
            return Admitted(lane, *lane.enter(now))
        block = lane.block(now)
        if block is None and not self.places.more(lane.under_way):
            self.places.short = True
        return Shut(lane, block)

    def left(self, admitted: Admitted, failure: Failure | None, now: float) -> None:
        """An attempt ended, and this is what it came to; None is success."""
        admitted.lane.left(failure, now, probe=admitted.probe, number=admitted.number)
        self._doors.note(admitted.lane, now)

    def restore(self, lane: Lane, block: Block, now: float) -> None:
        """Block a lane as it was before a restart."""
        lane.restore(block)
        self._doors.note(lane, now)

    def learn(self, lane: Lane, says: Says, reason: str, now: float) -> None:
        """Block a lane that has no attempts of its own, or go on blocking it."""
        lane.blocked(says, reason, now)
        self._doors.note(lane, now)

    def probe(self, lane: Lane, now: float) -> None:
        """From now on one attempt at a time finds out how things are."""
        lane.find_out(now)
        self._doors.note(lane, now)

    def reset(self, lane: Lane, now: float) -> None:
        """Let everything into a lane again."""
        lane.reset()
        self._doors.note(lane, now)

    def rooms(self, now: float, *, ahead: bool = True) -> Mapping[str, int]:
        """How much may be taken out of the store for each that is neither shut nor idle. Others have all the room.

        ``ahead``: also some to wait in memory.
        """
        self._doors.look(now)
        return {name: lane.room(now, ahead=ahead) for name, lane in self._doors.open.items() if lane.in_use}

    def shut(self, now: float) -> Collection[str]:
        """Those that take nothing."""
        self._doors.look(now)
        return set(self._doors.shut)

    def opens_at(self, now: float) -> float | None:
        """When the next lane opens by itself for which something waits in the store, or None."""
        times = (lane.opens_at(now) for lane in self._lanes.values() if lane.stored and not lane.room(now))
        return min((at for at in times if at is not None), default=None)

    def ask(self, now: float, *, ahead: bool = True) -> Ask:
        """What the next claim is told; ``taken`` wants to know it again."""
        self._claims += 1
        rooms = self.rooms(now, ahead=ahead)
        opened = {name for name, room in rooms.items() if room and self._lanes[name].passed}
        return Ask(rooms, self.shut(now), opened | self._opened, self._claims)

    def store(self, lane: Lane) -> None:
        """Something due waits in the store for a lane, or is about to."""
        lane.stored, lane.stored_during = True, self._claims

    def taken(self, ask: Ask, left: Collection[str], passed: Collection[str], emptied: Collection[str]) -> None:
        """A claim took what it could; see ``ClaimResult``. What was stored while it was made, it may not have seen."""
        self._opened.difference_update(ask.opened)
        for lane in self._known(emptied):
            if lane.stored_during < ask.number:
                lane.stored = False
        for lane in self._known(left):
            lane.stored = True
        for lane in self._known(ask.opened):
            lane.passed = False
        for lane in self._known(passed):
            lane.passed = True

    def _known(self, names: Collection[str]) -> Iterator[Lane]:
        return (lane for name in names if (lane := self._lanes.get(name)) is not None)

    def forget(self, lane: Lane) -> None:
        """Nothing is known of a lane any more, nor that claims are to pass over it."""
        del self._lanes[lane.name]
        self._doors.forget(lane)
        self._opened.add(lane.name)

    def _make_room(self, now: float) -> None:
        if len(self._lanes) < self._look_at:
            return
        idle = [lane.name for lane in self._lanes.values() if lane.is_idle(now)]
        left = len(self._lanes) - len(idle)
        # Some more than need be: a look at all of them for each new one would be long.
        surplus = left - MOST_LANES + _MADE_ROOM if left >= MOST_LANES else 0
        for name in idle + self._least_wanted(surplus, set(idle)):
            self._doors.forget(self._lanes.pop(name))
            self._forgotten(name)
        self._look_at = min(max(2 * len(self._lanes), _FEW), MOST_LANES)

    def _least_wanted(self, count: int, besides: set[str]) -> list[str]:
        if count <= 0:
            return []
        others = [each for each in self._lanes.values() if not (each.under_way or each.waiting or each.name in besides)]
        since = {lane.name: lane.last_block.since if lane.last_block else 0.0 for lane in others}
        return sorted(since, key=since.__getitem__)[:count]


class _Doors:
    """Which lanes are shut, without a look at each: told of every change, and of time."""

    def __init__(self) -> None:
        self.open: dict[str, Lane] = {}
        #: With until when; None: until people change something.
        self.shut: dict[str, tuple[Lane, float | None]] = {}
        self._opens: list[tuple[float, str]] = []
        self._now = 0.0

    def note(self, lane: Lane, now: float) -> None:
        """A lane is new, or something happened that may have shut or opened it."""
        block = lane.block(now)
        if block is None:
            self.shut.pop(lane.name, None)
            self.open[lane.name] = lane
            return
        self.open.pop(lane.name, None)
        if self.shut.get(lane.name) != (lane, block.until):
            self.shut[lane.name] = lane, block.until
            if block.until is not None:
                heappush(self._opens, (block.until, lane.name))

    def look(self, now: float) -> None:
        """Open those whose time has come. Of a clock that was set back nobody knows which those are."""
        if now < self._now:
            self._note_all(list(self.shut), now)
        self._now = now
        while self._opens and self._opens[0][0] <= now:
            self._note_all([heappop(self._opens)[1]], now)

    def _note_all(self, names: Iterable[str], now: float) -> None:
        for name in names:
            if name in self.shut:
                self.note(self.shut[name][0], now)

    def forget(self, lane: Lane) -> None:
        """It is no longer known."""
        self.open.pop(lane.name, None)
        self.shut.pop(lane.name, None)

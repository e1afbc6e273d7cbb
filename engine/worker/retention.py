"""Keeps the store from growing without end: deletes what is old, and says when there is no room for more.

What waits or is dead is never deleted to make room. When only that is left, events are refused
until there is room again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from engine.config import Retention
from engine.core.errors import StoreError
from engine.core.units import format_size
from engine.store.protocol import PRUNED_BYTES, Store
from engine.store.queries import Prunable, Pruned, Size
from engine.worker.clock_check import ClockCheck

#: How often the size is looked at, in seconds: so long it may take until a full store is known to be.
LOOK = 1.0
#: Between two rounds of deleting what is old, in seconds; where it is getting tight, as soon as the second.
ROUND, SOON = 60.0, 10.0
#: How often every event is looked at again that was too young or in use before, in seconds.
_AFRESH = 3600.0
#: Of the room there is: above the first share finished history goes early, until less than the second is in use.
_TIGHT, _EASY = 0.9, 0.85
#: What happened within so many seconds never goes early: a sender that tries again is to be known again.
_YOUNGEST = 600.0
#: What is left free on the disk for finishing what was accepted, in bytes; on small disks a twentieth of them.
_RESERVE = 32 * 2**20
#: Rest after a step, as a multiple of the time it took, and in seconds at least.
_REST, _SHORTEST_REST = 1.0, 0.01
#: More than so many bytes that are free within the file, and than this share of it, go back to the disk.
_SPARE, _SPARE_SHARE = 64 * 2**20, 0.2
_ORDER: tuple[Prunable, ...] = ("dead", "unmatched", "bodies", "events", "marks")
#: What goes early, in this order.
_EARLY: tuple[Prunable, ...] = ("unmatched", "bodies", "events")


@dataclass(frozen=True, slots=True)
class Room:
    """How much of a store's room is taken, in bytes. ``on_disk``: the disk is what bounds it, not ``max_size``."""

    used: int
    limit: float
    on_disk: bool

    @classmethod
    def of(cls, size: Size, max_size: float) -> Room:
        """The room that the cap and the disk leave together."""
        disk = math.inf
        if size.free is not None:
            reserve = min(_RESERVE, (size.disk or 0) // 20)
            disk = size.used + size.spare + max(size.free - reserve, 0)
        return cls(size.used, min(disk, max_size), on_disk=disk < max_size)

    @property
    def full(self) -> bool:
        """Whether there is none left."""
        return self.used >= self.limit

    def over(self, share: float) -> bool:
        """Whether more than a share of it is taken."""
        return self.used > self.limit * share

    def words(self) -> str:
        """Why no event can be taken."""
        if self.on_disk:
            return f"the disk is full: the store has {format_size(self.used)}, and hardly anything is left beside it"
        cap = format_size(self.limit)
        return f"the store is full: it has {format_size(self.used)}, and retention.max_size is {cap}"


class Upkeep:
    """Looks at the store's size each second, and deletes each minute what is older than ``retention`` says."""

    def __init__(
        self,
        store: Store,
        retention: Callable[[], Retention],
        logger: logging.Logger,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._retention, self._logger = store, retention, logger
        self._clock = clock
        self._clock_check = ClockCheck(store, logger, clock=clock, monotonic=monotonic)
        self._services: list[asyncio.Task[None]] = []
        self._tight = asyncio.Event()
        self._last: dict[Prunable, str] = {}
        self._looked_for = retention()
        self._afresh_at = 0.0
        #: The latest size; None until the first look.
        self.size: Size | None = None
        #: Why no event can be taken, for want of room; empty where there is some.
        self.full = ""

    async def start(self) -> None:
        """Look at the size, then go on doing so, and prune, until stopped."""
        await self._guarded("looking at the store's size", self.look)
        await self._guarded("looking at the clock", self._clock_check.begin)
        services = (
            self._for_ever("looking at the store's size", self.look, self._nap_until_look),
            self._for_ever("deleting what is old", self.round, self._nap_until_round),
        )
        self._services = [asyncio.create_task(service) for service in services]

    async def stop(self) -> None:
        """End; a step that was begun is finished by the store."""
        for service in self._services:
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)

    async def look(self) -> None:
        """Take note of the size, and of whether there is room."""
        room = await self._room()
        if room.full and not self.full:
            self._logger.error("events are refused: %s; undelivered work is never deleted", room.words())
        elif self.full and not room.full:
            self._logger.info("events are accepted again: there is room in the store")
        self.full = room.words() if room.full else ""
        if room.over(_TIGHT):
            self._tight.set()

    async def _room(self) -> Room:
        self.size = await self._store.size()
        return Room.of(self.size, self._retention().max_size)

    async def round(self) -> None:
        """Delete what is older than it is to be kept; where that leaves hardly any room, finished history as well."""
        self._tight.clear()
        if await self._clock_check.believes():
            self._maybe_afresh()
            went = {what: await self._sweep(what, age) for what, age in self._ages().items() if age < math.inf}
            self._tell("old records were deleted", went)
        if (await self._room()).over(_TIGHT):
            await self._make_room()
        await self._shrink()

    def _ages(self) -> dict[Prunable, float]:
        kept = self._retention()
        return {
            "dead": kept.dead,
            "unmatched": kept.unmatched,
            "bodies": kept.bodies,
            "events": kept.events,
            "marks": kept.events,
        }

    def _maybe_afresh(self) -> None:
        """Mostly a round goes on where the last one ended. What was passed over then gets its turn now and again."""
        if self._retention() != self._looked_for or not 0 <= self._clock() - self._afresh_at < _AFRESH:
            self._last.clear()
            self._looked_for, self._afresh_at = self._retention(), self._clock()

    async def _sweep(self, what: Prunable, age: float) -> int:
        """Step by step through all that is older than an age, in seconds. How many went."""
        before, count, more = self._clock() - age, 0, True
        while more:
            step = await self._step(what, before, PRUNED_BYTES)
            more = step.more
            count += step.count
        return count

    async def _step(self, what: Prunable, before: float, max_bytes: int) -> Pruned:
        """The next step of a sweep, and a rest that leaves others their turns."""
        started = time.monotonic()
        step = await self._store.prune(what, before=before, after=self._last.get(what, ""), max_bytes=max_bytes)
        self._last[what] = step.last
        await _rest(time.monotonic() - started)
        return step

    async def _make_room(self) -> None:
        """Delete finished history before its time: what nothing came of first, then bodies, then whole events."""
        before, went = self._clock() - _YOUNGEST, dict.fromkeys(_EARLY, 0)
        for what in _EARLY:
            self._last[what], more = "", True
            while more and (excess := await self._excess()) > 0:
                step = await self._step(what, before, min(excess, PRUNED_BYTES))
                more = step.more
                went[what] += step.count
            self._last[what] = ""
        self._tell("finished history was deleted before its time, for want of room", went, logging.WARNING)

    async def _excess(self) -> int:
        """How many bytes have to go until it is easy again."""
        room = await self._room()
        return 0 if room.limit == math.inf else math.ceil(room.used - room.limit * _EASY)

    async def _shrink(self) -> None:
        """Give the disk back what the file has no use for."""
        size = await self._store.size()
        left = size.spare if size.spare > max(_SPARE, size.used * _SPARE_SHARE) else 0
        while left > 0:
            started = time.monotonic()
            given_back = await self._store.shrink()
            left = left - given_back if given_back else 0
            await _rest(time.monotonic() - started)

    def _tell(self, message: str, went: Mapping[Prunable, int], level: int = logging.INFO) -> None:
        facts = {str(what): count for what, count in went.items() if count}
        if facts:
            self._logger.log(level, message, extra=facts)

    async def _for_ever(
        self, name: str, step: Callable[[], Awaitable[None]], nap: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            await nap()
            await self._guarded(name, step)

    async def _guarded(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """A step; what goes wrong in it ends it, and nothing else: the next one comes."""
        try:
            await step()
        except StoreError as error:
            self._logger.warning("trouble while %s; trying again", name, extra={"reason": str(error)})
        except Exception as error:
            self._logger.error("trouble while %s; trying again", name, exc_info=error)

    async def _nap_until_look(self) -> None:
        await asyncio.sleep(LOOK)

    async def _nap_until_round(self) -> None:
        """A minute, or less where it is getting tight; never at once: what could go just went."""
        await asyncio.sleep(SOON)
        try:
            async with asyncio.timeout(ROUND - SOON):
                await self._tight.wait()
        except TimeoutError:
            return


async def _rest(took: float) -> None:
    """Leave others their turns: half of the time at least is theirs."""
    await asyncio.sleep(max(took * _REST, _SHORTEST_REST))

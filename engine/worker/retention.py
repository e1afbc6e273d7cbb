"""Retention: deletes old records, and refuses events when the store has no space left.

Work that waits or is dead is never deleted to free space. When only that remains, events are refused until there is
space again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from engine.config import Retention
from engine.core.errors import StoreError
from engine.core.units import format_size
from engine.store.protocol import PRUNED_BYTES, Store
from engine.store.queries import EventQuery, Prunable, Pruned, Size

#: The time between two looks at the store's size, in seconds.
LOOK = 1.0
#: The time between two rounds of deletion, in seconds; the second one when space is short.
ROUND, SOON = 60.0, 10.0
#: How often a round starts from the oldest record again, in seconds: records that were too young or in use are old now.
_RESTART = 3600.0
#: Above the first share of the space finished history is deleted early, until less than the second share is used.
_SHORT, _ENOUGH = 0.9, 0.85
#: Records of the last so many seconds are never deleted early, so that events that are sent again are recognized.
_YOUNGEST = 600.0
#: The space on the disk that is kept for processing accepted events, in bytes; on small disks a twentieth of it.
_RESERVE = 32 * 2**20
#: The pause after a step, as a multiple of its duration, and the shortest one in seconds.
_PAUSE, _SHORTEST_PAUSE = 1.0, 0.01
#: Free space within the file is returned to the disk if it is more than this many bytes and this share of the file.
_SPARE, _SPARE_SHARE = 64 * 2**20, 0.2
#: What is deleted early, in this order.
_EARLY: tuple[Prunable, ...] = ("unmatched", "bodies", "events")
#: After a jump of more than this many seconds the clock is not trusted for as long: it may be set back again, but what
#: was deleted would be lost.
JUMP = 3600.0
#: The name under which the store keeps the state of the clock check.
_NOTE = "clock"


@dataclass(frozen=True, slots=True)
class StoreSpace:
    """How much of a store's space is used, in bytes. ``on_disk``: the disk limits it, not ``max_size``."""

    used: int
    limit: float
    on_disk: bool

    @classmethod
    def of(cls, size: Size, max_size: float) -> StoreSpace:
        """The space within ``max_size`` and on the disk."""
        disk = math.inf
        if size.free is not None:
            reserve = min(_RESERVE, (size.disk or 0) // 20)
            disk = size.used + size.spare + max(size.free - reserve, 0)
        return cls(size.used, min(disk, max_size), on_disk=disk < max_size)

    @property
    def full(self) -> bool:
        """Whether no space is left."""
        return self.used >= self.limit

    def over(self, share: float) -> bool:
        """Whether more than a share of it is used."""
        return self.used > self.limit * share

    def message(self) -> str:
        """Why no event can be accepted."""
        if self.on_disk:
            return f"the disk is full: the store has {format_size(self.used)}, and hardly anything is left beside it"
        cap = format_size(self.limit)
        return f"the store is full: it has {format_size(self.used)}, and retention.max_size is {cap}"


class ClockCheck:
    """Compares the clock with a monotonic one, and at the start with the last time in the store.

    The result is stored, so that a restart within the hour does not make a wrong clock trusted.
    """

    def __init__(
        self, store: Store, logger: logging.Logger, *, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._store, self._logger, self._clock, self._monotonic = store, logger, clock, monotonic
        self._offset = clock() - monotonic()
        self._trusted_at = -math.inf
        self._unchecked = False

    async def begin(self) -> None:
        """Check the clock at the start. It may be wrong if it is far ahead of the last time in the store.

        Raises:
            StoreError: the store cannot be read; ``is_plausible`` tries again.
        """
        self._unchecked = True
        now = self._clock()
        seen, doubted_until = await self._last()
        if 0 < doubted_until - now <= JUMP:
            self._trusted_at = self._monotonic() + doubted_until - now
        elif seen is not None and now - seen > JUMP:
            self._trusted_at = self._monotonic() + JUMP
            message = (
                "the clock is %.0f s ahead of the last time in the store: the engine was stopped for that long, or the "
                "clock is wrong; nothing old is deleted for an hour"
            )
            self._logger.warning(message, now - seen)
        self._unchecked = False
        await self._save()

    async def is_plausible(self) -> bool:
        """Whether the clock has not jumped for an hour.

        Raises:
            StoreError: the store could not be read at the start, and cannot be read now.
        """
        if self._unchecked:
            await self.begin()
        offset = self._clock() - self._monotonic()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) > JUMP:
            self._trusted_at = self._monotonic() + JUMP
            self._logger.warning("the clock jumped by %+.0f s: nothing old is deleted for an hour", jump)
        await self._save()
        return self._monotonic() >= self._trusted_at

    async def _last(self) -> tuple[float | None, float]:
        """The last time in the store, and until when its clock is not trusted, both in Unix seconds."""
        note = await self._store.note(_NOTE)
        if note is not None:
            known = json.loads(note)
            return known["seen"], known["doubted_until"]
        newest = await self._store.events(EventQuery(limit=1))  # a store of an earlier version
        return (newest[0].received_at if newest else None), 0.0

    async def _save(self) -> None:
        now, remaining = self._clock(), self._trusted_at - self._monotonic()
        known = {"seen": now, "doubted_until": now + remaining if remaining > 0 else 0.0}
        try:
            await self._store.save_note(_NOTE, json.dumps(known))
        except StoreError as error:
            self._logger.warning("the time could not be stored", extra={"reason": str(error)})


class RetentionService:
    """Checks the store's size every second, and deletes every minute what is older than ``retention`` says."""

    def __init__(
        self,
        store: Store,
        retention: Callable[[], Retention],
        logger: logging.Logger,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._retention, self._logger, self._clock = store, retention, logger, clock
        self._clock_check = ClockCheck(store, logger, clock=clock, monotonic=monotonic)
        self._services: list[asyncio.Task[None]] = []
        self._short = asyncio.Event()
        #: Where each deletion continues, under which ages, and when it starts again.
        self._last: dict[Prunable, str] = {}
        self._ages, self._restart_at = retention(), -math.inf
        #: The latest size; None before the first look.
        self.size: Size | None = None
        #: Why no event can be accepted for lack of space; empty if there is some.
        self.full = ""

    async def start(self) -> None:
        """Look at the size, and continue to do so and to delete until stopped."""
        await self._attempt("reading the store's size", self.look)
        await self._attempt("checking the clock", self._clock_check.begin)
        self._services = [asyncio.create_task(each) for each in (self._look_forever(), self._delete_forever())]

    async def stop(self) -> None:
        """Stop. The store finishes a step in progress."""
        for service in self._services:
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)

    async def look(self) -> None:
        """Read the size, and note whether there is space."""
        space = await self._space()
        if space.full and not self.full:
            self._logger.error("events are refused: %s; undelivered work is never deleted", space.message())
        elif self.full and not space.full:
            self._logger.info("events are accepted again: there is space in the store")
        self.full = space.message() if space.full else ""
        if space.over(_SHORT):
            self._short.set()

    async def _space(self) -> StoreSpace:
        self.size = await self._store.size()
        return StoreSpace.of(self.size, self._retention().max_size)

    async def round(self) -> None:
        """Delete what is older than its age; if hardly any space is left then, finished history as well."""
        self._short.clear()
        if await self._clock_check.is_plausible():
            await self._delete_old()
        if (await self._space()).over(_SHORT):
            await self._delete_early()
        await self._shrink()

    async def _delete_old(self) -> None:
        ages, now = self._retention(), self._clock()
        if ages != self._ages or not 0 <= now - self._restart_at < _RESTART:
            self._last.clear()
            self._ages, self._restart_at = ages, now
        deleted: dict[Prunable, int] = {}
        for what, age in _ages(ages).items():
            more = age < math.inf
            while more:
                step = await self._step(what, now - age, PRUNED_BYTES)
                more = step.more
                deleted[what] = deleted.get(what, 0) + step.count
        self._report("old records were deleted", deleted)

    async def _delete_early(self) -> None:
        """Delete finished history before its age: first unmatched events, then bodies, then whole events."""
        before, deleted = self._clock() - _YOUNGEST, dict.fromkeys(_EARLY, 0)
        for what in _EARLY:
            self._last[what], more = "", True
            while more and (excess := await self._excess()) > 0:
                step = await self._step(what, before, min(excess, PRUNED_BYTES))
                more = step.more
                deleted[what] += step.count
            self._last[what] = ""
        self._report("finished history was deleted before its time, for lack of space", deleted, logging.WARNING)

    async def _step(self, what: Prunable, before: float, max_bytes: int) -> Pruned:
        """Delete some records, and pause so that other calls of the store have their turn."""
        started = time.monotonic()
        step = await self._store.prune(what, before=before, after=self._last.get(what, ""), max_bytes=max_bytes)
        self._last[what] = step.last
        await _pause_since(started)
        return step

    async def _excess(self) -> int:
        """How many bytes have to be deleted until enough space is free."""
        space = await self._space()
        return 0 if space.limit == math.inf else math.ceil(space.used - space.limit * _ENOUGH)

    async def _shrink(self) -> None:
        """Return unused space within the file to the disk."""
        size = await self._store.size()
        remaining = size.spare if size.spare > max(_SPARE, size.used * _SPARE_SHARE) else 0
        while remaining > 0:
            started = time.monotonic()
            returned = await self._store.shrink()
            remaining = remaining - returned if returned else 0
            await _pause_since(started)

    def _report(self, message: str, deleted: Mapping[Prunable, int], level: int = logging.INFO) -> None:
        facts = {str(what): count for what, count in deleted.items() if count}
        if facts:
            self._logger.log(level, message, extra=facts)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self._attempt("reading the store's size", self.look)

    async def _delete_forever(self) -> None:
        """A round every minute, or earlier when space is short; never at once, as a round has just ended."""
        while True:
            await asyncio.sleep(SOON)
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND - SOON):
                    await self._short.wait()
            await self._attempt("deleting old records", self.round)

    async def _attempt(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step. If it fails, log it; the next step comes."""
        try:
            await step()
        except StoreError as error:
            self._logger.warning("error while %s; trying again", what, extra={"reason": str(error)})
        except Exception as error:
            self._logger.error("error while %s; trying again", what, exc_info=error)


def _ages(kept: Retention) -> Mapping[Prunable, float]:
    return {
        "dead": kept.dead,
        "unmatched": kept.unmatched,
        "bodies": kept.bodies,
        "events": kept.events,
        "marks": kept.events,
    }


async def _pause_since(started: float) -> None:
    """Pause for as long as a step took."""
    await asyncio.sleep(max((time.monotonic() - started) * _PAUSE, _SHORTEST_PAUSE))

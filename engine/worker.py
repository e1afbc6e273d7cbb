"""Takes accepted events through to the end: from memory as they come, from the store what waits there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from engine.deliver import Deliverer
from engine.desk import Desk, Held
from engine.document import Fetched
from engine.errors import StoreError
from engine.evaluate import Evaluator
from engine.event import Event
from engine.execute import Executor
from engine.store.protocol import Appended, Claimed, Work

#: The longest time between two looks for due work, in seconds: takes over what nobody announced.
_LONGEST_NAP = 1.0
#: How long work rests after an error that is ours, in seconds.
_AFTER_SURPRISE = 60.0
#: Between two signs of life, in seconds.
HEARTBEAT = 2.0


class Worker:
    """Holds the work of this process. At most ``limit`` pieces are under way; the rest waits in the store."""

    def __init__(self, desk: Desk, executor: Executor, *, limit: int = 512) -> None:
        self._desk, self._limit = desk, limit
        self._evaluator = Evaluator(desk, self._room)
        self._deliverer = Deliverer(desk, executor)
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._services: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def busy(self) -> int:
        """How many pieces of work are under way."""
        return len(self._running)

    def wake(self) -> None:
        """There may be new due work in the store."""
        self._wake.set()

    async def accept(self, event: Event) -> Appended:
        """Make an event durable and take it up, from memory; where hands are full it waits in the store.

        Raises:
            StoreBusy: nothing was kept.
        """
        leased = self._room() > 0
        appended = await self._desk.store.append(event, leased=leased)
        self._desk.observer.accepted(event, appended)
        if leased and not appended.duplicate:
            work = Work(event.id, "evaluate", event.id, event.received_at, event.received_at)
            self._take_up(work, Held(event, Fetched()))
        return appended

    def start(self) -> None:
        """Begin to look for due work and to show signs of life."""
        self._services = [asyncio.create_task(self._claims()), asyncio.create_task(self._heartbeats())]

    async def stop(self, grace: float) -> None:
        """Finish what is under way within ``grace`` seconds; give the rest back without spending an attempt."""
        self._stopping = True
        for service in self._services:
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)
        if self._running:
            await asyncio.wait(self._running.values(), timeout=grace)
        left = dict(self._running)
        for task in left.values():
            task.cancel()
        await asyncio.gather(*left.values(), return_exceptions=True)
        if left:
            await self._desk.store.release([work_id for work_id, _ in left], due_at=self._desk.clock())

    def _room(self) -> int:
        return 0 if self._stopping else self._limit - len(self._running)

    # Due work in the store

    async def _claims(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._claim()
                await self._nap()
            except StoreError as error:
                self._desk.logger.error("cannot look for due work; trying again", extra={"reason": str(error)})
                await asyncio.sleep(_LONGEST_NAP)

    async def _claim(self) -> None:
        room = self._room()
        if room > 0:
            for claimed in await self._desk.store.claim(now=self._desk.clock(), limit=room):
                self._take_up(claimed.work, _held(claimed))

    async def _nap(self) -> None:
        """Until something falls due, a hand is free, somebody wakes us, or a second has passed."""
        due = await self._desk.store.next_due() if self._room() > 0 else None
        seconds = _LONGEST_NAP if due is None else min(max(due - self._desk.clock(), 0.005), _LONGEST_NAP)
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            try:
                await self._desk.store.beat(now=self._desk.clock())
            except StoreError as error:
                self._desk.logger.error("no sign of life could be written", extra={"reason": str(error)})

    # Work under way

    def _take_up(self, work: Work, held: Held) -> None:
        doing = self._evaluate(work, held) if work.kind == "evaluate" else self._deliverer.deliver(work, held)
        self._start(work, doing)

    async def _evaluate(self, work: Work, held: Held) -> None:
        for delivery, plan in await self._evaluator.evaluate(work, held):
            self._start(delivery, self._deliverer.deliver(delivery, held, plan))

    def _start(self, work: Work, doing: Coroutine[Any, Any, None]) -> None:
        key = (work.id, work.kind)
        task = asyncio.create_task(doing)
        self._running[key] = task
        task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        full = self._room() <= 0
        self._running.pop(key, None)
        if full:
            self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._desk.logger.error("work failed in a way nobody foresaw; it waits a while", exc_info=error)
            self._services.append(asyncio.create_task(self._give_back(key[0])))

    async def _give_back(self, work_id: str) -> None:
        """Not at once: what failed for a reason nobody knows would fail again."""
        try:
            await self._desk.store.release([work_id], due_at=self._desk.clock() + _AFTER_SURPRISE)
        except StoreError as error:
            self._desk.logger.error("work is held until the next start", extra={"reason": str(error)})


def _held(claimed: Claimed) -> Held:
    return Held(claimed.event, Fetched.from_json(claimed.fetched))

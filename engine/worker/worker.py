"""Takes accepted events through to the end: from memory as they come, from the store what waits there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final

from engine.action.failures import Failure
from engine.core.document import Fetched
from engine.core.error_text import named_error
from engine.core.errors import StoreBusy, StoreError, StoreGone
from engine.core.event import Event
from engine.core.json_text import GROWTH
from engine.core.memory_budget import Memory
from engine.rules.decision import Plan
from engine.store.protocol import CLAIM_BYTES
from engine.store.records import Appended, Claimed, Item, Work, WorkKind
from engine.worker.attempt import Executor
from engine.worker.changed_targets import ChangedTargets
from engine.worker.context import Context, Rules
from engine.worker.deliver import Deliverer
from engine.worker.destinations.gateway import Gateway
from engine.worker.destinations.messages import WAITS
from engine.worker.evaluate import Evaluator
from engine.worker.hydrate import READ_FROM
from engine.worker.in_memory import Hands, Held, Place

_Do = Callable[[], Awaitable[None]]
_KINDS: Final[tuple[WorkKind, ...]] = ("evaluate", "deliver")
_Fail = Callable[[Work, Failure, float], Awaitable[None]]

#: The longest time between two looks for due work, in seconds: takes over what nobody announced.
_LONGEST_NAP = 1.0
#: How long work rests that could not even be settled, in seconds.
_AFTER_SURPRISE = 60.0
#: One destination's deliveries have this part of the memory for deliveries, at most.
_SHARE = 4
#: All that wait in memory for a turn have so many such parts, at most: the rest is for those under way.
_WAITING_SHARES = 3
#: One claim takes so many pieces at most: appends wait for it.
_MOST_CLAIMED = 512
#: Between two signs of life, in seconds.
HEARTBEAT = 2.0


class Worker:
    """Holds the work of this process; the rest waits in the store.

    Evaluations and deliveries have room each of their own, so that routing never waits for a destination: ``limit``
    pieces are under way of each at most, and some deliveries more wait a moment for their destinations. Up to
    ``evaluations`` wait in memory or are under way. All their events take at most ``byte_limit`` bytes of memory
    together, half for each kind, or little more; what was fetched for them is part of it.
    """

    def __init__(
        self,
        context: Context,
        executor: Executor,
        *,
        limit: int = 512,
        byte_limit: int = 256 * 2**20,
        evaluations: int | None = None,
    ) -> None:
        self._context = context
        self._byte_limit = byte_limit
        limits: dict[WorkKind, int] = {"evaluate": max(limit, evaluations or 0), "deliver": limit}
        self._hands: dict[WorkKind, Hands] = {kind: Hands(limits[kind], byte_limit // 2) for kind in _KINDS}
        # One turn of the event loop takes every evaluation that is ready; the receiver waits for it.
        self._evaluating = asyncio.Semaphore(limit)
        self._wakes: dict[WorkKind, asyncio.Event] = {kind: asyncio.Event() for kind in _KINDS}
        share = byte_limit // 2 // _SHARE
        woken = self._wakes["deliver"].set
        self.gateway = Gateway(context, limit, woken, share, share * _WAITING_SHARES, on_resumed=self._resumed)
        self._hastening: set[asyncio.Task[None]] = set()
        self._changed = ChangedTargets(context, self._reopen)
        self._evaluator = Evaluator(context, lambda: self._room("deliver"), self.gateway, self._changed.stored)
        self._deliverer = Deliverer(context, executor, self.gateway, self._changed.stored)
        self._executor = executor
        self._running: dict[asyncio.Task[None], tuple[Work, Sequence[Held]]] = {}
        self._services: list[asyncio.Task[None]] = []
        self._stopping = False
        self._clock_offset = context.clock() - time.monotonic()

    @property
    def busy(self) -> int:
        """How many pieces of work are under way; what waits in memory for a destination is not."""
        return len(self._running) - self.gateway.waiting

    @property
    def bytes_in_hand(self) -> int:
        """How many bytes the events in hand take."""
        return sum(hands.bytes for hands in self._hands.values())

    @property
    def waiting_for_threads(self) -> int:
        """How many evaluations and renderings wait for a thread."""
        return self._evaluator.offload.waiting + self._executor.offload.waiting

    @property
    def memory(self) -> Memory:
        """What fetched data takes."""
        return self._context.holdings.memory

    def wake(self) -> None:
        """There may be new due work in the store."""
        for wake in self._wakes.values():
            wake.set()

    def reloaded(self, rules: Rules, *, good: bool) -> None:
        """Use the rules of now. If the reload succeeded, work that waited for others continues."""
        self._context.rules = rules
        if good:
            self.gateway.reloaded()
            self._changed.reloaded()
        self.wake()

    def _reopen(self, names: Collection[str]) -> None:
        """Destinations were changed: what was said by those of before says nothing of them."""
        for name in names:
            self.gateway.resume(name)
        self.wake()

    def accept(self, event: Event) -> asyncio.Future[Appended]:
        """Make an event durable and take it up, from memory; where hands are full it waits in the store.

        The future is the store's own, and fails with a ``StoreError`` where nothing was kept: a task
        that waited for it would cost each event nearly what parsing it costs.
        """
        hands = self._hands["evaluate"]
        leased = self._room("evaluate") > 0 and hands.fits(event.size)
        if leased:
            hands.expect(event.size)
        appending = asyncio.ensure_future(self._context.store.append(event, leased=leased))
        appending.add_done_callback(lambda done: self._accepted(event, done, leased=leased))
        return appending

    def _accepted(self, event: Event, appending: asyncio.Future[Appended], *, leased: bool) -> None:
        full = self._room("evaluate") <= 0
        if leased:
            self._hands["evaluate"].arrived(event.size)
        if not appending.cancelled() and appending.exception() is None:
            self._begin(event, appending.result(), leased=leased)
        if full and self._room("evaluate") > 0:
            self._wakes["evaluate"].set()

    def _begin(self, event: Event, appended: Appended, *, leased: bool) -> None:
        if leased and not appended.duplicate:
            work = Work(event.id, "evaluate", event.id, event.received_at, event.received_at)
            self._take_up(work, Item(event, -1, None))
        self._context.observer.accepted(event, appended)

    # Life

    async def start(self) -> None:
        """Begin to look for due work and to show signs of life.

        Raises:
            StoreError: the store cannot tell which destinations were shut.
        """
        await self.gateway.restore()
        await self._hasten()
        services: dict[str, Callable[[], Awaitable[None]]] = {
            "looking for due evaluations": partial(self._claim_and_nap, "evaluate"),
            "looking for due deliveries": partial(self._claim_and_nap, "deliver"),
            "showing signs of life": self._beat,
            "looking for changed destinations": self._changed.step,
        }
        self._services = [asyncio.create_task(self._for_ever(name, step)) for name, step in services.items()]

    def _resumed(self, name: str) -> None:
        if name == READ_FROM:
            task = asyncio.create_task(self._hasten())
            self._hastening.add(task)
            task.add_done_callback(self._hastening.discard)

    async def _hasten(self) -> None:
        """Try again what was put off because nothing could be read from LangSmith."""
        try:
            if await self._context.store.make_due(f"{WAITS}{READ_FROM}:", now=self._context.clock()):
                self.wake()
        except StoreError as error:
            told = {"reason": str(error)}
            self._context.logger.warning(
                "what waits for LangSmith is tried when its pause would have ended", extra=told
            )

    async def hold(self) -> None:
        """Take up nothing new, from the store or from evaluations that end now, and let nobody wait for a place.

        What is in hand already, and finds its destination free, is still attempted: ``stop`` has a grace for that.
        """
        self._stopping = True
        for service in self._services:
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)
        self.gateway.close()

    async def stop(self, grace: float) -> None:
        """Finish what is under way within ``grace`` seconds; give the rest back without spending an attempt."""
        await self.hold()
        deadline = time.monotonic() + grace
        while self._running and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._running, timeout=left)
            await asyncio.sleep(0)  # the tasks' own callbacks take them off the list
        unfinished = dict(self._running)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        try:
            if unfinished:
                await self._give_back([work.id for work, _ in unfinished.values()])
        finally:
            await self.gateway.flush()

    async def _give_back(self, ids: Sequence[str]) -> None:
        try:
            await self._context.store.release(ids, due_at=self._context.clock())
        except StoreGone:
            raise
        except StoreBusy as error:
            told = {"work": len(ids), "reason": str(error)}
            self._context.logger.warning("work was not given back, which the next start puts right", extra=told)

    async def _for_ever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """A step again and again. Nothing that goes wrong in one may end them: retries would end with it."""
        while True:
            try:
                await step()
            except StoreError as error:
                self._context.logger.error("trouble while %s; trying again", name, extra={"reason": str(error)})
                await asyncio.sleep(_LONGEST_NAP)
            except Exception as error:
                self._context.logger.error("trouble while %s; trying again", name, exc_info=error)
                await asyncio.sleep(_LONGEST_NAP)

    # Due work in the store

    async def _claim_and_nap(self, kind: WorkKind) -> None:
        self._wakes[kind].clear()
        if (room := self._room(kind)) > 0:
            for claimed in await self._claim(kind, room):
                self._take_up(claimed.work, claimed, claimed.items, claimed.broken)
        await self._nap(kind)

    async def _claim(self, kind: WorkKind, room: int) -> Sequence[Claimed]:
        now, hands = self._context.clock(), self._hands[kind]
        claim = partial(
            self._context.store.claim,
            now=now,
            limit=min(room, _MOST_CLAIMED),
            max_bytes=min(CLAIM_BYTES, (hands.byte_limit - hands.bytes) // (1 + GROWTH)),
            kind=kind,
            max_fetched=self._byte_limit,
        )
        if kind == "evaluate":
            return await claim()
        request = self.gateway.claim_request()
        found = await claim(capacity=request.capacity, paused=request.blocked, reopened=request.unblocked)
        self.gateway.apply_claim(request, found)
        return found

    async def _nap(self, kind: WorkKind) -> None:
        """Until something falls due or can be taken, a hand is free, somebody wakes us, or a second has passed."""
        seconds = _LONGEST_NAP
        if self._room(kind) > 0:
            times, now = await self._next(kind), self._context.clock()
            seconds = min([_LONGEST_NAP, *(max(at - now, 0.005) for at in times if at is not None)])
        try:
            async with asyncio.timeout(seconds):
                await self._wakes[kind].wait()
        except TimeoutError:
            return

    async def _next(self, kind: WorkKind) -> Sequence[float | None]:
        """When the next work of a kind falls due, and when a lane opens by itself."""
        if kind == "evaluate":
            return [await self._context.store.next_due(kind=kind)]
        shut = self.gateway.without_capacity()
        return [await self._context.store.next_due(kind=kind, paused=shut), self.gateway.ready_at()]

    async def _beat(self) -> None:
        await asyncio.sleep(HEARTBEAT)
        now = self._context.clock()
        # What was leased a moment ago, and is not in hand yet, would seem to be forgotten for hours.
        holding = None if self._clock_was_set(now) else {work.id for work, _ in self._running.values()}
        await self._context.store.heartbeat(now=now, holding=holding)

    def _clock_was_set(self, now: float) -> bool:
        """Whether it jumped since the last sign of life."""
        offset = now - time.monotonic()
        jumped, self._clock_offset = abs(offset - self._clock_offset) > HEARTBEAT, offset
        return jumped

    # Work under way

    def _room(self, kind: WorkKind) -> int:
        hands, fetched = self._hands[kind], self.memory.held
        if self._stopping or (fetched and hands.bytes + fetched >= self._byte_limit):
            return 0
        return hands.room(self.gateway.waiting if kind == "deliver" else 0)

    def _take_up(self, work: Work, about: Claimed | Item, items: Sequence[Item] = (), broken: str = "") -> None:
        held = self._held(about)
        if work.kind == "evaluate":
            self._start(work, [held], lambda: self._evaluate(work, held), self._evaluator.fail)
        else:
            places = [(self._held(item), item.index) for item in items]
            self._start_delivery(work, places or [(held, work.index)], None, broken)

    def _held(self, about: Claimed | Item) -> Held:
        fetched = Fetched.from_json(about.fetched)
        return self._context.holdings.take(about.event, fetched, about.fetched_size)

    def _start_delivery(self, work: Work, places: Sequence[Place], plan: Plan | None, broken: str = "") -> None:
        helds = [held for held, _ in places]

        async def fail(work: Work, failure: Failure, started_at: float) -> None:
            await self._deliverer.fail(work, places, failure, started_at)

        if broken:
            lost = Failure(retry=False, reason=broken)
            self._start(work, helds, lambda: fail(work, lost, self._context.clock()), fail)
        else:
            self._start(work, helds, lambda: self._deliverer.deliver(work, places, plan), fail)

    async def _evaluate(self, work: Work, held: Held) -> None:
        async with self._evaluating:
            made = await self._evaluator.evaluate(work, held)
        for delivery, plan in made:
            self._start_delivery(delivery, [(held, delivery.index)], plan)

    def _start(self, work: Work, helds: Sequence[Held], do: _Do, fail: _Fail) -> None:
        task = asyncio.create_task(self._see_through(work, do, fail))
        self._running[task] = work, helds
        self._hands[work.kind].take(helds)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        work, helds = self._running.pop(task)
        full = self._room(work.kind) <= 0
        self._hands[work.kind].drop(helds)
        if full:
            self._wakes[work.kind].set()

    async def _see_through(self, work: Work, do: _Do, fail: _Fail) -> None:
        """Do a piece of work. What nobody foresaw is a failed attempt like any other, and bounded like any other."""
        started_at = self._context.clock()
        try:
            try:
                await do()
            except Exception as error:
                self._context.logger.error("work failed unforeseen", extra={"work": work.id}, exc_info=error)
                await fail(work, Failure(retry=True, reason=named_error(error), expected=False), started_at)
        except Exception as error:
            self._context.logger.error("work could not be settled; it rests", extra={"work": work.id}, exc_info=error)
            due_at = self._context.clock() + _AFTER_SURPRISE
            await self._context.persist(lambda: self._context.store.release([work.id], due_at=due_at))

"""Processes accepted events: new ones from memory, those that wait from the store."""

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
from engine.store.records import Appended, Claimed, ClaimResult, Item, Work, WorkKind
from engine.worker.attempt import Executor
from engine.worker.changed_targets import ChangedTargets
from engine.worker.context import Context, LoadedEvent, Place, Rules, sizes
from engine.worker.deliver import Deliverer
from engine.worker.destinations.destination import EventBytes
from engine.worker.destinations.gateway import Gateway
from engine.worker.evaluate import Evaluator

_Do = Callable[[], Awaitable[None]]
_Fail = Callable[[Work, Failure, float], Awaitable[None]]
_KINDS: Final[tuple[WorkKind, ...]] = ("evaluate", "deliver")

#: The longest time between two looks for due work, in seconds: for work that another process stored.
_LONGEST_NAP = 1.0
#: How long work waits that could not be settled because of an unexpected exception, in seconds.
_AFTER_SURPRISE = 60.0
#: The part of the memory for deliveries that one destination may use, and how many parts may wait in memory.
_SHARE, _WAITING_SHARES = 4, 3
#: The most work of one claim: appends wait for it.
_MOST_CLAIMED = 512
#: The time between two heartbeats, in seconds.
HEARTBEAT = 2.0


class Capacity:
    """Capacity for work of one kind: a number of pieces, and memory for their events, which may be exceeded."""

    def __init__(self, limit: int, byte_limit: int) -> None:
        self.limit, self.byte_limit = limit, byte_limit
        #: How many pieces are in progress.
        self.count = 0
        self._used = EventBytes()

    @property
    def bytes(self) -> int:
        """The memory of their events in bytes; each event counts once."""
        return self._used.total

    def add(self, events: Sequence[LoadedEvent]) -> None:
        """A piece of work on these events starts."""
        self.count += 1
        self._used.add(sizes(events))

    def remove(self, events: Sequence[LoadedEvent]) -> None:
        """A piece of work ends."""
        self.count -= 1
        self._used.remove(sizes(events))

    def fits(self, size: int) -> bool:
        """Whether an event of this size fits. Any size fits if there is nothing else."""
        return not self.bytes or self.bytes + size <= self.byte_limit

    def free(self, waiting: int = 0) -> int:
        """How many more pieces may start; ``waiting`` of those in progress do not count."""
        return max(self.limit - self.count + waiting, 0) if self.bytes < self.byte_limit else 0


class Worker:
    """Processes the work of this process; the rest waits in the store.

    Evaluations and deliveries have separate capacity, so that routing never waits for a destination: at most ``limit``
    of each run at once; more deliveries may wait for a moment for their destinations. Up to ``evaluations`` wait in
    memory or run. Their events take at most ``byte_limit`` bytes of memory together, or a little more, half for each
    kind; fetched data is part of it.
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
        self._context, self._executor, self._byte_limit = context, executor, byte_limit
        limits: dict[WorkKind, int] = {"evaluate": max(limit, evaluations or 0), "deliver": limit}
        self._capacity: dict[WorkKind, Capacity] = {kind: Capacity(limits[kind], byte_limit // 2) for kind in _KINDS}
        # Without it one turn of the event loop would run every evaluation that is ready, and the receiver would wait.
        self._evaluating = asyncio.Semaphore(limit)
        self._wakes: dict[WorkKind, asyncio.Event] = {kind: asyncio.Event() for kind in _KINDS}
        self._changed = ChangedTargets(context, self._reopen)
        share, wake = byte_limit // 2 // _SHARE, self._wakes["deliver"].set
        self.gateway = Gateway(context, limit, wake, share, share * _WAITING_SHARES, on_resumed=self._changed.resumed)
        self._evaluator = Evaluator(context, lambda: self._free("deliver"), self.gateway, self._changed.stored)
        self._deliverer = Deliverer(context, executor, self.gateway, self._changed.stored)
        self._running: dict[asyncio.Task[None], tuple[Work, Sequence[LoadedEvent]]] = {}
        self._services: list[asyncio.Task[None]] = []
        self._stopping = False
        self._clock_offset = context.clock() - time.monotonic()

    @property
    def busy(self) -> int:
        """How much work is in progress, without deliveries that wait in memory for a destination."""
        return len(self._running) - self.gateway.waiting

    @property
    def bytes_in_memory(self) -> int:
        """How many bytes the events in memory take."""
        return sum(capacity.bytes for capacity in self._capacity.values())

    @property
    def waiting_for_threads(self) -> int:
        """How many evaluations and renderings wait for a thread."""
        return self._evaluator.offload.waiting + self._executor.offload.waiting

    @property
    def memory(self) -> Memory:
        """The memory of fetched data."""
        return self._context.events.memory

    def wake(self) -> None:
        """Look for due work in the store now."""
        for wake in self._wakes.values():
            wake.set()

    def reloaded(self, rules: Rules, *, good: bool) -> None:
        """Use these rules. If the reload succeeded, work that waited for others continues."""
        self._context.rules = rules
        if good:
            self.gateway.reloaded()
            self._changed.reloaded()
        self.wake()

    def _reopen(self, destinations: Collection[str]) -> None:
        """The configuration of destinations was changed, so their blocks may be outdated."""
        for name in destinations:
            self.gateway.resume(name)
        self.wake()

    # New events

    def accept(self, event: Event) -> asyncio.Future[Appended]:
        """Store an event and evaluate it from memory, or later from the store if there is no capacity.

        The future is the store's own, and fails with a ``StoreError`` if nothing was stored. A task that waited for it
        would cost nearly as much as parsing the event.
        """
        capacity, loaded = self._capacity["evaluate"], None
        if self._free("evaluate") > 0 and capacity.fits(event.size):
            loaded = self._context.events.load(event, Fetched())
            capacity.add([loaded])
        appending = asyncio.ensure_future(self._context.store.append(event, leased=loaded is not None))
        appending.add_done_callback(partial(self._accepted, event, loaded))
        return appending

    def _accepted(self, event: Event, loaded: LoadedEvent | None, appending: asyncio.Future[Appended]) -> None:
        """Start to evaluate an event that was stored. ``loaded`` is None if there was no capacity for it."""
        was_full = self._free("evaluate") <= 0
        if loaded is not None:
            self._capacity["evaluate"].remove([loaded])
        if not appending.cancelled() and appending.exception() is None:
            appended = appending.result()
            if loaded is not None and not appended.duplicate:
                work = Work(event.id, "evaluate", event.id, event.received_at, event.received_at)
                self._start_evaluation(work, loaded)
            self._context.observer.accepted(event, appended)
        if (was_full or loaded is None) and self._free("evaluate") > 0:
            self._wakes["evaluate"].set()

    # Start and stop

    async def start(self) -> None:
        """Start looking for due work, and send heartbeats.

        Raises:
            StoreError: the blocked destinations cannot be read.
        """
        await self.gateway.restore()
        services: dict[str, Callable[[], Awaitable[None]]] = {
            "looking for due evaluations": partial(self._claim_and_nap, "evaluate"),
            "looking for due deliveries": partial(self._claim_and_nap, "deliver"),
            "sending heartbeats": self._heartbeat,
            "looking for changed destinations": self._changed.step,
        }
        self._services = [asyncio.create_task(self._repeat(name, step)) for name, step in services.items()]

    async def hold(self) -> None:
        """Start nothing new, and return to the store what waits in memory for a destination.

        What is in memory and finds its destination free is still attempted: ``stop`` waits for it.
        """
        self._stopping = True
        for service in self._services:
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)
        self.gateway.close()

    async def stop(self, grace: float) -> None:
        """Finish the work in progress within ``grace`` seconds; return the rest to the store, no attempt spent."""
        await self.hold()
        deadline = time.monotonic() + grace
        while self._running and (remaining := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._running, timeout=remaining)
            await asyncio.sleep(0)  # let the tasks' callbacks run
        unfinished = dict(self._running)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        try:
            if unfinished:
                await self._release([work.id for work, _ in unfinished.values()])
        finally:
            await self.gateway.flush()

    async def _release(self, ids: Sequence[str]) -> None:
        try:
            await self._context.store.release(ids, due_at=self._context.clock())
        except StoreGone:
            raise
        except StoreBusy as error:
            facts = {"work": len(ids), "reason": str(error)}
            self._context.logger.warning("work was not returned to the store; the next start does it", extra=facts)

    async def _repeat(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step until cancelled. No exception may end it: retries would end with it."""
        while True:
            try:
                await step()
            except StoreError as error:
                self._context.logger.error("error while %s; trying again", name, extra={"reason": str(error)})
                await asyncio.sleep(_LONGEST_NAP)
            except Exception as error:
                self._context.logger.error("error while %s; trying again", name, exc_info=error)
                await asyncio.sleep(_LONGEST_NAP)

    async def _heartbeat(self) -> None:
        await asyncio.sleep(HEARTBEAT)
        now = self._context.clock()
        offset = now - time.monotonic()
        clock_was_set, self._clock_offset = abs(offset - self._clock_offset) > HEARTBEAT, offset
        # After a jump of the clock, work that was leased a moment ago would seem to be abandoned for hours.
        holding = None if clock_was_set else {work.id for work, _ in self._running.values()}
        await self._context.store.heartbeat(now=now, holding=holding)

    # Due work in the store

    async def _claim_and_nap(self, kind: WorkKind) -> None:
        self._wakes[kind].clear()
        if (free := self._free(kind)) > 0:
            for claimed in await self._claim(kind, free):
                self._start_claimed(claimed)
        await self._nap(kind)

    async def _claim(self, kind: WorkKind, free: int) -> ClaimResult:
        now, capacity = self._context.clock(), self._capacity[kind]
        claim = partial(
            self._context.store.claim,
            now=now,
            limit=min(free, _MOST_CLAIMED),
            max_bytes=min(CLAIM_BYTES, (capacity.byte_limit - capacity.bytes) // (1 + GROWTH)),
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
        """Wait until work is due or can be claimed, capacity is free, ``wake`` is called, or a second has passed."""
        seconds = _LONGEST_NAP
        if self._free(kind) > 0:
            times, now = await self._next_times(kind), self._context.clock()
            seconds = min([_LONGEST_NAP, *(max(at - now, 0.005) for at in times if at is not None)])
        try:
            async with asyncio.timeout(seconds):
                await self._wakes[kind].wait()
        except TimeoutError:
            return

    async def _next_times(self, kind: WorkKind) -> Sequence[float | None]:
        """When the next work of a kind is due, and when a destination takes deliveries again."""
        if kind == "evaluate":
            return [await self._context.store.next_due(kind=kind)]
        paused = self.gateway.without_capacity()
        return [await self._context.store.next_due(kind=kind, paused=paused), self.gateway.ready_at()]

    # Work in progress

    def _free(self, kind: WorkKind) -> int:
        """How much more work of a kind may start."""
        capacity, fetched = self._capacity[kind], self.memory.held
        if self._stopping or (fetched and capacity.bytes + fetched >= self._byte_limit):
            return 0
        return capacity.free(self.gateway.waiting if kind == "deliver" else 0)

    def _start_claimed(self, claimed: Claimed) -> None:
        work = claimed.work
        if work.kind == "evaluate":
            self._start_evaluation(work, self._load(claimed))
        else:
            places = [(self._load(item), item.index) for item in claimed.items]
            self._start_delivery(work, places or [(self._load(claimed), work.index)], broken=claimed.broken)

    def _load(self, item: Claimed | Item) -> LoadedEvent:
        return self._context.events.load(item.event, Fetched.from_json(item.fetched), item.fetched_size)

    def _start_evaluation(self, work: Work, loaded: LoadedEvent) -> None:
        self._start(work, [loaded], lambda: self._evaluate(work, loaded), self._evaluator.fail)

    async def _evaluate(self, work: Work, loaded: LoadedEvent) -> None:
        async with self._evaluating:
            deliveries = await self._evaluator.evaluate(work, loaded)
        for delivery, plan in deliveries:
            self._start_delivery(delivery, [(loaded, delivery.index)], plan)

    def _start_delivery(self, work: Work, places: Sequence[Place], plan: Plan | None = None, broken: str = "") -> None:
        """Start a delivery, or settle it as dead if its stored data is ``broken``."""

        async def fail(work: Work, failure: Failure, started_at: float) -> None:
            await self._deliverer.fail(work, places, failure, started_at)

        async def deliver() -> None:
            if broken:
                await fail(work, Failure(retry=False, reason=broken), self._context.clock())
            else:
                await self._deliverer.deliver(work, places, plan)

        self._start(work, [loaded for loaded, _ in places], deliver, fail)

    def _start(self, work: Work, events: Sequence[LoadedEvent], do: _Do, fail: _Fail) -> None:
        task = asyncio.create_task(self._run(work, do, fail))
        self._running[task] = work, events
        self._capacity[work.kind].add(events)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        work, events = self._running.pop(task)
        was_full = self._free(work.kind) <= 0
        self._capacity[work.kind].remove(events)
        if was_full:
            self._wakes[work.kind].set()

    async def _run(self, work: Work, do: _Do, fail: _Fail) -> None:
        """Do a piece of work. An unexpected exception is a failed attempt, and is retried like any other."""
        started_at, logger = self._context.clock(), self._context.logger
        try:
            try:
                await do()
            except Exception as error:
                logger.error("work failed unexpectedly", extra={"work": work.id}, exc_info=error)
                await fail(work, Failure(retry=True, reason=named_error(error), expected=False), started_at)
        except Exception as error:
            message = "work could not be settled; it is tried again in a minute"
            logger.error(message, extra={"work": work.id}, exc_info=error)
            due_at = self._context.clock() + _AFTER_SURPRISE
            await self._context.persist(lambda: self._context.store.release([work.id], due_at=due_at))

"""Route → deliver → settle: takes accepted events through to the end, and gives back what it can't finish."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from engine.clients import Clients
from engine.decision import Known, Plan, Routing, known_from
from engine.document import Fetched
from engine.errors import StoreError
from engine.event import Event
from engine.execute import Executor, Job, Ran
from engine.hydrate import Hydrator
from engine.observe import Observer
from engine.retry import Failure, RetryPolicy, classify
from engine.route import Needs
from engine.router import Router
from engine.secrets import Masker
from engine.store.protocol import Again, Appended, Attempt, Claimed, Dead, Routed, Store, Work

T = TypeVar("T")

#: How long a delivery whose route or action is gone waits between looks, in seconds.
_GONE_LOOK = 30.0
#: The longest time between two looks for due work, in seconds: takes over what nobody announced.
_LONGEST_NAP = 1.0
#: Between two signs of life, in seconds.
HEARTBEAT = 2.0


@dataclass(slots=True)
class Held:
    """An event in this process's hands, with what hydration brought; shared by its deliveries."""

    event: Event
    fetched: Fetched
    hydrating: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a reload replaces as one: the router, and the masker that knows its secrets."""

    router: Router
    masker: Masker


class Worker:
    """Holds the work of this process. At most ``limit`` pieces are under way; the rest waits in the store.

    ``rules`` is asked anew for every piece of work, so a reload counts for what starts after it.
    """

    def __init__(
        self,
        store: Store,
        rules: Callable[[], Rules],
        executor: Executor,
        clients: Clients,
        observer: Observer,
        logger: logging.Logger,
        *,
        limit: int = 512,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._store, self._rules, self._executor, self._clients = store, rules, executor, clients
        self._observer, self._logger = observer, logger
        self._limit, self._clock = limit, clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrecy
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._services: list[asyncio.Task[None]] = []
        self._stopping = False

    # Events come in

    async def accept(self, event: Event) -> Appended:
        """Make an event durable and take it up, from memory; where hands are full it waits in the store."""
        leased = self._room() > 0 and not self._stopping
        appended = await self._store.append(event, leased=leased)
        self._observer.accepted(event, appended)
        if not appended.duplicate:
            if leased:
                work = Work(event.id, "evaluate", event.id, event.received_at, event.received_at)
                self._start(work, self._evaluate(work, Held(event, Fetched.nothing())))
            else:
                self._wake.set()
        return appended

    def wake(self) -> None:
        """There may be new due work in the store."""
        self._wake.set()

    @property
    def busy(self) -> int:
        """How many pieces of work are under way."""
        return len(self._running)

    # Life

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
            await self._store.release([work_id for work_id, _ in left], due_at=self._clock())

    async def _claims(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._claim()
                await self._nap()
            except StoreError as error:
                self._logger.error("cannot look for due work; trying again", extra={"reason": str(error)})
                await asyncio.sleep(_LONGEST_NAP)

    async def _claim(self) -> None:
        room = self._room()
        if room <= 0:
            return
        for claimed in await self._store.claim(now=self._clock(), limit=room):
            self._take_up(claimed)

    def _take_up(self, claimed: Claimed) -> None:
        held = Held(claimed.event, Fetched.from_json(claimed.fetched) if claimed.fetched else Fetched.nothing())
        if claimed.work.kind == "evaluate":
            self._start(claimed.work, self._evaluate(claimed.work, held))
        else:
            self._start(claimed.work, self._deliver(claimed.work, held))

    async def _nap(self) -> None:
        """Until something falls due, a hand is free, somebody wakes us, or a second has passed."""
        due = await self._store.next_due() if self._room() > 0 else None
        seconds = _LONGEST_NAP if due is None else min(max(due - self._clock(), 0.005), _LONGEST_NAP)
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            try:
                await self._store.beat(now=self._clock())
            except StoreError as error:
                self._logger.error("no sign of life could be written", extra={"reason": str(error)})

    def _room(self) -> int:
        return self._limit - len(self._running)

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
            self._logger.error("work was dropped; it is taken up again at restart", exc_info=error)

    # Evaluations

    async def _evaluate(self, work: Work, held: Held) -> None:
        rules = self._rules()
        begun = self._clock()
        known = await self._known(work) if work.attempts else None
        final = work.attempts + 1 >= rules.router.retry.attempts
        try:
            routing = await self._route(rules.router, held, known, final=final)
        except Exception as error:
            # An evaluation is where one event's work ends: a fault here is that event's alone.
            self._logger.error("evaluation failed", extra={"event": work.event_id}, exc_info=error)
            routing = Routing((), (), frozenset(), None)
            failure: Failure | None = classify(error)
        else:
            failure = _wanting(routing, held.fetched)
        await self._settle_routing(work, held, rules, routing, failure, begun)

    async def _known(self, work: Work) -> Mapping[tuple[int, str], Known]:
        """What earlier evaluations settled; nothing, once a person has asked for all of it again."""
        detail = await self._persist(lambda: self._store.event(work.event_id))
        mine = [one for one in detail.evaluations if one.get("replays", 0) == work.replays] if detail else []
        return known_from(mine)

    async def _route(
        self, router: Router, held: Held, known: Mapping[tuple[int, str], Known] | None, *, final: bool
    ) -> Routing:
        """Decide on what came along; only where that leaves something open, fetch and decide again."""
        routing = router.decide(held.event, held.fetched, known=known)
        if routing.wanting:
            await self._hydrate(held, routing.wanting, None)
            routing = router.decide(held.event, held.fetched, known=known, final=final)
        return routing

    async def _settle_routing(
        self, work: Work, held: Held, rules: Rules, routing: Routing, failure: Failure | None, begun: float
    ) -> None:
        now = self._clock()
        attempt, pending = None, None
        if failure is not None:
            attempt, pending = self._consequence(work, rules, failure, begun, now - begun, "")
        room = max(self._room(), 0)
        deliveries = [_work_of(plan, work, now) for plan in routing.plans]
        leased = frozenset(delivery.id for delivery in deliveries[: 0 if self._stopping else room + 1])
        routed = Routed(
            event_id=work.event_id,
            decisions=[rules.masker.tree(decision.to_json()) for decision in routing.decisions],
            deliveries=deliveries,
            leased=leased,
            config_hash=rules.router.hash,
            decided_at=now,
            unmatched_reason=routing.unmatched_reason,
            pending=pending,
            attempt=attempt,
        )
        inserted = await self._persist(lambda: self._store.settle_routed(routed))
        self._observer.routed(held.event, routing)
        for plan, delivery in zip(routing.plans, deliveries, strict=True):
            if delivery.id in leased and delivery.id in inserted:
                self._start(delivery, self._deliver(delivery, held, plan))
        if pending is not None or len(leased) < len(deliveries):
            self._wake.set()

    # Deliveries

    async def _deliver(self, work: Work, held: Held, plan: Plan | None = None) -> None:
        rules = self._rules()
        job = await self._bind(work, held, rules.router, plan)
        if job is None:
            await self._gone(work, rules)
            return
        ran = await self._executor.execute(job)
        attempt, then = self._attempted(job, rules, ran)
        if await self._persist(lambda: self._store.settle_attempt(work, attempt, then)):
            self._observer.attempted(job, ran, attempt, then)
        if isinstance(then, Again):
            self._wake.set()

    async def _bind(self, work: Work, held: Held, router: Router, plan: Plan | None) -> Job | None:
        """The delivery under today's rules, with the data its parameters read."""
        found = router.find(work.route, work.action)
        if found is None:
            return None
        route, action = found
        document = plan.document if plan is not None and plan.route is route else None
        if action.needs and await self._hydrate(held, action.needs, work.index):
            document = None
        return Job(
            work, held.event, route, action, document or router.document(held.event, work.index, held.fetched, route)
        )

    async def _gone(self, work: Work, rules: Rules) -> None:
        """Its route or action is not in the configuration any more: wait for it to come back, within limits."""
        now = self._clock()
        if now - work.first_at < rules.router.retry.within:
            await self._persist(lambda: self._store.release([work.id], due_at=now + _GONE_LOOK))
            return
        reason = f"route {work.route!r} with action {work.action!r} is no longer in the configuration"
        attempt = Attempt(work.attempts + 1, work.replays, now, 0.0, "dead", reason, worker=self._store.owner)
        await self._persist(lambda: self._store.settle_attempt(work, attempt, Dead(reason)))
        self._logger.error("delivery dead", extra={"delivery": work.id, "event": work.event_id, "reason": reason})

    def _attempted(self, job: Job, rules: Rules, ran: Ran) -> tuple[Attempt, Again | Dead | None]:
        if ran.failure is not None:
            return self._consequence(
                job.work, rules, ran.failure, ran.started_at, ran.seconds, ran.destination, job.action.retry
            )
        attempt = Attempt(
            number=job.work.attempts + 1,
            replay=job.work.replays,
            started_at=ran.started_at,
            seconds=ran.seconds,
            outcome="succeeded",
            destination=rules.masker.text(ran.destination),
            detail=rules.masker.tree(ran.result) if ran.result else None,
            worker=self._store.owner,
        )
        return attempt, None

    # Both

    def _consequence(
        self,
        work: Work,
        rules: Rules,
        failure: Failure,
        begun: float,
        seconds: float,
        destination: str,
        policy: RetryPolicy | None = None,
    ) -> tuple[Attempt, Again | Dead]:
        """A failed attempt for the history, and what follows from it."""
        now = self._clock()
        reason = rules.masker.text(failure.reason)
        delay = (policy or rules.router.retry).next_delay(
            failure, attempt=work.attempts + 1, waited=max(now - work.first_at, 0.0), rng=self._rng
        )
        attempt = Attempt(
            number=work.attempts + 1,
            replay=work.replays,
            started_at=begun,
            seconds=seconds,
            outcome="dead" if delay is None else "again",
            reason=reason,
            status=failure.status,
            destination=rules.masker.text(destination),
            worker=self._store.owner,
        )
        return attempt, Dead(reason) if delay is None else Again(now + delay)

    async def _hydrate(self, held: Held, wanted: Needs, index: int | None) -> bool:
        """Fetch what is wanted and not at hand, and keep it with the event. True if anything came."""
        async with held.hydrating:
            hydrator = Hydrator(self._clients.langsmith, await self._clients.http())
            fetched = await hydrator.fetch(held.event, wanted, None if index is None else [index], held.fetched)
            if fetched is held.fetched:
                return False
            came = fetched.to_json() != held.fetched.to_json()
            held.fetched = fetched
        if came:
            await self._persist(lambda: self._store.save_fetched(held.event.id, fetched.to_json()))
        return True

    async def _persist(self, verb: Callable[[], Awaitable[T]]) -> T:
        """Do something in the store for sure: what happened outside must not be forgotten.

        A store that can't answer is asked again until it can. What a cancelled caller handed in is done all the same.
        """
        pause = 0.05
        while True:
            try:
                return await verb()
            except StoreError as error:
                self._logger.error("the store can't write; trying again", extra={"reason": str(error)})
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)


def _work_of(plan: Plan, evaluation: Work, now: float) -> Work:
    return replace(
        evaluation,
        id=plan.delivery_id,
        kind="deliver",
        first_at=now,
        due_at=now,
        route=plan.route.id,
        action=plan.action.name,
        index=plan.index,
        run_id=plan.run_id,
        attempts=0,
        error=None,
    )


def _wanting(routing: Routing, fetched: Fetched) -> Failure | None:
    """Why an evaluation is not at its end yet; None when it is."""
    open_routes = [decision.route for decision in routing.decisions if not decision.settled]
    if not open_routes and not routing.wanting:
        return None
    reasons = [f"{need}: {reason}" for need, reason in sorted(fetched.errors.items())] or sorted(routing.wanting)
    return Failure(retry=True, reason=f"undecided for want of data ({'; '.join(reasons)})")

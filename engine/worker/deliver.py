"""One delivery: bound to today's rules, given its data, attempted, settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from engine.action.failures import Failure
from engine.core.errors import StoreError
from engine.core.schedule import held_message, holding_until
from engine.core.vocabulary import UNMATCHED
from engine.rules.decision import Plan
from engine.rules.route import RoutedAction
from engine.rules.router import Router
from engine.store.records import Again, Attempt, Dead, Work
from engine.worker.attempt import Executor, Job, Ran, Ready, noted
from engine.worker.context import Context
from engine.worker.destinations.destination import Admitted, Destination, NotAdmitted
from engine.worker.destinations.gateway import Gateway
from engine.worker.destinations.messages import overdue_message, retry_message, waiting_message
from engine.worker.in_memory import Place, sizes
from engine.worker.on_dead import Followers, on_their_own
from engine.worker.plugin_loop import NotStarted

#: How long a delivery rests that the plug-ins' loop did not get to, in seconds.
_BLOCKED_LOOK = 1.0
#: Why an attempt was given up that had reached some of its destinations.
_STOPPED = "the engine stopped during the attempt"
#: How long keeping that may hold up the stop, in seconds.
_LAST_WORD = 5.0
#: Between two tries to settle a delivery in a store that is not busy but broken, in seconds.
_UNSETTLED_REST = 30.0


class Deliverer:
    """Makes deliveries."""

    def __init__(
        self, context: Context, executor: Executor, gateway: Gateway, stored: Callable[[Router], None] = lambda _: None
    ) -> None:
        """``stored`` is called when a delivery was stored by some rules."""
        self._context, self._executor, self._gateway, self._stored = context, executor, gateway, stored
        self._followers = Followers(context)

    async def deliver(self, work: Work, places: Sequence[Place], plan: Plan | None = None) -> None:
        """One attempt and what follows from it. ``plan`` is at hand when the decision was made just now.

        ``places`` are the documents that it is about: one, or of a digest all its items'.
        """
        router = self._context.rules.router
        await self._deliver(work, places, plan, router)
        self._stored(router)

    async def _deliver(self, work: Work, places: Sequence[Place], plan: Plan | None, router: Router) -> None:
        if reason := _unparsed(work, places, router):
            await self.fail(work, places, Failure(retry=False, reason=reason), self._context.clock())
            return
        job = await self._bind(work, places, router, plan)
        if job is None:
            await self._gone(work, places)
            return
        if (until := holding_until(job.action.active, self._context.clock())) is not None:
            await self._hold(job, until)
            return
        try:
            ready = await self._executor.prepare(job)
            if isinstance(ready, Ran):
                if not await self._put_off(job, ready, places):
                    await self._settle(job, ready, None, places)
                return
            events = sizes(held for held, _ in places)
            admitted = await self._gateway.admit(ready.destination, work.lane, events, ready.scope)
            if isinstance(admitted, NotAdmitted):
                await self._put_back(job, admitted, places)
                return
            if self._context.rules.router.private_hash != router.private_hash:
                self._gateway.abandon(admitted)  # other rules came while it waited: it is bound to them
                await self._release(work, 0.0)
                return
            ran, queue = await self._run(ready, admitted, router.private_hash, places)
        except NotStarted as error:
            self._context.logger.warning("delivery not started", extra={"delivery": work.id, "reason": str(error)})
            await self._release(work, _BLOCKED_LOOK, counted=False)
            return
        await self._settle(job, ran, queue, places)

    async def _run(
        self, ready: Ready, admitted: Admitted, config: str, places: Sequence[Place]
    ) -> tuple[Ran, Destination]:
        """The attempt itself, and where another one would wait. Its place is free afterwards in any case."""
        started_at, before = self._context.clock(), noted(ready.job)
        try:
            ran = await self._executor.run(ready)
        except BaseException as error:
            self._gateway.abandon(admitted)
            if isinstance(error, asyncio.CancelledError) and noted(ready.job) != before:
                await self._keep_progress(ready.job, places, started_at)
            raise
        return ran, self._gateway.finish(admitted, ran.failure, config)

    async def _keep_progress(self, job: Job, places: Sequence[Place], started_at: float) -> None:
        """Keep what an attempt reached that is given up because the process stops; it is not spent."""
        context, work, now = self._context, job.work, self._context.clock()
        detail, worker = context.rules.masker.tree(noted(job)), context.store.owner
        attempt = Attempt(
            work.attempts + 1,
            work.replays,
            started_at,
            now - started_at,
            "again",
            _STOPPED,
            detail=detail,
            worker=worker,
        )
        follow = self._others(work, places, job.action)
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD):
                await context.store.settle_attempt(work, attempt, Again(now, spent=False), on_dead=follow)

    async def _settle(self, job: Job, ran: Ran, queue: Destination | None, places: Sequence[Place]) -> None:
        attempt, then = self._outcome(job, ran, queue)
        if await self._record(job.work, attempt, then, places, self._others(job.work, places, job.action)):
            self._context.observer.attempted(job, ran, attempt, then)

    async def _put_back(self, job: Job, denied: NotAdmitted, places: Sequence[Place]) -> None:
        """Its destination takes nothing now: it waits in the store, no attempt spent, as long as it may."""
        context, work, now, queue = self._context, job.work, self._context.clock(), denied.destination
        within = job.action.retry.within
        if denied.block is not None and now - work.first_at >= within:
            others = self._others(work, places, job.action)
            await self._settle_overdue(work, overdue_message(queue.name, denied.block, within), places, queue, others)
            return
        # Where it is our limits that keep it, it keeps its place, and its time does not run.
        where: dict[str, Any] = {
            "due_at": work.due_at if denied.block is None else now,
            "until": work.first_at + within,
        }
        where["target"] = context.store.fingerprint(job.action.target)
        await context.persist(
            lambda: context.store.release([work.id], lane=queue.name, reason=waiting_message(denied), **where)
        )
        self._gateway.note_stored(queue)

    async def _put_off(self, job: Job, ran: Ran, places: Sequence[Place]) -> bool:
        """Whether it wants data that can't be asked for at the moment: then it waits, no attempt spent."""
        if ran.failure is None or ran.failure.cause != "data" or not ran.failure.retry:
            return False
        found = (held.fetched.later_for(job.action.needs) for held, _ in places)
        later = next((one for one in found if one is not None), None)
        context, work, now = self._context, job.work, self._context.clock()
        if later is None or (later.blocked and now - work.first_at >= job.action.retry.within):
            return False
        due_at = later.due_at(now)
        uncounted = 0.0 if later.blocked else max(due_at - work.due_at, 0.0)
        await context.persist(
            lambda: context.store.release([work.id], due_at=due_at, reason=str(later), uncounted=uncounted)
        )
        return True

    async def _settle_overdue(
        self,
        work: Work,
        reason: str,
        places: Sequence[Place],
        queue: Destination | None = None,
        others: Sequence[Work] = (),
    ) -> None:
        """Its time is over, and no attempt was made of it now."""
        context, now = self._context, self._context.clock()
        attempt = Attempt(work.attempts + 1, work.replays, now, 0.0, "dead", reason, worker=context.store.owner)
        if queue is not None:
            attempt = replace(attempt, destination=queue.name)
        if await self._record(work, attempt, Dead(reason), places, others):
            context.observer.failed(work, attempt, Dead(reason))

    def _others(self, work: Work, places: Sequence[Place], action: RoutedAction) -> Sequence[Work]:
        """The deliveries that all but its first item become, where an action has none together any more."""
        return () if action.digests else on_their_own(work, places, self._context.clock())

    async def _record(
        self,
        work: Work,
        attempt: Attempt,
        then: Again | Dead | None,
        places: Sequence[Place],
        others: Sequence[Work] = (),
    ) -> bool:
        """Settle an attempt, with all that follows from it. Whether it was this process's to settle."""
        items = len(places) - len(others)
        follow = [*others, *await self._followers.of(work, attempt, then, items)]
        return await self._keep(work, lambda: self._context.store.settle_attempt(work, attempt, then, on_dead=follow))

    async def _keep(self, work: Work, settle: Callable[[], Awaitable[bool]]) -> bool:
        """Settle at any price: what was made and can't be written down must not be made again by this process.

        Meanwhile its place is taken, so that a store which can settle nothing bounds how much is sent.
        """
        while True:
            try:
                return await self._context.persist(settle)
            except StoreError as error:
                told = {"delivery": work.id, "reason": str(error)}
                self._context.logger.error("what a delivery came to can't be written down; trying again", extra=told)
                await asyncio.sleep(_UNSETTLED_REST)

    async def _hold(self, job: Job, until: float) -> None:
        """It is outside its hours: it waits in the store, no attempt spent, and its time does not run."""
        context, work, reason = self._context, job.work, held_message(job.action.active, until)
        held = max(until - work.due_at, 0.0)
        await context.persist(lambda: context.store.release([work.id], due_at=until, reason=reason, uncounted=held))

    async def fail(self, work: Work, places: Sequence[Place], failure: Failure, started_at: float) -> None:
        """Settle a delivery that could not even be attempted: it is made again, or dead, with the reason."""
        router = self._context.rules.router
        found = router.find(work.route, work.action)
        policy = router.retry if found is None else found[1].retry
        attempt, then = self._context.consequence(work, policy, failure, started_at)
        others = () if found is None else self._others(work, places, found[1])
        if await self._record(work, attempt, then, places, others):
            self._context.observer.failed(work, attempt, then)

    async def _release(self, work: Work, seconds: float, *, counted: bool = True) -> None:
        due_at = self._context.clock() + seconds
        uncounted = 0.0 if counted else max(due_at - work.due_at, 0.0)
        await self._context.persist(lambda: self._context.store.release([work.id], due_at=due_at, uncounted=uncounted))

    async def _bind(self, work: Work, places: Sequence[Place], router: Router, plan: Plan | None) -> Job | None:
        """The delivery under today's rules, with the data its parameters read; None where they know it no more."""
        found = router.find(work.route, work.action)
        if found is None:
            return None
        route, action = found
        came = bool(action.needs) and await self._context.holdings.hydrate_each(
            places if action.digests else places[:1], action.needs
        )
        event = places[0][0].event
        progress = await self._progress(work, action)
        bodies = [(held.exact_body, index) for held, index in places]
        if plan is not None and plan.route is route and not came and not action.digests:
            return Job(work, event, route, action, action.with_words(plan.document, work.variables), progress, bodies)
        seen = [(held.event, index, held.fetched) for held, index in places]
        document = router.delivery_document(route, action, seen, work.variables)
        return Job(work, event, route, action, document, progress, bodies)

    async def _progress(self, work: Work, action: RoutedAction) -> dict[str, Any]:
        """What earlier attempts noted, for an action that wants to know it."""
        began = work.attempts or work.replays or work.error
        if not began or not action.registered.action.keeps_progress:
            return {}
        return dict(await self._context.store.progress(work.id))

    async def _gone(self, work: Work, places: Sequence[Place]) -> None:
        """Its route or action is not in the configuration any more: it waits until a reload brings it back.

        It is dead when its time is over before.
        """
        context, within = self._context, self._context.rules.router.retry.within
        gone = f"route {work.route!r} with action {work.action!r} is no longer in the configuration"
        if context.clock() - work.first_at >= within:
            await self._settle_overdue(work, gone, places)
            return
        queue, reason = self._gateway.removed_queue(work.route, work.action), f"{gone}; waits until it is there again"
        where: dict[str, Any] = {"due_at": work.due_at, "until": work.first_at + within}
        await context.persist(lambda: context.store.release([work.id], lane=queue, reason=reason, **where))

    def _outcome(self, job: Job, ran: Ran, queue: Destination | None) -> tuple[Attempt, Again | Dead | None]:
        name = queue.name if queue is not None else ""
        if ran.failure is not None:
            attempt, then = self._context.consequence(
                job.work, job.action.retry, ran.failure, ran.started_at, destination=name
            )
            if progress := noted(job):
                attempt = replace(attempt, detail=self._context.rules.masker.tree(progress))
            if isinstance(then, Again):
                then = replace(then, target=self._context.store.fingerprint(job.action.target))
            if queue is not None and isinstance(then, Again):
                denied = NotAdmitted(queue, queue.block(self._context.clock()))
                until = job.work.first_at + job.action.retry.within
                then = replace(then, lane=name, reason=retry_message(attempt.reason, denied), until=until)
            return attempt, then
        masker = self._context.rules.masker
        attempt = Attempt(
            number=job.work.attempts + 1,
            replay=job.work.replays,
            started_at=ran.started_at,
            seconds=ran.seconds,
            outcome="succeeded",
            destination=name,
            detail=masker.tree(ran.result) if ran.result else None,
            worker=self._context.store.owner,
        )
        return attempt, None


def _unparsed(work: Work, places: Sequence[Place], router: Router) -> str:
    """Why a delivery can't be made of its events, which were parsed when it was decided on; empty where it can."""
    found = router.find(work.route, work.action)
    if found is not None and UNMATCHED in found[0].keys:
        return ""
    return next((held.event.unparsed for held, _ in places if held.event.unparsed), "")

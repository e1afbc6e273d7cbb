"""One delivery: bound to the current rules, given its data, attempted, settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from engine.action.failures import Failure
from engine.core.errors import StoreError
from engine.core.schedule import held_message, holding_until
from engine.core.vocabulary import UNMATCHED
from engine.rules.decision import Plan
from engine.rules.route import Route, RoutedAction
from engine.rules.router import Router, with_words
from engine.store.records import Again, Attempt, Dead, Work
from engine.worker.attempt import AttemptResult, Executor, Job, Prepared, progress_of
from engine.worker.context import Context, Place, sizes
from engine.worker.destinations.destination import Admitted, Destination, NotAdmitted
from engine.worker.destinations.gateway import Gateway
from engine.worker.destinations.messages import overdue_message, retry_message, waiting_message
from engine.worker.on_dead import OnDead, split_digest
from engine.worker.plugin_loop import NotStarted

#: How long a delivery waits that a busy plug-in did not start, in seconds.
_NOT_STARTED_PAUSE = 1.0
#: The reason of an attempt that was cancelled after it had reached some of its destinations.
_STOPPED = "the engine stopped during the attempt"
#: How long a stop waits for the progress of such an attempt to be stored, in seconds.
_PROGRESS_TIMEOUT = 5.0
#: The time between two tries to settle a delivery in a store that is not busy but broken, in seconds.
_UNSETTLED_REST = 30.0


class Deliverer:
    """Makes deliveries. ``stored`` is called with the rules of a delivery that was stored after a reload."""

    def __init__(
        self, context: Context, executor: Executor, gateway: Gateway, stored: Callable[[Router], None]
    ) -> None:
        self._context, self._executor, self._gateway, self._stored = context, executor, gateway, stored
        self._on_dead = OnDead(context)

    async def deliver(self, work: Work, places: Sequence[Place], plan: Plan | None = None) -> None:
        """Make one attempt and store what follows. ``plan`` is given if the decision was made just now.

        ``places`` are the documents of the delivery: one, or for a digest those of all its items.
        """
        rules = self._context.rules
        await self._deliver(work, places, plan, rules.router)
        if rules is not self._context.rules:
            self._stored(rules.router)

    async def _deliver(self, work: Work, places: Sequence[Place], plan: Plan | None, router: Router) -> None:
        found = router.find(work.route, work.action)
        unparsed = next((loaded.event.unparsed for loaded, _ in places if loaded.event.unparsed), "")
        if unparsed and (found is None or UNMATCHED not in found[0].keys):
            await self.fail(work, places, Failure(retry=False, reason=unparsed), self._context.clock())
            return
        if found is None:
            await self._wait_for_route(work, places)
            return
        job = await self._bind(work, places, router, found, plan)
        active = job.action.active
        if active and (until := holding_until(active, self._context.clock())) is not None:
            await self._release(work, until, counted=False, reason=held_message(active, until))
            return
        try:
            await self._attempt(job, places, router)
        except NotStarted as error:
            self._context.logger.warning("delivery not started", extra={"delivery": work.id, "reason": str(error)})
            await self._release(work, self._context.clock() + _NOT_STARTED_PAUSE, counted=False)

    async def _attempt(self, job: Job, places: Sequence[Place], router: Router) -> None:
        prepared = await self._executor.prepare(job)
        if isinstance(prepared, AttemptResult):
            if not await self._wait_for_data(job, prepared, places):
                await self._settle(job, prepared, None, places)
            return
        events = sizes(loaded for loaded, _ in places)
        admitted = await self._gateway.admit(prepared.destination, job.work.lane, events, prepared.scope)
        if isinstance(admitted, NotAdmitted):
            await self._wait_for_destination(job, admitted, places)
            return
        if self._context.rules.router.private_hash != router.private_hash:
            self._gateway.abandon(admitted)  # it waited during a reload: bind it to the new rules
            await self._release(job.work, self._context.clock())
            return
        result, queue = await self._run(prepared, admitted, router.private_hash, places)
        await self._settle(job, result, queue, places)

    async def _bind(
        self, work: Work, places: Sequence[Place], router: Router, found: tuple[Route, RoutedAction], plan: Plan | None
    ) -> Job:
        """The delivery under the current rules, with the data that its parameters read."""
        route, action = found
        changed = bool(action.needs) and await self._context.events.fetch_each(
            places if action.digests else places[:1], action.needs
        )
        if plan is not None and plan.route is route and not changed and not action.digests:
            document = with_words(action, plan.document, work.variables)
        else:
            seen = [(loaded.event, index, loaded.fetched) for loaded, index in places]
            document = router.delivery_document(route, action, seen, work.variables)
        progress: dict[str, Any] = {}
        if action.registered.action.keeps_progress and (work.attempts or work.replays or work.error):
            progress = dict(await self._context.store.progress(work.id))
        bodies = [(loaded.exact_body, index) for loaded, index in places]
        return Job(work, places[0][0].event, route, action, document, progress, bodies)

    async def _run(
        self, prepared: Prepared, admitted: Admitted, config: str, places: Sequence[Place]
    ) -> tuple[AttemptResult, Destination]:
        """Run the attempt. Returns also the destination in whose queue a retry waits."""
        started_at, before = self._context.clock(), progress_of(prepared.job)
        try:
            result = await self._executor.run(prepared)
        except BaseException as error:
            self._gateway.abandon(admitted)
            if isinstance(error, asyncio.CancelledError) and progress_of(prepared.job) != before:
                await self._keep_progress(prepared.job, places, started_at)
            raise
        return result, self._gateway.finish(admitted, result.failure, config)

    # Deliveries that wait; no attempt is spent

    async def _release(self, work: Work, due_at: float, *, counted: bool = True, **where: Any) -> None:
        """Return a delivery to the store. If not ``counted``, the time until then does not count for ``within``."""
        uncounted, store = 0.0 if counted else max(due_at - work.due_at, 0.0), self._context.store
        await self._context.persist(lambda: store.release([work.id], due_at=due_at, uncounted=uncounted, **where))

    async def _wait_for_destination(self, job: Job, denied: NotAdmitted, places: Sequence[Place]) -> None:
        """Wait in the queue of a destination that takes nothing now. While it is blocked, ``within`` counts."""
        work, now, queue = job.work, self._context.clock(), denied.destination
        within = job.action.retry.within
        if denied.block is not None and now - work.first_at >= within:
            others = self._others(work, places, job.action)
            await self._settle_overdue(
                work, overdue_message(queue.name, denied.block, within), places, queue.name, others
            )
            return
        await self._release(
            work,
            work.due_at if denied.block is None else now,
            lane=queue.name,
            reason=waiting_message(denied),
            until=work.first_at + within,
            target=self._context.store.fingerprint(job.action.target),
        )
        self._gateway.note_stored(queue)

    async def _wait_for_data(self, job: Job, result: AttemptResult, places: Sequence[Place]) -> bool:
        """Wait for data that cannot be fetched at the moment. Returns whether the delivery does."""
        if result.failure is None or result.failure.cause != "data" or not result.failure.retry:
            return False
        found = (loaded.fetched.later_for(job.action.needs) for loaded, _ in places)
        not_now = next((one for one in found if one is not None), None)
        now = self._context.clock()
        if not_now is None or (not_now.blocked and now - job.work.first_at >= job.action.retry.within):
            return False
        await self._release(job.work, not_now.due_at(now), counted=not_now.blocked, reason=str(not_now))
        return True

    async def _wait_for_route(self, work: Work, places: Sequence[Place]) -> None:
        """Wait until a reload brings the route and action back; dead when the time for that is over."""
        within = self._context.rules.router.retry.within
        gone = f"route {work.route!r} with action {work.action!r} is no longer in the configuration"
        if self._context.clock() - work.first_at >= within:
            await self._settle_overdue(work, gone, places)
            return
        queue, reason = self._gateway.removed_queue(work.route, work.action), f"{gone}; waits until it is there again"
        await self._release(work, work.due_at, lane=queue, reason=reason, until=work.first_at + within)

    # What follows an attempt

    async def _settle(
        self, job: Job, result: AttemptResult, queue: Destination | None, places: Sequence[Place]
    ) -> None:
        attempt, then = self._outcome(job, result, queue)
        if await self._record(job.work, attempt, then, places, self._others(job.work, places, job.action)):
            self._context.observer.attempted(job, result, attempt, then)

    def _outcome(
        self, job: Job, result: AttemptResult, queue: Destination | None
    ) -> tuple[Attempt, Again | Dead | None]:
        """The attempt, as stored, and what follows: a retry, death, or nothing after a success."""
        name, context, masker = "" if queue is None else queue.name, self._context, self._context.rules.masker
        if result.failure is None:
            attempt = Attempt(
                number=job.work.attempts + 1,
                replay=job.work.replays,
                started_at=result.started_at,
                seconds=result.seconds,
                outcome="succeeded",
                destination=name,
                detail=masker.tree(result.result) if result.result else None,
                worker=context.store.owner,
            )
            return attempt, None
        attempt, then = context.failed(job.work, job.action.retry, result.failure, result.started_at, destination=name)
        if progress := progress_of(job):
            attempt = replace(attempt, detail=masker.tree(progress))
        if isinstance(then, Again):
            then = replace(then, target=context.store.fingerprint(job.action.target))
            if queue is not None:
                reason = retry_message(attempt.reason, NotAdmitted(queue, queue.block(context.clock())))
                then = replace(then, lane=name, reason=reason, until=job.work.first_at + job.action.retry.within)
        return attempt, then

    async def fail(self, work: Work, places: Sequence[Place], failure: Failure, started_at: float) -> None:
        """Settle a delivery that could not be attempted: it is retried, or dead with the reason."""
        router = self._context.rules.router
        found = router.find(work.route, work.action)
        policy = router.retry if found is None else found[1].retry
        attempt, then = self._context.failed(work, policy, failure, started_at)
        others = () if found is None else self._others(work, places, found[1])
        if await self._record(work, attempt, then, places, others):
            self._context.observer.failed(work, attempt, then)

    async def _settle_overdue(
        self, work: Work, reason: str, places: Sequence[Place], destination: str = "", others: Sequence[Work] = ()
    ) -> None:
        """Settle a delivery that waited for too long, without an attempt."""
        now, worker, then = self._context.clock(), self._context.store.owner, Dead(reason)
        attempt = Attempt(work.attempts + 1, work.replays, now, 0.0, "dead", reason, None, destination, worker=worker)
        if await self._record(work, attempt, then, places, others):
            self._context.observer.failed(work, attempt, then)

    async def _keep_progress(self, job: Job, places: Sequence[Place], started_at: float) -> None:
        """Store the progress of an attempt that is cancelled because the engine stops. The attempt is not spent."""
        context, work, now = self._context, job.work, self._context.clock()
        detail, owner = context.rules.masker.tree(progress_of(job)), context.store.owner
        number, seconds = work.attempts + 1, now - started_at
        attempt = Attempt(number, work.replays, started_at, seconds, "again", _STOPPED, detail=detail, worker=owner)
        others = self._others(work, places, job.action)
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_PROGRESS_TIMEOUT):
                await context.store.settle_attempt(work, attempt, Again(now, spent=False), on_dead=others)

    def _others(self, work: Work, places: Sequence[Place], action: RoutedAction) -> Sequence[Work]:
        """The deliveries that the items of a digest become, except the first, if the action digests no longer."""
        return () if action.digests or len(places) == 1 else split_digest(work, places, self._context.clock())

    async def _record(
        self, work: Work, attempt: Attempt, then: Again | Dead | None, places: Sequence[Place], others: Sequence[Work]
    ) -> bool:
        """Store an attempt with all that follows. Returns whether the delivery was this process's to settle.

        Retries for ever, because the delivery must not run twice. Its slots stay taken meanwhile, so that a store
        that can settle nothing bounds how much is sent.
        """
        follow, store = [*others], self._context.store
        if isinstance(then, Dead):
            follow += await self._on_dead.deliveries(work, attempt, then, len(places) - len(others))
        while True:
            try:
                return await self._context.persist(lambda: store.settle_attempt(work, attempt, then, on_dead=follow))
            except StoreError as error:
                facts = {"delivery": work.id, "reason": str(error)}
                self._context.logger.error("the result of a delivery cannot be stored; trying again", extra=facts)
                await asyncio.sleep(_UNSETTLED_REST)

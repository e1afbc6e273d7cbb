"""One evaluation: an event and the current rules give decisions and deliveries, stored in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from engine.action.failures import Failure
from engine.action.target import service_target
from engine.core.document import Fetched, run_indexes
from engine.core.errors import NotNow, TookTooLong
from engine.core.event import Event
from engine.core.masking import Masker
from engine.core.offload import Offload, in_thread
from engine.core.schedule import held_message
from engine.rules.decide import WAITS
from engine.rules.decision import Circumstances, Decision, Known, Plan, Routing, known_from
from engine.rules.router import ANY, Router
from engine.store.records import Again, Attempt, Dead, Digest, Gate, Routed, Settled, Wait, Work
from engine.worker.context import Context, LoadedEvent
from engine.worker.destinations.gateway import Gateway
from engine.worker.destinations.messages import waiting_message

#: An event of more runs, or of a larger body (in bytes), is evaluated in a thread.
_FEW_RUNS, _SMALL = 4, 256 * 1024
#: The time between two looks for awaited feedback, in seconds: as long as it was awaited already, within these bounds.
_FIRST_LOOK, _LONGEST_LOOK = 5.0, 60.0


class Evaluator:
    """Evaluates events.

    ``capacity`` tells how many deliveries this process can take when an evaluation ends. ``stored`` is called with the
    rules of an evaluation that was stored after a reload.
    """

    def __init__(
        self, context: Context, capacity: Callable[[], int], gateway: Gateway, stored: Callable[[Router], None]
    ) -> None:
        self._context, self._capacity, self._gateway, self._stored = context, capacity, gateway, stored
        self.offload = Offload()
        #: How many deliveries this process will have when the transactions in progress are done.
        self._reserved = 0

    async def evaluate(self, work: Work, loaded: LoadedEvent) -> list[tuple[Work, Plan]]:
        """Decide, store the result, and return the deliveries that this process makes now."""
        rules, started_at = self._context.rules, self._context.clock()
        routing = await self._route(work, loaded, rules.router)
        attempt, pending = self._pending(work, loaded, routing, started_at)
        now = self._context.clock()
        deliveries = [self._delivery(plan, work, now) for plan in routing.plans]
        mine = [
            each.id
            for plan, each in zip(routing.plans, deliveries, strict=True)
            if _is_immediate(plan) and not each.lane
        ]
        routed = Routed(
            event_id=work.event_id,
            decisions=[rules.masker.tree(decision.to_json()) for decision in _changed(work, routing, pending)],
            deliveries=deliveries,
            leased=frozenset(mine[: max(self._capacity() - self._reserved, 0)]),
            config_hash=rules.router.hash,
            decided_at=now,
            unmatched_reason=routing.unmatched_reason,
            matched=routing.matched,
            fallback=routing.fallback,
            pending=pending,
            attempt=attempt,
            work=work,
            gates=_gates(routing.plans, rules.masker),
        )
        settled = await self._settle(routed)
        if rules is not self._context.rules:
            self._stored(rules.router)
        self._notify(work, loaded.event, routing, routed, settled, started_at)
        return [
            (replace(delivery, variables=settled.variables.get(delivery.id)), plan)
            for delivery, plan in zip(deliveries, routing.plans, strict=True)
            if delivery.id in settled.leased
        ]

    async def _settle(self, routed: Routed) -> Settled:
        """Store the result. Its deliveries count as taken meanwhile, so that other evaluations do not take more."""
        self._reserved += len(routed.leased)
        try:
            return await self._context.persist(lambda: self._context.store.settle_routed(routed))
        finally:
            self._reserved -= len(routed.leased)

    def _delivery(self, plan: Plan, evaluation: Work, now: float) -> Work:
        """A new delivery; if its destination is known and takes nothing now, in the queue of that destination."""
        delivery = _new_delivery(plan, evaluation, now)
        if plan.action.destination is None or not _is_immediate(plan):
            return delivery
        if (denied := self._gateway.check(plan.action.destination)) is None:
            return delivery
        self._gateway.note_stored(denied.destination)
        until = delivery.first_at + plan.action.retry.within
        target = self._context.store.fingerprint(plan.action.target)
        queue, reason = denied.destination.name, waiting_message(denied)
        return replace(delivery, lane=queue, error=reason, until=until, target=target)

    def _notify(
        self, work: Work, event: Event, routing: Routing, routed: Routed, settled: Settled, started_at: float
    ) -> None:
        observer = self._context.observer
        made = len(routed.deliveries) - len(settled.throttled) - len(settled.collected)
        observer.routed(event, routing, started_at, made, over=not isinstance(routed.pending, (Again, Wait)))
        if isinstance(routed.pending, Wait) and routing.awaiting and not (work.error or "").startswith(WAITS):
            observer.waits(event, routing)
        for held in routing.held_back:
            observer.held_back(event, held.route, held.action, held.why)
        for delivery in routed.deliveries if settled.throttled or settled.collected else ():
            if delivery.id in settled.throttled:
                observer.held_back(event, delivery.route, delivery.action, "throttled")
            elif delivery.id in settled.collected:
                observer.held_back(event, delivery.route, delivery.action, "digested")
        if routed.attempt is not None:
            observer.failed(work, routed.attempt, routed.pending)

    def _pending(
        self, work: Work, loaded: LoadedEvent, routing: Routing, started_at: float
    ) -> tuple[Attempt | None, Again | Wait | Dead | None]:
        """What follows: nothing, a retry because data is missing, or a wait for feedback or for data.

        Of a retry and a wait the earlier one; an evaluation that waits is never dead.
        """
        wait = self._wait(work, loaded, routing)
        if wait is not None and _not_now(loaded, routing) is not None:
            return None, wait
        failure = _missing_data(routing, loaded.fetched)
        if failure is None and routing.overdue:  # another evaluation would reach the limit again
            failure = Failure(retry=False, reason=routing.overdue)
        if failure is None:
            return None, wait
        router = self._context.rules.router
        attempt, then = self._context.failed(work, router.retry, failure, started_at)
        if isinstance(then, Again):
            then = replace(then, target=self._context.store.fingerprint(service_target(router.langsmith)))
        if wait is None or (isinstance(then, Again) and then.due_at <= wait.due_at):
            return attempt, then
        return None, wait

    def _wait(self, work: Work, loaded: LoadedEvent, routing: Routing) -> Wait | None:
        """Until when the evaluation waits: for feedback that may come, or for data that cannot be fetched now."""
        now, not_now = self._context.clock(), _not_now(loaded, routing)
        wait = _wait_for_feedback(loaded.event, routing, now)
        if not_now is None:
            return wait
        if wait is not None:
            return replace(wait, due_at=min(max(wait.due_at, not_now.due_at(now)), *routing.awaiting.values()))
        if not_now.blocked and now - work.first_at >= self._context.rules.router.retry.within:
            return None
        return Wait(not_now.due_at(now), str(not_now), counted=not_now.blocked)

    async def fail(self, work: Work, failure: Failure, started_at: float) -> None:
        """Store a failed evaluation: it is retried, or dead with the reason."""
        router = self._context.rules.router
        attempt, then = self._context.failed(work, router.retry, failure, started_at)
        routed = Routed(
            event_id=work.event_id,
            decisions=(),
            deliveries=(),
            leased=frozenset(),
            config_hash=router.hash,
            decided_at=self._context.clock(),
            pending=then,
            attempt=attempt,
            work=work,
        )
        await self._context.persist(lambda: self._context.store.settle_routed(routed))
        self._context.observer.failed(work, attempt, then)

    async def _route(self, work: Work, loaded: LoadedEvent, router: Router) -> Routing:
        """Decide on what the webhook has; only if that leaves something undecided, fetch data and decide again."""
        known = await self._known(work) if work.attempts or work.error else {}
        circumstances = Circumstances(self._context.clock(), known, mutes=self._context.mutes.muted)
        routing = await self._decide(router, loaded, circumstances)
        if not (routing.wanting or routing.awaiting):
            return routing
        await self._context.events.fetch(loaded, _wanted(routing), None, refresh=bool(routing.awaiting))
        circumstances = replace(circumstances, looked=True)
        routing = await self._decide(router, loaded, circumstances)
        waits = self._wait(work, loaded, routing) is not None
        if routing.wanting and not waits and work.attempts + 1 >= router.retry.attempts:
            routing = await self._decide(router, loaded, replace(circumstances, final=True))
        return routing

    async def _decide(self, router: Router, loaded: LoadedEvent, circumstances: Circumstances) -> Routing:
        """Decide on the event loop; large events, and what was fetched, in a thread."""
        event, fetched = loaded.event, loaded.fetched
        kind = (event.kind, event.rule_id if event.rule_id in router.by_key else None)
        size = len(event.body)
        try:
            decide = partial(router.decide, event, fetched, circumstances)
            return await self.offload.run(kind, decide, size=size, large=size > _SMALL or _is_large(event, fetched))
        except TookTooLong as error:
            routes = [route.id for route in (*router.routes_of(event), *router.by_key.get(ANY, ()))]
            facts = {"event": event.id, "rule": event.rule_id, "routes": routes}
            self._context.logger.warning("an evaluation reached its time limit; its thread continues", extra=facts)
            return await in_thread(partial(router.undecided, event, fetched, circumstances, f"the evaluation {error}"))

    async def _known(self, work: Work) -> Mapping[tuple[int, str], Known]:
        """The decisions of earlier evaluations in this round. A replay decides everything again."""
        store = self._context.store
        return known_from(await self._context.persist(lambda: store.decisions(work.event_id, work.replays)))


def _new_delivery(plan: Plan, evaluation: Work, now: float) -> Work:
    due_at = now if plan.due_at is None else plan.due_at
    return replace(
        evaluation,
        id=plan.delivery_id,
        kind="deliver",
        first_at=due_at,
        due_at=due_at,
        route=plan.route.id,
        action=plan.action.name,
        index=plan.index,
        run_id=plan.run_id,
        attempts=0,
        error=None if plan.due_at is None else held_message(plan.action.active, plan.due_at),
    )


def _is_immediate(plan: Plan) -> bool:
    """Whether a delivery is made at once, unless a throttle drops it: not if it is held, or goes into a digest."""
    return plan.due_at is None and not isinstance(plan.gate, Digest)


def _gates(plans: Sequence[Plan], masker: Masker) -> Mapping[str, Gate]:
    """The throttles and digests of the deliveries, by their ids. Keys are stored, so secrets are masked."""
    return {
        plan.delivery_id: replace(plan.gate, key=masker.text(plan.gate.key)) for plan in plans if plan.gate is not None
    }


def _changed(work: Work, routing: Routing, pending: Again | Wait | Dead | None) -> Sequence[Decision]:
    """The decisions to store: none after a later look that settled nothing and fired no action."""
    if isinstance(pending, Wait) and work.error and not any(one.settled or one.fires for one in routing.decisions):
        return ()
    return routing.decisions


def _wait_for_feedback(event: Event, routing: Routing, now: float) -> Wait | None:
    """When to look for feedback again: ever less often, and when it is no longer awaited."""
    if not routing.awaiting:
        return None
    look = now + min(max(now - event.received_at, _FIRST_LOOK), _LONGEST_LOOK)
    return Wait(min(look, *routing.awaiting.values()), "; ".join(sorted(routing.awaiting)))


def _is_large(event: Event, fetched: Fetched) -> bool:
    """Whether an event with a small body is large all the same: by its runs, or by what was fetched for it."""
    if len(run_indexes(event)) > _FEW_RUNS:
        return True
    return bool(fetched.inputs or fetched.outputs or any((fetched.feedback or {}).values()))


def _wanted(routing: Routing) -> frozenset[str]:
    """The data that would decide what is undecided."""
    return routing.wanting | {"feedback"} if routing.awaiting else routing.wanting


def _not_now(loaded: LoadedEvent, routing: Routing) -> NotNow | None:
    """Why wanted data cannot be fetched at the moment, if that is so."""
    return loaded.fetched.later_for(_wanted(routing))


def _missing_data(routing: Routing, fetched: Fetched) -> Failure | None:
    """The failure of an evaluation that is undecided because data is missing."""
    if not routing.wanting and (routing.awaiting or all(decision.settled for decision in routing.decisions)):
        return None
    reasons = [f"{need}: {reason}" for need, reason in sorted(fetched.errors.items())] or sorted(routing.wanting)
    return Failure(retry=True, reason=f"undecided because data is missing ({'; '.join(reasons)})")

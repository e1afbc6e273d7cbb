"""One evaluation: an event against the rules of now, to decisions and deliveries, settled in one transaction."""

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
from engine.worker.context import Context
from engine.worker.destinations.gateway import Gateway
from engine.worker.destinations.messages import waiting_message
from engine.worker.in_memory import Held

#: An event of more runs, or of a larger body (in bytes), is evaluated off the loop.
_FEW_RUNS, _SMALL = 4, 256 * 1024
#: Between two looks for feedback that is waited for, in seconds: as long as it was waited for already, within these.
_FIRST_LOOK, _LONGEST_LOOK = 5.0, 60.0


class Evaluator:
    """Evaluates events. ``room`` tells how many deliveries this process can take up when an evaluation ends."""

    def __init__(
        self,
        context: Context,
        room: Callable[[], int],
        gateway: Gateway,
        stored: Callable[[Router], None] = lambda _: None,
    ) -> None:
        """``stored`` is called when an evaluation was stored by some rules."""
        self._context, self._room, self._gateway, self._stored = context, room, gateway, stored
        self.offload = Offload()
        #: How many deliveries are this process's to be, once the transaction is through that is under way.
        self._promised = 0

    async def evaluate(self, work: Work, held: Held) -> list[tuple[Work, Plan]]:
        """Decide, settle, and return the deliveries that are this process's to make now."""
        rules, started_at = self._context.rules, self._context.clock()
        routing = await self._route(work, held, rules.router)
        attempt, pending = self._pending(work, held, routing, started_at)
        now = self._context.clock()
        deliveries = [self._lined_up(plan, _delivery(plan, work, now)) for plan in routing.plans]
        mine = [
            each.id for plan, each in zip(routing.plans, deliveries, strict=True) if _is_at_once(plan) and not each.lane
        ]
        routed = Routed(
            event_id=work.event_id,
            decisions=[rules.masker.tree(decision.to_json()) for decision in _news(work, routing, pending)],
            deliveries=deliveries,
            leased=frozenset(mine[: max(self._room() - self._promised, 0)]),
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
        self._stored(rules.router)
        self._tell(work, held.event, routing, routed, settled, started_at)
        return [
            (replace(delivery, variables=settled.variables.get(delivery.id)), plan)
            for delivery, plan in zip(deliveries, routing.plans, strict=True)
            if delivery.id in settled.leased
        ]

    async def _settle(self, routed: Routed) -> Settled:
        """Others that settle meanwhile must not count on the same room."""
        self._promised += len(routed.leased)
        try:
            return await self._context.persist(lambda: self._context.store.settle_routed(routed))
        finally:
            self._promised -= len(routed.leased)

    def _lined_up(self, plan: Plan, delivery: Work) -> Work:
        """One whose destination is known and takes nothing now begins in that destination's queue."""
        if not _is_at_once(plan) or plan.action.destination is None:
            return delivery
        denied = self._gateway.check(plan.action.destination)
        if denied is None:
            return delivery
        self._gateway.note_stored(denied.destination)
        until = delivery.first_at + plan.action.retry.within
        target = self._context.store.fingerprint(plan.action.target)
        return replace(
            delivery, lane=denied.destination.name, error=waiting_message(denied), until=until, target=target
        )

    def _tell(
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
        self, work: Work, held: Held, routing: Routing, started_at: float
    ) -> tuple[Attempt | None, Again | Wait | Dead | None]:
        """What becomes of the evaluation: done, tried again for want of data, or put off for feedback to come.

        Of the last two whichever is sooner; and while feedback may come nothing dies. Data that can't be asked for at
        the moment puts it off, too.
        """
        wait = self._wait(work, held, routing)
        if wait is not None and _later(held, routing) is not None:
            return None, wait
        if (failure := _wanting(routing, held.fetched) or _overdue(routing)) is None:
            return None, wait
        router = self._context.rules.router
        attempt, then = self._context.consequence(work, router.retry, failure, started_at)
        if isinstance(then, Again):
            then = replace(then, target=self._context.store.fingerprint(service_target(router.langsmith)))
        if wait is None or (isinstance(then, Again) and then.due_at <= wait.due_at):
            return attempt, then
        return None, wait

    def _wait(self, work: Work, held: Held, routing: Routing) -> Wait | None:
        """Until when it is put off, if it is: for feedback to come, or because data can't be asked for until then."""
        now = self._context.clock()
        wait = _wait(held.event, routing, now)
        later = _later(held, routing)
        if later is None:
            return wait
        if wait is not None:
            return replace(wait, due_at=min(max(wait.due_at, later.due_at(now)), *routing.awaiting.values()))
        if later.blocked and now - work.first_at >= self._context.rules.router.retry.within:
            return None
        return Wait(later.due_at(now), str(later), counted=later.blocked)

    async def fail(self, work: Work, failure: Failure, started_at: float) -> None:
        """Settle an evaluation that came to nothing: it is made again, or dead, with the reason."""
        router = self._context.rules.router
        attempt, then = self._context.consequence(work, router.retry, failure, started_at)
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

    async def _route(self, work: Work, held: Held, router: Router) -> Routing:
        """Decide on what came along; only where that leaves something open, fetch and decide again."""
        known = await self._known(work) if work.attempts or work.error else {}
        around = Circumstances(self._context.clock(), known, mutes=self._context.mutes())
        routing = await self._decide(router, held, around)
        if not (routing.wanting or routing.awaiting):
            return routing
        wanted = routing.wanting | {"feedback"} if routing.awaiting else routing.wanting
        await self._context.holdings.hydrate(held, wanted, None, refresh=bool(routing.awaiting))
        around = replace(around, looked=True)
        routing = await self._decide(router, held, around)
        put_off = self._wait(work, held, routing) is not None
        if routing.wanting and not put_off and work.attempts + 1 >= router.retry.attempts:
            routing = await self._decide(router, held, replace(around, final=True))
        return routing

    async def _decide(self, router: Router, held: Held, around: Circumstances) -> Routing:
        """Large events, and what hydration brought, are evaluated off the loop from the start."""
        event, fetched = held.event, held.fetched
        kind = (event.kind, event.rule_id if event.rule_id in router.by_key else None)
        size = len(event.body)
        try:
            decide = partial(router.decide, event, fetched, around)
            return await self.offload.run(kind, decide, size=size, large=size > _SMALL or _is_large(event, fetched))
        except TookTooLong as error:
            facts = {"event": event.id, "rule": event.rule_id, "routes": _routes(router, event)}
            self._context.logger.warning("an evaluation past its limit goes on in its thread", extra=facts)
            return await in_thread(partial(router.undecided, event, fetched, around, f"the evaluation {error}"))

    async def _known(self, work: Work) -> Mapping[tuple[int, str], Known]:
        """What earlier evaluations of this round settled: a person who asks again asks for all of it."""
        store = self._context.store
        return known_from(await self._context.persist(lambda: store.decisions(work.event_id, work.replays)))


def _delivery(plan: Plan, evaluation: Work, now: float) -> Work:
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


def _is_at_once(plan: Plan) -> bool:
    """Whether nothing but a throttle stands before a delivery: digests are collected, and held ones wait."""
    return plan.due_at is None and not isinstance(plan.gate, Digest)


def _gates(plans: Sequence[Plan], masker: Masker) -> Mapping[str, Gate]:
    """What stands before the deliveries, by their ids. Keys are kept, so no secret may be in them."""
    return {
        plan.delivery_id: replace(plan.gate, key=masker.text(plan.gate.key)) for plan in plans if plan.gate is not None
    }


def _news(work: Work, routing: Routing, pending: Again | Wait | Dead | None) -> Sequence[Decision]:
    """The decisions to keep: a later look for feedback that settles nothing says what the first one said."""
    if isinstance(pending, Wait) and work.error and not any(one.settled for one in routing.decisions):
        return ()
    return routing.decisions


def _wait(event: Event, routing: Routing, now: float) -> Wait | None:
    """When to look for feedback again: soon at first, ever less often, and when it is no longer waited for."""
    if not routing.awaiting:
        return None
    look = now + min(max(now - event.received_at, _FIRST_LOOK), _LONGEST_LOOK)
    return Wait(min(look, *routing.awaiting.values()), "; ".join(sorted(routing.awaiting)))


def _routes(router: Router, event: Event) -> list[str]:
    """The routes that an event may meet, except those for what is unmatched."""
    return [route.id for route in (*router.routes_of(event), *router.by_key.get(ANY, ()))]


def _is_large(event: Event, fetched: Fetched) -> bool:
    """Whether an event of a small body is large all the same: by its runs, or by what was fetched for it."""
    if len(run_indexes(event)) > _FEW_RUNS:
        return True
    return bool(fetched.inputs or fetched.outputs or any((fetched.feedback or {}).values()))


def _overdue(routing: Routing) -> Failure | None:
    """Why an evaluation is dead that reached its limit: it would reach it again."""
    return Failure(retry=False, reason=routing.overdue) if routing.overdue else None


def _later(held: Held, routing: Routing) -> NotNow | None:
    """Why data that is wanted can't be asked for at the moment, if that is so."""
    return held.fetched.later_for(routing.wanting | {"feedback"} if routing.awaiting else routing.wanting)


def _wanting(routing: Routing, fetched: Fetched) -> Failure | None:
    """Why an evaluation is not at its end yet though nothing is waited for; None when it is."""
    if not routing.wanting and (routing.awaiting or all(decision.settled for decision in routing.decisions)):
        return None
    reasons = [f"{need}: {reason}" for need, reason in sorted(fetched.errors.items())] or sorted(routing.wanting)
    return Failure(retry=True, reason=f"undecided for want of data ({'; '.join(reasons)})")

"""One evaluation: an event against the rules of now, to decisions and deliveries, settled in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.decision import Known, Plan, Routing, known_from
from engine.desk import Desk, Held, Rules
from engine.document import Fetched
from engine.retry import Failure, classify
from engine.router import Router
from engine.store.protocol import Again, Attempt, Dead, Routed, Work


class Evaluator:
    """Evaluates events. ``room`` tells how many deliveries this process can take up at once."""

    def __init__(self, desk: Desk, room: Callable[[], int]) -> None:
        self._desk, self._room = desk, room

    async def evaluate(self, work: Work, held: Held) -> list[tuple[Work, Plan]]:
        """Decide, settle, and return the deliveries that are this process's to make now."""
        rules, started_at = self._desk.rules(), self._desk.clock()
        routing, failure = await self._routed(work, held, rules)
        attempt: Attempt | None = None
        pending: Again | Dead | None = None
        if failure is not None:
            attempt, pending = self._desk.consequence(work, rules, rules.router.retry, failure, started_at)
        now = self._desk.clock()
        deliveries = [_delivery(plan, work, now) for plan in routing.plans]
        # One more than there is room for: this evaluation makes room as it ends.
        leased = frozenset(delivery.id for delivery in deliveries[: max(self._room() + 1, 0)])
        routed = Routed(
            event_id=work.event_id,
            decisions=[rules.masker.tree(decision.to_json()) for decision in routing.decisions],
            deliveries=deliveries,
            leased=leased,
            config_hash=rules.router.hash,
            decided_at=now,
            unmatched_reason=routing.unmatched_reason,
            matched=routing.matched,
            pending=pending,
            attempt=attempt,
        )
        inserted = await self._desk.persist(lambda: self._desk.store.settle_routed(routed))
        self._desk.observer.routed(held.event, routing)
        mine = leased & inserted
        return [pair for pair in zip(deliveries, routing.plans, strict=True) if pair[0].id in mine]

    async def _routed(self, work: Work, held: Held, rules: Rules) -> tuple[Routing, Failure | None]:
        known = await self._known(work) if work.attempts else None
        final = work.attempts + 1 >= rules.router.retry.attempts
        try:
            routing = await self._route(rules.router, held, known, final=final)
        except Exception as error:
            # An evaluation is where one event's work ends: a fault here is that event's alone.
            self._desk.logger.error("evaluation failed", extra={"event": work.event_id}, exc_info=error)
            return Routing((), (), frozenset(), None), classify(error)
        return routing, _wanting(routing, held.fetched)

    async def _route(
        self, router: Router, held: Held, known: Mapping[tuple[int, str], Known] | None, *, final: bool
    ) -> Routing:
        """Decide on what came along; only where that leaves something open, fetch and decide again."""
        routing = router.decide(held.event, held.fetched, known=known)
        if routing.wanting:
            await self._desk.hydrate(held, routing.wanting, None)
            routing = router.decide(held.event, held.fetched, known=known, final=final)
        return routing

    async def _known(self, work: Work) -> Mapping[tuple[int, str], Known]:
        """What earlier evaluations of this round settled: a person who asks again asks for all of it."""
        detail = await self._desk.persist(lambda: self._desk.store.event(work.event_id))
        evaluations = detail.evaluations if detail else ()
        return known_from([one for one in evaluations if one.get("replays", 0) == work.replays])


def _delivery(plan: Plan, evaluation: Work, now: float) -> Work:
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
    if not routing.wanting and all(decision.settled for decision in routing.decisions):
        return None
    reasons = [f"{need}: {reason}" for need, reason in sorted(fetched.errors.items())] or sorted(routing.wanting)
    return Failure(retry=True, reason=f"undecided for want of data ({'; '.join(reasons)})")

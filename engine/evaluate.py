"""One evaluation: an event against the rules of now, to decisions and deliveries, settled in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from engine.aside import Aside
from engine.decision import Known, Plan, Routing, known_from
from engine.desk import Desk
from engine.document import Fetched, run_indexes
from engine.holdings import Held
from engine.retry import Failure
from engine.router import Router
from engine.store.protocol import Again, Attempt, Dead, Routed, Work

#: An event of more runs than these is decided off the loop.
_FEW_RUNS = 4


class Evaluator:
    """Evaluates events. ``room`` tells how many deliveries this process can take up when an evaluation ends."""

    def __init__(self, desk: Desk, room: Callable[[], int]) -> None:
        self._desk, self._room = desk, room
        self._aside = Aside()

    async def evaluate(self, work: Work, held: Held) -> list[tuple[Work, Plan]]:
        """Decide, settle, and return the deliveries that are this process's to make now."""
        rules, started_at = self._desk.rules(), self._desk.clock()
        routing = await self._route(work, held, rules.router)
        attempt: Attempt | None = None
        pending: Again | Dead | None = None
        if (failure := _wanting(routing, held.fetched)) is not None:
            attempt, pending = self._desk.consequence(work, rules.router.retry, failure, started_at)
        now = self._desk.clock()
        deliveries = [_delivery(plan, work, now) for plan in routing.plans]
        leased = frozenset(delivery.id for delivery in deliveries[: self._room()])
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
            work=work,
        )
        settled = await self._desk.persist(lambda: self._desk.store.settle_routed(routed))
        self._desk.observer.routed(held.event, routing, started_at)
        if attempt is not None:
            self._desk.observer.failed(work, attempt, pending)
        return [
            (replace(delivery, words=settled.words.get(delivery.id)), plan)
            for delivery, plan in zip(deliveries, routing.plans, strict=True)
            if delivery.id in settled.leased
        ]

    async def fail(self, work: Work, failure: Failure, started_at: float) -> None:
        """Settle an evaluation that came to nothing: it is made again, or dead, with the reason."""
        router = self._desk.rules().router
        attempt, then = self._desk.consequence(work, router.retry, failure, started_at)
        routed = Routed(
            event_id=work.event_id,
            decisions=(),
            deliveries=(),
            leased=frozenset(),
            config_hash=router.hash,
            decided_at=self._desk.clock(),
            pending=then,
            attempt=attempt,
            work=work,
        )
        await self._desk.persist(lambda: self._desk.store.settle_routed(routed))
        self._desk.observer.failed(work, attempt, then)

    async def _route(self, work: Work, held: Held, router: Router) -> Routing:
        """Decide on what came along; only where that leaves something open, fetch and decide again."""
        known = await self._known(work) if work.attempts else None
        routing = await self._decide(router, held, known)
        if routing.wanting:
            await self._desk.holdings.hydrate(held, routing.wanting, None)
            final = work.attempts + 1 >= router.retry.attempts
            routing = await self._decide(router, held, known, final=final)
        return routing

    async def _decide(
        self, router: Router, held: Held, known: Mapping[tuple[int, str], Known] | None, *, final: bool = False
    ) -> Routing:
        """Off the loop where it takes long: an expression may use up to a second, and for each run."""
        event, fetched = held.event, held.fetched
        decide = partial(router.decide, event, fetched, known=known, final=final)
        return await self._aside.do((event.kind, event.rule_id), decide, large=len(run_indexes(event)) > _FEW_RUNS)

    async def _known(self, work: Work) -> Mapping[tuple[int, str], Known]:
        """What earlier evaluations of this round settled: a person who asks again asks for all of it."""
        store = self._desk.store
        return known_from(await self._desk.persist(lambda: store.decisions(work.event_id, work.replays)))


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

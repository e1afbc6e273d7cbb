"""What evaluations and deliveries share: the rules of now, the store for sure, the way on from a failure."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from engine.action.failures import Failure
from engine.action.retry import RetryPolicy
from engine.core.errors import StoreBusy
from engine.core.masking import Masker
from engine.rules.router import Router
from engine.store.protocol import Store
from engine.store.records import Again, Attempt, Control, Dead, Work
from engine.worker.in_memory import Holdings
from engine.worker.observer import Observer

T = TypeVar("T")

#: Between two tries to write what must be written, in seconds: the first pause, doubling to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a reload replaces as one: the router, and the masker that knows its secrets."""

    router: Router
    masker: Masker


@dataclass(slots=True)
class Context:
    """What evaluations and deliveries share. A reload replaces ``rules``."""

    store: Store
    rules: Rules
    holdings: Holdings
    observer: Observer
    logger: logging.Logger
    mutes: Callable[[], Mapping[str, Control]] = dict
    clock: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.Random)

    async def persist(self, verb: Callable[[], Awaitable[T]]) -> T:
        """Do something in the store for sure: what happened outside must not be forgotten.

        A store that can't answer now is asked again until it can. What a cancelled caller handed in is done all
        the same.

        Raises:
            StoreError: the store will never do it; asking again would not help.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return await verb()
            except StoreBusy as error:
                self.logger.error("the store can't write; trying again", extra={"reason": str(error)})
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def consequence(
        self, work: Work, policy: RetryPolicy, failure: Failure, started_at: float, *, destination: str = ""
    ) -> tuple[Attempt, Again | Dead]:
        """A failed attempt for the history, and what follows from it by the retry policy."""
        now, masker = self.clock(), self.rules.masker
        reason = masker.text(failure.reason)
        delay = policy.next_delay(
            failure, attempt=work.attempts + 1, waited=_failing_for(work, started_at, now), rng=self.rng
        )
        attempt = Attempt(
            number=work.attempts + 1,
            replay=work.replays,
            started_at=started_at,
            seconds=max(now - started_at, 0.0),
            outcome="dead" if delay is None else "again",
            reason=reason,
            status=failure.status,
            destination=masker.text(destination),
            worker=self.store.owner,
        )
        return attempt, Dead(reason) if delay is None else Again(now + delay, spent=policy.spends(failure))


def _failing_for(work: Work, started_at: float, now: float) -> float:
    """The seconds that count towards ``within``: not those it waited for its turn when it had fallen due.

    Nor those that ``Store.release`` and ``Wait`` were told not to count.
    """
    return max(work.due_at - work.first_at, 0.0) + max(now - started_at, 0.0)

"""Running one attempt. Touches no store: what it came to is a value, settled elsewhere."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from engine.action import ActionContext
from engine.clients import Clients
from engine.event import Event
from engine.foreign import ForeignLoop
from engine.retry import Failure, classify
from engine.route import Route, RoutedAction
from engine.store.protocol import Work


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery about to be attempted, bound to the route and action as they are now."""

    work: Work
    event: Event
    route: Route
    action: RoutedAction
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """What one attempt came to: ``failure`` is None on success. ``seconds`` is how long the action took."""

    failure: Failure | None
    result: Mapping[str, Any] | None
    destination: str
    started_at: float
    seconds: float
    error: BaseException | None = None


class Executor:
    """Renders a delivery's parameters and runs its action under its timeout, built-ins here, plug-ins over there."""

    def __init__(
        self, clients: Clients, foreign: ForeignLoop, foreign_clients: Clients, clock: Callable[[], float] = time.time
    ) -> None:
        self._clients = clients
        self._foreign = foreign
        self._foreign_clients = foreign_clients
        self._clock = clock

    async def execute(self, job: Job) -> Ran:
        """One attempt. Whatever the action raises is classified, never passed on (cancellation is)."""
        started_at, begun = self._clock(), time.perf_counter()
        destination, result, failure, trouble = "", None, None, None
        try:
            params = job.action.params(job.document)
            destination = job.action.registered.action.destination(params)
            result = await self._run(job, params)
        except Exception as error:  # noqa: BLE001 - an attempt is where foreign work ends
            failure, trouble = classify(error), error
        return Ran(failure, result, destination, started_at, time.perf_counter() - begun, trouble)

    async def _run(self, job: Job, params: BaseModel) -> Mapping[str, Any] | None:
        action, timeout = job.action, job.action.timeout
        if action.registered.builtin:
            return await _within(timeout, self._attempt(self._clients, job, params))
        make: Callable[[], Coroutine[Any, Any, Mapping[str, Any] | None]]
        make = lambda: _within(timeout, self._attempt(self._foreign_clients, job, params))  # noqa: E731
        return await self._foreign.call_within(make, timeout)

    async def _attempt(self, clients: Clients, job: Job, params: BaseModel) -> Mapping[str, Any] | None:
        return await job.action.registered.action.run(params, await context_of(job, clients))


async def _within(seconds: float, attempt: Coroutine[Any, Any, Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    try:
        async with asyncio.timeout(seconds):
            return await attempt
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds:g} s") from error


async def context_of(job: Job, clients: Clients) -> ActionContext:
    """What an action gets to know and use for one attempt."""
    work, event, run = job.work, job.event, job.document.get("run")
    return ActionContext(
        delivery_id=work.id,
        attempt=work.attempts + 1,
        timeout=job.action.timeout,
        replayed=work.replays > 0,
        event_id=event.id,
        event_kind=str(event.kind),
        rule_id=event.rule_id,
        received_at=datetime.fromtimestamp(event.received_at, UTC),
        route=job.route.id,
        action=job.action.name,
        document=job.document,
        run=run if isinstance(run, Mapping) else None,
        http=await clients.http(),
        langsmith=clients.langsmith,
        slack=clients.slack,
        logger=logging.getLogger(f"engine.action.{job.action.registered.name}"),
    )

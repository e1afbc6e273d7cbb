"""What happens, told to whoever listens: the log, the demo, later metrics and traces."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from engine.decision import Routing
from engine.event import Event
from engine.execute import Job, Ran
from engine.store.protocol import Again, Appended, Attempt, Dead


class Observer(Protocol):
    """Listens at the three points where something is decided. Must be quick and must not raise."""

    def accepted(self, event: Event, appended: Appended) -> None:
        """An event is durable (or was before: a duplicate)."""

    def routed(self, event: Event, routing: Routing) -> None:
        """An evaluation is settled."""

    def attempted(self, job: Job, ran: Ran, attempt: Attempt, then: Again | Dead | None) -> None:
        """An attempt is settled."""


class LogObserver:
    """One wide line for each: every id, and what follows."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def accepted(self, event: Event, appended: Appended) -> None:
        """At info, duplicates too: people look for them."""
        if self._logger.isEnabledFor(logging.INFO):
            facts = {
                "event": appended.event_id,
                "kind": str(event.kind),
                "rule": event.rule_id,
                "bytes": len(event.body),
            }
            self._logger.info("duplicate" if appended.duplicate else "accepted", extra=facts)

    def routed(self, event: Event, routing: Routing) -> None:
        """What matched; and, where nothing did, why."""
        if self._logger.isEnabledFor(logging.INFO):
            matched = [decision.route for decision in routing.decisions if decision.fires]
            facts = {"event": event.id, "matched": ",".join(matched) or "-", "deliveries": len(routing.plans)}
            if routing.unmatched_reason:
                facts["unmatched"] = routing.unmatched_reason
            self._logger.info("routed", extra=facts)

    def attempted(self, job: Job, ran: Ran, attempt: Attempt, then: Again | Dead | None) -> None:
        """The attempt and its consequence. An exception that nobody expected is shown where it is news.

        That is at the first attempt and at the last: those between say the same.
        """
        level = {"succeeded": logging.INFO, "again": logging.WARNING, "dead": logging.ERROR}[attempt.outcome]
        if self._logger.isEnabledFor(level):
            unexpected = ran.failure is not None and not ran.failure.expected
            news = attempt.number == 1 or attempt.outcome == "dead"
            shown = _exception(job, ran.error) if unexpected and news and ran.error is not None else None
            self._logger.log(level, "delivery %s", attempt.outcome, extra=_facts(job, attempt, then), exc_info=shown)


def _exception(job: Job, error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """An exception with its traceback from the action's own file on: how the engine got there helps nobody."""
    code = getattr(inspect.unwrap(type(job.action.registered.action).run), "__code__", None)
    frame = error.__traceback__
    while frame is not None and code is not None and frame.tb_frame.f_code.co_filename != code.co_filename:
        frame = frame.tb_next
    return type(error), error, frame or error.__traceback__


def _facts(job: Job, attempt: Attempt, then: Again | Dead | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "delivery": job.work.id,
        "event": job.event.id,
        "route": job.route.id,
        "action": job.action.name,
        "run": job.work.run_id or "-",
        "attempt": attempt.number,
        "destination": attempt.destination,
        "seconds": round(attempt.seconds, 3),
    }
    if attempt.reason:
        facts["reason"] = attempt.reason
    if isinstance(then, Again):
        facts["again_in"] = round(then.due_at - attempt.started_at, 1)
    return facts


class Observers:
    """Tells several."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def accepted(self, event: Event, appended: Appended) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.accepted(event, appended)

    def routed(self, event: Event, routing: Routing) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.routed(event, routing)

    def attempted(self, job: Job, ran: Ran, attempt: Attempt, then: Again | Dead | None) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.attempted(job, ran, attempt, then)

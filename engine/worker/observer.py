"""What happens, told to whoever listens: the log, the demo, metrics and traces."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Literal

from engine.core.event import Event
from engine.core.times import iso_second
from engine.core.truth import Truth
from engine.core.vocabulary import UNDECIDED, is_fallback
from engine.rules.decision import Routing, why_undecided
from engine.store.records import Again, Appended, Attempt, Dead, Wait, Work
from engine.worker.attempt import Job, Ran

#: Why a match is followed by no delivery of its own: its slot was taken, it went into a digest, somebody muted the
#: route or action, or it is outside its hours.
HeldBack = Literal["throttled", "digested", "muted", "inactive"]


class Observer:
    """Listens wherever something is decided. Methods must be quick and must not raise; here they do nothing.

    They are called on the main event loop.
    """

    def answered(self, outcome: str, seconds: float) -> None:
        """A webhook's request is answered.

        ``outcome`` is ``accepted``, ``duplicate``, or the reason of a refusal (see ``receiver.responses.REFUSALS``).
        """

    def accepted(self, event: Event, appended: Appended) -> None:
        """An event is durable (or was before: a duplicate)."""

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """An evaluation is settled, which began at a time in Unix seconds.

        ``made`` is how many deliveries of their own follow: what was held back, or went into a digest, is not among
        them. It is not ``over`` where another look at the event follows.
        """

    def waits(self, event: Event, routing: Routing) -> None:
        """Routes wait for feedback that may come yet. Told at the first look, not at those that follow."""

    def held_back(self, event: Event, route: str, action: str, why: HeldBack) -> None:
        """A route matched, and this action of it makes no delivery of its own. ``route`` is the route's id."""

    def attempted(self, job: Job, ran: Ran, attempt: Attempt, then: Again | Dead | None) -> None:
        """An attempt is settled."""

    def failed(self, work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> None:
        """Work is settled that came to no attempt of an action: an evaluation, or a delivery that lacked something."""

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        """Nothing is sent to a destination until a time, or until something changes (None)."""

    def reopened(self, destination: str) -> None:
        """A destination that was paused gets deliveries again."""

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """The configuration was read again; with problems, the one of before is at work. ``config_hash`` is that one's.

        Told once at the start, too.
        """


class LogObserver(Observer):
    """One wide line for each: every id, and what follows."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def accepted(self, event: Event, appended: Appended) -> None:
        """At info, duplicates too: people look for them. What is not parsed is a warning."""
        if event.unparsed and not appended.duplicate:
            told = {"event": appended.event_id, "bytes": len(event.body), "reason": event.unparsed}
            self._logger.warning("accepted, but not parsed", extra=told)
        elif self._logger.isEnabledFor(logging.INFO):
            facts = {
                "event": appended.event_id,
                "kind": str(event.kind),
                "rule": event.rule_id,
                "bytes": len(event.body),
            }
            self._logger.info("duplicate" if appended.duplicate else "accepted", extra=facts)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """What matched; and, where nothing did, why. A look that brought nothing, and is not the last, is no news."""
        fire = dict.fromkeys(decision.route for decision in routing.decisions if decision.truth is Truth.TRUE)
        level = logging.INFO if over or fire else logging.DEBUG
        if self._logger.isEnabledFor(level):
            matched, fallback = [one for one in fire if not is_fallback(one)], [one for one in fire if is_fallback(one)]
            facts = {"event": event.id, "matched": ",".join(matched) or "-", "deliveries": made}
            facts |= {"fallback": ",".join(fallback)} if fallback else {}
            if over and routing.unmatched_reason:
                facts["unmatched"] = routing.unmatched_reason
                if routing.unmatched_reason == UNDECIDED:
                    facts["reason"] = why_undecided(routing.decisions)
            self._logger.log(level, "routed", extra=facts)

    def waits(self, event: Event, routing: Routing) -> None:
        """Which routes, for what, until when."""
        routes = dict.fromkeys(decision.route for decision in routing.decisions if decision.truth is Truth.WANTING)
        reason = "; ".join(sorted(routing.awaiting))
        facts = {"event": event.id, "route": ",".join(routes), "reason": reason}
        self._logger.info("evaluation waits", extra=facts)

    def held_back(self, event: Event, route: str, action: str, why: HeldBack) -> None:
        """What matched and was not sent is what people ask about."""
        if self._logger.isEnabledFor(logging.INFO):
            facts = {"event": event.id, "route": route, "action": action, "why": why}
            self._logger.info("delivery held back", extra=facts)

    def failed(self, work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> None:
        """As of an attempt, with what is known of it."""
        level = logging.ERROR if isinstance(then, Dead) else logging.WARNING
        if self._logger.isEnabledFor(level):
            what = "evaluation" if work.kind == "evaluate" else "delivery"
            self._logger.log(level, "%s %s", what, attempt.outcome, extra=_facts(work, attempt, then))

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        """A warning: nothing goes there."""
        until = None if until_at is None else iso_second(until_at)
        self._logger.warning("destination paused", extra={"reason": reason, "destination": destination, "until": until})

    def reopened(self, destination: str) -> None:
        """Good news."""
        self._logger.info("destination healthy again", extra={"destination": destination})

    def attempted(self, job: Job, ran: Ran, attempt: Attempt, then: Again | Dead | None) -> None:
        """The attempt and its consequence. An exception that nobody expected is shown where it is news.

        That is at the first attempt and at the last: those between say the same.
        """
        level = {"succeeded": logging.INFO, "again": logging.WARNING, "dead": logging.ERROR}[attempt.outcome]
        if self._logger.isEnabledFor(level):
            unexpected = ran.failure is not None and not ran.failure.expected
            news = attempt.number == 1 or attempt.outcome == "dead"
            shown = _exception(job, ran.error) if unexpected and news and ran.error is not None else None
            facts = _facts(job.work, attempt, then) | {"action_type": job.action.registered.name}
            self._logger.log(level, "delivery %s", attempt.outcome, extra=facts, exc_info=shown)


def _exception(job: Job, error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """An exception with its traceback from the action's own file on: how the engine got there helps nobody."""
    code = getattr(inspect.unwrap(type(job.action.registered.action).run), "__code__", None)
    frame = error.__traceback__
    while frame is not None and code is not None and frame.tb_frame.f_code.co_filename != code.co_filename:
        frame = frame.tb_next
    return type(error), error, frame or error.__traceback__


def _facts(work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> dict[str, object]:
    """All about one attempt, under names that stay (docs/operations.md). What a kind of work has not is empty."""
    facts: dict[str, object] = {
        "delivery": work.id if work.kind == "deliver" else "",
        "event": work.event_id,
        "route": work.route,
        "action": work.action,
        "run": work.run_id or "-",
        "attempt": attempt.number,
        "replay": attempt.replay,
        "destination": attempt.destination,
        "status": attempt.status,
        "waited": round(max(attempt.started_at - work.due_at, 0.0), 3),
        "seconds": round(attempt.seconds, 3),
        "outcome": attempt.outcome,
        "reason": attempt.reason,
    }
    if isinstance(then, (Again, Wait)):
        facts["again_in"] = round(then.due_at - attempt.started_at, 1)
    return facts


class Observers(Observer):
    """Tells several."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def answered(self, outcome: str, seconds: float) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.answered(outcome, seconds)

    def accepted(self, event: Event, appended: Appended) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.accepted(event, appended)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.routed(event, routing, started_at, made, over=over)

    def waits(self, event: Event, routing: Routing) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.waits(event, routing)

    def held_back(self, event: Event, route: str, action: str, why: HeldBack) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.held_back(event, route, action, why)

    def attempted(self, job: Job, ran: Ran, attempt: Attempt, then: Again | Dead | None) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.attempted(job, ran, attempt, then)

    def failed(self, work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.failed(work, attempt, then)

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.paused(destination, until_at, reason)

    def reopened(self, destination: str) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.reopened(destination)

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.reloaded(problems, config_hash, at)

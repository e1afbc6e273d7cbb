"""Observers are called when something happens: the log, the demo, metrics and traces."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal

from engine.core.event import Event
from engine.core.times import iso_second
from engine.core.truth import Truth
from engine.core.vocabulary import UNDECIDED, is_fallback
from engine.rules.decision import Routing, why_undecided
from engine.store.records import Again, Appended, Attempt, Dead, Wait, Work
from engine.worker.attempt import AttemptResult, Job

#: Why a match has no delivery of its own: it was throttled, it went into a digest, the route or action is muted, or its
#: schedule is closed.
HeldBack = Literal["throttled", "digested", "muted", "inactive"]
#: What a log line says of an attempt, by its outcome.
_MESSAGES = {"succeeded": "succeeded", "again": "will be retried", "dead": "dead", "discarded": "discarded"}


class Observer:
    """Its methods are called on the main event loop. They must be quick and must not raise; here they do nothing."""

    def answered(self, outcome: str, seconds: float) -> None:
        """A webhook was answered.

        ``outcome`` is ``accepted``, ``duplicate``, or why it was refused (see ``receiver.responses.REFUSALS``).
        """

    def accepted(self, event: Event, appended: Appended) -> None:
        """An event is stored, or was before: then it is a duplicate."""

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """An evaluation is settled that began at ``started_at``, in Unix seconds.

        ``made`` is the number of its deliveries, without those that were held back or went into a digest. If not
        ``over``, the event is evaluated again.
        """

    def waits(self, event: Event, routing: Routing) -> None:
        """Routes wait for feedback that may still come. Called after the first evaluation, not after later ones."""

    def held_back(self, event: Event, route: str, action: str, why: HeldBack) -> None:
        """A route matched, but this action makes no delivery of its own. ``route`` is the route's id."""

    def attempted(self, job: Job, result: AttemptResult, attempt: Attempt, then: Again | Dead | None) -> None:
        """An attempt is settled."""

    def failed(self, work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> None:
        """Work failed without an attempt of an action: an evaluation, or a delivery that could not be prepared."""

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        """A destination is paused until a time in Unix seconds, or until something changes (None)."""

    def reopened(self, destination: str) -> None:
        """A destination that was paused takes deliveries again."""

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """The configuration was loaded, at the start or again. With problems, the earlier one stays in use.

        ``config_hash`` is the hash of the one in use.
        """


class LogObserver(Observer):
    """Logs one line for each call, with every id and what follows."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def accepted(self, event: Event, appended: Appended) -> None:
        """At level info, also duplicates. A warning if the event could not be parsed."""
        if event.unparsed and not appended.duplicate:
            facts = {"event": appended.event_id, "bytes": len(event.body), "reason": event.unparsed}
            self._logger.warning("accepted, but not parsed", extra=facts)
        elif self._logger.isEnabledFor(logging.INFO):
            facts = {
                "event": appended.event_id,
                "kind": str(event.kind),
                "rule": event.rule_id,
                "bytes": len(event.body),
            }
            self._logger.info("duplicate" if appended.duplicate else "accepted", extra=facts)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """What matched, or why nothing did. At level debug if nothing matched yet."""
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
        """Which routes wait, and for what."""
        routes = dict.fromkeys(decision.route for decision in routing.decisions if decision.truth is Truth.WANTING)
        reason = "; ".join(sorted(routing.awaiting))
        facts = {"event": event.id, "route": ",".join(routes), "reason": reason}
        self._logger.info("evaluation waits", extra=facts)

    def held_back(self, event: Event, route: str, action: str, why: HeldBack) -> None:
        """Why something that matched is not sent."""
        if self._logger.isEnabledFor(logging.INFO):
            facts = {"event": event.id, "route": route, "action": action, "why": why}
            self._logger.info("delivery held back", extra=facts)

    def failed(self, work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> None:
        """Like an attempt, with the fields that are known."""
        level = logging.ERROR if isinstance(then, Dead) else logging.WARNING
        if self._logger.isEnabledFor(level):
            what = "evaluation" if work.kind == "evaluate" else "delivery"
            self._logger.log(level, "%s %s", what, _MESSAGES[attempt.outcome], extra=_facts(work, attempt, then))

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        """At level warning."""
        until = None if until_at is None else iso_second(until_at)
        self._logger.warning("destination paused", extra={"reason": reason, "destination": destination, "until": until})

    def reopened(self, destination: str) -> None:
        """At level info."""
        self._logger.info("destination healthy again", extra={"destination": destination})

    def attempted(self, job: Job, result: AttemptResult, attempt: Attempt, then: Again | Dead | None) -> None:
        """The attempt and what follows. An unexpected exception has its traceback at the first and the last attempt."""
        level = {"succeeded": logging.INFO, "again": logging.WARNING, "dead": logging.ERROR}[attempt.outcome]
        if self._logger.isEnabledFor(level):
            unexpected = result.failure is not None and not result.failure.expected
            news = attempt.number == 1 or attempt.outcome == "dead"
            shown = _exception(job, result.error) if unexpected and news and result.error is not None else None
            facts = _facts(job.work, attempt, then) | {"action_type": job.action.registered.name}
            self._logger.log(level, "delivery %s", _MESSAGES[attempt.outcome], extra=facts, exc_info=shown)


def _exception(job: Job, error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """An exception with its traceback, from the action's own file on."""
    code = getattr(inspect.unwrap(type(job.action.registered.action).run), "__code__", None)
    frame = error.__traceback__
    while frame is not None and code is not None and frame.tb_frame.f_code.co_filename != code.co_filename:
        frame = frame.tb_next
    return type(error), error, frame or error.__traceback__


def _facts(work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> dict[str, object]:
    """The log fields of an attempt (docs/operations.md)."""
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
    """Calls several observers: of each the methods that it implements, so that the others cost nothing."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        for name in (name for name in vars(Observer) if not name.startswith("_")):
            unused = getattr(Observer, name)
            setattr(
                self, name, _call_all([getattr(o, name) for o in observers if getattr(type(o), name) is not unused])
            )


def _call_all(methods: Sequence[Callable[..., None]]) -> Callable[..., None]:
    def call(*args: Any, **named: Any) -> None:
        for method in methods:
            method(*args, **named)

    return call

"""Which routes an event meets, what they decide on each of its documents, and which deliveries follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.action.retry import RetryPolicy
from engine.clients.langsmith import LangSmithSettings
from engine.clients.limits import LimitTable
from engine.clients.network import Network
from engine.clients.slack import SlackSettings
from engine.core.deadline import LIMIT, Deadline, Overdue, check, current, within
from engine.core.document import (
    Fetched,
    Site,
    build_document,
    digest_document,
    has_run_id,
    lost_for_good,
    run_id,
    run_indexes,
    runs_in,
)
from engine.core.errors import TemplateError, WantOfData
from engine.core.event import Event, Kind
from engine.core.missing import Missing
from engine.core.schedule import held_words, holding_until, skipping
from engine.core.times import clock
from engine.core.truth import Truth
from engine.core.units import format_duration
from engine.core.vocabulary import UNDECIDED, UNMATCHED
from engine.rules.decision import (
    Circumstances,
    Considered,
    Decision,
    HeldBack,
    Known,
    Plan,
    Routing,
    delivery_id,
    is_muting,
    muted_message,
    why_not,
)
from engine.rules.route import UNTOLD, Gating, Needs, Route, RoutedAction, WaitFor
from engine.store.records import Gate

Document = dict[str, Any]

#: The route key whose routes see every document.
ANY = "*"
#: A document whose feedback nobody knows.
_NO_FEEDBACK = dict.fromkeys(("feedback", "feedbacks"), Missing("feedback", "it is waited for"))
#: How the reasons of routes begin that wait for feedback.
WAITS: Final = "waits for "
#: Route keys that are no ids.
_WORDS = frozenset({ANY, UNMATCHED, *Kind})


@dataclass(frozen=True, slots=True)
class Router:
    """The rules at work. Immutable: a reload makes a new one.

    ``hash`` is shown; ``private_hash`` also differs where only a secret does (see ``Config``).
    ``by_key`` holds, for a rule id or kind, its routes in the order of the file; ``routes`` has the
    enabled ones by id; ``retry`` serves evaluations that want data. ``limits`` are those of destinations.
    ``network`` is what may be reached beside public addresses.
    """

    hash: str
    private_hash: str = field(repr=False)
    langsmith: LangSmithSettings
    slack: SlackSettings
    site: Site
    vars: Mapping[str, Any]
    by_key: Mapping[str, tuple[Route, ...]]
    routes: Mapping[str, Route]
    retry: RetryPolicy
    limits: LimitTable
    network: Network = field(default_factory=Network)

    def routes_of(self, event: Event) -> tuple[Route, ...]:
        """The routes of an event's own rule or kind, without ``*`` and ``unmatched``; of one not parsed, none."""
        if event.unparsed:
            return ()
        # An id that is one of our own words (a body may say anything) is nobody's.
        rule_id = event.rule_id
        own = () if rule_id is None or rule_id in _WORDS else self.by_key.get(rule_id, ())
        return own + self.by_key.get(str(event.kind), ())

    def routes_of_all(self, event: Event) -> tuple[Route, ...]:
        """The routes under ``*``, which see every event that was parsed."""
        return () if event.unparsed else self.by_key.get(ANY, ())

    def find(self, route_id: str, action: str) -> tuple[Route, RoutedAction] | None:
        """The route and action a waiting delivery was made for, as they are today; None where they are gone."""
        route = self.routes.get(route_id)
        for candidate in (*route.actions, *route.on_dead) if route else ():
            if candidate.name == action:
                return (route, candidate) if route else None
        return None

    def document(self, event: Event, index: int, fetched: Fetched, route: Route) -> Document:
        """What a route sees of one run of an event (-1: of the whole event); an action may see more."""
        document = build_document(event, index, fetched, site=self.site, vars=self.vars)
        if UNMATCHED in route.keys:
            _tell_unmatched(document, self.unmatched_reason(event))
        document["route"] = route.word
        return document

    def delivery_document(
        self,
        route: Route,
        action: RoutedAction,
        places: Sequence[tuple[Event, int, Fetched]],
        words: Mapping[str, Any] | None,
    ) -> Mapping[str, Any]:
        """What an action's parameters see: of a digest all places, else the first; ``words`` is what stands beside."""
        if not action.digests:
            return action.worded(self.document(*places[0], route), words)
        documents = [self.document(*place, route) for place in places]
        return action.worded(digest_document(documents, [event.received_at for event, _, _ in places]), words)

    def unmatched_reason(self, event: Event) -> str:
        """Why no route matched, if none did: not parsed, an unknown rule, or none of the rule's routes fits."""
        if event.unparsed:
            return "unparsed"
        return "no_match" if self.routes_of(event) else "unknown_rule"

    def decide(self, event: Event, fetched: Fetched, circumstances: Circumstances | None = None) -> Routing:
        """Evaluate an event's routes over its documents; without circumstances, as if it came right now.

        What the limit of CPU time leaves open is undecided: that of the computation this is part of, else ``LIMIT``.

        Raises:
            Deferred: the computation has to start again off the event loop.
        """
        evaluation = _Evaluation(self, event, fetched, circumstances or Circumstances(event.received_at))
        if current() is not None:
            return evaluation.run()
        with within(Deadline(LIMIT)):
            return evaluation.run()

    def undecided(self, event: Event, fetched: Fetched, circumstances: Circumstances, overdue: str) -> Routing:
        """What an evaluation comes to that did not end: every route is undecided, for that reason."""
        return _Evaluation(self, event, fetched, circumstances, overdue).run()


class _Evaluation:
    """One pass over one event. Lives as long as the pass."""

    def __init__(
        self, router: Router, event: Event, fetched: Fetched, around: Circumstances, overdue: str = ""
    ) -> None:
        self.overdue = overdue
        self.router, self.event, self.fetched, self.around = router, event, fetched, around
        self.known, self.final = around.known, around.final
        self.awaiting: dict[str, float] = {}
        self.held_back: list[HeldBack] = []
        self.decisions: list[Decision] = []
        self.plans: list[Plan] = []
        self.wanting: set[str] = set()
        self.undecided = False  # whether a route is undecided for good
        self.matched: set[int] = set()  # documents
        self.fallback: set[int] = set()
        self.truths: dict[tuple[int, str], Truth] = {}
        self.open: set[int] = set()  # documents of which a route stayed undecided for want of data or time

    def run(self) -> Routing:
        """The whole event and each run; then what is left unmatched, which is known only after all of them."""
        indexes = run_indexes(self.event)
        # Where there are no runs, the whole event is the only document, and every route sees it.
        whole_alone = indexes == [-1]
        passes = [(-1, None)] if whole_alone else [(-1, False), *((index, True) for index in indexes)]
        own = self.router.routes_of(self.event)
        truths = {index: self._decide(index, _seeing(own, per_run), per_run=per_run) for index, per_run in passes}
        for index, per_run in passes:
            beside = truths if index < 0 else (index, -1)
            if all(truths[other] is Truth.FALSE and other not in self.open for other in beside):
                self._fall_back(index, per_run=per_run)
        unmatched = not self.open and all(truth is Truth.FALSE for truth in truths.values())
        return Routing(
            tuple(self.decisions),
            tuple(self.plans),
            frozenset(self.wanting),
            self._unmatched_reason() if unmatched else None,
            runs_in(self.matched, indexes),
            runs_in(self.fallback, indexes),
            self.awaiting,
            tuple(self.held_back),
            self.overdue,
        )

    def _unmatched_reason(self) -> str:
        return UNDECIDED if self.undecided else self.router.unmatched_reason(self.event)

    def _decide(self, index: int, own: Sequence[Route], *, per_run: bool | None) -> Truth:
        """Whether one of the rule's own routes matched a document, or ``WANTING`` if that is open; then ``*``."""
        everywhere = _seeing(self.router.routes_of_all(self.event), per_run)
        if not (own or everywhere):
            return Truth.FALSE
        document = self._document(index)
        matched = self._own(index, document, own)
        for route in everywhere:
            self._route(index, document, route)
        return matched

    def _fall_back(self, index: int, *, per_run: bool | None) -> None:
        routes = _seeing(self._routes(UNMATCHED), per_run)
        if routes:
            document = self._document(index)
            _tell_unmatched(document, self.router.unmatched_reason(self.event))
            for route in routes:
                self._route(index, document, route)

    def _document(self, index: int) -> Document:
        if self.overdue:  # nothing is evaluated any more, and of a thousand runs this is most of the work
            return {"run": self.event.payload["runs"][index] if index >= 0 else None, "event": {}}
        return build_document(self.event, index, self.fetched, site=self.router.site, vars=self.router.vars)

    def _routes(self, key: str) -> tuple[Route, ...]:
        return self.router.by_key.get(key, ())

    def _own(self, index: int, document: Document, routes: Sequence[Route]) -> Truth:
        """The rule's routes in order; one with ``stop`` that matched ends them, one that waits holds them."""
        outcome = Truth.FALSE
        for position, route in enumerate(routes):
            truth = self._route(index, document, route)
            if truth is Truth.TRUE:
                outcome = Truth.TRUE
            elif truth is Truth.WANTING and outcome is Truth.FALSE:
                outcome = Truth.WANTING
            if route.stop and truth is Truth.TRUE:
                break
            if route.stop and truth is Truth.WANTING:
                self._hold(index, document, routes[position + 1 :], route)
                break
        return outcome

    def _hold(self, index: int, document: Document, routes: Sequence[Route], by: Route) -> None:
        for route in routes:
            if (index, route.id) not in self.known:
                self._note(index, document, route, Truth.WANTING, f"waits for route {by.id!r}, which may stop here")

    def _route(self, index: int, document: Document, route: Route) -> Truth:
        """Once for each document, whatever ways lead to it: two decisions would be one delivery, made twice at once."""
        place = (index, route.id)
        if place not in self.truths:
            self.truths[place] = self._judge(index, document, route)
            if self.truths[place] is Truth.TRUE:
                (self.fallback if UNMATCHED in route.keys else self.matched).add(index)
        return self.truths[place]

    def _judge(self, index: int, document: Document, route: Route) -> Truth:
        """What was settled before stands; past the limit of time a route is undecided for good."""
        earlier = self.known.get((index, route.id))
        if earlier is not None and not earlier.pending:
            return Truth.TRUE if earlier.matched else Truth.FALSE
        if not self.overdue:
            try:
                check()
                return self._evaluate(index, document, route, earlier)
            except Overdue as error:
                self._exceeded(error, f"route {route.id!r}")
        self.open.add(index)
        self._note(index, document, route, Truth.UNDECIDED, self.overdue)
        return Truth.UNDECIDED

    def _exceeded(self, error: Overdue, at: str) -> None:
        self.overdue = self.overdue or f"the evaluation {error}, and was stopped at {at}"

    def _evaluate(self, index: int, document: Document, route: Route, earlier: Known | None) -> Truth:
        document["route"] = route.word
        if earlier is not None:
            # It matched before: a mute that came since, or another sample, does not undo that.
            self._fire(index, document, route, [a for a in route.actions if a.name in earlier.pending], "")
            return Truth.TRUE
        vain = ""
        if route.wait_for is not None and (missing := self._missing(index, document, route.wait_for)):
            if self._waits(index, document, route, route.wait_for, missing):
                return Truth.WANTING
            vain = f"{_feedback(missing)} did not come within {format_duration(route.wait_for.up_to)}"
        truth, at = route.filter.first_unmet(document)
        if truth is Truth.TRUE:
            return self._matched(index, document, route, vain)
        return self._unmet(index, document, route, truth, at, vain)

    def _missing(self, index: int, document: Document, wait: WaitFor) -> tuple[str, ...]:
        """The feedback that is waited for and not there, where there is a run that can have any."""
        may_come = has_run_id(self.event, index) and not lost_for_good(document, ("feedback",))
        return wait.missing(document) if may_come else ()

    def _waits(self, index: int, document: Document, route: Route, wait: WaitFor, missing: tuple[str, ...]) -> bool:
        """Whether a route is to wait. What is false whatever the feedback may be is not waited for, nor asked about."""
        until = self.event.received_at + wait.up_to
        if self.around.looked and self.around.now >= until:
            return False
        if route.filter.first_unmet({**document, **_NO_FEEDBACK})[0] is Truth.FALSE:
            return False
        reason = f"{WAITS}{_feedback(missing)} until {clock(until)}"
        self.awaiting[reason] = until
        self._note(index, document, route, Truth.WANTING, reason)
        return True

    def _unmet(self, index: int, document: Document, route: Route, truth: Truth, at: int, vain: str) -> Truth:
        reason, absent = why_not(route.filter, truth, at, document)
        if truth is Truth.WANTING and self._is_open(document, route.needs):
            self.open.add(index)
            truth, reason = Truth.UNDECIDED, f"for want of data: {reason}"
        self._note(index, document, route, truth, "; ".join(filter(None, (reason, vain))), absent)
        return truth

    def _matched(self, index: int, document: Document, route: Route, vain: str) -> Truth:
        mute = self.around.mutes.get(route.id)
        if mute is not None and is_muting(mute, self.around.now):
            self.held_back += [HeldBack(route.id, action.name, "muted") for action in route.actions]
            self._note(index, document, route, Truth.TRUE, muted_message(mute))
        elif route.sample is not None and not route.samples(self.event.id, document):
            self._note(index, document, route, Truth.TRUE, f"not in the sample of {route.sample:.3%}")
        else:
            self._fire(index, document, route, route.actions, vain)
        return Truth.TRUE

    def _fire(self, index: int, document: Document, route: Route, actions: Sequence[RoutedAction], reason: str) -> None:
        """Say of each action whether it follows; a plan for each that does."""
        fires: list[str] = []
        skipped: dict[str, str] = {}
        pending: list[str] = []
        notes: dict[str, str] = {}
        absent = ""
        seen = dict(document)
        for action in actions:
            verdict = self._consider(action, seen)
            absent = absent or verdict.absent
            if verdict.truth is Truth.TRUE:
                fires.append(action.name)
                self.plans.append(self._plan(index, seen, route, action, verdict))
            elif verdict.truth is Truth.WANTING:
                pending.append(action.name)
            else:
                skipped[action.name] = verdict.reason
                if verdict.shut:
                    self.held_back.append(HeldBack(route.id, action.name, "inactive"))
            if verdict.truth is Truth.TRUE and verdict.reason:
                notes[action.name] = verdict.reason
        id_ = run_id(document["run"])
        self.decisions.append(
            Decision(route.id, index, id_, Truth.TRUE, reason, tuple(fires), skipped, tuple(pending), notes, absent)
        )

    def _consider(self, action: RoutedAction, document: Document) -> Considered:
        """Whether an action follows, from what costs nothing to what may want data; then what stands before it."""
        if (shut := skipping(action.active, self.around.now)) is not None:
            return Considered(Truth.FALSE, f"outside its hours: {shut}", shut=True)
        try:
            follows = self._when(action, document)
        except Overdue as error:
            self._exceeded(error, f"action {action.name!r}")
            return Considered(Truth.UNDECIDED, f"undecided: {self.overdue}")
        if follows.truth is not Truth.TRUE:
            return follows
        try:
            gate, note = self._gate(action.gating, document)
        except WantOfData as error:
            return Considered(Truth.WANTING, str(error))
        due_at = holding_until(action.active, self.around.now)
        if due_at is not None:
            note = "; ".join(filter(None, (note, held_words(action.active, due_at))))
        return Considered(Truth.TRUE, note, gate, due_at)

    def _gate(self, gating: Gating | None, document: Document) -> tuple[Gate | None, str]:
        """What stands before a delivery, and what is to be said about it.

        Raises:
            WantOfData: its key wants data, which may come yet.
        """
        if gating is None:
            return None, ""
        try:
            return gating.gate(gating.key(document)), ""
        except WantOfData as error:
            if not (self.final or self._is_open(document, gating.needs)):
                raise
            why = str(error)
        except (TemplateError, Overdue) as error:
            why = str(error)
        note = f"{gating.kind}: its key cannot be told, so it is held back with others of that kind: {why}"
        return gating.gate(UNTOLD), note

    def _when(self, action: RoutedAction, document: Document) -> Considered:
        if action.when is None:
            return Considered(Truth.TRUE, "")
        check()
        truth, at = action.when.first_unmet(document)
        if truth is Truth.TRUE:
            return Considered(truth, "")
        reason, absent = why_not(action.when, truth, at, document)
        if truth is not Truth.FALSE:
            reason = f"undecided: {reason}"
        if truth is Truth.WANTING and self._is_open(document, action.when.needs):
            truth = Truth.UNDECIDED
        return Considered(truth, reason, absent=absent)

    def _is_open(self, document: Document, needs: Needs) -> bool:
        """Whether what wants data stays undecided: there is no further attempt, or none would bring the data."""
        if lost_for_good(document, needs):
            return True
        self.wanting |= needs
        return self.final

    def _plan(self, index: int, document: Document, route: Route, action: RoutedAction, verdict: Considered) -> Plan:
        id_ = delivery_id(self.event.id, index, route.id, action.name)
        return Plan(id_, route, action, index, run_id(document["run"]), document, verdict.gate, verdict.due_at)

    def _note(self, index: int, document: Document, route: Route, truth: Truth, reason: str, absent: str = "") -> None:
        self.undecided = self.undecided or truth is Truth.UNDECIDED
        self.decisions.append(Decision(route.id, index, run_id(document["run"]), truth, reason, absent=absent))


def _seeing(routes: Sequence[Route], per_run: bool | None) -> Sequence[Route]:  # noqa: FBT001
    """The routes that see runs, or whole events, one by one; None: all of them."""
    return routes if per_run is None else [route for route in routes if route.per_run is per_run]


def _tell_unmatched(document: Document, reason: str) -> None:
    document["event"] = {**document["event"], "unmatched_reason": reason}


def _feedback(keys: Sequence[str]) -> str:
    return f"feedback {', '.join(map(repr, keys))}"

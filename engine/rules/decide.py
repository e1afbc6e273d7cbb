"""One evaluation: an event's routes over its documents → decisions, and the deliveries that follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.core.decisions import OUTSIDE_HOURS
from engine.core.document import (
    Fetched,
    Missing,
    build_document,
    has_run_id,
    is_too_large,
    run_id,
    run_indexes,
    runs_in,
)
from engine.core.errors import DataMissing, TemplateError
from engine.core.event import Event
from engine.core.offload import Overdue, check
from engine.core.schedule import held_message, holding_until, skipping
from engine.core.times import clock
from engine.core.truth import Truth
from engine.core.units import format_duration
from engine.core.vocabulary import UNDECIDED, UNMATCHED
from engine.rules.decision import (
    ActionVerdict,
    Circumstances,
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
from engine.rules.route import UNKNOWN_KEY, Gating, Needs, Route, RoutedAction, WaitFor
from engine.store.records import Gate

if TYPE_CHECKING:
    from engine.rules.router import Router

Document = dict[str, Any]

#: A document whose feedback is not known.
_NO_FEEDBACK = dict.fromkeys(("feedback", "feedbacks"), Missing("feedback", "it is waited for"))
#: The start of the reason of a route that waits for feedback.
WAITS: Final = "waits for "


class Evaluation:
    """One pass over one event. A new pass takes a new object."""

    def __init__(
        self, router: Router, event: Event, fetched: Fetched, circumstances: Circumstances, overdue: str = ""
    ) -> None:
        self.overdue = overdue
        self.router, self.event, self.fetched, self.circumstances = router, event, fetched, circumstances
        self.known, self.final = circumstances.known, circumstances.final
        self.awaiting: dict[str, float] = {}
        self.held_back: list[HeldBack] = []
        self.decisions: list[Decision] = []
        self.plans: list[Plan] = []
        self.wanting: set[str] = set()
        self.undecided = False  # whether any route is undecided for good
        self.matched: set[int] = set()  # documents
        self.fallback: set[int] = set()
        self.truths: dict[tuple[int, str], Truth] = {}
        self.open: set[int] = set()  # documents with a route that stayed undecided because data or time was missing

    def run(self) -> Routing:
        """Evaluate the whole event and each run; then ``unmatched`` for the documents that no route matched."""
        indexes = run_indexes(self.event)
        # Without runs the whole event is the only document, and every route sees it.
        whole_alone = indexes == [-1]
        passes = [(-1, None)] if whole_alone else [(-1, False), *((index, True) for index in indexes)]
        own = self.router.routes_of(self.event)
        truths = {index: self._decide(index, _seeing(own, per_run), per_run=per_run) for index, per_run in passes}
        for index, per_run in passes:
            others = truths if index < 0 else (index, -1)
            if all(truths[other] is Truth.FALSE and other not in self.open for other in others):
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
        """Evaluate the rule's own routes, then ``*``. Returns whether an own one matched (``WANTING``: open)."""
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
            set_unmatched_reason(document, self.router.unmatched_reason(self.event))
            for route in routes:
                self._route(index, document, route)

    def _document(self, index: int) -> Document:
        if self.overdue:  # nothing more is evaluated, and building documents is most of the work for a thousand runs
            return {"run": self.event.payload["runs"][index] if index >= 0 else None, "event": {}}
        return build_document(self.event, index, self.fetched, web_url=self.router.web_url, vars=self.router.vars)

    def _routes(self, key: str) -> tuple[Route, ...]:
        return self.router.by_key.get(key, ())

    def _own(self, index: int, document: Document, routes: Sequence[Route]) -> Truth:
        """Evaluate routes in order. One with ``stop`` ends the list if it matched and suspends the rest if it waits."""
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
                self._suspend(index, document, routes[position + 1 :], route)
                break
        return outcome

    def _suspend(self, index: int, document: Document, routes: Sequence[Route], by: Route) -> None:
        for route in routes:
            if (index, route.id) not in self.known:
                self._note(index, document, route, Truth.WANTING, f"waits for route {by.id!r}, which may stop here")

    def _route(self, index: int, document: Document, route: Route) -> Truth:
        """Evaluate a route once per document, even if several keys lead to it: two decisions would deliver twice."""
        place = (index, route.id)
        if place not in self.truths:
            self.truths[place] = self._known_or_evaluated(index, document, route)
            if self.truths[place] is Truth.TRUE:
                (self.fallback if UNMATCHED in route.keys else self.matched).add(index)
        return self.truths[place]

    def _known_or_evaluated(self, index: int, document: Document, route: Route) -> Truth:
        """Keep what an earlier evaluation settled; past the time limit a route is undecided for good."""
        earlier = self.known.get((index, route.id))
        if earlier is not None and not earlier.pending:
            return Truth.TRUE if earlier.matched else Truth.FALSE
        if not self.overdue:
            try:
                check()
                return self._evaluate(index, document, route, earlier)
            except Overdue as error:
                self._note_overdue(error, f"route {route.id!r}")
        self.open.add(index)
        self._note(index, document, route, Truth.UNDECIDED, self.overdue)
        return Truth.UNDECIDED

    def _note_overdue(self, error: Overdue, at: str) -> None:
        self.overdue = self.overdue or f"the evaluation {error}, and was stopped at {at}"

    def _evaluate(self, index: int, document: Document, route: Route, earlier: Known | None) -> Truth:
        document["route"] = route.word
        if earlier is not None:
            # It matched before: a newer mute or another sample does not undo that.
            self._fire(index, document, route, [a for a in route.actions if a.name in earlier.pending], "")
            return Truth.TRUE
        unmet_wait = ""
        if route.wait_for is not None and (missing := self._missing(index, document, route.wait_for)):
            if self._waits(index, document, route, route.wait_for, missing):
                return Truth.WANTING
            unmet_wait = f"{_feedback(missing)} did not come within {format_duration(route.wait_for.up_to)}"
        truth, at = route.filter.first_unmet(document)
        if truth is Truth.TRUE:
            return self._matched(index, document, route, unmet_wait)
        return self._unmet(index, document, route, truth, at, unmet_wait)

    def _missing(self, index: int, document: Document, wait: WaitFor) -> tuple[str, ...]:
        """The feedback that is waited for and missing; empty where the document has no run that can get feedback."""
        may_come = has_run_id(self.event, index) and not is_too_large(document, ("feedback",))
        return wait.missing(document) if may_come else ()

    def _waits(self, index: int, document: Document, route: Route, wait: WaitFor, missing: tuple[str, ...]) -> bool:
        """Whether a route waits. It does not where its filter is false whatever the feedback is."""
        until = self.event.received_at + wait.up_to
        if self.circumstances.looked and self.circumstances.now >= until:
            return False
        if route.filter.first_unmet({**document, **_NO_FEEDBACK})[0] is Truth.FALSE:
            return False
        reason = f"{WAITS}{_feedback(missing)} until {clock(until)}"
        self.awaiting[reason] = until
        self._note(index, document, route, Truth.WANTING, reason)
        return True

    def _unmet(self, index: int, document: Document, route: Route, truth: Truth, at: int, unmet_wait: str) -> Truth:
        reason, absent = why_not(route.filter, truth, at, document)
        if truth is Truth.WANTING and self._undecided_for_good(document, route.needs):
            self.open.add(index)
            truth, reason = Truth.UNDECIDED, f"data is missing: {reason}"
        self._note(index, document, route, truth, "; ".join(filter(None, (reason, unmet_wait))), absent)
        return truth

    def _matched(self, index: int, document: Document, route: Route, unmet_wait: str) -> Truth:
        mute = self.circumstances.mutes.get(route.id)
        if mute is not None and is_muting(mute, self.circumstances.now):
            self.held_back += [HeldBack(route.id, action.name, "muted") for action in route.actions]
            self._note(index, document, route, Truth.TRUE, muted_message(mute))
        elif route.sample is not None and not route.samples(self.event.id, document):
            self._note(index, document, route, Truth.TRUE, f"not in the sample of {route.sample:.3%}")
        else:
            self._fire(index, document, route, route.actions, unmet_wait)
        return Truth.TRUE

    def _fire(self, index: int, document: Document, route: Route, actions: Sequence[RoutedAction], reason: str) -> None:
        """Decide each action, and plan a delivery for each one that fires."""
        fires: list[str] = []
        skipped: dict[str, str] = {}
        pending: list[str] = []
        notes: dict[str, str] = {}
        absent = ""
        seen = dict(document)
        for action in actions:
            verdict = self._decide_action(action, seen)
            absent = absent or verdict.absent
            if verdict.truth is Truth.TRUE:
                fires.append(action.name)
                self.plans.append(self._plan(index, seen, route, action, verdict))
            elif verdict.truth is Truth.WANTING:
                pending.append(action.name)
            else:
                skipped[action.name] = verdict.reason
                if verdict.inactive:
                    self.held_back.append(HeldBack(route.id, action.name, "inactive"))
            if verdict.truth is Truth.TRUE and verdict.reason:
                notes[action.name] = verdict.reason
        id_ = run_id(document["run"])
        self.decisions.append(
            Decision(route.id, index, id_, Truth.TRUE, reason, tuple(fires), skipped, tuple(pending), notes, absent)
        )

    def _decide_action(self, action: RoutedAction, document: Document) -> ActionVerdict:
        """Whether an action fires, cheap checks first; then its gate and its hours."""
        if action.active and (closed := skipping(action.active, self.circumstances.now)) is not None:
            return ActionVerdict(Truth.FALSE, f"{OUTSIDE_HOURS}{closed}", inactive=True)
        try:
            follows = self._when(action, document)
        except Overdue as error:
            self._note_overdue(error, f"action {action.name!r}")
            return ActionVerdict(Truth.UNDECIDED, f"undecided: {self.overdue}")
        if follows.truth is not Truth.TRUE:
            return follows
        try:
            gate, note = self._gate(action.gating, document)
        except DataMissing as error:
            return ActionVerdict(Truth.WANTING, str(error))
        due_at = holding_until(action.active, self.circumstances.now) if action.active else None
        if due_at is not None:
            note = "; ".join(filter(None, (note, held_message(action.active, due_at))))
        return ActionVerdict(Truth.TRUE, note, gate, due_at)

    def _gate(self, gating: Gating | None, document: Document) -> tuple[Gate | None, str]:
        """The throttle or digest of a delivery, and a note about it.

        Raises:
            DataMissing: its key needs data that may still be fetched.
        """
        if gating is None:
            return None, ""
        try:
            return gating.gate(gating.key(document)), ""
        except DataMissing as error:
            if not (self.final or self._undecided_for_good(document, gating.needs)):
                raise
            why = str(error)
        except (TemplateError, Overdue) as error:
            why = str(error)
        note = f"{gating.kind}: its key cannot be computed, so it shares one with other such deliveries: {why}"
        return gating.gate(UNKNOWN_KEY), note

    def _when(self, action: RoutedAction, document: Document) -> ActionVerdict:
        if action.when is None:
            return ActionVerdict(Truth.TRUE, "")
        check()
        truth, at = action.when.first_unmet(document)
        if truth is Truth.TRUE:
            return ActionVerdict(truth, "")
        reason, absent = why_not(action.when, truth, at, document)
        if truth is not Truth.FALSE:
            reason = f"undecided: {reason}"
        if truth is Truth.WANTING and self._undecided_for_good(document, action.when.needs):
            truth = Truth.UNDECIDED
        return ActionVerdict(truth, reason, absent=absent)

    def _undecided_for_good(self, document: Document, needs: Needs) -> bool:
        """Whether missing data leaves it undecided for good: no attempt follows, or none can fetch the data."""
        if is_too_large(document, needs):
            return True
        self.wanting |= needs
        return self.final

    def _plan(self, index: int, document: Document, route: Route, action: RoutedAction, verdict: ActionVerdict) -> Plan:
        id_ = delivery_id(self.event.id, index, route.id, action.name)
        return Plan(id_, route, action, index, run_id(document["run"]), document, verdict.gate, verdict.due_at)

    def _note(self, index: int, document: Document, route: Route, truth: Truth, reason: str, absent: str = "") -> None:
        self.undecided = self.undecided or truth is Truth.UNDECIDED
        self.decisions.append(Decision(route.id, index, run_id(document["run"]), truth, reason, absent=absent))


def _seeing(routes: Sequence[Route], per_run: bool | None) -> Sequence[Route]:  # noqa: FBT001
    """The routes that see single runs (True) or whole events (False); None: all of them."""
    return routes if per_run is None else [route for route in routes if route.per_run is per_run]


def set_unmatched_reason(document: Document, reason: str) -> None:
    """Add ``event.unmatched_reason``, which only routes under ``unmatched`` see."""
    document["event"] = {**document["event"], "unmatched_reason": reason}


def _feedback(keys: Sequence[str]) -> str:
    return f"feedback {', '.join(map(repr, keys))}"

"""Which routes an event meets, what they decide on each of its documents, and which deliveries follow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.decision import Decision, Known, Plan, Routing, delivery_id
from engine.document import Fetched, Site, build_document, run_indexes
from engine.egress import Network
from engine.event import Event, Kind
from engine.langsmith import LangSmithSettings
from engine.retry import RetryPolicy
from engine.route import Route, RoutedAction
from engine.slack import SlackSettings
from engine.traffic.limits import LimitTable
from engine.truth import Truth

Document = dict[str, Any]

#: The route key whose routes see every document.
ANY = "*"
#: The route key whose routes see a document that no other route matched.
UNMATCHED = "unmatched"
#: Route keys that are no ids.
_WORDS = frozenset({ANY, UNMATCHED, *Kind})


@dataclass(frozen=True, slots=True)
class Router:
    """The rules at work. Immutable: a reload makes a new one.

    ``by_key`` holds, for a rule id or kind, its routes in the order of the file; ``routes`` has the
    enabled ones by id; ``retry`` serves evaluations that want data. ``limits`` are those of destinations.
    ``least_within`` is the shortest time that any action's deliveries may wait, in seconds.
    ``network`` is what may be reached beside public addresses.
    """

    hash: str
    langsmith: LangSmithSettings
    slack: SlackSettings
    site: Site
    vars: Mapping[str, Any]
    by_key: Mapping[str, tuple[Route, ...]]
    routes: Mapping[str, Route]
    retry: RetryPolicy
    limits: LimitTable
    least_within: float
    network: Network = field(default_factory=Network)

    def routes_of(self, event: Event) -> tuple[Route, ...]:
        """The routes of an event's own rule or kind, without ``*`` and ``unmatched``."""
        # An id that is one of our own words (a body may say anything) is nobody's.
        rule_id = event.rule_id
        own = () if rule_id is None or rule_id in _WORDS else self.by_key.get(rule_id, ())
        return own + self.by_key.get(str(event.kind), ())

    def find(self, route_id: str, action: str) -> tuple[Route, RoutedAction] | None:
        """The route and action a waiting delivery was made for, as they are today; None where they are gone."""
        route = self.routes.get(route_id)
        for candidate in route.actions if route else ():
            if candidate.name == action:
                return (route, candidate) if route else None
        return None

    def document(self, event: Event, index: int, fetched: Fetched, route: Route) -> Document:
        """What a route sees of one run of an event (-1: of the whole event)."""
        document = build_document(event, index, fetched, site=self.site, vars=self.vars)
        if UNMATCHED in route.keys:
            _tell_unmatched(document, self.unmatched_reason(event))
        document["route"] = route.word
        return document

    def unmatched_reason(self, event: Event) -> str:
        """Why no route matched an event, if none did: its rule is unknown, or none of the rule's routes fits."""
        return "no_match" if self.routes_of(event) else "unknown_rule"

    def decide(
        self,
        event: Event,
        fetched: Fetched,
        *,
        known: Mapping[tuple[int, str], Known] | None = None,
        final: bool = False,
    ) -> Routing:
        """Evaluate an event's routes over its documents.

        ``known`` is what an earlier evaluation settled: it is not decided twice. ``final``
        takes what is still undecided for want of data as undecided for good.
        """
        return _Evaluation(self, event, fetched, known or {}, final).run()


class _Evaluation:
    """One pass over one event. Lives as long as the pass."""

    def __init__(
        self,
        router: Router,
        event: Event,
        fetched: Fetched,
        known: Mapping[tuple[int, str], Known],
        final: bool,  # noqa: FBT001
    ) -> None:
        self.router, self.event, self.fetched, self.known, self.final = router, event, fetched, known, final
        self.decisions: list[Decision] = []
        self.plans: list[Plan] = []
        self.wanting: set[str] = set()
        self.matched = 0
        self.open: set[int] = set()  # documents of which a route stayed undecided for want of data

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
        unmatched = all(truth is Truth.FALSE for truth in truths.values())
        return Routing(
            tuple(self.decisions),
            tuple(self.plans),
            frozenset(self.wanting),
            self.router.unmatched_reason(self.event) if unmatched else None,
            self.matched,
        )

    def _decide(self, index: int, own: Sequence[Route], *, per_run: bool | None) -> Truth:
        """Whether one of the rule's own routes matched a document, or ``WANTING`` if that is open; then ``*``."""
        everywhere = _seeing(self._routes(ANY), per_run)
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
        truth = self._judge(index, document, route)
        self.matched += truth is Truth.TRUE
        return truth

    def _judge(self, index: int, document: Document, route: Route) -> Truth:
        earlier = self.known.get((index, route.id))
        if earlier is not None and not earlier.pending:
            return Truth.TRUE if earlier.matched else Truth.FALSE
        document["route"] = route.word
        if earlier is not None:
            return self._fire(index, document, route, [a for a in route.actions if a.name in earlier.pending])
        truth, at = route.filter.first_unmet(document)
        if truth is Truth.TRUE:
            return self._matched(index, document, route)
        return self._unmet(index, document, route, truth, at)

    def _unmet(self, index: int, document: Document, route: Route, truth: Truth, at: int) -> Truth:
        reason = route.filter.conditions[at].text if at >= 0 else ""
        if truth is not Truth.FALSE:
            reason = f"{reason}: {route.filter.explain(document).children[at].reason}"
        if truth is Truth.WANTING:
            self.wanting |= route.needs
            if self.final:
                self.open.add(index)
                truth, reason = Truth.UNDECIDED, f"for want of data: {reason}"
        self._note(index, document, route, truth, reason)
        return truth

    def _matched(self, index: int, document: Document, route: Route) -> Truth:
        if route.sample is not None and not _sampled(route, self.event, document, route.sample):
            self._note(index, document, route, Truth.TRUE, f"not in the sample of {route.sample:.3%}")
            return Truth.TRUE
        return self._fire(index, document, route, route.actions)

    def _fire(self, index: int, document: Document, route: Route, actions: Sequence[RoutedAction]) -> Truth:
        fires: list[str] = []
        skipped: dict[str, str] = {}
        pending: list[str] = []
        seen: Document | None = None
        for action in actions:
            truth, reason = self._when(action, document)
            if truth is Truth.TRUE:
                seen = dict(document) if seen is None else seen
                fires.append(action.name)
                self.plans.append(self._plan(index, seen, route, action))
            elif truth is Truth.WANTING and not self.final:
                pending.append(action.name)
            else:
                skipped[action.name] = reason
        self.decisions.append(
            Decision(route.id, index, _run_id(document), Truth.TRUE, "", tuple(fires), skipped, tuple(pending))
        )
        return Truth.TRUE

    def _when(self, action: RoutedAction, document: Document) -> tuple[Truth, str]:
        if action.when is None:
            return Truth.TRUE, ""
        truth, at = action.when.first_unmet(document)
        if truth is Truth.TRUE:
            return truth, ""
        reason = action.when.conditions[at].text
        if truth is not Truth.FALSE:
            reason = f"undecided: {reason}: {action.when.explain(document).children[at].reason}"
        if truth is Truth.WANTING:
            self.wanting |= action.when.needs
        return truth, reason

    def _plan(self, index: int, document: Document, route: Route, action: RoutedAction) -> Plan:
        return Plan(
            delivery_id(self.event.id, index, route.id, action.name), route, action, index, _run_id(document), document
        )

    def _note(self, index: int, document: Document, route: Route, truth: Truth, reason: str) -> None:
        self.decisions.append(Decision(route.id, index, _run_id(document), truth, reason))


def _run_id(document: Document) -> str | None:
    run = document.get("run")
    run_id = run.get("id") if isinstance(run, Mapping) else None
    return run_id if isinstance(run_id, str) else None


def _seeing(routes: Sequence[Route], per_run: bool | None) -> Sequence[Route]:  # noqa: FBT001
    """The routes that see runs, or whole events, one by one; None: all of them."""
    return routes if per_run is None else [route for route in routes if route.per_run is per_run]


def _tell_unmatched(document: Document, reason: str) -> None:
    document["event"] = {**document["event"], "unmatched_reason": reason}


def _sampled(route: Route, event: Event, document: Document, share: float) -> bool:
    """By a hash of route and trace, so that all of a trace is in, or all of it is out."""
    run = document.get("run")
    trace = (run.get("trace_id") or run.get("id")) if isinstance(run, Mapping) else None
    name = f"{route.id}\0{trace or event.id}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) < share * 2**64

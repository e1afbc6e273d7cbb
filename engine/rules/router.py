"""The rules that run: which routes an event has, and the documents that they and their actions see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.action.retry import RetryPolicy
from engine.clients.langsmith import LangSmithSettings
from engine.clients.limits import LimitTable
from engine.clients.network import Network
from engine.clients.slack import SlackSettings
from engine.core.document import Fetched, build_document, digest_document
from engine.core.event import Event, Kind
from engine.core.offload import LIMIT, Deadline, current, within
from engine.core.vocabulary import UNMATCHED
from engine.rules.decide import Document, Evaluation, set_unmatched_reason
from engine.rules.decision import Circumstances, Routing
from engine.rules.route import Route, RoutedAction

#: The route key whose routes see every document.
ANY: Final = "*"
#: The value of ``throttle`` in templates if no delivery was suppressed.
NOTHING_THROTTLED: Final[Mapping[str, Any]] = {"suppressed": 0, "since": None}
#: Route keys that are not ids.
_RESERVED_KEYS: Final = frozenset({ANY, UNMATCHED, *Kind})


@dataclass(frozen=True, slots=True)
class Router:
    """The compiled rules. Immutable: a reload makes a new router.

    ``hash`` is shown to people; ``private_hash`` also changes with secrets (see ``Config``).
    ``by_key`` has the routes of each rule id and kind in file order, ``routes`` the enabled ones by id.
    ``retry`` is the policy for evaluations that wait for data, ``limits`` are the destinations' limits.
    ``network`` says which addresses may be reached besides public ones.
    """

    hash: str
    private_hash: str = field(repr=False)
    langsmith: LangSmithSettings
    slack: SlackSettings
    web_url: str | None
    vars: Mapping[str, Any]
    by_key: Mapping[str, tuple[Route, ...]]
    routes: Mapping[str, Route]
    retry: RetryPolicy
    limits: LimitTable
    network: Network = field(default_factory=Network)

    def routes_of(self, event: Event) -> tuple[Route, ...]:
        """The routes of an event's rule id and kind, without ``*`` and ``unmatched``; none if it was not parsed."""
        if event.unparsed:
            return ()
        # A body may claim any id, also a reserved key.
        rule_id = event.rule_id
        own = () if rule_id is None or rule_id in _RESERVED_KEYS else self.by_key.get(rule_id, ())
        return own + self.by_key.get(str(event.kind), ())

    def routes_of_all(self, event: Event) -> tuple[Route, ...]:
        """The routes under ``*``; they see every event that was parsed."""
        return () if event.unparsed else self.by_key.get(ANY, ())

    def find(self, route_id: str, action: str) -> tuple[Route, RoutedAction] | None:
        """The route and action of a stored delivery, as configured now; None if they were removed."""
        route = self.routes.get(route_id)
        for candidate in (*route.actions, *route.on_dead) if route else ():
            if candidate.name == action:
                return (route, candidate) if route else None
        return None

    def document(self, event: Event, index: int, fetched: Fetched, route: Route) -> Document:
        """The document of one run of an event, for a route. Index -1 is the whole event."""
        document = build_document(event, index, fetched, web_url=self.web_url, vars=self.vars)
        if UNMATCHED in route.keys:
            set_unmatched_reason(document, self.unmatched_reason(event))
        document["route"] = route.word
        return document

    def delivery_document(
        self,
        route: Route,
        action: RoutedAction,
        places: Sequence[tuple[Event, int, Fetched]],
        words: Mapping[str, Any] | None,
    ) -> Mapping[str, Any]:
        """The document that an action's templates see: all places for a digest, else the first; plus ``words``."""
        if not action.digests:
            return with_words(action, self.document(*places[0], route), words)
        documents = [self.document(*place, route) for place in places]
        return {**digest_document(documents, [event.received_at for event, _, _ in places]), **(words or {})}

    def unmatched_reason(self, event: Event) -> str:
        """Why no route matched: ``unparsed``, ``unknown_rule``, or ``no_match`` if the rule has routes."""
        if event.unparsed:
            return "unparsed"
        return "no_match" if self.routes_of(event) else "unknown_rule"

    def decide(self, event: Event, fetched: Fetched, circumstances: Circumstances | None = None) -> Routing:
        """Evaluate an event's routes over its documents. Without ``circumstances`` it counts as just received.

        Routes not evaluated within the CPU time limit are undecided: the current deadline's limit, else ``LIMIT``.

        Raises:
            Deferred: the computation has to be repeated off the event loop.
        """
        evaluation = Evaluation(self, event, fetched, circumstances or Circumstances(event.received_at))
        if current() is not None:
            return evaluation.run()
        with within(Deadline(LIMIT)):
            return evaluation.run()

    def undecided(self, event: Event, fetched: Fetched, circumstances: Circumstances, overdue: str) -> Routing:
        """The result of an evaluation that did not end: every route is undecided, with ``overdue`` as the reason."""
        return Evaluation(self, event, fetched, circumstances, overdue).run()


def with_words(action: RoutedAction, document: Mapping[str, Any], words: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A document with the delivery's own words added, and ``throttle`` if the action has one."""
    if action.gating is not None and not action.digests:
        words = {"throttle": NOTHING_THROTTLED, **(words or {})}
    return {**document, **words} if words else document

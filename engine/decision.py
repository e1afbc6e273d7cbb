"""What routing an event comes to: a verdict for every route and document, and the deliveries that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.route import Needs, Route, RoutedAction
from engine.truth import Truth


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier evaluation already settled of one route and document: ``pending`` actions are still open."""

    matched: bool
    pending: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """A route's verdict on one document, and why.

    ``fires`` are the actions that follow; ``skipped`` says of the others why not;
    ``pending`` wait for data. ``reason`` is empty where the route simply matched.
    """

    route: str
    index: int
    run_id: str | None
    truth: Truth
    reason: str = ""
    fires: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether no later evaluation can add to it."""
        return self.truth is not Truth.WANTING and not self.pending

    def to_json(self) -> dict[str, Any]:
        """As kept in the store; what is empty is left out."""
        data: dict[str, Any] = {"route": self.route, "index": self.index, "verdict": self.truth.name.lower()}
        extra = {
            "run_id": self.run_id,
            "reason": self.reason,
            "fires": list(self.fires),
            "skipped": dict(self.skipped),
            "pending": list(self.pending),
        }
        return data | {key: value for key, value in extra.items() if value}


@dataclass(frozen=True, slots=True)
class Plan:
    """One delivery to be made. ``document`` is what it was decided on."""

    delivery_id: str
    route: Route
    action: RoutedAction
    index: int
    run_id: str | None
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything one evaluation of an event came to.

    ``wanting`` names the data that would decide the rest. ``matched`` counts the documents and routes
    that match, those that an earlier evaluation settled among them.
    """

    decisions: tuple[Decision, ...]
    plans: tuple[Plan, ...]
    wanting: Needs
    unmatched_reason: str | None
    matched: int = 0


def delivery_id(event_id: str, index: int, route_id: str, action: str) -> str:
    """The idempotency key of a delivery: the same for one event, run, route and action, for ever.

    It begins like its event's id, with the time: ids of one time lie together in the store's indexes.
    """
    name = f"{event_id}\0{index}\0{route_id}\0{action}".encode(errors="surrogatepass")
    return event_id.replace("-", "")[:12] + hashlib.blake2b(name, digest_size=10).hexdigest()


def known_from(evaluations: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], Known]:
    """What earlier evaluations settled, read back from the decisions the store kept (oldest first)."""
    known: dict[tuple[int, str], Known] = {}
    for decision in _decisions_of(evaluations):
        if decision["verdict"] != Truth.WANTING.name.lower():
            pending = frozenset(decision.get("pending", ()))
            known[decision["index"], decision["route"]] = Known(decision["verdict"] == "true", pending)
    return known


def _decisions_of(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for evaluation in evaluations:
        yield from evaluation["decisions"]

"""What routing an event comes to: a verdict for every route and document, and the deliveries that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.times import clock
from engine.core.truth import Truth
from engine.rules.conditions import Filter
from engine.rules.route import Needs, Route, RoutedAction
from engine.store.records import Control, Gate


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier evaluation already settled of one route and document: ``pending`` actions are still open."""

    matched: bool
    pending: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an evaluation depends on besides the event and the rules. ``now`` is in Unix seconds.

    ``known`` is what an earlier evaluation settled: it is not decided twice. ``final`` takes what is
    still undecided for want of data as undecided for good. ``mutes`` are the muted routes, by id.
    ``looked``: feedback was asked for just now, so what is not there is not there yet.
    """

    now: float
    known: Mapping[tuple[int, str], Known] = field(default_factory=dict)
    final: bool = False
    mutes: Mapping[str, Control] = field(default_factory=dict)
    looked: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A route's verdict on one document, and why.

    ``fires`` are the actions that follow; ``skipped`` says of the others why not; ``pending``
    wait for data. ``notes`` says of some that follow what is to be known about them: held until
    when, with which others they are counted. ``reason`` is empty where the route simply matched.
    ``absent`` is what was absent where the route, or one of its actions, is undecided for that
    reason.
    """

    route: str
    index: int
    run_id: str | None
    truth: Truth
    reason: str = ""
    fires: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    absent: str = ""

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
            "notes": dict(self.notes),
            "absent": self.absent,
        }
        return data | {key: value for key, value in extra.items() if value}


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An action of a route that matched, and that is not done for a reason of time."""

    route: str
    action: str
    why: Literal["muted", "inactive"]


@dataclass(frozen=True, slots=True)
class Considered:
    """What was said of one action: for one that follows ``reason`` is what is to be known about it.

    ``absent`` is what was absent where it is undecided for that reason.
    """

    truth: Truth
    reason: str
    gate: Gate | None = None
    due_at: float | None = None
    shut: bool = False
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One delivery to be made. ``document`` is what it was decided on.

    ``gate`` is what stands before it. ``due_at`` is when it is to be made, in Unix seconds; None: now.
    """

    delivery_id: str
    route: Route
    action: RoutedAction
    index: int
    run_id: str | None
    document: Mapping[str, Any]
    gate: Gate | None = None
    due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything one evaluation of an event came to.

    ``wanting`` names the data that would decide the rest. ``matched`` counts the runs that a route matched, those that
    an earlier evaluation settled among them; ``fallback``, apart from them, those for which a route under ``unmatched``
    fired. A route that sees the whole event counts for all its runs. ``awaiting`` says for what feedback routes wait,
    and until when (Unix seconds). ``held_back`` are actions that would fire at another time. ``overdue`` says that the
    evaluation reached its limit, and where; empty if it did not.
    """

    decisions: tuple[Decision, ...]
    plans: tuple[Plan, ...]
    wanting: Needs
    unmatched_reason: str | None
    matched: int = 0
    fallback: int = 0
    awaiting: Mapping[str, float] = field(default_factory=dict)
    held_back: tuple[HeldBack, ...] = ()
    overdue: str = ""


def why_not(filter_: Filter, truth: Truth, at: int, document: Mapping[str, Any]) -> tuple[str, str]:
    """Why a filter does not hold whose condition at a place decided that, and what is absent, if that is why."""
    condition = filter_.conditions[at]
    if truth is Truth.FALSE:
        return condition.text, ""
    if truth is Truth.UNDECIDED and (absent := condition.absent(document)):
        return f"{condition.text}: {absent} is absent", absent
    return f"{condition.text}: {condition.explain(document).reason}", ""


def is_muting(control: Control, now: float) -> bool:
    """Whether a mute is still in force at ``now`` (Unix seconds)."""
    return control.until_at is None or control.until_at > now


def muted_message(control: Control) -> str:
    """Until when a route is muted, by whom and why."""
    until = "until it is unmuted" if control.until_at is None else f"until {clock(control.until_at)}"
    return f"muted {until} by {control.set_by}" + (f": {control.reason}" if control.reason else "")


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

"""The result of routing an event: a decision for each route and document, and the deliveries that follow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from engine.core.decisions import MUTED
from engine.core.payload_schema import RUN_FIELDS
from engine.core.suggest import nearest
from engine.core.times import clock
from engine.core.truth import Truth
from engine.rules.conditions import Filter
from engine.rules.route import Needs, Route, RoutedAction
from engine.store.records import Control, Gate

#: Characters of a reason that go into a log line.
_LONGEST_REASON: Final = 300
#: An absent field of the run: ``run.latncy``, ``$.runs[*].latncy``.
_RUN_FIELD: Final = re.compile(r"(?:run|\$\.runs\[(?:\*|0)\])\.([A-Za-z_]{1,60})")
#: Fields that the engine adds to a run.
_ENGINE_FIELDS: Final = ("url", "latency", "cost")


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier evaluation settled for one route and document; ``pending`` actions are still open."""

    matched: bool
    pending: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an evaluation depends on besides the event and the rules. ``now`` is in Unix seconds.

    ``known`` is what an earlier evaluation settled; it is not decided again. With ``final`` a route that
    still lacks data is undecided for good. ``mutes`` are the mutes by route id.
    ``looked``: feedback was just fetched, so feedback that is missing does not exist yet.
    """

    now: float
    known: Mapping[tuple[int, str], Known] = field(default_factory=dict)
    final: bool = False
    mutes: Mapping[str, Control] = field(default_factory=dict)
    looked: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A route's verdict on one document, and the reason.

    ``fires`` are the actions to deliver, ``skipped`` gives the reason for each other action, ``pending``
    actions wait for data. ``notes`` adds facts about firing actions, such as until when they are held.
    ``reason`` is empty if the route simply matched. ``absent`` names the absent value if the route or
    one of its actions is undecided because of it.
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
        """As stored; empty fields are left out."""
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
    """An action of a matched route that does not run because of a mute or its active hours."""

    route: str
    action: str
    why: Literal["muted", "inactive"]


@dataclass(frozen=True, slots=True)
class ActionVerdict:
    """Whether one action fires, and why not; if it fires, ``reason`` is a note about it.

    ``absent`` names the absent value if the action is undecided because of it; ``inactive``: outside its hours.
    """

    truth: Truth
    reason: str
    gate: Gate | None = None
    due_at: float | None = None
    inactive: bool = False
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One delivery to create. ``document`` is the one it was decided on.

    ``gate`` is its throttle or digest. ``due_at`` is when to deliver, in Unix seconds; None: now.
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
    """The result of one evaluation of an event.

    ``wanting`` names the data that would decide the rest. ``matched`` counts the runs that a route matched, in this or
    an earlier evaluation; ``fallback`` counts separately the runs for which a route under ``unmatched`` fired. A route
    that sees the whole event counts for all its runs. ``awaiting`` maps the reason of each wait for feedback to its
    end (Unix seconds). ``held_back`` are actions that would fire at another time. ``overdue`` says where the
    evaluation reached its time limit; empty if it did not.
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
    """Why a filter does not hold, given the condition that decided it; and the absent value, if that is the reason."""
    condition = filter_.conditions[at]
    if truth is Truth.FALSE:
        return condition.text, ""
    if truth is Truth.UNDECIDED and (absent := condition.absent(document)):
        return f"{condition.text}: {absent} is absent", absent
    return f"{condition.text}: {condition.explain(document).reason}", ""


def why_undecided(decisions: Iterable[Decision]) -> str:
    """The reason of the first undecided route, on one line for the log; empty if there is none."""
    decision = next((one for one in decisions if one.truth is Truth.UNDECIDED), None)
    if decision is None:
        return ""
    field = _RUN_FIELD.fullmatch(decision.absent)
    near = nearest(field[1], (*RUN_FIELDS, *_ENGINE_FIELDS)) if field and field[1] not in RUN_FIELDS else ""
    reason = " ".join(f"{decision.route}: {decision.reason}".split())
    hint = f"; did you mean {near!r}?" if near else ""
    return (reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…") + hint


def is_muting(control: Control, now: float) -> bool:
    """Whether a mute is still in force at ``now`` (Unix seconds)."""
    return control.until_at is None or control.until_at > now


def muted_message(control: Control) -> str:
    """Until when a route is muted, by whom and why."""
    until = "until it is unmuted" if control.until_at is None else f"until {clock(control.until_at)}"
    return f"{MUTED}{until} by {control.set_by}" + (f": {control.reason}" if control.reason else "")


def delivery_id(event_id: str, index: int, route_id: str, action: str) -> str:
    """The idempotency key of a delivery. It must never change for one event, run, route and action.

    It starts with the event id's time prefix, so ids of one time are close together in the store's indexes.
    """
    name = f"{event_id}\0{index}\0{route_id}\0{action}".encode(errors="surrogatepass")
    return event_id.replace("-", "")[:12] + hashlib.blake2b(name, digest_size=10).hexdigest()


def known_from(evaluations: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], Known]:
    """What earlier evaluations settled, from their stored decisions (oldest first)."""
    known: dict[tuple[int, str], Known] = {}
    for decision in _decisions_of(evaluations):
        if decision["verdict"] != Truth.WANTING.name.lower():
            pending = frozenset(decision.get("pending", ()))
            known[decision["index"], decision["route"]] = Known(decision["verdict"] == "true", pending)
    return known


def _decisions_of(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for evaluation in evaluations:
        yield from evaluation["decisions"]

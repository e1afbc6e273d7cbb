"""Routes that stay undecided because a value in their conditions is absent. They never match, so users are warned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.core.event import Event
from engine.rules.decision import Decision, Routing
from engine.worker.observer import Observer

#: How many different absent values are counted for one route: their number depends on the data.
_MOST_PARTS = 20


@dataclass(slots=True)
class Undecided:
    """One route's number of verdicts, how many of them were undecided because of an absent value, and which values."""

    verdicts: int = 0
    absent: int = 0
    parts: Counter[str] = field(default_factory=Counter)

    def add(self, decision: Decision) -> None:
        """Count a final verdict."""
        self.verdicts += 1
        if decision.absent:
            self.absent += 1
            if decision.absent in self.parts or len(self.parts) < _MOST_PARTS:
                self.parts[decision.absent] += 1

    @property
    def mostly(self) -> bool:
        """Whether more than half of the verdicts were undecided because of an absent value."""
        return self.absent * 2 > self.verdicts

    @property
    def part(self) -> str:
        """The value that was absent most often."""
        return self.parts.most_common(1)[0][0] if self.parts else ""

    def to_json(self) -> dict[str, Any]:
        """For the routes' views."""
        return {"absent": self.absent, "verdicts": self.verdicts, "mostly": self.mostly, "part": self.part}


def mostly_undecided(view: Mapping[str, Any]) -> str:
    """A route's view as text."""
    times = f"{view['absent']} of {view['verdicts']} verdicts"
    return f"mostly undecided: {view['part']} is absent ({times})"


def count(decisions: Iterable[Decision], found: dict[str, Undecided]) -> None:
    """Add the final verdicts to the counts by route."""
    for decision in decisions:
        if decision.settled:
            found.setdefault(decision.route, Undecided()).add(decision)


class UndecidedRoutes(Observer):
    """Counts since the current configuration was loaded. ``mask`` removes secrets from what is shown."""

    def __init__(self, mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        self._hash = ""
        self._found: dict[str, Undecided] = {}

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """Count every final verdict."""
        count(routing.decisions, self._found)

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """Start again if the configuration changed."""
        if config_hash != self._hash:
            self._hash, self._found = config_hash, {}

    def views(self) -> Mapping[str, dict[str, Any]]:
        """By route, those with verdicts that were undecided because of an absent value."""
        shown = {route: one.to_json() for route, one in self._found.items() if one.absent}
        return {route: one | {"part": self._mask(one["part"])} for route, one in shown.items()}

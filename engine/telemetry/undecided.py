"""Routes that stay undecided because what their conditions name is absent: they never fire, so people are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.core.event import Event
from engine.rules.decision import Decision, Routing
from engine.worker.observer import Observer

#: So many different parts are counted for one route; data decides how many there are.
_MOST_PARTS = 20


@dataclass(slots=True)
class Undecided:
    """Of one route: how many verdicts there were, how many of these were undecided for absence, and what was absent."""

    verdicts: int = 0
    absent: int = 0
    parts: Counter[str] = field(default_factory=Counter)

    def add(self, decision: Decision) -> None:
        """Count a verdict that stands."""
        self.verdicts += 1
        if decision.absent:
            self.absent += 1
            if decision.absent in self.parts or len(self.parts) < _MOST_PARTS:
                self.parts[decision.absent] += 1

    @property
    def mostly(self) -> bool:
        """Whether more than half of the verdicts were undecided for absence."""
        return self.absent * 2 > self.verdicts

    @property
    def part(self) -> str:
        """What was absent most often."""
        return self.parts.most_common(1)[0][0] if self.parts else ""

    def to_json(self) -> dict[str, Any]:
        """For the routes' views."""
        return {"absent": self.absent, "verdicts": self.verdicts, "mostly": self.mostly, "part": self.part}


def mostly_undecided(view: Mapping[str, Any]) -> str:
    """A route's view in words."""
    times = f"{view['absent']} of {view['verdicts']} verdicts"
    return f"mostly undecided: {view['part']} is absent ({times})"


def count(decisions: Iterable[Decision], found: dict[str, Undecided]) -> None:
    """Add the verdicts that stand to the counts by route."""
    for decision in decisions:
        if decision.settled:
            found.setdefault(decision.route, Undecided()).add(decision)


class UndecidedRoutes(Observer):
    """Counts since the configuration at work was loaded. ``mask`` takes secrets out of what is shown."""

    def __init__(self, mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        self._hash = ""
        self._found: dict[str, Undecided] = {}

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """Every verdict that stands."""
        count(routing.decisions, self._found)

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """Another configuration has other conditions."""
        if config_hash != self._hash:
            self._hash, self._found = config_hash, {}

    def views(self) -> Mapping[str, dict[str, Any]]:
        """By route, those that were undecided for absence at all."""
        shown = {route: one.to_json() for route, one in self._found.items() if one.absent}
        return {route: one | {"part": self._mask(one["part"])} for route, one in shown.items()}

"""How much may go to a destination: what the author wrote over what the engine knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

#: The pattern that every destination fits.
DEFAULT: Final = "default"
#: Destinations whose limits are remembered, before all of them are worked out anew.
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """Attempts under way at once, and how many may begin in a second (``rate`` 0: any number).

    ``burst`` of them may begin at once after a rest.
    """

    concurrency: int
    rate: float = 0.0
    burst: int = 1


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """Limits as written; None is what a less exact pattern says."""

    concurrency: int | None = None
    rate: float | None = None
    burst: int | None = None

    def over(self, base: LimitsSpec) -> LimitsSpec:
        """These, with what they leave open taken from ``base``."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return LimitsSpec(**{name: getattr(base, name) if value is None else value for name, value in own.items()})


#: What holds where the author says nothing. Slack takes a message a second and channel, and short bursts
#: (docs.slack.dev, "Rate limits"); LangSmith 1000 requests in ten seconds and key (docs: "Cloud rate limits").
BUILT_IN: Final[Mapping[str, LimitsSpec]] = {
    DEFAULT: LimitsSpec(concurrency=32, rate=0.0, burst=1),
    "slack *": LimitsSpec(concurrency=4, rate=1.0, burst=3),
    "langsmith": LimitsSpec(concurrency=16, rate=80.0, burst=100),
}


@dataclass(frozen=True, slots=True)
class LimitTable:
    """Limits by pattern: a destination's name, or its start and ``*``, or ``default``. The most exact counts.

    What it leaves open, the next one says; ``written`` goes over what is built in, pattern by pattern.
    """

    written: Mapping[str, LimitsSpec] = field(default_factory=dict)
    _known: dict[str, Limits] = field(default_factory=dict, repr=False, compare=False)

    @property
    def patterns(self) -> Mapping[str, LimitsSpec]:
        """All that hold, the built-in ones among them."""
        empty = LimitsSpec()
        names = [*BUILT_IN, *(name for name in self.written if name not in BUILT_IN)]
        return {name: self.written.get(name, empty).over(BUILT_IN.get(name, empty)) for name in names}

    def of(self, destination: str) -> Limits:
        """The limits of a destination."""
        found = self._known.get(destination)
        if found is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            found = self._known[destination] = self._work_out(destination)
        return found

    def _work_out(self, destination: str) -> Limits:
        patterns, spec = self.patterns, LimitsSpec()
        for name in sorted((name for name in patterns if _fits(name, destination)), key=_exactness):
            spec = patterns[name].over(spec)
        return Limits(spec.concurrency or 1, spec.rate or 0.0, spec.burst or 1)


def _fits(pattern: str, destination: str) -> bool:
    if pattern == DEFAULT:
        return True
    return destination.startswith(pattern[:-1]) if pattern.endswith("*") else destination == pattern


def _exactness(pattern: str) -> tuple[int, int]:
    if pattern == DEFAULT:
        return 0, 0
    return (1, len(pattern)) if pattern.endswith("*") else (2, 0)

"""Limits of destinations: the author's settings, and defaults for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Final

#: The pattern that matches every destination.
DEFAULT: Final = "default"
#: How many destinations' limits are cached.
_MOST_CACHED = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """The number of concurrent attempts, and of new attempts per second (``rate`` 0: unlimited).

    ``burst`` attempts may begin at once after a pause.
    """

    concurrency: int
    rate: float = 0.0
    burst: int = 1


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """Limits as written. None is inherited from a less specific pattern."""

    concurrency: int | None = None
    rate: float | None = None
    burst: int | None = None

    def over(self, base: LimitsSpec) -> LimitsSpec:
        """These limits, with missing ones taken from ``base``."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return LimitsSpec(**{name: getattr(base, name) if value is None else value for name, value in own.items()})


#: The defaults. Slack accepts one message per second and channel, and short bursts (docs.slack.dev, "Rate limits");
#: LangSmith accepts 1000 requests in ten seconds per key (docs: "Cloud rate limits").
BUILT_IN: Final[Mapping[str, LimitsSpec]] = {
    DEFAULT: LimitsSpec(concurrency=32, rate=0.0, burst=1),
    "slack *": LimitsSpec(concurrency=4, rate=1.0, burst=3),
    "langsmith": LimitsSpec(concurrency=16, rate=80.0, burst=100),
}


@dataclass(frozen=True, slots=True)
class LimitTable:
    """Limits by pattern: a destination's name, a prefix with ``*``, or ``default``. The most specific pattern wins.

    Missing limits come from the next pattern. ``written`` overrides the built-in limits pattern by pattern.
    """

    written: Mapping[str, LimitsSpec] = field(default_factory=dict)
    #: The limits of a destination, by its name.
    of: Callable[[str], Limits] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", lru_cache(_MOST_CACHED)(self._compute))

    @property
    def patterns(self) -> Mapping[str, LimitsSpec]:
        """All patterns, including the built-in ones."""
        empty = LimitsSpec()
        names = [*BUILT_IN, *(name for name in self.written if name not in BUILT_IN)]
        return {name: self.written.get(name, empty).over(BUILT_IN.get(name, empty)) for name in names}

    def _compute(self, destination: str) -> Limits:
        spec = LimitsSpec()
        for name, each in sorted(self.patterns.items(), key=lambda item: _specificity(item[0])):
            prefix = "" if name == DEFAULT else name.removesuffix("*")
            if destination == name or (destination.startswith(prefix) and prefix != name):
                spec = each.over(spec)
        return Limits(spec.concurrency or 1, spec.rate or 0.0, spec.burst or 1)


def _specificity(pattern: str) -> tuple[int, int]:
    return (0 if pattern == DEFAULT else 1 if pattern.endswith("*") else 2, len(pattern))

"""Ratios within rounds: what disturbs the machine for a while disturbs both of a round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of some rounds' ratios, with the lowest and the highest of them."""

    median: float
    low: float
    high: float


def ratio(pairs: Iterable[Pair]) -> Ratio:
    """The first of each pair divided by its second.

    Raises:
        ValueError: there are no pairs.
    """
    ratios = [first / second for first, second in pairs]
    if not ratios:
        raise ValueError("no rounds")
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True, slots=True)
class Bound:
    """What a ratio may be: at least, or at most (where less is better)."""

    value: float
    at_most: bool = False

    def holds(self, measured: float) -> bool:
        return measured <= self.value if self.at_most else measured >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g}"

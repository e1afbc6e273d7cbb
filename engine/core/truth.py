"""Four truth values: Kleene's three, and a variant of *undecided* for missing data."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Truth(IntEnum):
    """The result of a condition, a route or a whole filter. Only ``TRUE`` matches.

    ``WANTING`` is undecided because data is missing. It may be decided once the data is fetched.
    """

    WANTING = -2
    UNDECIDED = -1
    FALSE = 0
    TRUE = 1


def invert(value: Truth) -> Truth:
    """Kleene's *not*: undecided stays undecided."""
    return value if value < 0 else Truth(1 - value)


def conjoin(values: Iterable[Truth]) -> Truth:
    """Kleene's *and*: false if any is false, else wanting, else undecided, else true. Stops at the first false."""
    worst = Truth.TRUE
    for value in values:
        if value is Truth.FALSE:
            return Truth.FALSE
        worst = min(worst, value)
    return worst


def disjoin(values: Iterable[Truth]) -> Truth:
    """Kleene's *or*: true if any is true, else wanting, else undecided, else false. Stops at the first true."""
    best = Truth.FALSE
    for value in values:
        if value is Truth.TRUE:
            return Truth.TRUE
        best = min(best, value)
    return best

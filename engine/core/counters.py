"""Numbers that grow where things happen, at the price of an addition, and are read when somebody asks.

What counts them may be another thread than what reads them, but it is one thread: nothing is locked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate

Labels = tuple[str, ...]


class Counts:
    """Counters by the values of their labels."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count one more."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Forget all that is not wanted."""
        self._values = {labels: value for labels, value in self._values.items() if wanted(labels)}

    def read(self) -> dict[Labels, float]:
        """As they stand."""
        return self._values.copy()


class Distribution:
    """How many values lay at or below each of some bounds, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulated counts, each by its bound as text, the last by ``+Inf``; and the sum."""
        names = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts.copy())), strict=True)), self._sum


class Distributions:
    """Distributions by the values of their labels, all with the same bounds."""

    __slots__ = ("_bounds", "_values")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._values: dict[Labels, Distribution] = {}

    def of(self, *labels: str) -> Distribution:
        """The one of these labels."""
        found = self._values.get(labels)
        if found is None:
            found = self._values[labels] = Distribution(self._bounds)
        return found

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Forget all that are not wanted."""
        self._values = {labels: value for labels, value in self._values.items() if wanted(labels)}

    def read(self) -> dict[Labels, Distribution]:
        """All there are."""
        return self._values.copy()


class Names:
    """Which names may be labels: those that are known, up to a number. All others are ``other``.

    A label's values are kept for ever by who reads them; what a sender can choose must not be one.
    """

    OTHER = "other"

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: frozenset[str] = frozenset()

    def know(self, names: Sequence[str]) -> None:
        """These from now on, the first of them where there are too many."""
        self._known = frozenset(names[: self._most])

    def meet(self, name: str) -> str:
        """As ``label``, but a new name is known from now on, while there is room."""
        if name not in self._known and len(self._known) < self._most:
            self._known |= {name}
        return self.label(name)

    def label(self, name: str) -> str:
        """The name, or ``other``."""
        return name if name in self._known else self.OTHER

    def has(self, label: str) -> bool:
        """Whether a label may stay."""
        return label == self.OTHER or label in self._known

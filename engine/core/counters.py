"""Counters and histograms for metrics: cheap to increment, read on request.

One thread writes, another may read. There are no locks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

Labels = tuple[str, ...]


class Counts:
    """Counters by the values of their labels."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add ``amount``."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Remove the label values that ``wanted`` rejects."""
        self._values = {labels: value for labels, value in self._values.items() if wanted(labels)}

    def read(self) -> dict[Labels, float]:
        """A copy of the current values."""
        return self._values.copy()


class Distribution:
    """A histogram: how many values are at or below each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def all(self) -> Mapping[Labels, Distribution]:
        """Itself, without labels."""
        return {(): self}

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative counts with their bounds as text, the last one ``+Inf``; and the sum."""
        names = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts.copy())), strict=True)), self._sum


class Distributions:
    """Histograms by the values of their labels, all with the same bounds."""

    __slots__ = ("_bounds", "_values")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._values: dict[Labels, Distribution] = {}

    def of(self, *labels: str) -> Distribution:
        """The histogram for these label values."""
        found = self._values.get(labels)
        if found is None:
            found = self._values[labels] = Distribution(self._bounds)
        return found

    def all(self) -> Mapping[Labels, Distribution]:
        """A copy of all histograms by label values."""
        return self._values.copy()


class Names:
    """The names that may be label values, up to a maximum. All others become ``other``.

    Monitoring systems keep every label value, so a sender must not be able to create new ones.
    """

    OTHER = "other"

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: frozenset[str] = frozenset()

    def know(self, names: Sequence[str]) -> None:
        """Replace the known names; past the maximum the first ones are used."""
        self._known = frozenset(names[: self._most])

    def meet(self, name: str) -> str:
        """As ``label``, but add a new name while there is room."""
        if name not in self._known and len(self._known) < self._most:
            self._known |= {name}
        return self.label(name)

    def label(self, name: str) -> str:
        """The name if it is known, else ``other``."""
        return name if name in self._known else self.OTHER

    def has(self, label: str) -> bool:
        """Whether a label value is in use."""
        return label == self.OTHER or label in self._known

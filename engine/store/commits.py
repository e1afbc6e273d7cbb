"""Statistics of a store's transactions: their duration, and how many operations share one."""

from __future__ import annotations

from engine.core.counters import Distribution

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_VERBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Commits:
    """Duration and size of every transaction, including failed ones."""

    __slots__ = ("seconds", "verbs")

    def __init__(self) -> None:
        self.seconds = Distribution(_SECONDS)
        self.verbs = Distribution(_VERBS)

    def add(self, verbs: int, seconds: float) -> None:
        """Count one transaction."""
        self.verbs.add(verbs)
        self.seconds.add(seconds)

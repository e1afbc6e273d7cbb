"""A token bucket: how many attempts may begin in a time."""

from __future__ import annotations

import math


class Bucket:
    """Fills with ``rate`` tokens a second up to ``burst``. ``rate`` 0: there are always enough."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = float(burst), now

    def change(self, rate: float, burst: int, now: float) -> None:
        """Go on under other limits, with what is there."""
        self._fill(now)
        if not self.rate:
            self._tokens = float(burst)
        self.rate, self.burst = rate, burst
        self._tokens = min(self._tokens, float(burst))

    def _fill(self, now: float) -> None:
        # A clock that is set back fills nothing, and must not make it wait for the time to come again.
        self._tokens = min(self._tokens + max(now - self._at, 0.0) * self.rate, float(self.burst))
        self._at = now

    def ready(self, now: float) -> int | None:
        """How many tokens are there; None: any number."""
        if not self.rate:
            return None
        self._fill(now)
        return int(self._tokens + 1e-9)

    def take(self, now: float) -> None:
        """Take one that is there."""
        if self.rate:
            self._fill(now)
            self._tokens = max(self._tokens - 1.0, 0.0)

    def next_at(self, now: float) -> float:
        """When there is one; now, if there is."""
        if self.ready(now) != 0:
            return now
        return now + math.nextafter((1.0 - self._tokens) / self.rate, math.inf)

    def is_full(self, now: float) -> bool:
        """Whether nothing is left of what was taken."""
        return self.ready(now) in (None, self.burst)

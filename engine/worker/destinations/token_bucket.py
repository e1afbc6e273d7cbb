"""A token bucket: how many attempts may start in a time."""

from __future__ import annotations

import math


class TokenBucket:
    """Fills with ``rate`` tokens a second up to ``burst``. With ``rate`` 0 there is no limit."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = float(burst), now

    def set_limits(self, rate: float, burst: int, now: float) -> None:
        """Use other limits; tokens up to the new ``burst`` stay."""
        self._fill(now)
        if not self.rate:
            self._tokens = float(burst)
        self.rate, self.burst = rate, burst
        self._tokens = min(self._tokens, float(burst))

    def _fill(self, now: float) -> None:
        # A clock that was set back adds no tokens, and filling goes on from its new time.
        self._tokens = min(self._tokens + max(now - self._at, 0.0) * self.rate, float(self.burst))
        self._at = now

    def ready(self, now: float) -> int | None:
        """How many tokens there are; None without a limit."""
        if not self.rate:
            return None
        self._fill(now)
        return int(self._tokens + 1e-9)

    def take(self, now: float) -> None:
        """Take one token. There must be one."""
        if self.rate:
            self._fill(now)
            self._tokens = max(self._tokens - 1.0, 0.0)

    def next_at(self, now: float) -> float:
        """When there is a token, in Unix seconds; ``now`` if there is one."""
        if self.ready(now) != 0:
            return now
        return now + math.nextafter((1.0 - self._tokens) / self.rate, math.inf)

    def is_full(self, now: float) -> bool:
        """Whether the bucket is full."""
        return self.ready(now) in (None, self.burst)

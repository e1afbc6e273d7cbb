"""Rate limits as the services document them: a number of requests in a window, then 429 until it ends."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_UUID = r"[0-9a-fA-F-]{36}"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``count`` requests in ``seconds``, for requests whose ``METHOD /path`` the pattern matches from its start."""

    count: int
    seconds: float
    pattern: str = ""


#: LangSmith's, per API key (docs: Cloud rate limits; the first that matches counts).
LANGSMITH_LIMITS = (
    RateLimit(15, 10, r"POST /(v2/)?runs/query$"),
    RateLimit(30, 60, rf"GET /(v2/)?runs/{_UUID}$"),
    RateLimit(2000, 10, r"POST /feedback$"),
    RateLimit(2000, 10, r"PATCH /runs"),
    RateLimit(5000, 60, r"GET /examples"),
    RateLimit(6000, 10, r"POST /runs/multipart$"),
    RateLimit(2000, 10, r"GET /info$"),
    RateLimit(1, 10, r"POST /runs/stats$"),
    RateLimit(10, 60, r"POST .*/trigger$"),
    RateLimit(1000, 10),
)
#: Slack's, per channel: about one message a second (docs: Rate limits), short bursts tolerated.
SLACK_LIMITS = (RateLimit(1, 1),)


class RateLimiter:
    """Counts requests in fixed windows. ``clock`` is in seconds."""

    def __init__(self, limits: Sequence[RateLimit], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = tuple((limit, re.compile(limit.pattern)) for limit in limits)
        self._clock = clock
        self._windows: dict[tuple[RateLimit, str], tuple[float, int]] = {}

    def refuse(self, request: str, key: str) -> int | None:
        """The whole seconds to wait (never 0) if the request exceeds its limit; else None."""
        limit = next((limit for limit, pattern in self._limits if pattern.match(request)), None)
        if limit is None:
            return None
        now = self._clock()
        start, used = self._windows.get((limit, key), (now, 0))
        if now >= start + limit.seconds:
            start, used = now, 0
        self._windows[limit, key] = (start, used + 1)
        return max(1, math.ceil(start + limit.seconds - now)) if used >= limit.count else None

"""The retry policy: how often and how long a delivery is attempted."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from engine.action.failures import Failure

#: How long LangSmith waits for an answer, in seconds (docs: Webhooks, "Webhook Delivery").
LANGSMITH_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try. Delays are in seconds; ``attempts`` includes the first one.

    ``langsmith`` is exactly LangSmith's own delivery policy: up to 2 retries on a connection failure or a 5xx, none
    on a timeout or a 4xx (docs: Webhooks, "Webhook Delivery"). It applies to deliveries only; missing data is
    retried by ``data``, which is an ``engine`` policy.
    """

    attempts: int = 8
    within: float = 86400.0
    shortest: float = 1.0
    longest: float = 3600.0
    kind: Literal["engine", "langsmith"] = "engine"
    data: RetryPolicy | None = None
    #: The growth of the maximum delay from attempt to attempt: with 4, eight attempts usually span an hour.
    growth: float = 4.0

    @classmethod
    def of_langsmith(cls, data: RetryPolicy | None = None) -> RetryPolicy:
        """LangSmith's own policy. It documents only an \"exponential\" backoff; this one starts at a second."""
        return cls(attempts=3, within=3600.0, shortest=1.0, longest=4.0, kind="langsmith", data=data, growth=2.0)

    def for_data(self) -> RetryPolicy:
        """The policy for missing data and evaluations: never LangSmith's, which applies to deliveries only."""
        if self.kind == "engine":
            return self
        return self.data or RetryPolicy()

    def next_delay(self, failure: Failure, *, attempt: int, waited: float, rng: random.Random) -> float | None:
        """Seconds until the next attempt after attempt number ``attempt``, or None to give up.

        ``waited`` is the time since the delivery was first due. The delay is random (full jitter) below a ceiling that
        grows from ``shortest`` to ``longest``, and at least what the destination requested. Attempts that the
        destination postponed are not counted; only ``within`` ends them.
        """
        if failure.cause == "data" and self.kind != "engine":
            return self.for_data().next_delay(failure, attempt=attempt, waited=waited, rng=rng)
        if not self._wants_another(failure) or (self.spends(failure) and attempt >= self.attempts):
            return None
        # `min: 2h` without `max` means two hours, not the default maximum of one hour.
        longest = max(self.longest, self.shortest)
        ceiling = min(longest, self.shortest * self.growth ** min(attempt, 60))
        delay = max(rng.uniform(self.shortest / 2, ceiling), failure.after or 0.0)
        return delay if waited + delay <= self.within else None

    def spends(self, failure: Failure) -> bool:
        """Whether a failure counts towards ``attempts``."""
        return self.kind == "langsmith" or failure.health not in ("pause", "busy")

    def _wants_another(self, failure: Failure) -> bool:
        if self.kind == "langsmith":
            server_error = failure.status is not None and failure.status >= 500
            return failure.cause == "connection" or (failure.cause == "answer" and server_error)
        return failure.retry

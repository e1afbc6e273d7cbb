"""What follows a failed attempt: another one after a delay, or the end. One classifier for every HTTP action."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from engine.errors import Discard, EngineError, Retry, TemplateError, WantOfData

#: Statuses that say "not now". 401 is among them: a key that is mended in the configuration heals what waits.
#: 404 is final for all but feedback, whose action asks for a retry.
RETRIED_STATUSES = frozenset({401, 408, 425, 429, *range(500, 600)})
#: How long LangSmith waits for an answer, in seconds (docs: Webhooks, "Webhook Delivery").
LANGSMITH_TIMEOUT = 5.0
#: The longest pause a destination may ask for with Retry-After, in seconds.
LONGEST_RETRY_AFTER = 3600.0


class HttpFailure(EngineError):  # noqa: N818 - what came back, not a fault of ours
    """A destination answered with something other than 2xx."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str = "") -> None:
        excerpt = " ".join(body.split())[:200]
        super().__init__(f"HTTP {status}" + (f": {excerpt}" if excerpt else ""))
        self.status = status
        self.headers = headers


def check_response(status: int, headers: Mapping[str, str], body: str = "") -> None:
    """Do nothing for a 2xx; for anything else raise what the retry policy understands.

    Raises:
        HttpFailure: the status is not 2xx. ``body`` helps the person who reads the reason.
    """
    if not 200 <= status < 300:
        raise HttpFailure(status, headers, body)


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exception means for its delivery. ``after`` is the least delay in seconds, if one was asked for.

    ``expected`` is false for exceptions nobody foresaw: they are logged with their traceback.
    """

    retry: bool
    reason: str
    after: float | None = None
    status: int | None = None
    expected: bool = True
    cause: Literal["answer", "connection", "timeout", "action"] = "action"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try. Delays are in seconds; ``attempts`` counts the first one too.

    ``langsmith`` is LangSmith's own delivery policy to the letter: up to 2 retries on a
    connection failure or a 5xx, none on a timeout or a 4xx (docs: Webhooks, "Webhook Delivery").
    """

    attempts: int = 8
    within: float = 86400.0
    shortest: float = 1.0
    longest: float = 3600.0
    kind: Literal["engine", "langsmith"] = "engine"

    @classmethod
    def of_langsmith(cls) -> RetryPolicy:
        """LangSmith's own policy. Of its backoff only "exponential" is published; ours starts at a second."""
        return cls(attempts=3, within=3600.0, shortest=1.0, longest=4.0, kind="langsmith")

    def next_delay(self, failure: Failure, *, attempt: int, waited: float, rng: random.Random) -> float | None:
        """Seconds until the next attempt after attempt number ``attempt``, or None to give up.

        ``waited`` is how long ago the delivery was first due. Full jitter, doubling from
        ``shortest`` to ``longest``; never below what the destination asked for.
        """
        if not self._wants_another(failure) or attempt >= self.attempts:
            return None
        ceiling = min(self.longest, self.shortest * 2.0 ** min(attempt, 60))
        delay = max(rng.uniform(self.shortest / 2, ceiling), failure.after or 0.0)
        return delay if waited + delay <= self.within else None

    def _wants_another(self, failure: Failure) -> bool:
        if self.kind == "langsmith":
            server_error = failure.status is not None and failure.status >= 500
            return failure.cause == "connection" or (failure.cause == "answer" and server_error)
        return failure.retry


def classify(error: BaseException) -> Failure:
    """What an exception out of ``Action.run`` means: retried or final, and the reason for people."""
    match error:
        case Retry():
            return Failure(retry=True, reason=str(error), after=_bounded(error.after))
        case Discard():
            return Failure(retry=False, reason=str(error) or "discarded by the action")
        case TemplateError():
            return Failure(retry=False, reason=str(error))
        case WantOfData():
            return Failure(retry=True, reason=f"data wanting: {error}")
        case TimeoutError():
            return Failure(retry=True, reason=f"timed out: {error}" if str(error) else "timed out", cause="timeout")
        case _:
            return _classify_foreign(error)


def _classify_foreign(error: BaseException) -> Failure:
    for link in _chain(error):
        # Below 300 the destination said yes: what failed is what the action made of the answer.
        if (status := _status_of(link)) is not None and status >= 300:
            return _classify_status(status, _headers_of(link), str(error))
    if any(_is_connection_fault(link) for link in _chain(error)):
        return Failure(retry=True, reason=f"no connection: {error}", cause="connection")
    return Failure(retry=True, reason=f"{type(error).__name__}: {error}", expected=False)


def _classify_status(status: int, headers: Mapping[str, str], reason: str) -> Failure:
    after = parse_retry_after(headers)
    retry = status in RETRIED_STATUSES or (status == 403 and after is not None)
    return Failure(retry=retry, reason=reason, after=after if retry else None, status=status, cause="answer")


def parse_retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: a number or a date), bounded; None without a usable one."""
    raw = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if raw is None:
        return None
    text = str(raw).strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return _bounded(float(text))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    # An HTTP date is GMT whether it says so or not; with "-0000" the parser leaves the zone open.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return _bounded((at - (now or datetime.now(UTC))).total_seconds())


def _bounded(after: float | None) -> float | None:
    return None if after is None else min(max(after, 0.0), LONGEST_RETRY_AFTER)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from. SDKs wrap the one that knows the status (no cycles: ids are kept)."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _status_of(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    for holder in (error, response):
        for name in ("status", "status_code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def _headers_of(error: BaseException) -> Mapping[str, str]:
    for holder in (error, getattr(error, "response", None)):
        headers: Any = getattr(holder, "headers", None)
        if isinstance(headers, Mapping):
            return headers
    return {}


def _is_connection_fault(error: BaseException) -> bool:
    """Network faults of any client: aiohttp's and the standard library's are OSErrors, httpx's are named."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(
        names & {"ClientConnectionError", "TransportError", "LangSmithConnectionError", "APIConnectionError"}
    )

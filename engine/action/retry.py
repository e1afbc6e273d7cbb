"""What follows a failed attempt: another one after a delay, or the end. One classifier for every HTTP action."""

from __future__ import annotations

import errno
import random
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from engine.core.error_text import error_text, named_error
from engine.core.errors import DataTooLarge, Discard, EngineError, Retry, TemplateError, WantOfData
from engine.core.masking import shortened
from engine.core.network_errors import cannot_connect, network_words, words_of

#: Statuses that say "not now". 401 and 410 are among them: what is mended in the configuration heals what waits.
#: 404 is final for all but feedback, whose action asks for a retry.
RETRIED_STATUSES = frozenset({401, 408, 410, 425, 429, *range(500, 600)})
#: How long LangSmith waits for an answer, in seconds (docs: Webhooks, "Webhook Delivery").
LANGSMITH_TIMEOUT = 5.0
#: The longest pause a destination may ask for with Retry-After, in seconds.
LONGEST_RETRY_AFTER = 3600.0
#: How much of an answer a reason quotes, in characters.
_LONGEST_EXCERPT = 200

Cause = Literal["answer", "connection", "timeout", "data", "action"]
#: What an attempt says of its destination: it is healthy, nothing, it limits our rate (429, 403 with Retry-After), it
#: is busy and names a time (503 and others with Retry-After), it fails, the key is wrong, it is gone.
Says = Literal["healthy", "nothing", "pause", "busy", "failing", "refused", "gone"]

#: What came back is no HTTP: half an answer of a proxy, say. aiohttp puts an error with a status of its own around it.
_NO_ANSWERS = frozenset({"HttpProcessingError"})
#: Exceptions of HTTP clients, known by name so that none of them has to be imported here (nor installed: httpx and
#: its fork have the same names). A connection that did not come about in time is a failed connection, not a late
#: answer: nothing was sent.
_CONNECT_TIMEOUTS = frozenset({"ConnectionTimeoutError", "ConnectTimeout"})
_TIMEOUTS = frozenset({"TimeoutException", "APITimeoutError"})
_CONNECTION_FAULTS = frozenset({"ClientConnectionError", "ClientPayloadError", "TransportError"})
#: What HTTP clients raise for a URL that no request can be made to; a Location header's is not ours, and not meant.
_UNUSABLE_URLS = frozenset(
    {"InvalidURL", "InvalidSchema", "MissingSchema", "UnsupportedProtocol", "LocationParseError"}
)
#: What SDKs put around either; the exception inside knows better, where there is one.
_WRAPPERS = frozenset({"LangSmithConnectionError", "APIConnectionError"})
#: Errors of the network that Python has no class of their own for (errno(3)); Windows lacks some.
_NETWORK_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "EADDRNOTAVAIL", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH", "ENOBUFS", "ENOTCONN",
        "EPROTO", "ETIMEDOUT",
    )
    if hasattr(errno, name)
)  # fmt: skip


class HttpFailure(EngineError):  # noqa: N818 - what came back, not a fault of ours
    """A destination answered with something other than 2xx."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str = "") -> None:
        words = _redirection(headers) if 300 <= status < 400 else shortened(" ".join(body.split()), _LONGEST_EXCERPT)
        super().__init__(f"HTTP {status}" + (f": {words}" if words else ""))
        self.status = status
        self.headers = headers


def _redirection(headers: Mapping[str, str]) -> str:
    """Where a 3xx leads, and what to do about it."""
    target = " ".join(next((value for name, value in headers.items() if name.lower() == "location"), "").split())
    where = f"it redirects to {shortened(target, _LONGEST_EXCERPT)}, and " if target else ""
    return f"{where}redirects are not followed: configure the final address"


def check_response(status: int, headers: Mapping[str, str], body: str = "") -> None:
    """Do nothing for a 2xx; for anything else raise what the retry policy understands.

    ``read_response`` does this and reads the answer.

    Args:
        status: The HTTP status.
        headers: Of the answer; ``Retry-After`` counts.
        body: Of the answer, as text; 200 characters of it are kept in the reason.

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
    cause: Cause = "action"

    @property
    def says(self) -> Says:
        """What it says of the destination, for all deliveries that go there.

        Any answer shows that it lives, also one that refuses this delivery. What an action
        raises by itself, and data that is wanting, say nothing.
        """
        if self.cause in ("connection", "timeout"):
            return "failing"
        if self.cause != "answer" or self.status is None:
            return "nothing"
        if self.status in _SAYING:
            return _SAYING[self.status]
        if self.retry and self.after is not None:
            return "pause" if self.status == 403 else "busy"  # with 403 services limit rates, too
        return "failing" if 500 <= self.status < 600 else "healthy"


@dataclass(frozen=True, slots=True)
class Scope:
    """What an answer of one attempt is about, where that is less than the whole destination.

    Attributes:
        url: What a 410 stops; empty: the whole destination.
        credential: What a 401 stops: anything that tells credentials apart, neither kept nor shown; empty: the whole
            destination.
        service: What takes that credential, where it is more than the destination, such as ``slack``.
    """

    url: str = ""
    """What a 410 stops; empty: the whole destination."""
    credential: str = field(default="", repr=False)
    """What a 401 stops: anything that tells credentials apart, neither kept nor shown; empty: the whole destination."""
    service: str = ""
    """What takes that credential, where it is more than the destination, such as ``slack``."""


#: Statuses that say something by themselves.
_SAYING: Mapping[int, Says] = {401: "refused", 410: "gone", 429: "pause"}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try. Delays are in seconds; ``attempts`` counts the first one too.

    ``langsmith`` is LangSmith's own delivery policy to the letter: up to 2 retries on a
    connection failure or a 5xx, none on a timeout or a 4xx (docs: Webhooks, "Webhook Delivery").
    It is about deliveries: want of data follows ``data``, which is of the engine's own kind.
    """

    attempts: int = 8
    within: float = 86400.0
    shortest: float = 1.0
    longest: float = 3600.0
    kind: Literal["engine", "langsmith"] = "engine"
    data: RetryPolicy | None = None
    #: By how much the longest delay grows from attempt to attempt: with 4, eight attempts span an hour as a rule.
    growth: float = 4.0

    @classmethod
    def of_langsmith(cls, data: RetryPolicy | None = None) -> RetryPolicy:
        """LangSmith's own policy. Of its backoff only "exponential" is published; ours starts at a second."""
        return cls(attempts=3, within=3600.0, shortest=1.0, longest=4.0, kind="langsmith", data=data, growth=2.0)

    def for_data(self) -> RetryPolicy:
        """What want of data is retried by, and evaluations: never LangSmith's policy, which is about deliveries."""
        if self.kind == "engine":
            return self
        return self.data or RetryPolicy()

    def next_delay(self, failure: Failure, *, attempt: int, waited: float, rng: random.Random) -> float | None:
        """Seconds until the next attempt after attempt number ``attempt``, or None to give up.

        ``waited`` is how long ago the delivery was first due. Full jitter below a ceiling that grows
        from ``shortest`` to ``longest``; never below what the destination asked for. An attempt
        that was asked to come later is not counted: only ``within`` ends those.
        """
        if failure.cause == "data" and self.kind != "engine":
            return self.for_data().next_delay(failure, attempt=attempt, waited=waited, rng=rng)
        if not self._wants_another(failure) or (self.spends(failure) and attempt >= self.attempts):
            return None
        # Who writes `min: 2h` and no `max` means two hours, not the hour that is the default's most.
        longest = max(self.longest, self.shortest)
        ceiling = min(longest, self.shortest * self.growth ** min(attempt, 60))
        delay = max(rng.uniform(self.shortest / 2, ceiling), failure.after or 0.0)
        return delay if waited + delay <= self.within else None

    def spends(self, failure: Failure) -> bool:
        """Whether an attempt that failed so counts among ``attempts``."""
        return self.kind == "langsmith" or failure.says not in ("pause", "busy")

    def _wants_another(self, failure: Failure) -> bool:
        if self.kind == "langsmith":
            server_error = failure.status is not None and failure.status >= 500
            return failure.cause == "connection" or (failure.cause == "answer" and server_error)
        return failure.retry


def classify(error: BaseException) -> Failure:
    """What an exception out of ``Action.run`` means: retried or final, and the reason for people."""
    match error:
        case Retry():
            return Failure(retry=True, reason=error_text(error), after=_bounded(error.after))
        case Discard():
            return Failure(retry=False, reason=error_text(error) or "discarded by the action")
        case TemplateError():
            return Failure(retry=False, reason=error_text(error))
        case DataTooLarge():
            return Failure(retry=False, reason=f"data wanting: {error_text(error)}", cause="data")
        case WantOfData():
            return Failure(retry=True, reason=f"data wanting: {error_text(error)}", cause="data")
        case HttpFailure():
            return _classify_status(error.status, error.headers, error_text(error))
        case TimeoutError():
            return _classify_timeout(error)
        case _:
            return _classify_foreign(error)


def _classify_timeout(error: TimeoutError) -> Failure:
    """A timeout, also one that was raised from another: what timed out first counts."""
    link: BaseException | None = error
    while isinstance(link, TimeoutError):
        if _network_cause(link) == "connection":
            return _of_network(error, "connection")
        link = link.__cause__
    return _of_network(error, "timeout")


def _classify_foreign(error: BaseException) -> Failure:
    if any(_names_of(link) & _UNUSABLE_URLS and "RedirectClientError" not in _names_of(link) for link in _chain(error)):
        return Failure(retry=False, reason=f"the URL cannot be used: {words_of(error)}")
    if any(_names_of(link) & _NO_ANSWERS for link in _chain(error)):
        return _of_network(error, "connection")
    for link in _chain(error):
        # Below 300 the destination said yes: what failed is what the action made of the answer. And not every
        # attribute called status is HTTP's.
        if (status := _status_of(link)) is not None and 300 <= status < 600:
            return _classify_status(status, _headers_of(link), words_of(error))
    if cause := _network_cause_in(error):
        return _of_network(error, cause)
    return Failure(retry=True, reason=named_error(error), expected=False)


def _classify_status(status: int, headers: Mapping[str, str], reason: str) -> Failure:
    after = parse_retry_after(headers)
    retry = status in RETRIED_STATUSES or (status == 403 and after is not None)
    return Failure(retry=retry, reason=reason, after=after if retry else None, status=status, cause="answer")


def _of_network(error: BaseException, cause: Literal["connection", "timeout"]) -> Failure:
    if cause == "timeout":
        words = error_text(error).strip()
        return Failure(retry=True, reason=f"timed out: {words}" if words else "timed out", cause="timeout")
    told = next(filter(None, map(cannot_connect, _chain(error))), "")
    return Failure(retry=True, reason=told or f"no connection: {network_words(error)}", cause="connection")


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
    """An exception and what it came from. SDKs wrap the one that knows the status (no cycles: ids are kept).

    What was swallowed with ``raise … from None`` is not part of it: whoever wrote that said so.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


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


def _network_cause_in(error: BaseException) -> Literal["connection", "timeout"] | None:
    """What the first link of an exception's chain that comes from the network says; None where none does."""
    wrapped = False
    for link in _chain(error):
        if cause := _network_cause(link):
            return cause
        wrapped = wrapped or bool(_names_of(link) & _WRAPPERS)
    return "connection" if wrapped else None


def _network_cause(error: BaseException) -> Literal["connection", "timeout"] | None:
    """Network faults of any client: the standard library's by class and errno, others' by name.

    Not every OSError is one: a file that is missing is no connection.
    """
    names = _names_of(error)
    if names & _CONNECT_TIMEOUTS:
        return "connection"
    if names & _TIMEOUTS:
        return "timeout"
    if isinstance(error, TimeoutError):
        # With an errno it is the kernel's, which gave up on the connection; else somebody's clock ran out.
        return "connection" if error.errno is not None else "timeout"
    if names & _CONNECTION_FAULTS or isinstance(error, (ConnectionError, socket.gaierror, socket.herror, ssl.SSLError)):
        return "connection"
    return "connection" if isinstance(error, OSError) and _of_network_errno(error) else None


def _of_network_errno(error: OSError) -> bool:
    # asyncio tries every address of a name, and has no errno for several failures.
    return error.errno in _NETWORK_ERRNOS or error_text(error).startswith("Multiple exceptions: ")


def _names_of(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}

"""What exceptions mean for a delivery and its destination: one classifier for every action."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, get_args

from engine.core.error_text import cannot_connect, error_text, message_of, named_error, network_message
from engine.core.errors import DataMissing, DataTooLarge, Discard, HttpFailure, Retry, TemplateError

#: Statuses that say "not now". 401 and 410 are among them: after a fix of the configuration, what waits can succeed.
#: 404 is final for all but feedback, whose action asks for a retry.
RETRIED_STATUSES = frozenset({401, 408, 410, 425, 429, *range(500, 600)})
#: The longest pause a destination may ask for with Retry-After, in seconds.
LONGEST_RETRY_AFTER = 3600.0
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
            return Failure(retry=False, reason=f"data is missing: {error_text(error)}", cause="data")
        case DataMissing():
            return Failure(retry=True, reason=f"data is missing: {error_text(error)}", cause="data")
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
        return Failure(retry=False, reason=f"the URL cannot be used: {message_of(error)}")
    if any(_names_of(link) & _NO_ANSWERS for link in _chain(error)):
        return _of_network(error, "connection")
    for link in _chain(error):
        # Below 300 the destination said yes: what failed is what the action made of the answer. And not every
        # attribute called status is HTTP's.
        if (status := _status_of(link)) is not None and 300 <= status < 600:
            return _classify_status(status, _headers_of(link), message_of(error))
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
    return Failure(retry=True, reason=told or f"no connection: {network_message(error)}", cause="connection")


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


#: ``auth``: 401 or 403. ``client_error``: any other answer that is final (3xx, 4xx). ``data``: what was to be fetched
#: could not be. ``template``: a parameter could not be made. ``discarded`` and ``retry``: the action said so itself.
#: ``unconfigured``: the route or action is no longer configured. ``overdue``: its destination took nothing for
#: as long as it may wait. ``unexpected``: any other exception.
ReasonClass = Literal[
    "", "auth", "client_error", "connection", "data", "discarded", "overdue", "rate_limited", "retry",
    "server_error", "template", "timeout", "unconfigured", "unexpected",
]  # fmt: skip
REASON_CLASSES: tuple[str, ...] = get_args(ReasonClass)


def reason_class(failure: Failure | None, error: BaseException | None) -> ReasonClass:
    """The word for what an attempt came to, from the exception and what it means; empty for success."""
    if failure is None:
        return ""
    if failure.status is not None:
        return _of_status(failure.status)
    if isinstance(error, TemplateError):
        return "template"
    if isinstance(error, Discard):
        return "discarded"
    if isinstance(error, Retry):
        return "retry"
    return _of_cause(failure)


def _of_status(status: int) -> ReasonClass:
    if status in (401, 403):
        return "auth"
    if status == 429:
        return "rate_limited"
    return "server_error" if status >= 500 else "client_error"


def _of_cause(failure: Failure) -> ReasonClass:
    match failure.cause:
        case "data" | "connection" | "timeout":
            return failure.cause
        case _:
            return "unexpected"

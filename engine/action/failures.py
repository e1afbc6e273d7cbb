"""Classifies exceptions of actions: whether to retry, and what they say about the destination."""

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

#: Statuses that are retried. 401 and 410 are included: after a fix in the configuration the waiting deliveries succeed.
#: 404 is final, except for feedback, whose action requests a retry.
RETRIED_STATUSES = frozenset({401, 408, 410, 425, 429, *range(500, 600)})
#: The longest pause a destination may ask for with Retry-After, in seconds.
LONGEST_RETRY_AFTER = 3600.0
Cause = Literal["answer", "connection", "timeout", "data", "action"]
#: What an attempt shows about its destination: it is healthy; unknown; it limits the rate (429, 403 with Retry-After);
#: it is busy and names a time (503 and others with Retry-After); it fails; the key is wrong; it is gone.
Health = Literal["healthy", "unknown", "pause", "busy", "failing", "refused", "gone"]

#: The response is not HTTP, such as half a response of a proxy. aiohttp wraps it in an error with its own status.
_NO_ANSWERS = frozenset({"HttpProcessingError"})
#: Exceptions of HTTP clients by class name, so that the clients need not be imported or installed (httpx and its fork
#: use the same names). A connection timeout is a failed connection, not a late response: nothing was sent.
_CONNECT_TIMEOUTS = frozenset({"ConnectionTimeoutError", "ConnectTimeout"})
_TIMEOUTS = frozenset({"TimeoutException", "APITimeoutError"})
_CONNECTION_ERRORS = frozenset({"ClientConnectionError", "ClientPayloadError", "TransportError"})
#: Raised by HTTP clients for an unusable URL. One from a Location header is excluded: the user did not write it.
_UNUSABLE_URLS = frozenset(
    {"InvalidURL", "InvalidSchema", "MissingSchema", "UnsupportedProtocol", "LocationParseError"}
)
#: Wrappers of SDKs around either. The exception inside is more precise, if there is one.
_WRAPPERS = frozenset({"LangSmithConnectionError", "APIConnectionError"})
#: Network errors without a Python class (errno(3)); Windows lacks some.
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
    """The meaning of an exception for its delivery. ``after`` is the requested minimum delay in seconds, if any.

    ``expected`` is false for unclassified exceptions: they are logged with their traceback.
    """

    retry: bool
    reason: str
    after: float | None = None
    status: int | None = None
    expected: bool = True
    cause: Cause = "action"

    @property
    def health(self) -> Health:
        """What it shows about the destination, for all deliveries to it.

        Any response shows that it works, also one that refuses this delivery. Exceptions of the action itself and
        missing data show nothing.
        """
        if self.cause in ("connection", "timeout"):
            return "failing"
        if self.cause != "answer" or self.status is None:
            return "unknown"
        if self.status in _BY_STATUS:
            return _BY_STATUS[self.status]
        if self.retry and self.after is not None:
            return "pause" if self.status == 403 else "busy"  # some services limit rates with 403
        return "failing" if 500 <= self.status < 600 else "healthy"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a 410 or 401 response stops, if that is less than the whole destination.

    Attributes:
        url: The URL that a 410 stops; empty: the whole destination.
        credential: The credential that a 401 stops: any text that identifies it, neither stored nor shown; empty: the
            whole destination.
        service: The service that uses the credential, if it is more than the destination, such as ``slack``.
    """

    url: str = ""
    """The URL that a 410 stops; empty: the whole destination."""
    credential: str = field(default="", repr=False)
    """The credential that a 401 stops: any text that identifies it, neither stored nor shown; empty: the whole
    destination."""
    service: str = ""
    """The service that uses the credential, if it is more than the destination, such as ``slack``."""


#: Statuses with a fixed meaning.
_BY_STATUS: Mapping[int, Health] = {401: "refused", 410: "gone", 429: "pause"}


def classify(error: BaseException) -> Failure:
    """Classify an exception from ``Action.run``: retried or final, with the reason for people."""
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
            return _classify_other(error)


def _classify_timeout(error: TimeoutError) -> Failure:
    """A timeout, possibly raised from another one: the first one is classified."""
    link: BaseException | None = error
    while isinstance(link, TimeoutError):
        if _network_cause(link) == "connection":
            return _of_network(error, "connection")
        link = link.__cause__
    return _of_network(error, "timeout")


def _classify_other(error: BaseException) -> Failure:
    if any(_names_of(link) & _UNUSABLE_URLS and "RedirectClientError" not in _names_of(link) for link in _chain(error)):
        return Failure(retry=False, reason=f"the URL cannot be used: {message_of(error)}")
    if any(_names_of(link) & _NO_ANSWERS for link in _chain(error)):
        return _of_network(error, "connection")
    for link in _chain(error):
        # Below 300 the destination accepted: the failure is in the action's handling of the response. And not every
        # attribute called status is an HTTP status.
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
        text = error_text(error).strip()
        return Failure(retry=True, reason=f"timed out: {text}" if text else "timed out", cause="timeout")
    reason = next(filter(None, map(cannot_connect, _chain(error))), "")
    return Failure(retry=True, reason=reason or f"no connection: {network_message(error)}", cause="connection")


def parse_retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """The seconds of a Retry-After header (RFC 9110, 10.2.3: a number or a date), bounded; None if it is not usable."""
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
    # An HTTP date is always GMT; for "-0000" the parser returns no zone.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return _bounded((at - (now or datetime.now(UTC))).total_seconds())


def _bounded(after: float | None) -> float | None:
    return None if after is None else min(max(after, 0.0), LONGEST_RETRY_AFTER)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes, without cycles. SDKs wrap the exception that has the status.

    Exceptions suppressed with ``raise … from None`` are not included.
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
    """The cause of the first network error in an exception's chain; None if there is none."""
    wrapped = False
    for link in _chain(error):
        if cause := _network_cause(link):
            return cause
        wrapped = wrapped or bool(_names_of(link) & _WRAPPERS)
    return "connection" if wrapped else None


def _network_cause(error: BaseException) -> Literal["connection", "timeout"] | None:
    """Network errors of any client: of the standard library by class and errno, of others by name.

    Not every OSError is one: a missing file is not.
    """
    names = _names_of(error)
    if names & _CONNECT_TIMEOUTS:
        return "connection"
    if names & _TIMEOUTS:
        return "timeout"
    if isinstance(error, TimeoutError):
        # With an errno the kernel gave up on the connection; without one a timer expired.
        return "connection" if error.errno is not None else "timeout"
    if names & _CONNECTION_ERRORS or isinstance(error, (ConnectionError, socket.gaierror, socket.herror, ssl.SSLError)):
        return "connection"
    return "connection" if isinstance(error, OSError) and _of_network_errno(error) else None


def _of_network_errno(error: OSError) -> bool:
    # asyncio tries every address of a name. Several failures together have no errno.
    return error.errno in _NETWORK_ERRNOS or error_text(error).startswith("Multiple exceptions: ")


def _names_of(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


#: ``auth``: 401 or 403. ``client_error``: any other final response (3xx, 4xx). ``data``: data could not be fetched.
#: ``template``: a parameter could not be rendered. ``discarded`` and ``retry``: raised by the action.
#: ``unconfigured``: the route or action is no longer configured. ``overdue``: its destination accepted nothing for as
#: long as the delivery may wait. ``unexpected``: any other exception.
ReasonClass = Literal[
    "", "auth", "client_error", "connection", "data", "discarded", "overdue", "rate_limited", "retry",
    "server_error", "template", "timeout", "unconfigured", "unexpected",
]  # fmt: skip
REASON_CLASSES: tuple[str, ...] = get_args(ReasonClass)


def reason_class(failure: Failure | None, error: BaseException | None) -> ReasonClass:
    """The class of an attempt's failure, for metrics and lists; empty for success."""
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

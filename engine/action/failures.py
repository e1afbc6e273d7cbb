"""Classifies exceptions of actions: whether to retry, and what they say about the destination."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, get_args

from engine.core.error_text import cannot_connect, error_text, message_of, named_error, network_message
from engine.core.errors import DataMissing, DataTooLarge, Discard, HttpFailure, Retry, TemplateError

#: Statuses that are retried. 401 and 410 are included: after a fix in the configuration the waiting deliveries succeed.
#: 404 is final, except for feedback, whose action requests a retry.
RETRIED_STATUSES = frozenset({401, 408, 410, 425, 429, *range(500, 600)})
#: The longest pause a destination may ask for with Retry-After, in seconds.
LONGEST_RETRY_AFTER = 3600.0
#: What failed: the destination's answer, the network, data that was to be fetched, the parameters (``template``), or
#: the action, which may have asked for it (``discarded``, ``retry``).
Cause = Literal["answer", "connection", "timeout", "data", "template", "discarded", "retry", "action"]
#: What an attempt shows about its destination: it is healthy; unknown; it limits the rate (429, 403 with Retry-After);
#: it is busy and names a time (503 and others with Retry-After); it fails; the key is wrong; it is gone.
Health = Literal["healthy", "unknown", "pause", "busy", "failing", "refused", "gone"]
#: ``auth``: 401 or 403. ``client_error``: any other final response (3xx, 4xx). ``data``: data could not be fetched.
#: ``template``: a parameter could not be rendered. ``discarded`` and ``retry``: raised by the action.
#: ``unconfigured``: the route or action is no longer configured. ``overdue``: its destination accepted nothing for as
#: long as the delivery may wait. ``unexpected``: any other exception.
ReasonClass = Literal[
    "", "auth", "client_error", "connection", "data", "discarded", "overdue", "rate_limited", "retry",
    "server_error", "template", "timeout", "unconfigured", "unexpected",
]  # fmt: skip
REASON_CLASSES: tuple[str, ...] = get_args(ReasonClass)
_HEALTH_BY_STATUS: Mapping[int, Health] = {401: "refused", 410: "gone", 429: "pause"}
_CLASS_BY_STATUS: Mapping[int, ReasonClass] = {401: "auth", 403: "auth", 429: "rate_limited"}

#: Exceptions of HTTP clients and SDKs by class name, so that they need not be imported or installed (httpx and its fork
#: use the same names). A connection timeout is a failed connection, not a late response: nothing was sent. An unusable
#: URL of a redirect (an empty kind) was not written by the user. A response that is not HTTP, such as half a response
#: of a proxy, has an error with a status of aiohttp's own. What an SDK wrapped is more precise than its wrapper.
_KIND_BY_NAME: Mapping[str, str] = {
    **dict.fromkeys(
        ("InvalidURL", "InvalidSchema", "MissingSchema", "UnsupportedProtocol", "LocationParseError"), "unusable_url"
    ),
    **dict.fromkeys(("InvalidUrlRedirectClientError", "NonHttpUrlRedirectClientError"), ""),
    "HttpProcessingError": "not_http",
    **dict.fromkeys(("ConnectionTimeoutError", "ConnectTimeout"), "connection"),
    **dict.fromkeys(("ServerTimeoutError", "TimeoutException", "APITimeoutError"), "timeout"),
    **dict.fromkeys(("ClientConnectionError", "ClientPayloadError", "TransportError"), "connection"),
    **dict.fromkeys(("LangSmithConnectionError", "APIConnectionError"), "wrapper"),
}
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
        if self.status in _HEALTH_BY_STATUS:
            return _HEALTH_BY_STATUS[self.status]
        if self.retry and self.after is not None:
            return "pause" if self.status == 403 else "busy"  # some services limit rates with 403
        return "failing" if 500 <= self.status < 600 else "healthy"

    @property
    def reason_class(self) -> ReasonClass:
        """The class of the failure, for metrics and lists."""
        if self.status is not None:
            return _CLASS_BY_STATUS.get(self.status, "server_error" if self.status >= 500 else "client_error")
        match self.cause:
            case "action" | "answer":
                return "unexpected"
            case cause:
                return cause


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


def classify(error: BaseException) -> Failure:
    """Classify an exception from ``Action.run``: retried or final, with the reason for people."""
    text = error_text(error)
    match error:
        case Retry():
            return Failure(retry=True, reason=text, after=_bounded(error.after), cause="retry")
        case Discard():
            return Failure(retry=False, reason=text or "discarded by the action", cause="discarded")
        case TemplateError():
            return Failure(retry=False, reason=text, cause="template")
        case DataMissing():
            retry = not isinstance(error, DataTooLarge)
            return Failure(retry=retry, reason=f"data is missing: {text}", cause="data")
        case HttpFailure():
            return _classify_status(error.status, error.headers, text)
        case TimeoutError():
            return _classify_timeout(error)
        case _:
            return _classify_other(error)


def _classify_timeout(error: TimeoutError) -> Failure:
    """A timeout, possibly raised from another one: the first one is classified."""
    link: BaseException | None = error
    while isinstance(link, TimeoutError):
        if _kind_of(link) == "connection":
            return _no_connection(error)
        link = link.__cause__
    return _timed_out(error)


def _classify_other(error: BaseException) -> Failure:
    links = list(_chain(error))
    kinds = [_kind_of(link) for link in links]
    if "unusable_url" in kinds:
        return Failure(retry=False, reason=f"the URL cannot be used: {message_of(error)}")
    if "not_http" in kinds:
        return _no_connection(error)
    for link in links:
        # Below 300 the destination accepted: the failure is in the action's handling of the response. And not every
        # attribute called status is an HTTP status.
        if (status := _status_of(link)) is not None and 300 <= status < 600:
            return _classify_status(status, _headers_of(link), message_of(error))
    cause = next((kind for kind in kinds if kind in ("connection", "timeout")), "wrapper" if "wrapper" in kinds else "")
    if cause:
        return _timed_out(error) if cause == "timeout" else _no_connection(error)
    return Failure(retry=True, reason=named_error(error), expected=False)


def _classify_status(status: int, headers: Mapping[str, str], reason: str) -> Failure:
    after = parse_retry_after(headers)
    retry = status in RETRIED_STATUSES or (status == 403 and after is not None)
    return Failure(retry=retry, reason=reason, after=after if retry else None, status=status, cause="answer")


def _timed_out(error: BaseException) -> Failure:
    text = error_text(error).strip()
    return Failure(retry=True, reason=f"timed out: {text}" if text else "timed out", cause="timeout")


def _no_connection(error: BaseException) -> Failure:
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
    holders = (error, getattr(error, "response", None))
    values = (getattr(holder, name, None) for holder in holders for name in ("status", "status_code"))
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _headers_of(error: BaseException) -> Mapping[str, str]:
    headers = (getattr(holder, "headers", None) for holder in (error, getattr(error, "response", None)))
    return next((value for value in headers if isinstance(value, Mapping)), {})


def _kind_of(error: BaseException) -> str:
    """The kind of an error: of the standard library by class and errno, of others by name; empty for any other.

    Not every OSError is a network error: a missing file is not.
    """
    for kind in type(error).__mro__:
        if kind.__name__ in _KIND_BY_NAME:
            return _KIND_BY_NAME[kind.__name__]
    if isinstance(error, TimeoutError):
        # With an errno the kernel gave up on the connection; without one a timer expired.
        return "connection" if error.errno is not None else "timeout"
    if isinstance(error, (ConnectionError, socket.gaierror, socket.herror, ssl.SSLError)):
        return "connection"
    # asyncio tries every address of a name. Several failures together have no errno.
    several = isinstance(error, OSError) and error_text(error).startswith("Multiple exceptions: ")
    return "connection" if several or (isinstance(error, OSError) and error.errno in _NETWORK_ERRNOS) else ""

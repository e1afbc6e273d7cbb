"""Acts as LangSmith delivering a webhook, with LangSmith's own delivery policy.

Issues and Context Hub commits have 20 seconds and four attempts (``SIGNED``). The policy of all others
(``RULES``) is that of LangSmith's documentation ("Webhook delivery"): a connection that fails
is tried again up to two times; an endpoint that takes longer than five seconds has failed,
without retry; a 5xx within five seconds is retried up to two times with exponential backoff;
a 4xx has failed, without retry; whatever the body says is ignored. (Its beginning is kept, for
people: it decides nothing.)

Where the page is silent, this sender decides:

- There are two retries in all, whatever mixture of refused connections and 5xx uses them up.
- Connecting may take five seconds as well; longer is a failed connection. The five seconds to
  answer count from the moment the connection stands, to the answer's status line and headers.
- A connection that breaks before an answer is a failed connection.
- A redirect is not followed: it is an answer that is neither 2xx nor 5xx, and final like a 4xx.
- The backoff is one second, then two, for refused connections too.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict

from engine.core.error_text import cannot_connect, network_message
from engine.core.event import Kind

#: Seconds that an endpoint has to answer a rule's webhook.
ANSWER_LIMIT = 5.0
#: Seconds before the first retry; doubled for the second.
FIRST_DELAY = 1.0
#: How much of an answer is kept for people, in bytes, and how long is waited for it, in seconds.
_KEPT, _PATIENCE = 2000, 1.0

#: Why a connection failed, if something can be done about it: nothing listens there; its certificate is not trusted;
#: TLS was expected and is not spoken; the answer is not HTTP, as from a listener that expects TLS.
Fault = Literal["", "unreachable", "certificate", "no_tls", "no_http"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a webhook is delivered: ``limit`` is how many seconds an endpoint has to answer.

    ``retries`` are the attempts after the first one. A 5xx and a failed connection are retried; so is what took longer
    than ``limit`` where ``late``, and a status among ``also``.
    """

    limit: float = ANSWER_LIMIT
    retries: int = 2
    late: bool = False
    also: frozenset[int] = frozenset()


#: Rules, alerts and prompts.
RULES: Final = Policy()
#: Issues and Context Hub commits.
SIGNED: Final = Policy(limit=20.0, retries=3, late=True, also=frozenset({408, 425, 429}))


def policy_of(kind: Kind) -> Policy:
    """How LangSmith delivers webhooks of a kind."""
    return SIGNED if kind in (Kind.ISSUE, Kind.CONTEXT_HUB) else RULES


@dataclass(frozen=True, slots=True)
class SendAttempt:
    """One attempt. ``delay`` was waited before it, ``duration`` is how long it took, both in seconds.

    ``status`` is None where no answer came; ``reason`` says why it did not deliver, and is
    empty where it did. ``retry`` tells whether the policy allows another attempt after it.
    ``answer`` is the beginning of what the endpoint had to say, and ``fault`` what may be wrong with
    the connection, both for people; they decide nothing.
    """

    number: int
    delay: float
    duration: float
    status: int | None
    reason: str
    retry: bool
    answer: str = ""
    fault: Fault = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How it ended. ``reason`` is the last attempt's, empty when delivered."""

    result: Literal["delivered", "failed"]
    attempts: tuple[SendAttempt, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: int | None
    reason: str
    retry: bool
    #: When the answer was there, by the sender's clock; None where there was none.
    at: float | None = None
    answer: str = ""
    fault: Fault = ""


class Sender:
    """Sends one webhook as LangSmith would.

    ``first_delay`` is in seconds; ``clock`` too, it only measures durations.
    ``on_attempt`` is called after each attempt, so that a person can watch. ``trust`` says whose
    certificates are good; False takes any.
    """

    def __init__(
        self,
        *,
        policy: Policy = RULES,
        first_delay: float = FIRST_DELAY,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_attempt: Callable[[SendAttempt], None] | None = None,
        trust: ssl.SSLContext | bool = True,
    ) -> None:
        self._policy, self._limit = policy, policy.limit
        self._trust = trust
        self._first_delay = first_delay
        self._sleep = sleep
        self._clock = clock
        self._on_attempt = on_attempt

    async def send(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Delivery:
        """Deliver ``body``, byte for byte the same in every attempt, with custom ``headers`` added.

        Raises:
            ValueError: ``url`` is no address to send to, or a header cannot be sent.
        """
        _check_url(url)
        attempts: list[SendAttempt] = []
        async with self._open_session() as session:
            while True:
                attempt = await self._attempt(session, url, body, headers or {}, len(attempts) + 1)
                attempts.append(attempt)
                if not attempt.reason:
                    return Delivery("delivered", tuple(attempts), "")
                if not attempt.retry:
                    return Delivery("failed", tuple(attempts), attempt.reason)

    async def _attempt(
        self, session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], number: int
    ) -> SendAttempt:
        delay = self._first_delay * 2.0 ** (number - 2) if number > 1 else 0.0
        if delay:
            await self._sleep(delay)
        started = self._clock()
        outcome = await self._post(session, url, body, headers)
        duration = (self._clock() if outcome.at is None else outcome.at) - started
        retry = outcome.retry and number <= self._policy.retries
        attempt = SendAttempt(
            number, delay, duration, outcome.status, outcome.reason, retry, outcome.answer, outcome.fault
        )
        if self._on_attempt is not None:
            self._on_attempt(attempt)
        return attempt

    async def _post(
        self, session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]
    ) -> _Outcome:
        all_headers = CIMultiDict({"Content-Type": "application/json", "User-Agent": "langsmith-rules-engine"})
        all_headers.update(headers)
        try:
            async with asyncio.timeout(None) as scope:
                # A stream, because aiohttp warns of large bodies that are given as bytes.
                data = io.BytesIO(body)
                call = session.post(url, data=data, headers=all_headers, allow_redirects=False, trace_request_ctx=scope)
                async with call as response:
                    outcome = replace(self._judge(response.status), at=self._clock())
                    scope.reschedule(None)
                    return replace(outcome, answer=await _beginning(response))
        except aiohttp.ConnectionTimeoutError:
            return _Outcome(None, f"no connection within {self._limit:g} s", retry=True, fault="unreachable")
        except TimeoutError:
            return _Outcome(None, f"no answer within {self._limit:g} s", retry=self._policy.late)
        except (aiohttp.ClientError, OSError) as error:
            return _Outcome(None, _told(error), retry=True, fault=_fault(error))

    def _judge(self, status: int) -> _Outcome:
        if 200 <= status < 300:
            return _Outcome(status, "", retry=False)
        if status >= 500 or status in self._policy.also:
            return _Outcome(status, f"the endpoint answered {status}", retry=True)
        what = "a redirect, which is not followed" if 300 <= status < 400 else "which is final"
        return _Outcome(status, f"the endpoint answered {status}, {what}", retry=False)

    def _open_session(self) -> aiohttp.ClientSession:
        """A session that connects anew each time, so that a connection kept alive is never mistaken for a dead host."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._on_connected)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, ssl=self._trust),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._limit),
            trace_configs=[trace],
            trust_env=False,
        )

    async def _on_connected(self, _session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        """From here on the endpoint's time counts."""
        scope: asyncio.Timeout = context.trace_request_ctx
        scope.reschedule(asyncio.get_running_loop().time() + self._limit)


def _told(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):  # it quotes all that came
        return "connection failed: what answers there speaks no HTTP"
    return cannot_connect(error) or f"connection failed: {network_message(error)}"


def _fault(error: Exception) -> Fault:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "certificate"
        case aiohttp.ClientConnectorSSLError(os_error=ssl.SSLError(reason="WRONG_VERSION_NUMBER")):
            return "no_tls"
        case aiohttp.ClientConnectorError():
            return "unreachable"
    return "no_http"


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """Of the answer's body, what comes soon and is text. The verdict is given: no trouble here changes it."""
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(_PATIENCE):
            while sum(map(len, pieces)) < _KEPT and (piece := await response.content.read(_KEPT)):
                pieces.append(piece)
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass  # what came until then will do
    return b"".join(pieces)[:_KEPT].decode("utf-8", "replace")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL must start with http:// or https:// and name a host")

"""The request handlers of the public listener: a webhook is checked, stored durably, and then answered with 202."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock

from aiohttp import hdrs, web

from engine.core import compression
from engine.core.errors import BadBody
from engine.core.event import Event, Signed, parse_event
from engine.core.json_text import MAX_VALUES
from engine.core.signatures import BadSignature, check_claims
from engine.core.trace import TRACEPARENT, Facts, Span, Spans, valid_traceparent
from engine.receiver.admission import THREADS, Admission, BodyReader, ParseQueue, Reservation
from engine.receiver.credentials import Auth, authenticate
from engine.receiver.responses import ErrorResponse, NoCapacity, error_response, overload, too_large, unauthorized
from engine.store.records import Appended

#: The paths for liveness and readiness probes.
HEALTHZ, READYZ = "/healthz", "/readyz"
#: The path for webhooks. Users configured it in LangSmith, so it cannot change.
WEBHOOK_PATH = "/webhooks/langsmith"
#: The largest body accepted, decompressed, in bytes.
BODY_LIMIT = 64 * 1024 * 1024
#: After how many seconds from the end of its headers a request is rejected. The documented limit is 3 seconds from its
#: first byte; half a second is for headers in transit, a busy loop, and the response in transit.
DEADLINE = 2.5
#: How long a server's shutdown waits for requests, in seconds; all are answered by then. For ``web.AppRunner``.
SHUTDOWN_TIMEOUT = 3.0
#: How long a stopping receiver waits for appends whose requests timed out, in seconds.
_DRAIN = 3.0
#: The limit of bytes of bodies in memory, as a multiple of the largest body.
_BODIES_HELD = 4
#: Bodies up to this many bytes are parsed on the event loop, which takes at most 2 ms; a thread costs 0.1 ms.
_PARSED_INLINE = 256 * 1024
#: The same limit for signed bodies: anybody can send them, and each is checked with every secret.
_CHECKED_INLINE = 32 * 1024
#: How many characters of a header are logged.
_SHOWN = 100
#: The part of the deadline that a body may wait to be parsed: a later start would rarely finish in time.
_WAITING_PART = 0.5

_logger = logging.getLogger(__name__)


class Receiver:
    """Handles requests, with one method for each path. ``receiver_runner`` makes a server from it."""

    def __init__(
        self,
        *,
        append: Callable[[Event], Awaitable[Appended]],
        secrets: Callable[[], tuple[str, ...] | None],
        ready: Callable[[], Awaitable[str]],
        signing_secrets: Callable[[], tuple[str, ...]] = tuple,
        obstacle: Callable[[], str] = str,
        admission: Admission | None = None,
        limit: int = BODY_LIMIT,
        max_values: int = MAX_VALUES,
        clock: Callable[[], float] = time.time,
        deadline: float = DEADLINE,
        on_result: Callable[[str, float], None] = lambda _reason, _seconds: None,
        spans: Spans | None = None,
    ) -> None:
        """Create the receiver. Settings that may change at run time are passed as callables.

        Args:
            append: stores an event durably and passes it to the worker. A future is cheaper than a coroutine. It is
                never cancelled: an append that finishes after its request timed out still passes its event on.
            secrets: the current secrets; None accepts every sender.
            signing_secrets: the current secrets for signatures of bodies, an alternative to ``secrets``.
            ready: returns why no events can be accepted; empty if they can.
            obstacle: why events are rejected at the moment; empty if they are not.
            admission: the limits on memory; by default in proportion to ``limit``.
            limit: the largest body, decompressed, in bytes.
            max_values: bodies with more JSON values are not parsed.
            clock: returns Unix seconds.
            deadline: after how many seconds a request is rejected with 503, if its body is incomplete or the store has
                not committed its event.
            on_result: called with each request's outcome (one word) and its duration in seconds.
            spans: creates a span for each authenticated request; by default none.
        """
        self._append = append
        self._secrets = secrets
        self._signing_secrets = signing_secrets
        self._ready = ready
        self._obstacle = obstacle
        self.admission = admission or Admission(limit * _BODIES_HELD)
        self._limit, self._max_values = limit, max_values
        self._clock = clock
        self._deadline = deadline
        self._on_result = on_result
        self._spans = spans
        self._threads = ThreadPoolExecutor(THREADS, "receiver")
        self._parsing = ParseQueue()
        self._bodies = BodyReader(limit, deadline)
        self._appending: set[asyncio.Future[Appended]] = set()
        self._stopping = False

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Handle any request. There are three paths, and aiohttp's router takes longer than parsing the body."""
        path = request.path
        if path == WEBHOOK_PATH:
            refused = await self.expect(request) if hdrs.EXPECT in request.headers else None
            return refused or await self.webhook(request)
        if path not in (HEALTHZ, READYZ):
            return ErrorResponse(
                404, "not_found", "nothing is here", f"LangSmith's webhooks go to {WEBHOOK_PATH}"
            ).response()
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return ErrorResponse(405, "method", "use GET", headers=((hdrs.ALLOW, "GET, HEAD"),)).response()
        if path == HEALTHZ:
            return web.Response(text="ok\n")
        obstacle = await self.unready()
        return web.Response(text=f"{obstacle or 'ready'}\n", status=503 if obstacle else 200)

    async def webhook(self, request: web.BaseRequest) -> web.Response:
        """``POST /webhooks/langsmith``: 202 when the event is stored, or an error that says what to do."""
        started = time.monotonic()
        try:
            appended = await self._accept(request, started + self._deadline)
        except ErrorResponse as response:
            return self._refuse(request, response, time.monotonic() - started)
        self._on_result("duplicate" if appended.duplicate else "accepted", time.monotonic() - started)
        body = f'{{"event":"{appended.event_id}","duplicate":{"true" if appended.duplicate else "false"}}}'
        return web.Response(status=202, body=body.encode(), content_type="application/json")

    async def expect(self, request: web.BaseRequest) -> web.Response | None:
        """Send ``100 Continue`` to a sender that waits for it, unless the request is rejected anyway."""
        try:
            self._admit(request)
        except ErrorResponse as response:
            return self._refuse(request, response, 0.0)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    def _refuse(self, request: web.BaseRequest, response: ErrorResponse, seconds: float) -> web.Response:
        if response.reason == "too_large":
            details = {
                "sender": request.remote,
                "agent": _shown(request.headers.get(hdrs.USER_AGENT, "")),
                "reason": response.error,
                "limit": self._limit,
                "next": "raise --body-limit, or let LangSmith send fewer runs",
            }
            _logger.error("a webhook is lost: it is too large, and LangSmith does not send it again", extra=details)
        else:
            _logger.info("refused a request from %s: %d %s", request.remote, response.status, response.error)
        self._on_result(response.reason, seconds)
        return response.response()

    async def unready(self) -> str:
        """Why events would not be accepted, as one word; empty if they would."""
        if self._stopping:
            return "stopping"
        return "overloaded" if self.admission.obstacle() else await self._ready()

    def stopping(self) -> None:
        """Reject new webhooks. Bodies that are being received have half a second.

        Complete bodies are still stored and answered. Call it on the receiver's loop when the stop begins;
        ``receiver_runner`` calls it when the server shuts down.
        """
        self._stopping = True
        self._bodies.stop()

    async def settled(self) -> None:
        """Wait for running appends, at most three seconds; their requests are answered by then."""
        until = time.monotonic() + _DRAIN
        while self._appending and (remaining := until - time.monotonic()) > 0:
            await asyncio.wait(self._appending, timeout=remaining)

    async def drain(self) -> None:
        """Finish after the listener closed. Requests whose appends are still running were answered with 503."""
        await self.settled()
        if self._appending:
            _logger.error("the store did not answer for %d events, which were rejected with 503", len(self._appending))
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, request: web.BaseRequest, until: float) -> Appended:
        """Check a request, store its event, and trace it. Only authenticated senders begin a trace."""
        auth = self._admit(request)
        trace = _Trace(self._spans, request.headers.get(TRACEPARENT, ""))
        if auth.trusted:
            trace.begin()
        try:
            appended = await self._admitted(request, until, auth, trace)
        except BaseException as error:
            trace.end(error=error.reason if isinstance(error, ErrorResponse) else "gone")
            raise
        trace.end({"engine.event": appended.event_id, "engine.duplicate": appended.duplicate})
        return appended

    async def _admitted(self, request: web.BaseRequest, until: float, auth: Auth, trace: _Trace) -> Appended:
        reservation = Reservation(self.admission, authenticated=auth.trusted)
        try:
            body = await self._bodies.read(request, reservation, until)
            coded = request.headers.get(hdrs.CONTENT_ENCODING, "")
            appending = self._store_body(body, coded, reservation, auth, trace, until)
        except (NoCapacity, BadBody, BadSignature) as error:
            raise error_response(error, self._limit) from error
        finally:
            if not reservation.kept:
                reservation.release()
        return await self._wait_for(appending, reservation, until)

    def _admit(self, request: web.BaseRequest) -> Auth:
        """Check everything that is known before the body is read."""
        if request.method != hdrs.METH_POST:
            raise ErrorResponse(405, "method", "webhooks are sent with POST", headers=((hdrs.ALLOW, "POST"),))
        secrets, signing = self._secrets(), self._signing_secrets()
        auth = authenticate(request, secrets, signing, self._clock())
        if auth.error:
            raise unauthorized(auth.error, may_sign=bool(signing), may_use_secret=bool(secrets) or not signing)
        if self._stopping:
            raise overload("stopping", "the engine is stopping", close=True)
        length = request.content_length or 0
        if length > self._limit:
            raise too_large(f"the body is {length} bytes", self._limit)
        if obstacle := self.admission.obstacle(length, authenticated=auth.trusted) or self._obstacle():
            raise overload("overloaded", obstacle)
        return auth

    def _store_body(
        self, body: bytes, content_encoding: str, reservation: Reservation, auth: Auth, trace: _Trace, until: float
    ) -> asyncio.Future[Appended]:
        """Check, parse and append the body. It continues even if the request times out.

        Raises:
            BadBody: the body is not a JSON object.
            BadSignature: the sender has no secret and no valid signature.
        """
        append: Awaitable[Appended]
        if content_encoding or len(body) > (_CHECKED_INLINE if auth.claims else _PARSED_INLINE):
            append = self._parse_in_thread(body, content_encoding, reservation, auth, trace, until)
        else:
            event = self._parse(body, "", auth, self._clock(), trace)
            reservation.authenticate()
            reservation.expand(event.parsed_size)
            append = self._append(event)
        # This creates no task for a future. A task for a coroutine costs as much as parsing.
        appending = asyncio.ensure_future(append)
        reservation.keep()
        self._appending.add(appending)
        appending.add_done_callback(lambda _: self._finished(appending, reservation))
        return appending

    def _finished(self, appending: asyncio.Future[Appended], reservation: Reservation) -> None:
        self._appending.discard(appending)
        reservation.release()

    async def _parse_in_thread(
        self, body: bytes, content_encoding: str, reservation: Reservation, auth: Auth, trace: _Trace, until: float
    ) -> Appended:
        """Parse a large, signed or compressed body in a thread, then append the event.

        Raises:
            NoCapacity: no thread was free in time.
        """
        loop, now = asyncio.get_running_loop(), self._clock()
        parse = partial(self._parse, body, content_encoding, auth, now, trace)
        begin_by = until - self._deadline * _WAITING_PART
        async with self._parsing.turn(len(body), begin_by, compressed=bool(content_encoding)):
            event = await loop.run_in_executor(self._threads, parse)
        reservation.authenticate()
        reservation.grow(len(event.body) - len(body))
        reservation.expand(event.parsed_size)
        return await self._append(event)

    def _parse(self, body: bytes, content_encoding: str, auth: Auth, received_at: float, trace: _Trace) -> Event:
        """Check the signature of the bytes as they were sent, then decompress and parse them."""
        signed = self._signed(body, auth) if auth.claims else None
        traceparent = trace.begin()
        if content_encoding:
            body = compression.decode(body, content_encoding, self._limit)
        return parse_event(body, received_at, signed, traceparent, self._max_values)

    def _signed(self, body: bytes, auth: Auth) -> Signed | None:
        """The valid signature, if any. None if the sender is trusted and its signatures are invalid."""
        try:
            return check_claims(auth.claims, self._signing_secrets(), body)
        except BadSignature:
            if auth.trusted:
                return None  # its secret is valid: it may post, but its event's id is not authenticated
            raise

    async def _wait_for(self, appending: asyncio.Future[Appended], reservation: Reservation, until: float) -> Appended:
        """The result of an append, if it finishes in time."""
        loop = asyncio.get_running_loop()
        # asyncio.wait and asyncio.timeout cost two or three times as much, for every request.
        answered: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(until - time.monotonic(), _wake, answered)
        appending.add_done_callback(lambda _: _wake(answered))
        try:
            await answered
        finally:
            timer.cancel()
        if not appending.done():
            appending.add_done_callback(_log_late_result)
            if not reservation.parsed:
                raise overload("late", "the body was not decompressed and parsed in time")
            reservation.late()
            raise overload("late", "the store did not answer in time")
        try:
            return appending.result()
        except Exception as error:
            # The end of a request: every error becomes a response.
            raise error_response(error, self._limit) from error


class _Trace:
    """A request's span. It begins when the sender is authenticated: at once by a secret, later by a signature.

    ``begin`` may be called in a thread, and after the request timed out; then no span is created. Without ``spans``
    the sender's traceparent is passed on.
    """

    __slots__ = ("_lock", "_over", "_parent", "_span", "_spans")

    def __init__(self, spans: Spans | None, parent: str) -> None:
        self._spans, self._parent = spans, parent and valid_traceparent(parent)
        self._span: Span | None = None
        self._over = False
        self._lock = Lock()

    def begin(self) -> str:
        """The traceparent for the processing of the event. The first call begins the span."""
        if self._spans is None:
            return self._parent
        with self._lock:
            if self._span is None and not self._over:
                self._span = self._spans.begin("receive", self._parent, "server")
            return self._span.traceparent if self._span is not None else self._parent

    def end(self, facts: Facts | None = None, error: str = "") -> None:
        """End the span: the request is answered."""
        with self._lock:
            self._over = True
        if self._span is not None:
            self._span.end(facts, error)


def _shown(header: str) -> str:
    """A header's text for the log: printable, and cut."""
    return "".join(character if character.isprintable() else "?" for character in header[:_SHOWN])


def _wake(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)


def _log_late_result(appending: asyncio.Future[Appended]) -> None:
    if appending.cancelled():
        return
    if error := appending.exception():
        _logger.warning("an append failed after its request was answered with 503: %s", error)
    else:
        _logger.warning("event %s was stored after its request was answered with 503", appending.result().event_id)

"""The public listener: what LangSmith posts is checked, kept durably, and only then answered with 202."""

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
from engine.core.json_scan import MAX_VALUES
from engine.core.signatures import BadSignature, check_claims
from engine.core.trace import TRACEPARENT, Facts, Span, Spans, valid_traceparent
from engine.receiver.admission import Admission, NoCapacity, Reservation
from engine.receiver.body import BodyReader
from engine.receiver.credentials import Auth, authenticate
from engine.receiver.parse_queue import THREADS, ParseQueue
from engine.receiver.responses import ErrorResponse, error_response, overload, too_large, unauthorized
from engine.store.records import Appended

#: Where a probe asks whether it lives, and whether it would accept an event.
HEALTHZ, READYZ = "/healthz", "/readyz"
#: Where LangSmith posts to. The path is part of what users configured there.
WEBHOOK_PATH = "/webhooks/langsmith"
#: The largest body accepted, decompressed, in bytes.
BODY_LIMIT = 64 * 1024 * 1024
#: When a request is refused at the latest, in seconds from the end of its headers. The promise is 3 from its first
#: byte; half a second is for what can't be seen from here: headers on their way, a busy loop, the answer's own way.
DEADLINE = 2.5
#: How long a server's shutdown has to wait for requests: they all have an answer by then. For ``web.AppRunner``.
SHUTDOWN_TIMEOUT = 3.0
#: How long a stopping receiver waits for appends whose requests were refused long ago, in seconds.
_DRAIN = 3.0
#: How many bytes of bodies may be held at once, in bodies of the largest size.
_BODIES_HELD = 4
#: Bodies up to so many bytes are parsed on the loop, which takes 2 ms or less; handing them to a thread takes 0.1.
_PARSED_INLINE = 256 * 1024
#: The same where a signature is to be checked first, with every secret there is: anybody may ask for that.
_CHECKED_INLINE = 32 * 1024
#: How much of a header the log shows, in characters.
_SHOWN = 100
#: Which part of the deadline a body may wait for its turn to be parsed: what begins later would hardly be in time.
_WAITING_PART = 0.5

_logger = logging.getLogger(__name__)


class Receiver:
    """Takes requests in, one method per address. ``receiver_runner`` makes a server of it."""

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
        """Everything that changes while it runs comes through a callable.

        Args:
            append: keeps an event durably and hands it on; a future costs less than a coroutine.
                Never cancelled: one that lands after its request was refused hands its event on all the same.
            secrets: those that are good at the moment; None accepts everybody.
            signing_secrets: with any of these a body may be signed instead.
            ready: empty when ready for events, else a word that says why not.
            obstacle: why no event can be taken at the moment, or empty. What is held in memory
                is bounded whatever it says.
            admission: that bound; by default in proportion to ``limit``.
            limit: the largest body, decompressed, in bytes.
            max_values: how many JSON values a body may have to be parsed.
            clock: the time in Unix seconds.
            deadline: after how many seconds a request is refused with 503, whether its body is
                still coming in or the store has not answered.
            on_result: told each request's outcome (a word) and how many seconds it took.
            spans: makes one of each request that is let in; by default none.
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
        self._spans = spans or Spans()
        self._threads = ThreadPoolExecutor(THREADS, "receiver")
        self._parsing = ParseQueue()
        self._bodies = BodyReader(limit, deadline)
        self._appending: set[asyncio.Future[Appended]] = set()
        self._stopping = False

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Any request. For three addresses aiohttp's router would take longer than parsing the body does."""
        path = request.path
        if path == WEBHOOK_PATH:
            refused = await self.expect(request) if hdrs.EXPECT in request.headers else None
            return refused or await self.webhook(request)
        look = {HEALTHZ: self.healthz, READYZ: self.readyz}.get(path)
        if look is None:
            return ErrorResponse(
                404, "not_found", "nothing is here", f"LangSmith's webhooks go to {WEBHOOK_PATH}"
            ).response()
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return ErrorResponse(405, "method", "use GET", headers=((hdrs.ALLOW, "GET, HEAD"),)).response()
        return await look()

    async def webhook(self, request: web.BaseRequest) -> web.Response:
        """``POST /webhooks/langsmith``: 202 once the event is kept, or a response that says what to do."""
        started = time.monotonic()
        try:
            appended = await self._accept(request, started + self._deadline)
        except ErrorResponse as response:
            return self._refuse(request, response, time.monotonic() - started)
        self._on_result("duplicate" if appended.duplicate else "accepted", time.monotonic() - started)
        body = f'{{"event":"{appended.event_id}","duplicate":{"true" if appended.duplicate else "false"}}}'
        return web.Response(status=202, body=body.encode(), content_type="application/json")

    async def expect(self, request: web.BaseRequest) -> web.Response | None:
        """A sender that waits for ``100 Continue`` gets it only where its body will be read."""
        try:
            self._admit(request)
        except ErrorResponse as response:
            return self._refuse(request, response, 0.0)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    def _refuse(self, request: web.BaseRequest, response: ErrorResponse, seconds: float) -> web.Response:
        if response.reason == "too_large":
            told = {
                "sender": request.remote,
                "agent": _shown(request.headers.get(hdrs.USER_AGENT, "")),
                "reason": response.error,
                "limit": self._limit,
                "next": "raise --body-limit, or have fewer runs sent",
            }
            _logger.error("a webhook is lost: it is too large, and LangSmith does not send it again", extra=told)
        else:
            _logger.info("refused a request from %s: %d %s", request.remote, response.status, response.error)
        self._on_result(response.reason, seconds)
        return response.response()

    async def healthz(self) -> web.Response:
        """``GET /healthz``: the process answers."""
        return web.Response(text="ok\n")

    async def readyz(self) -> web.Response:
        """``GET /readyz``: events would be accepted, or one word that says why not."""
        obstacle = await self.unready()
        return web.Response(text=f"{obstacle or 'ready'}\n", status=503 if obstacle else 200)

    async def unready(self) -> str:
        """Why events would not be accepted, in a word; empty where they would."""
        if self._stopping:
            return "stopping"
        return "overloaded" if self.admission.obstacle() else await self._ready()

    def stopping(self) -> None:
        """Take no more webhooks: new ones are refused, bodies on their way have half a second.

        What came in whole is still kept and answered. Call it on the receiver's loop, as soon as
        the stop is known; ``receiver_runner`` calls it when the server shuts down.
        """
        self._stopping = True
        self._bodies.stop()

    async def settled(self) -> None:
        """Wait for appends that are under way, three seconds at most: their requests are answered by then."""
        until = time.monotonic() + _DRAIN
        while self._appending and (left := until - time.monotonic()) > 0:
            await asyncio.wait(self._appending, timeout=left)

    async def drain(self) -> None:
        """The end, after the listener closed. What a stuck store still has was refused; its senders send it again."""
        await self.settled()
        if self._appending:
            _logger.error("the store has not answered for %d events that were refused", len(self._appending))
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, request: web.BaseRequest, until: float) -> Appended:
        """From the first look to the store's answer. Whom nobody knows begins no trace."""
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
            appending = self._keep(body, coded, reservation, auth, trace, until)
        except (NoCapacity, BadBody, BadSignature) as error:
            raise error_response(error, self._limit) from error
        finally:
            if not reservation.kept:
                reservation.release()
        return await self._wait_for(appending, reservation, until)

    def _admit(self, request: web.BaseRequest) -> Auth:
        """Everything that can be said before the body is read."""
        if request.method != hdrs.METH_POST:
            raise ErrorResponse(405, "method", "webhooks are sent with POST", headers=((hdrs.ALLOW, "POST"),))
        secrets, signing = self._secrets(), self._signing_secrets()
        auth = authenticate(request, secrets, signing, self._clock())
        if auth.error:
            raise unauthorized(auth.error, may_sign=bool(signing), may_tell=bool(secrets) or not signing)
        if self._stopping:
            raise overload("stopping", "the engine is stopping", close=True)
        length = request.content_length or 0
        if length > self._limit:
            raise too_large(f"the body is {length} bytes", self._limit)
        if obstacle := self.admission.obstacle(length, authenticated=auth.trusted) or self._obstacle():
            raise overload("overloaded", obstacle)
        return auth

    def _keep(
        self, body: bytes, content_encoding: str, reservation: Reservation, auth: Auth, trace: _Trace, until: float
    ) -> asyncio.Future[Appended]:
        """Check, parse and append, for itself: a request may give up on it, but nothing cancels it.

        Raises:
            BadBody: the body is no JSON object.
            BadSignature: the sender showed no secret, and none of its signatures is good.
        """
        keeping: Awaitable[Appended]
        if content_encoding or len(body) > (_CHECKED_INLINE if auth.claims else _PARSED_INLINE):
            keeping = self._digest(body, content_encoding, reservation, auth, trace, until)
        else:
            event = self._parse(body, "", auth, self._clock(), trace)
            reservation.authenticate()
            reservation.expand(event.parsed_size)
            keeping = self._append(event)
        # A future is taken as it is; only a coroutine has to become a task, which costs as much as parsing.
        appending = asyncio.ensure_future(keeping)
        reservation.keep()
        self._appending.add(appending)
        appending.add_done_callback(lambda _: self._landed(appending, reservation))
        return appending

    def _landed(self, appending: asyncio.Future[Appended], reservation: Reservation) -> None:
        self._appending.discard(appending)
        reservation.release()

    async def _digest(
        self, body: bytes, content_encoding: str, reservation: Reservation, auth: Auth, trace: _Trace, until: float
    ) -> Appended:
        """What takes longer than the loop can wait, in a thread; then the append.

        Raises:
            NoCapacity: so many wait for a thread that it would be late.
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
        """Check the signature, of the bytes as they were sent; only then is anything made of them."""
        signed = self._signed(body, auth) if auth.claims else None
        traceparent = trace.begin()
        if content_encoding:
            body = compression.decode(body, content_encoding, self._limit)
        return parse_event(body, received_at, signed, traceparent, self._max_values)

    def _signed(self, body: bytes, auth: Auth) -> Signed | None:
        """Who signed it, and what the signature covers; None where who showed a secret signed it with none."""
        try:
            return check_claims(auth.claims, self._signing_secrets(), body)
        except BadSignature:
            if auth.trusted:
                return None  # its secret was good: it may post, but its own id counts for nothing
            raise

    async def _wait_for(self, appending: asyncio.Future[Appended], reservation: Reservation, until: float) -> Appended:
        """What came of an append, if it is done in time."""
        loop = asyncio.get_running_loop()
        # asyncio.wait and asyncio.timeout do the same at two or three times the price, for every request.
        answered: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(until - time.monotonic(), _wake, answered)
        appending.add_done_callback(lambda _: _wake(answered))
        try:
            await answered
        finally:
            timer.cancel()
        if not appending.done():
            appending.add_done_callback(_tell_landing)
            if not reservation.parsed:
                raise overload("late", "the body was not decompressed and parsed in time")
            reservation.late()
            raise overload("late", "the store did not answer in time")
        return self._result(appending)

    def _result(self, appending: asyncio.Future[Appended]) -> Appended:
        try:
            return appending.result()
        except Exception as error:
            # A request is where its work ends, whatever became of it.
            raise error_response(error, self._limit) from error


class _Trace:
    """A request's span, which begins once its sender is known: by its secret at once, by its signature later.

    It may begin in a thread, and after its request was given up; then there is none any more.
    """

    __slots__ = ("_lock", "_over", "_parent", "_span", "_spans")

    def __init__(self, spans: Spans, parent: str) -> None:
        self._spans, self._parent = spans, parent
        self._span: Span | None = None
        self._over = False
        self._lock = Lock()

    def begin(self) -> str:
        """The traceparent that what becomes of the request goes on from. The first call begins the span."""
        with self._lock:
            if self._span is None and not self._over:
                self._span = self._spans.begin("receive", self._parent, "server")
            return self._span.traceparent if self._span is not None else valid_traceparent(self._parent)

    def end(self, facts: Facts | None = None, error: str = "") -> None:
        """The request has its answer."""
        with self._lock:
            self._over = True
        if self._span is not None:
            self._span.end(facts, error)


def _shown(header: str) -> str:
    """A header's text for the log: printable, and not long."""
    return "".join(character if character.isprintable() else "?" for character in header[:_SHOWN])


def _wake(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)


def _tell_landing(appending: asyncio.Future[Appended]) -> None:
    if appending.cancelled():
        return
    if error := appending.exception():
        _logger.warning("an append that had been answered with 503 failed in the end: %s", error)
    else:
        _logger.warning("event %s was kept after its request had been answered with 503", appending.result().event_id)

"""The public listener: what LangSmith posts is checked, kept durably, and only then answered with 202."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from aiohttp import hdrs, web

from engine import coding
from engine.errors import BadBody, StoreBusy, StoreError
from engine.event import Event, parse_event
from engine.store.protocol import Appended

#: Where LangSmith posts to. The path is part of what users configured there.
WEBHOOK_PATH = "/webhooks/langsmith"
#: The largest body accepted, decompressed, in bytes.
BODY_LIMIT = 64 * 1024 * 1024
#: How many bytes of bodies may be held at once before another large one is refused, in bodies of the largest size.
_BODIES_HELD = 4
#: How long a sender may take over a body, in seconds. LangSmith itself gives up after 5.
_BODY_TIMEOUT = 20.0
#: What an append is given at least, however long its body took, in seconds.
_LEAST_APPEND_TIME = 1.0
#: After how many seconds a refused sender should come back.
_RETRY_AFTER = "1"
_HOW_TO_AUTHENTICATE = (
    "send the secret that stands under `secrets:` in the configuration, once: as ?secret=… in the URL, "
    "as an X-Webhook-Secret header, or as Authorization: Bearer …"
)
_HOW_TO_SEND = "send a JSON object, such as the payload of a LangSmith webhook"

_logger = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 - an answer rather than a fault
    """An answer other than 202. ``reason`` is a word for metrics; ``error`` and ``hint`` are for people."""

    def __init__(
        self, status: int, reason: str, error: str, hint: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(error)
        self.status = status
        self.reason = reason
        self.error = error
        self.hint = hint
        self.headers = headers

    def response(self) -> web.Response:
        """The JSON answer."""
        body = {"error": self.error, "hint": self.hint} if self.hint else {"error": self.error}
        response = web.Response(status=self.status, body=orjson.dumps(body), content_type="application/json")
        response.headers.extend(self.headers)
        return response


class Receiver:
    """Takes requests in, one method per address. ``receiver_app`` makes a server's application of it."""

    def __init__(
        self,
        *,
        append: Callable[[Event], Coroutine[Any, Any, Appended]],
        secrets: Callable[[], tuple[str, ...] | None],
        ready: Callable[[], Awaitable[str]],
        admission: Callable[[], str] = str,
        limit: int = BODY_LIMIT,
        clock: Callable[[], float] = time.time,
        deadline: float = 3.0,
        body_timeout: float = _BODY_TIMEOUT,
        on_result: Callable[[str, float], None] = lambda _reason, _seconds: None,
    ) -> None:
        """Everything that changes while it runs comes through a callable.

        Args:
            append: keeps an event durably and hands it on. Never cancelled: one that lands
                after its request was refused hands its event on all the same.
            secrets: those that are good at the moment; None accepts everybody.
            ready: empty when ready for events, else a word that says why not.
            admission: empty when there is room for another event, else why there is none.
            limit: the largest body, decompressed, in bytes.
            clock: the time in Unix seconds.
            deadline: how many seconds after its start a request that waits for the store is refused with 503.
            body_timeout: how many seconds a body may take to come in.
            on_result: told each request's outcome (a word) and how many seconds it took.
        """
        self._append = append
        self._secrets = secrets
        self._ready = ready
        self._admission = admission
        self._limit = limit
        self._clock = clock
        self._deadline = deadline
        self._body_timeout = body_timeout
        self._on_result = on_result
        self._held = 0
        self._appending: set[asyncio.Task[Appended]] = set()

    async def webhook(self, request: web.Request) -> web.Response:
        """``POST /webhooks/langsmith``: 202 once the event is kept, or a refusal that says what to do."""
        started = time.monotonic()
        try:
            appended = await self._accept(request, started)
        except Refusal as refusal:
            _logger.info("refused a request from %s: %d %s", request.remote, refusal.status, refusal.error)
            self._on_result(refusal.reason, time.monotonic() - started)
            return refusal.response()
        self._on_result("duplicate" if appended.duplicate else "accepted", time.monotonic() - started)
        body = f'{{"event":"{appended.event_id}","duplicate":{"true" if appended.duplicate else "false"}}}'
        return web.Response(status=202, body=body.encode(), content_type="application/json")

    async def expect(self, request: web.Request) -> web.Response | None:
        """A sender that waits for ``100 Continue`` gets it only where its body will be read."""
        if request.path != WEBHOOK_PATH:
            return None
        try:
            self._admit(request)
        except Refusal as refusal:
            self._on_result(refusal.reason, 0.0)
            return refusal.response()
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    async def healthz(self, _request: web.Request) -> web.Response:
        """``GET /healthz``: the process answers."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """``GET /readyz``: events would be accepted, or one word that says why not."""
        obstacle = await self._ready()
        return web.Response(text=f"{obstacle or 'ready'}\n", status=503 if obstacle else 200)

    async def drain(self) -> None:
        """Wait for appends that are still under way. Call it after the listener closed."""
        while self._appending:
            await asyncio.wait(self._appending)

    async def _accept(self, request: web.Request, started: float) -> Appended:
        self._admit(request)
        body = await self._read(request)
        self._held += len(body)
        try:
            return await self._keep(parse_event(body, self._clock()), started)
        except BadBody as error:
            raise Refusal(400, "bad_body", str(error), _HOW_TO_SEND) from error
        finally:
            self._held -= len(body)

    def _admit(self, request: web.Request) -> None:
        """Everything that can be said before the body is read."""
        if request.method != hdrs.METH_POST:
            raise Refusal(405, "method", "webhooks are sent with POST", headers=((hdrs.ALLOW, "POST"),))
        if (secrets := self._secrets()) is not None and (error := check_secret(request, secrets)):
            raise Refusal(401, "unauthorized", error, _HOW_TO_AUTHENTICATE, ((hdrs.WWW_AUTHENTICATE, "Bearer"),))
        length = request.content_length
        if length is not None and length > self._limit:
            raise self._too_large(f"the body is {length} bytes")
        if obstacle := self._admission():
            raise _overload("overloaded", obstacle)

    def _too_large(self, error: str) -> Refusal:
        hint = f"the limit is {self._limit} bytes, decompressed; have LangSmith send fewer or smaller runs at once"
        return Refusal(413, "too_large", error, hint)

    async def _read(self, request: web.Request) -> bytes:
        """The whole body, decompressed. A small one has come with its headers, and nothing is waited for."""
        stream = request.content
        if stream.is_eof() and stream.total_bytes <= self._limit:
            body = stream.read_nowait()
        else:
            body = await self._read_slowly(request)
        content_encoding = request.headers.get(hdrs.CONTENT_ENCODING)
        return await self._decode(body, content_encoding) if content_encoding else body

    async def _read_slowly(self, request: web.Request) -> bytes:
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(self._body_timeout):
                async for piece in request.content.iter_any():
                    self._hold(len(piece))
                    pieces.append(piece)
                    if request.content.total_bytes > self._limit:
                        raise self._too_large(f"the body is more than {self._limit} bytes")
            return b"".join(pieces)
        except TimeoutError as error:
            text = f"the body did not arrive within {self._body_timeout:g} seconds"
            raise Refusal(408, "slow_body", text, headers=((hdrs.CONNECTION, "close"),)) from error
        except (web.RequestPayloadError, ConnectionError) as error:
            raise Refusal(400, "broken_body", f"the request's body is broken: {error}", _HOW_TO_SEND) from error
        finally:
            self._held -= sum(map(len, pieces))

    def _hold(self, size: int) -> None:
        """Large bodies are few: many at once would take all memory, and whoever comes last can come again."""
        if self._held + size > self._limit * _BODIES_HELD:
            raise _overload("overloaded", "too many large bodies are coming in at once")
        self._held += size

    async def _decode(self, body: bytes, content_encoding: str) -> bytes:
        try:
            return await asyncio.to_thread(coding.decode, body, content_encoding, self._limit)
        except coding.TooLarge as error:
            raise self._too_large(str(error)) from error
        except coding.BrokenCoding as error:
            raise Refusal(400, "bad_body", str(error), _HOW_TO_SEND) from error
        except coding.UnknownCoding as error:
            hint = f"send it plain, or in one of {coding.ACCEPTED}"
            accepted = ((hdrs.ACCEPT_ENCODING, coding.ACCEPTED),)
            raise Refusal(415, "unknown_coding", f"{error} is not understood", hint, accepted) from error

    async def _keep(self, event: Event, started: float) -> Appended:
        """Append in a task of its own: a request may give up on it, but nothing cancels it."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._append(event))
        self._appending.add(task)
        # asyncio.wait and asyncio.timeout do the same at two or three times the price, for every request.
        answered: asyncio.Future[None] = loop.create_future()
        left = max(started + self._deadline - time.monotonic(), _LEAST_APPEND_TIME)
        timer = loop.call_later(left, _wake, answered)
        task.add_done_callback(self._appending.discard)
        task.add_done_callback(lambda _: _wake(answered))
        try:
            await answered
        finally:
            timer.cancel()
        if not task.done():
            task.add_done_callback(_tell_landing)
            raise _overload("late", "the store did not answer in time")
        return _result(task)


def _wake(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)


def _result(task: asyncio.Future[Appended]) -> Appended:
    try:
        return task.result()
    except StoreBusy as error:
        raise _overload("busy", f"the store is busy: {error}") from error
    except StoreError as error:
        raise _overload("store_error", f"the store cannot take events: {error}") from error
    except Exception as error:
        _logger.exception("an event could not be kept")
        raise _overload("error", "the event could not be kept") from error


def _overload(reason: str, error: str) -> Refusal:
    """Every fault of ours is a 503: LangSmith retries those, and nothing else."""
    return Refusal(503, reason, error, "nothing was accepted; send it again", ((hdrs.RETRY_AFTER, _RETRY_AFTER),))


def _tell_landing(task: asyncio.Future[Appended]) -> None:
    if task.cancelled():
        return
    if error := task.exception():
        _logger.warning("an append that had been answered with 503 failed in the end: %s", error)
    else:
        _logger.warning("event %s was kept after its request had been answered with 503", task.result().event_id)


def check_secret(request: web.Request, secrets: tuple[str, ...]) -> str:
    """Empty when a request carries a secret that is good, else what is wrong.

    Each way of sending one counts on its own, so that a gateway may use Authorization for
    itself; a way used twice doesn't count. Every comparison is made, in constant time, on bytes.
    """
    ways = _presented(request)
    known = [_bytes(secret) for secret in secrets if secret]
    good = False
    for candidates in ways:
        for candidate in candidates:
            for secret in known:
                good |= hmac.compare_digest(candidate, secret)
    if good:
        return ""
    return "the secret is wrong, or was sent twice" if ways else "the secret is missing"


def _presented(request: web.Request) -> list[tuple[bytes, ...]]:
    """Per way of sending a secret that was used: its possible readings; none if it was used more than once."""
    ways: list[tuple[bytes, ...]] = []
    if query := request.rel_url.raw_query_string:
        values = [value for pair in query.split("&") if (value := _secret_of(pair)) is not None]
        if values:
            ways.append(_readings(values[0]) if len(values) == 1 else ())
    headers = request.headers
    if "X-Webhook-Secret" in headers:
        values = headers.getall("X-Webhook-Secret")
        ways.append((_bytes(values[0]),) if len(values) == 1 else ())
    if hdrs.AUTHORIZATION in headers:
        values = [token for value in headers.getall(hdrs.AUTHORIZATION) if (token := _bearer(value)) is not None]
        if values:
            ways.append((_bytes(values[0]),) if len(values) == 1 else ())
    return ways


def _secret_of(pair: str) -> str | None:
    name, _, value = pair.partition("=")
    return value if name == "secret" or ("%" in name and unquote_to_bytes(name) == b"secret") else None


def _readings(value: str) -> tuple[bytes, ...]:
    """A plus in a query is a space by HTML's rules and itself by RFC 3986; people paste secrets with both in mind."""
    raw = _bytes(value)
    plain = unquote_to_bytes(raw)
    return (plain, unquote_to_bytes(raw.replace(b"+", b" "))) if b"+" in raw else (plain,)


def _bearer(value: str) -> str | None:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _bytes(text: str) -> bytes:
    """The bytes that were on the wire: aiohttp decodes them as UTF-8 with escapes."""
    return text.encode("utf-8", "surrogateescape")


def receiver_app(receiver: Receiver) -> web.Application:
    """The public listener's application: three addresses, and a 404 that says so for every other.

    No access log, and none of aiohttp's own error texts: both would quote the query string, which holds the secret.
    """
    handler_args: dict[str, Any] = {
        "access_log": None,
        "auto_decompress": False,
        "keepalive_timeout": 75.0,
        "lingering_time": 5.0,
        "logger": _DiscreetLogger(logging.getLogger("aiohttp.server"), {}),
    }
    app = web.Application(handler_args=handler_args)
    app.router.add_route("*", WEBHOOK_PATH, receiver.webhook, expect_handler=receiver.expect)
    app.router.add_get("/healthz", receiver.healthz)
    app.router.add_get("/readyz", receiver.readyz)
    app.router.add_route("*", "/{path:.*}", _nothing_here)

    async def drain(_app: web.Application) -> None:
        await receiver.drain()

    app.on_cleanup.append(drain)
    return app


async def _nothing_here(request: web.Request) -> web.Response:
    if request.path in ("/healthz", "/readyz"):
        return Refusal(405, "method", "use GET", headers=((hdrs.ALLOW, "GET, HEAD"),)).response()
    return Refusal(404, "not_found", "nothing is here", f"LangSmith's webhooks go to {WEBHOOK_PATH}").response()


class _DiscreetLogger(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log of broken requests, without the exception's text: it quotes the request line."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **kwargs: Any) -> None:
        """Tell the kind of error and whom it came from."""
        kind = type(exc_info).__name__ if isinstance(exc_info, BaseException) else "error"
        self.logger.info(f"{msg} (%s)", *args, kind)

    def debug(self, msg: object, *args: object, **_kwargs: Any) -> None:
        """Leave the exception out."""
        self.logger.debug(msg, *args)

"""The HTTP server of the public listener. It logs nothing that quotes a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage

from engine.core.counters import Counts
from engine.receiver.receiver import HEALTHZ, READYZ, SHUTDOWN_TIMEOUT, Receiver

#: For how many seconds the rest of a rejected request is read and discarded, so that the sender gets the response.
_LINGERING = 2.0
#: How long a connection may be idle, in seconds: a little longer than the usual limit of proxies.
IDLE = 75.0
_ACCEPTED = 202
#: The default limit of open connections.
_MOST_CONNECTIONS = 1024
#: How many further connections are allowed when all others have a running request. They may only read the health.
RESERVED: Final = 16
#: Seconds between two warnings.
_WARNED_EVERY = 60.0
#: The response when too many connections have a running request.
_REFUSED: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
#: Why a connection was closed: labels of a metric, documented.
CLOSED = ("idle", "refused")

_logger = logging.getLogger(__name__)


class Connections:
    """The open connections, at most ``limit`` plus ``reserved``. ``closed`` counts closed ones by reason.

    A connection is idle until the headers of a request are complete: before the first request, between two requests,
    and while headers arrive slowly. Connections that delivered an accepted event are closed last, because the next
    event may be in transit and would be lost with the connection. ``clock`` returns seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic, *, reserved: int = RESERVED) -> None:
        self.limit, self._most_reserved, self._clock = limit, reserved, clock
        self.closed = Counts()
        for why in CLOSED:
            self.closed.add(why, amount=0)
        self._open: set[web.RequestHandler] = set()
        #: Idle connections, the longest idle first; those that delivered an event are kept separately.
        self._idle: dict[web.RequestHandler, None] = {}
        self._idle_known: dict[web.RequestHandler, None] = {}
        self._known: set[web.RequestHandler] = set()
        #: Reserved connections, the oldest first. They may only read the engine's health, once.
        self.reserved: dict[web.RequestHandler, None] = {}
        self._warned_at = -_WARNED_EVERY

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def opened(self, connection: web.RequestHandler) -> None:
        """Add a new connection. If there are too many, close the oldest idle one."""
        if len(self._open) >= self.limit:
            oldest = next(iter(self._idle or self._idle_known), None)
            if oldest is None:
                self._reserve(connection)
                return
            self._close(oldest, "idle")
        self._open.add(connection)
        self._idle[connection] = None

    def _reserve(self, connection: web.RequestHandler) -> None:
        """Add a reserved connection. If there are too many, reject the oldest."""
        self.reserved[connection] = None
        if len(self.reserved) > self._most_reserved:
            oldest = next(iter(self.reserved))
            if oldest.transport is not None:
                oldest.transport.write(_REFUSED)
            self._close(oldest, "refused")

    def lost(self, connection: web.RequestHandler) -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        self._known.discard(connection)
        self.reserved.pop(connection, None)
        self.begins(connection)

    def refused(self) -> None:
        """Count a reserved connection with another request."""
        self.closed.add("refused")
        self._warn()

    def begins(self, connection: web.RequestHandler) -> None:
        """A request begins: the connection is not idle."""
        self._idle.pop(connection, None)
        self._idle_known.pop(connection, None)

    def ends(self, connection: web.RequestHandler, *, accepted: bool) -> None:
        """The request is answered. ``accepted`` says whether it was an accepted event."""
        if connection not in self._open:
            return
        if accepted:
            self._known.add(connection)
        idle = self._idle_known if connection in self._known else self._idle
        idle[connection] = None

    def _close(self, connection: web.RequestHandler, why: Literal["idle", "refused"]) -> None:
        """Close a connection; an idle one at once, because a peer that does not read would keep the descriptor."""
        transport = connection.transport
        self.lost(connection)
        connection.force_close()
        if why == "idle" and transport is not None:
            transport.abort()
        self.closed.add(why)
        self._warn()

    def _warn(self) -> None:
        now = self._clock()
        if now - self._warned_at < _WARNED_EVERY:
            return
        self._warned_at = now
        details: dict[str, Any] = {"open": len(self._open), "limit": self.limit}
        details |= {why: int(number) for (why,), number in self.closed.read().items()}
        details["next"] = "see who connects; raise `ulimit -Hn`"
        _logger.warning("too many connections: the oldest idle ones are closed", extra=details)


class _Connection(web.RequestHandler):
    """A connection that parses nothing more after a broken request.

    aiohttp stores a parser's error in a local variable of the function that caught it. That is a reference cycle, which
    keeps the received data, up to 256 KB for each error, until a garbage collection.
    """

    __slots__ = ("_broken", "_open_connections")

    def __init__(self, server: web.Server, connections: Connections, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._open_connections = connections
        self._broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # aiohttp's task exists only now, and it must begin before the connection may be closed.
        self._open_connections.opened(self)

    def data_received(self, data: bytes) -> None:
        if not self._broken:
            super().data_received(data)
            # A request that could not be parsed is represented by an error.
            self._broken = bool(self._messages) and not isinstance(self._messages[-1][0], RawRequestMessage)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        self._broken = True
        if exc is not None:
            exc.__traceback__ = None
        return super().handle_error(request, status, exc, message)


class _Request(web.BaseRequest):
    """A request whose response has no Server header, so that it does not reveal the software."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.popall(hdrs.SERVER, None)


class _Server(web.Server):
    """A server that reports its connections, and which of them have a running request."""

    def __init__(self, receiver: Receiver, connections: Connections, **settings: Any) -> None:
        super().__init__(self._answer, request_factory=self._request, **settings)
        self._receiver, self._open_connections, self._settings = receiver, connections, settings
        self._running_loop = asyncio.get_running_loop()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._open_connections, loop=self._running_loop, **self._settings)

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return _Request(message, payload, protocol, writer, task, self._running_loop)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._open_connections.lost(handler)
        super().connection_lost(handler, exc)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        connection, accepted = request.protocol, False
        self._open_connections.begins(connection)
        try:
            if connection in self._open_connections.reserved:
                return await self._answer_reserved(request)
            response = await self._receiver.answer(request)
            accepted = response.status == _ACCEPTED
            return response
        finally:
            self._open_connections.ends(connection, accepted=accepted)

    async def _answer_reserved(self, request: web.BaseRequest) -> web.Response:
        """Answer only health requests, because all other connections have a running request. Close the connection."""
        if request.path in (HEALTHZ, READYZ):
            response = await self._receiver.answer(request)
        else:
            self._open_connections.refused()
            response = web.Response(status=503, headers={"Retry-After": "1"})
        response.force_close()
        return response


class _Runner(web.ServerRunner):
    """A runner that stops its receiver at the beginning of a shutdown and drains it at the end."""

    def __init__(self, receiver: Receiver, server: web.Server) -> None:
        super().__init__(server, shutdown_timeout=SHUTDOWN_TIMEOUT)
        self._receiver = receiver

    async def shutdown(self) -> None:
        self._receiver.stopping()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._receiver.drain()


def receiver_runner(receiver: Receiver, connections: Connections | None = None) -> web.BaseRunner:
    """The runner of the public listener. ``connections`` limits the open connections.

    It has no access log and drops aiohttp's error texts: both quote the query string, which may contain the secret.
    """
    server = _Server(
        receiver,
        connections or Connections(_MOST_CONNECTIONS),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=IDLE,
        lingering_time=_LINGERING,
        logger=redacting_logger(),
    )
    return _Runner(receiver, server)


def redacting_logger() -> logging.LoggerAdapter[logging.Logger]:
    """A logger for servers: aiohttp's messages about broken requests, without the text of the request."""
    return _RedactingLogger(logging.getLogger("aiohttp.server"), {})


class _RedactingLogger(logging.LoggerAdapter[logging.Logger]):
    """Removes the text of exceptions, because it quotes the request line or a header."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **kwargs: Any) -> None:
        """Log the type of the error and the sender."""
        kind = type(exc_info).__name__ if isinstance(exc_info, BaseException) else "error"
        self.logger.info(f"{msg} (%s)", *args, kind)

    def debug(self, msg: object, *args: object, **_kwargs: Any) -> None:
        """Log without the exception."""
        self.logger.debug(msg, *args)

"""The public listener as a server: it logs nothing that quotes a request, and sees its requests off at the end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage

from engine.receiver.connections import Connections
from engine.receiver.receiver import HEALTHZ, READYZ, SHUTDOWN_TIMEOUT, Receiver

#: How long what a refused sender still sends is read and thrown away, in seconds: else it might miss the answer.
_LINGERING = 2.0
#: How long a connection may be idle, in seconds: a little longer than proxies keep theirs.
IDLE = 75.0
_ACCEPTED = 202
#: How many connections may be open where nobody says.
_MOST_CONNECTIONS = 1024


class _Connection(web.RequestHandler):
    """A connection that parses nothing more after a broken request.

    aiohttp keeps a parser's error in a variable of the function that caught it. That is a cycle: what was received,
    up to 256 KB for each error, stays until a garbage collection.
    """

    __slots__ = ("_broken", "_known")

    def __init__(self, server: web.Server, known: Connections, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._known = known
        self._broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Only now aiohttp's task exists, which must begin before the connection may be closed.
        self._known.opened(self, cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        if not self._broken:
            super().data_received(data)
            # In place of a request that could not be parsed there is an error.
            self._broken = bool(self._messages) and not isinstance(self._messages[-1][0], RawRequestMessage)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        self._broken = True
        if exc is not None:
            exc.__traceback__ = None
        return super().handle_error(request, status, exc, message)


class _Request(web.BaseRequest):
    """A request whose answer does not say what software sends it: senders need not know, and others shall not."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.popall(hdrs.SERVER, None)


class _Server(web.Server):
    """A server that says which connections it has, and which of them have a request under way."""

    def __init__(self, receiver: Receiver, connections: Connections, **settings: Any) -> None:
        super().__init__(self._answer, request_factory=self._request, **settings)
        self._receiver, self._known, self._settings = receiver, connections, settings
        self._running_loop = asyncio.get_running_loop()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._known, loop=self._running_loop, **self._settings)

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return _Request(message, payload, protocol, writer, task, self._running_loop)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._known.lost(handler)
        super().connection_lost(handler, exc)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        connection, accepted = request.protocol, False
        self._known.begins(connection)
        try:
            if self._known.is_reserved(connection):
                return await self._answer_reserved(request)
            response = await self._receiver.answer(request)
            accepted = response.status == _ACCEPTED
            return response
        finally:
            self._known.ends(connection, accepted=accepted)

    async def _answer_reserved(self, request: web.BaseRequest) -> web.Response:
        """All other connections have a request under way: only health is told, and the connection closed."""
        if request.path in (HEALTHZ, READYZ):
            response = await self._receiver.answer(request)
        else:
            self._known.refused()
            response = web.Response(status=503, headers={"Retry-After": "1"})
        response.force_close()
        return response


class _Runner(web.ServerRunner):
    """A server that tells its receiver when it begins to shut down, and waits for it in the end."""

    def __init__(self, receiver: Receiver, server: web.Server) -> None:
        super().__init__(server, shutdown_timeout=SHUTDOWN_TIMEOUT)
        self._receiver = receiver

    async def shutdown(self) -> None:
        self._receiver.stopping()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._receiver.drain()


def receiver_runner(receiver: Receiver, connections: Connections | None = None) -> web.BaseRunner:
    """The public listener, to be set up, given an address, and cleaned up. ``connections`` bounds what is open.

    No access log, and none of aiohttp's own error texts: both would quote the query string, which holds the secret.
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
    """For a server: what aiohttp has to say of broken requests, without their text."""
    return _RedactingLogger(logging.getLogger("aiohttp.server"), {})


class _RedactingLogger(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log of broken requests, without the exception's text: it quotes the request line or a header."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **kwargs: Any) -> None:
        """Tell the kind of error and whom it came from."""
        kind = type(exc_info).__name__ if isinstance(exc_info, BaseException) else "error"
        self.logger.info(f"{msg} (%s)", *args, kind)

    def debug(self, msg: object, *args: object, **_kwargs: Any) -> None:
        """Leave the exception out."""
        self.logger.debug(msg, *args)

"""The public listener as a server: it logs nothing that quotes a request, and sees its requests off at the end."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web

from engine.receiver import SHUTDOWN_TIMEOUT, Receiver

#: How long what a refused sender still sends is read and thrown away, in seconds: else it might miss the answer.
_LINGERING = 2.0


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


def receiver_runner(receiver: Receiver) -> web.BaseRunner:
    """The public listener, to be set up, given an address, and cleaned up.

    No access log, and none of aiohttp's own error texts: both would quote the query string, which holds the secret.
    """
    server = web.Server(
        receiver.answer,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=75.0,
        lingering_time=_LINGERING,
        logger=discreet_logger(),
    )
    return _Runner(receiver, server)


def discreet_logger() -> logging.LoggerAdapter[logging.Logger]:
    """For a server: what aiohttp has to say of broken requests, without their text."""
    return _DiscreetLogger(logging.getLogger("aiohttp.server"), {})


class _DiscreetLogger(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log of broken requests, without the exception's text: it quotes the request line or a header."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **kwargs: Any) -> None:
        """Tell the kind of error and whom it came from."""
        kind = type(exc_info).__name__ if isinstance(exc_info, BaseException) else "error"
        self.logger.info(f"{msg} (%s)", *args, kind)

    def debug(self, msg: object, *args: object, **_kwargs: Any) -> None:
        """Leave the exception out."""
        self.logger.debug(msg, *args)

"""The open connections of a listener: at most so many, and for another one the oldest idle one is closed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Literal

from aiohttp import web

from engine.core.counters import Counts

#: How many connections more there may be where all have a request under way: they can only ask for the engine's health.
RESERVED: Final = 16
#: Between two warnings, in seconds.
_WARNED_EVERY = 60.0
#: The answer where every other connection has a request under way.
_REFUSED: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
#: Why a connection was closed. They are labels of a metric, and documented.
CLOSED = ("idle", "refused")

_logger = logging.getLogger(__name__)


class Connections:
    """What is open, at most ``limit`` and ``reserved``; ``closed`` counts what had to be closed, by reason.

    A connection is idle while it has no whole request's headers: before the first request, between two,
    and while one comes in slowly. Those over which an event was accepted are closed last: the next one may
    be on its way, and a sender need not repeat what a closed connection lost. ``clock`` gives seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic, *, reserved: int = RESERVED) -> None:
        self.limit = limit
        self._most_reserved = reserved
        self.closed = Counts()
        for why in CLOSED:
            self.closed.add(why, amount=0)
        self._clock = clock
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        #: Those that are idle, the one first that has been for longest; and apart those that brought an event.
        self._idle: dict[web.RequestHandler, None] = {}
        self._idle_known: dict[web.RequestHandler, None] = {}
        self._known: set[web.RequestHandler] = set()
        #: The oldest first.
        self._reserved: dict[web.RequestHandler, asyncio.Transport] = {}
        self._warned_at = -_WARNED_EVERY

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def opened(self, connection: web.RequestHandler, transport: asyncio.Transport) -> None:
        """There is a new one; where that makes one too many, the oldest idle one is closed."""
        if len(self._open) >= self.limit:
            oldest = next(iter(self._idle or self._idle_known), None)
            if oldest is not None:
                self._close(oldest, "idle", self._open[oldest])
            else:
                self._reserve(connection, transport)
                return
        self._open[connection] = transport
        self._idle[connection] = None

    def _reserve(self, connection: web.RequestHandler, transport: asyncio.Transport) -> None:
        """It is one of the reserved; where these are too many, the oldest is refused."""
        self._reserved[connection] = transport
        if len(self._reserved) > self._most_reserved:
            oldest = next(iter(self._reserved))
            self._reserved[oldest].write(_REFUSED)
            self._close(oldest, "refused", None)

    def lost(self, connection: web.RequestHandler) -> None:
        """It is closed, by whomever."""
        self._open.pop(connection, None)
        self._known.discard(connection)
        self._reserved.pop(connection, None)
        self.begins(connection)

    def is_reserved(self, connection: web.RequestHandler) -> bool:
        """Whether it may only ask for the engine's health, once."""
        return connection in self._reserved

    def refused(self) -> None:
        """What came over a reserved connection was something else."""
        self.closed.add("refused")
        self._warn()

    def begins(self, connection: web.RequestHandler) -> None:
        """A request is under way."""
        self._idle.pop(connection, None)
        self._idle_known.pop(connection, None)

    def ends(self, connection: web.RequestHandler, *, accepted: bool) -> None:
        """The request has its answer: an event was ``accepted``, or not."""
        if connection not in self._open:
            return
        if accepted:
            self._known.add(connection)
        idle = self._idle_known if connection in self._known else self._idle
        idle[connection] = None

    def _close(
        self, connection: web.RequestHandler, why: Literal["idle", "refused"], abort: asyncio.Transport | None
    ) -> None:
        """Close it; with ``abort`` at once: a peer that reads nothing would keep the descriptor."""
        self.lost(connection)
        connection.force_close()
        if abort is not None:
            abort.abort()
        self.closed.add(why)
        self._warn()

    def _warn(self) -> None:
        now = self._clock()
        if now - self._warned_at < _WARNED_EVERY:
            return
        self._warned_at = now
        closed = {why: int(number) for (why,), number in self.closed.read().items()}
        told = {"open": len(self._open), "limit": self.limit, **closed, "next": "see who connects; raise `ulimit -Hn`"}
        _logger.warning("too many connections: the oldest idle ones are closed", extra=told)

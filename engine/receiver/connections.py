"""The open connections of a listener. When the limit is reached, the oldest idle connection is closed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Literal

from aiohttp import web

from engine.core.counters import Counts

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
        self.limit = limit
        self._most_reserved = reserved
        self.closed = Counts()
        for why in CLOSED:
            self.closed.add(why, amount=0)
        self._clock = clock
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        #: Idle connections, the longest idle first; those that delivered an event are kept separately.
        self._idle: dict[web.RequestHandler, None] = {}
        self._idle_known: dict[web.RequestHandler, None] = {}
        self._known: set[web.RequestHandler] = set()
        #: Reserved connections, the oldest first.
        self._reserved: dict[web.RequestHandler, asyncio.Transport] = {}
        self._warned_at = -_WARNED_EVERY

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def opened(self, connection: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Add a new connection. If there are too many, close the oldest idle one."""
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
        """Add a reserved connection. If there are too many, reject the oldest."""
        self._reserved[connection] = transport
        if len(self._reserved) > self._most_reserved:
            oldest = next(iter(self._reserved))
            self._reserved[oldest].write(_REFUSED)
            self._close(oldest, "refused", None)

    def lost(self, connection: web.RequestHandler) -> None:
        """Remove a closed connection."""
        self._open.pop(connection, None)
        self._known.discard(connection)
        self._reserved.pop(connection, None)
        self.begins(connection)

    def is_reserved(self, connection: web.RequestHandler) -> bool:
        """Whether the connection may only read the engine's health, once."""
        return connection in self._reserved

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

    def _close(
        self, connection: web.RequestHandler, why: Literal["idle", "refused"], abort: asyncio.Transport | None
    ) -> None:
        """Close a connection; with ``abort`` at once, because a peer that does not read would keep the descriptor."""
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
        details = {
            "open": len(self._open),
            "limit": self.limit,
            **closed,
            "next": "see who connects; raise `ulimit -Hn`",
        }
        _logger.warning("too many connections: the oldest idle ones are closed", extra=details)

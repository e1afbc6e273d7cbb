"""Reading a request's body, unchanged, with limits on size and time."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from engine.receiver.admission import Reservation
from engine.receiver.responses import ErrorResponse, broken_body, overload, too_large

#: For how many seconds bodies are still read when the receiver is stopping.
_LAST_CALL = 0.5


class BodyReader:
    """Reads bodies of at most ``limit`` bytes. ``deadline`` is in seconds, for error messages."""

    def __init__(self, limit: int, deadline: float) -> None:
        self._limit, self._deadline = limit, deadline
        self._reading: set[asyncio.Timeout] = set()
        self._stopping = False

    async def read(self, request: web.BaseRequest, reservation: Reservation, until: float) -> bytes:
        """Read the whole body, unchanged. A small body has arrived with its headers and needs no waiting.

        Raises:
            ErrorResponse: it is too large, too slow or broken.
            NoCapacity: there is no memory for it.
        """
        stream = request.content
        if not stream.is_eof() or stream.total_bytes > self._limit:
            return await self._read_slowly(request, reservation, until)
        body = stream.read_nowait()
        reservation.grow(len(body))
        return body

    def stop(self) -> None:
        """Give bodies that are being read another half second."""
        self._stopping = True
        soon = asyncio.get_running_loop().time() + _LAST_CALL
        for timeout in self._reading:
            if not timeout.expired() and (timeout.when() or soon) >= soon:
                timeout.reschedule(soon)

    async def _read_slowly(self, request: web.BaseRequest, reservation: Reservation, until: float) -> bytes:
        pieces: list[bytes] = []
        timeout = asyncio.timeout(until - time.monotonic())
        try:
            async with timeout:
                self._reading.add(timeout)
                async for piece in request.content.iter_any():
                    reservation.grow(len(piece))
                    pieces.append(piece)
                    if reservation.size > self._limit:
                        raise too_large(f"the body is more than {self._limit} bytes", self._limit)
            return b"".join(pieces)
        except TimeoutError as error:
            raise self._too_slow() from error
        except (web.RequestPayloadError, ConnectionError) as error:
            raise broken_body(error) from error
        finally:
            self._reading.discard(timeout)

    def _too_slow(self) -> ErrorResponse:
        if self._stopping:
            return overload("stopping", "the engine is stopping", close=True)
        return overload("slow_body", f"the body did not arrive within {self._deadline:g} seconds", close=True)

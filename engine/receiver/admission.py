"""Limits on what was received and is not durable yet: memory, appends, the time and size of bodies, parsing threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from engine.receiver.responses import ErrorResponse, NoCapacity, broken_body, overload, too_large

#: Concurrent appends before requests are rejected. On a slow disk thousands wait for one commit.
UNDER_WAY_LIMIT = 8192
#: Unfinished appends whose requests timed out. With this many the store is stuck, and requests are rejected.
LATE_LIMIT = 256
#: The part of the memory (one in this many) for bodies whose signature is not checked yet: anybody can send them. The
#: rest stays free for senders with a secret.
UNAUTHENTICATED_PART = 4
#: For how many seconds bodies are still read when the receiver is stopping.
_LAST_CALL = 0.5
#: How many bodies are decompressed and parsed at once. More would not be faster, because orjson holds the GIL.
THREADS = 2
#: Bodies with more bytes are parsed one after the other: in parallel all would be late and need memory at once.
_LARGE = 4 * 1024 * 1024
#: The assumed ratio of compression.
_COMPRESSED = 8

_TOO_MANY = "too many large bodies are being received at once"
_TOO_MANY_UNAUTHENTICATED = "too many large bodies with an unchecked signature and no secret are being received at once"


class Admission:
    """What the process holds in memory between a request's first byte and the commit of its event.

    ``held`` is in bytes of bodies, and ``parsed`` about how many bytes they take after parsing; each has the same
    limit. ``unauthenticated`` is in bytes of bodies whose signature is not checked yet. ``under_way`` and ``late``
    count appends. Everything is released when nothing remains in memory, not when the request is answered, because a
    stuck store goes on holding events.
    """

    __slots__ = (
        "held",
        "held_limit",
        "late",
        "late_limit",
        "parsed",
        "unauthenticated",
        "unauthenticated_limit",
        "under_way",
        "under_way_limit",
    )

    def __init__(
        self, held_limit: int, *, under_way_limit: int = UNDER_WAY_LIMIT, late_limit: int = LATE_LIMIT
    ) -> None:
        self.held_limit = held_limit
        self.under_way_limit = under_way_limit
        self.late_limit = late_limit
        self.unauthenticated_limit = held_limit // UNAUTHENTICATED_PART
        self.held = self.parsed = self.unauthenticated = self.under_way = self.late = 0

    def in_memory(self) -> int:
        """About how many bytes of memory are held."""
        return self.held + self.parsed

    def obstacle(self, size: int = 0, *, authenticated: bool = True) -> str:
        """Why another body of ``size`` bytes cannot be accepted; empty if it can."""
        if self.late >= self.late_limit:
            return f"the store is stuck: {self.late} events wait for it after their requests timed out"
        if self.under_way >= self.under_way_limit:
            return f"{self.under_way} events already wait for the store"
        if self.parsed >= self.held_limit or self.held >= self.held_limit or self.held + size > self.held_limit:
            return _TOO_MANY
        if not authenticated and (
            self.unauthenticated >= self.unauthenticated_limit
            or self.unauthenticated + size > self.unauthenticated_limit
        ):
            return _TOO_MANY_UNAUTHENTICATED
        return ""


class Reservation:
    """The memory that one request has reserved. ``parsed`` says whether its body is parsed."""

    __slots__ = ("_admission", "_authenticated", "_kept", "_late", "_parsed", "parsed", "size")

    def __init__(self, admission: Admission, *, authenticated: bool = True) -> None:
        self._admission = admission
        self._authenticated = authenticated
        self._kept = self._late = self.parsed = False
        self.size = self._parsed = 0

    def grow(self, size: int) -> None:
        """Reserve ``size`` more bytes; a negative size frees some.

        Raises:
            NoCapacity: the limit would be exceeded. Nothing more is reserved then.
        """
        admission = self._admission
        if size > 0 and admission.held + size > admission.held_limit:
            raise NoCapacity(_TOO_MANY)
        if not self._authenticated:
            if admission.unauthenticated + size > admission.unauthenticated_limit:
                raise NoCapacity(_TOO_MANY_UNAUTHENTICATED)
            admission.unauthenticated += size
        self.size += size
        admission.held += size

    def expand(self, size: int) -> None:
        """Reserve ``size`` bytes for the parsed body. Any size fits while others have at most half of the limit.

        Raises:
            NoCapacity: it does not fit. Nothing more is reserved then.
        """
        admission = self._admission
        if admission.parsed + size > admission.held_limit and admission.parsed > admission.held_limit // 2:
            raise NoCapacity(_TOO_MANY)
        self._parsed += size
        self.parsed = True
        admission.parsed += size

    def authenticate(self) -> None:
        """Record that the sender is authenticated."""
        if not self._authenticated:
            self._authenticated = True
            self._admission.unauthenticated -= self.size

    def keep(self) -> None:
        """Pass the reservation to an append, which releases it when it is done."""
        self._kept = True
        self._admission.under_way += 1

    @property
    def kept(self) -> bool:
        """Whether an append has the reservation."""
        return self._kept

    def late(self) -> None:
        """Record that the append continues after its request timed out."""
        self._late = True
        self._admission.late += 1

    def release(self) -> None:
        """Release everything. Call it once, when nothing of the request remains in memory."""
        self.authenticate()
        admission = self._admission
        admission.held -= self.size
        admission.parsed -= self._parsed
        admission.under_way -= self._kept
        admission.late -= self._late


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


class ParseQueue:
    """Admits bodies to the parsing threads in the order of arrival."""

    def __init__(self) -> None:
        self._any = asyncio.Semaphore(THREADS)
        self._large = asyncio.Semaphore(1)

    @asynccontextmanager
    async def turn(self, size: int, begin_by: float, *, compressed: bool = False) -> AsyncIterator[None]:
        """A context in which a body of ``size`` bytes may be parsed. ``begin_by`` is in seconds of the monotonic clock.

        A body that need not wait is admitted even after ``begin_by``.

        Raises:
            NoCapacity: no thread was free until ``begin_by``.
        """
        kinds = [self._any]
        if size * (_COMPRESSED if compressed else 1) > _LARGE:
            kinds.insert(0, self._large)
        async with AsyncExitStack() as taken:
            try:
                async with asyncio.timeout(begin_by - time.monotonic()):
                    for semaphore in kinds:
                        await taken.enter_async_context(semaphore)
            except TimeoutError as error:
                raise NoCapacity("too many large bodies wait to be parsed") from error
            yield

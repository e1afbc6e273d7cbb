"""Reading runs' data from object storage, through the presigned URLs in the runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from engine.clients.guard import AddressBlocked, trusting
from engine.clients.network import Origin
from engine.core import compression
from engine.core.errors import BadBody, DataTooLarge, EngineError, NotNow, TooComplex
from engine.core.event import parse_json
from engine.core.fair_share import FairShare
from engine.core.json_text import MAX_VALUES, parsed_size
from engine.core.memory_budget import Account, size_of

#: The largest object that is read, decompressed, in bytes.
OBJECT_LIMIT = 64 * 1024 * 1024
#: How many objects are read at once from one host, for all events.
CONCURRENCY = 32
#: The limit for all hosts, as a multiple of the limit for one host.
_HOSTS = 4
#: Objects up to this many bytes are parsed on the event loop, others in a thread.
_PARSED_INLINE = 256 * 1024
#: The first bytes of compressed data, to recognise objects stored without a Content-Encoding.
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))


class DataUnavailable(EngineError):  # noqa: N818 - names the condition
    """Why data could not be read. Never quotes the query of a presigned URL, which is a signature."""


class ObjectStorage:
    """Reads objects, with limits on concurrency for each host and on an account's memory."""

    def __init__(
        self,
        http: Callable[[], Awaitable[aiohttp.ClientSession]],
        trusted: Callable[[], Origin | None],
        *,
        object_limit: int = OBJECT_LIMIT,
        max_values: int = MAX_VALUES,
        concurrency: int = CONCURRENCY,
        timeout: float,
    ) -> None:
        """Both callables are called at every read, so that a reload takes effect at once.

        Args:
            http: the session that reads objects.
            trusted: the origin that may be read from even if it is not public.
            object_limit: the largest object, decompressed, in bytes.
            max_values: how many JSON values an object may have.
            concurrency: how many objects are read at once from one host.
            timeout: how many seconds a read may take, including the wait for a slot.
        """
        self._http, self._trusted = http, trusted
        self._object_limit, self._max_values, self._timeout = object_limit, max_values, timeout
        self._slots = HostSlots(concurrency)

    async def read(self, url: str, account: Account) -> tuple[Any, int]:
        """Read an object's JSON. Returns it with its size in memory in bytes, which is added to the account.

        Raises:
            DataUnavailable: it could not be read.
            DataTooLarge: it exceeds the memory limit of an event.
            NotNow: there is not enough memory at the moment.
        """
        reserved = _Reserved(account)
        try:
            async with asyncio.timeout(self._timeout), self._slots.of(_host(url)):
                value, size = await self._get(url, reserved)
        except TimeoutError:
            raise DataUnavailable(f"{masked(url)} did not answer within {self._timeout:g} s") from None
        except TooComplex as error:
            raise DataTooLarge(f"{masked(url)}: {error}") from None
        except (DataUnavailable, AddressBlocked, compression.BrokenCoding, BadBody) as error:
            raise DataUnavailable(f"{masked(url)}: {error}") from None
        except (DataTooLarge, NotNow) as error:
            error.args = (f"{masked(url)}: {error}",)
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # An aiohttp error's own text may quote the whole URL.
            raise DataUnavailable(f"{masked(url)} could not be read ({type(error).__name__})") from None
        finally:
            reserved.release()
        account.add(size)
        return value, size

    async def _get(self, url: str, reserved: _Reserved) -> tuple[Any, int]:
        """Fetch and parse an object. The URL is sent exactly as it was signed."""
        http, trusted = await self._http(), self._trusted()
        with trusting(frozenset({trusted} if trusted else ())):
            async with http.get(URL(url, encoded=True)) as response:
                if response.status in (400, 401, 403, 404, 410):
                    raise DataUnavailable(f"HTTP {response.status} (the link may have expired)")
                if response.status != 200:
                    raise DataUnavailable(f"HTTP {response.status}")
                body = await self._read_body(response, reserved)
        stored_as = next((name for magic, name in _MAGIC if body.startswith(magic)), "")
        if stored_as:
            body = await self._decoded(body, stored_as, reserved)
        return await self._parsed(body, reserved)

    async def _read_body(self, response: aiohttp.ClientResponse, reserved: _Reserved) -> bytes:
        reserved.account.check(response.content_length or 0)
        body = bytearray()
        async for piece in response.content.iter_any():
            await self._add(body, piece, reserved)
        return bytes(body)

    async def _decoded(self, body: bytes, stored_as: str, reserved: _Reserved) -> bytes:
        decoded = bytearray()
        pieces = compression.decoded_pieces(body, stored_as)
        while piece := await asyncio.to_thread(next, pieces, b""):
            await self._add(decoded, piece, reserved)
        return bytes(decoded)

    async def _add(self, body: bytearray, piece: bytes, reserved: _Reserved) -> None:
        if len(body) + len(piece) > self._object_limit:
            raise DataTooLarge(f"it has more than {self._object_limit} bytes")
        await reserved.grow(len(piece))
        body += piece

    async def _parsed(self, body: bytes, reserved: _Reserved) -> tuple[Any, int]:
        """Parse a body. Returns the value and its size in bytes. Memory is reserved before, by an estimate."""
        if len(body) <= _PARSED_INLINE:
            await reserved.grow(parsed_size(body, self._max_values))
            return self._parse(body)
        await reserved.grow(await asyncio.to_thread(parsed_size, body, self._max_values))
        return await asyncio.to_thread(self._parse, body)

    def _parse(self, body: bytes) -> tuple[Any, int]:
        value = parse_json(body, self._max_values)[0]
        return value, size_of(value)


class _Reserved:
    """The memory that one read has reserved in an account until its value is complete."""

    def __init__(self, account: Account) -> None:
        self.account, self.size = account, 0

    async def grow(self, size: int) -> None:
        """Reserve ``size`` more bytes.

        Raises:
            DataTooLarge: they can never fit.
            NotNow: they do not fit at the moment.
        """
        await self.account.grow(size)
        self.size += size

    def release(self) -> None:
        self.account.shrink(self.size)
        self.size = 0


class HostSlots:
    """Slots for concurrent reads: ``per_host`` for one host, and four times as many for all hosts.

    Hosts share the slots like destinations do (see ``FairShare``), so that hosts which do not answer leave slots for
    others. A host is removed when nothing is read from it and nothing waits.
    """

    def __init__(self, per_host: int) -> None:
        self._share = FairShare(_HOSTS * per_host)
        self._in_flight: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return len({*self._in_flight, *self._waiting})

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for a slot of a host, and hold it in the context."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, deque()).append(turn)
        self._advance()
        try:
            await turn
            yield
        finally:
            if turn.cancelled():
                self._waiting[name].remove(turn)
            else:
                self._count(name, -1)
            self._advance()

    def _advance(self) -> None:
        """Give free slots to those that wait, in their order for each host."""
        for name, turns in list(self._waiting.items()):
            while turns and not turns[0].cancelled() and self._is_free(self._in_flight.get(name, 0)):
                self._count(name, 1)
                turns.popleft().set_result(None)
            if not turns:
                del self._waiting[name]

    def _is_free(self, in_flight: int) -> bool:
        return in_flight < self._share.max_each and self._share.available(in_flight) > 0

    def _count(self, name: str, change: int) -> None:
        self._share.taken += change
        self._in_flight[name] = self._in_flight.get(name, 0) + change
        if not self._in_flight[name]:
            del self._in_flight[name]


def _host(url: str) -> str:
    """The host and port of a URL; empty for an invalid URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or parts.scheme
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}"


def masked(url: str) -> str:
    """A presigned URL's host and path, without the query, which is a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return f"{parts.hostname or 'a URL without a host'}{parts.path}"

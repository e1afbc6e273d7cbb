"""Runs' data in object storage, read from the presigned URLs that came with the runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from engine.clients.guard import AddressBlocked, trusting
from engine.clients.origin import Origin
from engine.core import compression
from engine.core.errors import BadBody, DataTooLarge, EngineError, NotNow, TooComplex
from engine.core.event import parse_json
from engine.core.fair_share import FairShare
from engine.core.json_scan import MAX_VALUES, parsed_size
from engine.core.memory_budget import Account, size_of

#: The largest object that is read, decompressed, in bytes.
OBJECT_LIMIT = 64 * 1024 * 1024
#: Objects read at once from one host, over all events.
CONCURRENCY = 32
#: So many times as many objects are read at once from all hosts.
_HOSTS = 4
#: Objects up to so many bytes are parsed on the loop; the rest in a thread.
_PARSED_INLINE = 256 * 1024
#: How the first bytes of compressed data look that was stored without saying so.
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))


class DataUnavailable(EngineError):  # noqa: N818 - what came of it, in words for people
    """Why a piece of data could not be had. Never quotes a presigned URL's query: it is a signature."""


class ObjectStorage:
    """Reads objects, some at once from each host, and never more than an account's memory allows."""

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
        """Both callables are asked at every read, so that a reload's new settings count at once.

        Args:
            http: the session that reads objects.
            trusted: the origin that is read from though it may not be public.
            object_limit: the largest object, decompressed, in bytes.
            max_values: how many JSON values an object may have.
            concurrency: how many objects are read at once from one host.
            timeout: how many seconds a read may take, waiting for its turn included.
        """
        self._http, self._trusted = http, trusted
        self._object_limit, self._max_values, self._timeout = object_limit, max_values, timeout
        self._slots = HostSlots(concurrency)

    async def read(self, url: str, account: Account) -> tuple[Any, int]:
        """An object's JSON, and how many bytes it takes. The account has them afterwards.

        Raises:
            DataUnavailable: it could not be read.
            DataTooLarge: it does not fit into the memory that an event may take.
            NotNow: it does not fit at the moment.
        """
        taken = _Taken(account)
        try:
            async with asyncio.timeout(self._timeout), self._slots.of(_host(url)):
                value, size = await self._get(url, taken)
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
            taken.give_back()
        account.add(size)
        return value, size

    async def _get(self, url: str, taken: _Taken) -> tuple[Any, int]:
        """An object's JSON. The URL goes out as it was signed."""
        http, trusted = await self._http(), self._trusted()
        with trusting(frozenset({trusted} if trusted else ())):
            async with http.get(URL(url, encoded=True)) as response:
                if response.status in (400, 401, 403, 404, 410):
                    raise DataUnavailable(f"HTTP {response.status} (the link may have expired)")
                if response.status != 200:
                    raise DataUnavailable(f"HTTP {response.status}")
                body = await self._read_body(response, taken)
        stored_as = next((name for magic, name in _MAGIC if body.startswith(magic)), "")
        if stored_as:
            body = await self._decoded(body, stored_as, taken)
        return await self._parsed(body, taken)

    async def _read_body(self, response: aiohttp.ClientResponse, taken: _Taken) -> bytes:
        taken.account.check(response.content_length or 0)
        body = bytearray()
        async for piece in response.content.iter_any():
            await self._add(body, piece, taken)
        return bytes(body)

    async def _decoded(self, body: bytes, stored_as: str, taken: _Taken) -> bytes:
        decoded = bytearray()
        pieces = compression.decoded_pieces(body, stored_as)
        while piece := await asyncio.to_thread(next, pieces, b""):
            await self._add(decoded, piece, taken)
        return bytes(decoded)

    async def _add(self, body: bytearray, piece: bytes, taken: _Taken) -> None:
        if len(body) + len(piece) > self._object_limit:
            raise DataTooLarge(f"it has more than {self._object_limit} bytes")
        await taken.grow(len(piece))
        body += piece

    async def _parsed(self, body: bytes, taken: _Taken) -> tuple[Any, int]:
        """What a body parses to, and how many bytes that takes; reserved before by an estimate."""
        if len(body) <= _PARSED_INLINE:
            await taken.grow(parsed_size(body, self._max_values))
            return self._parse(body)
        await taken.grow(await asyncio.to_thread(parsed_size, body, self._max_values))
        return await asyncio.to_thread(self._parse, body)

    def _parse(self, body: bytes) -> tuple[Any, int]:
        value = parse_json(body, self._max_values)[0]
        return value, size_of(value)


class _Taken:
    """What one read takes of an account until it has come to a value."""

    def __init__(self, account: Account) -> None:
        self.account, self.size = account, 0

    async def grow(self, size: int) -> None:
        """Take so many bytes more.

        Raises:
            DataTooLarge: they can never fit.
            NotNow: they do not fit at the moment.
        """
        await self.account.grow(size)
        self.size += size

    def give_back(self) -> None:
        self.account.shrink(self.size)
        self.size = 0


@dataclass(slots=True)
class _Host:
    under_way: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class HostSlots:
    """How many objects are read at once: so many from one host, and four times as many from all.

    Hosts share the slots as destinations share theirs (see ``FairShare``), so that hosts which hang leave some to the
    others. A host is known as long as something is read from it or waits for that.
    """

    def __init__(self, per_host: int) -> None:
        self._share = FairShare(_HOSTS * per_host)
        self._hosts: dict[str, _Host] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """A slot of a host, as soon as there is one."""
        host = self._hosts.setdefault(name, _Host())
        try:
            await self._take(host)
            try:
                yield
            finally:
                self._leave(host)
        finally:
            if not (host.under_way or host.waiting):
                self._hosts.pop(name, None)

    async def _take(self, host: _Host) -> None:
        if not host.waiting and self._is_free(host):
            self._enter(host)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in host.waiting:
                host.waiting.remove(turn)
            elif not turn.cancelled():  # it was let in at this very moment
                self._leave(host)
            raise

    def _is_free(self, host: _Host) -> bool:
        return host.under_way < self._share.max_each and self._share.available(host.under_way) > 0

    def _enter(self, host: _Host) -> None:
        host.under_way += 1
        self._share.taken += 1

    def _leave(self, host: _Host) -> None:
        host.under_way -= 1
        self._share.taken -= 1
        for other in self._hosts.values():
            while other.waiting and self._is_free(other):
                turn = other.waiting.popleft()
                if not turn.done():
                    self._enter(other)
                    turn.set_result(None)


def _host(url: str) -> str:
    """The host and port that a URL leads to; one name for all that is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or parts.scheme
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}"


def masked(url: str) -> str:
    """A presigned URL's host and path; what follows them is a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a link that is no URL"
    return f"{parts.hostname or 'a link without a host'}{parts.path}"

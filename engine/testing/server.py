"""The base of all stand-ins: a loopback HTTP server that records requests, and fails on demand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import MultipartReader, web
from multidict import CIMultiDictProxy, MultiDict, MultiDictProxy

from engine.core.json_text import is_deeper
from engine.testing.faults import Fault, Faults

#: The largest body a stand-in reads, in bytes.
LARGEST_BODY = 256 * 1024 * 1024
#: The maximum number of recorded requests.
MOST_KEPT = 200_000
#: A body that is nested deeper is refused: it may be part of an answer, and orjson writes 254 levels.
_MOST_LEVELS = 240


@dataclass(slots=True)
class Recorded:
    """One request and its response. ``status`` is 0 if there was none (hung, reset).

    ``path`` is as sent, ``route`` without the prefix that only says which
    API version is meant. ``body`` is the parsed JSON (forms and multipart: a dict by part
    name), None if there is none; ``raw`` the bytes. ``at`` is in Unix seconds.
    ``note`` says in a few words what happened, for people.
    """

    method: str
    path: str
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str] = field(repr=False)
    raw: bytes = field(repr=False)
    body: Any = None
    status: int = 0
    answer: Any = None
    at: float = field(default_factory=time.time)
    route: str = ""
    fault: Fault | None = None
    note: str = ""

    @property
    def line(self) -> str:
        """One short line for a log."""
        outcome = str(self.status) if self.status else "no answer"
        return f"{self.method} {self.path} → {outcome}" + (f"  {self.note}" if self.note else "")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. ``body`` is sent unchanged if it is bytes or text, else as JSON; None sends nothing."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - a response, not an error of the stand-in
    """A request that the service refuses, with its response."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {body}")
        self.answer = Answer(body, status, headers or {})


class StandIn(ABC):
    """A service's stand-in on loopback: ``async with``, or ``start`` and ``stop`` (which keeps the port).

    ``on_request`` is called with every request once it is answered, or given up.
    """

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, on_request: Callable[[Recorded], None] | None = None
    ) -> None:
        self.requests: list[Recorded] = []
        self.faults = Faults()
        #: Exceptions of the stand-in itself. Not empty only if it has a bug.
        self.crashes: list[Exception] = []
        self._host = host
        self._port = port
        self._on_request = on_request
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. A stand-in that was stopped listens on the port it had.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", r"/{path:[\s\S]*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, reuse_address=True).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections. Hanging requests are cut off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def origin(self) -> str:
        """``http://host:port``. The port is known once it has started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def url(self) -> str:
        """The URL for callers."""
        return self.origin

    def route_of(self, path: str) -> str:
        """The path without prefixes that do not distinguish endpoints."""
        return path

    def fault_body(self, recorded: Recorded, status: int) -> Any:
        """The default body of a fault."""
        return {"detail": f"fault on demand: {status}"}

    @abstractmethod
    async def answer(self, recorded: Recorded) -> Answer:
        """Respond like the service.

        Raises:
            Refused: the service refuses the request.
        """

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        recorded = await _record(request)
        recorded.route = self.route_of(recorded.path)
        recorded.fault = self.faults.take(recorded.method, recorded.path, recorded.route)
        self._remember(recorded)
        try:
            return await self._respond(request, recorded)
        finally:
            if self._on_request is not None:
                self._on_request(recorded)

    def _remember(self, recorded: Recorded) -> None:
        """Remove the older half when there are too many: a demo may run for weeks."""
        self.requests.append(recorded)
        if len(self.requests) > MOST_KEPT:
            del self.requests[: MOST_KEPT // 2]

    async def _respond(self, request: web.Request, recorded: Recorded) -> web.StreamResponse:
        fault = recorded.fault
        answer = None if fault and fault.replaces and not fault.applied else await self._answer(recorded)
        if fault is not None:
            await asyncio.sleep(fault.hang)
            if fault.reset:
                return _reset(request, recorded)
            if fault.replaces:
                answer = self._faulty(fault, recorded, answer)
        answer = answer or Answer()
        recorded.status, recorded.answer = answer.status, answer.body
        response = _to_response(answer)
        return response if fault is None or not fault.halves else await _halve(request, recorded, response, fault)

    def _faulty(self, fault: Fault, recorded: Recorded, answer: Answer | None) -> Answer:
        status = fault.status or (answer.status if answer else 200)
        body = self.fault_body(recorded, status) if fault.body is None else fault.body
        headers = dict(fault.headers)
        if fault.retry_after is not None:
            headers["Retry-After"] = f"{fault.retry_after:g}"
        return Answer(body, status, headers)

    async def _answer(self, recorded: Recorded) -> Answer:
        try:
            return await self.answer(recorded)
        except Refused as refused:
            return refused.answer
        except Exception as error:
            self.crashes.append(error)
            raise


async def _record(request: web.Request) -> Recorded:
    raw = b"" if request.content_type.startswith("multipart/") else await request.read()
    recorded = Recorded(request.method, request.path, MultiDictProxy(MultiDict(request.query)), request.headers, raw)
    if request.content_type.startswith("multipart/"):
        recorded.body = await _read_parts(request)
    elif request.content_type == "application/x-www-form-urlencoded":
        recorded.body = dict(await request.post())
    elif raw:
        recorded.body = _parse(raw)
    return recorded


async def _read_parts(request: web.Request) -> dict[str, Any] | None:
    """The parts by name; None if the body is not multipart."""
    with contextlib.suppress(ValueError, EOFError):
        return await _parse_parts(await request.multipart())
    return None


async def _parse_parts(reader: MultipartReader) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    async for part in reader:
        if part is None or isinstance(part, MultipartReader):
            continue
        content = bytes(await part.read(decode=True))
        is_json = part.headers.get("Content-Type", "").startswith("application/json")
        parts[part.name or ""] = _parse(content) if is_json else content
    return parts


def _parse(content: bytes) -> Any:
    """The JSON value; None if it is invalid or cannot be written again. Endpoints refuse None."""
    if is_deeper(content, _MOST_LEVELS):
        return None
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(content)
    return None


def _reset(request: web.Request, recorded: Recorded) -> web.StreamResponse:
    """A TCP reset: with linger 0 the kernel sends RST instead of FIN."""
    recorded.note = recorded.note or "connection reset"
    if (transport := request.transport) is not None:
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _halve(request: web.Request, recorded: Recorded, whole: web.Response, fault: Fault) -> web.StreamResponse:
    """Send the response's body in two halves. A cut omits the second one, which has at least a byte."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    response.content_length = len(body) + fault.cut
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(fault.drip)
    if fault.cut:
        recorded.note = "cut off in the middle of the answer"
        return _reset(request, recorded)
    await response.write(body[len(body) // 2 :])
    return response


def _to_response(answer: Answer) -> web.Response:
    headers = dict(answer.headers)
    if isinstance(answer.body, str):
        return web.Response(text=answer.body, status=answer.status, headers=headers)
    if isinstance(answer.body, bytes) or answer.body is None:
        return web.Response(body=answer.body, status=answer.status, headers=headers)
    headers.setdefault("Content-Type", "application/json")
    return web.Response(body=orjson.dumps(answer.body), status=answer.status, headers=headers)

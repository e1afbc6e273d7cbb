"""A receiver on a loopback port in front of a fake store, for the tests that post to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from engine.core.event import Event
from engine.receiver.receiver import WEBHOOK_PATH, Receiver
from engine.receiver.server import receiver_runner
from engine.store.records import Appended


@dataclass
class FakeStore:
    """Keeps events by dedup key, as slowly or as badly as a test likes."""

    events: dict[str, Event] = field(default_factory=dict)
    delay: float = 0.0
    error: Exception | None = None
    stuck: asyncio.Event | None = None

    async def append(self, event: Event) -> Appended:
        await asyncio.sleep(self.delay)
        if self.stuck is not None:
            await self.stuck.wait()
        if self.error is not None:
            raise self.error
        known = self.events.setdefault(event.dedup_key, event)
        return Appended(known.id, known is not event)

    @property
    def payloads(self) -> list[dict]:
        return [event.payload for event in self.events.values()]


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Served:
    """A running receiver: where it is, what it kept, what it told its metrics."""

    port: int
    store: FakeStore
    receiver: Receiver
    results: list[tuple[str, float]]
    http: aiohttp.ClientSession
    runner: web.AppRunner

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def send(self, body=b"{}", *, query="?secret=good", method="POST", path=WEBHOOK_PATH, **kwargs) -> Answer:
        async with self.http.request(method, f"{self.url}{path}{query}", data=body, **kwargs) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def send_raw(self, *pieces: bytes, pause: float = 0.0, timeout: float = 10.0) -> bytes:
        """Bytes as they are; what came back until the server closed or said its word."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            return await read_answer(reader, timeout)
        finally:
            writer.close()


async def read_answer(reader: asyncio.StreamReader, timeout: float) -> bytes:
    """One response with a Content-Length, or all there is until the end."""
    async with asyncio.timeout(timeout):
        answer = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return answer + await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else answer


def post(body: bytes, *headers: str, target: str = f"{WEBHOOK_PATH}?secret=good", length: int | None = -1) -> bytes:
    """A raw request; ``length`` None leaves the Content-Length out, -1 is the true one."""
    lines = [f"POST {target} HTTP/1.1", "Host: localhost", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(store: FakeStore | None = None, **settings) -> AsyncIterator[Served]:
    store = store or FakeStore()
    results: list[tuple[str, float]] = []

    async def ready() -> str:
        return ""

    receiver = Receiver(
        **{
            "append": store.append,
            "secrets": lambda: ("good",),
            "ready": ready,
            "on_result": lambda reason, seconds: results.append((reason, seconds)),
            **settings,
        }
    )
    runner = receiver_runner(receiver)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        # A raw cookie jar and no decompression: what the server says is looked at as it came.
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            yield Served(runner.addresses[0][1], store, receiver, results, http, runner)
    finally:
        await runner.cleanup()

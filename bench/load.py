"""A small HTTP client that keeps a server busy: fixed count, many connections, one process of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Result:
    """``seconds`` from the first byte to the last answer; ``statuses`` counts the answers."""

    seconds: float
    statuses: dict[int, int]


def bodies(count: int, first: int = 0) -> Iterator[bytes]:
    """Payloads of about 1.5 KB like the one LangSmith documents, each of another time window, by its number."""
    text = json.dumps(json.loads(files("engine.sandbox").joinpath("seed.json").read_text()))
    before, _, after = text.partition('"2024-04-05T01:28:56.492563+00:00"')
    for number in range(first, first + count):
        yield f'{before}"2024-04-05T01:28:56.{number:09d}+00:00"{after}'.encode()


def request(path: str, body: bytes) -> bytes:
    headers = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the one before is whole."""

    def __init__(self, requests: Iterator[bytes], statuses: dict[int, int], done: asyncio.Future[None]) -> None:
        self._requests, self._statuses, self._done = requests, statuses, done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        data = next(self._requests, None)
        if data is None:
            self._transport.close()
        else:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) >= length:
            status = int(head[9:12])
            self._statuses[status] = self._statuses.get(status, 0) + 1
            self._buffer = b""
            self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def load(port: int, path: str, count: int, *, first: int = 0, connections: int = 64) -> Result:
    """Send ``count`` requests over ``connections`` connections and wait for every answer."""
    loop = asyncio.get_running_loop()
    requests = iter([request(path, body) for body in bodies(count, first)])
    statuses: dict[int, int] = {}
    done = [loop.create_future() for _ in range(connections)]
    started = time.perf_counter()
    for future in done:
        await loop.create_connection(lambda future=future: _Connection(requests, statuses, future), "127.0.0.1", port)
    await asyncio.gather(*done)
    return Result(time.perf_counter() - started, statuses)

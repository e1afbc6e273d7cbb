"""Where webhooks are forwarded to: answers 200 and notes when each event came first.

``python -m bench.sink`` prints its port in JSON and then obeys lines of its input, each answered by a line of
JSON: ``wait COUNT SECONDS`` waits for so many different events, ``times FIRST COUNT`` says when each of them came.
It ends when its input does. ``--hang`` takes everything and never answers. ``--port PORT`` listens there, reads no
input and serves until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import time

import uvloop

from bench.bodies import WINDOW

_NUMBER = re.compile(rb'"end_time": ?"' + re.escape(WINDOW.encode()) + rb"(\d{6})")
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Arrivals:
    """``at`` has the time of each event's first arrival by its number, in the order they came."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        self.total = 0
        self._enough, self._count = asyncio.Event(), 0

    def note(self, head: bytes) -> None:
        """A request came, of which ``head`` is the beginning.

        Raises:
            ValueError: it holds no event's number.
        """
        found = _NUMBER.search(head)
        if found is None:
            raise ValueError(f"no event: {head[:300]!r}")
        self.total += 1
        self.at.setdefault(int(found[1]), time.monotonic())
        if len(self.at) >= self._count:
            self._enough.set()

    async def wait(self, count: int, seconds: float) -> dict[str, float]:
        """How many different events came, how many requests, and when the last of the first ``count`` did."""
        self._count = count
        if len(self.at) < count:
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), seconds)
        times = list(self.at.values())[:count]
        return {"seen": len(self.at), "total": self.total, "at": times[-1] if times else 0.0}


class Request(asyncio.Protocol):
    """A connection: needs to know of a request only its length and the event's number."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._head, self._left = b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        elif not self._begin(data):
            return
        if self._left < 0:
            raise ValueError("requests one upon the other are not understood")
        if not self._left:
            self._head = b""
            self._transport.write(_OK)

    def _begin(self, data: bytes) -> bool:
        """Read a request's start, up to the event's number. False while there is not enough of it."""
        self._head = data = self._head + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = int(data[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        self._left = length - (len(data) - end - 4)
        if self._left and len(data) - end < 1024:
            self._left = 0
            return False
        self._arrivals.note(data[end : end + 1024])
        return True


class Hanging(asyncio.Protocol):
    """Takes everything and answers nothing."""


async def commands(arrivals: Arrivals) -> None:
    """Obey until the input ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, first, second = line.split()
        if verb == "wait":
            answer = await arrivals.wait(int(first), float(second))
        else:
            answer = [arrivals.at.get(number) for number in range(int(first), int(first) + int(second))]
        print(json.dumps(answer), flush=True)


async def main(port: int, *, hang: bool) -> None:
    arrivals = Arrivals()
    protocol = Hanging if hang else (lambda: Request(arrivals))
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=1024)
    if port:
        await server.serve_forever()
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await commands(arrivals)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--hang", action="store_true")
    given = parser.parse_args()
    uvloop.run(main(given.port, hang=given.hang))

"""Requests at an even pace from a process of its own, however fast the answers come.

``python -m bench.pace PORT RATE`` reads lines ``FIRST COUNT`` and answers each, when all these webhooks have
been answered, with the list of the times at which they were sent (the monotonic clock), in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from bench.bodies import MARK, SMALL, numbered, request_template
from bench.generator import Connection
from bench.rivals import PATH


class Pace:
    """Sends ``rate`` requests a second, over as many connections as that takes."""

    def __init__(self, port: int, rate: float) -> None:
        self._port, self._interval = port, 1 / rate
        self._parts = request_template(SMALL, PATH).split(MARK)
        self._idle: list[Connection] = []

    async def send(self, first: int, count: int) -> list[float]:
        """When each was sent, once all are answered.

        Raises:
            RuntimeError: one was refused or got no answer.
        """
        self._left, self._all = count, asyncio.get_running_loop().create_future()
        begun, sent = time.monotonic(), []
        for place in range(count):
            await asyncio.sleep(max(0.0, begun + place * self._interval - time.monotonic()))
            connection = self._idle.pop() if self._idle else await self._connect()
            sent.append(time.monotonic())
            connection.send(numbered(self._parts, first + place))
        await asyncio.wait_for(self._all, 60)
        return sent

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", self._port)
        return connection

    def _answered(self, connection: Connection, status: int | None) -> None:
        self._left -= 1
        if self._all.done():
            return
        if status != 202:
            self._all.set_exception(RuntimeError(f"a webhook was answered with {status}"))
        elif not self._left:
            self._all.set_result(None)
        self._idle.append(connection)


async def main(port: int, rate: float) -> None:
    pace = Pace(port, rate)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await pace.send(*map(int, line.split()))), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))

"""A load generator in a process of its own: keeps its connections busy and counts every answer.

``python -m bench.generator PLAN`` with a plan in JSON. It says ``ready`` when it is connected, begins at the
first line of its input, and prints a result in JSON when the last answer has come.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import uvloop

from bench.bodies import MARK, Shape, numbered, request_template

#: How many seconds after the end of the load an answer may come.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """``seconds`` of load over ``connections``, of bodies ``first``, ``first + step`` … below ``end``."""

    port: int
    path: str
    shape: Shape
    first: int
    step: int
    end: int
    seconds: float
    connections: int


@dataclass(slots=True)
class Tally:
    """What came back. ``started`` and ``ended`` are of the system-wide monotonic clock, ``cpu`` is in seconds.

    ``lost`` counts requests that got no answer.
    """

    started: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0
    lost: int = 0
    statuses: dict[int, int] = field(default_factory=dict)


class AnswerError(Exception):
    """An answer that this generator can't read."""


def answer_length(data: bytes) -> int:
    """How many bytes the answer at the start of ``data`` has, or 0 while its head is not whole.

    Raises:
        AnswerError: it has no Content-Length.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    _, found, rest = data[:end].lower().partition(b"\r\ncontent-length:")
    if not found:
        raise AnswerError(f"an answer without Content-Length: {data[:200]!r}")
    return end + 4 + int(rest.partition(b"\r\n")[0])


class Connection(asyncio.Protocol):
    """One request at a time. Calls ``on_answer`` with each status, and with None if it is lost."""

    def __init__(self, on_answer: Callable[[Connection, int | None], None]) -> None:
        self._on_answer = on_answer
        self._data = b""
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes) -> None:
        self._waiting = True
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data if self._data else data
        length = answer_length(data)
        if not length or len(data) < length:
            return
        if len(data) > length:
            raise AnswerError(f"more than one answer to one request: {data[length:][:200]!r}")
        self._data, self._waiting = b"", False
        self._on_answer(self, int(data[9:12]))

    def connection_lost(self, _: Exception | None) -> None:
        if self._waiting:
            self._waiting = False
            self._on_answer(self, None)


class Generator:
    """Runs one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts = request_template(plan.shape, plan.path).split(MARK)
        self._numbers: Iterator[int] = iter(range(plan.first, plan.end, plan.step))
        self._connections: list[Connection] = []
        self._busy = 0
        self._done = asyncio.Event()
        self.tally = Tally()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._plan.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self._answered), "127.0.0.1", self._plan.port
            )
            self._connections.append(connection)

    async def run(self) -> Tally:
        """Send until the time or the numbers are over, and wait for what is still to be answered."""
        spent, self.tally.started = time.process_time(), time.monotonic()
        self._until = self.tally.started + self._plan.seconds
        self._busy = len(self._connections)
        for connection in self._connections:
            self._next(connection)
        try:
            await asyncio.wait_for(self._done.wait(), self._plan.seconds + PATIENCE)
        except TimeoutError:
            self.tally.lost += self._busy
        self.tally.cpu = time.process_time() - spent
        return self.tally

    def _next(self, connection: Connection) -> None:
        number = next(self._numbers, None) if time.monotonic() < self._until else None
        if number is None:
            connection.close()
            self._rest()
        else:
            connection.send(numbered(self._parts, number))

    def _rest(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._done.set()

    def _answered(self, connection: Connection, status: int | None) -> None:
        self.tally.ended = time.monotonic()
        if status is None:
            self.tally.lost += 1
            self._rest()
            return
        self.tally.statuses[status] = self.tally.statuses.get(status, 0) + 1
        self._next(connection)


async def main(plan: Plan) -> None:
    generator = Generator(plan)
    await generator.connect()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(asdict(await generator.run())), flush=True)


def plan_of(text: str) -> Plan:
    """A plan from JSON."""
    values = json.loads(text)
    return Plan(**{**values, "shape": Shape(**values["shape"])})


if __name__ == "__main__":
    uvloop.run(main(plan_of(sys.argv[1])))

"""The load generator counts what is answered, whatever is answered and however."""

import asyncio
import json
import re
import time
from dataclasses import asdict

import pytest

from bench.bodies import SMALL
from bench.generator import AnswerError, Generator, Plan, answer_length, plan_of
from bench.pace import Pace

ANSWER = "HTTP/1.1 {} X\r\ncontent-length: 4\r\nServer: x\r\n\r\nbody"


class Stub:
    """An HTTP server that answers by a function from a request's place to the pieces of its answer; None hangs up."""

    def __init__(self, answer):
        self._answer = answer
        self.numbers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(SMALL.size)
        self.numbers.append(int(re.search(rb'"end_time":"2024-04-05T01:28:56\.(\d{6})', body)[1]))
        pieces = self._answer(len(self.numbers))
        for piece in pieces or ():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return pieces is not None


def plan(port, **changes):
    given = {"port": port, "path": "/", "shape": SMALL, "first": 100, "step": 2, "end": 400, "seconds": 30}
    return Plan(**{**given, "connections": 4, **changes})


async def run(stub, **changes):
    generator = Generator(plan(stub.port, **changes))
    await generator.connect()
    return await generator.run()


def whole(status):
    return [ANSWER.format(status).encode()]


async def test_every_number_once_and_every_answer_counted():
    async with Stub(lambda _: whole(202)) as stub:
        tally = await run(stub)
    assert sorted(stub.numbers) == list(range(100, 400, 2))
    assert (tally.statuses, tally.lost) == ({202: 150}, 0)
    assert 0 < tally.started < tally.ended
    assert tally.cpu > 0


async def test_statuses_are_distinguished():
    async with Stub(lambda place: whole(503 if place % 3 == 0 else 202)) as stub:
        tally = await run(stub)
    assert (tally.statuses, tally.lost) == ({202: 100, 503: 50}, 0)


async def test_an_answer_in_pieces_is_one():
    pieces = [ANSWER.format(202)[start : start + 7].encode() for start in range(0, len(ANSWER), 7)]
    async with Stub(lambda _: pieces) as stub:
        tally = await run(stub, end=120)
    assert (tally.statuses, tally.lost, len(stub.numbers)) == ({202: 10}, 0, 10)


async def test_what_gets_no_answer_is_lost():
    async with Stub(lambda place: None if place in (10, 20) else whole(202)) as stub:
        tally = await run(stub)
    assert (tally.statuses, tally.lost, len(stub.numbers)) == ({202: 148}, 2, 150)


async def test_it_stops_when_the_time_is_over():
    async with Stub(lambda _: whole(202)) as stub:
        tally = await run(stub, end=1_000_000, seconds=0.05)
    assert tally.statuses == {202: len(stub.numbers)}
    assert 0.05 <= tally.ended - tally.started < 5


async def test_an_answer_that_never_comes_is_lost(monkeypatch):
    monkeypatch.setattr("bench.generator.PATIENCE", 0.1)
    async with Stub(lambda place: [] if place == 1 else whole(202)) as stub:
        tally = await run(stub, end=120, seconds=0.2)
    assert (tally.statuses, tally.lost) == ({202: 9}, 1)


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"HTTP/1.1 202 Accepted\r\nContent-Le", 0),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 11\r\nDate: x\r\n\r\n{", 65),
        (b"HTTP/1.1 204 No\r\nCONTENT-LENGTH:0\r\n\r\n", 37),
    ],
)
def test_the_length_of_an_answer(data, length):
    assert answer_length(data) == length


def test_an_answer_without_a_length():
    with pytest.raises(AnswerError, match="without Content-Length"):
        answer_length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_a_plan_goes_through_json():
    given = plan(1)
    assert plan_of(json.dumps(asdict(given))) == given


async def test_pace_sends_in_time_and_in_order():
    begun = time.monotonic()
    async with Stub(lambda _: whole(202)) as stub:
        sent = await Pace(stub.port, 200.0).send(30, 10)
    assert sorted(stub.numbers) == list(range(30, 40))
    assert len(sent) == 10
    assert sent == sorted(sent)
    assert sent[-1] - begun >= 9 / 200 - 0.002  # timers are exact to a millisecond


async def test_pace_says_what_was_refused():
    async with Stub(lambda place: whole(503 if place == 3 else 202)) as stub:
        with pytest.raises(RuntimeError, match="answered with 503"):
            await Pace(stub.port, 1000.0).send(0, 5)

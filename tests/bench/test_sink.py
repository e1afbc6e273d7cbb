"""The sink counts events, not requests, and tells when they came."""

import asyncio
import time

import pytest

from bench.bodies import MARK, MEDIUM, SMALL, numbered, request_template
from bench.sink import Arrivals, Request


class Transport:
    def __init__(self):
        self.written = []

    def write(self, data):
        self.written.append(data)


def connection():
    arrivals, transport = Arrivals(), Transport()
    request = Request(arrivals)
    request.connection_made(transport)
    return request, arrivals, transport


def sent(number, shape=SMALL):
    return numbered(request_template(shape, "/").split(MARK), number)


def test_one_answer_for_each_request():
    request, arrivals, transport = connection()
    for number in (5, 6, 5):
        request.data_received(sent(number))
    assert [data.startswith(b"HTTP/1.1 200 OK\r\n") for data in transport.written] == [True] * 3
    assert (list(arrivals.at), arrivals.total) == ([5, 6], 3)


@pytest.mark.parametrize("size", [1, 100, 1000, 1400])
@pytest.mark.parametrize("shape", [SMALL, MEDIUM], ids=lambda shape: shape.name)
def test_requests_in_pieces(shape, size):
    request, arrivals, transport = connection()
    for number in (1, 2):
        whole = sent(number, shape)
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        for piece in pieces[:-1]:
            request.data_received(piece)
        assert len(transport.written) == number - 1
        request.data_received(pieces[-1])
        assert len(transport.written) == number
    assert (list(arrivals.at), arrivals.total) == ([1, 2], 2)


def test_what_is_no_event():
    with pytest.raises(ValueError, match="no event"):
        Arrivals().note(b"{}")


def note(arrivals, number):
    arrivals.note(sent(number).partition(b"\r\n\r\n")[2])


async def test_waiting_for_events():
    arrivals = Arrivals()
    note(arrivals, 1)
    note(arrivals, 1)
    waiting = asyncio.create_task(arrivals.wait(2, 30))
    await asyncio.sleep(0)
    assert not waiting.done()
    note(arrivals, 9)
    note(arrivals, 4)
    assert await waiting == {"seen": 3, "total": 4, "at": arrivals.at[9]}


async def test_an_evaluation_that_waits_without_result():
    arrivals = Arrivals()
    note(arrivals, 1)
    begun = time.monotonic()
    assert await arrivals.wait(5, 0.05) == {"seen": 1, "total": 1, "at": arrivals.at[1]}
    assert time.monotonic() - begun < 5


async def test_nothing_came():
    assert await Arrivals().wait(0, 0) == {"seen": 0, "total": 0, "at": 0.0}

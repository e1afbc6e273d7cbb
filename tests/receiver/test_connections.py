"""How many connections the public listener has open, and which is closed for another."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from receiving import FakeStore, post, read_answer, serving

import engine.core.process
from engine.core.process import connections_allowed
from engine.receiver.server import Connections, receiver_runner

GOOD = post(b'{"n":1}')


class Connected:
    """A client's connections to a receiver that keeps so many."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.all: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, *pieces: bytes) -> int:
        """A new one, with something sent; its number."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.all.append((reader, writer))
        for piece in pieces:
            writer.write(piece)
        await asyncio.sleep(0.02)
        return len(self.all) - 1

    async def ask(self, number: int, request: bytes = GOOD) -> bytes:
        reader, writer = self.all[number]
        writer.write(request)
        return (await read_answer(reader, 3)).split(b"\r\n")[0]

    async def is_closed(self, number: int) -> bool:
        try:
            async with asyncio.timeout(0.1):
                return await self.all[number][0].read(1) == b""
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True


@pytest.fixture
async def made():
    """Makes receivers whose listener keeps so many connections."""
    stack: list = []

    async def make(limit: int, reserved: int = 0, **settings):
        served = serving(**settings)
        one = await served.__aenter__()
        connections = Connections(limit, reserved=reserved)
        runner = receiver_runner(one.receiver, connections)
        await runner.setup()
        from aiohttp import web

        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        client = Connected(runner.addresses[0][1])
        stack.append((served, runner, client))
        return connections, client

    yield make
    for served, runner, client in stack:
        for _, writer in client.all:
            writer.close()
        await runner.cleanup()
        await served.__aexit__(None, None, None)


async def test_the_connection_that_is_idle_for_longest_is_closed_for_another(made, caplog):
    connections, client = await made(3)
    for _ in range(3):
        await client.open()
    assert b" 202 " in await client.ask(0)
    fourth = await client.open(GOOD[:40])
    assert [await client.is_closed(number) for number in range(4)] == [False, True, False, False]
    assert b" 202 " in await client.ask(fourth, GOOD[40:])
    await client.open()
    assert [await client.is_closed(number) for number in (0, 2, 3, 4)] == [False, True, False, False]
    assert (connections.count, connections.closed.read()) == (3, {("idle",): 2, ("refused",): 0})
    (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warned.getMessage() == "too many connections: the oldest idle ones are closed"
    assert (warned.open, warned.limit, warned.idle) == (2, 3, 1)


async def test_connections_that_brought_an_event_are_closed_last(made):
    _, client = await made(3)
    for _ in range(2):
        await client.open()
    assert b" 202 " in await client.ask(0)
    assert b" 401 " in await client.ask(1, GOOD.replace(b"good", b"evil"))
    assert b" 401 " in await client.ask(0, GOOD.replace(b"good", b"evil"))
    for number in range(2, 6):
        await client.open()
        assert [await client.is_closed(0), await client.is_closed(1)] == [False, number > 2]
    assert b" 202 " in await client.ask(4)
    assert b" 202 " in await client.ask(5)
    await client.open()
    assert [await client.is_closed(number) for number in (0, 4, 5, 6)] == [True, False, False, False]


async def test_a_connection_closed_by_its_peer_frees_a_slot(made):
    connections, client = await made(2)
    for number in range(5):
        await client.open()
        client.all[number][1].close()
        await asyncio.sleep(0.02)
    assert (connections.count, connections.closed.read()) == (0, {("idle",): 0, ("refused",): 0})


async def test_a_request_that_is_under_way_is_not_idle_and_where_all_are_a_new_one_gets_a_503(made):
    stuck = asyncio.Event()
    connections, client = await made(2, store=FakeStore(stuck=stuck))
    await client.open(GOOD)
    await client.open(post(b'{"n":2}')[:-2])
    refused = await client.open()
    answer = await read_answer(client.all[refused][0], 1)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1\r\n" in answer
    assert await client.is_closed(refused)
    assert (connections.count, connections.closed.read()) == (2, {("idle",): 0, ("refused",): 1})
    stuck.set()
    assert (await read_answer(client.all[0][0], 1)).startswith(b"HTTP/1.1 202")
    last = await client.open()
    assert (await client.is_closed(0), await client.is_closed(last)) == (True, False)


async def test_health_is_answered_even_when_all_connections_have_a_running_request(made):
    stuck = asyncio.Event()
    connections, client = await made(1, reserved=2, store=FakeStore(stuck=stuck))
    await client.open(GOOD)
    asked, posted = await client.open(), await client.open()
    assert await client.ask(asked, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n") == b"HTTP/1.1 200 OK"
    assert await client.ask(posted, post(b'{"n":3}')) == b"HTTP/1.1 503 Service Unavailable"
    assert (await client.is_closed(asked), await client.is_closed(posted)) == (True, True)
    assert (connections.count, connections.closed.read()) == (1, {("idle",): 0, ("refused",): 1})
    first, _, again = await client.open(), await client.open(), await client.open()
    refused = await read_answer(client.all[first][0], 1)
    assert refused.startswith(b"HTTP/1.1 503"), "the oldest of them makes room for another"
    assert await client.ask(again, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n") == b"HTTP/1.1 200 OK"
    stuck.set()
    assert (await read_answer(client.all[0][0], 1)).startswith(b"HTTP/1.1 202")


def test_a_warning_comes_once_a_minute(caplog):
    now = [0.0]
    connections = Connections(0, clock=lambda: now[0], reserved=0)

    class Handler:
        transport = None

        def force_close(self): ...

    for at in (0.0, 59.0, 60.0, 61.0, 130.0):
        now[0] = at
        connections.opened(Handler())
    assert [record.refused for record in caplog.records] == [1, 3, 5]


@pytest.mark.parametrize(
    ("soft", "concurrency", "allowed"),
    [
        (65_536, 512, 8192),
        (4096, 512, 4096 - 512 - 256),
        (1024, 512, 256),
        (1024, 64, 704),
        (200, 512, 50),
        (-1, 512, 8192),
    ],
)
def test_descriptors_are_left_for_all_else(monkeypatch, soft, concurrency, allowed):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(engine.core.process.resource, "getrlimit", lambda _: (soft, soft))
    assert resource.RLIM_INFINITY == -1
    assert connections_allowed(concurrency) == allowed


async def test_a_connection_that_is_refused_leaves_no_traceback_in_the_log(made, caplog):
    stuck = asyncio.Event()
    connections, client = await made(1, store=FakeStore(stuck=stuck))
    await client.open(GOOD)
    for _ in range(5):
        await client.open()
    gc.collect()
    assert connections.closed.read()["refused",] == 5
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    stuck.set()


@pytest.mark.parametrize(
    "start",
    [
        b"GET /x HTTP/1.1\r\nHost: a\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: b\r\n\r\n",
        b"\x16\x03\x01",
    ],
)
async def test_what_a_broken_request_sent_is_freed_without_a_garbage_collection(made, start):
    _, client = await made(10)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await client.open(start, b"x" * 300_000)
            await client.ask(len(client.all) - 1, b"")
        client.all.clear()
        await asyncio.sleep(0.1)
        assert [one for one in gc.get_objects() if isinstance(one, HttpProcessingError)] == []
    finally:
        gc.enable()

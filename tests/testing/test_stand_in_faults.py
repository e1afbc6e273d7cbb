"""Faults on demand, the same in every stand-in; and how stand-ins live and die."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
import uvloop

from engine.testing import LangSmithStandIn, RateLimit, Recorded, WebhookSink
from engine.testing.faults import Faults
from engine.testing.rate_limits import RateLimiter


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as one:
        yield one


async def _status(session: aiohttp.ClientSession, url: str, method: str = "POST", **options) -> int:
    async with session.request(method, url, **options) as response:
        return response.status


async def test_a_status_so_many_times_then_as_usual(sink, session):
    fault = sink.faults.add(status=503, times=2, retry_after=1.5)
    async with session.post(sink.url) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1.5")
    assert [await _status(session, sink.url) for _ in range(2)] == [503, 200]
    assert fault.seen == 2
    assert len(sink.faults) == 0


async def test_without_end_until_cleared(sink, session):
    sink.faults.add(status=500, times=None)
    assert {await _status(session, sink.url) for _ in range(5)} == {500}
    sink.faults.clear()
    assert await _status(session, sink.url) == 200


async def test_by_method_and_by_path_in_any_spelling(session):
    async with LangSmithStandIn() as stand_in:
        stand_in.faults.add(status=500, times=None, path="/datasets", method="get")
        stand_in.faults.add(status=502, times=None, path="/api/v1/examples/*")
        paths = ["/datasets", "/api/v1/datasets", "/datasets/x", "/info", "/examples", "/api/v1/examples/x"]
        statuses = [await _status(session, stand_in.url + path, "GET") for path in paths]
        assert statuses == [500, 500, 500, 200, 200, 502]
        assert await _status(session, f"{stand_in.url}/datasets", "POST", json={"name": "d"}) == 200


async def test_a_path_is_not_the_beginning_of_a_word(sink, session):
    sink.faults.add(status=500, path="/hook")
    assert await _status(session, f"{sink.origin}/hooks") == 200
    assert await _status(session, f"{sink.origin}/hook/more") == 500


async def test_the_first_that_fits_acts(sink, session):
    sink.faults.add(status=501, path="/other")
    sink.faults.add(status=502)
    sink.faults.add(status=503)
    assert [await _status(session, sink.url) for _ in range(3)] == [502, 503, 200]


async def test_a_reset_is_a_reset(sink, session):
    sink.faults.add(reset=True)
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await session.post(sink.url)
    assert (sink.received[0].status, sink.received[0].answer) == (0, None)
    assert "connection reset" in sink.received[0].line


async def test_an_answer_can_be_lost_after_the_request_took_effect(session):
    async with LangSmithStandIn() as stand_in:
        stand_in.faults.add(reset=True, applied=True, path="/datasets")
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await session.post(f"{stand_in.url}/datasets", json={"name": "issues"})
        assert [row["name"] for row in stand_in.datasets.values()] == ["issues"]
        assert await _status(session, f"{stand_in.url}/datasets", json={"name": "issues"}) == 409


async def test_a_fault_that_replaces_the_answer_prevents_the_effect(session):
    async with LangSmithStandIn() as stand_in:
        stand_in.faults.add(status=500)
        await session.post(f"{stand_in.url}/datasets", json={"name": "issues"})
        assert stand_in.datasets == {}


async def test_a_hang_delays_the_usual_answer(sink, session):
    sink.faults.add(hang=0.2)
    with pytest.raises(TimeoutError):
        await session.post(sink.url, timeout=aiohttp.ClientTimeout(total=0.05))
    sink.faults.add(hang=0.05)
    assert await _status(session, sink.url) == 200
    assert [one.status for one in sink.received] == [0, 200]


async def test_a_malformed_body(sink, session):
    sink.faults.add(body='{"cut off', headers={"Content-Type": "application/json"})
    async with session.post(sink.url) as response:
        assert (response.status, await response.text()) == (200, '{"cut off')


@pytest.mark.parametrize("wrong", [{}, {"retry_after": 1}, {"status": 500, "times": 0}])
def test_a_fault_that_would_do_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="a fault"):
        Faults().add(**wrong)


async def test_everything_is_recorded(sink, session):
    seen: list[Recorded] = []
    sink._on_request = seen.append
    await session.put(f"{sink.origin}/a/b?x=1&x=2", data=b'{"k": [1]}', headers={"X-Mine": "yes"})
    await session.post(sink.url, data={"form": "field"})
    await session.post(sink.url, data=b"\xff\x00 not JSON")
    first, form, other = sink.received
    assert (first.method, first.path, first.query.getall("x")) == ("PUT", "/a/b", ["1", "2"])
    assert (first.raw, first.body, first.headers["x-mine"]) == (b'{"k": [1]}', {"k": [1]}, "yes")
    assert form.body == {"form": "field"}
    assert (other.raw, other.body) == (b"\xff\x00 not JSON", None)
    assert seen == sink.received
    assert first.line == "PUT /a/b → 200"


async def test_stopped_it_refuses_connections_and_started_again_it_keeps_port_and_state(session):
    async with WebhookSink() as one:
        closing = {"Connection": "close"}
        assert await _status(session, one.url, headers=closing) == 200
        await one.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(one.url)
        await one.start()
        assert await _status(session, one.url) == 200
        assert len(one.received) == 2


async def test_a_taken_port_is_an_error(sink):
    with pytest.raises(OSError, match="address already in use"):
        await WebhookSink(port=int(sink.origin.rpartition(":")[2])).start()


async def test_stopping_does_not_wait_for_what_hangs(session):
    async with WebhookSink() as one:
        one.faults.add(hang=60)
        waiting = asyncio.create_task(_status(session, one.url))
        while not one.received:
            await asyncio.sleep(0.005)
        async with asyncio.timeout(5):
            await one.stop()
        with pytest.raises(aiohttp.ClientError):
            await waiting


def test_it_runs_under_uvloop_and_resets_there_as_well():
    async def scenario() -> list[int]:
        async with WebhookSink() as one, aiohttp.ClientSession() as session:
            one.faults.add(reset=True)
            with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
                await session.post(one.url)
            await _status(session, one.url)
            return [recorded.status for recorded in one.received]

    assert uvloop.run(scenario()) == [0, 200]


def test_a_window_of_the_rate_limit_ends():
    now = [100.0]
    limiter = RateLimiter([RateLimit(2, 10, "POST /a$"), RateLimit(1, 60)], clock=lambda: now[0])
    assert [limiter.refuse("POST /a", "k") for _ in range(3)] == [None, None, 10]
    assert limiter.refuse("POST /a", "another key") is None
    assert [limiter.refuse("POST /b", "k") for _ in range(2)] == [None, 60]
    now[0] = 109.5
    assert limiter.refuse("POST /a", "k") == 1
    now[0] = 110.0
    assert limiter.refuse("POST /a", "k") is None


def test_a_request_that_no_limit_names_is_free():
    limiter = RateLimiter([RateLimit(1, 10, "POST /a$")])
    assert [limiter.refuse("GET /a", "k") for _ in range(3)] == [None, None, None]


async def test_only_so_many_requests_are_remembered(sink, session, monkeypatch):
    monkeypatch.setattr("engine.testing.server.MOST_KEPT", 4)
    for number in range(6):
        await _status(session, f"{sink.origin}/{number}")
    assert [one.path for one in sink.received] == ["/2", "/3", "/4", "/5"]


async def test_an_answer_that_is_cut_in_the_middle_after_the_effect(sink, session):
    sink.faults.add(cut=True)
    response = await session.post(sink.url)
    assert response.status == 200
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()
    assert [(one.status, one.note) for one in sink.received] == [(200, "cut off in the middle of the answer")]
    assert await _status(session, sink.url) == 200


async def test_an_answer_that_drips(sink, session):
    sink.faults.add(drip=0.05)
    async with session.post(sink.url) as response:
        assert await response.content.readexactly(1) == b"o"
        assert await response.read() == b"k"

"""LangSmith's own delivery policy, branch by branch, against real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import uvloop
from certificates import Pair

from engine.cli.support.langsmith_sender import RULES, SIGNED, Delivery, SendAttempt, Sender, policy_of
from engine.core.event import Kind
from engine.testing import WebhookSink

BODY = '{"rule_id": "ü"}'.encode()


class Sleeps:
    """Does not sleep, and remembers for how long it did not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


def _sender(sleeps: Sleeps, **options) -> Sender:
    policy = replace(options.pop("policy", RULES), limit=options.pop("limit", 0.3))
    return Sender(sleep=sleeps, policy=policy, **options)


def _statuses(delivery: Delivery) -> list[int | None]:
    return [attempt.status for attempt in delivery.attempts]


@contextlib.asynccontextmanager
async def _raw_server(respond: Callable) -> AsyncIterator[str]:
    """A server that is not HTTP's friend: ``respond(reader, writer)`` does as it likes."""

    async def serve(reader, writer):
        try:
            await respond(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_a_2xx_is_delivered_at_once(sink, sleeps):
    sink.answer_with(202)
    delivery = await _sender(sleeps).send(sink.url, BODY, {"X-Token": "t"})
    assert (delivery.result, delivery.reason, _statuses(delivery)) == ("delivered", "", [202])
    (received,) = sink.received
    assert (received.raw, received.method, received.headers["X-Token"]) == (BODY, "POST", "t")
    assert received.headers["Content-Type"] == "application/json"
    assert sleeps.slept == []


async def test_custom_headers_replace_the_usual_ones_whatever_their_case(sink, sleeps):
    await _sender(sleeps).send(sink.url, BODY, {"content-type": "application/x-mine", "user-agent": "mine"})
    headers = sink.received[0].headers
    assert (headers.getall("Content-Type"), headers.getall("User-Agent")) == (["application/x-mine"], ["mine"])


async def test_a_5xx_is_retried_twice_with_exponential_backoff(sink, sleeps):
    sink.answer_with(500, 503)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("delivered", [500, 503, 200])
    assert sleeps.slept == [1.0, 2.0]
    assert [attempt.delay for attempt in delivery.attempts] == [0.0, 1.0, 2.0]
    assert {received.raw for received in sink.received} == {BODY}


async def test_a_third_5xx_is_the_end(sink, sleeps):
    sink.answer_with(500, 502, 599, 200)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, delivery.reason) == ("failed", "the endpoint answered 599")
    assert _statuses(delivery) == [500, 502, 599]
    assert [attempt.retry for attempt in delivery.attempts] == [True, True, False]


@pytest.mark.parametrize("status", [400, 401, 404, 408, 410, 429, 499])
async def test_a_4xx_is_final(sink, sleeps, status):
    sink.answer_with(status)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("failed", [status])
    assert delivery.reason == f"the endpoint answered {status}, which is final"


async def test_a_4xx_after_a_5xx_is_final(sink, sleeps):
    sink.answer_with(500, 404)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("failed", [500, 404])


# Issues and Context Hub commits


@pytest.mark.parametrize("kind", Kind)
def test_signed_webhooks_have_a_policy_of_their_own(kind):
    policy = policy_of(kind)
    assert (policy.limit, policy.retries) == ((20.0, 3) if kind in (Kind.ISSUE, Kind.CONTEXT_HUB) else (5.0, 2))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_signed_webhook_is_attempted_four_times(sink, sleeps, status):
    sink.answer_with(*[status] * 5)
    delivery = await _sender(sleeps, policy=SIGNED).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("failed", [status] * 4)
    assert sleeps.slept == [1.0, 2.0, 4.0]
    assert {received.raw for received in sink.received} == {BODY}


async def test_a_signed_webhook_is_sent_again_after_a_timeout(sink, sleeps):
    sink.faults.add(hang=60)
    delivery = await _sender(sleeps, policy=SIGNED).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("delivered", [None, 200])


@pytest.mark.parametrize("status", [302, 401, 404])
async def test_what_no_retry_can_change_is_final_for_a_signed_webhook(sink, sleeps, status):
    sink.answer_with(status)
    assert _statuses(await _sender(sleeps, policy=SIGNED).send(sink.url, BODY, {})) == [status]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
async def test_a_redirect_is_not_followed_and_final(sink, sleeps, status):
    sink.faults.add(status=status, headers={"Location": f"{sink.origin}/elsewhere"}, body="")
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("failed", [status])
    assert "a redirect, which is not followed" in delivery.reason
    assert [received.path for received in sink.received] == ["/hook"]


async def test_a_refused_connection_is_retried_twice(sleeps):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        delivery = await _sender(sleeps).send(url, BODY, {})
    assert (delivery.result, _statuses(delivery), sleeps.slept) == ("failed", [None] * 3, [1.0, 2.0])
    assert delivery.reason == f"cannot connect to {url[7:-1]}: connection refused"
    assert delivery.attempts[0].fault == "unreachable"


async def test_an_endpoint_that_comes_up_between_two_attempts_is_reached():
    async with WebhookSink() as one:
        await one.stop()

        async def start_instead_of_sleeping(_seconds: float) -> None:
            await one.start()

        delivery = await Sender(sleep=start_instead_of_sleeping).send(one.url, BODY, {})
        assert (delivery.result, _statuses(delivery)) == ("delivered", [None, 200])


async def test_an_unknown_host_is_a_failed_connection(sleeps):
    delivery = await _sender(sleeps, limit=5).send("http://no-such-host.invalid/", BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("failed", [None] * 3)


async def test_a_slow_answer_is_a_failure_without_retry(sink, sleeps):
    sink.faults.add(hang=5)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, delivery.reason) == ("failed", "no answer within 0.3 s")
    assert (_statuses(delivery), len(sink.received)) == ([None], 1)
    assert 0.25 < delivery.attempts[0].duration < 3


async def test_a_slow_5xx_is_a_failure_without_retry(sink, sleeps):
    sink.faults.add(hang=5, status=500)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, len(delivery.attempts)) == ("failed", 1)


async def test_an_answer_that_drips_header_by_header_is_slow(sleeps):
    async def drip(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(40):
                writer.write(b"X-%d: y\r\n" % number)
                await writer.drain()
                await asyncio.sleep(0.05)

    async with _raw_server(drip) as url:
        delivery = await _sender(sleeps).send(url, BODY, {})
    assert delivery.reason == "no answer within 0.3 s"


async def test_each_attempt_has_the_whole_limit(sink, sleeps):
    sink.faults.add(hang=0.2, status=500, times=2)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("delivered", [500, 500, 200])


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog swallows handshakes on Linux only")
async def test_a_connection_that_never_stands_is_a_failed_connection(sleeps):
    """A listener whose backlog is full swallows further handshakes."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        await asyncio.sleep(0.05)
        delivery = await _sender(sleeps, limit=0.15).send(f"http://127.0.0.1:{full.getsockname()[1]}/", BODY, {})
        for filler in fillers:
            filler.close()
    assert (delivery.result, delivery.reason) == ("failed", "no connection within 0.15 s")
    assert len(delivery.attempts) == 3


async def test_a_connection_that_breaks_before_the_answer_is_retried(sink, sleeps):
    sink.faults.add(reset=True, times=2)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("delivered", [None, None, 200])


async def test_what_is_not_http_is_a_failed_connection(sleeps):
    async def babble(_reader, writer):
        writer.write(b"220 smtp.example.com ESMTP\r\n")

    async with _raw_server(babble) as url:
        delivery = await _sender(sleeps).send(url, BODY, {})
    assert (delivery.result, len(delivery.attempts)) == ("failed", 3)
    assert delivery.reason == "connection failed: what answers there speaks no HTTP"
    assert delivery.attempts[-1].fault == "no_http"


@pytest.mark.parametrize(
    ("scheme", "reason", "fault"),
    [
        ("http", "connection failed: it closed the connection without an answer", "no_http"),
        ("https", "cannot connect to {}: its certificate is not trusted (self-signed certificate)", "certificate"),
    ],
)
async def test_a_wrong_https_port_has_a_message(sleeps, tmp_path, scheme, reason, fault):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = Pair.made().write(tmp_path)
    context.load_cert_chain(files.cert, files.key)
    async with await asyncio.start_server(
        lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
    ) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        delivery = await _sender(sleeps).send(f"{scheme}://{where}/", BODY, {})
    assert (delivery.reason, delivery.attempts[-1].fault) == (reason.format(where), fault)


async def test_a_port_without_tls_has_a_message(sink, sleeps):
    delivery = await _sender(sleeps).send(sink.url.replace("http:", "https:"), BODY, {})
    assert delivery.reason.endswith(": it does not speak TLS there")
    assert delivery.attempts[-1].fault == "no_tls"


async def test_refused_connections_and_5xx_share_the_two_retries(sink, sleeps):
    sink.faults.add(reset=True)
    sink.faults.add(status=500)
    sink.faults.add(reset=True)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert (delivery.result, _statuses(delivery)) == ("failed", [None, 500, None])


async def test_the_body_of_the_answer_is_ignored(sleeps):
    async def endless(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{broken")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

    async with _raw_server(endless) as url, asyncio.timeout(5):
        delivery = await _sender(sleeps).send(url, BODY, {})
    assert delivery.result == "delivered"


async def test_attempts_are_shown_while_they_run(sink, sleeps):
    sink.answer_with(500)
    seen: list[SendAttempt] = []
    ticks = iter(range(100))
    sender = _sender(sleeps, on_attempt=seen.append, clock=lambda: float(next(ticks)))
    delivery = await sender.send(sink.url, BODY, {})
    assert tuple(seen) == delivery.attempts
    assert [replace(attempt, answer="") for attempt in seen] == [
        SendAttempt(1, 0.0, 1.0, 500, "the endpoint answered 500", retry=True),
        SendAttempt(2, 1.0, 1.0, 200, "", retry=False),
    ]


async def test_the_beginning_of_an_answer_is_kept_for_people(sink, sleeps):
    sink.answer_with(401, body='{"error": "the secret is wrong"}')
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert delivery.attempts[0].answer == '{"error": "the secret is wrong"}'
    sink.answer_with(400, body="é" * 5000)
    delivery = await _sender(sleeps).send(sink.url, BODY, {})
    assert delivery.attempts[0].answer == "é" * 1000


async def test_an_answer_whose_body_stalls_or_breaks_is_an_answer_all_the_same(sleeps, monkeypatch):
    monkeypatch.setattr("engine.cli.support.langsmith_sender._PATIENCE", 0.05)
    stalls = asyncio.Event()

    async def respond(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nso far")
        await writer.drain()
        if stalls.is_set():
            await asyncio.sleep(1)

    async with _raw_server(respond) as url:
        broken = await _sender(sleeps).send(url, BODY, {})
        stalls.set()
        stalled = await _sender(sleeps).send(url, BODY, {})
    for delivery in (broken, stalled):
        assert (delivery.result, delivery.attempts[0].answer) == ("delivered", "so far")
        assert delivery.attempts[0].duration < 0.3


@pytest.mark.parametrize("url", ["", "example.com/hook", "ftp://example.com", "http://", "https:///path"])
async def test_what_is_no_address_is_refused_in_words(sleeps, url):
    with pytest.raises(ValueError, match="must start with http"):
        await _sender(sleeps).send(url, BODY, {})


async def test_the_secret_in_the_query_arrives_unchanged_and_is_in_no_reason(sleeps):
    async with WebhookSink() as one:
        url = f"{one.url}?secret=a%2Bb%20c"
        await _sender(sleeps).send(url, BODY, {})
        assert one.received[0].query["secret"] == "a+b c"
        await one.stop()
        delivery = await _sender(sleeps).send(url, BODY, {})
        assert "secret" not in delivery.reason


def test_it_keeps_the_policy_under_uvloop(sleeps):
    async def scenario() -> list[Delivery]:
        async with WebhookSink() as one:
            one.faults.add(hang=5)
            slow = await _sender(sleeps).send(one.url, BODY, {})
            one.faults.add(reset=True)
            return [slow, await _sender(sleeps).send(one.url, BODY, {})]

    slow, broken = uvloop.run(scenario())
    assert (slow.result, slow.reason) == ("failed", "no answer within 0.3 s")
    assert (broken.result, _statuses(broken)) == ("delivered", [None, 200])


@pytest.mark.filterwarnings("error:Sending a large body:ResourceWarning")
async def test_a_large_body_arrives_whole_in_every_attempt(sink, sleeps):
    body = b"x" * 3_000_000
    sink.answer_with(500)
    delivery = await _sender(sleeps, limit=30).send(sink.url, body, {})
    assert delivery.result == "delivered"
    assert [received.raw == body for received in sink.received] == [True, True]
    assert sink.received[0].headers["Content-Length"] == "3000000"

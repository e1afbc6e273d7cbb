"""The public listener: who may post, what is answered, and that 202 means kept."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
import zlib
from base64 import b64encode

import pytest
import zstandard
from receiving import FakeStore, post, read_answer, serving

from engine.core.errors import StoreBusy, StoreError
from engine.receiver.receiver import WEBHOOK_PATH

BODY = json.dumps({"rule_id": "r", "start_time": "a", "end_time": "b", "runs": [{"id": "1"}]}).encode()


async def nothing_held(served) -> None:
    """Soon: what a request held is given back when its append is done, a moment after its answer."""
    admission = served.receiver.admission
    async with asyncio.timeout(2):
        while (admission.held, admission.under_way, admission.late) != (0, 0, 0):
            await asyncio.sleep(0.01)


# 202


async def test_a_webhook_is_kept_and_answered_with_its_events_id():
    async with serving(clock=lambda: 12.5) as served:
        answer = await served.send(BODY)
        (event,) = served.store.events.values()
        assert (answer.status, answer.json) == (202, {"event": event.id, "duplicate": False})
        assert answer.headers["Content-Type"].startswith("application/json")
        assert (event.body, event.received_at) == (BODY, 12.5)


async def test_a_second_delivery_is_answered_with_the_first_ones_id():
    async with serving() as served:
        first, second = await served.send(BODY), await served.send(BODY)
        assert second.json == {"event": first.json["event"], "duplicate": True}
        assert second.status == 202
        assert [reason for reason, _ in served.results] == ["accepted", "duplicate"]


async def test_the_answer_comes_only_after_the_append():
    async with serving(FakeStore(delay=0.2)) as served:
        sent = asyncio.create_task(served.send(BODY))
        await asyncio.sleep(0.1)
        assert (sent.done(), served.store.events) == (False, {})
        assert (await sent).status == 202


async def test_many_at_once_are_all_kept():
    async with serving(FakeStore(delay=0.05)) as served:
        answers = await asyncio.gather(*(served.send(b'{"n":%d}' % n) for n in range(50)))
        assert {answer.status for answer in answers} == {202}
        assert len({answer.json["event"] for answer in answers}) == len(served.store.events) == 50


# The secret


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?secret=good", {}),
        ("?a=b&secret=good&c", {}),
        ("?%73ecret=g%6fod", {}),
        ("", {"X-Webhook-Secret": "good"}),
        ("", {"x-webhook-secret": "good"}),
        ("", {"Authorization": "Bearer good"}),
        ("", {"Authorization": "bearer  good "}),
        ("?secret=good", {"Authorization": "Basic Zm9vOmJhcg=="}),
        ("?secret=good", {"Authorization": "Bearer a-gateway's"}),
        ("?secret=old", {"X-Webhook-Secret": "good"}),
    ],
)
async def test_a_good_secret_opens_in_each_way_of_sending_it(query, headers):
    async with serving() as served:
        assert (await served.send(query=query, headers=headers)).status == 202


@pytest.mark.parametrize(
    ("secret", "query"),
    [
        ("ключ-ü", "?secret=%D0%BA%D0%BB%D1%8E%D1%87-%C3%BC"),
        ("a+b/c=", "?secret=a+b/c="),
        ("a+b/c=", "?secret=a%2Bb%2Fc%3D"),
        ("two words", "?secret=two+words"),
        ("two words", "?secret=two%20words"),
        ("%41", "?secret=%2541"),
    ],
)
async def test_a_secret_may_hold_any_character(secret, query):
    async with serving(secrets=lambda: (secret,)) as served:
        request = post(b"{}", target=WEBHOOK_PATH + query)
        assert (await served.send_raw(request)).startswith(b"HTTP/1.1 202")


async def test_every_configured_secret_is_good_and_a_reload_counts_at_once():
    secrets = ["old", "new"]
    async with serving(secrets=lambda: tuple(secrets)) as served:
        assert [(await served.send(query=f"?secret={one}")).status for one in ("old", "new")] == [202, 202]
        secrets.remove("old")
        assert [(await served.send(query=f"?secret={one}")).status for one in ("old", "new")] == [401, 202]


async def test_without_secrets_nothing_is_checked():
    async with serving(secrets=lambda: None) as served:
        assert (await served.send(query="")).status == 202
        assert (await served.send(query="?secret=any")).status == 202


@pytest.mark.parametrize("configured", [(), ("",)])
async def test_an_empty_list_or_an_empty_secret_authorizes_no_one(configured):
    async with serving(secrets=lambda: configured) as served:
        for query in ("", "?secret=", "?secret=x"):
            assert (await served.send(query=query)).status == 401


async def test_a_refusal_says_how_to_send_the_secret_without_revealing_it():
    async with serving() as served:
        answer = await served.send(query="?secret=wrong")
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.json["error"] == "the secret is wrong, or was sent twice"
        assert "X-Webhook-Secret" in answer.json["hint"]
        assert b"good" not in answer.body
        assert (await served.send(query="")).json["error"] == "the secret is missing"
        assert served.store.events == {}


async def test_an_unknown_sender_is_refused_before_the_body_is_read():
    async with serving() as served:
        request = post(b"", target=f"{WEBHOOK_PATH}?secret=wrong", length=1_000_000)
        assert (await served.send_raw(request, timeout=2)).startswith(b"HTTP/1.1 401")


async def test_the_query_string_is_never_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with serving() as served:
        await served.send(BODY)
        await served.send(b"[")
        await served.send(query="?secret=hush-hush")
        await served.send(query="?secret=hush-hush", path="/elsewhere")
        await served.send_raw(f"POST {WEBHOOK_PATH}?secret=hush-hush HTTP/9.9\r\n\r\n".encode())
        await served.send_raw(f"POST {WEBHOOK_PATH}?secret=hush-hush{'x' * 9000} HTTP/1.1\r\n\r\n".encode())
    ours = [record for record in caplog.records if record.name != "asyncio"]
    text = "\n".join(logging.Formatter().format(record) for record in ours)
    assert "refused a request" in text
    assert "Error handling request" in text
    assert "hush" not in text
    assert "secret=good" not in text


# Addresses


async def test_health_and_readiness_answer_with_one_word():
    obstacle = ["starting"]

    async def ready():
        return obstacle[0]

    async with serving(ready=ready) as served:
        health = await served.send(method="GET", path="/healthz", query="")
        assert (health.status, health.body) == (200, b"ok\n")
        waiting = await served.send(method="GET", path="/readyz", query="")
        assert (waiting.status, waiting.body) == (503, b"starting\n")
        obstacle[0] = ""
        ready_now = await served.send(method="GET", path="/readyz", query="")
        assert (ready_now.status, ready_now.body) == (200, b"ready\n")
        assert (await served.send(method="HEAD", path="/healthz", query="")).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/webhooks", "/webhooks/langsmith/", "/metrics", "/api/v1/events", "/%2e%2e/etc"]
)
async def test_nothing_else_is_there(path):
    async with serving() as served:
        for method in ("GET", "POST"):
            answer = await served.send(path=path, method=method)
            assert answer.status == 404
            assert "/webhooks/langsmith" in answer.json["hint"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", WEBHOOK_PATH, "POST"),
        ("PUT", WEBHOOK_PATH, "POST"),
        ("OPTIONS", WEBHOOK_PATH, "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/readyz", "GET, HEAD"),
    ],
)
async def test_other_methods_are_refused(method, path, allowed):
    async with serving() as served:
        answer = await served.send(method=method, path=path)
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)


# Size and codings


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("X-GZip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-15)),
        ("zstd", zstandard.compress),
        ("identity", bytes),
        ("gzip, zstd", lambda body: zstandard.compress(gzip.compress(body))),
        ("gzip", lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:])),
    ],
)
async def test_a_compressed_body_is_kept_decompressed(coding, encode):
    async with serving() as served:
        answer = await served.send(encode(BODY), headers={"Content-Encoding": coding})
        assert answer.status == 202
        (event,) = served.store.events.values()
        assert event.body == BODY


async def test_a_body_just_within_the_limit_is_accepted_and_one_beyond_is_not():
    async with serving(limit=300_000) as served:

        async def chunked(size):
            body = b'{"a":"' + b"x" * (size - 8) + b'"}'
            for start in range(0, size, 50_000):
                yield body[start : start + 50_000]

        assert (await served.send(chunked(300_000))).status == 202
        for body in (chunked(300_001), b'{"a":"' + b"x" * 299_993 + b'"}'):
            answer = await served.send(body)
            assert answer.status == 413
            assert "the limit is 300000 bytes" in answer.json["hint"]
        small = await served.send(
            gzip.compress(b'{"a":"' + b"x" * 299_993 + b'"}'), headers={"Content-Encoding": "gzip"}
        )
        assert (small.status, small.json["error"]) == (413, "the body is more than 300000 bytes decompressed")


async def test_a_length_beyond_the_limit_is_refused_before_the_body_comes():
    async with serving() as served:
        answer = await served.send_raw(post(b"{", length=100 * 1024 * 1024), timeout=2)
        assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("asks_first", [False, True])
async def test_what_is_too_large_is_an_error_in_the_log_with_its_size_and_sender(caplog, asks_first):
    caplog.set_level(logging.INFO)
    headers = ["User-Agent: Lang\u202eSmith/1 " + "x" * 200, *(["Expect: 100-continue"] if asks_first else [])]
    async with serving(limit=1000) as served:
        answer = await served.send_raw(post(b"", *headers, length=1001), timeout=2)
        assert answer.startswith(b"HTTP/1.1 413")
        assert [reason for reason, _ in served.results] == ["too_large"]
        assert (await served.send(b"[")).status == 400
    lost, refused = [record for record in caplog.records if record.name == "engine.receiver.receiver"]
    assert lost.getMessage() == "a webhook is lost: it is too large, and LangSmith does not send it again"
    assert (lost.levelname, lost.sender, lost.reason, lost.limit) == (
        "ERROR",
        "127.0.0.1",
        "the body is 1001 bytes",
        1000,
    )
    assert (lost.agent[:12], len(lost.agent)) == ("Lang?Smith/1", 100)
    assert (refused.levelname, refused.getMessage()[:37]) == ("INFO", "refused a request from 127.0.0.1: 400")


@pytest.mark.parametrize(("query", "status"), [("good", b"100"), ("wrong", b"401")])
async def test_expect_100_continue_is_answered_only_if_the_body_will_be_read(query, status):
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        target = f"{WEBHOOK_PATH}?secret={query}"
        writer.write(post(b"", "Expect: 100-continue", target=target, length=len(BODY)))
        assert (await read_answer(reader, 2)).startswith(b"HTTP/1.1 " + status)
        if query == "good":
            writer.write(BODY)
            assert (await read_answer(reader, 2)).startswith(b"HTTP/1.1 202")
        writer.close()


async def test_too_many_large_bodies_at_once_are_sent_away_and_the_others_go_on():
    async with serving(limit=1_000_000) as served:
        pauses = asyncio.Event()

        async def slow(n):
            yield b'{"n":%d,"a":"' % n + b"x" * 800_000
            await pauses.wait()
            yield b'"}'

        held = [asyncio.create_task(served.send(slow(n))) for n in range(4)]
        while served.receiver.admission.held < 3_200_000:
            await asyncio.sleep(0.01)
        refused = await served.send(b'{"a":"' + b"x" * 990_000 + b'"}')
        small = await served.send(b"{}")
        pauses.set()
        statuses = [(await task).status for task in held]
        assert (refused.status, small.status, statuses) == (503, 202, [202] * 4)
        await nothing_held(served)


# 503: everything that is not the sender's fault


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (StoreBusy("the disk is full"), "busy", "the disk is full"),
        (StoreError("locked by another engine"), "store_error", "locked by another engine"),
        (RuntimeError("a bug with /private/details"), "error", "could not be stored"),
    ],
)
async def test_a_store_that_cannot_keep_the_event_is_a_503(error, reason, words):
    async with serving(FakeStore(error=error)) as served:
        answer = await served.send(BODY)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert words in answer.json["error"]
        assert b"private" not in answer.body
        assert served.results[0][0] == reason


async def test_a_stuck_store_is_a_503_at_the_deadline_and_the_append_goes_on(caplog):
    async with serving(FakeStore(delay=1.0), deadline=0.3) as served:
        started = time.monotonic()
        answer = await served.send(BODY)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert time.monotonic() - started < 0.8
        assert served.store.events == {}
        await served.receiver.drain()
        assert served.store.payloads == [json.loads(BODY)]
        assert served.results[0][0] == "late"
    assert "was stored after its request was answered with 503" in caplog.text


async def test_a_late_append_that_fails_is_logged(caplog):
    async with serving(FakeStore(delay=0.3, error=StoreBusy("the disk is full")), deadline=0.1) as served:
        assert (await served.send(BODY)).status == 503
        await served.receiver.drain()
    assert "failed after its request was answered with 503: the disk is full" in caplog.text


async def test_a_sender_that_hangs_up_does_not_cancel_its_append():
    async with serving(FakeStore(delay=0.3)) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(BODY))
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        await served.receiver.drain()
        assert len(served.store.events) == 1


async def test_no_space_is_a_503_that_says_so_only_to_authorized_senders():
    async with serving(obstacle=lambda: "the backlog is full") as served:
        answer = await served.send(BODY)
        assert (answer.status, answer.json["error"]) == (503, "the backlog is full")
        assert "Retry-After" in answer.headers
        assert (await served.send(BODY, query="?secret=wrong")).status == 401


async def test_stopping_waits_for_appends_under_way():
    store = FakeStore(delay=0.4)
    async with serving(store) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(BODY))
        await asyncio.sleep(0.1)
    writer.close()
    assert len(store.events) == 1


# Slow and broken connections


async def test_a_body_that_trickles_may_be_slow_for_our_sake_and_can_be_sent_again():
    async with serving(deadline=0.4) as served:
        answer = await served.send_raw(post(b"{", length=100), *[b" "] * 5, pause=0.1, timeout=2)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1\r\n" in answer
        assert b"Connection: close\r\n" in answer
        assert b"did not arrive within 0.4 seconds" in answer
        assert [reason for reason, _ in served.results] == ["slow_body"]
        await nothing_held(served)
        assert (await served.send(BODY)).status == 202


async def test_a_broken_chunk_is_refused():
    async with serving(deadline=0.3) as served:
        request = post(b"", "Transfer-Encoding: chunked", length=None)
        answer = await served.send_raw(request, b"zz\r\n{}\r\n", pause=0.05, timeout=2)
        assert answer.split(b" ")[1] in (b"400", b"503"), "aiohttp's parser tells the handler nothing"
        assert (await served.send(BODY)).status == 202


async def test_a_sender_that_disconnects_within_its_body_does_no_harm(caplog):
    async with serving() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(b"{", length=100))
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        assert (await served.send(BODY)).status == 202
        await nothing_held(served)
    assert "Traceback" not in caplog.text


async def test_requests_on_one_connection_are_answered_in_order():
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(b'{"n":1}') + post(b"[") + post(b'{"n":2}'))
        statuses = [(await read_answer(reader, 2)).split(b" ", 2)[1] for _ in range(3)]
        writer.close()
        assert statuses == [b"202", b"400", b"202"]


async def test_basic_credentials_are_no_secret():
    async with serving() as served:
        basic = "Basic " + b64encode(b"user:good").decode()
        assert (await served.send(query="", headers={"Authorization": basic})).json["error"] == "the secret is missing"


@pytest.mark.parametrize("path", ["/webhooks/langsmith", "/healthz", "/readyz", "/nowhere"])
async def test_no_answer_says_what_software_sends_it(path):
    async with serving() as served:
        for query in ("?secret=good", ""):
            assert "Server" not in (await served.send(path=path, query=query)).headers
        assert b"server:" not in (await served.send_raw(b"NONSENSE\r\n\r\n")).lower()

"""Bad input at the front door: an answer that a person can act on, no other event lost, the server goes on.

Nothing that LangSmith might rightly send gets a 4xx.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib

import orjson
import pytest
import zstandard
from receiving import Served, post, read_answer, serving

from engine.core.document import Fetched, build_document, run_indexes
from engine.core.event import Kind
from engine.receiver.receiver import BODY_LIMIT, WEBHOOK_PATH

RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
WINDOW = {"start_time": "2024-04-05T01:28:54.734491+00:00", "end_time": "2024-04-05T01:28:56.492563+00:00"}
RUN = {"id": "6ab80f10-d79c-4fa2-b441-922ed6feb630", "name": "Search", "status": "success"}
GOOD = orjson.dumps({"rule_id": RULE, **WINDOW, "runs": [RUN]})


async def still_well(served: Served) -> None:
    """The server accepts an event, and every one that it accepted is there."""
    answer = await served.send(GOOD)
    assert answer.status == 202
    assert GOOD in [event.body for event in served.store.events.values()]


def documents(event) -> list[dict]:
    """Every document of an event can be built: what is accepted can be routed."""
    return [build_document(event, i, Fetched(), web_url="https://ls", vars={}) for i in (*run_indexes(event), -1)]


# The secret


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?secret",
        "?secret=",
        "?secret=wrong",
        "?secret=good&secret=good",
        "?secret=good&secret=wrong",
        "?secret=&secret=good",
        "?Secret=good",
        "?secret=goo",
        "?secret=good%00",
        "?secret=good%",
        "?secret=%zz%%%",
        "?secret=%ff%fe",
        "?secret=%F0%9F%98%80",
        "?secret[]=good",
        "?secret=good#secret=good",
        "?secret=" + "x" * 7000,
    ],
)
async def test_a_wrong_missing_second_or_empty_secret(query):
    async with serving() as served:
        answer = await served.send_raw(post(GOOD, target=WEBHOOK_PATH + query))
        expected = b"202" if query == "?secret=good#secret=good" else b"401"
        assert answer.split(b" ")[1] == expected
        if expected == b"401":
            assert served.store.events == {}
            assert "`secrets:`" in json.loads(answer.partition(b"\r\n\r\n")[2])["hint"]
        await still_well(served)


@pytest.mark.parametrize(
    "headers",
    [
        ("X-Webhook-Secret: wrong",),
        ("X-Webhook-Secret:",),
        ("X-Webhook-Secret: good", "X-Webhook-Secret: good"),
        ("X-Webhook-Secret: good, good",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer wrong",),
        ("Authorization: good",),
        ("Authorization: Bearer good", "Authorization: Bearer good"),
        ("Authorization: Digest good",),
    ],
)
async def test_a_wrong_second_or_empty_secret_header(headers):
    async with serving() as served:
        answer = await served.send_raw(post(GOOD, *headers, target=WEBHOOK_PATH))
        assert answer.startswith(b"HTTP/1.1 401")
        assert served.store.events == {}


@pytest.mark.parametrize("raw", ["é".encode(), "é".encode("latin-1"), b"\xff\xfe", "ключ".encode()])
async def test_a_secret_that_is_not_ascii(raw):
    """Raw bytes beyond ASCII break HTTP in a URL, and are just wrong in a header; unless they are the secret."""
    async with serving() as served:
        in_url = post(GOOD, target=f"{WEBHOOK_PATH}?secret=HERE").replace(b"HERE", raw)
        assert (await served.send_raw(in_url)).split(b" ")[1] in (b"400", b"401")
        in_header = post(GOOD, "X-Webhook-Secret: HERE", target=WEBHOOK_PATH).replace(b"HERE", raw)
        assert (await served.send_raw(in_header)).split(b" ")[1] in (b"400", b"401")
        await still_well(served)
    async with serving(secrets=lambda: (raw.decode("utf-8", "surrogateescape"),)) as served:
        assert (await served.send_raw(in_header)).split(b" ")[1] == b"202"


# The body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"hello", "Expecting value at line 1, column 1"),
        (b"payload=%7B%7D", "Expecting value at line 1, column 1"),
        (GOOD[:-20], "ends too early"),
        (GOOD + b"}", "Extra data"),
        (b"[" + GOOD + b"]", "a JSON array, not an object"),
        (b'"text"', "a JSON string, not an object"),
        (b"null", "a JSON null, not an object"),
        (b'{"a":' * 50_000, "it does not begin with { and end with }"),
        (b"[" * 1_000_000, "a JSON array, not an object"),
        (b"\x00" * 100, "not JSON"),
        (b"\x1f\x8b\x08\x00", "not JSON"),
    ],
)
async def test_a_body_that_is_no_json_object_is_a_400_that_says_why(body, words):
    async with serving() as served:
        answer = await served.send(body)
        assert answer.status == 400
        assert words in answer.json["error"]
        assert answer.json["hint"].startswith("send a JSON object")
        assert served.store.events == {}
        await still_well(served)


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b'{"runs":[{"id":"a","x":NaN,"y":-Infinity}]}', {"runs": [{"id": "a", "x": None, "y": None}]}),
        (b'{"runs":[{"id":"a","x":1e400}]}', {"runs": [{"id": "a", "x": None}]}),
        (b'{"name":"\\ud800 \\udfff"}', {"name": "\ufffd \ufffd"}),
        (b'{"name":"caf\xe9 \xed\xa0\x80"}', {"name": "caf\ufffd \ufffd\ufffd\ufffd"}),
        (b'{"name":"\x00\x01\t\n"}', {"name": "\x00\x01\t\n"}),
        (b"\xef\xbb\xbf" + b'{"bom":1}', {"bom": 1}),
        ('{"utf":16}'.encode("utf-16"), {"utf": 16}),
    ],
)
async def test_what_python_may_write_is_accepted_and_marked_as_repaired(body, payload):
    async with serving() as served:
        assert (await served.send(body)).status == 202
        (event,) = served.store.events.values()
        assert (event.payload, event.repaired, event.body) == (payload, True, body)
        assert orjson.loads(orjson.dumps(event.payload)) == payload
        assert documents(event)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "the body is nested deeper than 200 levels"),
        (b'{"a":NaN,"b":' + b"[" * 900 + b"]" * 900 + b"}", "the body is nested deeper than 200 levels"),
        (b'{"a":[' + b"[],\n" * 600_000 + b"0]}", "the body has more than 500,000 values, the limit of --max-values"),
    ],
    ids=["deep", "deep and not strict", "many values"],
)
async def test_what_is_too_much_to_parse_is_accepted_and_kept_as_it_came(body, reason):
    async with serving(max_values=500_000) as served:
        first, again = await served.send(body), await served.send(body)
        assert (first.status, first.json["duplicate"], again.json["duplicate"]) == (202, False, True)
        (event,) = served.store.events.values()
        assert (event.kind, event.rule_id, event.payload, event.body) == (Kind.UNPARSED, None, {}, body)
        assert (event.unparsed, event.size, event.repaired) == (reason, len(body), False)
        assert documents(event)
        await still_well(served)


@pytest.mark.parametrize(
    "body", [b'{"a\\u0000b":"\\u0000"}', b'{"a":1,"a":2}', b'{"a":' * 200 + b"1" + b"}" * 200, b"{}"]
)
async def test_what_is_strict_json_is_accepted_as_it_is(body):
    async with serving() as served:
        assert (await served.send(body)).status == 202
        (event,) = served.store.events.values()
        assert event.repaired is False
        assert documents(event)


async def test_100_megabytes_announced_are_refused_at_once():
    async with serving() as served:
        answer = await served.send_raw(post(b"{", length=100_000_000), timeout=2)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"have LangSmith send fewer or smaller runs at once" in answer
        await still_well(served)


async def test_100_megabytes_in_chunks_are_refused_while_they_come():
    async with serving(limit=4_000_000) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(b"", "Transfer-Encoding: chunked", length=None))
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(6):
            writer.write(chunk)
            await asyncio.wait_for(writer.drain(), 2)
        assert (await read_answer(reader, 2)).startswith(b"HTTP/1.1 413")
        writer.close()
        await still_well(served)


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress)]
)
async def test_a_bomb_is_stopped_before_it_is_large(coding, compress):
    bomb = compress(b'{"a":"' + b"\x20" * 40_000_000 + b'"}')
    async with serving(limit=1_000_000) as served:
        tracemalloc.start()
        answer = await served.send(bomb, headers={"Content-Encoding": coding})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (answer.status, answer.json["error"]) == (413, "the body is more than 1000000 bytes decompressed")
        assert peak < 8_000_000
        await still_well(served)


async def test_a_bomb_in_a_bomb_is_stopped_too():
    bomb = gzip.compress(gzip.compress(b"\x20" * 40_000_000))
    async with serving(limit=1_000_000) as served:
        assert (await served.send(bomb, headers={"Content-Encoding": "gzip, gzip"})).status == 413
        assert (await served.send(bomb, headers={"Content-Encoding": ", ".join(["gzip"] * 9)})).status == 415
        await still_well(served)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", GOOD),
        ("gzip", gzip.compress(GOOD)[:-6]),
        ("gzip", gzip.compress(GOOD) + b"tail"),
        ("gzip", b"\x1f\x8b"),
        ("deflate", GOOD),
        ("deflate", zlib.compress(GOOD)[:-6]),
        ("zstd", GOOD),
        ("zstd", zstandard.compress(GOOD * 50)[:-10]),
        ("gzip", b""),
    ],
)
async def test_a_body_that_is_not_what_its_coding_says_is_a_400(coding, body):
    async with serving() as served:
        answer = await served.send(body, headers={"Content-Encoding": coding})
        assert answer.status == 400
        assert answer.json["error"].startswith("the body is")
        assert served.store.events == {}
        await still_well(served)


@pytest.mark.parametrize("coding", ["br", "compress", "x" * 1000])
async def test_an_unknown_coding_is_a_415_that_says_which_are_known(coding):
    async with serving() as served:
        answer = await served.send(GOOD, headers={"Content-Encoding": coding})
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "gzip, deflate, zstd")
        assert len(answer.body) < 300


@pytest.mark.parametrize("length", ["-1", "abc", "1_0", "99999999999999999999999", ""])
async def test_a_broken_length_is_refused_by_the_http_parser(length):
    async with serving() as served:
        answer = await served.send_raw(post(b"", f"Content-Length: {length}", length=None), timeout=2)
        assert answer.split(b" ")[1] in (b"400", b"413")
        await still_well(served)


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"\r\n\r\nhello\r\n\r\n"]
)
async def test_bytes_that_are_not_http_do_no_harm(noise):
    async with serving() as served:
        assert b" 400 " in await served.send_raw(noise, timeout=2)
        await still_well(served)


def test_the_limit_is_64_mebibytes():
    assert BODY_LIMIT == 64 * 2**20


# The payload: odd, but accepted and kept


@pytest.mark.parametrize(
    ("payload", "kind", "rule_id"),
    [
        ({"hello": "no webhook"}, Kind.UNKNOWN, None),
        ({}, Kind.UNKNOWN, None),
        ({"rule_id": RULE, **WINDOW, "runs": []}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW, "runs": None}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW, "runs": [None, 1, "x", [], {}]}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW, "runs": {"id": "not a list"}}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW, "runs": "text"}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW, "runs": [{"name": "without id"}]}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW, "runs": [{"id": 7}, {"id": None}, {"id": ["x"]}]}, Kind.RULE, RULE),
        ({"rule_id": "nobody knows it", **WINDOW, "runs": [RUN]}, Kind.RULE, "nobody knows it"),
        ({"rule_id": 12, "runs": [RUN]}, Kind.RULE, "12"),
        ({"rule_id": {"odd": True}, "runs": [RUN]}, Kind.RULE, '{"odd":true}'),
        ({"rule_id": RULE, "start_time": 5, "end_time": ["?"], "runs": [RUN]}, Kind.RULE, RULE),
        ({"rule_id": RULE, **WINDOW, "threads": [{"thread_id": "t"}, 3]}, Kind.RULE, RULE),
        ({"rule_id": RULE, "runs": [RUN], "new": {"keys": ["everywhere"]}, "feedback_stats": 3}, Kind.RULE, RULE),
        (
            {"rule_id": RULE, "runs": [{**RUN, "start_time": 3, "end_time": {}, "total_cost": [], "app_path": 1}]},
            Kind.RULE,
            RULE,
        ),
        ({"rule_id": RULE, "runs": [{**RUN, "inputs_s3_urls": [1], "outputs_s3_urls": {"ROOT": 2}}]}, Kind.RULE, RULE),
        ({"alert_rule_id": 3, "runs_url": None}, Kind.ALERT, "3"),
        ({"prompt_id": "p", "event": "tag:create", "unknown": 1}, Kind.PROMPT, None),
        ({"type": "issue.of.a.new.sort", "data": 5}, Kind.ISSUE, None),
    ],
)
async def test_an_odd_object_is_accepted_and_can_be_routed(payload, kind, rule_id):
    async with serving() as served:
        assert (await served.send(orjson.dumps(payload))).status == 202
        (event,) = served.store.events.values()
        assert (event.kind, event.rule_id, event.payload) == (kind, rule_id, payload)
        assert len(documents(event)) == len(run_indexes(event)) + 1


async def test_a_thousand_runs_are_one_event():
    payload = {"rule_id": RULE, **WINDOW, "runs": [{**RUN, "id": str(n)} for n in range(1000)]}
    async with serving() as served:
        assert (await served.send(orjson.dumps(payload))).status == 202
        (event,) = served.store.events.values()
        assert len(run_indexes(event)) == 1000


async def test_a_duplicate_delivery_is_reported_and_kept_once():
    async with serving() as served:
        first = await served.send(GOOD)
        again = await asyncio.gather(*(served.send(GOOD + b" " * n) for n in range(10)))
        assert {answer.json["event"] for answer in again} == {first.json["event"]}
        assert all(answer.status == 202 and answer.json["duplicate"] for answer in again)
        assert len(served.store.events) == 1


async def test_two_thread_batches_of_one_window_are_both_kept():
    def batch(first):
        threads = [{"thread_id": f"t{n}"} for n in range(first, first + 500)]
        return orjson.dumps({"rule_id": RULE, **WINDOW, "threads": threads})

    async with serving() as served:
        answers = [(await served.send(batch(first))).json["duplicate"] for first in (0, 500, 0)]
        assert answers == [False, False, True]
        assert len(served.store.events) == 2


async def test_bad_input_loses_no_good_event_beside_it():
    bad = [b"", b"[", b'{"a":' * 5000, gzip.compress(b"x")]
    async with serving() as served:
        sends = [served.send(b'{"n":%d}' % n if n % 2 else bad[n // 2 % len(bad)]) for n in range(60)]
        statuses = [answer.status for answer in await asyncio.gather(*sends)]
        assert statuses == [202 if n % 2 else 400 for n in range(60)]
        assert sorted(payload["n"] for payload in served.store.payloads) == list(range(1, 60, 2))

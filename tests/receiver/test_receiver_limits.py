"""The public listener under strain: one deadline for everything, bounded memory, a prompt stop."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time

import pytest
from receiving import FakeStore, post, read_answer, serving

import engine.receiver.admission
import engine.receiver.receiver
from engine.core.json_text import parsed_size
from engine.receiver.admission import Admission, NoCapacity, Reservation
from engine.receiver.receiver import DEADLINE, SHUTDOWN_TIMEOUT

BODY = b'{"n":1}'
#: So large that it is parsed in a thread.
LARGE = b'{"a":"' + b"x" * 300_000 + b'"}'


async def until(condition) -> None:
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0.01)


def admission_of(served) -> tuple[int, int, int]:
    admission = served.receiver.admission
    assert bool(admission.parsed) == bool(admission.held)
    return admission.held, admission.under_way, admission.late


# One deadline


async def test_the_default_deadline_leaves_half_a_second_of_the_three_that_are_promised():
    store = FakeStore(stuck=asyncio.Event())
    async with serving(store) as served:
        started = time.monotonic()
        request = post(BODY)
        answer = await served.send_raw(request[:60], request[60:-3], request[-3:], pause=0.1)
        assert answer.startswith(b"HTTP/1.1 503")
        assert DEADLINE - 0.1 < time.monotonic() - started < 3.0
        store.stuck.set()


async def test_body_and_append_share_the_deadline():
    store = FakeStore(stuck=asyncio.Event())
    async with serving(store, deadline=0.6) as served:
        started = time.monotonic()
        request = post(BODY)
        answer = await served.send_raw(request[:-3], request[-3:], pause=0.4)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"the store did not answer in time" in answer
        assert time.monotonic() - started < 1.0
        store.stuck.set()


async def test_what_came_in_whole_just_before_the_deadline_is_kept_even_if_its_request_was_refused():
    store = FakeStore(delay=0.3)
    async with serving(store, deadline=0.3) as served:
        request = post(BODY)
        assert (await served.send_raw(request[:-3], request[-3:], pause=0.2)).startswith(b"HTTP/1.1 503")
        await until(lambda: len(store.events) == 1)


# Bounded memory


async def test_what_a_stuck_store_holds_stays_counted_until_its_append_is_done():
    store = FakeStore(stuck=asyncio.Event())
    async with serving(store, deadline=0.1) as served:
        assert [(await served.send(body)).status for body in (BODY, LARGE)] == [503, 503]
        assert admission_of(served) == (len(BODY) + len(LARGE), 2, 2)
        assert served.receiver.admission.in_memory() == sum(len(body) + parsed_size(body) for body in (BODY, LARGE))
        store.stuck.set()
        await until(lambda: admission_of(served) == (0, 0, 0))
        assert len(store.events) == 2


@pytest.mark.parametrize(
    ("admission", "words"),
    [
        (Admission(10_000, late_limit=2), "the store is stuck"),
        (Admission(10_000, under_way_limit=2), "2 events already wait for the store"),
        (Admission(2 * len(BODY)), "too many large bodies"),
    ],
)
async def test_beyond_a_limit_requests_are_refused_at_once_until_the_store_answers(admission, words):
    store = FakeStore(stuck=asyncio.Event())
    async with serving(store, deadline=0.2, admission=admission) as served:
        assert [(await served.send(BODY)).status for _ in range(2)] == [503, 503]
        started = time.monotonic()
        refused = await served.send(BODY)
        assert time.monotonic() - started < 0.15
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert words in refused.json["error"]
        ready = await served.send(method="GET", path="/readyz", query="")
        assert (ready.status, ready.body) == (503, b"overloaded\n")
        store.stuck.set()
        await until(lambda: admission_of(served) == (0, 0, 0))
        assert (await served.send(BODY)).status == 202
        assert (await served.send(method="GET", path="/readyz", query="")).body == b"ready\n"


async def test_a_body_that_will_not_fit_is_refused_by_its_length():
    async with serving(admission=Admission(1000)) as served:
        answer = await served.send_raw(post(b"{", length=1001), timeout=1)
        assert answer.startswith(b"HTTP/1.1 503")
        assert (await served.send(BODY)).status == 202


def test_a_parsed_body_fits_whatever_its_size_while_others_use_half_of_the_memory():
    admission = Admission(1000)
    first, second, third = Reservation(admission), Reservation(admission), Reservation(admission)
    first.expand(500)
    second.expand(5000)
    assert (admission.parsed, admission.in_memory(), admission.held) == (5500, 5500, 0)
    assert admission.obstacle() == "too many large bodies are being received at once"
    second.release()
    assert (admission.parsed, admission.obstacle()) == (500, "")
    third.expand(1)
    with pytest.raises(NoCapacity, match="too many large bodies"):
        second.expand(500)
    assert admission.parsed == 501
    third.expand(499)
    assert admission.parsed == 1000


async def test_a_small_body_with_many_values_is_refused_while_others_use_the_memory():
    body = b'{"a":[' + b"0," * 1000 + b"0]}"
    admission = Admission(parsed_size(body) + 30)
    store = FakeStore(stuck=asyncio.Event())
    async with serving(store, admission=admission, deadline=0.2) as served:
        first, second = [await served.send(body) for _ in range(2)]
        assert "did not answer in time" in first.json["error"]
        assert (second.status, second.json["error"]) == (503, "too many large bodies are being received at once")
        store.stuck.set()
        await until(lambda: admission_of(served) == (0, 0, 0))


async def test_a_body_that_does_not_fit_once_it_is_decompressed_is_refused():
    async with serving(admission=Admission(1000)) as served:
        answer = await served.send(gzip.compress(LARGE), headers={"Content-Encoding": "gzip"})
        assert (answer.status, answer.json["error"]) == (503, "too many large bodies are being received at once")
        await until(lambda: admission_of(served) == (0, 0, 0))


@pytest.mark.parametrize("body", [b"[", b"[1]", b"[" + b" " * 300_000])
async def test_a_body_that_is_refused_is_held_no_longer(body):
    async with serving() as served:
        assert (await served.send(body)).status == 400
        await until(lambda: admission_of(served) == (0, 0, 0))


# What takes long is done elsewhere


@pytest.mark.parametrize(
    ("body", "coding", "elsewhere"),
    [(BODY, "", False), (LARGE, "", True), (gzip.compress(BODY), "gzip", True)],
    ids=["small", "large", "compressed"],
)
async def test_large_and_compressed_bodies_are_parsed_in_a_thread(monkeypatch, body, coding, elsewhere):
    threads = []
    real = engine.receiver.receiver.parse_event

    def parse(*args):
        threads.append(threading.current_thread())
        return real(*args)

    monkeypatch.setattr(engine.receiver.receiver, "parse_event", parse)
    async with serving() as served:
        headers = {"Content-Encoding": coding} if coding else {}
        assert (await served.send(body, headers=headers)).status == 202
        assert [thread is not threading.main_thread() for thread in threads] == [elsewhere]


class Parsing:
    """Stands in for ``parse_event``: parses nothing before it is let, and knows which bodies it has."""

    def __init__(self, monkeypatch):
        self.let, self.bodies, self._real = threading.Event(), [], engine.receiver.receiver.parse_event
        monkeypatch.setattr(engine.receiver.receiver, "parse_event", self)
        monkeypatch.setattr(engine.receiver.admission, "_LARGE", len(LARGE))

    def __call__(self, body, *args):
        self.bodies.append(body)
        self.let.wait(10)
        return self._real(body, *args)


LARGER = LARGE + b" "


async def test_one_large_body_is_parsed_at_a_time_and_others_pass_it(monkeypatch):
    parsing = Parsing(monkeypatch)
    async with serving() as served:
        larger = [asyncio.create_task(served.send(LARGER + b" " * n)) for n in range(3)]
        await until(lambda: parsing.bodies)
        others = [asyncio.create_task(served.send(LARGE.replace(b"a", b"b"))) for n in range(2)]
        await until(lambda: len(parsing.bodies) == 2)
        await asyncio.sleep(0.1)
        assert [len(body) > len(LARGE) for body in parsing.bodies] == [True, False]
        parsing.let.set()
        assert [(await task).status for task in larger + others] == [202] * 5


async def test_a_compressed_body_counts_as_eight_times_as_large(monkeypatch):
    parsing = Parsing(monkeypatch)
    body = gzip.compress(LARGE)
    monkeypatch.setattr(engine.receiver.admission, "_LARGE", 8 * len(body) - 1)
    async with serving() as served:
        headers = {"Content-Encoding": "gzip"}
        both = [asyncio.create_task(served.send(body, headers=headers)) for _ in range(2)]
        await until(lambda: parsing.bodies)
        await asyncio.sleep(0.1)
        assert len(parsing.bodies) == 1
        parsing.let.set()
        assert [(await task).status for task in both] == [202, 202]


async def test_large_bodies_that_wait_too_long_are_refused_before_the_deadline(monkeypatch):
    parsing = Parsing(monkeypatch)
    async with serving(deadline=2.0) as served:
        first = asyncio.create_task(served.send(LARGER))
        await until(lambda: parsing.bodies)
        began = time.monotonic()
        second = await served.send(LARGER + b" ")
        assert 0.8 < time.monotonic() - began < 1.8
        assert (second.status, second.json["error"]) == (503, "too many large bodies wait to be parsed")
        assert second.headers["Retry-After"] == "1"
        answer = await first
        assert (answer.status, answer.json["error"]) == (503, "the body was not decompressed and parsed in time")
        assert [reason for reason, _ in served.results] == ["overloaded", "late"]
        admission = served.receiver.admission
        assert (admission.held, admission.under_way, admission.late) == (len(LARGER), 1, 0)
        parsing.let.set()
        await until(lambda: (admission.held, admission.parsed, admission.under_way) == (0, 0, 0))
        assert len(parsing.bodies) == 1
        assert len(served.store.events) == 1


async def test_a_large_body_that_came_slowly_is_parsed_where_nothing_else_is(monkeypatch):
    parsing = Parsing(monkeypatch)
    parsing.let.set()
    async with serving(deadline=1.0) as served:
        request = post(LARGER)
        answer = await served.send_raw(request[:-3], request[-3:], pause=0.6)
        assert answer.startswith(b"HTTP/1.1 202")


async def test_small_webhooks_are_accepted_while_a_large_one_is_put_right():
    runs = [{"id": str(n), "inputs": {"text": "line\n" * 200, "n": float("nan")}} for n in range(4000)]
    async with serving() as served:
        large = asyncio.create_task(served.send(json.dumps({"rule_id": "r", "runs": runs}).encode()))
        small = 0
        while not large.done():
            small += (await served.send(b'{"n":%d}' % small)).status == 202
        assert (await large).status == 202
        assert small > 3


# Stopping


async def test_a_stopping_receiver_refuses_and_says_so_and_is_alive():
    async with serving() as served:
        served.receiver.stopping()
        answer = await served.send(BODY)
        assert (answer.status, answer.json["error"]) == (503, "the engine is stopping")
        assert (answer.headers["Connection"], answer.headers["Retry-After"]) == ("close", "1")
        assert (await served.send(BODY, query="?secret=wrong")).status == 401
        ready = await served.send(method="GET", path="/readyz", query="")
        assert (ready.status, ready.body) == (503, b"stopping\n")
        assert (await served.send(method="GET", path="/healthz", query="")).status == 200
        assert served.store.events == {}


async def test_an_unfinished_body_is_cut_within_a_second_and_a_finished_one_is_kept():
    async with serving() as served:
        connections = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
        for _, writer in connections:
            writer.write(post(BODY)[:-3])
        await asyncio.sleep(0.1)
        started = time.monotonic()
        served.receiver.stopping()
        connections[0][1].write(BODY[-3:])
        assert (await read_answer(connections[0][0], 1)).startswith(b"HTTP/1.1 202")
        cut = await read_answer(connections[1][0], 1)
        assert time.monotonic() - started < 1
        assert cut.startswith(b"HTTP/1.1 503")
        assert b"the engine is stopping" in cut
        for _, writer in connections:
            writer.close()


async def test_a_half_sent_body_does_not_hold_the_shutdown():
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(b"{", length=100))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await served.runner.cleanup()
        assert time.monotonic() - started < 1.5
        assert (await read_answer(reader, 1)).startswith(b"HTTP/1.1 503")
        writer.close()


async def test_a_connection_whose_upload_was_refused_does_not_hold_the_shutdown():
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(b"{", length=100 * 1024 * 1024))
        assert (await read_answer(reader, 1)).startswith(b"HTTP/1.1 413")
        started = time.monotonic()
        await served.runner.cleanup()
        assert time.monotonic() - started < 2.5
        writer.close()


async def test_a_stuck_store_does_not_hold_the_shutdown(caplog):
    store = FakeStore(stuck=asyncio.Event())
    async with serving(store, deadline=0.2) as served:
        assert (await served.send(BODY)).status == 503
        started = time.monotonic()
        await served.runner.cleanup()
        assert time.monotonic() - started < 4
        store.stuck.set()
    assert "did not answer for 1 events, which were rejected with 503" in caplog.text


async def test_a_shutdown_waits_for_a_slow_append_and_its_answer():
    store = FakeStore(delay=0.8)
    async with serving(store) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post(BODY))
        await asyncio.sleep(0.1)
        await served.runner.cleanup()
        assert (await read_answer(reader, 1)).startswith(b"HTTP/1.1 202")
        assert len(store.events) == 1
        writer.close()
    assert DEADLINE < SHUTDOWN_TIMEOUT

"""Hydration: objects from a real S3 protocol server, the rest from LangSmith; once, batched, with reasons."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
import boto3
import orjson
import pytest
import zstandard
from moto.server import ThreadedMotoServer

from engine.clients.langsmith import LangSmith, LangSmithSettings
from engine.clients.langsmith.request_limits import RequestTooSlow
from engine.clients.network import parse_network
from engine.clients.object_storage import HostSlots
from engine.clients.session import open_session
from engine.core.document import Fetched
from engine.core.errors import NotNow
from engine.core.event import parse_event
from engine.core.memory_budget import Memory, size_of
from engine.testing import LangSmithStandIn, WebhookSink
from engine.worker.hydrate import Hydrator

PROJECT = str(uuid4())
START = "2026-07-01T10:00:00.000000"


class Bucket:
    """A bucket of the S3 protocol server."""

    def __init__(self, endpoint: str) -> None:
        self.name = f"runs-{uuid4()}"
        self.client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="key"
        )
        self.client.create_bucket(Bucket=self.name)

    def put(self, value: object, **more: str) -> str:
        """Store an object; its presigned URL."""
        key = f"{uuid4()} ü+/root.json"
        body = value if isinstance(value, bytes) else orjson.dumps(value)
        self.client.put_object(Bucket=self.name, Key=key, Body=body, **more)
        return self.sign(key)

    def sign(self, key: str) -> str:
        return self.client.generate_presigned_url("get_object", {"Bucket": self.name, "Key": key}, ExpiresIn=60)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def bucket(s3: str) -> Bucket:
    return Bucket(s3)


def loopback_permitted():
    """The stand-ins live there."""
    return parse_network(["127.0.0.0/8"])


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(loopback_permitted) as session:
        yield session


@pytest.fixture
async def door(langsmith: LangSmithStandIn) -> AsyncIterator[LangSmith]:
    client = LangSmith(LangSmithSettings("key", langsmith.url))
    yield client
    await client.aclose()


@pytest.fixture
def hydrator(door: LangSmith, http: aiohttp.ClientSession) -> Hydrator:
    return hydrator_of(door, http)


def hydrator_of(door: object, http: aiohttp.ClientSession, **settings: float) -> Hydrator:
    async def session() -> aiohttp.ClientSession:
        return http

    return Hydrator(lambda: door, session, **settings)


def run(*, id_: str | None = None, **urls: str | None) -> dict:
    """A run whose parts named in ``urls`` are stored there."""
    stored = {f"{part}_s3_urls": {"ROOT": {"presigned_url": url}} for part, url in urls.items()}
    base = {"id": id_ or str(uuid4()), "session_id": PROJECT, "start_time": START, "inputs": None, "outputs": None}
    return base | stored


def event_of(*runs: object):
    return parse_event(orjson.dumps({"rule_id": "r", "start_time": "a", "end_time": "b", "runs": list(runs)}), 1.7e9)


def known_to(langsmith: LangSmithStandIn, known: dict, **parts: object) -> None:
    langsmith.add_run(
        {
            "id": known["id"],
            "trace_id": known["id"],
            "session_id": PROJECT,
            "start_time": START,
            "name": "run",
            "run_type": "chain",
            **parts,
        }
    )


def asked(langsmith: LangSmithStandIn, path: str) -> list:
    return [request for request in langsmith.requests if request.path.endswith(path)]


# From object storage


async def test_inputs_and_outputs_come_from_their_presigned_urls(hydrator, bucket, langsmith):
    one = run(inputs=bucket.put({"q": "ü"}), outputs=bucket.put({"a": [1]}))
    two = run(inputs=bucket.put({"q": 2}))
    fetched = await hydrator.fetch(event_of(one, two), {"inputs", "outputs"}, None, Fetched())
    assert fetched == Fetched({one["id"]: {"q": "ü"}, two["id"]: {"q": 2}}, {one["id"]: {"a": [1]}})
    assert langsmith.requests == []


@pytest.mark.parametrize(
    ("encode", "more"),
    [
        (gzip.compress, {"ContentEncoding": "gzip"}),
        (gzip.compress, {}),
        (zstandard.compress, {"ContentType": "application/octet-stream"}),
        (lambda body: body.replace(b"1", b"NaN"), {}),
    ],
)
async def test_objects_that_were_stored_compressed_or_as_python_writes_them_are_read(hydrator, bucket, encode, more):
    one = run(inputs=bucket.put(encode(b'{"q": 1, "r": 2}'), **more))
    fetched = await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())
    assert fetched.inputs[one["id"]]["r"] == 2
    assert fetched.errors == {}


async def test_a_large_object_is_read_all_the_same(hydrator, bucket):
    one = run(inputs=bucket.put({"q": "x" * 400_000}))
    fetched = await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())
    assert len(fetched.inputs[one["id"]]["q"]) == 400_000


async def test_only_what_is_wanted_and_not_there_yet_is_fetched(hydrator, http, sink: WebhookSink, bucket):
    one, two = run(inputs=bucket.put(1), outputs=bucket.put(2)), run(inputs=bucket.put(3), outputs=sink.url)
    sent_along = {**run(inputs=sink.url), "inputs": {"sent": True}}
    event = event_of(one, two, sent_along)
    first = await hydrator.fetch(event, {"inputs"}, [0], Fetched())
    assert first == Fetched({one["id"]: 1})
    second = await hydrator.fetch(event, {"inputs"}, [-1], first)
    assert second == Fetched({one["id"]: 1, two["id"]: 3})
    assert await hydrator.fetch(event, {"inputs"}, None, second) is second
    assert await hydrator.fetch(event, set(), None, first) is first
    assert sink.received == []


@pytest.mark.parametrize("runs", [[], [3, None, "x"], [{"id": 7}], [{"id": "", "inputs_s3_urls": "odd"}]])
async def test_odd_runs_need_nothing(hydrator, runs):
    have = Fetched()
    assert await hydrator.fetch(event_of(*runs), {"inputs", "outputs", "feedback"}, None, have) is have


async def test_a_run_without_id_is_read_from_its_url(hydrator, bucket):
    one = {**run(inputs=bucket.put("got")), "id": None}
    assert (await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())).inputs == {"#0": "got"}


# What has expired comes from LangSmith


async def test_everything_that_failed_comes_from_one_batched_query(hydrator, bucket, langsmith):
    gone = [run(inputs=bucket.sign("no-such-key"), outputs=bucket.sign("nor-this")) for _ in range(3)]
    good = run(inputs=bucket.put({"q": "fresh"}))
    for number, one in enumerate(gone):
        known_to(langsmith, one, inputs={"q": number}, outputs={"a": number})
    fetched = await hydrator.fetch(event_of(good, *gone), {"inputs", "outputs"}, None, Fetched())
    assert fetched.inputs == {good["id"]: {"q": "fresh"}} | {one["id"]: {"q": n} for n, one in enumerate(gone)}
    assert fetched.outputs == {one["id"]: {"a": n} for n, one in enumerate(gone)}
    assert fetched.errors == {}
    assert len(langsmith.requests) == len(asked(langsmith, "/runs/query")) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 410, 500, 307])
async def test_any_answer_but_200_leads_to_langsmith(hydrator, sink, langsmith, status):
    sink.faults.add(status=status, times=1)
    one = run(inputs=f"{sink.url}?X-Amz-Signature=hush")
    known_to(langsmith, one, inputs={"q": "kept"})
    fetched = await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())
    assert fetched == Fetched({one["id"]: {"q": "kept"}})


async def test_an_unknown_id_is_an_error_that_names_no_signature(hydrator, bucket, langsmith, caplog):
    caplog.set_level(logging.DEBUG)
    one = run(inputs=bucket.sign("no-such-key"))
    fetched = await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())
    assert fetched.inputs == {}
    assert "HTTP 404 (the link may have expired)" in fetched.errors["inputs"]
    assert "LangSmith does not have it any more" in fetched.errors["inputs"]
    assert f"127.0.0.1/{bucket.name}/no-such-key" in fetched.errors["inputs"]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("engine")]
    assert "Signature" not in fetched.errors["inputs"] + "\n".join(ours)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/o?X-Amz-Signature=hush", "127.0.0.1/o could not be read"),
        ("http://nowhere.invalid/o?X-Amz-Signature=hush", "nowhere.invalid/o could not be read"),
        ("file:///etc/passwd?X-Amz-Signature=hush", "could not be read"),
        ("http://[::1?X-Amz-Signature=hush", "an invalid URL could not be read"),
        ("not a link?X-Amz-Signature=hush", "could not be read"),
        ("http://127.0.0.1:99999/?X-Amz-Signature=hush", "could not be read"),
    ],
)
async def test_a_link_that_leads_nowhere_is_an_error_and_nothing_raises(hydrator, url, words):
    fetched = await hydrator.fetch(event_of(run(inputs=url)), {"inputs"}, None, Fetched())
    assert words in fetched.errors["inputs"]
    assert "hush" not in fetched.errors["inputs"]


async def test_an_object_that_is_too_large_or_no_json_is_an_error(door, http, bucket):
    hydrator = hydrator_of(door, http, object_limit=1000)
    bomb = gzip.compress(b'"' + b"x" * 100_000 + b'"')
    bodies = [b'"' + b"x" * 1000 + b'"', bomb, b"<Error/>", gzip.compress(b"{}")[:-4]]
    runs = [run(inputs=bucket.put(body)) for body in bodies]
    errors = [(await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())).errors["inputs"] for one in runs]
    for error, words in zip(
        errors, ["more than 1000 bytes", "more than 1000 bytes", "not JSON", "not gzip"], strict=True
    ):
        assert words in error


async def test_an_object_that_never_comes_is_given_up(door, http, sink):
    sink.faults.add(hang=30)
    hydrator = hydrator_of(door, http, timeout=0.4)
    fetched = await hydrator.fetch(event_of(run(inputs=sink.url)), {"inputs"}, None, Fetched())
    assert "did not answer within 0.2 s" in fetched.errors["inputs"]


async def test_what_does_not_come_in_time_is_asked_of_langsmith_in_the_time_that_is_left(door, http, sink, langsmith):
    sink.faults.add(hang=30)
    one = run(inputs=sink.url)
    known_to(langsmith, one, inputs={"q": "kept"})
    await door.warm_up()
    fetched = await hydrator_of(door, http, timeout=2).fetch(event_of(one), {"inputs"}, None, Fetched())
    assert fetched == Fetched({one["id"]: {"q": "kept"}})


async def test_without_an_answer_the_fetch_ends_with_reasons(door, http, sink, langsmith):
    sink.faults.add(hang=30, times=5)
    langsmith.faults.add(hang=30, times=5)
    await door.warm_up()
    hydrator = hydrator_of(door, http, timeout=0.6)
    async with asyncio.timeout(3):
        fetched = await hydrator.fetch(event_of(run(inputs=sink.url)), {"inputs", "feedback"}, None, Fetched())
    assert fetched.errors["feedback"] == "LangSmith did not answer within 0.6 s"
    assert "and LangSmith did not answer within 0.3 s" in fetched.errors["inputs"]
    assert hydrator._in_progress == {}


async def test_what_never_gets_its_turn_is_given_up_too(door, http, sink):
    sink.faults.add(hang=30, times=5)
    hydrator = hydrator_of(door, http, timeout=0.4, concurrency=1)
    async with asyncio.timeout(3):
        events = [event_of(run(inputs=sink.url)) for _ in range(3)]
        fetched = await asyncio.gather(*(hydrator.fetch(event, {"inputs"}, None, Fetched()) for event in events))
    assert all("did not answer within 0.2 s" in one.errors["inputs"] for one in fetched)


async def test_no_more_objects_than_allowed_are_read_at_once(door, http, bucket, monkeypatch):
    hydrator = hydrator_of(door, http, concurrency=2)
    now, most = 0, 0
    real = hydrator._objects._get

    async def counted(*args):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        try:
            return await real(*args)
        finally:
            now -= 1

    monkeypatch.setattr(hydrator._objects, "_get", counted)
    runs = [run(inputs=bucket.put(number)) for number in range(6)]
    fetched = await hydrator.fetch(event_of(*runs), {"inputs"}, None, Fetched())
    assert (len(fetched.inputs), most) == (6, 2)


# Feedback


async def test_feedback_of_all_runs_is_one_call(hydrator, langsmith):
    one, two, none = run(), run(), run()
    for known in (one, two, none):
        known_to(langsmith, known)
    langsmith.add_feedback(one["id"], key="correctness", score=0, correction={"label": "bug"})
    langsmith.add_feedback(one["id"], key="note", comment="hm")
    langsmith.add_feedback(two["id"], key="correctness", score=1)
    fetched = await hydrator.fetch(event_of(one, two, none, 3), {"feedback"}, [0], Fetched())
    assert {id_: sorted(row["key"] for row in rows) for id_, rows in fetched.feedback.items()} == {
        one["id"]: ["correctness", "note"],
        two["id"]: ["correctness"],
        none["id"]: [],
    }
    assert len(langsmith.requests) == len(asked(langsmith, "/feedback")) == 1
    assert Fetched.from_json(orjson.loads(orjson.dumps(fetched.to_json()))) == fetched


async def test_feedback_is_asked_for_anew_where_more_may_have_come(hydrator, langsmith):
    one, two = run(), run()
    for known in (one, two):
        known_to(langsmith, known)
    event = event_of(one, two)
    first = await hydrator.fetch(event, {"feedback"}, None, Fetched())
    langsmith.add_feedback(two["id"], key="late", score=1)
    assert await hydrator.fetch(event, {"feedback"}, None, first) is first
    again = await hydrator.fetch(event, {"feedback"}, None, first, refresh=True)
    assert [row["key"] for row in again.feedback[two["id"]]] == ["late"]
    assert len(asked(langsmith, "/feedback")) == 2
    langsmith.faults.add(status=503, times=5, path="/feedback")
    kept = await hydrator.fetch(event, {"feedback"}, None, again, refresh=True)
    assert kept.feedback == again.feedback
    assert "503" in kept.errors["feedback"]


async def test_feedback_that_cannot_be_had_is_an_error_and_the_rest_is_kept(hydrator, bucket, langsmith):
    langsmith.faults.add(status=503, times=5, path="/feedback")
    one = run(inputs=bucket.put("got"))
    fetched = await hydrator.fetch(event_of(one), {"inputs", "feedback"}, None, Fetched())
    assert (fetched.inputs, fetched.feedback) == ({one["id"]: "got"}, None)
    assert "503" in fetched.errors["feedback"]
    langsmith.faults.clear()
    again = await hydrator.fetch(event_of(one), {"inputs", "feedback"}, None, fetched)
    assert (again.feedback, again.errors) == ({one["id"]: []}, {})


async def test_without_a_key_the_error_says_so(http):
    door = LangSmith(LangSmithSettings(None, "http://127.0.0.1:9"))
    fetched = await hydrator_of(door, http).fetch(event_of(run()), {"feedback"}, None, Fetched())
    assert "api_key" in fetched.errors["feedback"]
    await door.aclose()


async def test_an_unexpected_exception_is_an_error_with_its_traceback_logged(http, caplog):
    class Broken:
        async def list_feedback(self, run_ids):
            raise KeyError("a bug")

    fetched = await hydrator_of(Broken(), http).fetch(event_of(run()), {"feedback"}, None, Fetched())
    assert fetched.errors == {"feedback": "an unexpected KeyError; see the log"}
    assert "Traceback" in caplog.text


# At the same time


async def test_fetches_at_the_same_time_share(hydrator, bucket, langsmith, sink):
    one, two = run(inputs=sink.url), run(inputs=bucket.put("two"))
    for known in (one, two):
        known_to(langsmith, known, inputs={"q": "from LangSmith"})
    sink.faults.add(status=403, times=10)
    event = event_of(one, two)
    fetches = [
        hydrator.fetch(event, {"inputs", "feedback"}, indexes, Fetched()) for indexes in ([0], [0, 1], None, [1])
    ]
    results = await asyncio.gather(*fetches)
    assert [set(fetched.inputs) for fetched in results] == [
        {one["id"]},
        {one["id"], two["id"]},
        {one["id"], two["id"]},
        {two["id"]},
    ]
    assert (len(sink.received) + len(asked(langsmith, "/feedback")), len(asked(langsmith, "/runs/query"))) == (2, 1)


async def test_fetches_that_share_a_failure_do_not_repeat_it(hydrator, langsmith):
    langsmith.faults.add(status=500, times=100, path="/feedback")
    event = event_of(run())
    results = await asyncio.gather(*(hydrator.fetch(event, {"feedback"}, None, Fetched()) for _ in range(5)))
    assert all("500" in fetched.errors["feedback"] for fetched in results)
    assert len(asked(langsmith, "/feedback")) == 1


async def test_one_that_is_cancelled_leaves_the_fetch_to_the_others(hydrator, langsmith):
    langsmith.faults.add(hang=0.3, times=1, path="/feedback")
    one = run()
    known_to(langsmith, one)
    event = event_of(one)
    first = asyncio.create_task(hydrator.fetch(event, {"feedback"}, None, Fetched()))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(hydrator.fetch(event, {"feedback"}, None, Fetched()))
    await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).feedback == {one["id"]: []}
    assert hydrator._in_progress == {}


async def test_deliveries_of_one_event_make_one_feedback_call_whichever_run_they_are_for(hydrator, langsmith):
    runs = [run() for _ in range(20)]
    for known in runs:
        known_to(langsmith, known)
    event = event_of(*runs)
    fetches = [hydrator.fetch(event, {"feedback"}, [index], Fetched()) for index in range(20)]
    results = await asyncio.gather(*fetches)
    assert all(set(fetched.feedback) == {one["id"] for one in runs} for fetched in results)
    assert len(asked(langsmith, "/feedback")) == 1


async def test_the_clients_are_asked_for_anew_so_that_new_settings_count(http, langsmith):
    doors = [LangSmith(LangSmithSettings(None, langsmith.url)), LangSmith(LangSmithSettings("key", langsmith.url))]
    current = [doors[0]]

    async def session() -> aiohttp.ClientSession:
        return http

    hydrator = Hydrator(lambda: current[0], session)
    one = run()
    known_to(langsmith, one)
    assert "api_key" in (await hydrator.fetch(event_of(one), {"feedback"}, None, Fetched())).errors["feedback"]
    current[0] = doors[1]
    assert (await hydrator.fetch(event_of(one), {"feedback"}, None, Fetched())).feedback == {one["id"]: []}
    for door in doors:
        await door.aclose()


async def test_closing_answers_those_that_wait(hydrator, langsmith):
    langsmith.faults.add(hang=30)
    waiting = asyncio.create_task(hydrator.fetch(event_of(run()), {"feedback"}, None, Fetched()))
    await asyncio.sleep(0.1)
    await hydrator.close()
    assert (await waiting).errors == {"feedback": "it was cancelled"}


# Slots per host


async def test_a_host_that_hangs_keeps_no_other_waiting(door, http, bucket, sink):
    """Before, 32 objects of one hung host kept every other host's waiting for 15 s."""
    sink.faults.add(hang=30, times=200)
    hydrator = hydrator_of(door, http, concurrency=4, timeout=20)
    hanging = event_of(*(run(inputs=sink.url) for _ in range(50)))
    hung = asyncio.create_task(hydrator.fetch(hanging, {"inputs"}, None, Fetched()))
    while len(sink.received) < 4:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        one = run(inputs=bucket.put("healthy"))
        fetched = await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())
    assert fetched.inputs == {one["id"]: "healthy"}
    assert (len(sink.received), hung.done()) == (4, False)
    await hydrator.close()
    await hung


async def test_hosts_share_what_there_is_and_are_forgotten():
    slots = HostSlots(2)
    entered: list[str] = []
    leave = {name: asyncio.Event() for name in "abcdefghi"}

    async def read(name: str) -> None:
        async with slots.of(name):
            entered.append(name)
            await leave[name].wait()

    tasks = [asyncio.create_task(read(name)) for name in "aaabbbccc"]
    await asyncio.sleep(0)
    assert entered == ["a", "a", "b", "b", "c"], "of eight places the last two are for hosts with nothing under way"
    tasks += [asyncio.create_task(read(name)) for name in "dde"]
    await asyncio.sleep(0)
    assert entered[5:] == ["d", "e"]
    leave["a"].set()
    await asyncio.sleep(0.01)
    assert entered.count("a") == 3
    for event in leave.values():
        event.set()
    await asyncio.gather(*tasks)
    assert (sorted(entered), len(slots)) == (sorted("aaabbbcccdde"), 0)


async def test_a_cancelled_wait_leaves_the_slot_to_the_others():
    slots = HostSlots(1)
    hold = asyncio.Event()

    async def read() -> None:
        async with slots.of("a"):
            await hold.wait()

    first, second, third = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.sleep(0)
    second.cancel()
    hold.set()
    await asyncio.wait((first, second, third))
    assert (first.cancelled(), second.cancelled(), third.cancelled(), len(slots)) == (False, True, False, 0)


# Memory


async def test_what_is_had_counts_and_what_it_took_to_read_it_does_not(hydrator, bucket):
    memory = Memory(2**20)
    account = memory.account()
    one = run(inputs=bucket.put({"q": "x" * 300_000}), outputs=bucket.put(gzip.compress(b'"' + b"y" * 1000 + b'"')))
    fetched = await hydrator.fetch(event_of(one), {"inputs", "outputs"}, None, Fetched(), account=account)
    assert fetched.errors == {}
    assert account.size == size_of(fetched.inputs[one["id"]]) + size_of(fetched.outputs[one["id"]])


async def test_what_is_too_large_for_the_memory_is_lost_and_not_asked_for_again(hydrator, bucket, langsmith):
    account = Memory(100_000).account()
    bomb = gzip.compress(b'"' + b"x" * 1_000_000 + b'"')
    large, small = run(inputs=bucket.put({"q": "x" * 100_000})), run(inputs=bucket.put("small"))
    packed = run(inputs=bucket.put(bomb))
    known_to(langsmith, large, inputs={"q": 1})
    event = event_of(large, small, packed)
    fetched = await hydrator.fetch(event, {"inputs"}, None, Fetched(), account=account)
    assert fetched.inputs == {small["id"]: "small"}
    assert sorted(fetched.too_large) == sorted([("inputs", large["id"]), ("inputs", packed["id"])])
    assert all("(--memory-limit is 97.7KiB)" in reason for reason in fetched.too_large.values())
    assert "exceeds the memory limit" in fetched.errors["inputs"]
    assert await hydrator.fetch(event, {"inputs"}, None, fetched, account=account) is fetched
    assert (langsmith.requests, account.size) == ([], size_of("small"))


async def test_an_object_of_too_many_values_is_lost(door, http, bucket):
    hydrator = hydrator_of(door, http, max_values=1000)
    one = run(inputs=bucket.put(list(range(5000))))
    fetched = await hydrator.fetch(event_of(one), {"inputs"}, None, Fetched())
    assert "more than 1,000 values" in fetched.too_large["inputs", one["id"]]


async def test_feedback_that_is_too_large_is_lost_and_what_it_took_is_given_back(hydrator, langsmith):
    memory = Memory(200_000)
    account = memory.account()
    one = run()
    known_to(langsmith, one)
    langsmith.add_feedback(one["id"], key="note", comment="x" * 100_000)
    fetched = await hydrator.fetch(event_of(one), {"feedback"}, None, Fetched(), account=account)
    assert "exceeds the memory limit" in fetched.too_large["feedback", one["id"]]
    assert (fetched.feedback, memory.held) == (None, 0)
    more = Memory(10_000_000)
    account = more.account()
    fetched = await hydrator.fetch(event_of(one), {"feedback"}, None, Fetched(), account=account)
    assert len(fetched.feedback[one["id"]]) == 1
    assert 100_000 < more.held < 200_000


async def test_a_runs_query_that_is_too_large_is_asked_in_parts(hydrator, bucket, langsmith):
    runs = [run(inputs=bucket.sign("no-such-key")) for _ in range(4)]
    for number, one in enumerate(runs):
        known_to(langsmith, one, inputs={"q": "x" * (400_000 if number == 3 else 30_000)})
    memory = Memory(600_000)
    account = memory.account()
    fetched = await hydrator.fetch(event_of(*runs), {"inputs"}, None, Fetched(), account=account)
    assert set(fetched.inputs) == {one["id"] for one in runs[:3]}
    assert set(fetched.too_large) == {("inputs", runs[3]["id"])}
    assert 90_000 < memory.held < 200_000


# Turns


async def test_every_request_to_langsmith_is_admitted_and_its_outcome_counts(door, http, bucket, langsmith):
    turns: list[tuple[str, str]] = []

    @asynccontextmanager
    async def turn(destination: str) -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            turns.append((destination, f"{type(error).__name__} {getattr(error, 'status', '')}"))
            raise
        turns.append((destination, ""))

    hydrator = hydrator_of(door, http, turn=turn)
    langsmith.faults.add(status=429, times=1, path="/feedback")
    one = run(inputs=bucket.sign("no-such-key"))
    known_to(langsmith, one, inputs={"q": 1})
    fetched = await hydrator.fetch(event_of(one), {"inputs", "feedback"}, None, Fetched())
    assert "429" in fetched.errors["feedback"]
    assert fetched.inputs == {one["id"]: {"q": 1}}
    assert sorted(turns) == [("langsmith", ""), ("langsmith", "HttpFailure 429")]


async def test_a_request_that_takes_too_long_is_late_for_its_destination(door, http, langsmith):
    raised: list[type] = []

    @asynccontextmanager
    async def turn(_destination: str) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            raised.append(type(error))
            raise

    langsmith.faults.add(hang=30)
    await door.warm_up()
    hydrator = hydrator_of(door, http, turn=turn, timeout=0.4)
    fetched = await hydrator.fetch(event_of(run()), {"feedback"}, None, Fetched())
    assert fetched.errors == {"feedback": "LangSmith did not answer within 0.4 s"}
    assert raised == [RequestTooSlow]


async def test_what_can_not_be_asked_for_now_is_had_later(door, http, bucket, langsmith):
    @asynccontextmanager
    async def turn(_destination: str) -> AsyncIterator[None]:
        raise NotNow("waits for langsmith: paused", until=7.0, blocked=True)
        yield

    one = run(inputs=bucket.sign("no-such-key"))
    event = event_of(one)
    hydrator = hydrator_of(door, http, turn=turn)
    fetched = await hydrator.fetch(event, {"inputs", "feedback"}, None, Fetched())
    assert set(fetched.later) == {"inputs", "feedback"}
    assert {(str(why), why.until, why.blocked) for why in fetched.later.values()} == {
        ("waits for langsmith: paused", 7.0, True)
    }
    assert (langsmith.requests, fetched.too_large) == ([], {})
    known_to(langsmith, one, inputs={"q": 1})
    again = await hydrator_of(door, http).fetch(event, {"inputs", "feedback"}, None, fetched)
    assert (again.inputs, again.later, again.errors) == ({one["id"]: {"q": 1}}, {}, {})

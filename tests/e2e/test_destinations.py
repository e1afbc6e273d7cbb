"""Destinations that ask for a pause, are gone, hang or fail: what waits for them, and who does not."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from itertools import pairwise

import aiohttp
import pytest
from harness import until
from processes import Serve, left_behind

from engine.core.event import parse_event
from engine.store.queries import DeliveryQuery
from engine.testing import WebhookSink, payloads
from engine.testing.server import Refused

RULE = payloads.RULE_ID
OTHERS = "22222222-2222-4222-8222-222222222222"
TWO_ROUTES = """
%s
defaults: {timeout: 2s, retry: {attempts: 4, within: 1h, min: 50ms, max: 200ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}?one"}}]}
  22222222-2222-4222-8222-222222222222: {actions: [{forward_webhook: {url: "${SINK}?two"}}]}
"""


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog):
    caplog.set_level(logging.INFO, "engine")


@pytest.fixture
async def healthy():
    async with WebhookSink() as stand_in:
        yield stand_in


def run(number: int = 0, rule: str = RULE):
    return payloads.rule([payloads.run(number)], rule_id=rule)


async def waiting(engine, count: int, **query):
    """The deliveries, once so many wait without being under way."""

    async def found():
        rows = [row for row in await engine.deliveries(**query) if row.state == "due"]
        return rows if len(rows) >= count else None

    return await until(found)


def lane(engine, url: str):
    origin = url.removesuffix("/hook")
    return next(each for each in engine.running.worker.gateway.destinations() if each.name == origin)


async def test_a_429_pauses_its_destination_for_every_route_and_spends_nothing(engine, sink, caplog) -> None:
    await engine.start(TWO_ROUTES % "")
    sink.faults.add(status=429, retry_after=1)
    await engine.post(run(0))
    await until(lambda: sink.received)
    paused_at = time.time()
    for number in range(1, 6):
        await engine.post(run(number, OTHERS))
    rows = await waiting(engine, 5, route=OTHERS)
    assert {row.attempts for row in rows} == {0}
    assert all("paused until" in row.reason and "because it said HTTP 429" in row.reason for row in rows)
    assert len(sink.received) == 1
    rows = await engine.settled(6)
    assert sorted(row.attempts for row in rows) == [1, 1, 1, 1, 1, 2]
    assert min(one.at for one in sink.received[1:]) >= paused_at + 0.8
    assert caplog.text.count("destination paused") == 1
    assert caplog.text.count("destination healthy again") == 1


async def test_a_destination_that_is_busy_now_and_then_falls_behind_by_little(engine, caplog) -> None:
    """At 120 a second it was thousands behind before: each pause began anew with one attempt."""

    class NowAndThen(WebhookSink):
        async def answer(self, recorded):
            await asyncio.sleep(0.05)
            if len(self.requests) % 50 == 25:
                raise Refused(503, "busy", {"Retry-After": "1"})
            return await super().answer(recorded)

    async with NowAndThen() as busy:
        engine.environ["SINK"] = busy.url
        await engine.start(TWO_ROUTES % "")
        started, most = time.monotonic(), 0
        for number in range(960):
            await engine.post(run(number))
            await asyncio.sleep(max(0.0, started + number / 120 - time.monotonic()))
            if number % 60 == 0:
                most = max(most, (await engine.running.store.backlog()).deliveries)
        rows = await engine.settled(960, seconds=10.0)
    assert most < 240, "two seconds, on a machine that has other things to do"
    assert {row.state for row in rows} == {"succeeded"}
    refused = {row.id for row in rows if row.attempts > 1}
    assert len(refused) >= 960 // 50
    for delivery in refused:
        tries = sorted(one.at for one in busy.received if one.headers["webhook-id"] == delivery)
        assert min(later - earlier for earlier, later in pairwise(tries)) > 0.95
    assert caplog.text.count("destination paused") < 10, "where others succeed it is not paused"


async def test_a_410_stops_its_url_until_the_configuration_is_loaded_anew(engine, sink, caplog) -> None:
    one_url = TWO_ROUTES.replace("?two", "?one")
    await engine.start(one_url % "")
    sink.answer_with(410)
    await engine.post(run(0))
    await until(lambda: sink.received)
    await engine.post(run(1, OTHERS))
    rows = await waiting(engine, 2)
    assert sorted(row.attempts for row in rows) == [0, 1]
    wanted = rf"waits for {sink.origin} \(url [0-9a-f]{{8}}\): it is gone \(HTTP 410\); stopped until"
    assert all(re.match(wanted, row.reason) for row in rows), "also the one whose own attempt met it"
    (met,) = [row for row in rows if row.route == RULE]
    assert (await engine.running.store.delivery(met.id)).attempts[0].reason.startswith("HTTP 410")
    await asyncio.sleep(0.5)
    assert len(sink.received) == 1
    engine.write(one_url % "# the same")
    await engine.running.reloader.reload()
    await asyncio.sleep(0.2)
    assert len(sink.received) == 1, "the same configuration mends nothing"
    engine.write(one_url % "vars: {mended: true}")
    await engine.running.reloader.reload()
    rows = await engine.settled(2)
    assert {row.state for row in rows} == {"succeeded"}
    assert caplog.text.count("destination paused") == 1


async def test_a_410_stops_no_other_url_and_people_see_and_open_it(engine, sink) -> None:
    await engine.start(TWO_ROUTES % "")
    sink.answer_with(410)
    await engine.post(run(0))
    await waiting(engine, 1)
    for number in range(1, 3):
        await engine.post(run(number))
    await waiting(engine, 3)
    assert len([one for one in sink.received if one.status == 410]) == 1
    for number in range(3, 6):
        await engine.post(run(number, OTHERS))
    rows = await engine.settled(3, route=OTHERS)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}
    admin = f"http://{engine.running.admin}/api/v1/destinations"
    async with engine.http.get(admin) as response:
        rows = {row["name"]: row for row in (await response.json())["destinations"]}
    (name,) = set(rows) - {sink.origin}
    assert (rows[name]["state"], rows[name]["waiting"], rows[sink.origin]["state"]) == ("gone", 3, "healthy")
    await engine.stop()
    await engine.start()
    assert {one.name for one in engine.running.worker.gateway.destinations() if one.last_block} == {name}
    async with engine.http.post(
        f"http://{engine.running.admin}/api/v1/destinations/resume", json={"name": name}
    ) as told:
        assert told.status == 200
    rows = await engine.settled(3, route=RULE)
    assert {row.state for row in rows} == {"succeeded"}
    assert await until_forgotten(engine)
    assert not [one.name for one in engine.running.worker.gateway.destinations() if one.last_block]


TWO_KEYS = """
defaults: {timeout: 2s, retry: {attempts: 4, within: 1h, min: 50ms, max: 200ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions: [{forward_webhook: {url: "${SINK}", headers: {Authorization: "Bearer ${WRONG}"}}}]
  22222222-2222-4222-8222-222222222222:
    actions: [{forward_webhook: {url: "${SINK}", headers: {Authorization: "Bearer ${RIGHT}"}}}]
"""


async def test_a_401_stops_the_credential_that_was_refused_and_no_other(engine, caplog) -> None:
    class Strict(WebhookSink):
        async def answer(self, recorded):
            if recorded.headers["Authorization"] != "Bearer right-key-0123":
                raise Refused(401, "who?")
            return await super().answer(recorded)

    async with Strict() as sink:
        engine.environ |= {"SINK": sink.url, "WRONG": "wrong-key-0123", "RIGHT": "right-key-0123"}
        await engine.start(TWO_KEYS)
        await engine.post(run(0))
        await waiting(engine, 1)
        for number in range(1, 5):
            await engine.post(run(number))
            await engine.post(run(number + 5, OTHERS))
        rows = await waiting(engine, 5, route=RULE)
        assert sum(row.attempts for row in rows) == 1, "one found out"
        stopped = {re.sub("[0-9a-f]{8}", "8", row.reason.partition(": ")[0]) for row in rows}
        assert stopped == {f"waits for {sink.origin} (key 8)"}
        rows = await engine.settled(4, route=OTHERS)
        assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}
        (control,) = await engine.running.store.controls()
        assert re.fullmatch(rf"{sink.origin} \(key [0-9a-f]{{8}}\)", control.subject)
        engine.environ["WRONG"] = "right-key-0123"
        engine.write(TWO_KEYS + "vars: {mended: true}\n")
        await engine.running.reloader.reload()
        rows = await engine.settled(5, route=RULE)
        assert {row.state for row in rows} == {"succeeded"}
    assert "key-0123" not in caplog.text


async def test_what_waits_for_a_destination_that_is_gone_is_dead_in_the_end_with_that_reason(engine, sink) -> None:
    await engine.start("""
        defaults: {retry: {attempts: 4, within: 1s, min: 50ms, max: 100ms}}
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
    """)
    sink.faults.add(status=410, times=None)
    await engine.post(run(0))
    await until(lambda: sink.received)
    for number in range(1, 21):
        await engine.post(run(number))
    rows = await engine.settled(21, seconds=4.0)
    assert {row.state for row in rows} == {"dead"}
    assert all("it is gone (HTTP 410" in row.reason and row.reason.startswith("waited 1s for") for row in rows)
    assert len(sink.received) == 1


@pytest.mark.parametrize(("status", "kind"), [(410, "gone"), (401, "refused")])
async def test_a_stopped_destination_stays_so_after_a_restart_until_the_file_changes(
    engine, sink, status, kind
) -> None:
    await engine.start(TWO_ROUTES % "")
    sink.faults.add(status=status, times=2 if status == 401 else 1)
    await engine.post(run(0))
    await until(lambda: sink.received)
    await waiting(engine, 1)
    await engine.stop()

    await engine.start()
    (control,) = await engine.running.store.controls()
    assert (control.until_at, control.reason[:8]) == (None, f"HTTP {status}")
    assert control.subject.startswith(f"{sink.origin} (url " if status == 410 else sink.origin)
    (stopped,) = [one for one in engine.running.worker.gateway.destinations() if one.last_block]
    assert (stopped.name, stopped.last_block.kind) == (control.subject, kind)
    if status == 401:
        await until(lambda: len(sink.received) == 2)  # a key may have been mended at the other end
    await waiting(engine, 1)
    await engine.stop()

    engine.write(TWO_ROUTES % "# mended")
    engine.config.write_text(engine.config.read_text().replace("timeout: 2s", "timeout: 3s"))
    await engine.start()
    (row,) = await engine.settled(1)
    assert row.state == "succeeded"
    assert await until_forgotten(engine)


@pytest.mark.parametrize("status", [410, 401])
@pytest.mark.parametrize("by", ["a reload", "a restart"])
async def test_a_rotated_secret_alone_resumes_it_and_shows_in_no_hash(engine, sink, status, by) -> None:
    token = engine.config.with_name("token")
    token.write_text("the-old-token")
    sink.faults.add(status=status, times=2 if by == "a restart" and status == 401 else 1)
    await engine.start(
        """
        defaults: {retry: {attempts: 4, within: 1h, min: 50ms, max: 200ms}}
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions: [{forward_webhook: {url: "${SINK}", headers: {X-Token: "${file:token}"}}}]
    """
    )
    shown = engine.running.reloader.current.config.hash
    await engine.post(run(0))
    await waiting(engine, 1)
    (control,) = await until(engine.running.store.controls)
    private = engine.running.reloader.current.config.private_hash
    assert control.state["config"] not in (shown, private)
    if by == "a restart":
        await engine.stop()
        await engine.start()
        if status == 410:
            await asyncio.sleep(0.3)
            assert len(sink.received) == 1, "with the same secret nothing has changed"
        else:
            await until(lambda: len(sink.received) == 2)
        await engine.stop()
    token.write_text("the-new-token")
    if by == "a restart":
        await engine.start()
    (row,) = await engine.settled(1)
    assert row.state == "succeeded"
    assert sink.received[-1].headers["X-Token"] == "the-new-token"
    assert engine.running.reloader.current.config.hash == shown
    assert engine.running.reloader.current.config.private_hash != private
    assert await until_forgotten(engine)


async def until_forgotten(engine) -> bool:
    async def none():
        return not await engine.running.store.controls()

    return await until(none)


async def test_a_long_pause_survives_a_restart(engine, sink) -> None:
    await engine.start(TWO_ROUTES % "")
    sink.faults.add(status=503, retry_after=600)
    await engine.post(run(0))
    await until(lambda: sink.received)
    await waiting(engine, 1)
    await engine.stop()
    await engine.start()
    await engine.post(run(1, OTHERS))
    (row,) = await waiting(engine, 1, route=OTHERS)
    assert "because it said HTTP 503" in row.reason
    assert len(sink.received) == 1
    assert engine.running.worker.gateway.resume(sink.origin)
    await engine.settled(1, route=OTHERS)


async def test_a_destination_that_hangs_costs_the_others_nothing(engine, sink, healthy, caplog) -> None:
    """One route for both, so that every event waits for the hung one, too."""
    engine.environ["HEALTHY"] = healthy.url
    await engine.start(
        """
        defaults: {timeout: 500ms, retry: {attempts: 8, within: 1h, min: 1s, max: 10s}}
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions:
              - {forward_webhook: {url: "${SINK}"}, name: hung}
              - {forward_webhook: {url: "${HEALTHY}"}, name: healthy}
    """,
        concurrency=128,
    )
    sink.faults.add(hang=60, times=None)
    for number in range(300):
        await engine.post(run(number))
    await until(lambda: len(healthy.received) == 300, 10.0)
    await until(lambda: lane(engine, sink.url).last_block is not None)
    assert len(sink.received) <= 64, "32 at once; the breaker lets in single ones then"
    rows = await waiting(engine, 250, action="hung")
    assert sum(row.attempts == 0 for row in rows) >= 200
    assert any("it keeps failing (timed out" in row.reason for row in rows)
    assert caplog.text.count("destination paused") <= 2
    gateway = engine.running.worker.gateway
    await until(lambda: gateway.waiting == 0)
    assert engine.running.worker.busy <= 1, "what waits, waits in the store"

    sink.faults.clear()
    rows = await engine.settled(600, seconds=60.0)
    assert {row.state for row in rows} == {"succeeded"}


async def test_a_destination_that_hangs_never_has_all_the_hands(engine, sink, healthy) -> None:
    engine.environ["HEALTHY"] = healthy.url
    await engine.start(
        """
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
          22222222-2222-4222-8222-222222222222: {actions: [{forward_webhook: {url: "${HEALTHY}"}}]}
    """,
        concurrency=8,
        grace=0.1,
    )
    sink.faults.add(hang=60, times=None)
    for number in range(60):
        await engine.post(run(number))
    await until(lambda: len(sink.received) == 2)
    for number in range(20):
        await engine.post(run(number, OTHERS))
    await engine.settled(20, seconds=5.0, route=OTHERS)
    assert len(sink.received) == 2


async def test_a_rate_spaces_what_comes_at_once(engine, sink) -> None:
    await engine.start(TWO_ROUTES % 'limits: {"http://127.0.0.1*": {rate: 20/s, burst: 2}}')
    for number in range(15):
        await engine.post(run(number))
    rows = await engine.settled(15)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}
    times = sorted(one.at for one in sink.received)
    assert times[-1] - times[0] >= 12 / 20
    for begin, end in zip(times, times[4:], strict=False):
        assert end - begin >= 2 / 20 - 0.02


async def test_what_waits_in_the_store_gets_its_turn_while_others_come(engine, sink) -> None:
    limits = "limits: {default: {rate: 40/s, burst: 1, concurrency: 4}}\ndefaults: {retry: {min: 10ms, max: 20ms}}\n"
    sink.answer_with(503)  # number 0 has one bad moment
    action = '{forward_webhook: {url: "${SINK}", body: "{{ run.extra.n }}"}}'
    await engine.start(f"{limits}routes:\n  {RULE}:\n    actions: [{action}]\n", grace=0.1)

    async def post(numbers: range) -> None:
        runs = [payloads.run(n, extra={"n": n}) for n in numbers]
        await engine.post(payloads.rule(runs) | {"start_time": str(numbers.start)})

    await post(range(180))  # more than memory takes
    for number in range(180, 420):  # about as many come as go
        await asyncio.sleep(0.024)
        await post(range(number, number + 1))
    turns = [int(request.raw) for request in sink.received]
    assert turns.count(0) == 2
    assert sum(number < 180 for number in set(turns)) > 175, "the oldest come first"


async def test_a_burst_to_one_destination_waits_in_memory_and_is_not_read_from_the_store(engine, sink) -> None:
    await engine.start(TWO_ROUTES % "limits: {default: {concurrency: 8}}")
    sink.faults.add(hang=0.1, times=300)
    worker, read, most = engine.running.worker, [], 0
    claim = worker._claim

    async def counted(kind, room):
        found = await claim(kind, room)
        read.extend(one.work.id for one in found if kind == "deliver")
        return found

    worker._claim = counted
    for start in range(0, 600, 50):
        await asyncio.gather(*(engine.post(run(number)) for number in range(start, start + 50)))
        most = max(most, worker.gateway.waiting)
    await engine.settled(600, seconds=30.0)
    assert read == []
    assert most > 150, "more than could wait before"
    assert (worker.gateway.waiting, worker.bytes_in_memory, lane(engine, sink.url).event_bytes.total) == (0, 0, 0)


async def test_a_burst_of_events_waits_in_memory_for_evaluation_and_few_are_evaluated_at_once(engine, sink) -> None:
    await engine.start(TWO_ROUTES % "")
    worker, read, goes_on = engine.running.worker, [], asyncio.Event()
    claim, evaluate = worker._claim, worker._evaluator.evaluate
    under_way: set[str] = set()

    async def counted(kind, room):
        found = await claim(kind, room)
        read.extend(one.work.id for one in found if kind == "evaluate")
        return found

    async def held_up(work, held):
        under_way.add(work.id)
        await goes_on.wait()
        return await evaluate(work, held)

    worker._claim, worker._evaluator.evaluate = counted, held_up
    for start in range(0, 600, 50):
        await asyncio.gather(*(engine.post(run(number)) for number in range(start, start + 50)))
    assert (worker.busy, len(under_way)) == (600, 512)
    goes_on.set()
    await engine.settled(600, seconds=30.0)
    assert read == []
    assert worker.bytes_in_memory == 0


async def test_what_waits_in_memory_while_the_rules_change_follows_the_new_ones(engine, sink, healthy) -> None:
    engine.environ["HEALTHY"] = healthy.url
    limits = "limits: {default: {concurrency: 1}}"
    await engine.start(TWO_ROUTES % limits)
    sink.faults.add(hang=0.7, times=1)
    for number in range(5):
        await engine.post(run(number))
    await until(lambda: engine.running.worker.gateway.waiting == 4)
    engine.write((TWO_ROUTES % limits).replace("${SINK}", "${HEALTHY}"))
    assert (await engine.running.reloader.reload()).good
    rows = await engine.settled(5)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}
    assert (len(sink.received), len(healthy.received)) == (1, 4)


async def test_a_limit_of_concurrency_holds_and_is_hot(engine, sink) -> None:
    most = 0
    under_way = 0

    class Counting(WebhookSink):
        async def answer(self, recorded):
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.1)
            under_way -= 1
            return await super().answer(recorded)

    async with Counting() as counting:
        engine.environ["SINK"] = counting.url
        await engine.start(TWO_ROUTES % "limits: {default: {concurrency: 2}}")
        for number in range(20):
            await engine.post(run(number, RULE if number % 2 else OTHERS))
        await engine.settled(20)
        assert most == 2
        engine.write(TWO_ROUTES % "limits: {default: {concurrency: 5}}")
        await engine.running.reloader.reload()
        await asyncio.gather(*(engine.post(run(number)) for number in range(20, 50)))
        await engine.settled(50)
        assert most == 5


async def test_more_than_memory_may_hold_waits_in_the_store(engine, sink) -> None:
    await engine.start(TWO_ROUTES % "", memory_limit=110_000)
    sink.faults.add(hang=0.3, times=3)
    body = payloads.run(0) | {"outputs": {"text": "x" * 20_000}}
    for number in range(20):
        await engine.post(payloads.rule([body | {"id": payloads.run(number)["id"]}]))
        assert engine.running.worker.bytes_in_memory <= 165_000
    await engine.settled(20)
    await until(lambda: engine.running.worker.bytes_in_memory == 0)


async def test_many_that_arrive_at_once_are_not_more_than_the_limits_allow(engine, sink) -> None:
    await engine.start(TWO_ROUTES % "", concurrency=16, memory_limit=2**20)
    worker, most, most_bytes = engine.running.worker, 0, 0
    bodies = [json.dumps(run(number) | {"pad": "x" * 20_000}).encode() for number in range(200)]
    events = [parse_event(body, time.time()) for body in bodies]
    for event in events:
        worker.accept(event)
    while len(sink.received) < len(events):
        await asyncio.sleep(0)
        most, most_bytes = max(most, worker.busy), max(most_bytes, worker.bytes_in_memory)
    # A claim may bring as much again as arrives while it is made; an evaluation ends a moment after its delivery began.
    assert most <= 4 * 16
    assert most_bytes <= 2 * 2**20 + 25_000
    await engine.settled(200)
    await until(lambda: not worker.busy)
    assert (worker.bytes_in_memory, worker._free("evaluate"), worker._free("deliver")) == (0, 8192, 16)


async def test_large_bodies_for_one_that_hangs_leave_memory_to_the_others(engine, sink, healthy) -> None:
    engine.environ["HEALTHY"] = healthy.url
    await engine.start((TWO_ROUTES % "").replace("${SINK}?two", "${HEALTHY}"), memory_limit=4 * 2**20, grace=0.1)
    sink.faults.add(hang=1.0, times=None)
    for number in range(12):
        await engine.post(run(number) | {"pad": "x" * 500_000})
    worker, hanging = engine.running.worker, lane(engine, sink.url)
    await until(lambda: hanging.in_flight and not hanging.waiting and hanging.has_stored)
    begun = time.monotonic()
    await engine.post(run(99, OTHERS))
    await until(lambda: healthy.received)
    assert time.monotonic() - begun < 0.9
    assert worker.bytes_in_memory <= 2 * 2**20
    await engine.settled(13)
    assert (len(sink.received), hanging.event_bytes.total) == (12, 0)


async def test_a_stop_gives_back_what_hangs_and_what_waits_and_spends_nothing(engine, sink) -> None:
    await engine.start(TWO_ROUTES % "limits: {default: {concurrency: 3}}", grace=0.3)
    sink.faults.add(hang=60, times=None)
    for number in range(20):
        await engine.post(run(number))
    await until(lambda: len(sink.received) == 3)
    assert engine.running.worker.gateway.waiting > 0
    begun = time.monotonic()
    await engine.stop()
    assert time.monotonic() - begun < 5.0
    async with left_behind(engine.config.parent / "data") as store:
        rows = await store.deliveries(DeliveryQuery(limit=100))
    assert len(rows) == 20
    assert {(row.state, row.attempts) for row in rows} == {("due", 0)}


async def test_sigterm_gives_back_what_hangs_and_the_next_start_makes_it(tmp_path, sink) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "secrets: none\nlimits: {default: {concurrency: 2}}\nroutes:\n"
        f'  {RULE}: {{actions: [{{forward_webhook: {{url: "{sink.url}"}}, timeout: 1m}}]}}\n'
    )
    sink.faults.add(hang=60, times=None)
    server = Serve(config, tmp_path / "data", options=["--grace", "300ms"])
    await server.start()
    async with aiohttp.ClientSession() as http:
        for number in range(6):
            async with http.post(server.url("none"), json=run(number)) as response:
                assert response.status == 202
    await until(lambda: len(sink.received) == 2)
    begun = time.monotonic()
    assert await server.terminate() == 0
    assert time.monotonic() - begun < 5.0
    sink.faults.clear()

    server = Serve(config, tmp_path / "data")
    await server.start()
    await until(lambda: len(sink.received) == 8)
    assert await server.terminate() == 0
    async with left_behind(tmp_path / "data") as store:
        rows = await store.deliveries(DeliveryQuery(limit=100))
    assert [(row.state, row.attempts) for row in rows] == [("succeeded", 1)] * 6

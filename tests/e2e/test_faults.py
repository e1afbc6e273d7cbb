"""What goes wrong around an attempt: in a plug-in, in the store, at the end of the process."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from harness import CLIENTS, until

from engine.core.errors import StoreBusy
from engine.store.queries import Size
from engine.testing import payloads

PLUGIN = """
import asyncio
import sys
import engine

calls = []

class Odd(engine.Action):
    \"\"\"Do something odd.\"\"\"

    class Params(engine.Params):
        pass

    {extra}

    async def run(self, params, context):
        async with context.http.post("{sink}", json={{}}) as answer:
            await answer.read()
        {body}
"""
RULES = """
plugins: [./plugins]
defaults: {timeout: 2s, retry: {attempts: 2, min: 50ms, max: 50ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{odd: {}}]}
"""


async def start_odd(engine, sink, body: str, extra: str = "pass") -> None:
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    (folder / "odd.py").write_text(PLUGIN.format(sink=sink.url, body=body, extra=extra))
    await engine.start(RULES)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise asyncio.CancelledError()", "cancelled itself"),
        ("sys.exit(1)", "SystemExit"),
        ("raise KeyError('id')", "KeyError"),
        ("await asyncio.sleep(60)", "no answer within 2 s"),
    ],
)
async def test_however_an_action_fails_its_attempts_are_counted_and_end(engine, sink, body: str, words: str) -> None:
    await start_odd(engine, sink, body)
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("dead", 2)
    assert words in row.reason
    assert len(sink.received) == 2


@pytest.mark.parametrize(
    "body", ["loop = {}; loop['me'] = loop; return loop", "return {1, 2}", "return 'text'", "return {'x': 'y' * 10**6}"]
)
async def test_an_odd_result_is_no_reason_to_act_again(engine, sink, body: str) -> None:
    await start_odd(engine, sink, body)
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("succeeded", 1)
    assert len(sink.received) == 1


async def test_a_destination_that_is_none_is_kept_as_none(engine, sink) -> None:
    await start_odd(engine, sink, "return None", "def destination(self, params): ...")
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("succeeded", 1)


async def test_a_plug_in_can_change_its_document_and_no_other_delivery_sees_it(engine, sink) -> None:
    await start_odd(engine, sink, "context.run['name'] = 'changed'; return None")
    engine.write(
        RULES.replace("[{odd: {}}]", '[{odd: {}}, {forward_webhook: {url: "${SINK}?then"}, retry: {min: 200ms}}]')
    )
    await engine.running.reloader.reload()
    sink.faults.add(status=503, path="/hook", times=1)
    await engine.post(payloads.rule())
    await engine.settled(2)
    names = [one.body["runs"][0]["name"] for one in sink.received if "then" in one.query]
    assert set(names) == {payloads.run()["name"]}


async def test_twenty_deliveries_of_one_event_ask_langsmith_once(engine, langsmith, sink) -> None:
    runs = [payloads.run(number) for number in range(20)]
    for run in runs:
        langsmith.add_run(run)
        langsmith.add_feedback(run["id"], key="correctness", correction="bug")
    await engine.start(
        CLIENTS
        + """
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions: [{forward_webhook: {url: "${SINK}", body: "{{ feedback.correctness.correction }}"}}]
"""
    )
    await engine.post(payloads.rule(runs))
    await engine.settled(20)
    assert {one.raw for one in sink.received} == {b"bug"}
    assert len([one for one in langsmith.requests if one.method == "GET" and one.route == "/feedback"]) == 1


async def test_a_stop_lets_what_is_under_way_finish_and_starts_nothing_new(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
    """)
    sink.faults.add(status=200, hang=1.0, times=None)
    await engine.post(payloads.several(3))
    await until(lambda: len(sink.received) == 3)
    stopped = time.monotonic()
    await engine.stop()
    assert 0.3 < time.monotonic() - stopped < 4.0
    assert [one.status for one in sink.received] == [200, 200, 200]
    sink.faults.clear()
    await engine.start()
    rows = await engine.settled(3)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}
    assert len(sink.received) == 3


async def test_what_a_stop_cuts_off_is_done_after_the_next_start_without_having_spent_an_attempt(engine, sink) -> None:
    text = """
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
    """
    await engine.start(text, grace=0.2)
    sink.faults.add(status=200, hang=30.0, times=2)
    await engine.post(payloads.several(2))
    await until(lambda: len(sink.received) == 2)
    await engine.stop()
    await engine.start()
    rows = await engine.settled(2)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}


async def test_a_half_sent_body_does_not_hold_up_a_stop(engine) -> None:
    await engine.start("routes: {alert: {actions: [{log: {message: x}}]}}", grace=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", engine.running.public.port)
    path = engine.url.partition(str(engine.running.public))[2]
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(0.2)
    started = time.monotonic()
    await engine.stop()
    assert time.monotonic() - started < 6.0
    writer.close()
    del reader


async def test_a_store_that_is_busy_while_an_attempt_is_settled_forgets_nothing(engine, sink, monkeypatch) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
    """)
    store = engine.running.store
    settle, failures = store.settle_attempt, 3

    async def busy(*args, **kwargs):
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreBusy("the disk is full")
        return await settle(*args, **kwargs)

    monkeypatch.setattr(store, "settle_attempt", busy)
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("succeeded", 1)
    assert len(sink.received) == 1


async def test_a_full_store_refuses_events_says_so_and_continues_when_there_is_space(engine, sink, monkeypatch) -> None:
    await engine.start("""
        retention: {max_size: 1GiB}
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
    """)

    async def readyz() -> tuple[int, str]:
        async with engine.http.get(f"http://{engine.running.public}/readyz") as answer:
            return answer.status, (await answer.text()).strip()

    async def says(status: int, word: str) -> bool:
        return await readyz() == (status, word)

    real = engine.running.store.size

    async def full() -> Size:
        return replace(await real(), used=2**30)

    monkeypatch.setattr(engine.running.store, "size", full)
    await until(lambda: says(503, "full"))
    told = await engine.post(payloads.rule(), status=503)
    assert "the store is full: it has 1GiB, and retention.max_size is 1GiB" in told["error"]
    engine.write("""
        retention: {max_size: 2GiB}
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
    """)
    await engine.running.reloader.reload()
    await until(lambda: says(200, "ready"))
    await engine.post(payloads.rule())
    await engine.settled(1)

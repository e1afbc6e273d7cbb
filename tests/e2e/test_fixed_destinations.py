"""A destination is fixed in the configuration: what waited for it is due at once, and nothing else is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime

import pytest
from harness import until

from engine.testing import WebhookSink, payloads

OTHERS = "22222222-2222-4222-8222-222222222222"
#: The second attempt comes after five minutes at least.
CONFIG = """
defaults: {timeout: 5s, retry: {attempts: 8, within: 24h, min: 10m, max: 1h}}
vars: {note: "%(note)s"}
routes:
  %(rule)s: {actions: [{forward_webhook: {url: "%(url)s", headers: {Authorization: "Bearer ${TOKEN}"}}}]}
  22222222-2222-4222-8222-222222222222: {actions: [{forward_webhook: {url: "${SINK}?others"}}]}
"""


def config(url: str = "${SINK}?wrong", note: str = "") -> str:
    return CONFIG % {"rule": payloads.RULE_ID, "url": url, "note": note}


def run(number: int = 0, rule: str = payloads.RULE_ID):
    return payloads.rule([payloads.run(number)], rule_id=rule)


async def changed(engine, text: str) -> None:
    engine.write(text)
    await engine.running.reloader.reload()


async def retried(engine, count: int):
    """The deliveries, once so many wait for another attempt."""

    async def found():
        rows = [row for row in await engine.deliveries() if row.state == "due" and row.attempts]
        return rows if len(rows) == count else None

    rows = await until(found)
    assert all(row.due_at > time.time() + 250 for row in rows)
    return rows


async def both_wait(engine, sink, status: int = 500) -> None:
    """A delivery of each route, attempted in vain."""
    engine.environ["TOKEN"] = "wrong-token"
    await engine.start(config())
    sink.faults.add(status=status, times=2)
    await engine.post(run(0))
    await engine.post(run(1, OTHERS))
    await retried(engine, 2)


async def only_the_first_is_made(engine) -> None:
    (row,) = await engine.settled(1, route=payloads.RULE_ID)
    assert (row.state, row.attempts) == ("succeeded", 2)
    (other,) = await engine.deliveries(route=OTHERS)
    assert (other.state, other.attempts) == ("due", 1)
    assert other.due_at > time.time() + 250


async def test_a_changed_url_makes_its_deliveries_due_at_once_and_no_others(engine, sink) -> None:
    await both_wait(engine, sink)
    await changed(engine, config("${SINK}?right"))
    await only_the_first_is_made(engine)


@pytest.mark.parametrize("status", [500, 401])
async def test_a_changed_token_does_too(engine, sink, status) -> None:
    await both_wait(engine, sink, status)
    engine.environ["TOKEN"] = "right-token"
    await engine.running.reloader.reload()
    await only_the_first_is_made(engine)
    assert sink.received[-1].headers["authorization"] == "Bearer right-token"


@pytest.mark.parametrize("what", ["url", "token"])
async def test_so_does_a_restart(engine, sink, what) -> None:
    await both_wait(engine, sink)
    await engine.stop()
    if what == "token":
        engine.environ["TOKEN"] = "right-token"
    await engine.start(config("${SINK}?right") if what == "url" else config())
    await only_the_first_is_made(engine)


async def test_a_restart_alone_and_another_change_hurry_nothing(engine, sink) -> None:
    await both_wait(engine, sink)
    await engine.stop()
    await engine.start(config())
    await changed(engine, config(note="another"))
    await asyncio.sleep(0.5)
    await retried(engine, 2)


async def test_a_url_that_an_event_completes_counts_as_it_is_written(engine, sink) -> None:
    engine.environ["TOKEN"] = "token"
    await engine.start(config("${SINK}/{{ run.id }}/{{ vars.note }}", "wrong"))
    sink.faults.add(status=500)
    await engine.post(run(0))
    await retried(engine, 1)
    await changed(engine, config("${SINK}/{{ run.id }}/{{ vars.note }}", "right"))
    (row,) = await engine.settled(1)
    assert row.attempts == 2
    assert sink.received[-1].path.endswith("/right")


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_never_was_attempted_leaves_a_destination_that_is_paused_for_long(engine, sink, restarted) -> None:
    engine.environ["TOKEN"] = "token"
    async with WebhookSink() as right:
        await engine.start(config())
        sink.faults.add(status=429, retry_after=3600)
        await engine.post(run(0))
        await until(lambda: sink.received)
        for number in range(1, 4):
            await engine.post(run(number))
        await engine.post(run(9, OTHERS))

        async def five_wait():
            rows = await engine.deliveries()
            return len(rows) == 5 and all(row.state == "due" and "paused until" in row.reason for row in rows)

        await until(five_wait)
        if restarted:
            await engine.stop()
            await engine.start(config(right.url))
        else:
            await changed(engine, config(right.url))
        rows = await engine.settled(4, route=payloads.RULE_ID)
        assert {row.state for row in rows} == {"succeeded"}
        assert len(right.received) == 4


async def test_an_open_circuit_does_not_keep_the_fixed_ones_back(engine, sink) -> None:
    engine.environ["TOKEN"] = "wrong"
    await engine.start(config())
    sink.faults.add(status=500, times=5)
    for number in range(5):
        await engine.post(run(number))
    await retried(engine, 5)
    (lane,) = engine.running.worker.gateway.destinations()
    assert lane.last_block.kind == "failing"
    now = time.time()
    lane.restore(replace(lane.last_block, until=now + 600))
    engine.environ["TOKEN"] = "right"
    await engine.running.reloader.reload()
    rows = await engine.settled(5)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 2)}


async def test_an_attempt_under_way_that_fails_by_the_old_rules_is_due_at_once_too(engine, sink) -> None:
    engine.environ["TOKEN"] = "token"
    await engine.start(config())
    sink.faults.add(status=500, hang=0.5)
    await engine.post(run(0))
    await until(lambda: engine.running.worker.busy)
    await asyncio.sleep(0.1)
    await changed(engine, config("${SINK}?right"))
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("succeeded", 2)


async def test_a_fix_is_not_lost_when_the_process_dies_before_the_store_knows(engine, sink, monkeypatch) -> None:
    await both_wait(engine, sink)

    async def never(*_args, **_others):
        await asyncio.Event().wait()

    store = engine.running.store
    monkeypatch.setattr(store, "make_changed_due", never)
    await changed(engine, config("${SINK}?right"))
    await asyncio.sleep(0.2)
    await engine.stop()
    await engine.start()
    await only_the_first_is_made(engine)


async def test_resume_makes_due_what_waits_for_a_retry(engine, sink) -> None:
    await both_wait(engine, sink)
    admin = f"http://{engine.running.admin}/api/v1/destinations/resume"
    async with engine.http.post(admin, json={"name": sink.origin}) as response:
        assert (response.status, (await response.json())["due"]) == (200, 2)
    rows = await engine.settled(2)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 2)}


async def test_a_replay_says_what_waited_and_until_when(engine, sink) -> None:
    await both_wait(engine, sink)
    rows = {row.id: row.due_at for row in await engine.deliveries()}
    admin = f"http://{engine.running.admin}/api/v1/replay"
    async with engine.http.post(admin, json={"deliveries": list(rows), "dry_run": True}) as response:
        assert (await response.json())["hurried"] == []
    async with engine.http.post(admin, json={"deliveries": list(rows)}) as response:
        hurried = (await response.json())["hurried"]
    assert {one["id"] for one in hurried} == set(rows)
    assert all(abs(datetime.fromisoformat(one["was_due"]).timestamp() - rows[one["id"]]) < 1 for one in hurried)
    await engine.settled(2)
    async with engine.http.post(admin, json={"deliveries": list(rows)}) as response:
        assert (await response.json())["hurried"] == [], "what succeeded did not wait"

"""Webhooks with more values than are parsed: accepted, kept as they came, seen by `unmatched`, replayed when parsed."""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import asynccontextmanager

import pytest
from harness import until

from engine.core import json_text as scan
from engine.testing import payloads

RULE = payloads.RULE_ID
FORWARD = """
defaults: {retry: {attempts: 50, within: 1h, min: 100ms, max: 200ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}?matched"}}]}
  "*": {for_each: event, actions: [{forward_webhook: {url: "${SINK}?any"}}]}
  unmatched:
    for_each: event
    actions:
      - forward_webhook: {url: "${SINK}?unmatched", body: "{{ event.kind }} {{ event.unmatched_reason }}"}
"""
MANY = "the body has more than 50 values, the limit of --max-values"


async def post_raw(engine, body: bytes) -> str:
    async with engine.http.post(engine.url, data=body) as response:
        assert response.status == 202, await response.text()
        return (await response.json())["event"]


async def asked(engine, path: str) -> dict:
    async with engine.http.get(f"http://{engine.running.admin}/api/v1/{path}") as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def replayed(engine, event_id: str) -> None:
    url = f"http://{engine.running.admin}/api/v1/replay"
    async with engine.http.post(url, json={"events": [event_id]}) as response:
        assert response.status == 200, await response.text()


def queries(sink, since: int = 0) -> list[str]:
    return sorted(name for request in sink.received[since:] for name in request.query)


@asynccontextmanager
async def longest_stall():
    """For how long nothing else ran on the loop, at most, in seconds."""
    gaps = [0.0]

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    ticking = asyncio.create_task(tick())
    try:
        yield lambda: max(gaps)
    finally:
        ticking.cancel()


@pytest.mark.parametrize("piece", [b"[],", b"[[[[[[]]]]]],", b'{"a":0},'], ids=["arrays", "nested", "objects"])
async def test_62_mib_of_small_values_stall_nothing_and_are_kept(engine, sink, piece):
    await engine.start(FORWARD)
    body = b'{"a":[' + piece * (62 * 2**20 // len(piece)) + b"0]}"
    async with longest_stall() as stall:
        event_id = await post_raw(engine, body)
        await engine.post(payloads.rule())
        await until(lambda: queries(sink) == ["any", "matched", "unmatched"])
        assert stall() < 1.5
    event = await asked(engine, f"events/{event_id}")
    assert (event["kind"], event["unmatched_reason"], event["bytes"]) == ("unparsed", "unparsed", len(body))
    assert event["payload"] is None
    assert event["unparsed"] == "the body has more than 1,000,000 values, the limit of --max-values"


async def test_an_unparsed_event_is_seen_by_unmatched_alone_and_again_by_its_own_routes_once_it_is_parsed(
    engine, sink, caplog
):
    await engine.start(FORWARD, max_values=50)
    event_id = (await engine.post(payloads.several(2)))["event"]
    await until(lambda: queries(sink) == ["unmatched"])
    assert sink.received[0].raw == b"unparsed unparsed"
    (told,) = [record for record in caplog.records if record.getMessage() == "accepted, but not parsed"]
    assert (told.levelname, told.event, told.reason) == ("WARNING", event_id, MANY)
    (listed,) = (await asked(engine, "events?kind=unparsed"))["events"]
    assert (listed["id"], listed["rule_id"], listed["state"]) == (event_id, None, "routed")
    await replayed(engine, event_id)
    await until(lambda: queries(sink) == ["unmatched", "unmatched"])

    await engine.stop()
    await engine.start(max_values=10_000)
    await replayed(engine, event_id)
    await until(lambda: queries(sink) == ["any", "matched", "matched", "unmatched", "unmatched"])
    event = await asked(engine, f"events/{event_id}")
    assert (event["payload"], event["unparsed"], event["unmatched_reason"]) == (payloads.several(2), None, None)


async def test_what_was_parsed_and_no_longer_is_comes_to_an_end_with_the_reason(engine, sink):
    """A lower limit, or a store of a version without one: nothing is parsed at the start that would stall it."""
    await engine.start(FORWARD)
    sink.faults.add(status=503, times=None)
    event_id = (await engine.post(payloads.several(2)))["event"]
    await until(lambda: len(sink.received) >= 3)
    await engine.stop()

    await engine.start(max_values=50)
    rows = await engine.settled(3)
    assert {(row.state, row.reason) for row in rows} == {("dead", MANY)}
    assert (await asked(engine, f"events/{event_id}"))["unparsed"] == MANY

    await engine.stop()
    sink.faults.clear()
    before = len(sink.received)
    await engine.start(max_values=10_000)
    url = f"http://{engine.running.admin}/api/v1/replay"
    async with engine.http.post(url, json={"state": "dead"}) as response:
        assert (await response.json())["count"] == 3
    rows = await engine.settled(3)
    assert {row.state for row in rows} == {"succeeded"}
    assert queries(sink, before) == ["any", "matched", "matched"]


async def test_a_store_that_holds_a_deep_body_of_an_earlier_version_is_shown_and_its_work_comes_to_an_end(
    engine, sink, monkeypatch
):
    """Bodies of up to 1024 levels were parsed once."""
    payload = payloads.several(2)
    payload["runs"][0]["inputs"] = functools.reduce(lambda value, _: [value], range(230), "leaf")
    sink.faults.add(status=503, times=None)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "MAX_LEVELS", 10_000)
        await engine.start(FORWARD)
        event_id = (await engine.post(payload))["event"]
        await until(lambda: len(sink.received) >= 3)
        await engine.stop()

    await engine.start()
    why = "the body is nested deeper than 200 levels"
    assert {(row.state, row.reason) for row in await engine.settled(3)} == {("dead", why)}
    event = await asked(engine, f"events/{event_id}")
    assert (event["kind"], event["payload"], event["unparsed"]) == ("rule", None, why)
    sink.faults.clear()
    before = len(sink.received)
    await replayed(engine, event_id)
    await until(lambda: queries(sink, before) == ["unmatched"])
    assert (await asked(engine, f"events/{event_id}"))["unmatched_reason"] == "unparsed"

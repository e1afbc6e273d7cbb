"""Deliveries whose route was removed: they wait without a look at them, and go on as soon as it is back."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from harness import until

from engine.testing import payloads

KEPT = "22222222-2222-4222-8222-222222222222"
OTHER = f"""
routes:
  {KEPT}: {{actions: [{{forward_webhook: {{url: "${{SINK}}?kept"}}}}]}}
"""
BOTH = f"""
%s
routes:
  {payloads.RULE_ID}: {{actions: [{{forward_webhook: {{url: "${{SINK}}"}}}}]}}
  {KEPT}: {{actions: [{{forward_webhook: {{url: "${{SINK}}?kept"}}}}]}}
"""
COUNT = 300
REASON = "with action 'forward_webhook' is no longer in the configuration; waits until it is there again"


async def removed(engine, sink, within: str = "1h") -> None:
    """Deliveries of a route that is gone."""
    defaults = f"defaults: {{retry: {{within: {within}}}}}\n"
    await engine.start(BOTH % defaults)
    sink.faults.add(status=429, retry_after=1)
    await engine.post(payloads.rule([payloads.run(0)]))
    await until(lambda: sink.received)
    await engine.post(payloads.rule([payloads.run(number) for number in range(1, COUNT)]))
    engine.write(defaults + OTHER)
    await engine.running.reloader.reload()


async def _all_wait(engine) -> bool:
    rows = await engine.deliveries()
    return len(rows) == COUNT and all(row.state == "due" and row.reason.endswith(REASON) for row in rows)


def changes(engine) -> int:
    """How many rows were written since the start."""
    db: sqlite3.Connection = engine.running.store._writer._db
    return db.total_changes


async def test_they_cost_nothing_while_they_wait_and_go_on_at_once_when_it_is_back(engine, sink) -> None:
    await removed(engine, sink)
    await until(lambda: _all_wait(engine))
    received = len(sink.received)
    await asyncio.sleep(1.1)
    before = changes(engine)
    await asyncio.sleep(2.5)
    assert changes(engine) - before <= 2, "a sign of life every two seconds"
    assert len(sink.received) == received
    engine.write(BOTH % "defaults: {retry: {within: 1h}}")
    await engine.running.reloader.reload()
    rows = await engine.settled(COUNT, seconds=10.0)
    assert {row.state for row in rows} == {"succeeded"}


@pytest.mark.parametrize("back", ["before the start", "after it"])
async def test_they_are_found_after_a_restart_too(engine, sink, back) -> None:
    await removed(engine, sink)
    await until(lambda: _all_wait(engine))
    await engine.stop()
    if back == "after it":
        await engine.start(OTHER)
        await until(lambda: _all_wait(engine))
        engine.write(BOTH % "")
        await engine.running.reloader.reload()
    else:
        await engine.start(BOTH % "")
    rows = await engine.settled(COUNT, seconds=10.0)
    assert {row.state for row in rows} == {"succeeded"}


async def test_they_are_dead_when_their_time_is_over(engine, sink) -> None:
    await removed(engine, sink, within="2s")
    rows = await engine.settled(COUNT, seconds=10.0)
    assert {row.state for row in rows} == {"dead"}
    reasons = {row.reason for row in rows if not row.attempts or row.run_id != payloads.run(0)["id"]}
    assert reasons == {
        f"route {payloads.RULE_ID!r} with action 'forward_webhook' is no longer in the configuration",
    }


async def test_people_see_that_they_wait_and_for_what(engine, sink) -> None:
    await removed(engine, sink)
    await until(lambda: _all_wait(engine))
    async with engine.http.get(f"http://{engine.running.admin}/api/v1/destinations") as response:
        rows = (await response.json())["destinations"]
    (row,) = [row for row in rows if row["name"].startswith("removed route")]
    assert row["name"] == f"removed route {payloads.RULE_ID}, action forward_webhook"
    assert (row["state"], row["waiting"]) == ("gone", COUNT)

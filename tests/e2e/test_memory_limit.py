"""Fetched data counts against ``--memory-limit``: what does not fit is undecided for good, and replayable."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness import CLIENTS, until

from engine.store.queries import DeliveryQuery
from engine.testing import payloads
from engine.testing.objects import ObjectStore

LIMIT = 8 * 2**20
CONFIG = f"""
network: {{allow: [127.0.0.0/8]}}
routes:
  {payloads.RULE_ID}:
    name: all
    filters: [{{path: "$.run.inputs.text", contains: x}}]
    actions: [{{forward_webhook: {{url: "${{SINK}}", body: "{{{{ run.id }}}}"}}}}]
  unmatched: [{{name: rest, actions: [{{log: {{message: unmatched}}}}]}}]
"""


@pytest.fixture
async def objects() -> Any:
    async with ObjectStore() as store:
        yield store


def run(number: int, objects: ObjectStore, size: int, part: str = "inputs") -> dict[str, Any]:
    """A run a part of which is an object of so many bytes."""
    url = objects.put(f"{number}/{part}", {"text": "x" * size})
    return payloads.run(number) | {part: None, f"{part}_s3_urls": {"ROOT": {"presigned_url": url}}}


async def event_of(engine: Any, event_id: str, state: str = "routed") -> Any:
    async def there() -> Any:
        detail = await engine.running.store.event(event_id)
        return detail if detail is not None and detail.row.state == state else None

    return await until(there)


async def test_what_does_not_fit_is_undecided_for_good_and_the_rest_is_decided(
    engine, sink, langsmith, objects
) -> None:
    """With a 2 KB webhook whose runs have far more than the memory limit."""
    await engine.start(CLIENTS + CONFIG, memory_limit=LIMIT)
    runs = [run(0, objects, 5 * 2**20), *(run(number, objects, 2**20) for number in range(1, 24))]
    event_id = (await engine.post(payloads.rule(runs)))["event"]
    detail = await event_of(engine, event_id)
    (evaluation,) = detail.evaluations
    verdicts = Counter(decision["verdict"] for decision in evaluation["decisions"])
    assert set(verdicts) == {"true", "undecided"}
    assert 3 <= verdicts["true"] <= 7
    assert evaluation["unmatched_reason"] is None, "what could not be decided is not unmatched"
    lost = next(decision["reason"] for decision in evaluation["decisions"] if decision["verdict"] == "undecided")
    assert "it exceeds the memory limit (--memory-limit is 8MiB)" in lost
    assert "127.0.0.1/objects/" in lost
    assert list(detail.attempts) == [], "no attempt to decide failed"
    await engine.settled(verdicts["true"])
    assert langsmith.requests == [], "LangSmith is not asked for what is too large"
    assert engine.running.worker.memory.held == 0

    await engine.stop()
    await engine.start(memory_limit=8 * LIMIT)
    assert await engine.running.store.replay_events([event_id], now=detail.row.received_at) == [event_id]
    engine.running.worker.wake()
    await engine.settled(24)
    assert len({one.raw for one in sink.received}) == 24


async def test_one_object_that_is_too_large_keeps_no_other_from_being_decided(engine, sink, objects) -> None:
    await engine.start(CLIENTS + CONFIG, memory_limit=LIMIT)
    runs = [run(0, objects, 9 * 2**20), *(run(number, objects, 100_000) for number in range(1, 10))]
    event_id = (await engine.post(payloads.rule(runs)))["event"]
    detail = await event_of(engine, event_id)
    verdicts = [decision["verdict"] for decision in detail.evaluations[0]["decisions"]]
    assert verdicts == ["undecided", *["true"] * 9]
    await engine.settled(9)


async def test_a_delivery_whose_parameters_read_too_much_is_dead_at_once(engine, sink, objects) -> None:
    config = CONFIG.replace('filters: [{path: "$.run.inputs.text", contains: x}]', "").replace(
        "{{ run.id }}", "{{ run.outputs.text | length }}"
    )
    await engine.start(CLIENTS + config, memory_limit=LIMIT)
    await engine.post(payloads.rule([run(0, objects, 9 * 2**20, "outputs"), run(1, objects, 1000, "outputs")]))
    rows = {row.index: row for row in await engine.settled(2)}
    assert (rows[0].state, rows[0].attempts, rows[1].state) == ("dead", 1, "succeeded")
    assert "exceeds the memory limit" in rows[0].reason
    assert [one.raw for one in sink.received] == [b"1000"]
    assert [row.id for row in await engine.running.store.deliveries(DeliveryQuery(state="dead"))] == [rows[0].id]


async def test_an_event_that_finds_the_memory_taken_is_decided_later(engine, sink, objects, monkeypatch) -> None:
    monkeypatch.setattr("engine.core.memory_budget.PATIENCE", 0.2)
    await engine.start(CLIENTS + CONFIG, memory_limit=LIMIT)
    memory = engine.running.worker.memory
    other = memory.account()
    other.add(LIMIT - 2**20)
    monkeypatch.setattr("engine.core.errors._SHORT_REST", 0.5)
    event_id = (await engine.post(payloads.rule([run(0, objects, 2 * 2**20)])))["event"]

    async def waits() -> bool:
        detail = await engine.running.store.event(event_id)
        return detail is not None and "other events use all of the memory limit" in detail.row.reason

    await until(waits)
    del other
    (row,) = await engine.settled(1)
    detail = await engine.running.store.event(event_id)
    assert row.state == "succeeded"
    assert list(detail.attempts) == [], "waiting spent no attempt"


PROCESS = Path(__file__).with_name("hydrating.py")


async def test_a_process_takes_little_more_than_the_limit(objects) -> None:
    """24 runs of 6 MB took 479 MB with a limit of 64 MiB before it was counted. The process itself takes 50."""
    text = "lorem ipsum dolor " * 1000
    value = orjson.dumps({"messages": [{"role": "user", "content": text}] * (6_000_000 // len(text))})
    urls = [objects.put(str(number), value) for number in range(24)]
    process = await asyncio.create_subprocess_exec(sys.executable, PROCESS, *urls, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    facts = orjson.loads(out)
    assert facts["fetched"] + facts["lost"] == 24
    assert facts["fetched"] >= 5
    assert facts["held"] <= 64 * 2**20
    assert facts["peak"] - facts["before"] < 128 * 2**20

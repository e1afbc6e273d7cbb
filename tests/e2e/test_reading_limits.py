"""What rules read from LangSmith passes the same limits and pauses as what actions send there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import CLIENTS, until

from engine.testing import payloads

CONFIG = f"""
routes:
  {payloads.RULE_ID}:
    name: all
    filters: [{{path: "$.feedback.score.score", gte: 1}}]
    actions: [{{forward_webhook: {{url: "${{SINK}}", body: "{{{{ run.id }}}}"}}}}]
"""


@pytest.fixture
def events(langsmith) -> list[dict[str, Any]]:
    """Payloads of one run each, whose feedback has to be fetched."""
    runs = [payloads.run(number) for number in range(6)]
    for run in runs:
        langsmith.add_run(run)
        langsmith.add_feedback(run["id"], key="score", score=1)
    return [payloads.rule([run], start_time=f"2026-07-01T10:0{number}:00Z") for number, run in enumerate(runs)]


def asked(langsmith) -> int:
    return sum(request.path.endswith("/feedback") for request in langsmith.requests)


async def reasons(engine, ids: list[str]) -> list[str]:
    details = [await engine.running.store.event(event_id) for event_id in ids]
    return [detail.row.reason for detail in details]


async def test_a_pause_that_langsmith_asks_for_holds_for_reading_and_no_attempt_is_spent(
    engine, sink, langsmith, events
) -> None:
    langsmith.faults.add(status=429, times=1, headers={"Retry-After": "2"}, path="/feedback")
    await engine.start(CLIENTS + CONFIG)
    await engine.post(events[0])
    await until(lambda: asked(langsmith) == 1)
    ids = [(await engine.post(event))["event"] for event in events[1:]]

    async def all_wait() -> bool:
        return all("waits for langsmith: paused" in reason for reason in await reasons(engine, ids))

    await until(all_wait)
    assert asked(langsmith) == 1
    await engine.settled(6)
    assert len(sink.received) == 6
    for event_id in ids:
        detail = await engine.running.store.event(event_id)
        assert list(detail.attempts) == []


async def test_a_refused_key_is_not_tried_by_every_event(engine, sink, langsmith, events) -> None:
    langsmith.faults.add(status=401, times=100)
    await engine.start(CLIENTS + CONFIG)
    await engine.post(events[0])
    await until(lambda: asked(langsmith) == 1)
    ids = [(await engine.post(event))["event"] for event in events[1:]]

    async def all_wait() -> bool:
        return all("waits for langsmith" in reason for reason in await reasons(engine, ids))

    await until(all_wait)
    await asyncio.sleep(1.0)
    assert (asked(langsmith), sink.received) == (1, [])


@pytest.mark.parametrize("how", ["a changed configuration", "people", "a restart"])
async def test_what_waits_for_a_refused_key_is_tried_at_once_when_that_is_over(
    engine, sink, langsmith, events, how: str
) -> None:
    langsmith.faults.add(status=401, times=1, path="/feedback")
    await engine.start(CLIENTS + CONFIG)
    first = (await engine.post(events[0]))["event"]

    async def refused() -> bool:
        return any("401" in reason for reason in await reasons(engine, [first]))

    await until(refused)
    ids = [(await engine.post(event))["event"] for event in events[1:]]

    async def all_wait() -> bool:
        return all("waits for langsmith" in reason for reason in await reasons(engine, ids))

    await until(all_wait)
    assert asked(langsmith) == 1
    match how:
        case "a changed configuration":
            engine.write(CLIENTS + CONFIG + "vars: {changed: true}\n")
            assert (await engine.running.reloader.reload()).good
        case "people":
            assert engine.running.worker.gateway.resume("langsmith")
        case _:
            await engine.stop()
            await engine.start(CLIENTS + CONFIG)
    await engine.settled(5)
    assert len(sink.received) >= 5, "all but the one whose own attempt was refused"


async def test_the_rate_limit_holds_for_reading(engine, sink, langsmith, events) -> None:
    await engine.start(CLIENTS + "limits: {langsmith: {rate: 5/s, burst: 1}}\n" + CONFIG)
    began = asyncio.get_running_loop().time()
    for event in events:
        await engine.post(event)
    await engine.settled(6)
    assert asked(langsmith) == 6
    assert asyncio.get_running_loop().time() - began >= 1.0, "the sixth comes a second after the first"


async def test_a_delivery_whose_parameters_read_waits_for_a_paused_langsmith(engine, sink, langsmith, events) -> None:
    langsmith.faults.add(status=429, times=1, headers={"Retry-After": "2"}, path="/feedback")
    config = CONFIG.replace('filters: [{path: "$.feedback.score.score", gte: 1}]', "").replace(
        "{{ run.id }}", "{{ feedback.score.score }}"
    )
    await engine.start(CLIENTS + config)
    for event in events[:2]:
        await engine.post(event)
        await until(lambda: asked(langsmith) == 1)

    async def one_waits() -> bool:
        return any("waits for langsmith: paused" in (row.reason or "") for row in await engine.deliveries())

    await until(one_waits)
    assert asked(langsmith) == 1
    rows = await engine.settled(2)
    assert {row.state for row in rows} == {"succeeded"}
    assert sorted(one.raw for one in sink.received) == [b"1", b"1"]

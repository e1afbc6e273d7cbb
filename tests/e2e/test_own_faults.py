"""What is the engine's own fault, or was meant to take long, kills no delivery, repeats none, and silences nobody."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from harness import CLIENTS, until

from engine.errors import StoreBusy
from engine.sandbox import payloads
from engine.sandbox.payloads import RULE_ID


def routes(text: str, *, attempts: int = 1, head: str = CLIENTS) -> str:
    retry = f"defaults: {{retry: {{attempts: {attempts}, min: 10ms, max: 20ms}}}}\n"
    return f"{head}{retry}routes:\n  {RULE_ID}:\n" + "".join(f"    {line}\n" for line in text.strip().splitlines())


def which(recorded: Any) -> str:
    """The word that a URL has behind its question mark."""
    return next(iter(recorded.query), "")


async def full(*_: Any, **__: Any) -> None:
    raise StoreBusy("the disk is full")


# What was fetched and can't be kept


@pytest.fixture
def scored(langsmith) -> dict[str, Any]:
    """A run whose feedback has to be fetched."""
    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_feedback(run["id"], key="score", score=1)
    return run


async def test_a_delivery_is_made_though_what_was_fetched_for_it_cannot_be_kept(
    engine, sink, scored, monkeypatch, caplog
) -> None:
    await engine.start(routes('actions: [{forward_webhook: {url: "${SINK}", body: "{{ feedback.score.score }}"}}]'))
    monkeypatch.setattr(type(engine.running.store), "save_fetched", full)
    await engine.post(payloads.rule([scored]))
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts, [one.raw for one in sink.received]) == ("succeeded", 1, [b"1"])
    assert [one.message for one in caplog.records if "not kept" in one.message] == [
        "what was fetched is not kept; a retry fetches it again"
    ]


async def test_an_event_is_routed_though_what_was_fetched_for_it_cannot_be_kept(
    engine, sink, scored, monkeypatch
) -> None:
    await engine.start(
        routes("""
filters: [{path: "$.feedback.score.score", gte: 1}]
actions: [{forward_webhook: {url: "${SINK}", body: x}}]
""")
    )
    monkeypatch.setattr(type(engine.running.store), "save_fetched", full)
    await engine.post(payloads.rule([scored]))
    (row,) = await engine.settled(1)
    assert (row.state, len(sink.received)) == ("succeeded", 1)


async def test_a_final_answer_is_not_asked_for_again_though_what_on_dead_fetched_cannot_be_kept(
    engine, sink, scored, monkeypatch
) -> None:
    await engine.start(
        routes(
            """
actions: [{forward_webhook: {url: "${SINK}?it", body: x}}]
on_dead:
  - forward_webhook: {url: "${SINK}?dead", body: y}
    when: [{path: "$.feedback.score.score", gte: 1}]
""",
            attempts=8,
        )
    )
    monkeypatch.setattr(type(engine.running.store), "save_fetched", full)
    sink.answer_with(400)
    await engine.post(payloads.rule([scored]))
    await engine.settled(2)
    assert [which(one) for one in sink.received] == ["it", "dead"]


# The end


async def test_a_stop_with_a_busy_store_still_waits_for_what_is_to_outlast_it(
    engine, sink, monkeypatch, caplog
) -> None:
    sink.faults.add(hang=3600.0, status=503, times=None)
    text = routes('actions: [{forward_webhook: {url: "${SINK}", body: x}}]')
    await engine.start(text, grace=0.1)
    await engine.post(payloads.rule([payloads.run(0)]))

    async def running() -> bool:
        return [row.state for row in await engine.deliveries()] == ["running"]

    await until(running)
    waited = []
    gate, store = engine.running.worker.gate, type(engine.running.store)
    real = gate.written

    async def written() -> None:
        waited.append(True)
        await real()

    monkeypatch.setattr(gate, "written", written)
    monkeypatch.setattr(store, "release", full)
    caplog.set_level(logging.WARNING)
    await engine.stop()
    assert waited
    assert "which the next start puts right" in caplog.text
    monkeypatch.undo()
    await engine.start(text, grace=0.1)
    await until(running)

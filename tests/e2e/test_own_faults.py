"""What is the engine's own fault, or was meant to take long, kills no delivery, repeats none, and silences nobody."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import CLIENTS, until

from engine.core.errors import StoreBusy
from engine.testing import payloads
from engine.testing.payloads import RULE_ID


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
    assert [one.message for one in caplog.records if "fetched" in one.message] == [
        "fetched data could not be stored; a retry fetches it again"
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
    gateway, store = engine.running.worker.gateway, type(engine.running.store)
    real = gateway.flush

    async def written() -> None:
        waited.append(True)
        await real()

    monkeypatch.setattr(gateway, "flush", written)
    monkeypatch.setattr(store, "release", full)
    caplog.set_level(logging.WARNING)
    await engine.stop()
    assert waited
    assert "the next start does it" in caplog.text
    monkeypatch.undo()
    await engine.start(text, grace=0.1)
    await until(running)


# Time that is meant to pass


def age(engine, statement: str) -> None:
    """SQL on the store: what time, or damage, would have brought about."""
    with closing(sqlite3.connect(engine.config.parent / "data" / "engine.db")) as db, db:
        db.execute(statement)


def hours(shut: bool) -> str:
    """Hours in which we are not now, or in which we are."""
    day = datetime.now(UTC) + timedelta(days=3 if shut else 0)
    return f"{{days: [{', '.join(f'{day + timedelta(days=n):%a}' for n in (-1, 0, 1))}], otherwise: hold}}"


async def test_a_weekend_on_hold_does_not_count_as_failing(engine, sink) -> None:
    text = routes('actions: [{forward_webhook: {url: "${SINK}", body: x}, active: HOURS}]', attempts=3)
    slow = text.replace("min: 10ms, max: 20ms", "min: 1s, max: 2s")
    sink.answer_with(503)
    await engine.start(slow.replace("HOURS", hours(shut=False)))
    await engine.post(payloads.rule([payloads.run(0)]))
    await until(lambda: len(sink.received) == 1)
    engine.write(slow.replace("HOURS", hours(shut=True)))
    await engine.running.reloader.reload()

    async def held() -> list[Any]:
        return [row for row in await engine.deliveries() if row.due_at and row.due_at > time.time() + 3600]

    (row,) = await until(held)
    held_for = row.due_at - time.time()
    await engine.stop()
    age(engine, f"UPDATE work SET due_at = due_at - {held_for}, first_at = first_at - {held_for}")
    sink.answer_with(503)
    await engine.start(text.replace("HOURS", hours(shut=False)))
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts, len(sink.received)) == ("succeeded", 3, 3)


async def test_what_waits_its_turn_behind_a_limit_of_ours_is_made_however_late(engine, sink) -> None:
    text = routes('actions: [{forward_webhook: {url: "${SINK}", body: x}}]', attempts=3)
    limited = f"limits: {{default: {{rate: 2/s, burst: 1, concurrency: 1}}}}\n{text}"
    sink.faults.add(status=503, times=None)
    await engine.start(text.replace("min: 10ms, max: 20ms", "min: 1h, max: 1h"))
    await engine.post(payloads.rule([payloads.run(number) for number in range(16)]))

    async def tried() -> bool:
        rows = await engine.deliveries()
        return len(rows) == 16 and sum(row.attempts for row in rows) >= 5

    await until(tried)
    await engine.stop()
    sink.faults.clear()
    two_days_ago = time.time() - 2 * 86400
    age(engine, f"UPDATE work SET first_at = {two_days_ago}, due_at = {two_days_ago}")
    age(engine, "DELETE FROM control")
    await engine.start(limited)
    rows = await engine.settled(16, seconds=40)
    assert {row.state for row in rows} == {"succeeded"}


async def test_a_long_wait_for_feedback_does_not_count_as_failing(engine, sink, langsmith) -> None:
    waiting = """
wait_for: {feedback: correctness, up_to: 24h}
filters: [{path: "$.feedback.correctness.score", lt: 0.5}]
actions: [{forward_webhook: {url: "${SINK}", body: x}}]
"""
    down = 'langsmith: {api_key: k, endpoint: "http://127.0.0.1:9"}\n'
    langsmith.add_run(payloads.run(0))
    await engine.start(routes(waiting, attempts=100, head=down))
    event = (await engine.post(payloads.rule([payloads.run(0)])))["event"]

    async def waits() -> bool:
        return (await engine.running.store.event(event)).row.reason.startswith("waits for feedback")

    await until(waits)
    await engine.stop()
    age(engine, "UPDATE event SET received_at = received_at - 86401")
    age(engine, "UPDATE work SET first_at = first_at - 86401, due_at = due_at - 86401")
    await engine.start()

    async def tried() -> bool:
        return len((await engine.running.store.event(event)).attempts) >= 2

    await until(tried)
    assert (await engine.running.store.event(event)).row.state == "pending"
    await engine.stop()
    await engine.start(routes(waiting, attempts=100))
    await engine.quiet()
    assert (await engine.running.store.event(event)).row.state == "routed"


# Deaths that somebody is to hear of


async def test_a_death_is_reported_if_the_data_for_its_when_cannot_be_fetched(engine, sink, caplog) -> None:
    down = 'langsmith: {api_key: k, endpoint: "http://127.0.0.1:9"}\n'
    sink.answer_with(400)
    await engine.start(
        routes(
            """
actions: [{forward_webhook: {url: "${SINK}?it", body: x}}]
on_dead:
  - forward_webhook: {url: "${SINK}?dead", body: y}
    when: [{path: "$.feedback.score.score", exists: false}]
  - forward_webhook: {url: "${SINK}?not", body: y}
    name: not
    when: [{path: "$.runs[*].status", eq: of no run}]
""",
            attempts=2,
            head=down,
        )
    )
    await engine.post(payloads.rule([payloads.run(0)]))
    rows = await engine.settled(2)
    assert [which(one) for one in sink.received] == ["it", "dead"]
    assert {row.attempts for row in rows} == {1}
    assert "on_dead follows, because the data of its `when` is missing" in caplog.text


# A store that is broken


async def test_what_was_made_and_cannot_be_written_down_is_not_made_again(engine, sink, monkeypatch, caplog) -> None:
    monkeypatch.setattr("engine.worker.deliver._UNSETTLED_REST", 0.05)
    monkeypatch.setattr("engine.worker.worker._AFTER_SURPRISE", 0.05)
    await engine.start(routes('actions: [{forward_webhook: {url: "${SINK}", body: x}}]'))
    age(engine, "ALTER TABLE attempt RENAME TO damaged")  # stands for a damaged page of it
    await engine.post(payloads.rule([payloads.run(0)]))
    await until(lambda: caplog.text.count("cannot be stored; trying again") >= 4)
    assert len(sink.received) == 1
    age(engine, "ALTER TABLE damaged RENAME TO attempt")
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts, len(sink.received)) == ("succeeded", 1, 1)


async def test_a_digest_reports_its_whole_items_though_the_first_is_damaged(engine, sink, caplog) -> None:
    await engine.start(
        routes("""
actions:
  - forward_webhook: {url: "${SINK}", body: {runs: "{{ items | map(attribute='run.id') | list }}"}}
    digest: {every: 1h}
""")
    )
    for number in range(3):
        start = f"2026-05-04T00:00:0{number}+00:00"
        await engine.post(payloads.rule([payloads.run(number)]) | {"start_time": start})

    async def collected() -> bool:
        backlog = await engine.running.store.backlog()
        return len(await engine.deliveries()) == 1 and not (engine.running.worker.busy or backlog.evaluations)

    await until(collected)
    await engine.stop()
    age(engine, "UPDATE event_body SET body = x'00', encoding = 1 WHERE event_id = (SELECT event_id FROM work)")
    age(engine, "UPDATE work SET due_at = 0")
    await engine.start()
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("succeeded", 1)
    (told,) = sink.received
    assert told.body["runs"] == [payloads.run(number)["id"] for number in (1, 2)]
    assert "an item of a digest is left out" in caplog.text


async def test_a_delivery_with_damaged_variables_dies_with_an_attempt_and_is_reported(engine, sink, caplog) -> None:
    sink.answer_with(503)
    text = routes(
        """
actions:
  - forward_webhook: {url: "${SINK}?it", body: "{{ throttle.suppressed }}"}
    throttle: {every: 1h}
on_dead:
  - forward_webhook: {url: "${SINK}?dead", body: "{{ delivery.reason }}"}
""",
        attempts=8,
    ).replace("min: 10ms, max: 20ms", "min: 1h, max: 1h")
    await engine.start(text)
    await engine.post(payloads.rule([payloads.run(0)]))

    async def tried() -> bool:
        return [row.attempts for row in await engine.deliveries()] == [1]

    await until(tried)
    await engine.stop()
    age(engine, "UPDATE delivery_words SET words = x'ffff'")
    age(engine, "UPDATE work SET due_at = 0")
    await engine.start(text)
    rows = {row.action: row for row in await engine.settled(2)}
    dead, told = rows["forward_webhook"], rows["on_dead.forward_webhook"]
    assert (dead.state, dead.attempts, told.state) == ("dead", 2, "succeeded")
    assert [which(one) for one in sink.received] == ["it", "dead"]
    assert "its template variables are damaged" in dead.reason
    assert "delivery dead" in caplog.text

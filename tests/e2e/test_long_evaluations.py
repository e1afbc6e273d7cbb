"""Evaluations that reach their limit in a whole engine: the loop goes on, other rules too, nothing is made twice."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from harness import until

from engine.core.document import Fetched
from engine.core.errors import TookTooLong
from engine.core.event import parse_event
from engine.core.offload import Offload
from engine.rules.router import Router
from engine.testing import payloads
from engine.worker.evaluate import _is_large

OTHER = "22222222-2222-4222-8222-222222222222"
#: About a tenth of a second of work each, whatever the event.
SLOW = "\n".join(
    """          - {expr: "range(60000) | map('string') | map('upper') | join | length > 5"}""" for _ in range(8)
)
RULES = f"""
routes:
  {payloads.RULE_ID}:
    - name: first
      actions: [{{log: {{message: "first"}}}}]
    - name: slow
      filters:
{SLOW}
      actions: [{{log: {{message: "slow"}}}}]
  {OTHER}:
    - name: quick
      actions: [{{log: {{message: "{{{{ run.name }}}}"}}}}]
"""


async def largest_gap(over: asyncio.Event) -> float:
    largest, last = 0.0, time.perf_counter()
    while not over.is_set():
        await asyncio.sleep(0.005)
        largest, last = max(largest, time.perf_counter() - last), time.perf_counter()
    return largest


async def test_events_past_the_limit_are_dead_with_what_was_decided_and_replayed_under_a_higher_one(engine) -> None:
    await engine.start(RULES)
    evaluator = engine.running.worker._evaluator
    evaluator.offload = Offload(limit=0.3)
    over = asyncio.Event()
    gap = asyncio.create_task(largest_gap(over))
    slow = [await engine.post(payloads.rule([payloads.run(number)])) for number in range(3)]
    quick = await engine.post(payloads.rule([payloads.run(99)], rule_id=OTHER))

    async def routed() -> bool:
        return (await engine.running.store.event(quick["event"])).row.state == "routed"

    await until(routed)
    await engine.quiet()
    over.set()
    assert await gap < 0.5

    reason = f"the evaluation took longer than 0.3 s of CPU time, and was stopped at route '{payloads.RULE_ID}/slow'"
    for one in slow:
        detail = await engine.running.store.event(one["event"])
        assert (detail.row.state, detail.row.reason) == ("dead", reason)
        assert detail.row.unmatched_reason is None
    [first, slow_one] = detail.evaluations[-1]["decisions"]
    assert (first["verdict"], first["fires"]) == ("true", ["log"])
    assert (slow_one["verdict"], slow_one["reason"]) == ("undecided", reason)
    assert sorted(row.route for row in await engine.settled(4)) == sorted(
        [f"{payloads.RULE_ID}/first"] * 3 + [f"{OTHER}/quick"]
    )

    evaluator.offload = Offload(limit=60)
    assert list(await engine.running.store.replay_events([slow[0]["event"]], now=time.time())) == [slow[0]["event"]]
    engine.running.worker.wake()
    await engine.quiet(60)
    assert (await engine.running.store.event(slow[0]["event"])).row.state == "routed"
    assert len([row for row in await engine.settled(5) if row.route.endswith("/slow")]) == 1


async def test_a_thread_that_does_not_end_leaves_its_event_undecided_and_other_rules_alone(
    engine, monkeypatch, caplog
) -> None:
    release, whole, stuck = threading.Event(), Router.decide, []

    def decide(self, event, *rest):
        if event.rule_id == payloads.RULE_ID and threading.current_thread() is not threading.main_thread():
            stuck.append(event.id)
            while not release.is_set():
                pass
        return whole(self, event, *rest)

    await engine.start(RULES)
    engine.running.worker._evaluator.offload = Offload(limit=0.1, margin=0.1)
    monkeypatch.setattr(Router, "decide", decide)
    try:
        events = [
            await engine.post(payloads.rule([payloads.run(10 * number + n) for n in range(5)])) for number in range(2)
        ]
        await engine.quiet()
        quick = await engine.post(payloads.rule([payloads.run(99)], rule_id=OTHER))
        await engine.quiet()
        assert (await engine.running.store.event(quick["event"])).row.state == "routed"
        large = await engine.post(payloads.rule([payloads.run(100 + n) for n in range(5)], rule_id=OTHER))
        await until(lambda: engine.running.worker.waiting_for_threads == 1)
        async with engine.http.get(f"http://{engine.running.admin}/metrics") as answer:
            assert "\nengine_offload_waiting 1.0\n" in await answer.text()
    finally:
        release.set()
    await engine.quiet()
    assert (await engine.running.store.event(large["event"])).row.state == "routed"
    assert sorted(stuck) == sorted(one["event"] for one in events)
    detail = await engine.running.store.event(events[0]["event"])
    assert (detail.row.state, detail.row.reason) == ("dead", "the evaluation took longer than 0.1 s of CPU time")
    decisions = detail.evaluations[-1]["decisions"]
    assert {one["verdict"] for one in decisions} == {"undecided"}
    assert len(decisions) == 10
    [line] = [one for one in caplog.records if one.getMessage().startswith("an evaluation reached its time limit")][:1]
    assert line.routes == [f"{payloads.RULE_ID}/first", f"{payloads.RULE_ID}/slow"]


async def test_what_is_small_is_evaluated_on_the_loop_and_what_is_large_in_a_thread(engine, monkeypatch) -> None:
    whole, here = Router.decide, {}

    def decide(self, event, *rest):
        here[event.id] = threading.current_thread() is threading.main_thread()
        return whole(self, event, *rest)

    monkeypatch.setattr(Router, "decide", decide)
    await engine.start(RULES)
    events = {
        "small": [payloads.run(1)],
        "four runs": [payloads.run(number) for number in range(10, 14)],
        "five runs": [payloads.run(number) for number in range(20, 25)],
        "256 KiB": [payloads.run(2, inputs={"text": "x" * 256 * 1024})],
    }
    ids = {name: (await engine.post(payloads.rule(runs, rule_id=OTHER)))["event"] for name, runs in events.items()}
    await engine.quiet()
    assert {name: here[event] for name, event in ids.items()} == {
        "small": True,
        "four runs": True,
        "five runs": False,
        "256 KiB": False,
    }


@pytest.mark.parametrize(
    ("fetched", "large"),
    [
        (Fetched(), False),
        (Fetched(feedback={"a": []}), False),
        (Fetched(feedback={"a": [], "b": [{"key": "x"}]}), True),
        (Fetched(inputs={"a": {}}), True),
        (Fetched(outputs={"a": {}}), True),
    ],
)
def test_what_hydration_brought_makes_an_event_large(fetched, large) -> None:
    event = parse_event(payloads.to_body(payloads.rule([payloads.run()])), 1.0)
    assert _is_large(event, fetched) is large


async def test_a_rendering_past_the_limit_is_dead_and_literal_parameters_are_never_off_the_loop(engine) -> None:
    text = "{{ run.name }}"
    await engine.start(
        f"routes:\n  alert:\n    actions:\n      - log: {{message: '{text} x'}}\n        name: rendered\n"
        "      - log: {message: x}\n        name: literal\n"
    )
    executor = engine.running.worker._deliverer._executor
    kinds = []

    async def run(kind, work, *, size):
        kinds.append((kind, size > 0))
        raise TookTooLong(10)

    executor.offload.run = run
    await engine.post(payloads.alert())
    rows = {row.action: row for row in await engine.settled(2)}
    assert {name: row.state for name, row in rows.items()} == {"rendered": "dead", "literal": "succeeded"}
    assert rows["rendered"].reason == "rendering the parameters took longer than 10 s of CPU time"
    assert rows["rendered"].attempts == 1
    assert kinds == [(("alert", "rendered"), True)]

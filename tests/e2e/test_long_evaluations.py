"""Evaluations that reach their limit in a whole engine: the loop goes on, other rules too, nothing is made twice."""

from __future__ import annotations

import asyncio
import time

from harness import until

from engine.offload import Offload
from engine.sandbox import payloads

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
    evaluator._offload = Offload(limit=0.3)
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

    evaluator._offload = Offload(limit=60)
    assert list(await engine.running.store.replay_events([slow[0]["event"]], now=time.time())) == [slow[0]["event"]]
    engine.running.worker.wake()
    await engine.quiet(60)
    assert (await engine.running.store.event(slow[0]["event"])).row.state == "routed"
    assert len([row for row in await engine.settled(5) if row.route.endswith("/slow")]) == 1


async def test_a_thread_that_does_not_end_leaves_its_event_undecided_and_other_rules_alone(
    engine, monkeypatch, caplog
) -> None:
    import threading

    from engine.router import Router

    release, whole, stuck = threading.Event(), Router.decide, []

    def decide(self, event, *rest):
        if event.rule_id == payloads.RULE_ID and threading.current_thread() is not threading.main_thread():
            stuck.append(event.id)
            while not release.is_set():
                pass
        return whole(self, event, *rest)

    await engine.start(RULES)
    engine.running.worker._evaluator._offload = Offload(limit=0.1, margin=0.1)
    monkeypatch.setattr(Router, "decide", decide)
    try:
        events = [
            await engine.post(payloads.rule([payloads.run(10 * number + n) for n in range(5)])) for number in range(2)
        ]
        await engine.quiet()
        quick = await engine.post(payloads.rule([payloads.run(99)], rule_id=OTHER))
        await engine.quiet()
        assert (await engine.running.store.event(quick["event"])).row.state == "routed"
    finally:
        release.set()
    assert sorted(stuck) == sorted(one["event"] for one in events)
    detail = await engine.running.store.event(events[0]["event"])
    assert (detail.row.state, detail.row.reason) == ("dead", "the evaluation took longer than 0.1 s of CPU time")
    decisions = detail.evaluations[-1]["decisions"]
    assert {one["verdict"] for one in decisions} == {"undecided"}
    assert len(decisions) == 10
    [line] = [one for one in caplog.records if one.getMessage().startswith("an evaluation past its limit")][:1]
    assert line.routes == [f"{payloads.RULE_ID}/first", f"{payloads.RULE_ID}/slow"]

"""Every destination hangs while events keep coming. ``make chaos`` does the same for longer, and to a real process."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack

from harness import until

from engine.testing import WebhookSink, payloads

OTHERS = "22222222-2222-4222-8222-222222222222"
#: Times are sixty times as short as by default.
RULES = """
defaults: {timeout: 170ms, retry: {attempts: 8, within: 24m, min: 17ms, max: 60s}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions:
      - {forward_webhook: {url: "${SINK}"}, name: one}
      - {forward_webhook: {url: "${SINK}"}, name: two}
"""
RATE, CONCURRENCY = 200, 64
BODIES = [payloads.to_body(payloads.rule([payloads.run(number)])) for number in range(400)]


async def come(engine, numbers: range) -> list[float]:
    """So many events at an even pace, all accepted: seconds that each took."""
    started = time.perf_counter()

    async def one(number: int) -> float:
        begun = time.perf_counter()
        async with engine.http.post(engine.url, data=BODIES[number]) as response:
            assert response.status == 202
        return time.perf_counter() - begun

    tasks = []
    for place, number in enumerate(numbers):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(max(0.0, started + place / RATE - time.perf_counter()))
    return await asyncio.gather(*tasks)


async def test_acceptance_does_not_notice_memory_stays_bounded_and_all_is_made_in_the_end(engine, sink) -> None:
    await engine.start(RULES, concurrency=CONCURRENCY)
    calm = await come(engine, range(100))
    await engine.quiet()

    sink.faults.add(hang=3600.0, status=503, times=None)
    hung = await come(engine, range(100, 400))
    worker = engine.running.worker
    assert statistics.median(hung) < 3 * statistics.median(calm) + 0.3, "and no less on a machine that has much to do"
    assert worker.busy <= CONCURRENCY + 512

    async def waits_in_the_store() -> bool:
        backlog = await engine.running.store.backlog()
        return worker.busy <= 2 and (backlog.evaluations, backlog.deliveries, backlog.dead) == (0, 600, 0)

    await until(waits_in_the_store)

    sink.faults.clear()
    worker.gateway.resume(sink.origin)
    rows = await engine.settled(800, seconds=60)
    assert {row.state for row in rows} == {"succeeded"}
    assert len({one.headers["webhook-id"] for one in sink.received if one.status == 200}) == 800


HUNG = 20
MANY_HUNG = """
defaults: {timeout: 60s}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions:
%s
  22222222-2222-4222-8222-222222222222: {actions: [{forward_webhook: {url: "${SINK}"}}]}
"""


async def test_twenty_hung_destinations_do_not_keep_a_healthy_one_waiting(engine, sink) -> None:
    """One webhook of 40 runs, forwarded to each: far more than there are places."""
    async with AsyncExitStack() as stack:
        hung = [await stack.enter_async_context(WebhookSink()) for _ in range(HUNG)]
        for one in hung:
            one.faults.add(hang=3600.0, times=None)
        actions = [f'      - {{forward_webhook: {{url: "{one.url}"}}, name: hung{n}}}' for n, one in enumerate(hung)]
        await engine.start(MANY_HUNG % "\n".join(actions), concurrency=CONCURRENCY + 32, grace=0.1)
        await engine.post(payloads.rule([payloads.run(number) for number in range(40)]))
        await until(lambda: all(one.received for one in hung))
        for number in range(3):
            await engine.post(payloads.rule([payloads.run(number)], rule_id=OTHERS))
        await engine.settled(3, route=OTHERS)  # long before any of the others' timeouts
        backlog = await engine.running.store.backlog()
        assert (backlog.evaluations, backlog.deliveries) == (0, 40 * HUNG), "routing waits for nobody"
        lanes = {lane.name: lane.in_flight for lane in engine.running.worker.gateway.destinations()}
        assert all(lanes[one.origin] >= 1 for one in hung)
        assert sum(lanes.values()) < CONCURRENCY + 32
        await engine.stop()

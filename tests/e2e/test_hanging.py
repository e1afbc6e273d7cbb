"""Every destination hangs while events keep coming. ``make chaos`` does the same for longer, and to a real process."""

from __future__ import annotations

import asyncio
import statistics
import time

from harness import until

from engine.gate import MOST_WAITING
from engine.sandbox import payloads

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
    assert worker.busy <= CONCURRENCY + MOST_WAITING

    async def waits_in_the_store() -> bool:
        backlog = await engine.running.store.backlog()
        return worker.busy <= 2 and (backlog.evaluations, backlog.deliveries, backlog.dead) == (0, 600, 0)

    await until(waits_in_the_store)

    sink.faults.clear()
    worker.gate.resume(sink.origin)
    rows = await engine.settled(800, seconds=60)
    assert {row.state for row in rows} == {"succeeded"}
    assert len({one.headers["webhook-id"] for one in sink.received if one.status == 200}) == 800

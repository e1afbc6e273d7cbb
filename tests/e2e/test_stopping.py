"""While it stops, the engine says so: to senders, to probes, and to people."""

from __future__ import annotations

import asyncio
import time

import aiohttp
from harness import until

from engine.testing import payloads

RULES = """
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}, timeout: 30s}]}
"""


async def test_within_the_grace_both_listeners_answer_and_nothing_new_is_taken(engine, sink) -> None:
    await engine.start(RULES, grace=5.0)
    sink.faults.add(hang=2.0)
    await engine.post(payloads.rule())
    await until(lambda: engine.running.worker.busy)
    public, admin = engine.running.public, engine.running.admin
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0.2)

    async with aiohttp.ClientSession() as http:
        async with http.post(engine.url, data=payloads.to_body(payloads.rule([payloads.run(2)]))) as answer:
            assert answer.status == 503
            assert "stopping" in (await answer.json())["error"]
        async with http.get(f"http://{public}/readyz") as answer:
            assert (answer.status, (await answer.text()).strip()) == (503, "stopping")
        async with http.get(f"http://{public}/healthz") as answer:
            assert answer.status == 200
        async with http.get(f"http://{admin}/api/v1/backlog") as answer:
            assert (answer.status, (await answer.json())["busy"]) == (200, 1)
    await stopping
    assert [one.status for one in sink.received] == [200], "what was under way was finished"


async def test_a_stop_with_nothing_to_do_is_quick(engine, sink) -> None:
    await engine.start(RULES, grace=30.0)
    started = time.monotonic()
    await engine.stop()
    assert time.monotonic() - started < 5

"""What LangSmith changed in 2026, through the whole engine."""

from __future__ import annotations

import asyncio

import pytest
from harness import CLIENTS

from engine.testing import payloads


@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
async def test_an_endpoint_that_will_be_removed_is_counted_for_prometheus(engine, langsmith) -> None:
    langsmith.add_queue("review")
    langsmith.faults.add(status=404, path="/platform/annotation-queues", times=None)
    await engine.start(CLIENTS + "routes: {'*': {actions: [{annotate: {queue: review}}]}}\n")
    await engine.post(payloads.several(2))
    await engine.settled(2)
    async with engine.http.get(f"http://{engine.running.admin}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    name = 'engine_langsmith_sunset_total{endpoint="POST /api/v1/annotation-queues/{id}/runs"}'
    assert f"{name} 2.0" in lines


async def test_a_digest_queues_all_of_its_runs_in_one_request(engine, langsmith) -> None:
    queue = langsmith.add_queue("review")
    await engine.start(CLIENTS + "routes: {'*': {actions: [{annotate: {queue: review}, digest: {every: 1s}}]}}\n")
    await engine.post(payloads.several(3))
    await engine.settled(1)
    (request,) = [one for one in langsmith.requests if one.route == f"/platform/annotation-queues/{queue}/items"]
    assert [item["run_id"] for item in request.body["items"]] == [payloads.run(number)["id"] for number in range(3)]


async def test_an_evaluator_that_failed_is_not_the_score_that_is_waited_for(engine, langsmith, sink) -> None:
    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_feedback(run["id"], key="correctness", extra={"error": "the judge timed out"})
    await engine.start(
        CLIENTS
        + """
routes:
  "*":
    - name: scored
      wait_for: {feedback: correctness, up_to: 10m}
      filters: [{path: "$.feedback.correctness.score", lt: 0.5}]
      actions: [{forward_webhook: {url: "${SINK}", body: {score: "{{ feedback.correctness.score }}"}}}]
    - name: failed
      filters: [{path: "$.feedbacks[*].error", exists: true}]
      actions: [{forward_webhook: {url: "${SINK}", body: {why: "{{ feedbacks[0].error }}"}}}]
"""
    )
    await engine.post(payloads.rule([run]))
    await engine.settled(1)
    assert [one.body for one in sink.received] == [{"why": "the judge timed out"}]
    langsmith.add_feedback(run["id"], key="correctness", score=0.25)
    async with asyncio.timeout(30):
        await engine.settled(2)
    assert {"score": 0.25} in [one.body for one in sink.received]

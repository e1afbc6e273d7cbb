"""What attempts note, and what is known of it by the next one, whoever wrote the action."""

from __future__ import annotations

import textwrap

from harness import CLIENTS, SECRET, until

from engine.store.queries import DeliveryQuery
from engine.testing import payloads

PLUGIN = """
import asyncio
import engine


class Noting(engine.Action):
    \"\"\"Note something, fail or hang, and tell the next time what is known.\"\"\"

    keeps_progress = True

    class Params(engine.Params):
        note: str
        length: int = 1
        hangs_after: str = ""

    async def run(self, params, context):
        if context.attempt == 1 and not context.progress:
            context.progress["said"] = params.note * params.length
            if params.hangs_after:
                await context.http.post(params.hangs_after)
                await asyncio.sleep(30)
            raise engine.Retry("not yet")
        return {"known": dict(context.progress)}
"""
RULES = """
plugins: [./plugins]
defaults: {timeout: 60s, retry: {attempts: 2, within: 1h, min: 50ms, max: 50ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [noting: {%s}]}
"""
NOTIFY = """
defaults: {timeout: 60s, retry: {attempts: 4, within: 1h, min: 50ms, max: 50ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions: [{notify: {urls: ["${GOOD}", "${BAD}"], body: "{{ run.name }} failed"}}]
"""


async def start(engine, params: str) -> None:
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    (folder / "noting.py").write_text(textwrap.dedent(PLUGIN))
    await engine.start(RULES % params, grace=0.3)
    await engine.post(payloads.rule())


async def notes(engine) -> list:
    """What each attempt of the one delivery left behind, once it is done."""
    (row,) = await engine.settled(1)
    assert row.state == "succeeded"
    detail = await engine.running.store.delivery(row.id)
    return [attempt.detail for attempt in detail.attempts]


async def test_a_secret_that_is_noted_is_masked_and_the_rest_is_known_to_the_next_attempt(engine) -> None:
    await start(engine, "note: 'here ${SECRET} there'")
    first, last = await notes(engine)
    assert SECRET not in str((first, last))
    assert first["said"].startswith("here ")
    assert last == {"known": first}


async def test_a_secret_that_is_noted_is_masked_too_where_the_engine_stops_in_the_middle(engine, sink) -> None:
    await start(engine, "note: 'here ${SECRET} there', hangs_after: '${SINK}'")
    await until(lambda: sink.received)
    await engine.stop()
    await engine.start(grace=0.3)
    first, last = await notes(engine)
    assert SECRET not in str((first, last))
    assert first["said"].startswith("here ")
    assert last == {"known": first}


async def test_notes_beyond_16_kib_are_not_kept(engine) -> None:
    await start(engine, "note: abcdefgh, length: 2100")
    assert await notes(engine) == [None, {"known": {}}]


async def test_an_attempt_that_is_stopped_before_it_reached_anything_new_leaves_no_trace(engine, sink) -> None:
    engine.environ |= {name: sink.origin.replace("http", "json") + f"/{name.lower()}" for name in ("GOOD", "BAD")}
    sink.faults.add(status=500, path="/bad", times=1)
    hanging = sink.faults.add(hang=30, path="/bad", times=1)
    await engine.start(NOTIFY, grace=0.3)
    await engine.post(payloads.rule())
    await until(lambda: hanging.seen)
    await engine.stop()
    await engine.start()
    (row,) = await engine.settled(1)
    detail = await engine.running.store.delivery(row.id)
    assert [(one.outcome, one.number) for one in detail.attempts] == [("again", 1), ("succeeded", 2)]
    assert [request.path for request in sink.received].count("/good") == 1


async def test_an_action_knows_that_it_is_replayed_the_first_time_it_is(engine, langsmith) -> None:
    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_dataset("d")
    await engine.start(
        CLIENTS + "routes: {'*': {actions: [{add_to_dataset: {dataset: d, inputs: '{{ run.inputs }}'}}]}}"
    )
    await engine.post(payloads.rule([run]))
    (row,) = await engine.settled(1)
    (example,) = langsmith.examples.values()
    example["inputs"] = {"changed": "by hand"}
    await engine.running.store.replay_deliveries(DeliveryQuery(ids=[row.id]), now=0.0)
    engine.running.worker.wake()
    await until(lambda: next(iter(langsmith.examples.values()))["inputs"] == run["inputs"])
    (row,) = await engine.settled(1)
    assert row.state == "succeeded"

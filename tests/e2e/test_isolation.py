"""Plug-ins that misbehave: each hurts its own delivery, and nothing else."""

from __future__ import annotations

import asyncio
import textwrap
import time

import pytest
from harness import until
from processes import left_behind

from engine.store.queries import DeliveryQuery
from engine.testing import payloads

RULE = payloads.RULE_ID
OTHERS = "22222222-2222-4222-8222-222222222222"
HEADER = """
import asyncio
import engine
import sys
import threading
import time


class Odd(engine.Action):
    \"\"\"Do something odd.\"\"\"

    class Params(engine.Params):
        note: str = ""

    async def run(self, params, context):
"""
WELL = """
import engine


class Well(engine.Action):
    \"\"\"Behave.\"\"\"

    class Params(engine.Params):
        url: str

    async def run(self, params, context):
        async with context.http.post(params.url) as answer:
            engine.check_response(answer.status, answer.headers)
"""
HELPER = """import engine

async def fail():
    raise KeyError('task')

async def give_up():
    raise engine.Discard('no such ticket')
"""
RULES = """
plugins: [./plugins]
defaults: {timeout: %s, retry: {attempts: %d, within: 1h, min: 50ms, max: 100ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [odd: {note: "{{ run.name }}"}]}
  22222222-2222-4222-8222-222222222222:
    actions: [{well: {url: "${SINK}?plug-in"}}, {forward_webhook: {url: "${SINK}?built-in"}}]
"""


async def start(engine, body: str, *, timeout: str = "2s", attempts: int = 1, **settings: float) -> None:
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    (folder / "odd.py").write_text(HEADER + textwrap.indent(textwrap.dedent(body), " " * 8))
    (folder / "well.py").write_text(WELL)
    (folder / "_helper.py").write_text(HELPER)
    await engine.start(RULES % (timeout, attempts), **settings)


async def assert_others_are_well(engine, sink, seconds: float = 5.0, number: int = 1000) -> None:
    """Another plug-in and a built-in action deliver, and quickly."""
    event = await engine.post(payloads.rule([payloads.run(number)], rule_id=OTHERS))
    rows = await engine.settled(2, seconds, event_id=event["event"])
    assert [row.state for row in rows] == ["succeeded"] * 2, [row.reason for row in rows]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("sys.exit('had enough')", "SystemExit: had enough"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise asyncio.CancelledError", "cancelled itself"),
        ("asyncio.current_task().cancel(); await asyncio.sleep(1)", "cancelled itself"),
        ("raise BaseExceptionGroup('several', [SystemExit(1), ValueError('x')])", "several"),
        ("raise StopIteration(1)", "StopIteration"),
        ("raise MemoryError", "MemoryError"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("class E(Exception):\n    def __str__(self): raise ValueError('no words')\nraise E", "E"),
        ("raise UnicodeError('nul \\x00')", "nul \ufffd"),
        ("class E(BaseException):\n    def __str__(self): raise ValueError('no words')\nraise E", "E"),
        ("raise RuntimeError('x' * 10**7)", "xxx"),
        ("await asyncio.sleep(60)", "timed out: no answer within 0.3 s"),
        ("await asyncio.Event().wait()", "timed out"),
        ("asyncio.get_running_loop().stop(); raise RuntimeError('stopped')", "stopped"),
        ("await context.http.close(); raise RuntimeError('closed')", "closed"),
        ("asyncio.create_task(gone()); await asyncio.sleep(0.05); raise RuntimeError('background')", "background"),
        ("async def f(): sys.exit(1)\nawait asyncio.gather(f())", "SystemExit"),
        ("for task in asyncio.all_tasks(): task.cancel()\nawait asyncio.sleep(1)", "cancelled itself"),
    ],
)
async def test_whatever_a_plug_in_raises_is_the_end_of_its_delivery_alone(engine, sink, body: str, reason: str) -> None:
    gone = "async def gone(): sys.exit(1)\n" if "gone()" in body else ""
    await start(engine, gone + body, timeout="300ms")
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1, 5.0, route=RULE)
    assert row.state == "dead"
    assert reason in row.reason
    assert len(row.reason) <= 4000
    await assert_others_are_well(engine, sink)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return {}['id']", "KeyError: 'id' (plugins/odd.py:17)"),
        (
            "import json\njson.loads('<html>')",
            "line 1 column 1 (char 0) (plugins/odd.py:18)",
        ),
        ("await asyncio.to_thread(int, 'x')", "int() with base 10: 'x' (plugins/odd.py:17)"),
        ("sys.exit(3)", "PluginExit: the plug-in raised SystemExit: 3 (plugins/odd.py:17)"),
        (
            "async with asyncio.TaskGroup() as group:\n    group.create_task(fail())",
            "KeyError: 'task' (plugins/_helper.py:4)",
        ),
        ("async with asyncio.TaskGroup() as group:\n    group.create_task(give_up())", "no such ticket"),
        ("raise engine.Retry('later')", "later"),
        ("await context.http.get('http://127.0.0.1:9/')", "cannot connect to 127.0.0.1:9"),
    ],
)
async def test_what_a_plug_in_did_not_expect_is_shown_with_its_place(engine, body: str, reason: str) -> None:
    """What is said on purpose, and what the network did, needs none."""
    await start(engine, f"from ._helper import fail, give_up\n{body}")
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1, 5.0, route=RULE)
    assert row.state == "dead"
    assert row.reason.endswith(reason) if "plugins/" in reason else reason in row.reason
    assert ("plugins/" in row.reason) == ("plugins/" in reason)


@pytest.mark.parametrize(
    "result",
    [
        "None",
        "{'a': object(), 'b': {1, 2}, 'c': b'raw', 'd': float('nan'), 5: 'five', None: 1, (1, 2): 3}",
        "(d := {}, d.update(d=d))[0]",
        "{'text': '\\ud800 \\x00', '\\ud800': 1}",
        "{'huge': 'x' * 10**7}",
        "{'deep': eval('[' * 80 + ']' * 80)}",
        "{'number': 10**400}",
        "{'odd': type('Odd', (), {'__str__': lambda self: 1 / 0})()}",
        "['a', 'list']",
        "'text'",
        "42",
        "context",
        "(x for x in [1])",
    ],
)
async def test_whatever_a_plug_in_returns_it_has_succeeded_once(engine, sink, result: str) -> None:
    await start(engine, f"return {result}")
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1, 5.0, route=RULE)
    assert (row.state, row.attempts) == ("succeeded", 1)
    detail = await engine.running.store.delivery(row.id)
    assert len(str(detail.attempts[0].detail)) < 100_000
    await assert_others_are_well(engine, sink)


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ("{'id': 2**64, 'small': 7}", {"id": str(2**64), "small": 7}),
        ("Odd.Params(note='n')", {"note": "n"}),
        (
            "{'x': type('X', (), {'__str__': lambda self: sys.exit(1)})()}",
            {"x": "a X that cannot be shown: SystemExit: 1"},
        ),
        ("__import__('types').MappingProxyType({'a': {1}})", {"a": "{1}"}),
        ("(d := {}, d.update(d=d))[0]", {"result": "a dict that cannot be kept as JSON: Circular reference detected"}),
        ("['a', 1]", {"result": ["a", 1]}),
    ],
)
async def test_what_a_plug_in_returns_is_kept_as_json(engine, result: str, kept: object) -> None:
    await start(engine, f"return {result}")
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1, 5.0, route=RULE)
    assert (await engine.running.store.delivery(row.id)).attempts[0].detail == kept


async def test_a_result_that_is_too_deep_to_be_shown_is_only_named(engine) -> None:
    await start(engine, "deep = 1\nfor _ in range(220): deep = [deep]\nreturn {'deep': deep}")
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1, 5.0, route=RULE)
    detail = await engine.running.store.delivery(row.id)
    assert detail.attempts[0].detail == {"result": "a dict that is nested deeper than 200 levels"}


async def test_a_plug_in_that_blocks_makes_each_delivery_once_however_long_the_queue(engine, sink) -> None:
    """120 deliveries of 50 ms are 6 s of blocking; each has half a second for itself."""
    marks = engine.config.parent / "marks"
    await start(
        engine,
        f"time.sleep(0.05)\nwith open('{marks}', 'a') as file: print(context.delivery_id, file=file)",
        timeout="500ms",
        attempts=3,
    )
    for number in range(4):
        await engine.post(payloads.rule([payloads.run(30 * number + one) for one in range(30)]))
    rows = await engine.settled(120, 30.0, route=RULE)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}
    assert sorted(marks.read_text().split()) == sorted(row.id for row in rows)


async def test_a_plug_in_that_blocks_for_ever_stops_nothing_but_itself(engine, sink, caplog) -> None:
    await start(engine, "time.sleep(3600)", timeout="200ms", attempts=2)
    await engine.post(payloads.rule())
    begun = time.monotonic()
    for number in range(50):
        await engine.post(payloads.rule([payloads.run(2000 + number)], rule_id="nobody"))
    assert time.monotonic() - begun < 2.0
    await assert_others_are_well(engine, sink, 20.0)
    (row,) = await engine.settled(1, 20.0, route=RULE)
    assert row.state == "dead"
    first, _ = (await engine.running.store.delivery(row.id)).attempts
    assert first.reason == "timed out: no answer after 0.2 s: the plug-in blocks its loop"
    await until(lambda: caplog.text.count("a plug-in blocks its thread") == 1)
    assert 'odd.py", line 16, in run\n    time.sleep(3600)' in caplog.text, "it says where"

    second = await engine.post(payloads.rule([payloads.run(1)]))
    (row,) = await engine.settled(1, 5.0, event_id=second["event"])
    assert (row.state, row.attempts) == ("dead", 2)
    assert "it is not run again until its file changes" in row.reason
    await assert_others_are_well(engine, sink, number=1001)

    plugin = engine.config.parent / "plugins" / "odd.py"
    plugin.write_text(plugin.read_text().replace("time.sleep(3600)", "pass"))
    loaded = engine.running.reloader.current
    await until(lambda: engine.running.reloader.current is not loaded, 5.0)
    third = await engine.post(payloads.rule([payloads.run(2)]))
    (row,) = await engine.settled(1, 5.0, event_id=third["event"])
    assert row.state == "succeeded"


async def test_a_stop_does_not_wait_for_a_plug_in_that_blocks_and_the_rest_waits_unspent(engine) -> None:
    await start(engine, "time.sleep(30)", timeout="60s", attempts=3, grace=0.3)
    await engine.post(payloads.several(10))
    await asyncio.sleep(0.3)
    begun = time.monotonic()
    await engine.stop()
    assert time.monotonic() - begun < 10.0
    rows = await rows_left(engine)
    assert {(row.state, row.attempts) for row in rows} == {("due", 0)}


async def test_a_plug_in_that_blocks_outside_of_run_stalls_no_other(engine, sink) -> None:
    """Validators of its parameters and ``destination`` are foreign code, too."""
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    (folder / "well.py").write_text(WELL)
    (folder / "_helper.py").write_text(HELPER)
    (folder / "odd.py").write_text(SLOW_OUTSIDE)
    await engine.start(RULES % ("2s", 1))
    await engine.post(payloads.several(10))
    begun = time.monotonic()
    for number in range(20):
        await engine.post(payloads.rule([payloads.run(2000 + number)], rule_id="nobody"))
    assert time.monotonic() - begun < 1.5, "the plug-in blocks for 4 s in all"
    rows = await engine.settled(10, 20.0, route=RULE)
    assert {(row.state, row.attempts) for row in rows} == {("succeeded", 1)}


SLOW_OUTSIDE = """
import time
import engine
from pydantic import field_validator


class Odd(engine.Action):
    \"\"\"Be slow outside of run.\"\"\"

    class Params(engine.Params):
        note: str

        @field_validator("note")
        @classmethod
        def slow(cls, note):
            if "{" not in note:
                time.sleep(0.2)
            return note

    def destination(self, params):
        time.sleep(0.2)
        return None

    async def run(self, params, context):
        return None
"""


async def test_changes_of_a_plug_in_to_its_document_reach_no_other(engine, sink) -> None:
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    spoil = """
        context.run["name"] = context.document["runs"][0]["name"] = "spoilt"
        context.document["run"].clear()
        context.document["payload"]["runs"].clear()
        context.document.pop("payload")
        await asyncio.sleep(0.1)
    """
    (folder / "odd.py").write_text(HEADER + textwrap.indent(textwrap.dedent(spoil), " " * 8))
    await engine.start("""
        plugins: [./plugins]
        defaults: {retry: {attempts: 2, within: 1h, min: 500ms, max: 600ms}}
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions:
              - {odd: {}}
              - forward_webhook: {url: "${SINK}"}
    """)
    sink.answer_with(503)
    await engine.post(payloads.rule())
    rows = await engine.settled(2)
    assert {row.state for row in rows} == {"succeeded"}, [row.reason for row in rows]
    assert [one.body["runs"] for one in sink.received] == [[payloads.run()]] * 2


async def rows_left(engine):
    async with left_behind(engine.config.parent / "data") as store:
        return await store.deliveries(DeliveryQuery(limit=100))


async def test_what_an_evaluation_comes_to_at_the_very_end_is_done_or_kept_but_not_begun_and_cut_off(
    engine, langsmith, sink
) -> None:
    langsmith.faults.add(hang=0.5, path="/feedback", times=None)
    sink.faults.add(hang=0.5, times=None)
    await engine.start(
        """
langsmith: {api_key: "${LANGSMITH_API_KEY}", endpoint: "${LANGSMITH_ENDPOINT}"}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    filters: [{path: "$.feedback", exists: true}]
    actions: [{forward_webhook: {url: "${SINK}"}}]
"""
    )
    langsmith.add_run(payloads.run())
    langsmith.add_feedback(payloads.run()["id"], key="k", score=1)
    await engine.post(payloads.rule())
    await until(lambda: langsmith.requests)
    await engine.stop()
    (row,) = await rows_left(engine)
    assert (row.state, row.attempts, len(sink.received)) in [("due", 0, 0), ("succeeded", 1, 1)]


async def test_an_error_of_the_engines_own_costs_an_attempt_and_ends(engine, sink, monkeypatch, caplog) -> None:
    """Nothing goes round for ever, not even what nobody foresaw."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    await engine.start(
        """
defaults: {retry: {attempts: 1}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
"""
    )
    with monkeypatch.context() as patch:
        patch.setattr("engine.worker.deliver.Deliverer._outcome", broken)
        first = await engine.post(payloads.rule())
        (row,) = await engine.settled(1, event_id=first["event"])
    assert (row.state, row.reason) == ("dead", "ZeroDivisionError: a bug")
    assert "work failed unexpectedly" in caplog.text
    second = await engine.post(payloads.rule([payloads.run(1)]))
    (row,) = await engine.settled(1, event_id=second["event"])
    assert row.state == "succeeded"

"""Bad input, through the whole engine: a reason that a person can act on, no other event lost, the server goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest
from harness import CLIENTS, SECRET, until

from engine.core.errors import ConfigError
from engine.testing import payloads

RULE = payloads.RULE_ID
OTHERS = "22222222-2222-4222-8222-222222222222"
FORWARD = """
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
  unmatched:
    for_each: event
    actions: [{forward_webhook: {url: "${SINK}?unmatched={{ event.unmatched_reason }}"}}]
  alert: {actions: [{forward_webhook: {url: "${SINK}?alert"}}]}
"""


async def post_raw(engine, body: bytes | str) -> dict:
    """What json.dumps would not write."""
    data = body.encode() if isinstance(body, str) else body
    async with engine.http.post(engine.url, data=data) as response:
        assert response.status == 202, await response.text()
        return await response.json()


async def assert_well(engine, sink) -> None:
    """Another event goes all the way, now."""
    before = len(sink.received)
    await engine.post(payloads.rule([payloads.run(9_999 + before)]))
    await until(lambda: len(sink.received) > before, 5)


# What arrives


async def test_a_duplicate_fires_nothing_twice_however_it_comes(engine, sink) -> None:
    await engine.start(FORWARD)
    payload = payloads.several(3)
    answers = await asyncio.gather(*(engine.post(payload) for _ in range(20)))
    assert len({answer["event"] for answer in answers}) == 1
    assert [answer["duplicate"] for answer in answers].count(False) == 1
    await engine.settled(3)
    # Signed anew, or in another order, it is the same webhook.
    again = payload | {"runs": [payloads.with_s3(run, inputs="https://s3/x?sig=2") for run in payload["runs"][::-1]]}
    assert (await engine.post(again))["duplicate"] is True
    await engine.quiet()
    assert len(sink.received) == 3


async def test_two_thread_batches_of_one_window_are_two_events(engine, sink) -> None:
    await engine.start(FORWARD)
    batch = payloads.threads(4)
    first = await engine.post(batch | {"threads": batch["threads"][:2]})
    second = await engine.post(batch | {"threads": batch["threads"][2:]})
    again = await engine.post(batch | {"threads": batch["threads"][:2]})
    assert (first["duplicate"], second["duplicate"], again["duplicate"]) == (False, False, True)
    await engine.settled(2)
    assert sorted(len(one.body["threads"]) for one in sink.received) == [2, 2]
    assert sink.received[0].body["threads"] != sink.received[1].body["threads"]


@pytest.mark.parametrize("runs", [[], None, "missing", "text", 7, {"id": "a"}, True, [None], [[]], ["run", 3, None]])
async def test_runs_that_are_none_or_not_what_they_should_be(engine, sink, runs) -> None:
    await engine.start(FORWARD)
    payload = payloads.rule()
    if runs == "missing":
        del payload["runs"]
    else:
        payload["runs"] = runs
    answer = await engine.post(payload)
    rows = await engine.settled(1, event_id=answer["event"])
    assert {row.state for row in rows} == {"succeeded"}, [row.reason for row in rows]
    expected = len(runs) if isinstance(runs, list) and runs else 1
    assert len(rows) == expected
    await assert_well(engine, sink)


async def test_of_runs_that_are_no_objects_only_the_others_match(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            filters: [{path: "$.runs[*].status", eq: success}]
            actions: [{forward_webhook: {url: "${SINK}", body: "{{ run.name }}"}}]
    """)
    await engine.post(payloads.rule() | {"runs": [None, payloads.run(1, name="good"), "text", 3, [], {"status": 5}]})
    await engine.quiet()
    assert [one.raw for one in sink.received] == [b"good"]


async def test_runs_without_an_id_are_each_delivered_and_the_same_body_is_a_duplicate(engine, sink) -> None:
    await engine.start(FORWARD)
    runs = [payloads.run(0, name="a"), payloads.run(0, name="b")]
    for run, missing in zip(runs, (True, False), strict=True):
        run.pop("id") if missing else run.update(id=None)
    first = await engine.post(payloads.rule(runs))
    assert (await engine.post(payloads.rule(runs)))["duplicate"] is True
    other = await engine.post(payloads.rule([runs[0] | {"name": "c"}]))
    assert other["event"] != first["event"]
    await engine.settled(3)
    assert sorted(one.body["runs"][0]["name"] for one in sink.received) == ["a", "b", "c"]
    assert len({one.headers["webhook-id"] for one in sink.received}) == 3


@pytest.mark.parametrize(
    "rule_id", ["nobody", "", None, 7, ["list"], {"a": 1}, True, "\x00", "x" * 100_000, "*", "unmatched", "alert"]
)
async def test_an_unknown_or_odd_rule_id_is_kept_and_unmatched(engine, sink, rule_id) -> None:
    await engine.start(FORWARD)
    await engine.post(payloads.rule(rule_id=rule_id))
    (row,) = await engine.settled(1)
    assert (row.state, row.route) == ("succeeded", "unmatched")
    (one,) = sink.received
    assert one.query["unmatched"] == "unknown_rule"
    await assert_well(engine, sink)


# What the author wrote

TEMPLATES = {
    "recurses": "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}",
    "loops for ever": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "works hard": "{{ range(15000) | map('string') | sort | join | length }} {% for a in range(99999) %}.{% endfor %}",
    "repeats to a gigabyte": "{{ run.name * 10**9 }}",
    "pads to a gigabyte": "{{ '%1000000000d' | format(run.total_tokens) }}",
    "doubles to a gigabyte": "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}"
    "{% endfor %}{{ ns.x }}",
    "lists to a gigabyte": "{{ [run] * 10**9 }}",
    "counts to a billion digits": "{{ run.total_tokens ** (10 ** 9) }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
async def test_a_runaway_template_ends_only_its_own_delivery(engine, sink, name: str) -> None:
    """Thirty runs of it at once, and the engine answers all the while. (Without ``run`` in them, none would load.)"""
    body = json.dumps(TEMPLATES[name])
    await engine.start(f"""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions:
              - forward_webhook: {{url: "${{SINK}}", body: {body}}}
                name: wild
              - forward_webhook: {{url: "${{SINK}}?tame"}}
                name: tame
    """)
    await engine.post(payloads.several(30))
    assert await slowest_answer(engine) < 2.0, "LangSmith waits for 5 s"
    rows = await engine.settled(60, 60.0)
    assert {(row.action, row.state, row.attempts) for row in rows} == {("wild", "dead", 1), ("tame", "succeeded", 1)}
    (reason,) = {row.reason for row in rows if row.action == "wild"}
    assert reason.startswith("parameter body (config.yaml:6)"), reason
    assert len(reason) > 60, "it says what and where"
    assert len(sink.received) == 30


async def slowest_answer(engine, count: int = 10) -> float:
    """The longest that one of some other events waited for its 202, in seconds."""
    slowest = 0.0
    for number in range(count):
        begun = time.monotonic()
        await engine.post(payloads.rule([payloads.run(1000 + number)], rule_id=OTHERS))
        slowest = max(slowest, time.monotonic() - begun)
        await asyncio.sleep(0.02)
    return slowest


async def test_an_expensive_expression_for_many_runs_does_not_stall_the_loop(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            filters: [{expr: "range(20000) | map('string') | join | length > 10 and run.status == 'success'"}]
            actions: [{forward_webhook: {url: "${SINK}"}}]
    """)
    await engine.post(payloads.several(40))
    assert await slowest_answer(engine) < 1.0, "it takes 6 s in all"
    await engine.settled(40, 60.0)


async def test_an_expression_without_measure_is_undecided_and_says_why(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            - name: wild
              filters: [{expr: "(run.name * 10**9) | length > 1"}]
              actions: [{forward_webhook: {url: "${SINK}?wild"}}]
            - name: tame
              actions: [{forward_webhook: {url: "${SINK}?tame"}}]
    """)
    event = (await engine.post(payloads.rule()))["event"]
    (row,) = await engine.settled(1)
    assert row.route.endswith("/tame")
    (evaluation,) = (await engine.running.store.event(event)).evaluations
    (wild,) = [one for one in evaluation["decisions"] if one["route"].endswith("/wild")]
    assert wild["verdict"] == "undecided"
    assert "00,000,000 characters" in wild["reason"]


async def test_a_whole_number_beyond_64_bits_is_sent_as_one(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions: [{forward_webhook: {url: "${SINK}", body: {number: "{{ 10 ** 30 }}"}}}]
    """)
    await engine.post(payloads.rule())
    await engine.settled(1)
    assert json.loads(sink.received[0].raw) == {"number": 10**30}


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ('{path: "$.runs[*].nothing.at.all[*]", eq: 1}', False),
        ('{not: {path: "$.runs[*].nothing.at.all[*]", eq: 1}}', True),
        ('{path: "$.runs[*].nothing.at.all[*]", exists: false}', True),
        ('{path: "$.runs[*].many[*].n", eq: 9999}', True),
        ('{path: "$.runs[*].many[*].n", gte: 0, quantifier: all}', True),
        ('{path: "$.runs[*].many[*].n", lt: 0, quantifier: none}', True),
        ('{path: "$.runs[*].many[*].n", gte: 5000, quantifier: {more_than: 60%}}', False),
        ('{path: "$.runs[*].many[*].n", count: {eq: 10000}}', True),
        ('{path: "$.runs[*].many..n", eq: -1}', False),
        ('{path: "$.runs[*].many[?(@.n > 9998)].n", eq: 9999}', True),
    ],
)
async def test_a_path_that_yields_nothing_or_ten_thousand_values(engine, sink, condition: str, matches: bool) -> None:
    await engine.start(f"""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            filters: [{condition}]
            actions: [{{log: {{message: matched}}}}]
          unmatched: {{actions: [{{log: {{message: unmatched}}}}]}}
    """)
    begun = time.monotonic()
    event = await engine.post(payloads.rule([payloads.run(0, many=[{"n": number} for number in range(10_000)])]))
    (row,) = await engine.settled(1)
    assert time.monotonic() - begun < 5.0
    assert row.route == (RULE if matches else "unmatched")
    detail = await engine.running.store.event(event["event"])
    assert len(json.dumps(detail.evaluations)) < 20_000, "what is kept of a verdict is for people"


# What the run says

NASTY = (
    "{{ 7 * 7 }} {% for x in range(9) %} ${SECRET} <!channel> <@U012AB3CD> <https://evil.example|click> "
    "*bold* &amp; <script>alert(1)</script> a\r\nX-Evil: 1\r\n\r\nGET / ' OR 1=1 -- ../../etc/passwd "
    "\x00\x1b[31m \u202egnol\u202c 👩\u200d👩\u200d👧 \ufeff \ud800 end"
)
#: What becomes of it as it arrives: a lone surrogate is no character.
ARRIVED = NASTY.replace("\ud800", "\ufffd")
ALL_SIX = (
    CLIENTS
    + """
defaults: {timeout: 5s, retry: {attempts: 2, within: 1h, min: 50ms, max: 50ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions:
      - add_to_dataset:
          dataset: hostile
          create: true
          inputs: "{{ run.inputs | default({'name': run.name}) }}"
          outputs: {output: "{{ run.outputs }}"}
          metadata: {name: "{{ run.name }}"}
      - annotate: {queue: needs-review, feedback: {key: triage, value: "{{ run.name }}", comment: "{{ run.error }}"}}
      - post_to_slack:
          channel: "#quality"
          text: "{{ run.name }}: {{ run.error }}"
          blocks: [{type: section, text: {type: mrkdwn, text: "*{{ run.name }}* {{ run.error }}"}}]
      - forward_webhook: {url: "${SINK}", query: {name: "{{ run.name }}"}}
      - notify: {urls: "${NOTIFY}", title: "{{ run.name }}", body: "{{ run.error }}"}
      - log: {message: "{{ run.name }}", fields: {error: "{{ run.error }}"}}
"""
)
IDS = ("id", "trace_id", "session_id")


def nasty(value, *, spare=()):
    """The same with every text in it, and every key of ours, replaced."""
    if isinstance(value, str):
        return NASTY
    if isinstance(value, dict):
        return {key: item if key in spare else nasty(item) for key, item in value.items()}
    return [nasty(item) for item in value] if isinstance(value, list) else value


def hostile_run(*, spare=IDS):
    run = nasty(payloads.run(), spare=spare)
    return run | {"error": NASTY * 500, "inputs": {NASTY: NASTY, "deep": [NASTY]}, "outputs": {"text": NASTY}}


async def start_all_six(engine, langsmith, sink) -> None:
    langsmith.add_queue("needs-review")
    engine.environ["NOTIFY"] = sink.url.replace("http://", "json://").replace("/hook", "/notify")
    await engine.start(ALL_SIX)


async def test_a_run_whose_every_text_is_hostile_arrives_as_data_through_all_six_actions(
    engine, langsmith, slack, sink, caplog
) -> None:
    caplog.set_level(logging.INFO, "engine")
    run = hostile_run()
    langsmith.add_run(payloads.run())
    await start_all_six(engine, langsmith, sink)
    await post_raw(engine, json.dumps(payloads.rule([run])))
    rows = await engine.settled(6, 30.0)
    assert {row.action: (row.state, row.reason) for row in rows} == dict.fromkeys(
        ("add_to_dataset", "annotate", "post_to_slack", "forward_webhook", "notify", "log"), ("succeeded", "")
    )
    (example,) = langsmith.examples.values()
    assert example["inputs"] == {ARRIVED: ARRIVED, "deep": [ARRIVED]}
    assert example["outputs"] == {"output": {"text": ARRIVED}}
    (feedback,) = langsmith.feedback.values()
    assert feedback["value"] == ARRIVED
    (message,) = slack.messages
    for text in (message.text, message.blocks[0]["text"]["text"]):
        assert "{{ 7 * 7 }}" in text
        assert "&lt;!channel&gt;" in text
        assert not any(sequence in text for sequence in ("<!", "<@", "<script", "<https://evil"))
        assert "49" not in text
    (forwarded,) = [one for one in sink.received if one.path == "/hook"]
    assert forwarded.body["runs"][0]["name"] == ARRIVED
    assert forwarded.body["runs"][0]["error"] == ARRIVED * 500
    assert forwarded.query["name"] == ARRIVED
    assert "X-Evil" not in forwarded.headers
    (notified,) = [one for one in sink.received if one.path == "/notify"]
    assert "{{ 7 * 7 }}" in notified.body["message"]
    (line,) = [record for record in caplog.records if record.name == "engine.action.log"]
    assert "\n" not in line.getMessage()
    assert "{{ 7 * 7 }}" in line.getMessage()
    assert SECRET not in caplog.text


async def test_where_even_the_ids_are_hostile_what_can_be_done_is_done_and_the_rest_says_why(
    engine, langsmith, slack, sink
) -> None:
    await start_all_six(engine, langsmith, sink)
    await post_raw(engine, json.dumps(payloads.rule([hostile_run(spare=())])))
    rows = {row.action: row for row in await engine.settled(6, 30.0)}
    dead = {action for action, row in rows.items() if row.state == "dead"}
    assert dead <= {"annotate", "add_to_dataset"}
    for action in dead:
        assert len(rows[action].reason) > 20, rows[action]
        assert rows[action].attempts == 1, "another attempt would not help"
    await engine.post(payloads.rule([payloads.run(1)]))
    await engine.settled(12, 30.0)
    assert len([one for one in sink.received if one.path == "/hook"]) == 2


# Plug-ins as they are loaded

PLUGIN = """
import engine
{first}

class Odd(engine.Action):
    \"\"\"Do nothing.\"\"\"

    class Params(engine.Params):
        pass

    async def run(self, params, context):
        return None
"""
WITH_PLUGINS = """
plugins: [./plugins]
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{forward_webhook: {url: "${SINK}"}}]}
"""


@pytest.mark.parametrize(
    ("name", "first", "words"),
    [
        ("odd", "raise RuntimeError('not today')", "odd.py:3:1: import raised RuntimeError: not today"),
        ("odd", "import sys; sys.exit(3)", "odd.py:3:1: import raised SystemExit: 3"),
        ("odd", "import nowhere_to_be_found", "odd.py:3:1: import raised ModuleNotFoundError"),
        ("odd", "def f(", "odd.py:3:6: syntax error"),
        ("odd", "raise KeyboardInterrupt", "odd.py:3:1: import raised KeyboardInterrupt"),
        ("odd", "class E(BaseException): pass\nraise E('x')", "odd.py:4:1: import raised E: x"),
        ("log", "", "the name 'log' is taken by"),
        ("odd", "import time; time.sleep(60)", "odd.py:3:1: the plug-in blocks here: loading has not ended within 1 s"),
    ],
)
async def test_a_plug_in_that_cannot_be_loaded_is_reported_and_hurts_nothing(
    engine, sink, caplog, monkeypatch, name: str, first: str, words: str
) -> None:
    monkeypatch.setattr("engine.rules.load_limit.LONGEST_LOADING", 1.0)
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    await engine.start(WITH_PLUGINS)
    file = folder / f"{name}.py"
    file.write_text(PLUGIN.format(first=first))
    await until(lambda: words in caplog.text, 10)
    await assert_well(engine, sink)
    if name == "log":
        file.unlink()
    file = folder / "odd.py"
    file.write_text(PLUGIN.format(first=""))
    await until(lambda: engine.running.reloader.current.registry.get("odd"), 10)
    await assert_well(engine, sink)


async def test_an_engine_does_not_start_on_a_plug_in_that_blocks_and_says_where(engine, monkeypatch) -> None:
    monkeypatch.setattr("engine.rules.load_limit.LONGEST_LOADING", 1.0)
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    (folder / "odd.py").write_text(PLUGIN.format(first="import time\n\ntime.sleep(60)"))
    with pytest.raises(ConfigError, match=r"odd\.py:5:1: the plug-in blocks here"):
        await engine.start(WITH_PLUGINS)

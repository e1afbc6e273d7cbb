"""No command prints a traceback for bad data, none says what is untrue, and what is accepted can be shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.json_text import MAX_LEVELS
from engine.testing import payloads
from tests.cli.conftest import Command, Server

Serve = Callable[..., Server]
RULE = payloads.RULE_ID
CONFIG = f"""
secrets: none
defaults: {{retry: {{attempts: 1, within: 1m}}}}
routes:
  {RULE}:
    - name: whole
      filters:
        - any:
            - {{path: "$.runs[*].inputs", exists: true}}
            - {{path: "$.runs[*].inputs..leaf", eq: 1}}
            - {{expr: "run.inputs == run.name or run.inputs | string | length > 3"}}
            - {{path: "$.runs[*].inputs.n", gt: 3}}
      actions:
        - forward_webhook: {{url: "http://127.0.0.1:9/whole", body: {{a: [{{b: {{c: "{{{{ payload }}}}"}}}}]}}}}
        - log: {{message: "{{{{ run.inputs | tojson | truncate(50) }}}}", fields: {{all: "{{{{ [[run]] }}}}"}}}}
        - name: bundle
          forward_webhook: {{url: "http://127.0.0.1:9/bundle"}}
          digest: {{every: 1h, by: "{{{{ run.name }}}}"}}
  "*": {{for_each: event, actions: [{{name: any, log: {{message: "{{{{ payload }}}}"}}}}]}}
  unmatched: {{for_each: event, actions: [{{name: rest, forward_webhook: {{url: "http://127.0.0.1:9/rest"}}}}]}}
"""


def nested(levels: int) -> Any:
    value: Any = "leaf"
    for level in range(levels):
        value = [value] if level % 2 else {"leaf": value}
    return value


def rule(inputs: str, name: str = '"n"') -> bytes:
    """A webhook of a rule, with JSON text as a run's inputs."""
    run = f'{{"id":"6ab80f10-d79c-4fa2-b441-922ed6feb001","name":{name},"status":"success","inputs":{inputs}}}'
    return f'{{"rule_id":"{RULE}","start_time":"{abs(hash(inputs))}","end_time":"b","runs":[{run}]}}'.encode(
        "utf-8", "surrogatepass"
    )


#: What is around a run's inputs.
AROUND = 3
DEPTHS = [MAX_LEVELS - AROUND, MAX_LEVELS - AROUND + 1, 251, 255, 900, 5000]
BODIES = {
    **{
        f"{depth} levels": rule(json.dumps(nested(min(depth, 900))) if depth <= 900 else "[" * depth + "]" * depth)
        for depth in DEPTHS
    },
    "deep in texts": rule(json.dumps("[{" * 3000)),
    "deep and not strict": rule("[NaN," + "[" * 300 + "]" * 300 + "]"),
    "many values": rule("[" + "0," * 1_100_000 + "0]"),
    "huge whole number": rule('{"n":' + "9" * 5000 + "}"),
    "huge number": rule('{"n":1e400}'),
    "beyond 64 bits": rule('{"n":123456789012345678901234567890}'),
    "not a number": rule('{"n":NaN,"m":-Infinity}'),
    "half a character": rule('{"n":"\\ud800","\\udc00":"x"}', '"\\ud800"'),
    "broken UTF-8": rule('{"n":"x"}').replace(b'"x"', b'"\xed\xa0\x80\xff"'),
    "control characters": rule('{"n":"\x00\x1b[31m\x7f"}', '"\x1b]0;owned\x07"'),
    "no run": f'{{"rule_id":"{RULE}","runs":[null,1,"x",[],{{}}]}}'.encode(),
    "UTF-16": '{"a":"é"}'.encode("utf-16"),
    "odd ids": b'{"rule_id":[["a"]],"runs":{"a":1}}',
    "no object": b"[1]",
    "no JSON": b"<html>",
    "nothing": b"",
    "cut off": b'{"a":' * 300,
}


def test_the_configuration_is_one(engine: Command) -> None:
    engine.write(CONFIG)
    assert "good" in engine("check").output


def sound(engine: Command, *args: str, codes: tuple[int, ...] = (0, 1, 2)) -> str:
    """What a command prints, on both streams; it ends by itself, with words."""
    from click.testing import CliRunner

    from engine.cli.main import cli

    result = CliRunner().invoke(cli, list(args), env=engine.environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), (args, result.exc_info)
    assert "Traceback" not in result.output
    assert "fault of the engine" not in result.output
    assert result.exit_code in codes, (args, result.output[-500:])
    if "--json" in args and result.exit_code != 2:
        json.loads(result.stdout)
    return str(result.stdout if "--json" in args else result.output)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_file_of_anything_is_explained_or_refused(engine: Command, body: bytes) -> None:
    engine.write(CONFIG)
    file = engine.folder / "body.json"
    file.write_bytes(body)
    for more in ([], ["--render"], ["--json"], ["--render", "--json"], ["--feedback", str(file)]):
        sound(engine, "explain", str(file), *more)
    sound(engine, "explain", "--kind", "rule", "--fetched", str(file), "--render")
    sound(engine, "explain", "--kind", "rule", "--feedback", str(file), "--render", "--json")
    for more in ([], ["--fresh"]):
        sound(engine, "send", str(file), "--print", *more)
    if len(body) < 1_000_000:
        sound(engine, "check", "--config", str(file))


def ask_everything(engine: Command, event_id: str, unparsed: bool) -> None:
    for more in ([], ["--payload"], ["--json"]):
        assert event_id[:18] in sound(engine, "events", "show", event_id, *more, codes=(0,))
    for more in ([], ["--render"], ["--json"], ["--render", "--json"]):
        shown = sound(engine, "explain", "--event", event_id, *more, codes=(0, 1))
        assert ("is kept as it came" in " ".join(shown.split())) is unparsed
    for more in ([], ["--json"]):
        shown = sound(engine, "replay", event_id, "--dry-run", *more, codes=(0,))
        assert "starts with" not in shown
    deliveries = json.loads(sound(engine, "deliveries", "list", "--event", event_id, "--json", codes=(0,)))
    for delivery in deliveries["deliveries"]:
        for more in ([], ["--json"]):
            sound(engine, "deliveries", "show", delivery["id"], *more, codes=(0,))
            sound(engine, "replay", delivery["id"], "--dry-run", *more, codes=(0,))


def test_what_was_accepted_is_shown_by_every_command_with_an_engine_and_without(
    engine: Command, serve: Serve, tmp_path: Path
) -> None:
    engine.write(CONFIG)
    server = serve()
    taken: dict[str, str] = {}
    for name, body in BODIES.items():
        (tmp_path / "sent.json").write_bytes(body)
        answer = json.loads(sound(engine, "send", str(tmp_path / "sent.json"), "--to", server.url, "--json"))
        if answer["result"] == "delivered":
            taken[name] = answer["event"]
    refused = {"no object", "no JSON", "nothing", "cut off"}
    assert set(taken) == set(BODIES) - refused
    events = json.loads(sound(engine, "events", "--limit", "1000", "--json"))["events"]
    kinds = {event["id"]: event["kind"] for event in events}
    deep = {f"{depth} levels" for depth in DEPTHS if depth + AROUND > MAX_LEVELS}
    unparsed = {name for name, event_id in taken.items() if kinds[event_id] == "unparsed"}
    assert unparsed == deep | {"deep and not strict", "many values"}
    for name, event_id in taken.items():
        ask_everything(engine, event_id, name in unparsed)
    assert sound(engine, "replay", *taken.values(), codes=(0,))
    assert server.stop() == 0
    for name in ("197 levels", "255 levels", "many values", "half a character", "control characters"):
        ask_everything(engine, taken[name], name in unparsed)
    assert not [line for line in server.log if "Traceback" in line]


TEXTS = st.text(st.characters(), max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=ANYTHING, name=ANYTHING, levels=st.integers(0, 260), cut=st.integers(0, 400))
def test_any_data_is_explained_or_refused(engine: Command, inputs: Any, name: Any, levels: int, cut: int) -> None:
    engine.write(CONFIG)
    file = engine.folder / "body.json"
    text = "[" * levels + json.dumps(inputs) + "]" * levels
    body = rule(text, json.dumps(name))
    file.write_bytes(body[:-cut] if cut < 20 and cut else body)
    for more in ([], ["--render", "--json"]):
        sound(engine, "explain", str(file), *more)

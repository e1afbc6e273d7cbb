"""``engine send``: a payload of one's own, from a sample or a file, by editing it or with ``--set``."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.core.document import Fetched, build_document
from engine.core.event import parse_event
from engine.testing import payloads
from tests.cli.conftest import SECRET, Command, Server

KINDS = ("rule", "seed", "thread", "alert", "prompt", "issue", "context_hub")


def printed(engine: Command, *words: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(engine("send", *words, "--print").stdout)
    return made


def seen(payload: dict[str, Any], index: int) -> Any:
    """What a route sees of a run."""
    event = parse_event(payloads.to_body(payload), received_at=0.0)
    return build_document(event, index, Fetched(), web_url=None, vars={})["run"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_printed_sample_is_json_to_be_edited_and_sent(engine: Command, kind: str) -> None:
    text = engine("send", "--kind", kind, "--print").stdout
    assert all(len(line) < 400 for line in text.splitlines())
    assert text.startswith('{\n  "')
    (engine.folder / "my.json").write_text(text.replace("classify-issue", "chat-support"))
    assert json.loads(engine("send", str(engine.folder / "my.json"), "--print").stdout) == json.loads(
        text.replace("classify-issue", "chat-support")
    )


@pytest.mark.parametrize("body", ["not json", "[1, 2", '{"a": NaN}', '{"a": 1e999}', "[" * 100_000])
def test_what_is_not_json_is_printed_as_it_stands(engine: Command, body: str) -> None:
    file = engine.folder / "odd.json"
    file.write_text(body)
    assert engine("send", str(file), "--print").stdout == f"{body}\n"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["name=a chat"], "3 runs changed; to change only the first: --set '$.runs[0].name=a chat'\n"),
        (["run.latency=12"], "3 runs changed; to change only the first: --set '$.runs[0].latency=12'\n"),
        (["$.runs[0].name=x"], "1 run changed\n"),
        (["$.runs[*].name=x"], "3 runs changed\n"),
        (["$.rule_id=x"], ""),
    ],
)
def test_it_is_said_how_many_runs_a_change_changes(engine: Command, changes: list[str], told: str) -> None:
    words = [word for change in changes for word in ("--set", change)]
    said = engine("send", "--kind", "rule", *words, "--print").stderr
    assert said == told
    if "--set " in said:
        (advice,) = shlex.split(said.partition("--set ")[2])
        names = engine("send", "--kind", "rule", "--set", advice, "--print")
        assert names.stderr == "1 run changed\n"


def test_numbers_and_texts_stay_what_they_are(engine: Command) -> None:
    file = engine.folder / "exact.json"
    file.write_text('{"rule_id": "r", "n": 123456789012345678901234567890, "half": "\\ud800", "e": "é", "runs": [{}]}')
    for more in ([], ["--fresh"], ["--set", "$.runs[*].x=1"], ["--set", "name=x", "--same"]):
        made = printed(engine, str(file), *more)
        assert (made["n"], made["half"], made["e"]) == (123456789012345678901234567890, "\ud800", "é")


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("name=chat-support", "name", "chat-support"),
        ("run.name=chat-support", "name", "chat-support"),
        ("name=12", "name", 12),
        ('name="12"', "name", "12"),
        ("name=", "name", ""),
        ("name=a=b", "name", "a=b"),
        ("name=NaN", "name", "NaN"),
        ('tags=["a", "b"]', "tags", ["a", "b"]),
        ("inputs.question=why?", "inputs", None),
        ("total_cost=0.5", "cost", 0.5),
        ("cost=0.5", "cost", 0.5),
        ("latency=12", "latency", 12.0),
        ("latency=12.5", "latency", 12.5),
        ("latency=1m", "latency", 60.0),
        ("latency=0", "latency", 0.0),
        ("$.runs[*].latency=7", "latency", 7.0),
        ("error=null", "error", None),
    ],
)
def test_a_name_is_a_field_of_every_run(engine: Command, change: str, field: str, value: Any) -> None:
    made = printed(engine, "--kind", "rule", "--set", change)
    assert len(made["runs"]) == 3
    for index in range(3):
        run = seen(made, index)
        if field == "inputs":
            assert run["inputs"]["question"] == "why?"
            assert "title" in run["inputs"]
        else:
            assert run[field] == value


def test_a_path_names_one_run_or_a_field_of_the_payload(engine: Command) -> None:
    words = ["$.runs[0].name=first", "$.runs[-1].extra.metadata['ls.user']=me", "$.rule_id=abc", "$.mine.own=[1]"]
    made = printed(engine, "--kind", "rule", *(word for each in words for word in ("--set", each)))
    assert [run["name"] for run in made["runs"]] == ["first", "classify-issue", "classify-issue"]
    assert made["runs"][2]["extra"]["metadata"]["ls.user"] == "me"
    assert made["rule_id"] == "abc"
    assert made["mine"] == {"own": [1]}


def test_fields_of_what_has_no_runs_are_the_payloads(engine: Command) -> None:
    assert printed(engine, "--kind", "alert", "--set", "triggered_metric_value=99")["triggered_metric_value"] == 99
    assert printed(engine, "--kind", "prompt", "--set", "prompt_name=mine")["prompt_name"] == "mine"


@pytest.mark.parametrize(
    ("changes", "status", "has_error"),
    [
        (["error=Boom"], "error", True),
        (["error=null"], "success", False),
        (["status=success"], "success", False),
        (["status=error"], "error", True),
        (["status=error", "error=null"], "error", False),
        (["error=Boom", "status=success"], "success", True),
        (["status=pending"], "pending", False),
    ],
)
def test_status_and_error_follow_each_other(engine: Command, changes: list[str], status: str, has_error: bool) -> None:
    made = printed(engine, "--kind", "rule", *(word for each in changes for word in ("--set", each)))
    assert [(run["status"], bool(run["error"])) for run in made["runs"]] == [(status, has_error)] * 3


def test_the_latency_counts_from_a_start_that_is_set_too(engine: Command) -> None:
    words = ["--set", "latency=12", "--set", "start_time=2026-01-01T00:00:00"]
    made = printed(engine, "--kind", "rule", *words)
    assert {run["end_time"] for run in made["runs"]} == {"2026-01-01T00:00:12"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("name", "no NAME=VALUE"),
        ("=x", "no NAME=VALUE"),
        ("nmae=x", "did you mean 'name'?"),
        ("rule_id=x", "write '$.rule_id=x'"),
        ("runs[0].name=x", "'$.runs[0].name=x'"),
        ("$..name=x", "names, [0] and [*] only"),
        ("$=x", "names, [0] and [*] only"),
        ("$.runs[*].=x", "the path ends too early"),
        ("$.runs[7].name=x", "the list has 3 items"),
        ("$.runs.name=x", "needs an object"),
        ("name.first=x", "needs an object"),
        ("$.runs[*][*][0]=x", "needs a list"),
        ("$.none[*].x=x", "nothing there"),
        ("latency=long", "latency is the time"),
        ("latency=-1", "latency is the time"),
        ("latency=1e300", "latency is the time"),
        ("latency=true", "latency is the time"),
        ("url=x", "set app_path"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_in_words(engine: Command, change: str, words: str) -> None:
    shown = " ".join(engine("send", "--kind", "rule", "--set", change, "--print", expect=2).stderr.split())
    assert words in shown
    assert f"--set {change}" in shown


def test_what_is_no_object_cannot_be_changed(engine: Command) -> None:
    file = engine.folder / "list.json"
    file.write_text("[]")
    assert "cannot change it" in engine("send", str(file), "--set", "name=x", "--print", expect=2).stderr


def test_samples_and_changes_are_new_each_time_and_files_stay_what_they_are(
    engine: Command, serve: Callable[..., Server]
) -> None:
    engine.write()
    server = serve()
    to = ["--to", server.url, "--secret", SECRET]

    def sent(*words: str) -> bool:
        return bool(engine.json("send", *words, *to)["duplicate"])

    file = engine.payload(payloads.complete())
    for fresh in (["--kind", "rule"], ["--kind", "seed"], [file, "--set", "name=x"], [file, "--fresh"]):
        assert (sent(*fresh), sent(*fresh)) == (False, False)
    assert (sent(file), sent(file), sent("--kind", "rule", "--same")) == (False, True, True)
    edited = payloads.complete()
    edited["runs"][0]["name"] = "chat-support"
    told = " ".join(engine("send", engine.payload(edited), *to).output.split())
    assert "same rule, time window and runs; changed contents make no new event" in told
    assert "--fresh makes it new" in told
    assert engine.json("send", engine.payload(edited), *to, "--fresh")["duplicate"] is False


def test_the_readmes_own_commands_send_a_changed_sample(
    engine: Command, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = [each for each in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "--set name=" in each]
    commands = [line.partition(" #")[0].split() for line in block.splitlines()]
    changed, printed_, edited = commands
    engine.write()
    server = serve()
    monkeypatch.chdir(engine.folder)
    assert printed_[-2:] == [">", "my.json"]
    (engine.folder / "my.json").write_text(engine(*printed_[1:-2]).stdout)

    def sent(words: list[str]) -> Any:
        real = {"http://127.0.0.1:8080": server.url, "a-secret-of-my-own": SECRET}
        return engine.json(*(real.get(word, word) for word in words[1:]))

    answers = [sent(words) for words in (changed, edited, changed, edited)]
    assert [(each["result"], each["duplicate"]) for each in answers] == [("delivered", False)] * 4

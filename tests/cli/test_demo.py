"""``engine demo``: what it shows, what it proves, and how it lives on."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from background import Background
from click.testing import CliRunner, Result

from engine.cli.commands.demo import _activation_elsewhere, _own_name
from engine.cli.demo.narrator import ToPeople
from engine.cli.demo.stage import ACTIONS, Stage, edited, encore, lay_out, opening, opening_for, rules
from engine.cli.demo.watch import Place
from engine.cli.main import cli
from engine.cli.support.output import out
from engine.core.event import parse_event
from engine.rules.reload import Loader
from engine.testing import payloads

RUN = opening()["runs"][0]["id"]
RULE = opening()["rule_id"]


def demo(*args: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["demo", *args], env={"COLUMNS": "80", **(environ or {})})


def lines(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


# Once


def test_once_shows_what_came_why_it_matched_what_was_sent_and_that_nothing_fired_twice(temporary: Path) -> None:
    result = demo("--once")
    assert result.exit_code == 0, result.output
    flat = " ".join(result.output.split())
    for words in (
        "issues (d75d7417-0c57-4655-88fe-1db3cda3a47a)",
        f"classify-issue · success · {RUN}",
        "issues/corrected-answers matches",
        '✓ $.runs[*].status eq "success" found "success"',
        "✓ $.feedback_stats.user_score.avg gte 0 and lt 0.5 found 0.0",
        '✓ $.feedback.correctness.correction exists true found "bug"',
        "issues/failed-or-expensive does not match",
        "✗ run.latency gt 10 found 3.2",
        "→ LangSmith POST /examples",
        'outputs {"output": "bug"}',
        "→ Slack POST /api/chat.postMessage",
        "channel #llm-quality",
        "→ the receiver POST /hook",
        "→ LangSmith POST /feedback",
        "202 duplicate: true, nothing fired twice",
        "✓ all four actions arrived, once each, and the duplicate fired nothing",
    ):
        assert words in flat, words
    order = [result.output.index(f"\n{section}") for section in ("1  ", "2  ", "3  ", "4  ", "✓ all four")]
    assert order == sorted(order)
    assert [line for line in result.output.splitlines() if len(line) > 80 and max(map(len, line.split())) < 60] == []
    assert Path(re.search(r"Its rules: (.+)", result.output)[1]).exists()
    assert list(temporary.iterdir()) == [], "nothing is left behind"


def test_json_is_one_object_a_line_with_the_requests_that_were_made(temporary: Path) -> None:
    result = demo("--once", "--json")
    told = lines(result)
    assert [one["type"] for one in told] == [
        *("serving", "answered", "event", *["delivery"] * 4, "repeated", "summary", "ended")
    ]
    deliveries = {one["action"]: one for one in told if one["type"] == "delivery"}
    assert tuple(deliveries) == ACTIONS
    assert {one["outcome"] for one in deliveries.values()} == {"succeeded"}
    (example,) = deliveries["add_to_dataset"]["requests"]
    assert (example["service"], example["status"]) == ("LangSmith", 200)
    assert example["sent"]["inputs"] == opening()["runs"][0]["inputs"]
    assert example["sent"]["outputs"] == {"output": "bug"}
    (forwarded,) = deliveries["forward_webhook"]["requests"]
    assert forwarded["sent"] == {"run": RUN, "seconds": 3.2, "cost": 0.0042, "correction": "bug"}
    feedback, item = deliveries["annotate"]["requests"]
    assert feedback["sent"]["key"] == "triage"
    assert item["sent"] == {"items": [{"run_id": RUN}]}
    assert told[2]["report"]["matched"] is True
    assert told[-3] | {"type": ""} == {"type": "", "status": 202, "duplicate": True, "requests": 0}
    assert told[-2]["good"] is True


def test_nothing_of_the_persons_environment_is_used(temporary: Path) -> None:
    """The demo is run by people whose environment points at the real LangSmith, behind a proxy."""
    nowhere = "http://127.0.0.1:9"
    environ = dict.fromkeys(("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT", "HTTP_PROXY", "http_proxy"), nowhere)
    result = demo("--once", "--json", environ=environ | {"LANGSMITH_API_KEY": "a-real-key", "NO_PROXY": ""})
    assert result.exit_code == 0, result.output
    assert "a-real-key" not in result.output


def test_an_action_that_does_not_arrive_is_named_and_is_exit_code_1(tmp_path: Path) -> None:
    files = lay_out(tmp_path)
    text = rules().replace("http://127.0.0.1:9103/hook", "").replace("${INBOX_URL:-}", "http://127.0.0.1:9/hook")
    files.rules.write_text(text)
    result = demo("--once", "--data", str(tmp_path))
    assert result.exit_code == 1
    flat = " ".join(result.output.split())
    assert "✗ issues/corrected-answers forward_webhook: cannot connect to 127.0.0.1:9" in flat
    assert "add_to_dataset:" not in flat.partition("nothing fired twice")[2]
    assert "succeeded" not in flat.partition("nothing fired twice")[2]


# Rules of one's own

OWN = """
secrets: ["${MY_SECRET}"]
slack: {token: "${SLACK_BOT_TOKEN}"}
langsmith: {api_key: "${LANGSMITH_API_KEY}"}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    filters: [{path: "$.runs[*].status", eq: success}]
    actions:
      - post_to_slack: {channel: "${MY_CHANNEL}", text: "{{ run.name }} WORDS"}
      - add_to_dataset: {dataset: nobody-made-it, inputs: "{{ run.inputs }}"}
"""
MINE = {"MY_SECRET": "my-very-own-secret", "MY_CHANNEL": "#my-channel", "SLACK_BOT_TOKEN": "a-real-token"}


def own(folder: Path, text: str = OWN, *args: str) -> Result:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(text)
    return demo("--once", "--data", str(folder), *args, environ=MINE)


def test_rules_of_ones_own_see_the_environment_are_named_so_and_judged(tmp_path: Path) -> None:
    message = " ".join(f"word{number}" for number in range(100))
    result = own(tmp_path, OWN.replace("WORDS", message))
    assert result.exit_code == 0, result.output
    flat = " ".join(result.output.split())
    assert "They are your own: what they do is judged, not the demo's four actions." in flat
    assert "✓ 4 deliveries of your rules succeeded, and the duplicate fired nothing" in flat
    assert "channel #my-channel" in flat
    assert "rule d75d7417-0c57-4655-88fe-1db3cda3a47a run 0 classify-issue" in flat
    assert f"text classify-issue {message}" in flat, "a message is shown whole"
    assert "all four" not in flat
    assert "my-very-own-secret" not in result.output
    assert "a-real-token" not in result.output
    assert [line for line in result.output.splitlines() if len(line) > 80 and max(map(len, line.split())) < 60] == []


def test_the_packaged_rules_are_not_called_ones_own(temporary: Path) -> None:
    assert "your own:" not in demo("--once").output


def test_for_programs_it_says_whose_rules_they_are_and_hides_their_secret(tmp_path: Path) -> None:
    result = own(tmp_path, OWN, "--json")
    told = lines(result)
    assert told[0]["own"] is True
    assert told[0]["webhook"].endswith("?secret=***")
    assert "my-very-own-secret" not in result.output
    assert told[-2] | {"seconds": 0} == {
        "type": "summary",
        "good": True,
        "seen": ["post_to_slack", "add_to_dataset"] * 2,
        "missing": {},
        "muted": {},
        "repeated": 0,
        "troubles": [],
        "waiting": 0,
        "matched": True,
        "seconds": 0,
    }


def test_rules_that_match_nothing_exit_with_1_and_a_message(tmp_path: Path) -> None:
    result = own(tmp_path, OWN.replace("eq: success", "eq: pending"))
    assert result.exit_code == 1
    assert "✗ no route matched: section 2 says why" in result.output
    assert '✗ $.runs[*].status eq "pending"' in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        (["11111111-0c57-4655-88fe-1db3cda3a47a"], "rule 11111111-0c57-4655-88fe-1db3cda3a47a"),
        (["alert", "11111111-0c57-4655-88fe-1db3cda3a47a"], "rule 11111111-0c57-4655-88fe-1db3cda3a47a"),
        (["11111111-0c57-4655-88fe-1db3cda3a47a", RULE], f"rule {RULE}"),
        (["prompt"], "kind prompt"),
        (["alert", "*"], f"rule {RULE}"),
        (["unmatched"], f"rule {RULE}"),
    ],
)
def test_rules_of_ones_own_get_a_webhook_that_has_a_route(tmp_path: Path, keys: list[str], shown: str) -> None:
    log = "{actions: [{log: {message: hi}}]}\n"
    result = own(tmp_path, "secrets: none\nroutes:\n" + "".join(f'  "{key}": {log}' for key in keys))
    assert result.exit_code == 0, result.output
    assert f"→ POST /webhooks/langsmith?secret=… {shown}" in " ".join(result.output.split())


@pytest.mark.parametrize("kind", ["alert", "prompt", "issue", "context_hub"])
def test_webhooks_of_every_kind_can_begin(kind: str) -> None:
    assert str(parse_event(payloads.to_body(opening_for([kind])), 0.0).kind) == kind


def test_a_rule_for_failed_runs_is_seen_to_match(tmp_path: Path) -> None:
    """As that of the README does."""
    result = own(tmp_path, OWN.replace("eq: success", "eq: error"))
    assert result.exit_code == 0, result.output
    assert "run 2" in result.output


def test_variables_of_a_file_beside_the_rules_are_used(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FROM_FILE=#from-the-file\nSLACK_BOT_TOKEN=of-the-file\n")
    result = own(tmp_path, OWN.replace("MY_CHANNEL", "FROM_FILE"))
    assert result.exit_code == 0, result.output
    assert "#from-the-file" in result.output
    assert "of-the-file" not in result.output


def test_what_is_held_back_is_waited_for_a_moment_and_is_no_failure(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("engine.cli.commands.demo._OWN_PATIENCE", 1.0)
    held = OWN.replace('WORDS"}', '{{ digest.count }}"}\n        digest: {every: 15m}')
    result = own(tmp_path, held)
    assert result.exit_code == 0, result.output
    flat = " ".join(result.output.split())
    assert "✓ 2 deliveries of your rules succeeded, 2 not due yet, and the duplicate fired nothing" in flat


@pytest.mark.parametrize("text", [None, OWN])
def test_a_muted_route_is_shown_as_muted(tmp_path: Path, text: str | None) -> None:
    files = lay_out(tmp_path)
    if text:
        files.rules.write_text(text)
    route = "d75d7417-0c57-4655-88fe-1db3cda3a47a" if text else "issues/corrected-answers"
    assert demo("--once", "--data", str(tmp_path), environ=MINE).exit_code == 0
    place = ("-c", str(files.rules), "--data", str(files.data))
    muted = CliRunner().invoke(cli, ["mute", route, "--for", "2h", *place], env=MINE)
    assert muted.exit_code == 0, muted.output
    result = demo("--once", "--data", str(tmp_path), environ=MINE)
    assert result.exit_code == 0, result.output
    flat = " ".join(result.output.split())
    assert re.search(rf"{route} matches, muted until \S+ \S+ UTC by \S+", flat), flat
    assert re.search(rf"{route}: muted until \S+ \S+ UTC by [^;]+; its actions were not done", flat)
    assert "✓ nothing was sent, as all that matched is muted, and the duplicate fired nothing" in flat
    assert "✗ post_to_slack" not in flat


def test_how_to_have_the_command_is_said_where_it_is_not_on_the_path(temporary: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(temporary)
    result = demo("--once")
    told = re.search(r"To have the engine command in a terminal:\n  (\. .*)\n", result.output)
    assert told, result.output
    ran = subprocess.run(
        ["/bin/sh", "-c", f"{told[1]} && command -v engine"],
        env={"PATH": "/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip().endswith("/bin/engine")
    assert "engine sandbox" in result.output


def test_a_chosen_folder_is_kept_and_serves_a_second_demo(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    for _ in range(2):
        result = demo("--once", "--data", str(folder), "--json")
        assert result.exit_code == 0, result.output
        assert lines(result)[-1] == {"type": "ended", "kept": str(folder)}
    assert (folder / "engine-data" / "engine.db").exists()
    assert "accepted" in (folder / "engine-data" / "engine.log").read_text()


def test_rules_that_cannot_be_used_are_exit_code_2_with_their_place(tmp_path: Path) -> None:
    files = lay_out(tmp_path)
    files.rules.write_text(rules().replace("    - name: failed-or-expensive", "    - nam: failed-or-expensive"))
    result = demo("--once", "--data", str(tmp_path))
    assert result.exit_code == 2
    assert re.search(r"config\.yaml:\d+:7:\s+error: unknown key 'nam' in a route", result.stderr)


def test_a_taken_port_is_exit_code_2(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = demo("--once", "--port", str(port))
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}: another program listens there" in result.stderr


# The parts


@pytest.mark.parametrize("is_there", [True, False])
def test_another_terminal_is_shown_how_to_get_the_command(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the demo's own terminal has, a new one has not: the lines begin with the environment's activation."""
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").touch()
    (venv / "bin" / "engine").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(venv))
    monkeypatch.setattr(sys, "argv", [str(venv / "bin" / "engine")])
    monkeypatch.setenv("PATH", str(venv / "bin") if is_there else "/nowhere")
    place = Place(
        rules=tmp_path, encore=tmp_path, log=tmp_path, webhook="http://x", admin="http://a",
        command=_own_name(), elsewhere=_activation_elsewhere(),
    )  # fmt: skip
    ToPeople(out()).hands_over(place)
    told = capsys.readouterr().out
    activated = "  . .venv/bin/activate\n  engine events --admin http://a"
    assert (activated in told) is is_there
    assert ("  .venv/bin/engine events --admin http://a" in told) is not is_there


def test_the_packaged_rules_load_without_any_variable_set(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(rules())
    loaded = Loader(tmp_path / "config.yaml", {}).load()
    assert list(loaded.router.routes) == ["issues/corrected-answers", "issues/failed-or-expensive"]


def test_opening_and_encore_are_of_one_rule_and_of_different_runs() -> None:
    first, second = ({run["id"] for run in payload["runs"]} for payload in (opening(), encore()))
    assert opening()["rule_id"] == encore()["rule_id"]
    assert first
    assert second
    assert not first & second


async def test_where_nothing_arrived_all_four_are_missing() -> None:
    async with Stage() as stage:
        assert list(stage.missing(RUN)) == list(ACTIONS)


async def test_a_refused_request_does_not_count_as_arrived() -> None:
    import aiohttp

    async with Stage() as stage, aiohttp.ClientSession() as http:
        stage.inbox.answer_with(500)
        await http.post(stage.inbox.url, json={"run": RUN})
        # Slack's refusal is a 200 whose body says so.
        async with http.post(f"{stage.slack.url}chat.postMessage", json={"channel": "#x", "text": RUN}) as answer:
            assert answer.status == 200
            assert (await answer.json())["ok"] is False
        assert {"forward_webhook", "post_to_slack"} <= set(stage.missing(RUN))
        await http.post(stage.inbox.url, json={"run": RUN})
        assert "forward_webhook" not in stage.missing(RUN)


@pytest.mark.parametrize("name", ["config.yaml", "event.json", "plugins/mine.py"])
def test_what_a_person_wrote_is_worth_keeping(tmp_path: Path, name: str) -> None:
    files = lay_out(tmp_path)
    assert not edited(files)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("# mine")
    assert edited(files)


# Living on


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Background]]:
    running: list[Background] = []

    def start(*args: str) -> Background:
        running.append(Background(tmp_path, "demo", *args))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the line to paste calls curl")
def test_the_pasted_line_works_edits_act_at_once_and_ctrl_c_ends_it_quickly(serve, tmp_path: Path) -> None:
    running = serve("--port", "0")
    told = running.until("Ctrl-C")
    # Exactly what a person would copy.
    pasted = re.search(r"^  (curl .*?\\\n.*?)\n", told, re.MULTILINE)[1]
    answer = subprocess.run(pasted, shell=True, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["duplicate"] is False
    told = running.until("#llm-oncall")
    assert "issues/failed-or-expensive  matches" in told
    answer = subprocess.run(pasted, shell=True, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["duplicate"] is True
    running.until("came again: duplicate: true, nothing fires")

    config = Path(re.search(r"Its rules: (.+)", told)[1])
    config.write_text(rules().replace("gt: 10}", "gtt: 10}"))
    told = running.until("the previous rules stay in use", 5)
    assert re.search(r"config\.yaml:\d+:\d+:\s+error: unknown key 'gtt'", told)
    config.write_text(rules().replace("#llm-oncall", "#llm-nights"))
    running.until("rules reloaded", 5)

    code, seconds = running.end()
    assert (code, seconds < 5) == (0, True)
    assert "Traceback" not in running.text
    assert "your files are kept in" in running.text
    assert config.exists()


def test_where_nothing_was_edited_nothing_is_left(serve, tmp_path: Path) -> None:
    running = serve("--port", "0", "--json")
    running.until('"type":"waiting"')
    assert len(list(tmp_path.iterdir())) == 1
    code, _seconds = running.end(signal.SIGTERM)
    assert code == 0
    assert list(tmp_path.iterdir()) == []
    assert [json.loads(line)["type"] for line in running.text.splitlines()][-2:] == ["waiting", "ended"]


def test_ended_before_it_proved_anything_once_is_exit_code_1(serve) -> None:
    running = serve("--once", "--json")
    running.until('"type":"serving"')
    code, _seconds = running.end()
    assert code in (0, 1)
    assert ('"good":true' in running.text) == (code == 0)
    assert "Traceback" not in running.text

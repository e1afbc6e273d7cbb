"""Commands that need no server: check, routes, actions, config show, send without a receiver, help."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from engine.cli.commands.events import matched_in_words, unmatched_in_words
from engine.cli.main import COMMANDS
from engine.cli.support.output import age, ago, next_page
from engine.testing import payloads
from engine.testing.payloads import renew_payload
from tests.cli.conftest import Command


def test_help_names_every_command_and_imports_none(engine: Command) -> None:
    shown = engine("--help").output
    assert all(name in shown for name in COMMANDS)
    code = "import sys; from engine.cli.main import cli; cli(['-h'], standalone_mode=False); print(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "engine.app" not in ran.stdout
    assert "aiohttp" not in ran.stdout


def test_a_mistyped_command_is_suggested(engine: Command) -> None:
    assert "Did you mean 'events'?" in engine("evnts", expect=2).stderr
    for word, command in (("test", "explain"), ("validate", "check"), ("run", "serve"), ("retry", "replay")):
        assert f"Did you mean {command!r}?" in engine(word, expect=2).stderr
    assert "Did you mean" not in engine("frobnicate", expect=2).stderr


def test_a_group_lists_where_no_command_is_named(engine: Command) -> None:
    for group in ("events", "deliveries"):
        assert "there is no store at" in engine(group, "--limit", "3", expect=2).stderr
    defaults = {"events": "list", "deliveries": "list", "destinations": "list", "config": "show"}
    for group, default in defaults.items():
        shown = engine(group, "--help").output
        options = re.findall(r"^  (-.*?)(?:  |$)", engine(group, default, "--help").output, re.MULTILINE)
        assert re.findall(r"^  (-.*?)(?:  |$)", shown, re.MULTILINE) == options
        assert len(options) == len(set(options)) > 2
        assert f"Options (of {default}, which is meant where no command is named)" in shown
        assert re.search(rf"^  {default} +\w", shown, re.MULTILINE)
        assert all(len(line) <= 80 for line in shown.splitlines())
    assert "To show one: engine events show what" in " ".join(engine("events", "what", expect=2).stderr.split())
    assert "Did you mean 'show'?" in engine("deliveries", "shwo", expect=2).stderr
    assert "attempts: 1" in engine("config").output


def test_what_an_encoding_has_not_is_written_plainly(engine: Command) -> None:
    def run(*args: str) -> str:
        environ = os.environ | engine.environ | {"PYTHONIOENCODING": "ascii"}
        command = [sys.executable, "-m", "engine", *args]
        return subprocess.run(command, capture_output=True, env=environ, check=True).stdout.decode("ascii")

    assert '+ $.runs[*].status eq "success"' in run("explain", engine.payload())
    assert "-> forward_webhook" in run("routes")
    engine.write(engine.config.read_text().replace("low score", "niedrige Güte"))
    assert "niedrige Güte" in json.loads(run("routes", "--json"))["routes"][1]["actions"][0]["params"]["message"]


def test_one_is_not_many(engine: Command) -> None:
    assert "up to 1 try within 1m" in engine("routes").output


def test_version(engine: Command) -> None:
    assert engine("--version").output.startswith("engine, version ")


def test_a_good_file_is_reported_as_good(engine: Command) -> None:
    assert "good · 3 routes · 3 actions" in engine("check").stdout
    assert engine.json("check")["files"][0]["checked"]["routes"] == 3


def test_every_problem_is_reported_with_its_place_line_and_hint(engine: Command) -> None:
    engine.write(engine.config.read_text().replace("eq: error", "eqq: error").replace("lt: 0.5", "lt: [1]"))
    result = engine("check", expect=1)
    assert f"{engine.config}:10:" in result.stderr
    assert "did you mean 'eq'?" in result.stderr
    assert "^" in result.stderr
    assert result.stderr.splitlines()[-1] == f"{engine.config}: 2 errors"
    report = engine.json("check", expect=1)
    assert not report["good"]
    assert [problem["line"] for problem in report["files"][0]["problems"]] == [10, 17]


def test_problems_of_structure_and_of_conditions_come_out_together(engine: Command) -> None:
    engine.write(engine.config.read_text().replace("stop: true", "stopp: true").replace("eq: error", "eqq: error"))
    words = [problem["message"] for problem in engine.json("check", expect=1)["files"][0]["problems"]]
    assert any("stopp" in word for word in words)
    assert any("eqq" in word for word in words)


def test_what_is_legal_but_hardly_meant_is_a_warning(engine: Command) -> None:
    engine.write(
        "secrets: none\n"
        "rules: {a: 11111111-1111-4111-8111-111111111111, nobody: 22222222-2222-4222-8222-222222222222}\n"
        "routes:\n"
        "  a:\n"
        "    - {name: first, stop: true, actions: [{log: {message: x}}]}\n"
        "    - {name: second, actions: [{log: {message: x}}]}\n"
        "    - {name: third, enabled: false, actions: [{log: {message: x}}]}\n"
    )
    result = engine("check")
    assert "route 'a/second' is never reached" in result.stderr
    assert "route 'a/third' is disabled" in result.stderr
    assert "config.yaml:2:50: warning: no route uses the rule name 'nobody'" in result.stderr
    assert "good, with 3 warnings · 3 routes (1 disabled)" in result.stdout
    engine("check", "--strict", expect=1)


@pytest.mark.parametrize(("name", "errors"), [("filtres", "1 error"), ("filtres, enabld: true", "2 errors")])
def test_errors_come_after_warnings_and_the_last_line_counts_both(engine: Command, name: str, errors: str) -> None:
    key, _, more = name.partition(", ")
    more = f"{more}, " if more else ""
    engine.write(
        'secrets: ["${HOOK_SECRET}"]\nslack: {token: "${SLACK_BOT_TOKEN}"}\n'
        f"routes:\n  alert: {{{more}{key}: [], actions: [{{log: {{message: hi}}}}]}}\n"
    )
    lines = engine("check", expect=1).stderr.splitlines()
    assert [line for line in lines if ": warning: " in line] == [
        f"{engine.config}:1:11: warning: the environment variable HOOK_SECRET is not set",
        f"{engine.config}:2:16: warning: the environment variable SLACK_BOT_TOKEN is not set",
    ]
    assert lines[:2] == [line for line in lines if ": warning: " in line]
    assert lines[2].startswith("  checked with stand-ins for their values; engine serve needs them")
    assert all(": error: " in line or line.startswith(" ") for line in lines[3:-1])
    assert lines[-1] == f"{engine.config}: {errors}, 2 warnings"


def test_several_files_are_checked(engine: Command) -> None:
    other = engine.folder / "other.yaml"
    other.write_text("routes: [\n")
    result = engine("check", str(engine.config), str(other), expect=1)
    assert "good" in result.stdout
    assert "other.yaml" in result.stderr
    absent = engine("check", str(engine.config), "nowhere.yaml", expect=2)
    assert "good" in absent.stdout
    assert "cannot read" in absent.stderr


def test_without_a_configuration_it_is_said_how_to_have_one(engine: Command) -> None:
    engine.config.unlink()
    for command in (["check"], ["routes"], ["serve"], ["config", "show"]):
        said = engine(*command, expect=2).stderr
        assert "cannot read the configuration" in said
        example = said.partition("write one, or name it with -c (an example: ")[2].strip().removesuffix(")")
        assert "routes:" in Path(example).read_text()
    assert not engine.json("check", expect=2)["good"]


def test_routes_are_shown_by_key_with_a_line_a_condition(engine: Command) -> None:
    shown = engine("routes").output
    assert "corrections" in shown
    assert 'if $.runs[*].status eq "error"' in shown
    assert "→ forward_webhook" in shown
    assert 'when $.runs[*].tags[*] eq "classifier"' in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert engine.json("routes")["routes"][0]["id"] == "corrections/errors"


def test_actions_are_listed_with_plug_ins_and_broken_ones(engine: Command) -> None:
    folder = engine.folder / "plugins"
    folder.mkdir()
    (folder / "ticket.py").write_text(
        "import engine\n\n\nclass Ticket(engine.Action):\n"
        '    """Open a ticket."""\n\n    class Params(engine.Params):\n        title: str\n'
        "        priority: int = 3\n\n"
        "    async def run(self, params, context):\n        return None\n"
    )
    (folder / "broken.py").write_text("import nothing_of_that_name\n")
    engine.write("plugins: [./plugins]\n" + engine.config.read_text())
    result = engine("actions")
    assert "forward_webhook" in result.stdout
    assert "Open a ticket." in result.stdout
    assert "broken.py:1:1" in result.stderr
    shown = engine("actions", "ticket").stdout
    assert "required" in shown
    assert "- ticket:\n    title:" in shown
    assert "did you mean 'ticket'" in engine("actions", "tikcet", expect=2).stderr
    assert engine.json("actions", "ticket")["parameters"][1] == {
        "name": "priority",
        "type": "integer",
        "required": False,
        "default": 3,
        "description": "",
    }


def test_every_built_in_action_is_shown_with_an_example(engine: Command) -> None:
    engine.environ["COLUMNS"] = "80"
    for action in engine.json("actions")["actions"]:
        shown = engine("actions", action["name"]).output
        assert f"- {action['name']}:" in shown
        assert all(len(line) <= 80 for line in shown.splitlines()), shown


def test_what_an_action_lacks_is_reported_with_the_way_to_get_it(
    engine: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.json("actions", "log")["lacks"] == ""
    monkeypatch.setattr("actions.notify.find_spec", lambda _name: None)
    how = "pip install 'langsmith-rules-engine[notify]'"
    assert how in " ".join(engine("actions").output.split())
    assert how in engine("actions", "notify").output

    def broken(_name: str) -> None:
        raise RuntimeError("no importer")

    monkeypatch.setattr("actions.notify.find_spec", broken)
    assert engine.json("actions", "notify")["lacks"] == "RuntimeError: no importer"


def test_actions_are_there_without_a_configuration(engine: Command) -> None:
    engine.config.unlink()
    assert "post_to_slack" in engine("actions").output


def test_the_effective_configuration_hides_secrets(engine: Command) -> None:
    shown = engine("config", "show").output
    assert "the-api-key-itself" not in shown
    assert "a secret" not in shown
    assert "attempts: 1" in shown
    assert engine.json("config", "show")["config"]["langsmith"]["api_key"] == "***"
    assert "no engine answers" in engine("config", "show", "--live", expect=2).stderr


def test_a_dead_address_fails_after_langsmiths_own_retries(engine: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.cli.support.langsmith_sender.FIRST_DELAY", 0.0)
    result = engine("send", engine.payload(), "--to", "http://127.0.0.1:9", expect=1)
    assert "attempt 1" in result.output
    assert "cannot connect to 127.0.0.1:9: connection refused" in result.output
    assert result.stderr == "LangSmith gives up here; is engine serve running at 127.0.0.1:9?\n"
    hint = engine.json("send", engine.payload(), "--to", "http://127.0.0.1:9", expect=1)["hint"]
    assert hint == "is engine serve running at 127.0.0.1:9?"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a FILE or --kind"),
        (["--kind", "rule"], "--to URL is missing"),
        (["--kind", "rule", "--to", "ftp://x"], "http://"),
        (["--kind", "rule", "--to", "http://127.0.0.1:9", "-H", "nonsense"], "write -H"),
        (["--kind", "rule", "--to", "http://127.0.0.1:9", "--sign-as", "github"], "--sign SECRET"),
        (["--kind", "rule", "--to", "http://127.0.0.1:9", "--sign", "whsec_no!"], "is not base64"),
        (["--kind", "rule", "--to", "https://127.0.0.1:9", "--ca", "nothing.pem"], "cannot take the certificates"),
    ],
)
def test_a_send_that_makes_no_sense_is_reported(engine: Command, arguments: list[str], words: str) -> None:
    assert words in engine("send", *arguments, expect=2).stderr


def test_samples_of_every_kind_can_be_printed(engine: Command) -> None:
    for kind in ("rule", "alert", "prompt", "issue", "context_hub", "thread", "seed"):
        assert isinstance(json.loads(engine("send", "--kind", kind, "--print").stdout), dict)


def test_a_sample_or_a_file_is_sent_as_a_webhook_of_another_rule(engine: Command) -> None:
    rule = "11111111-2222-3333-4444-555555555555"
    before = json.loads(engine("send", "--kind", "rule", "--same", "--print").stdout)
    for source in (["--kind", "rule", "--same"], [engine.payload(before)]):
        assert json.loads(engine("send", *source, "--rule", rule, "--print").stdout) == before | {"rule_id": rule}
    refused = engine("send", "--kind", "alert", "--rule", rule, "--print", expect=2).stderr
    assert "this webhook is not from one" in refused
    assert "send it without --rule" in refused


def test_a_fresh_payload_is_another_one_of_the_same_runs() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    payload = payloads.complete()
    fresh = renew_payload(payload, now)
    assert fresh["end_time"] == now.isoformat()
    assert fresh["runs"] == payload["runs"]
    others = (payloads.alert, payloads.prompt_commit, payloads.issue, payloads.context_hub_commit)
    for sample in (*(make() for make in others), {"anything": 1}):
        assert renew_payload(sample, now) != sample


def test_lists_without_engine_or_store_say_what_is_missing(engine: Command) -> None:
    for words in (["events", "list"], ["deliveries", "list"], ["replay", "--dead"]):
        result = engine(*words, expect=2)
        assert "there is no store at" in result.stderr
        assert not (engine.folder / "engine-data").exists()
    assert "give IDs" in engine("replay", expect=2).stderr


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"kind": "rule", "unmatched_reason": "unknown_rule"}, "unknown rule"),
        ({"kind": "rule", "unmatched_reason": "no_match"}, "no match"),
        ({"kind": "prompt", "unmatched_reason": "unknown_rule"}, "no route for prompt"),
        ({"kind": "unknown", "unmatched_reason": "unknown_rule"}, "no route for this kind"),
        ({"kind": "unparsed", "unmatched_reason": "unparsed"}, "unparsed"),
        ({"kind": "alert", "unmatched_reason": None}, ""),
    ],
)
def test_why_nothing_matched_is_said_for_each_kind(event: dict[str, Any], words: str) -> None:
    assert unmatched_in_words(event) == words


@pytest.mark.parametrize(
    ("matched", "fallback", "reason", "shown"),
    [
        (2, 0, None, "2"),
        (2, 1, None, "2, 1 fallback"),
        (0, 3, "no_match", "3 fallback"),
        (3, 0, "no_match", '3 by "*"'),
        (3, 3, "unknown_rule", '3 by "*", 3 fallback'),
        (0, 0, "unknown_rule", "unknown rule"),
        (0, 0, None, "0"),
        (2, None, None, "2"),
        (2, None, "no_match", "2 catch-all"),
    ],
)
def test_matched_shows_runs_and_fallbacks_apart(matched: int, fallback: int, reason: str, shown: str) -> None:
    event = {"kind": "rule", "state": "routed", "matched": matched, "fallback": fallback, "unmatched_reason": reason}
    assert matched_in_words(event).plain == shown


def test_the_state_unmatched_is_answered_with_the_option(engine: Command) -> None:
    assert "write --unmatched" in engine("events", "--state", "unmatched", expect=2).stderr


def test_the_next_page_is_a_whole_command() -> None:
    with click.Context(click.Command("list"), info_name="engine events list"):
        told = next_page({"rule": "two words", "unmatched": True, "before": "0", "limit": 3}, "0199")
    assert told == "engine events list --rule 'two words' --unmatched --limit 3 --before 0199"


def test_ages_are_shown_in_one_unit() -> None:
    now = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
    assert age("2026-01-02T11:59:58Z", now) == "2s"
    assert age("2026-01-02T11:00:00Z", now) == "1h"
    assert age("2025-12-30T12:00:00Z", now) == "3d"
    assert age("2026-01-02T12:05:00Z", now) == "in 5m"
    assert age(None, now) == ""
    assert ago("2026-01-02T11:00:00Z", now) == "1h ago"
    assert ago("2026-01-02T12:05:00Z", now) == "in 5m"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_can_be_imported_on_its_own(name: str) -> None:
    """In a process of its own: within this one, imports of other tests would hide a cycle."""
    code = f"from engine.cli.main import cli; cli(['{name}', '--help'], standalone_mode=False)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Usage:")

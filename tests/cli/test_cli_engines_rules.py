"""Commands beside a running engine: its rules answer, and where they are not those of the file, that is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli.support import access
from engine.cli.support.access import Place
from engine.cli.support.loaded_rules import RulesInUse
from engine.testing import payloads
from tests.cli.conftest import Command, Server
from tests.cli.test_cli_serve import settled

TEAM = "the-red-team-of-the-engine"
CONFIG = """
secrets: ["${HOOK_SECRET}"]
vars: {shown: "${COLOUR}"}
routes:
  alert:
    - name: ours
      filters:
        - {expr: "alert_rule_name == '${TEAM}'"}
        - {expr: "vars.shown == 'red'"}
      actions:
        - log: {message: "for ${TEAM}: {{ alert_rule_name }}"}
        - of_the_engine: {}
"""
PLUGIN = """
from engine import Action

class OfTheEngine(Action):
    \"\"\"Does nothing.\"\"\"
    name = "of_the_engine"
    async def run(self, params, context):
        return None
"""
SECRETS = {"HOOK_SECRET": "hush-hush-hush", "TEAM": TEAM, "COLOUR": "red", "FOLDER": "plugins"}


@pytest.fixture
def beside(engine: Command, serve: Callable[..., Server]) -> tuple[Command, Server, str]:
    """A command without any of the engine's variables, a server with all of them, and an event."""
    (engine.folder / "plugins").mkdir()
    (engine.folder / "plugins" / "of_the_engine.py").write_text(PLUGIN)
    engine.write(CONFIG.replace("vars:", 'plugins: ["./${FOLDER}"]\nvars:'))
    engine.environ |= SECRETS
    server = serve()
    for name in SECRETS:
        del engine.environ[name]
    alert = engine.payload(payloads.alert() | {"alert_rule_name": TEAM})
    engine("send", alert, "--to", server.url, "--secret", SECRETS["HOOK_SECRET"])
    settled(engine)
    return engine, server, engine.json("events")["events"][0]["id"]


def test_the_engine_explains_with_the_values_that_it_has(beside: tuple[Command, Server, str]) -> None:
    engine, _server, event = beside
    report = engine.json("explain", "--event", event[:20], "--render")
    assert report["matched"]
    (document,) = report["documents"]
    (route,) = document["routes"]
    assert route["verdict"] == "true"
    assert route["actions"][0]["params"] == {"message": "for ***: ***"}
    assert engine.json("explain", "--event", event, "--route", "ours")["matched"]
    assert "no route is called" in engine("explain", "--event", event, "--route", "oors", expect=2).stderr
    assert "no event starts with" in engine("explain", "--event", "zzzzzzzz", expect=2).stderr


def test_no_value_of_a_secret_leaves_the_engine(beside: tuple[Command, Server, str]) -> None:
    engine, _server, event = beside
    delivery = engine.json("deliveries")["deliveries"][0]["id"]
    for words in (
        ["explain", "--event", event, "--render"],
        ["events", "show", event, "--payload"],
        ["deliveries", "show", delivery],
        ["replay", event, delivery, "--dry-run"],
        ["routes"],
        ["actions"],
        ["actions", "of_the_engine"],
    ):
        for more in ([], ["--json"]):
            shown = engine(*words, *more)
            assert "of_the_engine" in shown.stdout or words[0] in ("deliveries", "replay") or "ours" in shown.stdout
            assert TEAM not in shown.output
            assert SECRETS["HOOK_SECRET"] not in shown.output
            assert "not set" not in shown.output


def test_a_replay_is_previewed_by_the_rules_at_work(beside: tuple[Command, Server, str]) -> None:
    engine, _server, event = beside
    (shown,) = engine.json("replay", event, "--dry-run")["event_previews"]
    assert [one["would"]["would"] for one in shown["deliveries"]] == ["fire", "fire"]
    assert [one["succeeded_before"] for one in shown["deliveries"]] == [True, True]
    assert "2 deliveries would follow" in engine("replay", event, "--dry-run").stdout


def test_an_event_is_explained_by_another_file_that_is_named(beside: tuple[Command, Server, str]) -> None:
    engine, server, event = beside
    other = engine.folder / "other.yaml"
    other.write_text("secrets: none\nroutes:\n  alert: {name: tried, actions: [{log: {message: hi}}]}\n")
    shown = engine("explain", "--event", event, "-c", str(other), "--admin", server.admin)
    assert "alert/tried" in shown.stdout
    assert "by the rules of" in shown.stderr
    (engine.folder / "sub").mkdir()
    renamed = other.rename(engine.folder / "sub" / "config.yaml")  # the same name, but not the same file
    assert "alert/tried" in engine("explain", "--event", event, "-c", str(renamed), "--admin", server.admin).stdout


def test_an_action_that_the_engine_has_not_loaded_is_shown_from_its_file(
    beside: tuple[Command, Server, str],
) -> None:
    engine, _server, _event = beside
    engine.write(engine.config.read_text().replace("filters:", "filtres:"))
    plugins = engine.folder / "plugins"
    (plugins / "late.py").write_text(PLUGIN.replace("OfTheEngine", "Late"))
    engine("reload", expect=1)
    engine.environ["FOLDER"] = "plugins"
    shown = engine("actions", "late")
    assert "- late" in shown.stdout
    assert f"the engine that runs has not loaded late; this is from {plugins / 'late.py'}" in shown.stderr
    assert "did you mean 'of_the_engine'?" in engine("actions", "of_the_engin", expect=2).stderr
    (plugins / "late.py").write_text("import nothing_of_that_name\n")
    assert "late.py:1:1: error: import raised" in engine("actions", "late", expect=2).stderr


COMMANDS = [
    ["events"],
    ["events", "show", "{event}"],
    ["explain", "--event", "{event}"],
    ["deliveries"],
    ["deliveries", "show", "{delivery}"],
    ["replay", "{event}", "--dry-run"],
    ["routes"],
    ["actions"],
    ["mutes"],
    ["mute", "ours", "--for", "1h"],
]


def test_each_command_says_in_one_line_that_the_file_was_refused(beside: tuple[Command, Server, str]) -> None:
    engine, server, event = beside
    delivery = engine.json("deliveries")["deliveries"][0]["id"]
    for words in COMMANDS:
        assert engine(*(word.format(event=event, delivery=delivery) for word in words)).stderr.count("\n") <= 1
    engine.write(engine.config.read_text().replace("filters:", "filtres:"))
    engine("reload", expect=1)
    for words in COMMANDS:
        said = engine(*(word.format(event=event, delivery=delivery) for word in words)).stderr
        lines = [line for line in said.splitlines() if "the engine refused config.yaml (1 problem" in line]
        assert len(lines) == 1, (words, said)
    server.stop()


@pytest.mark.parametrize("command", [["check"], ["config", "show"]])
def test_commands_that_show_the_file_say_what_is_at_work(
    beside: tuple[Command, Server, str], command: list[str]
) -> None:
    engine, server, _event = beside
    engine.environ |= SECRETS
    said = engine(*command).stderr
    assert "in use: " in said
    assert "differs" not in said
    engine.environ["COLOUR"] = "blue"
    said = engine(*command).stderr
    assert ("the file differs" in said) is (command == ["check"])
    server.stop()


def test_the_engine_shows_the_configuration_with_the_variables_that_it_has(
    beside: tuple[Command, Server, str],
) -> None:
    engine, server, _event = beside
    shown = engine("config", "show")
    assert "shown: red" in shown.stdout
    assert "not set" not in shown.output
    in_use = engine.json("config", "show")
    assert in_use["config"]["vars"] == {"shown": "red"}
    assert in_use["hash"] == in_use["in_use"]["hash"]
    assert TEAM not in shown.output
    engine.environ["COLOUR"] = "blue"
    assert "shown: red" in engine("config", "show").stdout
    server.stop()
    del engine.environ["COLOUR"], engine.environ["ENGINE_ADMIN_URL"]
    assert "not set here: " in engine("config", "show").stderr


def test_check_only_names_the_variables_that_the_engine_has(beside: tuple[Command, Server, str]) -> None:
    engine, server, _event = beside
    checked = engine("check")
    assert "is not set" not in checked.stderr
    (named,) = [line for line in checked.stderr.splitlines() if line.startswith("not set here, but where the engine")]
    names = ["COLOUR", "FOLDER", "HOOK_SECRET", "TEAM"]
    assert sorted(named.partition(": ")[2].split(", ")) == names
    assert "good · 1 route" in checked.stdout
    (file,) = engine.json("check", "--strict")["files"]
    assert (file["warnings"], sorted(file["not_set_here"])) == ([], names)
    good = engine.config.read_text()
    engine.write(good.replace("filters:", "filtres:"))
    refused = engine("check", expect=1).stderr
    assert named in refused
    assert "is not set" not in refused
    assert refused.splitlines()[-1] == f"{engine.config}: 1 error"
    engine.write(good.replace("filters:", "filtres:").replace('"for ', '"${NOT_THERE_EITHER} for '))
    refused = engine("check", expect=1).stderr
    assert named in refused
    assert refused.count("is not set") == refused.count("NOT_THERE_EITHER is not set") == 1
    engine.write(good)
    server.stop()
    del engine.environ["ENGINE_ADMIN_URL"]
    alone = engine("check")
    assert "config.yaml:2:11: warning: the environment variable HOOK_SECRET is not set" in alone.stderr
    assert "good, with 4 warnings · 1 route" in alone.stdout
    engine.write(engine.config.read_text().replace("filters:", "filterz:"))
    assert re.search(r"config.yaml:\d+:\d+: error: ", engine("check", expect=1).stderr)


def test_a_webhook_in_a_file_is_explained_by_the_file_and_other_rules_at_work_are_named(
    beside: tuple[Command, Server, str],
) -> None:
    engine, _server, _event = beside
    engine.environ |= SECRETS
    file = engine.payload(payloads.alert() | {"alert_rule_name": TEAM})
    assert "in use" not in engine("explain", file).stderr
    engine.environ["COLOUR"] = "blue"
    shown = engine("explain", file, expect=1)
    assert "in use: " in shown.stderr
    assert "the file differs" in shown.stderr
    engine.write(engine.config.read_text().replace("filters:", "filtres:"))
    said = engine("explain", file, expect=2).stderr
    assert "unknown key 'filtres'" in said
    assert said.count("in use: ") == 1
    assert "the file has 1 problem" in said


def test_an_engine_of_another_directory_than_the_one_that_is_named_is_not_asked(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    assert [one.url for one in Place(config).addresses()] == [access.DEFAULT_ADMIN_URL]
    assert list(Place(config, data=tmp_path / "data").addresses()) == []
    assert [one.url for one in Place(config, "http://a:1", data=tmp_path / "data").addresses()] == ["http://a:1"]


def test_the_command_that_says_why_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    rules = RulesInUse(Path("/my rules/config.yaml"), "1", "2026-05-04T09:30:00.000Z", "refused", 1)
    rules.tell_if_others(Path("config.yaml"))
    assert "engine check -c '/my rules/config.yaml' says why" in " ".join(capsys.readouterr().err.split())


def test_that_the_file_has_changed_is_said_until_it_is_loaded() -> None:
    answer = {"path": "/x/c.yaml", "hash": "1", "loaded_at": "2026-05-04T09:30:00.000Z", "file_is": "changed"}
    rules = RulesInUse.of({"rules": answer | {"problems": 0}})
    assert rules is not None
    assert json.dumps(rules.to_json(None))
    assert rules.file_is == "changed"
    assert RulesInUse.of({"engine": "of an earlier version"}) is None

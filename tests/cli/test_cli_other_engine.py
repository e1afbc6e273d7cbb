"""Commands in a folder whose configuration no engine serves, while another one listens at the default address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.cli.main import cli
from engine.testing import payloads
from tests.cli.conftest import SECRET, Command, Server
from tests.cli.test_cli_serve import settled

OTHER = "secrets: none\nroutes:\n  alert: {name: mine, actions: [{log: {message: hi}}]}\n"
Run = Callable[..., Result]


@pytest.fixture
def elsewhere(
    engine: Command, serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, Server, str, Path]:
    """A command in another folder, the engine at the default address, one of its events, and that folder."""
    server = serve()
    engine("send", engine.payload(payloads.complete()), "--to", server.url, "--secret", SECRET)
    event = settled(engine)[0]["id"]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "config.yaml").write_text(OTHER)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("engine.cli.support.access.DEFAULT_ADMIN_URL", server.admin)

    def run(*args: str, expect: int = 0, **environ: str) -> Result:
        result = CliRunner().invoke(cli, list(args), env={"COLUMNS": "80", **environ})
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    return run, server, event, folder


CHANGES = [
    ["mute", "low-score", "--for", "1m"],
    ["unmute", "low-score"],
    ["replay", "{event}"],
    ["replay", "--dead"],
    ["discard", "{event}"],
    ["destinations", "resume", "log"],
    ["reload"],
]


def test_an_engine_that_was_not_named_is_not_changed(elsewhere: tuple[Run, Server, str, Path], engine: Command) -> None:
    run, server, event, _folder = elsewhere
    for words in CHANGES:
        refused = " ".join(run(*(word.format(event=event) for word in words), expect=2).stderr.split())
        assert f"the engine at {server.admin} serves {engine.config}, and no engine serves config.yaml" in refused
        assert f"to change that engine, add --admin {server.admin}" in refused
    assert engine.json("mutes") == {"mutes": []}
    changes = ("muted", "replayed", "discarded", "resumed", "reloaded")
    assert not [line for line in server.log if any(word in line for word in changes)]


def test_the_advice_works_and_so_does_a_named_address(
    elsewhere: tuple[Run, Server, str, Path], engine: Command
) -> None:
    run, server, _event, _folder = elsewhere
    assert "is muted" in run("mute", "low-score", "--for", "1m", "--admin", server.admin).stderr
    assert engine.json("mutes")["mutes"]
    assert "acts again" in run("unmute", "low-score", ENGINE_ADMIN_URL=server.admin).stderr
    assert "is muted" in run("mute", "low-score", "--for", "1m", "-c", str(engine.config)).stderr
    assert "unnamed.yaml" in run("unmute", "low-score", "-c", "unnamed.yaml", expect=2).stderr


def test_without_a_configuration_an_engine_is_read_and_not_changed(
    elsewhere: tuple[Run, Server, str, Path], engine: Command
) -> None:
    run, server, event, folder = elsewhere
    (folder / "config.yaml").unlink()
    for words in CHANGES:
        refused = " ".join(run(*(word.format(event=event) for word in words), expect=2).stderr.split())
        assert f"the engine at {server.admin} serves {engine.config}, and there is no config.yaml here" in refused
        assert f"to change that engine, add --admin {server.admin}" in refused
    assert engine.json("mutes") == {"mutes": []}
    assert "is muted" in run("mute", "low-score", "--for", "1m", "--admin", server.admin).stderr
    assert event[:18] in run("events").stdout


def test_reading_says_which_engine_answers(elsewhere: tuple[Run, Server, str, Path], engine: Command) -> None:
    run, server, event, _folder = elsewhere
    whose = f"asked the engine at {server.admin}, which serves {engine.config}, not config.yaml"
    for words in (["events"], ["deliveries"], ["mutes"], ["events", "show", event], ["discard", "--dead", "--dry-run"]):
        assert " ".join(run(*words).stderr.split()).startswith(whose)
    explained = run("explain", "--event", event)
    assert " ".join(explained.stderr.split()) == whose
    assert "corrections/low-score" in explained.stdout
    assert "alert/mine" in run("explain", "--event", event, "-c", "config.yaml", "--route", "mine", expect=1).stdout


def test_routes_are_those_of_the_file_where_one_is_here_and_it_says_so(
    elsewhere: tuple[Run, Server, str, Path], engine: Command
) -> None:
    run, server, _event, folder = elsewhere
    own = run("routes")
    assert "mine" in own.stdout
    assert "low-score" not in own.stdout
    said = " ".join(own.stderr.split())
    assert said == (
        f"by config.yaml, which no engine serves; the engine at {server.admin} serves {engine.config} "
        f"(--admin {server.admin} asks it)"
    )
    assert "low-score" in run("routes", "--admin", server.admin).stdout
    (folder / "config.yaml").unlink()
    assert "low-score" in run("routes").stdout


def test_an_engine_known_by_the_name_of_its_file_alone_is_not_changed(
    elsewhere: tuple[Run, Server, str, Path], engine: Command
) -> None:
    """As one in a container, whose path is not on this machine."""
    run, _server, _event, folder = elsewhere
    text = engine.config.read_text()
    engine.config.rename(engine.folder / "moved.yaml")
    assert "to change that engine" in run("mute", "low-score", "--for", "1m", expect=2).stderr
    (folder / "config.yaml").write_text(text)
    assert "is muted" in run("mute", "low-score", "--for", "1m").stderr

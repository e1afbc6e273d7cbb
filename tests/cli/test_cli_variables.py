"""Variables as people meet them: a file beside the configuration, and what is not set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from tests.cli.conftest import Command, Server

CONFIG = """
secrets: ["${HOOK_SECRET}"]
slack: {token: "${SLACK_BOT_TOKEN}"}
vars: {colour: "${COLOUR:-none}"}
routes:
  alert:
    - name: told
      actions:
        - post_to_slack: {channel: "#a", text: "for ${TEAM:-none}, ${TEAM:-none}"}
"""
SECRET = "s3cret-of-the-file"


@pytest.fixture
def written(engine: Command) -> Command:
    engine.write(CONFIG)
    return engine


def env_file(engine: Command, text: str = f"HOOK_SECRET={SECRET}\nSLACK_BOT_TOKEN=xoxb-of-the-file\n") -> None:
    file = engine.folder / ".env"
    file.write_text(text)
    file.chmod(0o600)


def test_check_works_without_any_secret_set(written: Command) -> None:
    answer = written.json("check")
    [file] = answer["files"]
    assert answer["good"]
    assert file["problems"] == []
    assert [remark["message"].split()[3] for remark in file["warnings"]] == ["HOOK_SECRET", "SLACK_BOT_TOKEN"]
    shown = written("check")
    assert "good" in shown.stdout
    assert "engine serve needs them" in shown.stderr
    written("check", "--strict", expect=1)


def test_serve_refuses_what_is_not_set(written: Command) -> None:
    refused = written("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", expect=2)
    assert "the environment variable HOOK_SECRET is not set" in refused.stderr
    assert str(written.folder / ".env") in refused.stderr
    assert "2 errors" in refused.stderr


def test_a_file_beside_the_configuration_sets_them(written: Command) -> None:
    env_file(written)
    assert written.json("check", "--strict")["files"][0]["warnings"] == []
    assert len(written.json("check", "--no-env-file")["files"][0]["warnings"]) == 2
    (written.folder / ".env").rename(written.folder / "prod.env")
    assert len(written.json("check")["files"][0]["warnings"]) == 2
    assert written.json("check", "--strict", "--env-file", str(written.folder / "prod.env"))["good"]
    written.environ["ENGINE_ENV_FILE"] = str(written.folder / "prod.env")
    assert written.json("check", "--strict")["good"]
    assert SECRET not in written("config", "show").output


def test_each_file_that_is_checked_has_the_one_beside_it(written: Command) -> None:
    env_file(written)
    other = written.folder / "other"
    other.mkdir()
    (other / "config.yaml").write_text(CONFIG)
    files = written.json("check", str(written.config), str(other / "config.yaml"))["files"]
    assert [len(file["warnings"]) for file in files] == [0, 2]


@pytest.mark.skipif(os.name == "nt", reason="no modes")
def test_check_warns_of_a_file_that_others_can_read(written: Command) -> None:
    env_file(written)
    (written.folder / ".env").chmod(0o644)
    [remark] = written.json("check")["files"][0]["warnings"]
    assert "others on this machine can read" in remark["message"]
    assert "chmod 600" in remark["hint"]


def test_a_setting_of_the_process_is_refused_in_it(written: Command) -> None:
    env_file(written, "ENGINE_ADMIN_TOKEN=hush\n")
    [problem] = written.json("check", expect=1)["files"][0]["problems"]
    assert "ENGINE_ADMIN_TOKEN cannot be set here" in problem["message"]
    assert "hush" not in json.dumps(problem)
    written("serve", "--listen", "127.0.0.1:0", expect=2)


def test_a_person_without_the_secrets_can_still_explain(written: Command) -> None:
    (written.folder / "alert.json").write_text('{"alert_rule_id": "a", "alert_rule_name": "n"}')
    shown = written("explain", "--kind", "alert")
    assert "SLACK_BOT_TOKEN" in shown.stderr
    written.write(
        CONFIG.replace("      actions", "      filters: [{expr: \"vars.colour == '${OTHER}'\"}]\n      actions")
    )
    refused = written("explain", "--kind", "alert", expect=2)
    assert "the environment variable OTHER is not set" in refused.stderr
    assert "HOOK_SECRET" not in refused.stderr


@pytest.mark.skipif(os.name == "nt", reason="no modes")
def test_serve_names_the_file_and_warns_where_others_can_read_it(
    written: Command, serve: Callable[..., Server]
) -> None:
    env_file(written)
    (written.folder / ".env").chmod(0o644)
    server = serve()
    assert f"variables{written.folder / '.env'}" in "".join("".join(server.out).split())
    server.until(lambda: any("others on this machine can read" in line for line in server.log))
    assert SECRET not in "".join(server.out + server.log)


def test_it_is_read_again_with_the_configuration_and_its_secrets_are_masked(
    written: Command, serve: Callable[..., Server]
) -> None:
    env_file(written)
    server = serve("--log-format", "json")
    [line] = [json.loads(line) for line in server.log if '"serving"' in line]
    assert line["env_file"] == str(written.folder / ".env")
    assert written.json("config", "show", "--live")["config"]["vars"] == {"colour": "none"}
    env_file(written, f"HOOK_SECRET={SECRET}-2\nSLACK_BOT_TOKEN=xoxb-2\nCOLOUR=red\n")
    server.until(lambda: any("configuration reloaded" in line for line in server.log))
    live = written("config", "show", "--live", "--json").stdout
    assert json.loads(live)["config"]["vars"] == {"colour": "red"}
    assert SECRET not in live
    (written.folder / ".env").unlink()
    server.until(lambda: any("HOOK_SECRET is not set" in line for line in server.log))
    assert not written.json("config", "show", "--live")["last_reload"]["good"]
    assert SECRET not in "".join(server.log)

"""Commands beside plug-ins that block, keep threads, raise what ends programs, or have exceptions that raise."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine.action.registry import load_installed
from engine.core.error_text import LONGEST
from engine.core.errors import ConfigError
from engine.rules import load_limit
from tests.cli.conftest import Command, Server

CONFIG = """
secrets: none
plugins: [plugins]
defaults: {retry: {attempts: 1, within: 1m}}
routes:
  "*": {actions: [odd: {}]}
"""
ACTION = """
class Odd(engine.Action):
    async def run(self, params, context):
        return None
"""
VALIDATOR = """
    class Params(engine.Params):
        @pydantic.model_validator(mode="before")
        @classmethod
        def check(cls, data):
            raise SystemExit(0)
"""
THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=False).start()
"""
PAYLOAD = {"rule_id": "r", "runs": [{"id": "1"}]}
COMMANDS = [["check"], ["routes"], ["actions"], ["actions", "odd"], ["explain", "payload.json"]]


def unmarked(text: str) -> str:
    """What a command says, without the mark that ``engine check`` gives its findings."""
    return text.replace(": error: ", ": ")


@pytest.fixture
def odd(engine: Command) -> Command:
    engine.write(CONFIG)
    (engine.folder / "plugins").mkdir()
    (engine.folder / "payload.json").write_text(json.dumps(PAYLOAD))
    return engine


def plugin(command: Command, text: str) -> str:
    file = command.folder / "plugins" / "odd.py"
    file.write_text("import engine\n" + text)
    return str(file)


def run(command: Command, *args: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from engine.cli.main import main; main()", *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=29,
        cwd=command.folder,
        env=os.environ | command.environ,
    )


def with_payload(command: Command, args: list[str]) -> list[str]:
    return [str(command.folder / one) if one.endswith(".json") else one for one in args]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_plug_in_that_blocks_at_import_is_named_by_every_command(
    odd: Command, args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_limit, "LONGEST_IN_COMMAND", 0.5)
    file = plugin(odd, f"import time\nwhile True:\n    time.sleep(0.1)\n{ACTION}")
    result = odd(*with_payload(odd, args), expect=1 if args == ["check"] else 2)
    assert f"{file}:4:1: the plug-in blocks here: loading has not ended within 0.5 s" in unmarked(result.stderr)
    assert "a plug-in must not wait or work while it is imported" in result.stderr


@pytest.mark.parametrize("args", [["check"], ["actions"], ["actions", "odd"]], ids=" ".join)
def test_a_plug_in_that_blocks_when_it_is_asked_is_named_too(
    odd: Command, args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_limit, "LONGEST_IN_COMMAND", 0.5)
    file = plugin(odd, f"import time\n{ACTION}\n    def lacks(self):\n        while True: time.sleep(0.1)\n")
    result = odd(*args, expect=1 if args == ["check"] else 2)
    assert f"{file}:9:1: the plug-in blocks here" in unmarked(result.stderr)


def test_a_plug_in_that_blocks_when_it_is_to_show_what_it_would_send_is_named(
    odd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_limit, "LONGEST_IN_COMMAND", 0.5)
    text = "    def outline(self, params, payload):\n        while True: time.sleep(0.1)\n"
    file = plugin(odd, f"import time\n{ACTION}\n{text}")
    result = odd("explain", str(odd.folder / "payload.json"), "--render", expect=2)
    assert f"{file}:9:1: the plug-in blocks here" in unmarked(result.stderr)


@pytest.mark.parametrize("raised", ["ValueError('x')", "type('E', (Exception,), {'__str__': lambda s: 1 / 0})()"])
def test_what_a_plug_in_raises_when_it_is_to_show_what_it_would_send_is_shown(odd: Command, raised: str) -> None:
    plugin(odd, f"{ACTION}\n    def outline(self, params, payload):\n        raise {raised}\n")
    told = odd.json("explain", str(odd.folder / "payload.json"), "--render")
    (action,) = told["documents"][0]["routes"][0]["actions"]
    assert action["would"] == "fire"
    assert action["error"].startswith("cannot be shown: ")


def test_explaining_may_take_longer_than_loading_where_no_plug_in_blocks(
    odd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_limit, "LONGEST_IN_COMMAND", 0.05)
    assert load_limit.run_bounded(lambda: time.sleep(0.2) or 3, odd.config, lambda: ()) == 3


def test_an_installed_package_that_blocks_at_import_is_named(
    odd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_limit, "LONGEST_IN_COMMAND", 0.5)
    (tmp_path / "blocks_at_import.py").write_text("import time\nwhile True: time.sleep(0.1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("odd", "blocks_at_import:Odd", "g")
    with pytest.raises(
        ConfigError, match=r"blocks_at_import:Odd blocks at import: loading has not ended within 0\.5 s"
    ):
        load_limit.run_bounded(lambda: load_installed([entry]), odd.config, lambda: ())


def test_what_would_end_the_program_ends_a_piece_of_work_only(odd: Command) -> None:
    def leave() -> None:
        sys.exit(0)

    with pytest.raises(RuntimeError, match="it raised SystemExit: 0"):
        load_limit.run_bounded(leave, odd.config, lambda: ())


@pytest.mark.slow
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_thread_of_a_plug_in_does_not_keep_a_command_from_ending(odd: Command, args: list[str]) -> None:
    plugin(
        odd, f"import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=False).start()\n{ACTION}"
    )
    result = run(odd, *args)
    assert result.returncode == 0, result.stderr
    assert "odd" in result.stdout or args == ["check"]
    assert "good" in result.stdout or args != ["check"]


@pytest.mark.slow
def test_a_plug_in_that_blocks_does_not_keep_the_process_from_ending(odd: Command) -> None:
    plugin(odd, "import time, engine.rules.load_limit\nwhile True: time.sleep(0.1)\n")
    odd.environ["PYTHONPATH"] = str(odd.folder)
    (odd.folder / "sitecustomize.py").write_text(
        "import engine.rules.load_limit\nengine.rules.load_limit.LONGEST_IN_COMMAND = 1.0\n"
    )
    result = run(odd, "check")
    assert result.returncode == 1
    assert "plugins/odd.py:3:1: error: the plug-in blocks here" in result.stderr


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        ("BaseException('x')", "BaseException: x"),
        ("SystemExit(0)", "SystemExit: 0"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("GeneratorExit('x')", "GeneratorExit: x"),
        ("type('E', (Exception,), {'__str__': lambda s: 1 / 0})()", "__str__ raised ZeroDivisionError"),
        ("type('E', (BaseException,), {'__str__': lambda s: exit(0)})()", "__str__ raised SystemExit"),
        ("type('E', (SyntaxError,), {'__str__': lambda s: 1 / 0})()", "__str__ raised ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("args", [["check"], ["actions"]], ids=" ".join)
def test_whatever_is_raised_at_import_the_plug_in_is_named(
    odd: Command, args: list[str], raised: str, words: str
) -> None:
    file = plugin(odd, f"raise {raised}\n")
    result = odd(*args, expect=1 if args == ["check"] else 0)
    assert f"{file}:2:1" in result.stderr
    assert "import raised " in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("    def __init__(self):\n        raise BaseException('x')", "Odd() raised BaseException: x"),
        ("    needs = 7", "Odd.needs is 7, not a set of texts"),
        ("    def requires(self, params):\n        raise SystemExit(0)", "odd.requires raised SystemExit: 0"),
        (VALIDATOR, "odd.Params raised SystemExit: 0"),
    ],
)
def test_whatever_a_plug_in_raises_while_it_is_checked_it_is_named(odd: Command, text: str, words: str) -> None:
    plugin(odd, f"import pydantic\n{ACTION}\n{text}\n")
    assert words in odd("check", expect=1).stderr


def test_an_exception_of_a_plug_ins_lacks_is_a_warning(odd: Command) -> None:
    plugin(odd, f"{ACTION}\n    def lacks(self):\n        raise SystemExit(0)\n")
    assert "odd.lacks raised SystemExit: 0" in odd("check").stderr
    assert "SystemExit: 0" in odd("actions").stdout


# --- a server --------------------------------------------------------------------------------------------------------


def post(server: Server, query: str = "") -> None:
    request = urllib.request.Request(f"{server.url}/webhooks/langsmith{query}", json.dumps(PAYLOAD).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202


def said(server: Server, message: str) -> dict:
    server.until(lambda: any(f'"{message}"' in line for line in server.log))
    return next(json.loads(line) for line in server.log if f'"{message}"' in line)


@pytest.mark.slow
def test_a_server_stops_although_a_plug_in_has_a_thread(odd: Command) -> None:
    plugin(
        odd, f"import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=False).start()\n{ACTION}"
    )
    server = Server(odd, "--log-format", "json")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(29) == 0


@pytest.mark.slow
def test_a_server_that_is_ended_by_a_fault_exits_with_1_and_says_so(odd: Command) -> None:
    plugin(
        odd,
        "import sys\nfrom engine.worker.observer import LogObserver\n"
        f"LogObserver.accepted = lambda *_: sys.exit(0)\n{ACTION}",
    )
    server = Server(odd, "--log-format", "json")
    with contextlib.suppress(OSError):  # it ended before it answered
        post(server)
    assert server.process.wait(29) == 1
    line = said(server, "the engine ended by a fault: start it again, and report this")
    assert line["level"] == "critical"
    assert line["traceback"].endswith("SystemExit: 0")


@pytest.mark.slow
def test_an_exception_that_cannot_be_shown_ends_nothing(odd: Command) -> None:
    text = "class E(Exception):\n    def __str__(self): raise SystemExit(0)\n    __repr__ = __str__\n"
    plugin(odd, text + ACTION.replace("return None", "raise E from E()"))
    server = Server(odd, "--log-format", "json")
    post(server)
    line = said(server, "delivery dead")
    assert line["reason"] == "E: (its text cannot be shown: __str__ raised SystemExit) (plugins/odd.py:8)"
    assert "raise E from E()" in line["traceback"]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(29) == 0


@pytest.mark.slow
def test_long_exceptions_are_cut_and_what_threads_raise_is_logged_and_masked(odd: Command) -> None:
    odd.write(CONFIG.replace("secrets: none", 'secrets: ["a-long-secret-of-ours"]'))
    thread = 'threading.Thread(target=lambda: int("a-long-secret-of-ours"), name="own").start()'
    raising = ACTION.replace("return None", f"{thread}\n        raise ValueError('x' * 1_000_000)")
    plugin(odd, f"import threading\n{raising}")
    server = Server(odd, "--log-format", "json")
    post(server, "?secret=a-long-secret-of-ours")
    line = said(server, "delivery dead")
    assert line["reason"] == f"ValueError: {'x' * (LONGEST - 1)}… (plugins/odd.py:7)"
    assert line["traceback"].endswith("xxx…")
    assert len(line["traceback"]) < 2 * LONGEST
    line = said(server, "the thread own ended by an exception")
    assert line["traceback"].endswith("invalid literal for int() with base 10: '***'")
    assert not any("a-long-secret" in one for one in server.log)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(29) == 0


LEAKY = """
import logging, os
logging.getLogger("theirs").warning("loaded with %s", os.environ["ODD_TOKEN"])
raise ValueError(os.environ["ODD_TOKEN"])
"""


@pytest.mark.parametrize(
    ("action", "where"),
    [("odd: {}", "odd.py:5:1: error: import raised"), ("log: {message: hi}", "odd.py:5:1: import raised")],
)
def test_a_start_that_fails_prints_no_secret(odd: Command, action: str, where: str) -> None:
    """Neither what was logged until then, nor in the problems."""
    plugin(odd, LEAKY)
    odd.write(CONFIG.replace("odd: {}", action) + 'langsmith: {api_key: "${ODD_TOKEN}"}\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "engine", "serve", "--listen", listen, "--admin", "127.0.0.1:0"],
            env={**os.environ, **odd.environ, "ODD_TOKEN": "hunter2hunter2"},
            cwd=odd.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert "theirs: loaded with ***\n" in done.stderr
    assert f"{where} ValueError: ***\n" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("action", ["odd: {}", "log: {message: hi}"])
def test_check_quotes_no_secret(odd: Command, action: str) -> None:
    plugin(odd, 'import os\nraise ValueError(os.environ["ODD_TOKEN"])\n')
    odd.write(CONFIG.replace("odd: {}", action) + 'langsmith: {api_key: "${ODD_TOKEN}"}\n')
    odd.environ["ODD_TOKEN"] = "hunter2hunter2"
    result = odd("check", expect=int(action == "odd: {}"))
    assert "import raised ValueError: ***" in result.output
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("line", "message", "caret"),
    [
        ("x = (1 +", "4:5: error: syntax error: '(' was never closed", "    x = (1 +\n        ^\n"),
        ("import not_there_at_all", "4:1: error: import raised ModuleNotFoundError: No module", "    import not_there"),
        ("raise ValueError('no')", "4:1: error: import raised ValueError: no", "    raise ValueError('no')\n    ^\n"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_shown_in_its_file_and_then_where_it_is_used(
    odd: Command, monkeypatch: pytest.MonkeyPatch, line: str, message: str, caret: str
) -> None:
    monkeypatch.chdir(odd.folder)
    plugin(odd, ACTION)
    file = odd.folder / "plugins" / "odd.py"
    file.write_text(f"\n\n\n{line}\n{file.read_text()}")
    odd.write(CONFIG + "  unmatched: {actions: [odd: {}]}\n")
    odd.environ["ENGINE_CONFIG"] = "config.yaml"
    for command in ("check", "serve"):
        shown = odd(command, expect=1 if command == "check" else 2).output
        assert f"{Path('plugins/odd.py')}:{message}" in shown
        assert caret in shown
        assert "action 'odd' is used at config.yaml:6:19, config.yaml:7:25" in shown
        assert shown.count("plugins/odd.py:4") == 1
        assert "- odd" not in shown
        assert "as soon as it is saved" not in shown
    for words in (["actions", "odd"], ["actions", "odd", "--json"]):
        assert message in odd(*words, expect=2).stderr


def test_an_action_is_documented_while_the_configuration_is_refused(odd: Command) -> None:
    plugin(odd, ACTION)
    odd.write(CONFIG.replace("actions:", "actoins:"))
    assert "- odd" in odd("actions", "odd").stdout
    odd.write(CONFIG + "\t- [")
    refused = odd("actions", "odd", expect=2).stderr
    assert "is not valid YAML, so its plug-in folders are not known" in refused
    assert "unknown action 'odd'" in refused

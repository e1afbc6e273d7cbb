"""What people read fits their terminal: no word is broken, nothing is cut, and a pipe gets plain text."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.cli.main import COMMANDS, cli
from engine.cli.support.tables import Pairs, Table
from engine.cli.support.terminal import SafeConsole
from engine.core.terminal_text import CONTROLS
from engine.testing import payloads
from tests.cli.conftest import Command, Server

#: What stands beside words and is laid out anew on each width: the guides of trees, the line below a table's head.
_LINES = re.compile("[│├└─]+")
_REASON = (
    "the field `correction.category` is not one of billing, technical, account, other; see "
    "https://hooks.example.com/docs/corrections/errors/unknown-category-of-a-correction"
)
_CONFIG = f"""
secrets: none
defaults: {{retry: {{attempts: 1, within: 1m}}}}
rules:
  production-customer-corrections: {payloads.RULE_ID}
routes:
  production-customer-corrections:
    - name: low-scores-of-the-classifier-in-production-for-the-on-call-engineer
      filters:
        - {{path: "$.runs[*].status", eq: success}}
        - any:
            - {{path: "$.runs[*].name", in: [interrupted, cancelled, timed-out, rate-limited, out-of-memory, unknown]}}
            - {{path: "$.runs[*].name", matches: "^(ticket|invoice)-(classifier|extractor)-v[0-9]+$"}}
            - {{path: "$.runs[*].name", exists: true}}
      actions:
        - log:
            message: >-
              *{{{{ run.name }}}}* scored badly on a question about which the reviewer wrote that it should have been
              classified in another way, see {{{{ run.url }}}} for the whole run with all that belongs to it.
        - forward_webhook: {{url: "SINK/hook", body: {{text: a text of several words that takes more than one line}}}}
    - name: errors
      actions: [log: {{message: "{{{{ run.name }}}}"}}]
  unmatched:
    - actions: [log: {{message: m}}]
"""


def words(text: str) -> list[str]:
    return sorted(_LINES.sub(" ", text).split())


def fits(text: str, width: int) -> None:
    """No line is longer than the terminal, unless it is a single word, perhaps behind the name of what it is."""
    for line in text.splitlines():
        name, _, word = line.partition(" ")
        assert cell_len(line) <= width or len(words(line)) == 1 or (name and len(words(word)) == 1), line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, dict[str, str]]]:
    """A server with a delivery that is dead for a long reason, and what is known of it."""

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(422)
            self.end_headers()
            self.wfile.write(_REASON.encode())

        def log_message(self, *_: Any) -> None:
            return

    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    command = Command(tmp_path_factory.mktemp("widths"))
    command.write(_CONFIG.replace("SINK", f"http://127.0.0.1:{sink.server_port}"))
    server = Server(command)
    command.environ["ENGINE_ADMIN_URL"] = server.admin
    try:
        yield command, _known(command, server.url)
    finally:
        server.stop()
        sink.shutdown()


def _known(command: Command, url: str) -> dict[str, str]:
    """Events, deliveries and a mute; what is known of them."""
    file = command.payload(payloads.rule([payloads.run(), payloads.run(status="error")]))
    sent = command.json("send", file, "--to", url)
    command("send", "--kind", "alert", "--to", url)
    deadline = time.monotonic() + 30
    while not (dead := command.json("deliveries", "--dead")["deliveries"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while command.json("deliveries", "--state", "due")["deliveries"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    why = "the provider has an outage and everything fails; we know about it and wait for them"
    command("mute", "errors", "--for", "1h", "--reason", why)
    return {"event": sent["event"], "delivery": dead[0]["id"], "file": file, "url": url}


_COMMANDS = [
    "check",
    "explain {file}",
    "explain {file} --render",
    "explain --event {event}",
    "events",
    "events show {event}",
    "deliveries",
    "deliveries --dead",
    "deliveries show {delivery}",
    "destinations",
    "replay --dead --dry-run",
    "discard --dead --dry-run",
    "mutes",
    "routes",
    "actions",
    "actions post_to_slack",
    "actions forward_webhook",
    "send {file} --to {url}",
]


@pytest.mark.parametrize("line", _COMMANDS)
def test_no_word_is_broken_or_lost_on_any_width(place: tuple[Command, dict[str, str]], line: str) -> None:
    command, known = place
    args = [part.format(**known) for part in line.split()]
    whole = re.sub(r"\b\d+m?s\b", "", _output(command, args, ""))
    assert not CONTROLS.search(whole)
    for width in (120, 80, 40):
        shown = re.sub(r"\b\d+m?s\b", "", _output(command, args, str(width)))
        assert words(shown) == words(whole)
        fits(shown, width)


def _output(command: Command, args: list[str], columns: str) -> str:
    return CliRunner().invoke(cli, args, env=command.environ | {"COLUMNS": columns}).output


@pytest.mark.parametrize(
    "line", ["deliveries", "deliveries --dead", "deliveries show {delivery}", "events show {event}"]
)
def test_the_reason_of_a_dead_delivery_is_whole(place: tuple[Command, dict[str, str]], line: str) -> None:
    command, known = place
    args = [part.format(**known) for part in line.split()]
    assert f"HTTP 422: {_REASON}\n" in _output(command, args, "")
    assert f"HTTP 422: {_REASON}" in " ".join(_output(command, args, "80").split())


def test_json_that_is_shown_to_people_is_whole_in_a_pipe(place: tuple[Command, dict[str, str]]) -> None:
    command, known = place
    shown = _output(command, ["explain", known["file"], "--render", "--run", "0"], "")
    assert '"text": "a text of several words that takes more than one line"\n' in shown


# --- configurations with mistakes ------------------------------------------------------------------------------------

_LONG = "and more text that makes this line a good deal longer than a terminal of 80 columns"
_MISTAKES = f"""
secrets: none
routes:
  "*":
    - name: all
      filters:
        - {{path: "$.runs[*].outputs.日本語の長いキーはここにあります.分類.とても長い", equalz: "x", also: "{_LONG}"}}
      actions:
        - log: {{message: "{{{{ run.name | uper }}}} {_LONG}: {{{{ run.foo | nope }}}}"}}
        - log: {{message: "{{{{ nothing_of_this_name }}}}"}}
"""


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_caret_stands_below_its_character_on_any_width(engine: Command, width: int) -> None:
    engine.write(_MISTAKES)
    engine.environ["COLUMNS"] = str(width)
    lines = engine("check", expect=1).stderr.splitlines()
    to_copy = re.compile(r""" *(\{.*\}|".*"|'.*')\S*""")
    assert all(cell_len(line) <= width for line in lines if " " in line.strip() and not to_copy.fullmatch(line))
    carets = [number for number, line in enumerate(lines) if line.strip() == "^"]
    found = [_at(lines[number - 1], len(lines[number]) - 1) for number in carets]
    expected = ["equalz", "uper", "nope", "nothing_of_this_name"]
    assert [any(one.startswith(word[:8]) for one in found) for word in expected] == [True] * 4


def _at(line: str, cells: int) -> str:
    """What stands on a line from so many cells on."""
    return next(line[end:] for end in range(len(line) + 1) if cell_len(line[:end]) >= cells)


# --- help ------------------------------------------------------------------------------------------------------------


def _all_commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from _all_commands(below, (*path, name))


def test_help_fits_80_columns_and_is_cut_nowhere() -> None:
    paths = list(_all_commands(cli))
    assert len(paths) > len(COMMANDS)
    for path in paths:
        shown = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).output
        assert all(len(line) <= 80 for line in shown.splitlines()), shown
        assert not re.search(r"\w\.\.\.$", shown, re.MULTILINE), shown


# --- tables ----------------------------------------------------------------------------------------------------------

_CELLS = st.lists(st.tuples(*[st.lists(st.text("abc-", min_size=1, max_size=25), max_size=9).map(" ".join)] * 4))


@given(_CELLS, st.integers(30, 140))
def test_a_table_holds_every_word_on_any_width(rows: list[tuple[str, ...]], width: int) -> None:
    made = Table("FIRST", "SECOND>", "THIRD*", "FOURTH*")
    for row in rows:
        made.add_row(*row)
    shown = _printed(made, width)
    assert words(shown) == sorted(" ".join(["FIRST SECOND THIRD FOURTH", *map(" ".join, rows)]).split())
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_columns_without_space_continue_on_the_next_line() -> None:
    made = Table("ID", "RULE*", "STATE", "COUNT>")
    made.add_row("01a22ed9-980b-71cc", "a rule of several words, in short", "routed\nbecause", "1")
    made.add_row("01a22ed9-9670-7a8b", "b", "", "12")
    assert _printed(made, 80).splitlines() == [
        "ID                  STATE   COUNT  RULE",
        "────────────────────────────────────────────────────────────────────",
        "01a22ed9-980b-71cc  routed      1  a rule of several words, in short",
        "  because",
        "01a22ed9-9670-7a8b             12  b",
    ]
    assert _printed(made, 30).splitlines() == [
        "ID                  STATE",
        "  COUNT  RULE",
        "─────────────────────────────",
        "01a22ed9-980b-71cc  routed",
        "      1",
        "  a rule of several words, in",
        "  short",
        "  because",
        "01a22ed9-9670-7a8b",
        "     12  b",
    ]


def test_values_of_pairs_begin_below_each_other() -> None:
    shown = _printed(Pairs([("id", "1"), ("because", "of this and of that"), ("none", None), ("empty", "")]), 34)
    assert shown.splitlines() == ["id       1", "because  of this and of that"]
    assert _printed(Pairs([("because", "of this, and of that too")]), 33).splitlines() == [
        "because  of this, and of that too"
    ]
    assert _printed(Pairs([("because", f"of this, and {'x' * 30} and of that")]), 34).splitlines() == [
        "because  of this, and",
        f"         {'x' * 30}",
        "         and of that",
    ]


def _printed(what: Any, width: int) -> str:
    console = SafeConsole(width=width, highlight=False, emoji=False, markup=False)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


# --- terminals and pipes ---------------------------------------------------------------------------------------------

_RUN = [sys.executable, "-c", "from engine.cli.main import main; main()"]


def _on_terminal(folder: Path, columns: int, *args: str, run: list[str] = _RUN, **environ: str) -> str:
    """What a real terminal gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*run, *args], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=given | {"TERM": "xterm"} | environ
    )
    os.close(theirs)
    read = b""
    with contextlib.suppress(OSError):  # it has been closed
        while piece := os.read(ours, 65536):
            read += piece
    os.close(ours)
    process.wait(20)
    return read.decode()


def test_a_terminal_gets_its_own_width_and_colours_if_it_has_any(tmp_path: Path) -> None:
    for columns in (80, 120, 40):
        shown = _on_terminal(tmp_path, columns, "actions")
        assert "\x1b[1m" in shown
        assert all(cell_len(re.sub(r"\x1b\[[\d;]*m", "", line)) <= columns for line in shown.splitlines())
    assert "\x1b[3" not in _on_terminal(tmp_path, 80, "actions", NO_COLOR="1")
    assert "\x1b" not in _on_terminal(tmp_path, 80, "actions", TERM="dumb")


def test_log_lines_fit_the_terminal_and_are_whole_elsewhere(engine: Command) -> None:
    code = (
        "import logging, sys; from engine.core.masking import Masker;"
        "from engine.cli.support.log_lines import formatter_for_standard_error;"
        "line = logging.makeLogRecord({'name': 'engine', 'msg': 'delivery dead', 'levelname': 'ERROR',"
        " 'reason': 'a b c ' * 20, 'destination': 'x' * 100});"
        "print(formatter_for_standard_error('text', Masker).format(line), file=sys.stderr)"
    )
    first, *more = _on_terminal(engine.folder, 60, run=[sys.executable, "-c", code]).split("\r\n")[:-1]
    assert " ERROR   delivery dead  reason=" in first
    assert all(line.startswith("    ") for line in more)
    assert all(len(line) <= 60 or " " not in line.strip() for line in (first, *more))
    assert f"destination={'x' * 100}" in more[-1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1


def test_a_problem_in_the_log_is_cut_above_its_caret_and_its_advice_is_whole(engine: Command) -> None:
    line = f"        - post_to_slack: {{channel: '#a', text: {{{{ run.name }}}} {_LONG}}}"
    engine.write(f"secrets: none\nroutes:\n  '*':\n    - name: a\n      actions:\n{line}\n")
    code = (
        "import logging, sys; from pathlib import Path; from engine.config import read_config;"
        "from engine.core.errors import ConfigError; from engine.core.masking import Masker;"
        "from engine.cli.support.log_lines import formatter_for_standard_error\n"
        "try: read_config(Path(sys.argv[1]))\n"
        "except ConfigError as error: said = f'configuration refused\\n{error}'\n"
        "record = logging.makeLogRecord({'name': 'engine', 'msg': said, 'levelname': 'ERROR'})\n"
        "print(formatter_for_standard_error('text', Masker).format(record), file=sys.stderr)"
    )
    shown = _on_terminal(engine.folder, 80, run=[sys.executable, "-c", code, str(engine.config)]).split("\r\n")[:-1]
    (caret,) = (number for number, line in enumerate(shown) if line.strip() == "^")
    assert shown[caret - 1][len(shown[caret]) - 1 :].startswith("{{ run.name }}")
    assert cell_len(shown[caret - 1]) <= 80
    advice = next(after for line, after in pairwise(shown) if line.strip() == "the line should read:")
    assert yaml.safe_load(advice) == [{"post_to_slack": {"channel": "#a", "text": f"{{{{ run.name }}}} {_LONG}"}}]


@pytest.mark.parametrize(
    "line", ["actions", "actions --json", "--help", "check", "explain --kind rule", "routes", "config show"]
)
def test_output_without_a_reader_ends_quietly(engine: Command, line: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*_RUN, *line.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"} | engine.environ,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr
    assert done.returncode in (0, 1)

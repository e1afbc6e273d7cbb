"""No command sends to a terminal what an event, a file's name or an answer holds of control characters."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Span, Text

from engine.cli.demo.narrator import Arrival, Sent, ToPeople, ToPrograms
from engine.cli.main import cli
from engine.cli.support.output import emit, out, print_error, say
from engine.cli.support.tables import Pairs, Table
from engine.cli.support.terminal import visible_text
from engine.core.errors import ConfigError, EngineError, Problem
from engine.core.terminal_text import CONTROLS, visible
from engine.testing import payloads
from tests.cli.conftest import Command, Server

#: Every character that must not come out, and what a terminal would make of some.
EVIL = "".join(
    map(chr, (*range(1, 9), *range(11, 32), *range(127, 160), 0x61C, 0x200E, *range(0x2028, 0x202F), 0x2066))
)
EVIL = f"<{EVIL}\x1b[2J\x1b]0;title\x07\x1b[8m\x9b31m>"
#: The styles that commands themselves send.
OWN = re.compile(r"\x1b\[[\d;]*m")
#: What a progress bar sends besides: cursor off and on, back to the line's start, the line erased, one up.
PROGRESS = re.compile(r"\x1b\[\?25[lh]|\r?\x1b\[2K|\r\x1b\[1A")
ANY = st.text(st.characters(exclude_categories=()))


def harmless(text: str) -> None:
    """Nothing in it steers a terminal."""
    found = CONTROLS.search(text)
    assert found is None, text[max(found.start() - 200, 0) : found.start() + 50]


@pytest.fixture
def styled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")


# --- every command ---------------------------------------------------------------------------------------------------

CONFIG = """
secrets: none
plugins: [plugins]
defaults: {retry: {attempts: 2, min: 5s, max: 5s, within: 1h}}
routes:
  "*":
    - name: all
      filters:
        - {path: "$.runs[*].name", exists: true}
      actions:
        - log: {message: "{{ run.name }}", fields: {tags: "{{ run.tags }}"}}
        - forward_webhook: {url: "SINK/{{ run.id | urlencode }}", headers: {X-Name: "{{ run.id | urlencode }}"}}
          retry: {attempts: 1}
        - odd: {name: "{{ run.name }}"}
        - name: gathered
          log: {message: "{{ items | length }}"}
          digest: {every: 1h, by: "{{ run.name }}"}
        - name: broken
          log: {message: "{{ run.name | fromjson }}"}
    - name: none
      filters:
        - any:
          - {path: "$.runs[*].name", starts_with: x}
          - {path: "$.runs[*].tags[*]", eq: x}
          - {expr: "run.error > 3"}
      actions: [log: {message: m}]
"""
PLUGIN = """
import engine

class Odd(engine.Action):
    \"\"\"Odd EVIL\"\"\"
    class Params(engine.Params):
        name: str = engine_evil

    def destination(self, params):
        return params.name

    def lacks(self):
        return engine_evil

    async def run(self, params, context):
        raise ValueError(params.name)
"""


class Sink(http.server.BaseHTTPRequestHandler):
    """Answers with an error that is full of it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404)
        self.end_headers()
        self.wfile.write(EVIL.encode())

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, dict[str, Any]]]:
    """A server with an event of which every text is hostile, and what is known of it."""
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    command = Command(tmp_path_factory.mktemp("evil"))
    command.write(CONFIG.replace("SINK", f"http://127.0.0.1:{sink.server_port}"))
    plugins = command.folder / "plugins"
    plugins.mkdir()
    evil = f"engine_evil = {EVIL!r}\n"
    (plugins / "odd.py").write_text(evil + PLUGIN.replace("EVIL", repr(EVIL)[1:-1]))
    (plugins / "od\x1b[2J\u202ed\x9b.py").write_text("raise ValueError('\\x1b[2J')\n")
    run = payloads.run(id=EVIL, name=EVIL, error=EVIL, tags=[EVIL], status=EVIL, inputs={EVIL: EVIL}, outputs=EVIL)
    body = payloads.rule([run], rule_id=f"rule{EVIL}")
    file = command.payload(body)
    server = Server(command, "--log-format", "json")
    command.environ["ENGINE_ADMIN_URL"] = server.admin
    sent = command.json("send", file, "--to", f"{server.url}/webhooks/langsmith")
    known = {"event": sent["attempts"][0]["answer"]["event"] if "attempts" in sent else "", "file": file}
    known |= {"url": f"{server.url}/webhooks/langsmith"}
    deadline = time.monotonic() + 30
    while True:
        rows = command.json("deliveries")["deliveries"]
        if len(rows) == 5 and all(row["reason"] or row["state"] == "succeeded" or row["item_count"] for row in rows):
            break
        assert time.monotonic() < deadline, rows
        time.sleep(0.1)
    known |= {"event": rows[0]["event_id"]} | {row["action"]: row["id"] for row in rows}
    yield command, known
    assert server.stop() == 0
    assert not any(CONTROLS.search(line) for line in server.log)
    sink.shutdown()


COMMANDS = [
    ["explain", "{file}"],
    ["explain", "{file}", "--render"],
    ["explain", "--event", "{event}", "--render"],
    ["explain", "--event", "{event}", "--route", "none", "--run", "0"],
    ["explain", "--event", "{event}", "--route", EVIL],
    ["events"],
    ["events", "--error", EVIL],
    ["events", "show", "{event}"],
    ["events", "show", EVIL],
    ["deliveries"],
    ["deliveries", "--dead"],
    ["deliveries", "--route", EVIL],
    ["deliveries", "show", "{log}"],
    ["deliveries", "show", "{forward_webhook}"],
    ["deliveries", "show", "{odd}"],
    ["deliveries", "show", "{gathered}"],
    ["deliveries", "show", "{broken}"],
    ["deliveries", "show", EVIL],
    ["replay", "--dry-run", "{event}"],
    ["replay", "--dry-run", "{log}", "{odd}", "{forward_webhook}"],
    ["replay", "--dry-run", "--dead"],
    ["replay", "--dry-run", "--error", EVIL],
    ["destinations"],
    ["destinations", "resume", EVIL],
    ["mute", "*/none", "--for", "1h", "--reason", EVIL],
    ["mutes"],
    ["unmute", "*/none"],
    ["mute", EVIL],
    ["mute", "*/none", "--for", EVIL],
    ["routes"],
    ["actions"],
    ["actions", "odd"],
    ["actions", "od\x1b[2J\u202ed\x9b"],
    ["actions", EVIL],
    ["check"],
    ["check", f"{EVIL}.yaml"],
    ["config", "show"],
    ["config", "show", "--live"],
    ["reload"],
    ["send", "{file}", "--to", "{url}"],
    ["send", "{file}", "--to", "{url}", "--count", "2", "--fresh"],
    ["send", "{file}", "--to", f"http://127.0.0.1:9/{EVIL}"],
    ["send", f"{EVIL}.json"],
    ["send", "{file}", "--to", "{url}", "-H", EVIL],
    [EVIL],
    ["events", f"--{EVIL}"],
    ["--" + EVIL],
]


@pytest.mark.slow
@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: " ".join(args).encode("unicode_escape").decode()[:60])
@pytest.mark.parametrize("form", ["plain", "styled", "json"])
def test_no_command_prints_a_control_character(
    place: tuple[Command, dict[str, Any]], args: list[str], form: str
) -> None:
    command, known = place
    filled = [re.sub(r"^\{(\w+)\}$", lambda found: known[found[1]], arg) for arg in args]
    environ = command.environ | ({"FORCE_COLOR": "1"} if form == "styled" else {})
    result = CliRunner().invoke(cli, [*filled, *(["--json"] if form == "json" else [])], env=environ)
    assert result.exit_code in (0, 1, 2), result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if form == "styled":
        assert "\x1b[8m" not in result.output
        unstyled = OWN.sub("", result.output)
        harmless(PROGRESS.sub("", unstyled) if "--count" in args else unstyled)
    else:
        harmless(result.output)


@pytest.mark.slow
def test_what_is_shown_is_there_and_visible(place: tuple[Command, dict[str, Any]]) -> None:
    command, known = place
    shown = command("explain", "--event", known["event"]).stdout
    assert r"\x1b[2J" in shown
    assert r"\u202e" in shown
    told = command.json("events", "show", known["event"])
    assert told["payload"]["runs"][0]["name"] == EVIL


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_printed_webhook_is_whole_in_a_pipe_and_harmless_on_a_terminal(
    place: tuple[Command, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, known = place
    with open(known["file"], "rb") as file:  # noqa: PTH123
        body = file.read()
    assert json.loads(command("send", known["file"], "--print").stdout_bytes) == json.loads(body)
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, contextlib.suppress(SystemExit):
        monkeypatch.setattr(sys, "stdout", terminal)
        cli(["send", known["file"], "--print"])
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    text = shown.decode().replace("\r\n", "\n")
    harmless(text)
    assert json.loads(text) == json.loads(body)


# --- the pieces they are made of -------------------------------------------------------------------------------------


@given(ANY)
def test_whatever_a_text_holds_what_is_printed_is_harmless(text: str) -> None:
    with CliRunner().isolation() as (stdout, stderr, _):
        console = out()
        console.print(Text.assemble((text, "bold"), " and ", text), soft_wrap=True)
        console.print(text)
        console.print(Pairs([(text, text), ("b", Text(text))]))
        rows = Table("A", "B*")
        rows.add_row(text, Text(text, style="red"))
        console.print(rows)
        say(text)
        print_error(EngineError(text))
        print_error(ConfigError([Problem(text, 1, 2, text, text, text)]))
        emit({text: [text]})
    for stream in (stdout, stderr):
        harmless(stream.getvalue().decode())


@given(ANY)
def test_json_says_what_it_was_given(text: str) -> None:
    with CliRunner().isolation() as (stdout, _stderr, _):
        emit({"text": text})
    shown = stdout.getvalue().decode()
    harmless(shown)
    assert json.loads(shown) == {"text": text}


def test_styles_stand_where_they_stood(styled: None) -> None:
    with CliRunner().isolation(env={"FORCE_COLOR": "1", "TERM": "xterm"}) as (stdout, _stderr, _):
        out().print(Text.assemble("a\x1bb", ("c\x9bd", "bold"), "e"))
    shown = stdout.getvalue().decode().replace("\x1b[0m\x1b[1m", "")
    assert shown == "a\\x1bb\x1b[1mc\\x9bd\x1b[0me\n"


def test_spans_begin_and_end_with_the_characters_they_belong_to() -> None:
    text = Text("\x1ba\x9b\u202eb", spans=[Span(0, 1, "bold"), Span(1, 4, "red"), Span(3, 5, "dim"), Span(5, 9, "x")])
    made = visible_text(text)
    assert made.plain == r"\x1ba\x9b\u202eb"
    assert [(made.plain[span.start : span.end], span.style) for span in made.spans] == [
        (r"\x1b", "bold"),
        (r"a\x9b\u202e", "red"),
        (r"\u202eb", "dim"),
        ("", "x"),
    ]


def test_a_text_of_many_control_characters_takes_no_longer_than_it_is_long() -> None:
    begun = time.process_time()
    assert len(visible_text(Text("\x1ba" * 500_000)).plain) == 2_500_000  # it took most of an hour
    assert time.process_time() - begun < 20


def test_nothing_of_a_cell_is_lost() -> None:
    with CliRunner().isolation() as (stdout, _stderr, _):
        rows = Table("A*")
        rows.add_row(Text("x\x1b[2Jy"))
        out().print(rows)
    assert stdout.getvalue().decode().replace("\n", "").replace(" ", "").endswith(r"x\x1b[2Jy")


@pytest.mark.parametrize("teller", [lambda: ToPeople(out()), ToPrograms], ids=["people", "programs"])
def test_the_demo_shows_a_hostile_event_safely(teller: Any) -> None:
    about = {"rule": EVIL, "rule_id": EVIL, "runs": 1, "kind": EVIL, "id": EVIL, "size": 3}
    request = {
        "service": EVIL,
        "method": EVIL,
        "path": EVIL,
        "sent": {EVIL: EVIL},
        "status": 200,
        "answer": {"a": EVIL},
    }
    sent = Sent(EVIL, EVIL, EVIL, EVIL, 0, EVIL, "dead", 2, 0.1, EVIL, {EVIL: EVIL}, [request])
    with CliRunner().isolation() as (stdout, _stderr, _):
        told = teller()
        told.attempts(EVIL, sent)
        told.arrives(Arrival(EVIL, EVIL, 3, duplicate=True, report={"event": about, "documents": []}))
    harmless(stdout.getvalue().decode())
    assert stdout.getvalue()


def test_errors_of_the_command_line_show_what_was_typed(engine: Command) -> None:
    assert visible("x\x1b[2J") in engine("events", "--x\x1b[2J", expect=2).stderr
    assert visible("'x\x1b[2J'") in engine("x\x1b[2J", expect=2).stderr
    assert r"'x\x1b[2J'" in engine("explain", "x\x1b[2J", expect=2).stderr


def test_an_error_is_escaped_when_it_is_shown_and_not_twice() -> None:
    from engine.cli.support.terminal import visible_error

    error = visible_error(click.UsageError("a\x1bb\\x1b"))
    assert error.format_message() == "a\\x1bb\\x1b"

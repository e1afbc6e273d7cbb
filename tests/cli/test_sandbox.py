"""``engine sandbox``: the variables it prints, and everything that the stand-ins receive, shown in full."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from background import Background
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from rich.cells import cell_len

from engine.cli.commands.sandbox import ForPeople, _moved
from engine.cli.demo.stage import SERVICES
from engine.cli.main import cli
from engine.cli.support.output import out
from engine.cli.support.show_request import Received, print_request, wrapped
from engine.testing import Recorded

OWN = """
secrets: ["${LANGSMITH_WEBHOOK_SECRET}"]
langsmith: {api_key: "${LANGSMITH_API_KEY}"}
slack: {token: "${SLACK_BOT_TOKEN}"}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    filters: [{path: "$.runs[*].status", eq: error}]
    actions:
      - post_to_slack: {channel: "#mine", text: "mine: {{ run.name }} failed: {{ run.error }}"}
      - post_to_slack: {webhook_url: "${INBOX_URL}", text: "through a webhook"}
        name: hook
      - add_to_dataset: {dataset: my own, inputs: "{{ run.inputs }}"}
      - annotate: {queue: my queue}
      - forward_webhook: {url: "${INBOX_URL}?token=hush-hush", headers: {X-Own: rules, X-Token: hush-hush}}
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Background]]:
    running: list[Background] = []

    def begin(*args: str, environ: dict[str, str] | None = None) -> Background:
        running.append(Background(tmp_path, *args, environ=environ))
        return running[-1]

    yield begin
    for one in running:
        one.close()


def exported(text: str) -> dict[str, str]:
    """The variables of the lines to paste."""
    words = " ".join(re.findall(r"^export (.+)$", text, re.MULTILINE)).split()
    return dict(word.split("=", 1) for word in words)


def test_a_configuration_of_ones_own_is_shown_what_it_sends(start, tmp_path: Path) -> None:
    """The file names no endpoint, and its dataset and queue are nowhere but in it."""
    sandbox = start("sandbox", "--port", "0")
    variables = exported(sandbox.until("Ctrl-C ends it."))
    (tmp_path / "config.yaml").write_text(OWN)
    environ = variables | {"LANGSMITH_WEBHOOK_SECRET": "only-for-this-test"}
    place = ("-c", str(tmp_path / "config.yaml"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    serve = start("serve", *place, environ=environ)
    url = re.search(r"webhook +(http://\S+?)\?", serve.until(lambda text: re.search(r"webhook .*\n", text)))[1]
    send = start("send", "--kind", "rule", "--to", url, "--secret", "only-for-this-test")
    serve.until(lambda text: text.count("delivery succeeded") == 5)
    shown = sandbox.until(lambda text: text.count("  → 20") >= 7)
    assert "attempt 1: accepted (202)" in send.until("event ")
    assert "  request: channel #mine, text, " in shown
    assert "mine: classify-issue failed: RateLimitError: 429 Too Many Requests" in " ".join(shown.split())
    assert re.search(r"^  text +through a webhook$", shown, re.M)
    assert "dataset 'my own' created" in " ".join(shown.split())
    assert "queue 'my queue' created" in " ".join(shown.split())
    assert re.search(r"^  X-Own: +rules$", shown, re.M)
    assert re.search(r"^  X-Token: +\*\*\*$", shown, re.M)
    assert "/hook?token=***" in shown
    assert "hush-hush" not in shown
    told = shown.partition("Ctrl-C ends it.")[2]
    assert "xoxb-sandbox" not in told
    assert "lsv2_sandbox" not in told
    assert [line for line in told.splitlines() if cell_len(line) > 80 and " " in line.strip().strip(',"')[:-60]] == []
    assert sandbox.end()[0] == 0
    assert "Traceback" not in sandbox.text


def test_the_variables_can_be_pasted_into_a_shell(start) -> None:
    sandbox = start("sandbox", "--port", "0")
    text = sandbox.until("Ctrl-C ends it.")
    assert len(re.findall("^export ", text, re.MULTILINE)) == 3
    assert list(exported(text)) == [
        *("LANGSMITH_ENDPOINT", "LANGSMITH_API_KEY", "SLACK_ENDPOINT", "SLACK_BOT_TOKEN", "INBOX_URL")
    ]
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert sandbox.end(signal.SIGTERM)[0] == 0


def test_ports_that_are_in_use_are_named_with_those_used_instead(capsys) -> None:
    variables = {"LANGSMITH_ENDPOINT": "http://127.0.0.1:34887", "LANGSMITH_API_KEY": "k", "SLACK_BOT_TOKEN": "t"}
    variables |= {"SLACK_ENDPOINT": "http://127.0.0.1:9102/api/", "INBOX_URL": "http://127.0.0.1:9103/hook"}
    ForPeople(out()).begins(variables, _moved(variables))
    shown = " ".join(capsys.readouterr().out.split())
    assert "9101 is in use: using 34887. The lines below differ from those in the README." in shown
    usual = variables | {"LANGSMITH_ENDPOINT": "http://127.0.0.1:9101"}
    ForPeople(out()).begins(usual, _moved(usual))
    assert "in use" not in capsys.readouterr().out


def test_verbose_shows_slacks_requests_whole(start) -> None:
    sandbox = start("sandbox", "-v", "--port", "0")
    variables = exported(sandbox.until("Ctrl-C ends it."))
    body = b'{"channel": "#a", "text": "<https://example.com|a link>", "unfurl_links": false}'
    headers = {"Authorization": f"Bearer {variables['SLACK_BOT_TOKEN']}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{variables['SLACK_ENDPOINT']}chat.postMessage", body, headers))
    shown = sandbox.until(lambda text: re.search(r"unfurl_links .*\n", text))
    assert "▌ a link" in shown
    assert "<https://example.com|a link>" in shown


def test_for_programs_it_is_one_object_a_line(start) -> None:
    sandbox = start("sandbox", "--port", "0", "--json")
    variables = json.loads(sandbox.until("serving").splitlines()[0])["variables"]
    request = urllib.request.Request(variables["INBOX_URL"], b'{"a": [1]}', {"Authorization": "Bearer abcdefgh"})
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        assert answer.read() == b"ok"
    told = json.loads(sandbox.until('"request"').splitlines()[1])
    assert (told["type"], told["service"], told["body"], told["status"]) == ("request", SERVICES[-1], {"a": [1]}, 200)
    assert told["headers"]["Authorization"] == "***"
    assert sandbox.end()[0] == 0


def test_taken_ports_are_exit_code_2_and_the_advice_works(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = min(taken.getsockname()[1], 65533)
        from click.testing import CliRunner

        result = CliRunner().invoke(cli, ["sandbox", "--port", str(port)])
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port} to {port + 2}: " in result.stderr
    assert "--port 0" in result.stderr
    assert start("sandbox", "--port", "0").until("export INBOX_URL=")


# How a request is shown


def recorded(body: Any, *, status: int = 200, answer: Any = "ok", path: str = "/hook", **headers: str) -> Recorded:
    made = Recorded("POST", path, MultiDictProxy(MultiDict()), CIMultiDictProxy(CIMultiDict(headers)), b"", body)
    made.status, made.answer, made.at = status, answer, 0.0
    return made


def shown(request: Recorded, capsys, service: str = SERVICES[-1], environ: dict[str, str] | None = None) -> str:
    print_request(out(), Received(environ or {})(service, request), 80)
    return capsys.readouterr().out


def test_a_message_is_shown_whole_and_broken_between_words_only(capsys) -> None:
    words = [f"word{number}" for number in range(200)]
    text = shown(recorded({"channel": "#a", "text": " ".join(words), "long": "x" * 300}), capsys)
    assert text.split()[text.split().index("word0") :][:200] == words
    assert "x" * 300 in text
    assert all(cell_len(line) <= 80 for line in text.splitlines() if "xxx" not in line)


def test_lines_of_a_text_stay_lines_and_json_stays_json(capsys) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "in a block " * 5}}]
    text = shown(recorded({"text": "first\n  second", "blocks": blocks, "n": None}), capsys)
    assert re.search(r"^  text    first\n {12}second$", text, re.MULTILINE)
    assert json.loads(re.search(r"blocks\n(.*?)\n  n ", text, re.DOTALL)[1]) == blocks


def test_nothing_that_is_received_steers_the_terminal(capsys) -> None:
    text = shown(recorded({"\x1b[31mkey": "\x1b]0;title\x07 \u202e", "deep": {"\x1b": "\x9b1m" * 30}}), capsys)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert r"\x1b]0;title" in text


def test_a_refusal_is_shown_with_its_reason(capsys) -> None:
    said_no = recorded({"channel": "#x"}, answer={"ok": False, "error": "channel_not_found"})
    assert re.search(r"refused  channel_not_found", shown(said_no, capsys, "Slack"))
    missing = recorded(None, status=404, answer={"detail": "not found"})
    assert re.search(r"→ 404\n  refused  .*not found", shown(missing, capsys))
    assert "no answer" in shown(recorded({"a": 1}, status=0, answer=None), capsys)


def test_secrets_are_masked_wherever_they_turn_up(capsys) -> None:
    body = {"text": "my hidden-in-env and abcdefgh", "form": b"abcdefgh"}
    request = recorded(body, Authorization="Bearer abcdefgh", **{"X-Api-Key": "another-one"})
    text = shown(request, capsys, environ={"MY_TOKEN": "hidden-in-env", "HOME": "my"})
    assert "my *** and ***" in text
    assert not re.search("hidden-in-env|abcdefgh|another-one", text)


def test_a_body_that_is_no_json_is_shown_too(capsys) -> None:
    plain = recorded(None)
    plain.raw = "grüße".encode()
    assert "  grüße\n" in shown(plain, capsys)
    plain.raw = b"\xff\x00"
    assert "  /wA=\n" in shown(plain, capsys)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, [""]),
        ("a bb ccc", 4, ["a bb", "ccc"]),
        ("toolongword b", 4, ["toolongword", "b"]),
        ("  in dented", 6, ["  in", "  dented"]),
        ("漢字 漢字", 5, ["漢字", "漢字"]),
        ("a\n\nb", 9, ["a", "", "b"]),
        ("a  b", 9, ["a  b"]),
    ],
)
def test_wrapping(text: str, width: int, lines: list[str]) -> None:
    assert wrapped(text, width) == lines

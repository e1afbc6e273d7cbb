"""A run with everything in it that ever broke a program goes through every action, and arrives as data."""

from __future__ import annotations

import asyncio
import email
import email.policy
import io
import json
import logging
import re
import ssl
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from harness import CLIENTS

from engine.core.json_text import MAX_LEVELS
from engine.core.masking import Masker
from engine.telemetry.log import JsonFormatter, TextFormatter
from engine.testing import payloads

RULE = payloads.RULE_ID
TEXTS = {
    "template": "{{ 7 * 7 }}{% for x in range(9) %}{{ vars }}{% endfor %}{# gone #}{{ cycler.__init__.__globals__ }}",
    "variables": "${SECRET} ${SECRET:-x} $SECRET %SECRET% ${file:/etc/passwd} $${x}",
    "yaml": "*a &b !!python/object/apply:os.system [x] # y\n- z: |",
    "slack": "<!channel> <!here> <@U1> <#C1> <!subteam^S1> <http://evil.example|click> &lt; &amp; *b* _i_ `c`",
    "html": "<script>alert(1)</script><img src=x onerror=y>&nbsp;</body></html>",
    "crlf": "a\r\nX-Injected: yes\r\n\r\nGET /injected HTTP/1.1\r\nHost: x\r\n\r\n",
    "smtp": "a\r\n.\r\nRCPT TO:<evil@example.com>\r\nBcc: evil@example.com\r\n\r\n.\r\nQUIT",
    "lossy": "a\u560d\u560aX-Injected: yes",  # becomes a line break where code points are cut to bytes
    "unicode line ends": "a\x85X-Injected: 1\u2028X-Injected: 2\x0b\x0c\x1c",
    "terminal": "\x1b]0;title\x07\x1b[2J\x9b2J\x08\x7f",
    "nul": "before\0after",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈é\u0301\u0301\u0301",
    "directions": "\u202egnp.exe\u2066\u2067\u200f",
    "zero width": "\u200b\u200c\u200d\ufeff\u2060",
    "surrogates": "\ud800 \udfff \udc00\ud800",
    "path": "../../../etc/passwd/..;/%2e%2e/?a=b&c=d#e\\",
    "log forging": 'x\n2026-01-01 ERROR forged level=error\n{"level": "error"}',
    "empty": "",
    "blank": " \t ",
    "huge": "A" * 1_000_000,
}
ODD = {
    "": 1,
    "a.b": 2,
    "__class__": 3,
    "\r\nX-Injected: k": 4,
    "{{ 7*7 }}": 5,
    "\0": 6,
    "items": 7,
    "keys": 8,
    "$ref": 9,
}
KEPT = ("id", "trace_id", "session_id", "start_time")
RULES = """
defaults: {timeout: 20s, retry: {attempts: 1}}
plugins: [./plugins]
limits: {"slack *": {rate: none}}
routes:
  "*":
    actions:
      - add_to_dataset:
          dataset: d
          inputs: {text: "{{ run.error }}", all: "{{ run.inputs }}"}
          outputs: {o: "{{ run.name }}!"}
          metadata: {m: "{{ run.name }}"}
      - name: dataset_name
        add_to_dataset: {dataset: "d {{ run.name[:99] }}", create: true, inputs: {a: b}, description: "{{ run.name }}"}
      - annotate:
          queue: q
          feedback: {key: k, comment: "{{ run.error }}", value: "{{ run.name }}", correction: {c: "{{ run.error }}"}}
      - name: slack
        post_to_slack: {channel: "#c", text: "said: {{ run.error }}", username: "{{ run.name }}"}
      - name: slack_blocks
        post_to_slack:
          channel: "#c"
          blocks:
            - {type: header, text: {type: plain_text, text: "h {{ run.error }}"}}
            - type: section
              text: {type: mrkdwn, text: "said: {{ run.error }}"}
              fields: [{type: mrkdwn, text: "f {{ run.name }}"}]
      - name: slack_webhook
        post_to_slack: {webhook_url: "${SLACK_HOOK}", text: "said: {{ run.error }}"}
      - name: payload
        forward_webhook: {url: "${SINK}/payload"}
      - name: body
        forward_webhook:
          url: "${SINK}/body"
          body: {text: "{{ run.error }}", mixed: "said: {{ run.error }}", all: "{{ run.inputs }}"}
      - name: text_body
        forward_webhook: {url: "${SINK}/text", body: "said: {{ run.error }}"}
      - name: query
        forward_webhook: {url: "${SINK}/query", query: {q: "{{ run.error[:2000] }}", "{{ run.name[:2000] }}k": 1}}
      - name: path
        forward_webhook: {url: "${SINK}/path/{{ run.error[:2000] | urlencode }}"}
      - name: raw_path
        forward_webhook: {url: "${SINK}/raw/{{ run.error[:2000] }}"}
      - name: header
        forward_webhook: {url: "${SINK}/header", headers: {X-Said: "{{ run.error[:2000] }}"}}
      - name: header_name
        forward_webhook: {url: "${SINK}/header-name", headers: {"X-{{ run.error[:2000] }}": v}}
      - name: notify_json
        notify: {urls: "${JSON}", title: "t {{ run.error }}", body: "said: {{ run.error }}"}
      - name: notify_mail
        notify: {urls: "${MAIL}", title: "t {{ run.error[:500] }}", body: "said: {{ run.error }}"}
      - log:
          message: "said: {{ run.error }}"
          fields: {a: "{{ run.error }}", "{{ run.name[:50] }}": "{{ run.inputs }}"}
      - echo: {text: "{{ run.error }}", tree: "{{ run.inputs }}"}
"""
PLUGIN = '''
from typing import Any
import engine

class Echo(engine.Action):
    """Send what it was given, and what it sees."""
    class Params(engine.Params):
        text: str
        tree: Any

    async def run(self, params, context):
        given = {"params": params.model_dump(), "run": context.run["error"]}
        async with context.http.post("SINK/echo", json=given) as answer:
            return {"text": params.text, "tree": params.tree, "status": answer.status}
'''
ALL = 18
#: What cannot be made of such a text, and says so.
WITH_CONTROLS = {"crlf", "smtp", "unicode line ends", "terminal", "nul", "yaml", "log forging"}
WITH_SPACES = {"template", "variables", "slack", "html", "lossy", "surrogates", "blank"}
CANNOT = {
    "header": WITH_CONTROLS,
    "header_name": set(TEXTS) - {"empty", "huge"},
    "raw_path": WITH_CONTROLS | WITH_SPACES | {"path"},
    "path": {"path"},
}


def filled(value: Any, text: str) -> Any:
    """The value with every text in it replaced, and odd keys in every mapping."""
    if isinstance(value, dict):
        return {key: filled(item, text) for key, item in value.items()} | (ODD if value else {})
    if isinstance(value, list):
        return [filled(item, text) for item in value]
    return text if isinstance(value, str) or value is None else value


def hostile_run(number: int, text: str, *, everything: bool = False) -> dict[str, Any]:
    """A run whose every field holds the text; ids and times too if ``everything``."""
    run = payloads.run(number)
    kept = {} if everything else {key: run[key] for key in KEPT}
    few = {key: value for key, value in run.items() if key not in ("inputs", "outputs", "extra", "events")}
    data = {"a": text, text[:1000]: [text], **ODD}
    return filled(few, text) | {"inputs": data, "outputs": data, "extra": {"metadata": data}, "error": text} | kept


def as_kept(text: str) -> str:
    """What the engine makes of a text: a lone surrogate is no character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def kept(value: Any) -> Any:
    """The same of a whole tree."""
    if isinstance(value, dict):
        return {as_kept(key): kept(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kept(item) for item in value]
    return as_kept(value) if isinstance(value, str) else value


@pytest.fixture(scope="module", autouse=True)
def _one_tls_context():
    """The SDK reads the system's certificates four times for every client; on loopback, once is enough."""
    context = ssl.create_default_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", lambda *_args, **_options: context)
        yield


@pytest.fixture
async def mail():
    """A real mail server, what it was handed, and every command it was sent."""
    handed: list[Any] = []

    class Handler:
        async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
            handed.append(envelope)
            return "250 OK"

    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Handler(), data_size_limit=2**26, decode_data=False), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1], handed
    server.close()


@pytest.fixture
def logs():
    """What the log action writes, in both of the engine's styles."""
    logger, streams = logging.getLogger("engine.action.log"), (io.StringIO(), io.StringIO())
    handlers = [logging.StreamHandler(stream) for stream in streams]
    for handler, formatter in zip(handlers, (TextFormatter, JsonFormatter), strict=True):
        handler.setFormatter(formatter(Masker))
        logger.addHandler(handler)
    logger.setLevel("INFO")
    yield streams
    logger.handlers[:] = []
    logger.setLevel(logging.NOTSET)


@pytest.fixture
async def hostile(engine, slack, sink, mail, langsmith):
    langsmith.add_dataset("d")
    langsmith.add_queue("q")
    engine.environ |= {
        "SINK": sink.origin,
        "SLACK_HOOK": slack.webhook_url,
        "JSON": sink.origin.replace("http", "json") + "/notify",
        "MAIL": f"mailto://127.0.0.1:{mail[0]}/?from=engine@example.com&to=me@example.com",
    }
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    (folder / "echo.py").write_text(PLUGIN.replace("SINK", sink.origin))
    await engine.start(CLIENTS + RULES)
    return engine


@pytest.mark.parametrize("name", TEXTS)
async def test_hostile_text_arrives_as_data_through_every_action(
    name, hostile, langsmith, slack, sink, mail, logs, caplog
):
    text = as_kept(TEXTS[name])
    run = hostile_run(1, TEXTS[name])
    await hostile.post(payloads.rule([run]))
    rows = {row.action: row for row in await hostile.settled(ALL, seconds=60)}
    assert len(rows) == ALL
    dead = {action: row.reason for action, row in rows.items() if row.state == "dead"}
    assert set(dead) == {action for action, texts in CANNOT.items() if name in texts}, dead
    assert not any("unexpected" in reason or "Error" in reason for reason in dead.values()), dead
    assert "Traceback" not in caplog.text

    check_langsmith(langsmith, run, text)
    check_slack(slack, text)
    check_webhooks(sink, run, text, dead)
    check_mail(mail[1], text)
    check_log(logs[0].getvalue(), logs[1].getvalue())


def check_langsmith(langsmith, run: dict, text: str) -> None:
    example = next(one for one in langsmith.examples.values() if "all" in one["inputs"])
    names = {dataset["name"] for dataset in langsmith.datasets.values()}
    assert names == {"d", f"d {text[:99]}"}
    assert example["inputs"] == {"text": text, "all": kept(run["inputs"])}
    assert example["outputs"] == {"o": text + "!"}
    (feedback,) = (one for one in langsmith.feedback.values() if one["key"] == "k")
    assert (feedback["comment"], feedback["value"], feedback["correction"]) == (text, text, {"c": text})
    assert [item["run_id"] for item in langsmith.queue_items] == [run["id"]]


def check_slack(slack, text: str) -> None:
    """Three messages, each with the text escaped, cut if it is long."""
    said = "said: " + text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = [message.text for message in slack.messages if message.blocks is None]
    (blocks,) = (message.blocks for message in slack.messages if message.blocks is not None)
    shown.append(blocks[1]["text"]["text"])
    assert len(shown) == 3
    for message in shown:
        assert message == said or (len(said) > 3000 and message.startswith("said: AAA") and len(message) <= 4000)
        assert "<!" not in message
        assert "<@" not in message
    assert len(blocks[0]["text"]["text"]) <= 150
    assert "<!" not in blocks[1]["fields"][0]["text"]


def check_webhooks(sink, run: dict, text: str, dead: dict) -> None:
    by_path: dict[str, Any] = {}
    for request in sink.received:
        by_path.setdefault(request.path.split("/")[1], request)
        assert request.method == "POST"
        assert "X-Injected" not in request.headers
    assert len(sink.received) == 10 - len(dead)
    assert json.loads(by_path["payload"].raw)["runs"] == [kept(run)]
    assert json.loads(by_path["body"].raw) == {"text": text, "mixed": f"said: {text}", "all": kept(run["inputs"])}
    assert by_path["text"].raw.decode() == f"said: {text}"
    assert dict(by_path["query"].query) == {"q": text[:2000], f"{text[:2000]}k": "1"}
    if "path" not in dead:
        assert by_path["path"].path == "/path/" + text[:2000]
    if "header" not in dead:
        assert by_path["header"].headers["X-Said"].encode("utf-8", "surrogateescape").decode().strip(" \t") == text[
            :2000
        ].strip(" \t")
    echo = json.loads(by_path["echo"].raw)
    assert echo == {"params": {"text": text, "tree": kept(run["inputs"])}, "run": text}
    notified = json.loads(by_path["notify"].raw)
    assert notified["message"] == f"said: {text}".rstrip()


def check_mail(handed: list, text: str) -> None:
    (envelope,) = handed
    assert envelope.rcpt_tos == ["me@example.com"]
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert [name for name in message if name in ("Subject", "To", "From", "Bcc", "X-Injected")].count("Subject") == 1
    assert "Bcc" not in message
    assert "X-Injected" not in message
    assert message["To"] == "me@example.com"
    assert message.get_content_type() == "text/plain"
    assert message["Subject"].split() == f"t {text[:500]}".split()
    assert message.get_content().splitlines() == f"said: {text}".rstrip().splitlines()


def check_log(lines: str, records: str) -> None:
    """One line each, that no text can end, forge or steer a terminal with."""
    (line,), (written,) = lines.splitlines(), records.splitlines()
    assert " INFO    said: " in line
    for one in "\r\x1b\x9b\x85\u2028\u202e\u2066\0":
        assert one not in line + written
    record = json.loads(written)
    assert (record["level"], record["logger"]) == ("info", "engine.action.log")


async def test_where_not_even_ids_and_times_are_what_they_should_be_every_delivery_ends_with_words(
    hostile, slack
) -> None:
    """LangSmith knows runs by UUIDs only, so what is for LangSmith is dead; all else goes out."""
    texts = [text for name, text in TEXTS.items() if name != "huge"]
    for number, text in enumerate(texts):
        await hostile.post(payloads.rule([hostile_run(number, text, everything=True)], start_time=str(number)))
    rows = await hostile.settled(ALL * len(texts), seconds=90)
    assert len(rows) == ALL * len(texts)
    dead = [row for row in rows if row.state == "dead"]
    assert {row.action for row in dead} <= {"annotate", *CANNOT}
    assert not [row.reason for row in dead if "unexpected" in row.reason or "Error" in row.reason]
    assert len(slack.messages) == 3 * len(texts)


async def test_data_that_is_nested_as_deep_as_is_parsed_arrives(hostile, sink) -> None:
    nested: Any = "leaf"
    for level in range(MAX_LEVELS - 5):  # the payload, its runs, the run, its inputs, and where it is put in
        nested = [nested] if level % 2 else {"k": nested}
    run = payloads.run(1) | {"inputs": {"deep": nested}, "error": "e", "name": "n"}
    await hostile.post(payloads.rule([run]))
    rows = {row.action: row for row in await hostile.settled(ALL, seconds=60)}
    dead = {action: row.reason for action, row in rows.items() if row.state == "dead"}
    assert dead == {}
    assert rows["payload"].state == "succeeded"

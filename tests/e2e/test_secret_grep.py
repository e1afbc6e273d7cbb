"""A busy engine with a secret wherever one can be configured; then all it wrote and showed is searched for them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import ssl
from collections.abc import Iterator
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from certificates import Pair
from click.testing import CliRunner

from engine.cli.commands.serve import _CurrentMasker
from engine.cli.main import cli
from engine.core.serve_settings import Address
from engine.core.signatures import sign
from engine.store.encryption import new_key
from engine.telemetry.log import JsonFormatter, TextFormatter, route_logging
from engine.testing import payloads

#: No value is a part of another, or of anything that may be shown. Quotes, spaces and the like make every form differ.
SECRETS = {
    "SECRET": 'Wh00k/in the "query"&+%41-one',
    "OLD_SECRET": "Wh00k-that-was-rotated-out",
    "SIGNING": "S1gning<secret>'of'GitHubs",
    "WHSEC": "whsec_" + base64.b64encode(b"standard webhooks, signed in").decode(),
    "LANGSMITH_API_KEY": "lsv2_pt_0123456789abcdef_langsmith",
    "SLACK_BOT_TOKEN": "xoxb-0123456789-slack-token",
    "HEADER_TOKEN": "H3ader=token;with/odd?chars",
    "QUERY_TOKEN": "Qu3ry token & more",
    "PATH_TOKEN": "P4th-token-in-a-url",
    "SIGN_WITH": "whsec_" + base64.b64encode(b"standard webhooks, signed out").decode(),
    "BODY_TOKEN": "B0dy{token}in[json]\\",
    "NOTIFY_PASSWORD": "N0tify-password",
    "PLUGIN_TOKEN": 'Plug1n "token" that is quoted',
    "FILE_SECRET": "F1le-secret-of-a-mount",
    "ADMIN_TOKEN": "Adm1n-token/for+people",
    "TLS_PASSWORD": "Tls-k3y-password",
    "STORE_KEY": new_key(),
    "OLD_STORE_KEY": new_key(),
}
#: Of a URL that comes with an event: a secret, though nobody configured it.
PRESIGNED = "Pres1gnedSignature0123456789"

PLUGIN = '''
import base64, logging, urllib.parse
import engine

class Quoting(engine.Action):
    """Fail, and quote a secret in every form."""

    class Params(engine.Params):
        token: str
        how: str

    async def run(self, params, context):
        context.logger.warning("with %s", params.token, extra={"token": params.token})
        logging.getLogger("somebody.else").error("it was %r", params.token)
        forms = {
            "raw": params.token, "repr": repr(params.token), "quoted": urllib.parse.quote(params.token, safe=""),
            "base64": base64.b64encode(b"user:" + params.token.encode()).decode(), "returned": params.token,
        }
        if params.how == "returned":
            return {"token": params.token, params.token: [params.token]}
        if params.how == "discarded":
            raise engine.Discard("never with " + params.token)
        if params.how == "nested":
            try:
                raise KeyError(params.token)
            except KeyError as error:
                raise ExceptionGroup("several " + params.token, [error, ValueError(params.token)]) from error
        raise RuntimeError("refused: " + forms[params.how])
'''
RULES = """
signing_secrets: ["${SIGNING}", "${WHSEC}"]
langsmith: {api_key: "${LANGSMITH_API_KEY}", endpoint: "${LANGSMITH_ENDPOINT}"}
slack: {token: "${SLACK_BOT_TOKEN}", endpoint: "${SLACK_ENDPOINT}"}
network: {allow: [127.0.0.1]}
plugins: [./plugins]
defaults: {timeout: 2s, retry: {attempts: 2, within: 1m, min: 20ms, max: 20ms}}
routes:
  "*":
    - name: all
      actions:
        - log: {message: "{{ run.name }} has ${BODY_TOKEN}", fields: {token: "${HEADER_TOKEN}"}}
        - annotate: {feedback: {key: triage, value: seen, comment: "${BODY_TOKEN}"}}
        - add_to_dataset: {dataset: none-such, inputs: {key: "${BODY_TOKEN}"}, outputs: "{{ run.outputs }}"}
        - post_to_slack: {channel: "#llm-quality", text: "${BODY_TOKEN} {{ run.name }}"}
          name: channel
        - post_to_slack: {channel: "#no-such-channel", text: "${BODY_TOKEN}"}
          name: nowhere
        - post_to_slack: {webhook_url: "${SLACK_WEBHOOK}", text: x}
          name: hook
        - post_to_slack: {webhook_url: "${SINK}/${PATH_TOKEN}", text: x}
          name: wrong-hook
        - forward_webhook:
            url: "${SINK}/${PATH_TOKEN}/{{ run.id }}"
            headers: {X-Token: "${HEADER_TOKEN}", X-File: "${file:secret}"}
            query: {key: "${QUERY_TOKEN}"}
            sign_with: "${SIGN_WITH}"
            body: {token: "${BODY_TOKEN}", run: "{{ run.id }}"}
        - forward_webhook: {url: "http://127.0.0.1:9/${PATH_TOKEN}", query: {key: "${QUERY_TOKEN}"}}
          name: refused
        - forward_webhook: {url: "${SINK}/x", headers: {X-Broken: "a\\n${HEADER_TOKEN}{{ run.id }}"}}
          name: broken
        - forward_webhook: {url: "${SINK}/x", body: "{{ run.no_such_thing }}${BODY_TOKEN}"}
          name: undefined
        - notify: {urls: ["json://user:${NOTIFY_PASSWORD}@127.0.0.1:9/x"], body: x}
        QUOTING
    - name: fetched
      filters: [{expr: "run.inputs is none or run.inputs"}, {path: "$.feedback.x", exists: false}]
      actions: [{log: {message: "{{ run.inputs }}"}}]
"""
QUOTING = ["raw", "repr", "quoted", "base64", "returned", "discarded", "nested"]
BROKEN = [
    'routes: {alert: {actions: [{lgo: {message: "${BODY_TOKEN}"}}]}}',
    'routes: {alert: {actions: [{log: {mesage: "${BODY_TOKEN}", level: "${HEADER_TOKEN}"}}]}}',
    'routes: {alert: {filters: [{path: "$.[${BODY_TOKEN}", eq: 1}], actions: [{log: {message: x}}]}}',
    'routes: {alert: {filters: [{expr: "run. ${PLUGIN_TOKEN}"}], actions: [{log: {message: x}}]}}',
    'routes: {alert: {actions: [{forward_webhook: {url: "${PATH_TOKEN}", sign_with: "${HEADER_TOKEN}"}}]}}',
    'langsmith: {api_key: "${LANGSMITH_API_KEY}", endpoint: "${QUERY_TOKEN}"}\nroutes: {}',
    'slack: "${SLACK_BOT_TOKEN}"\nroutes: {"${NO_SUCH_VARIABLE}": {}}',
]


def forms_of(value: str) -> set[str]:
    """How a secret may look when it has been through something."""
    raw = value.encode()
    forms = {value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    return forms | {base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}


class Findings:
    """Everything that was shown, by where it was."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, where: str, text: str | bytes) -> None:
        shown = text if isinstance(text, str) else text.decode("utf-8", "replace")
        self.texts[where] = self.texts.get(where, "") + shown

    def leaks(self, secrets: dict[str, str]) -> Iterator[str]:
        for where, text in self.texts.items():
            lower = text.lower()
            for name, value in secrets.items():
                for form in forms_of(value):
                    # Case is no disguise: what was folded on its way gives a secret away all the same.
                    if (at := lower.find(form.lower())) >= 0:
                        yield f"{name} in {where}: …{text[max(at - 150, 0) : at + 60]}…"


class Logs:
    """What is logged, as text and as JSON."""

    def __init__(self) -> None:
        self.masker = _CurrentMasker()
        self.streams = {"text": io.StringIO(), "json": io.StringIO()}
        self._formats = {"text": TextFormatter(self.masker), "json": JsonFormatter(self.masker)}

    def handler(self) -> logging.Handler:
        logs = self

        class Both(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                for name, stream in logs.streams.items():
                    stream.write(logs._formats[name].format(record) + "\n")

        return Both()


async def start(engine, logs: Logs, tmp_path: Path, *, sealed: bool) -> None:
    """With everything that takes a secret switched on."""
    held = MemoryHandler(10_000, logging.CRITICAL + 1, logs.handler())
    route_logging(held, "debug")
    await engine.start(
        admin_token=SECRETS["ADMIN_TOKEN"],
        store_key=f"{SECRETS['STORE_KEY']},{SECRETS['OLD_STORE_KEY']}" if sealed else "",
        tls=Pair.made().write(tmp_path, SECRETS["TLS_PASSWORD"]),
        admin=Address("127.0.0.1", 0),
    )
    logs.masker.live = lambda: engine.running.reloader.masker
    held.flushLevel = logging.DEBUG
    held.flush()


def payload(sink_url: str, *, sealed: bool) -> dict[str, Any]:
    """One run whole, one whose inputs are behind a URL; where the store is sealed, secrets in what they hold."""
    url = f"{sink_url}/object?X-Amz-Signature={PRESIGNED}&X-Amz-Expires=1"
    said = " ".join(SECRETS.values()) if sealed else "nothing"
    whole = payloads.run(error=said, outputs={"answer": said}, tags=[SECRETS["SECRET"]] if sealed else [])
    return payloads.rule([whole, payloads.with_s3(payloads.run(1), inputs=url)])


async def knock(engine, found: Findings, body: bytes) -> None:
    """Requests that are refused, with good secrets where they don't belong, and some that are accepted."""
    base, good = f"https://{engine.running.public}", SECRETS["SECRET"]
    hook, any_cert = f"{base}/webhooks/langsmith", ssl._create_unverified_context()
    tries: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", hook, {"headers": sign("github", SECRETS["SIGNING"], body, "", 0), "data": body}),
        ("POST", hook, {"headers": sign("standard", SECRETS["WHSEC"], body, "msg_1", 0), "data": body}),
        ("POST", hook, {"params": {"secret": good}, "data": b'{"a": "' + good.encode()}),
        ("POST", hook, {"params": {"secret": good + "x"}, "data": body}),
        ("POST", hook, {"params": [("secret", good), ("secret", good)], "data": body}),
        ("POST", hook, {"headers": {"Authorization": f"Basic {good}", "Cookie": f"secret={good}"}, "data": body}),
        ("POST", hook, {"headers": {"X-Hub-Signature-256": f"sha256={SECRETS['SIGNING']}"}, "data": body}),
        ("POST", f"{base}/{quote(good, safe='')}", {"data": body}),
        ("GET", hook, {"params": {"secret": good}}),
        ("PUT", f"{base}/healthz", {"params": {"secret": good}}),
        ("POST", hook, {"params": {"secret": good}, "headers": {"Content-Encoding": good}, "data": body}),
    ]
    for method, url, how in tries:
        async with engine.http.request(method, url, ssl=any_cert, **how) as answer:
            found.add("a refusal", await answer.text())
    reader, writer = await asyncio.open_connection(engine.running.public.host, engine.running.public.port, ssl=any_cert)
    writer.write(f"POST /?secret={quote(good)} HTTP/9\r\nX-Webhook-Secret : {good}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()


async def ask_admin(engine, found: Findings) -> None:
    """Every address of the admin listener, with the token, without, and with a wrong one."""
    base = f"http://{engine.running.admin}"
    with_token = {"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"}

    async def get(path: str, **how: Any) -> bytes:
        async with engine.http.get(base + path, headers=with_token, **how) as answer:
            text = await answer.read()
            found.add(path.partition("?")[0], text + str(answer.headers).encode())
            return text

    for path in ("/", "/metrics", "/nothing", "/api/v1/openapi.json", "/api/v1/routes", "/api/v1/actions"):
        await get(path)
    for path in ("/api/v1/config", "/api/v1/destinations", "/api/v1/backlog"):
        await get(path)
    for kind in ("events", "deliveries"):
        for row in json.loads(await get(f"/api/v1/{kind}?limit=100"))[kind]:
            found.add(f"one of {kind}", await get(f"/api/v1/{kind}/{row['id']}"))
    await get("/api/v1/events/" + quote(SECRETS["SECRET"], safe=""))
    await get("/api/v1/deliveries", params={"state": SECRETS["HEADER_TOKEN"]})
    for headers in ({}, {"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}x"}, {"Host": SECRETS["ADMIN_TOKEN"]}):
        async with engine.http.get(f"{base}/api/v1/config", headers=headers) as answer:
            found.add("an unauthorised answer", await answer.text())
    for body in ({"error": SECRETS["HEADER_TOKEN"], "dry_run": True}, {SECRETS["BODY_TOKEN"]: 1}):
        async with engine.http.post(f"{base}/api/v1/replay", json=body, headers=with_token) as answer:
            found.add("a replay", await answer.text())


async def run_commands(engine, found: Findings, tmp_path: Path, event: str) -> None:
    """What people type, beside the running engine."""
    environ = {
        **engine.environ,
        "ENGINE_ADMIN_URL": f"http://{engine.running.admin}",
        "ENGINE_ADMIN_TOKEN": SECRETS["ADMIN_TOKEN"],
        "ENGINE_CONFIG": str(engine.config),
        "ENGINE_DATA": str(tmp_path / "data"),
    }
    sample = tmp_path / "payload.json"
    sample.write_bytes(payloads.to_body(payload(engine.environ["SINK"], sealed=False)))
    commands = [
        ["check"],
        ["config", "show"],
        ["config", "show", "--live"],
        ["routes"],
        ["actions"],
        ["explain", str(sample), "--render"],
        ["explain", "--event", event, "--json"],
        ["events"],
        ["events", "show", event],
        ["deliveries", "list", "--json"],
        ["replay", "--dead", "--dry-run"],
        ["reload"],
        ["send", str(sample), "--to", f"https://{engine.running.public}", "--insecure", "--secret", SECRETS["SECRET"]],
        ["send", str(sample), "--to", f"https://{engine.running.public}", "--insecure", "--sign", SECRETS["WHSEC"]],
        ["send", str(sample), "--to", f"https://{engine.running.public}", "--secret", SECRETS["SECRET"]],
    ]
    for arguments in commands:
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=environ)
        found.add(f"engine {' '.join(arguments[:2])}", result.output)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
async def test_no_secret_shows_anywhere(engine, langsmith, slack, sink, tmp_path: Path, sealed: bool) -> None:
    found, logs = Findings(), Logs()
    engine.environ |= SECRETS | {"SLACK_WEBHOOK": slack.webhook_url, "SECRET": SECRETS["OLD_SECRET"]}
    (tmp_path / "secret").write_text(SECRETS["FILE_SECRET"])
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "quoting.py").write_text(PLUGIN)
    quoting = [f'- quoting: {{token: "${{PLUGIN_TOKEN}}", how: {how}}}\n          name: {how}' for how in QUOTING]
    rules = RULES.replace("QUOTING", "\n        ".join(quoting))
    engine.write(rules)
    await start(engine, logs, tmp_path, sealed=sealed)

    # The webhook's secret is rotated, and the files are broken in every way, while the engine works.
    engine.environ["SECRET"] = SECRETS["SECRET"]
    assert (await engine.running.reloader.reload()).good
    for answer in (400, 500, 401, 403):
        sink.answer_with(answer, body=f"no: {SECRETS['HEADER_TOKEN']} {SECRETS['QUERY_TOKEN']}")
    body = json.dumps(payload(sink.url, sealed=sealed)).encode()
    url = f"https://{engine.running.public}/webhooks/langsmith"
    any_cert = ssl._create_unverified_context()
    async with engine.http.post(url, data=body, params={"secret": SECRETS["SECRET"]}, ssl=any_cert) as answer:
        assert answer.status == 202, await answer.text()
        event = (await answer.json())["event"]
    rows = await engine.settled(20, 40, event_id=event)
    assert {row.state for row in rows} == {"succeeded", "dead"}
    assert len({row.action for row in rows}) == 12 + len(QUOTING)
    for text in BROKEN:
        engine.write(text)
        assert not (await engine.running.reloader.reload()).good
        found.add("problems", (await _reload_answer(engine))[1])
    engine.write(rules)
    assert (await engine.running.reloader.reload()).good
    await knock(engine, found, b'{"a": 1}')
    await ask_admin(engine, found)
    await run_commands(engine, found, tmp_path, event)
    found.add("the database", b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir() if file.is_file()))
    await engine.stop()
    for name, stream in logs.streams.items():
        found.add(f"the log as {name}", stream.getvalue())
    found.add("the database at rest", b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir()))

    assert "somebody.else" in found.texts["the log as text"]
    assert "***" in found.texts["the log as json"]
    assert list(found.leaks(SECRETS | {"SLACK_WEBHOOK": slack.webhook_url})) == []

    # A signature in an event's own URL belongs to the payload, which people may read, also where it would be sent on;
    # nothing else repeats it.
    views = [
        "one of events",
        "/api/v1/events/",
        "engine events",
        "engine explain",
        "engine replay --dead",
        *([] if sealed else ["the database"]),
    ]
    found.texts = {where: text for where, text in found.texts.items() if not where.startswith(tuple(views))}
    assert list(found.leaks({"a presigned URL's signature": PRESIGNED})) == []


async def _reload_answer(engine) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"}
    url = f"http://{engine.running.admin}/-/reload"
    async with engine.http.post(url, json={}, headers=headers) as answer:
        return answer.status, await answer.text()

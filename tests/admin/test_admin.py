"""The people's listener, in a whole engine on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from yarl import URL

from engine.admin import responses as answers
from engine.admin.api import ALL_OPERATIONS
from engine.admin.openapi import openapi_document
from engine.app import Running, running
from engine.core.serve_settings import Address, ServeSettings
from engine.telemetry.metrics import UndecidedRoutes
from engine.testing import WebhookSink, payloads

SECRET = "a-secret-of-the-webhook"
KEY = "a-key-that-nobody-sees"
LOOPBACK = Address("127.0.0.1", 0)


def config_text(url: str) -> str:
    return f"""
secrets: ["{SECRET}"]
langsmith: {{api_key: {KEY}, endpoint: "http://127.0.0.1:9"}}
defaults: {{retry: {{attempts: 1, within: 1m}}}}
rules: {{corrections: {payloads.RULE_ID}}}
routes:
  corrections:
    - name: errors
      filters: [{{path: "$.runs[*].status", eq: error}}]
      actions:
        - forward_webhook: {{url: "{url}", headers: {{X-Key: {KEY}}}, body: {{run: "{{{{ run.id }}}}"}}}}
    - name: all
      actions:
        - log: {{message: "{{{{ run.name }}}}"}}
          when: [{{path: "$.runs[*].status", eq: success}}]
    - name: off
      enabled: false
      filters: [{{path: "$.runs[*].name", eq: x}}]
      actions: [{{log: {{message: never}}}}]
"""


@dataclass
class Engine:
    running: Running
    session: aiohttp.ClientSession
    config: Path
    token: str | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.running.admin.port}"

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= how.pop("headers", {})
        async with self.session.request(method, self.base + path, headers=headers, **how) as response:
            return response.status, json.loads(await response.read())

    async def get(self, path: str, **words: Any) -> Any:
        status, answer = await self.ask("GET", path, params={k: str(v) for k, v in words.items()})
        assert status == 200, answer
        conforms(path, "get", "200", answer)
        return answer

    async def post(self, path: str, body: Any, expect: int = 200) -> Any:
        status, answer = await self.ask("POST", path, json=body)
        assert status == expect, answer
        conforms(path, "post", str(status), answer)
        return answer

    async def send(self, payload: dict[str, Any]) -> str:
        url = f"http://127.0.0.1:{self.running.public.port}/webhooks/langsmith?secret={SECRET}"
        async with self.session.post(url, data=payloads.to_body(payload)) as response:
            assert response.status == 202
            return (await response.json())["event"]

    async def settled(self, event_id: str) -> dict[str, Any]:
        for _ in range(200):
            event = await self.get(f"/api/v1/events/{event_id}")
            if event["state"] != "pending" and not event["open"]:
                return event
            await asyncio.sleep(0.02)
        raise AssertionError(event)


def conforms(path: str, method: str, status: str, answer: Any) -> None:
    """Hold an answer against the OpenAPI document."""
    document = openapi_document(ALL_OPERATIONS)
    if path == "/api/v1/openapi.json":
        return
    known = path if path in document["paths"] else path.rpartition("/")[0] + "/{id}"
    responses = document["paths"][known][method]["responses"]
    reference = responses.get(status, responses["default"])["content"]["application/json"]["schema"]
    schema = {**reference, "components": document["components"]}
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(answer)


@asynccontextmanager
async def an_engine(tmp_path: Path, url: str, token: str | None = None) -> AsyncIterator[Engine]:
    config = tmp_path / "config.yaml"
    config.write_text(config_text(url))
    settings = ServeSettings(config, tmp_path / "data", listen=LOOPBACK, admin=LOOPBACK, admin_token=token, grace=1)
    logger = logging.getLogger("engine.test")
    async with running(settings, logger, environ={}) as engine, aiohttp.ClientSession() as session:
        yield Engine(engine, session, config, token)


@pytest.fixture
async def engine(tmp_path: Path, sink: WebhookSink) -> AsyncIterator[Engine]:
    async with an_engine(tmp_path, sink.url) as made:
        yield made


async def test_an_event_is_shown_with_payload_decisions_and_deliveries(engine: Engine, sink: WebhookSink) -> None:
    event_id = await engine.send(payloads.complete())
    event = await engine.settled(event_id)
    assert event["payload"] == payloads.complete()
    assert event["rule"] == "corrections"
    verdicts = {(one["route"], one["index"]): one["verdict"] for one in event["evaluations"][-1]["decisions"]}
    assert verdicts["corrections/errors", 2] == "true"
    assert verdicts["corrections/errors", 0] == "false"
    assert {(one["action"], one["state"]) for one in event["deliveries"]} == {
        ("log", "succeeded"),
        ("forward_webhook", "succeeded"),
    }
    assert (await engine.get(f"/api/v1/events/{event_id[:20]}"))["id"] == event_id


async def test_a_delivery_is_shown_with_every_attempt(engine: Engine, sink: WebhookSink) -> None:
    sink.answer_with(400, body="no such thing")
    event_id = await engine.send(payloads.complete())
    await engine.settled(event_id)
    dead = (await engine.get("/api/v1/deliveries", state="dead"))["deliveries"]
    assert [one["event_id"] for one in dead] == [event_id]
    shown = await engine.get(f"/api/v1/deliveries/{dead[0]['id'][:18]}")
    assert [(one["outcome"], one["status"]) for one in shown["history"]] == [("dead", 400)]
    assert "no such thing" in shown["reason"]


async def test_lists_are_filtered_and_paged(engine: Engine) -> None:
    ids = [await engine.send(payloads.rule(start_time=f"2024-04-05T01:0{number}:00+00:00")) for number in range(3)]
    stray = await engine.send(payloads.alert())
    for event_id in (*ids, stray):
        await engine.settled(event_id)
    page = await engine.get("/api/v1/events", limit=2, rule="corrections")
    assert [one["id"] for one in page["events"]] == [ids[2], ids[1]]
    rest = await engine.get("/api/v1/events", limit=2, rule="corrections", before=page["next"])
    assert [one["id"] for one in rest["events"]] == [ids[0]]
    assert rest["next"] is None
    unmatched = await engine.get("/api/v1/events", unmatched="true", since="1h", kind="alert")
    assert [one["id"] for one in unmatched["events"]] == [stray]
    assert (await engine.get("/api/v1/events", until="1h"))["events"] == []
    assert (await engine.get("/api/v1/events", rule="11111111-1111-4111-8111-111111111111"))["events"] == []
    assert (await engine.get("/api/v1/events", rule="corrections", until="1h"))["events"] == []
    first = await engine.get("/api/v1/deliveries", limit=1, route="corrections/all")
    second = await engine.get("/api/v1/deliveries", limit=9, route="corrections/all", before=first["next"])
    assert len(second["deliveries"]) == 2


@pytest.mark.parametrize(
    ("path", "words", "expected"),
    [
        ("/api/v1/events", {"knid": "rule"}, "did you mean 'kind'"),
        ("/api/v1/events", {"kind": "rle"}, "did you mean 'rule'"),
        ("/api/v1/events", {"rule": "corections"}, "did you mean 'corrections'"),
        ("/api/v1/events", {"since": "yesterday"}, "30m"),
        ("/api/v1/events", {"limit": "0"}, "from 1 to 1000"),
        ("/api/v1/events", {"before": "nothing"}, ""),
        ("/api/v1/deliveries", {"state": "daed"}, "did you mean 'dead'"),
        ("/api/v1/routes", {"x": "1"}, "leave the query out"),
    ],
)
async def test_a_question_without_sense_is_answered_with_what_would_have_some(
    engine: Engine, path: str, words: dict[str, str], expected: str
) -> None:
    status, answer = await engine.ask("GET", path, params=words)
    assert status == 400
    assert answer["error"]
    assert expected in answer["hint"]


async def test_what_is_not_there_is_a_404_with_words(engine: Engine) -> None:
    for path in ("/api/v1/events/not-here", "/api/v1/deliveries/not-here", "/nope"):
        status, answer = await engine.ask("GET", path)
        assert status == 404
        assert answer["error"]
        assert answer["hint"]
    assert (await engine.ask("PUT", "/api/v1/events", json={}))[0] == 405


async def test_dead_deliveries_are_counted_and_replayed(engine: Engine, sink: WebhookSink) -> None:
    sink.answer_with(400)
    event_id = await engine.send(payloads.complete())
    await engine.settled(event_id)
    counted = await engine.post("/api/v1/replay", {"state": "dead", "route": "corrections/errors", "dry_run": True})
    assert counted["count"] == 1
    backlog = await engine.get("/api/v1/backlog")
    assert (backlog["dead"], backlog["engine"]) == (1, engine.running.store.owner)
    replayed = await engine.post("/api/v1/replay", {"deliveries": [counted["deliveries"][0][:18]]})
    assert replayed == counted | {"dry_run": False}
    event = await engine.settled(event_id)
    assert event["dead"] == 0
    assert len(sink.received) == 2
    assert sink.received[0].headers["webhook-id"] == sink.received[1].headers["webhook-id"]


async def test_an_event_is_replayed_against_todays_rules(engine: Engine) -> None:
    event_id = await engine.send(payloads.alert())
    assert (await engine.settled(event_id))["unmatched_reason"] == "unknown_rule"
    engine.config.write_text(engine.config.read_text() + "  alert: {actions: [{log: {message: alerted}}]}\n")
    await engine.post("/-/reload", {})
    assert (await engine.post("/api/v1/replay", {"events": [event_id]}))["count"] == 1
    for _ in range(100):
        event = await engine.settled(event_id)
        if event["deliveries"]:
            break
        await asyncio.sleep(0.02)
    assert [one["route"] for one in event["deliveries"]] == ["alert"]


@pytest.mark.parametrize(
    "body",
    [{}, {"dry_run": True}, {"deliveries": []}, {"deliveries": "x"}, {"ids": ["x"]}, {"events": ["x"], "route": "y"}],
)
async def test_a_replay_of_nothing_in_particular_is_refused(engine: Engine, body: dict[str, Any]) -> None:
    status, answer = await engine.ask("POST", "/api/v1/replay", json=body)
    assert status == 400
    assert answer["error"]


async def test_routes_actions_and_configuration_are_shown_without_secrets(engine: Engine) -> None:
    routes = (await engine.get("/api/v1/routes"))["routes"]
    assert [(one["id"], one["enabled"]) for one in routes] == [
        ("corrections/errors", True),
        ("corrections/all", True),
        ("corrections/off", False),
    ]
    assert routes[0]["conditions"] == ['$.runs[*].status eq "error"']
    actions = {one["name"]: one for one in (await engine.get("/api/v1/actions"))["actions"]}
    assert {"log", "forward_webhook", "add_to_dataset", "annotate", "post_to_slack", "notify"} <= set(actions)
    assert "url" in {one["name"] for one in actions["forward_webhook"]["parameters"]}
    config = await engine.get("/api/v1/config")
    assert config["last_reload"]["good"]
    everything = json.dumps([routes, list(actions.values()), config])
    assert SECRET not in everything
    assert KEY not in everything


async def test_a_broken_file_is_reported_with_its_places_and_the_previous_rules_stay(engine: Engine) -> None:
    good = engine.config.read_text()
    engine.config.write_text(good.replace("eq: error", "eqq: error"))
    answer = await engine.post("/-/reload", {}, expect=422)
    assert answer["problems"][0]["line"] == 9
    assert "eq" in answer["problems"][0]["hint"]
    config = await engine.get("/api/v1/config")
    assert config["last_reload"]["problems"] == answer["problems"]
    assert config["hash"] == answer["hash"]
    engine.config.write_text(good)
    assert (await engine.post("/-/reload", {}))["problems"] == []


async def test_another_host_is_refused(engine: Engine) -> None:
    port = engine.running.admin.port
    for host in (f"evil.example:{port}", f"127.0.0.1:{port + 1}", "localhost", f"x@127.0.0.1:{port}", "[::1"):
        status, answer = await engine.ask("GET", "/api/v1/routes", headers={"Host": host})
        assert status == 403, host
        assert "Host" in answer["error"]
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert (await engine.ask("GET", "/api/v1/routes", headers={"Host": host}))[0] == 200, host


async def test_a_page_in_a_browser_can_change_nothing(engine: Engine) -> None:
    form = {"Content-Type": "text/plain"}
    status, answer = await engine.ask("POST", "/-/reload", data=b"{}", headers=form)
    assert status == 415
    assert answer["hint"] == f"curl -X POST -H 'Content-Type: application/json' -d '{{}}' {engine.base}/-/reload"
    foreign = {"Origin": "https://evil.example"}
    assert (await engine.ask("POST", "/-/reload", json={}, headers=foreign))[0] == 403
    assert (await engine.ask("POST", "/-/reload", json={}, headers={"Origin": "null"}))[0] == 403
    assert (await engine.ask("POST", "/-/reload", json={}, headers={"Origin": engine.base}))[0] == 200


async def test_a_body_that_is_no_object_is_refused(engine: Engine) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"[1]", b"{", b""):
        assert (await engine.ask("POST", "/api/v1/replay", data=body, headers=headers))[0] == 400
    assert (await engine.ask("POST", "/api/v1/replay", data=b" " * 2**21, headers=headers))[0] == 413


async def test_with_a_token_everything_but_the_first_page_takes_it(tmp_path: Path, sink: WebhookSink) -> None:
    async with an_engine(tmp_path, sink.url, token="open-sesame") as engine:
        assert (await engine.ask("GET", "/api/v1/routes"))[0] == 200
        through_a_proxy = {"Host": "engine.internal"}
        assert (await engine.ask("GET", "/api/v1/routes", headers=through_a_proxy))[0] == 200
        for wrong in ("Bearer nope", "Basic open-sesame", "Bearer ", "Bearer öpen"):
            status, answer = await engine.ask("GET", "/api/v1/routes", headers={"Authorization": wrong})
            assert status == 401
            assert "ENGINE_ADMIN_TOKEN" in answer["hint"]
        async with engine.session.get(engine.base + "/") as response:
            assert response.status == 200


async def test_the_first_page_names_the_addresses_and_cannot_be_framed(engine: Engine) -> None:
    async with engine.session.get(engine.base + "/") as response:
        page = await response.text()
        for path in ("/metrics", "/api/v1/events", "/api/v1/mutes", "/api/v1/destinations"):
            assert f'href="{path}"' in page
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_health_request_here_is_answered_with_its_address(engine: Engine) -> None:
    for path in ("/healthz", "/readyz"):
        status, answer = await engine.ask("GET", path)
        assert (status, answer["hint"]) == (404, f"{path} is on the public listener: engine serve --listen")


async def test_a_webhook_sent_here_is_answered_with_the_public_address(engine: Engine) -> None:
    status, answer = await engine.ask("POST", "/webhooks/langsmith", json=payloads.complete())
    hint = f"webhooks go to the public listener, {engine.running.public}: engine serve --listen"
    assert (status, answer["hint"]) == (404, hint)


async def test_the_openapi_document_is_served_and_sound(engine: Engine) -> None:
    document = await engine.get("/api/v1/openapi.json")
    assert document == openapi_document(ALL_OPERATIONS)
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    served = {resource.canonical for resource in _resources(engine)}
    assert set(document["paths"]) == served - {"/", "/metrics", "/api/v1/openapi.json"}


def _resources(engine: Engine) -> Any:
    from engine.admin.api import Admin, admin_app
    from engine.worker.context import Mutes

    parts = engine.running
    mutes = Mutes(parts.store, logging.getLogger("engine.test"))
    undecided = UndecidedRoutes()
    admin = Admin(
        parts.store,
        parts.worker,
        parts.reloader,
        parts.metrics,
        mutes,
        undecided,
        hydrator=Mock(),
        public=parts.public,
    )
    return admin_app(admin, None).router.resources()


async def test_a_destination_that_is_gone_is_shown_and_resumed(engine: Engine, sink: WebhookSink) -> None:
    sink.answer_with(410)
    await engine.settled(await engine.send(payloads.complete()))
    waits = await engine.send(payloads.complete() | {"start_time": "2024-04-05T02:00:00+00:00"})
    for _ in range(200):
        (shut, *others) = (await engine.get("/api/v1/destinations"))["destinations"]
        if shut["waiting"]:
            break
        await asyncio.sleep(0.02)
    name = f"{sink.origin}/hook"
    assert (shut["name"], shut["state"], shut["reason"]) == (name, "gone", "it is gone (HTTP 410)")
    assert (shut["waiting"], shut["under_way"], shut["until"]) == (1, 0, None)
    assert shut["limits"] == {"concurrency": 32, "rate": None, "burst": None}
    assert [(one["name"], one["state"]) for one in others] == [(sink.origin, "healthy"), ("log", "healthy")]

    status, answer = await engine.ask("POST", "/api/v1/destinations/resume", json={"name": name[:-1]})
    assert (status, answer["hint"]) == (404, f"did you mean {name!r}?")
    assert (await engine.ask("POST", "/api/v1/destinations/resume", json={}))[0] == 400
    assert await engine.post("/api/v1/destinations/resume", {"name": name}) == {
        "name": name,
        "resumed": True,
        "due": 0,
    }
    assert (await engine.settled(waits))["dead"] == 0
    assert {one["state"] for one in (await engine.get("/api/v1/destinations"))["destinations"]} == {"healthy"}
    again = await engine.post("/api/v1/destinations/resume", {"name": sink.origin})
    assert again == {"name": sink.origin, "resumed": False, "due": 0}, "what is open already is no error"


async def test_an_event_of_18_mb_is_shown_while_the_loop_goes_on(engine: Engine) -> None:
    text = 'why does it say "no"? ' * 500
    inputs = {"messages": [{"role": "user", "content": text} for _ in range(15)]}
    runs = [payloads.run(number, inputs=inputs) for number in range(100)]
    body = payloads.to_body(payloads.rule(runs))
    assert len(body) > 18_000_000
    event_id = await engine.send(payloads.rule(runs))
    await asyncio.sleep(1)
    ticking = asyncio.create_task(longest_turn())
    url = f"{engine.base}/api/v1/events/{event_id}"
    async with engine.session.get(url) as response:
        length = response.headers["Content-Length"]
        parts = [part async for part in response.content.iter_any()]
    ticking.cancel()
    shown = json.loads(b"".join(parts))
    assert (len(b"".join(parts)), shown["payload"]) == (int(length), json.loads(body))
    assert await ticking < 0.1


async def longest_turn() -> float:
    """Until it is cancelled: the most processor time that the loop's thread used between two turns, in seconds."""
    longest, last = 0.0, time.thread_time()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, time.thread_time() - last), time.thread_time()
    return longest


@pytest.mark.parametrize("path", ["routes", "actions", "config", "events", "deliveries", "openapi.json"])
async def test_other_answers_are_made_off_the_loop_too(
    engine: Engine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumped: list[int] = []
    dump = answers.dump
    monkeypatch.setattr(answers, "dump", lambda value: dumped.append(threading.get_ident()) or dump(value))
    await engine.get(f"/api/v1/{path}")
    assert len(dumped) == 1
    assert dumped[0] != threading.get_ident()


@pytest.mark.parametrize(("levels", "shown"), [(200, True), (201, False), (300, False), (900, False)])
async def test_what_is_nested_too_deep_to_be_shown_is_said(engine: Engine, levels: int, shown: bool) -> None:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    event_id = await engine.send({"rule_id": payloads.RULE_ID, "deep": value})
    found = await engine.get(f"/api/v1/events/{event_id}")
    if shown:
        assert (found["payload"]["deep"], found["unparsed"]) == (value, None)
    else:
        assert (found["payload"], found["unparsed"]) == (None, "the body is nested deeper than 200 levels")
        assert found["kind"] == "unparsed"


@pytest.mark.parametrize(("levels", "shown"), [(198, True), (199, False), (900, False)])
async def test_fetched_data_that_is_nested_too_deep_is_replaced_where_it_is(
    engine: Engine, levels: int, shown: bool
) -> None:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    event_id = await engine.send(payloads.rule([payloads.run()]))
    await engine.settled(event_id)
    await engine.running.store.save_fetched(event_id, {"feedback": {"r1": value, "r2": ["near"]}})
    fetched = (await engine.get(f"/api/v1/events/{event_id}"))["fetched"]["feedback"]
    assert fetched["r2"] == ["near"]
    assert (fetched["r1"] == value) is shown
    words = "it is nested deeper than 200 levels, which is too deep to be shown"
    assert (words in json.dumps(fetched["r1"])) is not shown


async def test_an_event_that_is_named_whole_is_not_read_for_its_id(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = await engine.send(payloads.rule([payloads.run()]))
    await engine.settled(event_id)
    read: list[str] = []
    store, event = engine.running.store, engine.running.store.event
    monkeypatch.setattr(store, "event", lambda start: read.append(start) or event(start))
    rows = (await engine.get("/api/v1/deliveries", event=event_id))["deliveries"]
    assert {row["event_id"] for row in rows} == {event_id}
    assert (await engine.post("/api/v1/replay", {"events": [event_id], "dry_run": True}))["events"] == [event_id]
    assert read == []
    assert (await engine.get("/api/v1/deliveries", event=event_id[:30]))["deliveries"] == rows
    assert read == [event_id[:30]]


BAD = {
    "deep": '{"deliveries":' + "[" * 1000 + "]" * 1000 + "}",
    "deep name": '{"name":' + '{"a":' * 1000 + "1" + "}" * 1000 + ',"route":' + "[" * 900 + "]" * 900 + "}",
    "too deep": '{"deliveries":' + "[" * 5000 + "]" * 5000 + "}",
    "a huge number": '{"deliveries":[1e308],"route":123456789012345678901234567890,"name":-1e-400,"for":1e300}',
    "half a character": '{"deliveries":["\\ud800"],"route":"\\ud800","name":"\\ud800","for":"\\ud800"}',
    "not a number": '{"deliveries":NaN}',
    "control characters": '{"deliveries":["\\u0000\\u001b[31m"],"route":"\\u0000","name":"\\u0000"}',
    "many values": '{"deliveries":[' + "0," * 20_000 + "0]}",
    "no object": "[]",
    "nothing": "",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
@pytest.mark.parametrize("path", ["/api/v1/replay", "/api/v1/destinations/resume", "/api/v1/mutes"])
async def test_a_bad_question_is_refused_with_words(engine: Engine, path: str, body: str) -> None:
    status, answer = await engine.ask("POST", path, data=body, headers={"Content-Type": "application/json"})
    assert 400 <= status < 500
    assert answer["error"]


@pytest.mark.parametrize(
    "word", ["%00", "%ED%A0%80", "%FF", "%1B%5B31m", "9" * 5000, "%F0%9F%98%80", "..", "%2e%2e", "'", "%25"]
)
async def test_a_bad_id_or_word_is_refused_with_words(engine: Engine, word: str) -> None:
    for path in (f"/api/v1/events/{word}", f"/api/v1/deliveries/{word}"):
        status, answer = await engine.ask("GET", URL(f"{engine.base}{path}", encoded=True).raw_path)
        assert 400 <= status < 500
        assert answer["error"]
    for query in ("event", "since", "limit", "before", "error", "route"):
        status, _ = await engine.ask("GET", f"/api/v1/deliveries?{query}={word}")
        assert status < 500


async def test_an_event_is_explained_by_the_rules_at_work_and_what_it_holds(engine: Engine) -> None:
    """Not by what is shown of it: a secret in it is masked in the answer, and compared all the same."""
    secret = "s3cret-value-of-a-filter"
    text = engine.config.read_text()
    engine.config.write_text(
        text.replace(f'secrets: ["{SECRET}"]', f'secrets: ["{SECRET}", "{secret}"]')
        + f"  alert:\n    - filters: [{{expr: \"alert_rule_name == '{secret}'\"}}]\n"
        + "      actions: [{log: {message: hi}}]\n"
    )
    await engine.post("/-/reload", {})
    event_id = await engine.send(payloads.alert() | {"alert_rule_name": secret})
    await engine.settled(event_id)
    report = await engine.post("/api/v1/explain", {"event": event_id[:20], "render": True})
    assert report["matched"]
    assert secret not in json.dumps(report)
    assert not (await engine.post("/api/v1/explain", {"event": event_id, "run": None, "route": "errors"}))["matched"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "which event"),
        ({"event": 7}, 400, "event must be a text"),
        ({"event": "0", "run": -1}, 400, "run is -1"),
        ({"event": "0", "run": True}, 400, "run is True"),
        ({"event": "0", "render": "maybe"}, 400, "render is 'maybe'"),
        ({"event": "0", "wrong": 1}, 400, "unknown field 'wrong'"),
        ({"event": "zzzzzzzz"}, 404, "no event starts with"),
        ({"event": "{event}", "route": "nowhere"}, 404, "no route is called"),
        ({"event": "{event}", "run": 9}, 404, "no run 9"),
        ({"event": "{event}", "feedback": 7}, 400, "feedback is a list"),
        ({"event": "{event}", "fetched": {"x": 1}}, 400, "inputs, outputs and feedback"),
    ],
)
async def test_a_question_to_explain_that_makes_no_sense_is_refused(
    engine: Engine, body: dict[str, Any], status: int, words: str
) -> None:
    event_id = await engine.send(payloads.complete())
    await engine.settled(event_id)
    asked = {key: event_id if value == "{event}" else value for key, value in body.items()}
    assert words in (await engine.post("/api/v1/explain", asked, expect=status))["error"]


async def test_a_preview_is_of_one_delivery_or_event(engine: Engine) -> None:
    event_id = await engine.send(payloads.complete())
    delivery = (await engine.settled(event_id))["deliveries"][0]
    shown = await engine.post("/api/v1/preview", {"delivery": delivery["id"]})
    assert (shown["id"], shown["would"]["would"]) == (delivery["id"], "fire")
    assert len((await engine.post("/api/v1/preview", {"event": event_id}))["deliveries"]) == 3
    for body in ({}, {"event": event_id, "delivery": delivery["id"]}):
        assert "what to preview" in (await engine.post("/api/v1/preview", body, expect=400))["error"]
    await engine.post("/api/v1/preview", {"delivery": "zzzzzzzz"}, expect=404)


async def test_the_state_of_the_file_is_shown(engine: Engine) -> None:
    assert (await engine.get("/api/v1/backlog"))["rules"]["file_is"] == "in_use"
    good = engine.config.read_text()
    engine.config.write_text("routes: 7\n")
    await engine.post("/-/reload", {}, expect=422)
    refused = (await engine.get("/api/v1/backlog"))["rules"]
    assert refused["file_is"] == "refused"
    assert refused["problems"] > 0
    reloader = engine.running.reloader
    async with reloader._under_way():
        assert (await engine.get("/api/v1/backlog"))["rules"]["file_is"] == "changed"
    engine.config.write_text(good)
    await engine.post("/-/reload", {})
    assert (await engine.get("/api/v1/backlog"))["rules"]["file_is"] == "in_use"


async def test_rules_that_give_no_answer_are_not_waited_for_without_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = await engine.send(payloads.complete())
    await engine.settled(event_id)
    blocked = threading.Event()
    monkeypatch.setattr("engine.admin.api._LONGEST_ANSWER", 0.2)
    monkeypatch.setattr("engine.admin.rules.explain", lambda *_: blocked.wait(20))
    answer = await engine.post("/api/v1/explain", {"event": event_id}, expect=503)
    assert "no answer within 0.2 s" in answer["error"]
    assert (await engine.get("/api/v1/backlog"))["engine"]
    blocked.set()


async def test_a_destination_whose_attempts_fail_is_not_called_healthy(engine: Engine, sink: WebhookSink) -> None:
    sink.answer_with(500, 500, 500)
    for hour in range(3):
        sent = payloads.complete() | {"start_time": f"2024-04-05T0{hour}:00:00+00:00"}
        await engine.settled(await engine.send(sent))
    rows = {row["name"]: row for row in (await engine.get("/api/v1/destinations"))["destinations"]}
    assert (rows[sink.origin]["state"], rows[sink.origin]["reason"]) == ("erring", "attempts failed in a row: 3")
    await engine.settled(await engine.send(payloads.complete() | {"start_time": "2024-04-05T09:00:00+00:00"}))
    rows = {row["name"]: row for row in (await engine.get("/api/v1/destinations"))["destinations"]}
    assert (rows[sink.origin]["state"], rows[sink.origin]["reason"]) == ("healthy", "")


async def test_what_is_dead_is_discarded(engine: Engine, sink: WebhookSink) -> None:
    sink.answer_with(400)
    event_id = await engine.send(payloads.complete())
    await engine.settled(event_id)
    (dead,) = (await engine.get("/api/v1/deliveries", state="dead"))["deliveries"]
    for body in ({}, {"by": "anna"}, {"state": "due"}, {"deliveries": []}, {"events": [event_id], "route": "errors"}):
        await engine.post("/api/v1/discard", body, expect=400)
    await engine.post("/api/v1/discard", {"deliveries": ["zzzzzzzz"]}, expect=404)
    wanted = {"route": "corrections/errors", "by": "anna", "reason": KEY}
    assert (await engine.post("/api/v1/discard", wanted | {"dry_run": True}))["count"] == 1
    assert (await engine.post("/api/v1/discard", wanted))["deliveries"] == [dead["id"]]
    shown = await engine.get(f"/api/v1/deliveries/{dead['id']}")
    assert (shown["state"], shown["attempts"], shown["history"][-1]["outcome"]) == ("discarded", 1, "discarded")
    assert shown["reason"].startswith("discarded by anna: ***; it was dead: ")
    assert (await engine.get("/api/v1/backlog"))["dead"] == 0
    assert (await engine.post("/api/v1/discard", {"events": [event_id]}))["count"] == 0

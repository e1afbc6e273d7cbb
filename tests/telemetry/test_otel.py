"""One trace an event, from the request that brought it to the request that an action makes, across restarts."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine.app import running
from engine.clients.langsmith import LangSmith, LangSmithSettings
from engine.core.errors import EngineError
from engine.core.serve_settings import Address, ServeSettings
from engine.core.trace import Spans, carried, carrying, valid_traceparent
from engine.telemetry.otel import OtelSpans, otlp_spans
from engine.testing import LangSmithStandIn, WebhookSink

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
LOOPBACK = Address("127.0.0.1", 0)
SECRET = "s3cret-of-the-webhook"

CONFIG = """
secrets: ["{secret}"]
defaults: {{retry: {{attempts: 3, min: 50ms, max: 100ms, within: 1h}}}}
plugins: [./plugins]
routes:
  alert:
    - name: forwarded
      actions:
        - forward_webhook: {{url: "{url}/?token=hush"}}
        - fetch: {{url: "{url}/plug-in"}}
"""
PLUGIN = '''
import engine


class Fetch(engine.Action):
    """Fetch something."""

    class Params(engine.Params):
        url: str

    async def run(self, params, context):
        async with context.http.get(params.url) as response:
            engine.check_response(response.status, response.headers)
'''


class Receiver:
    """An OTLP receiver: the spans that were posted to it, by name."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        for resource in message.resource_spans:
            self.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
async def otlp(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """A receiver, at which OpenTelemetry's own variables point."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    yield receiver
    await runner.cleanup()


@asynccontextmanager
async def an_engine(folder: Path, url: str, environ: dict[str, str]) -> AsyncIterator[Any]:
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "fetch.py").write_text(PLUGIN)
    (folder / "config.yaml").write_text(CONFIG.format(secret=SECRET, url=url))
    settings = ServeSettings(folder / "config.yaml", folder / "data", listen=LOOPBACK, admin=LOOPBACK, grace=0.2)
    async with running(settings, logging.getLogger("engine.test"), environ=environ) as engine:
        yield engine


async def send(engine: Any, secret: str = SECRET, parent: str = PARENT, name: str = "a") -> int:
    url = f"http://{engine.public}/webhooks/langsmith?secret={secret}"
    body = {"alert_rule_id": "x", "alert_rule_name": name}
    headers = {"traceparent": parent} if parent else {}
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as response:
        return response.status


async def until(condition: Any) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


async def test_one_trace_goes_from_the_webhook_to_what_actions_send(
    tmp_path: Path, sink: WebhookSink, otlp: Receiver
) -> None:
    async with an_engine(tmp_path, sink.url, dict(os.environ)) as engine:
        assert await send(engine) == 202
        await until(lambda: len(sink.requests) == 2)
    names = sorted(span.name for span in otlp.spans)
    assert names == ["append", "attempt", "attempt", "evaluate", "receive"]
    assert {span.trace_id.hex() for span in otlp.spans} == {TRACE}
    (receive,) = otlp.named("receive")
    assert receive.parent_span_id.hex() == "00f067aa0ba902b7"
    assert all(span.parent_span_id == receive.span_id for span in otlp.spans if span is not receive)
    sent = {request.headers["traceparent"] for request in sink.requests}
    assert sent == {f"00-{TRACE}-{span.span_id.hex()}-01" for span in otlp.named("attempt")}
    assert otlp.services == {"langsmith-rules-engine"}
    for secret in (SECRET, "hush"):
        assert secret not in str(otlp.spans)


async def test_an_attempt_after_a_restart_belongs_to_the_same_trace(
    tmp_path: Path, sink: WebhookSink, otlp: Receiver
) -> None:
    async with an_engine(tmp_path, "http://127.0.0.1:9", dict(os.environ)) as engine:
        assert await send(engine) == 202
        await until(lambda: engine.metrics is not None and not engine.worker.busy)
    first = {span.span_id for span in otlp.named("attempt")}
    assert first
    async with an_engine(tmp_path, sink.url, dict(os.environ)) as engine:
        await until(lambda: len(sink.requests) >= 2)
    later = [span for span in otlp.named("attempt") if span.span_id not in first]
    assert later
    assert {span.trace_id.hex() for span in otlp.spans} == {TRACE}
    assert all(TRACE in request.headers["traceparent"] for request in sink.requests)


async def test_an_event_without_a_trace_begins_one_and_an_unauthorized_request_does_not(
    tmp_path: Path, sink: WebhookSink, otlp: Receiver
) -> None:
    async with an_engine(tmp_path, sink.url, dict(os.environ)) as engine:
        assert await send(engine, secret="wrong") == 401
        assert await send(engine, parent="not a traceparent") == 202
        await until(lambda: len(sink.requests) == 2)
    (receive,) = otlp.named("receive")
    assert receive.parent_span_id == b""
    assert len({span.trace_id for span in otlp.spans}) == 1


async def test_without_opentelemetry_a_trace_is_passed_on_as_it_came(tmp_path: Path, sink: WebhookSink) -> None:
    async with an_engine(tmp_path, sink.url, {}) as engine:
        assert await send(engine) == 202
        await until(lambda: len(sink.requests) == 2)
        assert {request.headers["traceparent"] for request in sink.requests} == {PARENT}
        assert await send(engine, parent="nonsense", name="b") == 202
        await until(lambda: len(sink.requests) == 4)
        assert not any("traceparent" in request.headers for request in sink.requests[2:])


async def test_a_collector_that_never_answers_keeps_nothing_from_ending(
    tmp_path: Path, sink: WebhookSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.telemetry.otel._LAST_SPANS", 0.1)
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    async with an_engine(tmp_path, sink.url, dict(os.environ)) as engine:
        assert await send(engine) == 202
        await until(lambda: len(sink.requests) == 2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5  # the exporter's own patience is ten
    silent.close()


async def test_a_failed_attempt_is_an_error_in_a_word(tmp_path: Path) -> None:
    memory = InMemorySpanExporter()
    spans = OtelSpans(SimpleSpanProcessor(memory), {})
    span = spans.begin("attempt", PARENT, "client", {"engine.route": "alert/a"})
    span.end({"http.response.status_code": 503}, "server_error")
    (made,) = memory.get_finished_spans()
    assert made.attributes == {
        "engine.route": "alert/a",
        "http.response.status_code": 503,
        "error.type": "server_error",
    }
    assert not made.status.is_ok
    await spans.close()


async def test_whatever_an_attribute_holds_no_secret_gets_out() -> None:
    memory = InMemorySpanExporter()
    spans = OtelSpans(SimpleSpanProcessor(memory), {}, lambda text: text.replace(SECRET, "***"))
    spans.begin("attempt", "", "client", {"engine.destination": SECRET}).end({"engine.event": SECRET})
    spans.record("append", "", 1.0, 2.0, {"engine.event": SECRET})
    assert SECRET not in "".join(span.to_json() for span in memory.get_finished_spans())
    await spans.close()


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (PARENT, True),
        (PARENT.replace("-01", "-00"), True),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", True),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (PARENT.upper(), False),
        (PARENT + "\n", False),
        (f"01-{TRACE}-00f067aa0ba902b7-01-a\r\nX: y", False),
        ("", False),
    ],
)
def test_only_a_traceparent_is_taken_for_one(text: str, valid: bool) -> None:
    assert valid_traceparent(text) == (text if valid else "")
    assert Spans().begin("receive", text).traceparent == (text if valid else "")


def test_what_is_carried_ends_with_the_block() -> None:
    assert carried() == ""
    with carrying(PARENT):
        assert carried() == PARENT
    assert carried() == ""


async def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "engine.telemetry.otel")
    with pytest.raises(EngineError, match=r"pip install 'langsmith-rules-engine\[otel\]'"):
        async with an_engine(tmp_path, "http://127.0.0.1:9", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}):
            pass


def test_other_protocols_are_refused_with_words() -> None:
    with pytest.raises(EngineError, match="OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"):
        otlp_spans({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {}])
async def test_nothing_is_imported_unless_traces_are_asked_for(
    off: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "engine.telemetry.otel", raising=False)
    environ = off and off | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    async with an_engine(tmp_path, "http://127.0.0.1:9", environ):
        assert "engine.telemetry.otel" not in sys.modules


async def test_what_goes_to_langsmith_carries_the_trace_too(langsmith: LangSmithStandIn) -> None:
    door = LangSmith(LangSmithSettings("lsv2_test", langsmith.url))
    with carrying(PARENT):
        await door.dataset_id("corrections")
        await door.queue_id("needs-review")
    await door.aclose()
    assert len(langsmith.requests) >= 2
    assert {request.headers.get("traceparent") for request in langsmith.requests} == {PARENT}

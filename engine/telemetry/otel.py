"""OpenTelemetry spans, exported by OTLP over HTTP. Imported only if traces are configured: it is an optional extra.

OpenTelemetry's own ``OTEL_*`` variables set the endpoint, the service name and the sampling.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.core.errors import EngineError
from engine.core.event import Event
from engine.core.offload import in_thread
from engine.core.trace import TRACEPARENT, Facts, Span, SpanKind, Spans
from engine.rules.decision import Routing
from engine.store.records import Appended
from engine.worker.observer import Observer

try:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise EngineError("traces need OpenTelemetry: pip install 'langsmith-rules-engine[otel]'") from error

Attributes = dict[str, str | int | float | bool]

#: How long a stop waits for the export of the last spans, in seconds.
_LAST_SPANS = 3.0
_SERVICE = "langsmith-rules-engine"
_KINDS = {"server": trace.SpanKind.SERVER, "internal": trace.SpanKind.INTERNAL, "client": trace.SpanKind.CLIENT}


class _Span(Span):
    """A span of OpenTelemetry."""

    __slots__ = ("_masked", "_span")

    def __init__(self, span: trace.Span, traceparent: str, masked: Callable[[Facts], Attributes]) -> None:
        super().__init__(traceparent)
        self._span, self._masked = span, masked

    def end(self, facts: Facts | None = None, error: str = "") -> None:
        """End the span and pass it to the processor."""
        self._span.set_attributes(self._masked(facts or {}))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


class OtelSpans(Spans):
    """Creates spans and passes them to a processor, which has its own thread. Changes nothing global.

    ``mask`` removes secrets from attributes.
    """

    def __init__(self, processor: SpanProcessor, environ: Mapping[str, str], mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        resource = Resource.create({} if named else {SERVICE_NAME: _SERVICE})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(_SERVICE)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, parent: str, kind: SpanKind = "internal", facts: Facts | None = None) -> Span:
        """Start a span."""
        span = self._tracer.start_span(name, self._context(parent), _KINDS[kind], self._masked(facts or {}))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span))
        return _Span(span, carrier.get(TRACEPARENT, ""), self._masked)

    def record(self, name: str, parent: str, started_at: float, ended_at: float, facts: Facts) -> None:
        """Record a finished span."""
        start, end = _nanoseconds(started_at), _nanoseconds(max(ended_at, started_at))
        span = self._tracer.start_span(name, self._context(parent), attributes=self._masked(facts), start_time=start)
        span.end(end)

    def _masked(self, facts: Facts) -> Attributes:
        return {name: self._mask(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}

    def _context(self, parent: str) -> Any:
        # An empty context, because OpenTelemetry's current one does not belong to the engine.
        return self._propagator.extract({TRACEPARENT: parent} if parent else {}, trace.set_span_in_context(_NONE))

    async def close(self) -> None:
        """Export the remaining spans, for at most 3 seconds: the receiver may not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SPANS):
                await in_thread(self._provider.shutdown)


_NONE = trace.INVALID_SPAN


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)


def otlp_spans(environ: Mapping[str, str], mask: Callable[[str], str] = str) -> OtelSpans:
    """Spans that are exported to ``OTEL_EXPORTER_OTLP_ENDPOINT`` in batches.

    Raises:
        EngineError: OpenTelemetry is not installed, or another protocol than OTLP over HTTP is configured.
    """
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, "http/protobuf") != "http/protobuf":
            raise EngineError(f"traces are sent by OTLP over HTTP: set {name}=http/protobuf, or leave it out")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise EngineError("traces need OpenTelemetry: pip install 'langsmith-rules-engine[otel]'") from error
    return OtelSpans(BatchSpanProcessor(OTLPSpanExporter()), environ, mask)


class TraceObserver(Observer):
    """Adds spans to an event's trace: for its storing, and for each evaluation."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def accepted(self, event: Event, appended: Appended) -> None:
        """Record the time from parsing to durable storage."""
        facts: Facts = {"engine.event": appended.event_id, "engine.duplicate": appended.duplicate}
        self._spans.record("append", event.trace, event.received_at, time.time(), facts)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """Record an evaluation."""
        facts: dict[str, str | int] = {
            "engine.event": event.id,
            "engine.matched": routing.matched,
            "engine.fallback": routing.fallback,
            "engine.deliveries": made,
        }
        if routing.unmatched_reason:
            facts["engine.unmatched_reason"] = routing.unmatched_reason
        self._spans.record("evaluate", event.trace, started_at, time.time(), facts)

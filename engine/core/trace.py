"""Interface for spans of a trace, and the propagation of ``traceparent`` (W3C Trace Context).

The ``traceparent`` of a webhook is stored with the event and sent with the requests of its actions. Without
OpenTelemetry it is passed on unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

#: The header's name.
TRACEPARENT = "traceparent"
#: Version, trace, span, flags; later versions may append fields (W3C Trace Context, 3.2.2). Ids of zeros are invalid.
_VALID = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{1,200})?"
)

Facts = Mapping[str, str | int | float | bool]
SpanKind = Literal["server", "internal", "client"]

#: The traceparent of this task's requests. A context variable, because client libraries do not pass it on.
_CARRIED: ContextVar[str] = ContextVar("traceparent", default="")


def valid_traceparent(text: str) -> str:
    """The header's value if it is valid, else empty."""
    return text if text and _VALID.fullmatch(text) else ""


@contextmanager
def carrying(traceparent: str) -> Iterator[None]:
    """Add a traceparent to the requests of this task and of tasks it starts."""
    token = _CARRIED.set(traceparent)
    try:
        yield
    finally:
        _CARRIED.reset(token)


#: The current traceparent; empty if there is none.
carried = _CARRIED.get


class Span:
    """A started span. ``traceparent`` is the parent for spans within it, or empty."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent

    def end(self, facts: Facts | None = None, error: str = "") -> None:
        """End the span. ``error`` is the class of the failure, or empty."""


_NO_SPAN = Span()


class Spans:
    """Creates no spans; passes on the traceparent."""

    def begin(self, _name: str, parent: str, _kind: SpanKind = "internal", _facts: Facts | None = None) -> Span:
        """Start a span in the trace of ``parent``, or in a new trace if ``parent`` is empty or invalid."""
        return Span(valid_traceparent(parent)) if parent else _NO_SPAN

    def record(self, name: str, parent: str, started_at: float, ended_at: float, facts: Facts) -> None:
        """Record a finished span. Times are in Unix seconds."""

    async def close(self) -> None:
        """Export the remaining spans."""

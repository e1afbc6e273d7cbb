"""Where spans of a trace begin and end, whether or not somebody makes any; and the trace that requests carry on.

A trace is known by its ``traceparent`` (W3C Trace Context): it comes with a webhook, is kept with the event, and goes
out with what an action sends. Without OpenTelemetry it is passed on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

#: The header's name.
TRACEPARENT = "traceparent"
#: Version, trace, span, flags; later versions may add to it (W3C Trace Context, 3.2.2). Zeros are no ids.
_VALID = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{1,200})?"
)

Facts = Mapping[str, str | int | float | bool]
SpanKind = Literal["server", "internal", "client"]

#: What requests of this task carry: between an action and its request lies a client library that passes nothing on.
_CARRIED: ContextVar[str] = ContextVar("traceparent", default="")


def valid_traceparent(text: str) -> str:
    """The header's value, or nothing where it is not one. Senders write what they like."""
    return text if text and _VALID.fullmatch(text) else ""


@contextmanager
def carrying(traceparent: str) -> Iterator[None]:
    """Within it, requests of this task and those it starts carry a trace on."""
    token = _CARRIED.set(traceparent)
    try:
        yield
    finally:
        _CARRIED.reset(token)


def carried() -> str:
    """The trace that a request made now carries on; empty for none."""
    return _CARRIED.get()


class Span:
    """One step of a trace, which has begun. ``traceparent`` is what those within it go on from; empty for none."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent

    def end(self, facts: Facts | None = None, error: str = "") -> None:
        """It is over; ``error`` says in a word why it failed."""


_NO_SPAN = Span()


class Spans:
    """Makes no spans, and passes on what came."""

    def begin(self, _name: str, parent: str, _kind: SpanKind = "internal", _facts: Facts | None = None) -> Span:
        """A span that begins now, in the trace of ``parent``, or in a new one where that is no traceparent."""
        return Span(valid_traceparent(parent)) if parent else _NO_SPAN

    def record(self, name: str, parent: str, started_at: float, ended_at: float, facts: Facts) -> None:
        """A span that is over; its times are Unix seconds."""

    async def close(self) -> None:
        """Hand over what is not handed over yet."""

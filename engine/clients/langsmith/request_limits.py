"""Requests to LangSmith that no delivery makes: each waits for its turn, and its answer counts against the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol


class RequestLimits(Protocol):
    """What such requests have to respect."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """One request: from its turn to the end of its answer. What is raised inside says how it went.

        Raises:
            NotNow: none may be made at the moment.
            RequestTooSlow: it took too long.
        """

    async def grow(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            DataTooLarge: they can never fit.
            NotNow: they do not fit at the moment.
        """

    async def parse(self, size: int) -> None:
        """Hold what an answer parses to, which takes so many bytes.

        Raises:
            DataTooLarge: it can never fit.
            NotNow: it does not fit at the moment.
        """


class RequestTooSlow(TimeoutError):  # noqa: N818 - a condition, not a fault
    """A request took longer than it may."""


#: What requests made by this task have to respect: between the hydrator and the transport lies an SDK that passes
#: nothing on.
_LIMITS_NOW: ContextVar[RequestLimits | None] = ContextVar("request_limits", default=None)


@contextmanager
def request_limits(what: RequestLimits) -> Iterator[None]:
    """Requests made meanwhile by this task have to respect something."""
    token = _LIMITS_NOW.set(what)
    try:
        yield
    finally:
        _LIMITS_NOW.reset(token)


def current_request_limits() -> RequestLimits | None:
    """What a request made now has to respect; None for a delivery's."""
    return _LIMITS_NOW.get()

"""Limits for requests to LangSmith outside of deliveries: concurrency, and memory for their responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol


class RequestLimits(Protocol):
    """The limits that such requests must observe."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """The context of one request: entered when it may be sent, left when its response is complete or failed.

        Raises:
            NotNow: no request may be sent at the moment.
            RequestTooSlow: the request took too long.
        """

    async def grow(self, size: int) -> None:
        """Reserve ``size`` more bytes.

        Raises:
            DataTooLarge: they can never fit.
            NotNow: they do not fit at the moment.
        """

    async def parse(self, size: int) -> None:
        """Reserve ``size`` bytes for a parsed response.

        Raises:
            DataTooLarge: it can never fit.
            NotNow: it does not fit at the moment.
        """


class RequestTooSlow(TimeoutError):  # noqa: N818 - names the condition
    """A request exceeded its time limit."""


#: The limits for requests of the current task. A context variable, because the SDK between the hydrator and the
#: transport passes no arguments on.
_CURRENT: ContextVar[RequestLimits | None] = ContextVar("request_limits", default=None)


@contextmanager
def request_limits(limits: RequestLimits) -> Iterator[None]:
    """A context in which requests of this task observe ``limits``."""
    token = _CURRENT.set(limits)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_request_limits() -> RequestLimits | None:
    """The limits for requests of the current task; None in a delivery."""
    return _CURRENT.get()

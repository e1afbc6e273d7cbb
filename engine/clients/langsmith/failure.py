"""LangSmith's error responses as exceptions, with messages for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.clients.langsmith.request_limits import RequestTooSlow
from engine.core.errors import DataTooLarge, EngineError, NotNow
from engine.core.masking import shortened

#: How many characters of LangSmith's message are quoted.
_LONGEST_TEXT = 300


class LangSmithFailure(EngineError):  # noqa: N818 - LangSmith's response, not an error of the engine
    """LangSmith returned an error, or could not be reached. The SDK's exception is its cause.

    An action need not catch it: the status decides whether the attempt is retried.

    Attributes:
        status: The HTTP status; None where LangSmith could not be reached.
        headers: Of the answer; empty where there is none.
    """

    status: int | None
    """The HTTP status; None where LangSmith could not be reached."""
    headers: Mapping[str, str]
    """Of the answer; empty where there is none."""

    def __init__(self, message: str, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception of the SDK and its causes."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def own_error(error: BaseException) -> Exception | None:
    """The exception of the engine's own transport, which the SDK wraps as a connection error; None if there is none."""
    return next((link for link in _causes(error) if isinstance(link, (DataTooLarge, NotNow, RequestTooSlow))), None)


def failure_of(error: BaseException, task: str) -> LangSmithFailure:
    """Convert an exception of the SDK into one with a message for people. ``task`` completes "asked to …"."""
    responses = (getattr(link, "response", None) for link in _causes(error))
    response: Any = next((one for one in responses if getattr(one, "status_code", None) is not None), None)
    if response is None:
        cause = error.__cause__ or error
        text = str(cause).strip() or type(cause).__name__
        return LangSmithFailure(f"LangSmith could not be reached to {task}: {shortened(text, _LONGEST_TEXT)}")
    status = int(response.status_code)
    text = shortened(" ".join(_detail(response).split()), _LONGEST_TEXT)
    advice = _advice(status, text)
    message = f"LangSmith answered {status} when asked to {task}" + (f": {text}" if text else "")
    return LangSmithFailure(message + (f" ({advice})" if advice else ""), status=status, headers=response.headers)


def _detail(response: Any) -> str:
    """The server's message: ``detail``, ``error`` or ``message`` of its JSON, else the body's text."""
    try:
        body = response.json()
    except ValueError:
        return str(response.text)
    given = (body.get(key) for key in ("detail", "error", "message")) if isinstance(body, dict) else ()
    return str(next(filter(None, given), body))


def _advice(status: int, text: str) -> str:
    if "org_scoped_key_requires_workspace" in text:
        return "the key belongs to an organisation: set langsmith.workspace_id"
    if status == 401:
        return "check langsmith.api_key and langsmith.endpoint"
    return "redirects are not followed: check langsmith.endpoint" if 300 <= status < 400 else ""

"""What LangSmith's refusals and silences mean, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.clients.langsmith.request_limits import RequestTooSlow
from engine.core.errors import DataTooLarge, EngineError, NotNow
from engine.core.masking import shortened

#: How much of LangSmith's words is passed on, in characters.
_LONGEST_TEXT = 300


class LangSmithFailure(EngineError):  # noqa: N818 - what came back, not a fault of ours
    """LangSmith said no, or could not be reached. The SDK's exception is its cause.

    An action may let it pass: it is retried, or final, by its status.

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


def own_error(error: BaseException) -> Exception | None:
    """What our own transport raised, where the SDK took it for a failed connection."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, (DataTooLarge, NotNow, RequestTooSlow)):
            return link
        link = link.__cause__
    return None


def failure_of(error: BaseException, task: str) -> LangSmithFailure:
    """What an exception of the SDK means, in words that a person can act on; ``task`` completes "asked to …"."""
    response = _response_of(error)
    if response is None:
        cause = error.__cause__ or error
        words = str(cause).strip() or type(cause).__name__
        return LangSmithFailure(f"LangSmith could not be reached to {task}: {shortened(words, _LONGEST_TEXT)}")
    status = int(response.status_code)
    words = shortened(" ".join(_detail(response).split()), _LONGEST_TEXT)
    advice = _advice(status, words)
    message = f"LangSmith answered {status} when asked to {task}" + (f": {words}" if words else "")
    return LangSmithFailure(message + (f" ({advice})" if advice else ""), status=status, headers=response.headers)


def _response_of(error: BaseException) -> Any:
    link: BaseException | None = error
    while link is not None:
        response = getattr(link, "response", None)
        if getattr(response, "status_code", None) is not None:
            return response
        link = link.__cause__
    return None


def _detail(response: Any) -> str:
    """The server's own words: its JSON's ``detail``, ``error`` or ``message``, else the body's text."""
    try:
        body = response.json()
    except ValueError:
        return str(response.text)
    words = (
        next((body[key] for key in ("detail", "error", "message") if body.get(key)), body) if _is_map(body) else body
    )
    return str(words)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _advice(status: int, words: str) -> str:
    if "org_scoped_key_requires_workspace" in words:
        return "the key belongs to an organisation: set langsmith.workspace_id"
    if status == 401:
        return "check langsmith.api_key and langsmith.endpoint"
    return "redirects are not followed: check langsmith.endpoint" if 300 <= status < 400 else ""

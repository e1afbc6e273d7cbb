"""Why an attempt failed, in one word out of few: what a metric can be told apart by."""

from __future__ import annotations

from typing import Literal, get_args

from engine.action.retry import Failure
from engine.core.errors import Discard, Retry, TemplateError

#: ``auth``: 401 or 403. ``client_error``: any other answer that is final (3xx, 4xx). ``data``: what was to be fetched
#: could not be. ``template``: a parameter could not be made. ``discarded`` and ``retry``: the action said so itself.
#: ``unconfigured``: the route or action is no longer configured. ``overdue``: its destination took nothing for
#: as long as it may wait. ``unexpected``: what nobody foresaw.
ReasonClass = Literal[
    "", "auth", "client_error", "connection", "data", "discarded", "overdue", "rate_limited", "retry",
    "server_error", "template", "timeout", "unconfigured", "unexpected",
]  # fmt: skip
REASON_CLASSES: tuple[str, ...] = get_args(ReasonClass)


def reason_class(failure: Failure | None, error: BaseException | None) -> ReasonClass:
    """The word for what an attempt came to, from the exception and what it means; empty for success."""
    if failure is None:
        return ""
    if failure.status is not None:
        return _of_status(failure.status)
    if isinstance(error, TemplateError):
        return "template"
    if isinstance(error, Discard):
        return "discarded"
    if isinstance(error, Retry):
        return "retry"
    return _of_cause(failure)


def _of_status(status: int) -> ReasonClass:
    if status in (401, 403):
        return "auth"
    if status == 429:
        return "rate_limited"
    return "server_error" if status >= 500 else "client_error"


def _of_cause(failure: Failure) -> ReasonClass:
    match failure.cause:
        case "data" | "connection" | "timeout":
            return failure.cause
        case _:
            return "unexpected"

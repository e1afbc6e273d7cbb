"""The public plug-in API of ``langsmith-rules-engine``, nothing else. docs/plugins.md is its guide."""

from engine.action import Action, ActionContext, EscapePayload, LiteralHost, Params, Service
from engine.errors import Discard, Retry
from engine.langsmith import LangSmith
from engine.langsmith.failure import LangSmithFailure
from engine.response import read_response, read_text
from engine.retry import Scope, check_response
from engine.whsec import webhook_key

__all__ = [
    "Action",
    "ActionContext",
    "Discard",
    "EscapePayload",
    "LangSmith",
    "LangSmithFailure",
    "LiteralHost",
    "Params",
    "Retry",
    "Scope",
    "Service",
    "check_response",
    "read_response",
    "read_text",
    "webhook_key",
]

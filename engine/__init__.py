"""The public plug-in API of ``langsmith-rules-engine``, nothing else. docs/plugins.md is its guide."""

from engine.action.contract import Action, ActionContext, Service, read_response, read_text
from engine.action.failures import Scope
from engine.action.params import EscapePayload, LiteralHost, Params
from engine.clients.langsmith import LangSmith
from engine.clients.langsmith.failure import LangSmithFailure
from engine.core.errors import Discard, Retry, check_response
from engine.core.signatures import webhook_key

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

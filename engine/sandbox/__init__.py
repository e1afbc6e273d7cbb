"""Stand-ins for LangSmith, Slack and a webhook's receiver, for ``engine demo`` and for tests."""

from __future__ import annotations

from engine.sandbox.langsmith import LangSmithStandIn
from engine.sandbox.limits import LANGSMITH_LIMITS, SLACK_LIMITS, RateLimit
from engine.sandbox.objects import ObjectStore
from engine.sandbox.server import Answer, Recorded
from engine.sandbox.sink import WebhookSink
from engine.sandbox.slack import Message, SlackStandIn

__all__ = [
    "LANGSMITH_LIMITS",
    "SLACK_LIMITS",
    "Answer",
    "LangSmithStandIn",
    "Message",
    "ObjectStore",
    "RateLimit",
    "Recorded",
    "SlackStandIn",
    "WebhookSink",
]

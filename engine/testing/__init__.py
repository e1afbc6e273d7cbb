"""Stand-ins for LangSmith, Slack and a webhook's receiver, for ``engine demo`` and for tests."""

from __future__ import annotations

from engine.testing.attempts import attempt
from engine.testing.langsmith.server import LangSmithStandIn
from engine.testing.objects import ObjectStore
from engine.testing.rate_limits import LANGSMITH_LIMITS, SLACK_LIMITS, RateLimit
from engine.testing.server import Answer, Recorded
from engine.testing.sink import WebhookSink
from engine.testing.slack import Message, SlackStandIn

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
    "attempt",
]

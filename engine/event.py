"""Wire formats of LangSmith's webhooks → Event. The only module that knows their payloads' shapes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The webhooks LangSmith sends, told apart by their keys."""

    RULE = "rule"
    ALERT = "alert"
    PROMPT = "prompt"
    ISSUE = "issue"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted webhook.

    ``received_at`` is in Unix seconds, UTC. ``body`` is what was sent (decompressed), and
    ``payload`` what it parsed to. ``repaired`` tells that it took the tolerant parser:
    lone surrogates were replaced. ``dedup_key`` is equal for two deliveries of one webhook.
    """

    id: str
    kind: Kind
    rule_id: str | None
    dedup_key: str
    received_at: float
    body: bytes
    payload: dict[str, Any]
    repaired: bool = False

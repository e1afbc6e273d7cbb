"""A payload made anew, so that it is no duplicate of one that was sent before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from engine.core.times import time_of

#: How long a rule's window is where the payload doesn't tell.
_WINDOW = timedelta(minutes=5)
#: What tells when a webhook was caused, by kind; the first that is there is set to now.
_MOMENTS = ("timestamp", "created_at", "triggered_at", "created")


def freshen(payload: Mapping[str, Any], now: datetime | None = None) -> dict[str, Any]:
    """A copy that LangSmith might have sent just now.

    A rule's window ends now and is as long as it was; its runs stay what they are, so that
    what is fetched for them is still found. Other webhooks get a new time, and an ``id`` of
    their own where they have one.
    """
    now = now or datetime.now(UTC)
    fresh = dict(payload)
    if "start_time" in fresh or "end_time" in fresh or "rule_id" in fresh:
        fresh |= {"start_time": (now - _length(payload)).isoformat(), "end_time": now.isoformat()}
        return fresh
    if isinstance(fresh.get("id"), str):
        fresh["id"] = str(uuid4())
    moment = next((key for key in _MOMENTS if key in fresh), _MOMENTS[0])
    fresh[moment] = now.timestamp() if isinstance(fresh.get(moment), (int, float)) else now.isoformat()
    return fresh


def _length(payload: Mapping[str, Any]) -> timedelta:
    start, end = time_of(payload.get("start_time")), time_of(payload.get("end_time"))
    return end - start if start is not None and end is not None and end > start else _WINDOW

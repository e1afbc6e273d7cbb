"""An event as the store's answers tell it, made into one that can be explained again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from engine.cli.client import AccessError
from engine.document import Fetched
from engine.event import Event, parse_event


def stored_event(detail: Mapping[str, Any]) -> tuple[Event, Fetched]:
    """The event of a detailed answer, and what was fetched for it.

    Raises:
        AccessError: its payload is gone.
    """
    if detail["payload"] is None:
        raise AccessError(f"the payload of event {detail['id']} is no longer kept")
    received_at = datetime.fromisoformat(detail["received_at"]).timestamp()
    event = parse_event(orjson.dumps(detail["payload"]), received_at)
    return replace(event, id=detail["id"]), Fetched.from_json(detail["fetched"])

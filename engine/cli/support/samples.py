"""Events that commands take instead of a file: built-in sample webhooks, and stored events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import click
import orjson

from engine.cli.support.admin_client import Absent
from engine.core.document import Fetched
from engine.core.event import Event, Kind, parse_event

#: The built-in samples: the name of a kind, and that of the function of ``engine.testing.payloads``.
SAMPLES: Mapping[str, str] = {
    "rule": "complete",
    "seed": "seed",
    "thread": "threads",
    "alert": "alert",
    "prompt": "prompt_commit",
    "issue": "issue",
    "context_hub": "context_hub_commit",
}

kind_option = click.option("--kind", type=click.Choice(list(SAMPLES)), help="A built-in sample instead of a file.")


def sample_body(kind: str) -> bytes:
    """A sample as the bytes of a webhook."""
    from engine.testing import payloads  # takes long to import, and only samples need it

    return payloads.to_body(getattr(payloads, SAMPLES[kind])())


def stored_event(detail: Mapping[str, Any]) -> tuple[Event, Fetched]:
    """The event of a detailed answer, and what was fetched for it.

    Raises:
        Absent: its payload is gone.
    """
    received_at = datetime.fromisoformat(detail["received_at"]).timestamp()
    if detail["unparsed"]:
        event = Event(detail["id"], Kind.UNPARSED, None, "", received_at, b"", {}, unparsed=detail["unparsed"])
        return event, Fetched()
    if detail["payload"] is None:
        raise Absent(f"the payload of event {detail['id']} is no longer kept")
    body = orjson.dumps(detail["payload"])
    # It was parsed where it is stored, perhaps with a higher limit than this command's.
    event = parse_event(body, received_at, max_values=len(body))
    return replace(event, id=detail["id"]), Fetched.from_json(detail["fetched"])

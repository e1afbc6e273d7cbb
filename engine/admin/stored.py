"""A stored event, made into one that can be evaluated again."""

from __future__ import annotations

from engine.admin.query import NotFound
from engine.core.document import Fetched
from engine.core.errors import BadBody
from engine.core.event import Event, restored_event
from engine.store.queries import EventDetail


def event_of(detail: EventDetail, max_values: int) -> tuple[Event, Fetched]:
    """The event, and what was fetched for it. One with more than ``max_values`` values is not parsed.

    Raises:
        NotFound: its payload was deleted, or cannot be read.
    """
    row = detail.row
    if detail.body is None:
        raise NotFound(f"the payload of event {row.id} is no longer kept")
    try:
        event = restored_event(
            row.id,
            row.kind,
            row.rule_id,
            "",
            row.received_at,
            detail.body,
            repaired=row.repaired,
            trace="",
            max_values=max_values,
        )
    except BadBody as error:
        raise NotFound(f"the payload of event {row.id} cannot be read: {error}") from error
    return event, Fetched.from_json(detail.fetched)

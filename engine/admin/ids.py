"""Ids of events and deliveries as people give them: by any start that only one of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.admin.query import BadQuery

#: The fewest characters of an id that are taken for its start.
SHORTEST: Final = 8

#: An id that was perhaps meant: ``id``, ``kind`` (event or delivery) and ``about``, what tells it from others.
Candidate = Mapping[str, str]


def start_of(text: str) -> str:
    """An id, or its start, as ids are written: without blanks around it, in lower case.

    Raises:
        BadQuery: it is too short.
    """
    start = text.strip().lower()
    if len(start) < SHORTEST:
        raise BadQuery(f"{text!r} is too short for an id", f"write at least {SHORTEST} characters of it")
    return start


def ambiguous(start: str, candidates: Sequence[Candidate], *, more: bool = False) -> BadQuery:
    """The answer to a start that several ids have; ``more``: there are others besides the candidates."""
    count = f"more than {len(candidates)}" if more else str(len(candidates))
    return BadQuery(f"{start!r} is ambiguous: it is the start of {count} ids", "write more of the one", candidates)


def event_candidate(view: Mapping[str, Any]) -> Candidate:
    """An event, from its view."""
    what = " ".join(filter(None, (view["kind"], view["rule"] or view["rule_id"])))
    return {"id": view["id"], "kind": "event", "about": f"{view['received_at'][:19]}Z, {view['state']}, {what}"}


def delivery_candidate(view: Mapping[str, Any]) -> Candidate:
    """A delivery, from its view."""
    run = f"run {view['run_index']}" if view["run_index"] >= 0 else "whole event"
    about = f"{view['route']}, {view['action']}, {run}, {view['state']}"
    return {"id": view["id"], "kind": "delivery", "about": about}

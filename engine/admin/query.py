"""What people may ask of the store: fields of a query string, or of a command's options, into its queries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.core.errors import EngineError
from engine.core.event import Kind
from engine.core.suggest import did_you_mean
from engine.core.times import parse_time
from engine.core.units import parse_duration
from engine.store.queries import DeliveryQuery, EventQuery

#: The most rows one answer holds.
MOST_ROWS = 1000
EVENT_STATES = ("pending", "routed", "dead", "discarded")
DELIVERY_STATES = ("due", "running", "succeeded", "dead", "discarded")
EVENT_FIELDS = ("kind", "rule", "state", "unmatched", "error", "since", "until", "before", "limit")
DELIVERY_FIELDS = ("state", "route", "action", "event", "error", "since", "until", "before", "limit")
#: A longer number is no count, and Python does not read one of thousands of digits.
_COUNT = re.compile(r"[0-9]{1,9}")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


#: The fewest characters of the start of an id.
SHORTEST: Final = 8

#: A possible meaning of an id: ``id``, ``kind`` (event or delivery) and ``about``, which tells it from others.
Candidate = Mapping[str, str]


class Refusal(EngineError):  # noqa: N818 - reads as the answer it causes
    """A request that is answered with an error of ``status``; ``hint`` says what to do.

    ``candidates`` are the possible meanings of an ambiguous id.
    """

    status = 400

    def __init__(self, message: str, hint: str = "", candidates: Sequence[Candidate] = ()) -> None:
        super().__init__(message)
        self.hint, self.candidates = hint, candidates


class BadQuery(Refusal):
    """A question that has no meaning."""


class NotFound(Refusal):
    """Nothing goes by that id."""

    status = 404


class TooSlow(Refusal):
    """An answer takes too long."""

    status = 503


def event_query(fields: Mapping[str, Any], now: float) -> EventQuery:
    """A list of events, from fields as they stand in a query string. ``now`` is in Unix seconds.

    ``rule`` is left to the caller: it may be a name for several ids.

    Raises:
        BadQuery: a word is unknown, or its value is.
    """
    check_fields(fields, EVENT_FIELDS)
    unmatched = fields.get("unmatched")
    return EventQuery(
        kind=_one_of("kind", fields.get("kind"), [str(kind) for kind in Kind]),
        state=_one_of("state", fields.get("state"), EVENT_STATES),
        unmatched=None if unmatched is None else boolean("unmatched", unmatched),
        error=text("error", fields.get("error")),
        since=moment(fields.get("since"), now),
        until=moment(fields.get("until"), now),
        before=text("before", fields.get("before")),
        limit=limit_of(fields.get("limit")),
    )


def delivery_query(fields: Mapping[str, Any], now: float) -> DeliveryQuery:
    """A list of deliveries, from fields as they stand in a query string. ``now`` is in Unix seconds.

    Raises:
        BadQuery: a word is unknown, or its value is.
    """
    check_fields(fields, DELIVERY_FIELDS)
    return DeliveryQuery(
        state=_one_of("state", fields.get("state"), DELIVERY_STATES),
        route=text("route", fields.get("route")),
        action=text("action", fields.get("action")),
        event_id=text("event", fields.get("event")),
        error=text("error", fields.get("error")),
        before=text("before", fields.get("before")),
        since=moment(fields.get("since"), now),
        until=moment(fields.get("until"), now),
        limit=limit_of(fields.get("limit")),
    )


def check_fields(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """See that every word is known.

    Raises:
        BadQuery: one is not.
    """
    for word in fields:
        if word not in known:
            raise BadQuery(f"unknown field {word!r}", did_you_mean(word, known))


def moment(value: Any, now: float) -> float | None:
    """Unix seconds of ``1h`` (that long ago), a time in ISO 8601, or Unix seconds; None stays None.

    Raises:
        BadQuery: it is none of them.
    """
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        return parse_time(text).timestamp()
    except ValueError:
        return _unix(text)


def _unix(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        hint = "write 30m, 2h or 7d for that long ago, or a time such as 2026-05-04T09:30:00Z"
        raise BadQuery(f"{text!r} is not a time", hint) from None


def limit_of(value: Any, *, default: int = 50, most: int = MOST_ROWS) -> int:
    """How many rows: at least 1, at most ``most``.

    Raises:
        BadQuery: it is not such a number.
    """
    if value is None:
        return default
    if not isinstance(value, bool) and _COUNT.fullmatch(str(value)) and 1 <= int(value) <= most:
        return int(value)
    raise BadQuery(f"limit is {value!r}", f"write a number from 1 to {most}")


def boolean(word: str, value: Any) -> bool:
    """True or false, as JSON or as text.

    Raises:
        BadQuery: it is neither.
    """
    if isinstance(value, bool):
        return value
    found = _BOOLEANS.get(str(value).lower())
    if found is None:
        raise BadQuery(f"{word} is {value!r}", "write true or false")
    return found


def texts(word: str, value: Any) -> list[str]:
    """A list of texts.

    Raises:
        BadQuery: it is something else, or empty.
    """
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return value
    raise BadQuery(f"{word} must be a list of ids", f'write {{"{word}": ["…"]}}')


def text(word: str, value: Any) -> str | None:
    """A text, or None.

    Raises:
        BadQuery: it is something else.
    """
    if value is None or isinstance(value, str):
        return value
    raise BadQuery(f"{word} must be a text")


def _one_of(word: str, value: Any, known: tuple[str, ...] | list[str]) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value in known:
        return value
    raise BadQuery(f"unknown {word} {value!r}", did_you_mean(str(value), known))


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

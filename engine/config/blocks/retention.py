"""The block ``retention`` of the file: how long what is kept, and how large the store may become."""

from __future__ import annotations

import math
from typing import Any, Final

from engine.config.model import DEFAULT_RETENTION, Retention
from engine.config.section import Section
from engine.core.units import format_duration, format_size, parse_duration, parse_size

_AGES: Final = ("bodies", "events", "unmatched", "dead")
_WORDS: Final = {
    "body": "bodies",
    "payloads": "bodies",
    "event": "events",
    "history": "events",
    "attempts": "events",
    "decisions": "events",
    "dead_letters": "dead",
    "failed": "dead",
    "size": "max_size",
    "cap": "max_size",
    "max_bytes": "max_size",
    "limit": "max_size",
}
#: A sender that tries again is to be known again, and a person to have a moment to look; in seconds.
_SHORTEST: Final = 600.0
_LONGEST: Final = 3660 * 86400.0
#: One event may have 64 MiB.
_SMALLEST: Final = 128 * 2**20


def read_retention(top: Section) -> Retention:
    """How long what is kept. What is left out fits what is written: nothing outlives the event it is of."""
    default = DEFAULT_RETENTION
    section = top.block("retention", (*_AGES, "max_size"), _WORDS)
    if section is None:
        return default
    ages = {key: section.parsed(key, None, _age) for key in _AGES}
    bodies, events, unmatched, dead = ages.values()
    if events is None:
        events = max(default.events, bodies or 0.0, unmatched or 0.0)
    for key in ("bodies", "unmatched"):
        _check_order(section, key, ages[key], events)
    return Retention(
        bodies=min(default.bodies, events) if bodies is None else bodies,
        events=events,
        unmatched=min(default.unmatched, events) if unmatched is None else unmatched,
        dead=default.dead if dead is None else dead,
        max_size=section.parsed("max_size", default.max_size, _size) or default.max_size,
    )


def _check_order(section: Section, key: str, age: float | None, events: float) -> None:
    if age is not None and age > events:
        words = f"{key}: {format_age(age)} is longer than events: {format_age(events)}, with which everything goes"
        section.reader.wrong((*section.where, key), words, "make events as long, or this shorter")


def format_age(seconds: float) -> str:
    """An age as it is written in the file."""
    return "forever" if seconds == math.inf else format_duration(seconds)


def format_cap(size: float) -> str:
    """A largest size as it is written in the file."""
    return "none" if size == math.inf else format_size(size)


def _age(value: Any) -> float:
    if isinstance(value, str) and value.strip() == "forever":
        return math.inf
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or forever") from None
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(f"{value!r} is not a time to keep things; write one from 10m to 3660d, or forever")
    return seconds


def _size(value: Any) -> float:
    if isinstance(value, str) and value.strip() == "none":
        return math.inf
    try:
        size = parse_size(value)
    except ValueError as error:
        raise ValueError(f"{error}, or none") from None
    if size < _SMALLEST:
        raise ValueError(f"{value!r} is too small for a store; write {format_size(_SMALLEST)} or more, or none")
    return float(size)

"""Points in time as LangSmith, people and other systems write them."""

from __future__ import annotations

from datetime import UTC, datetime

#: A longer text is no time. Python's error for one would quote all of it.
_LONGEST = 200


def parse_time(text: str) -> datetime:
    """A time of an ISO 8601 text; without an offset it is UTC, without a time of day it is midnight.

    Raises:
        ValueError: with words for the author of the text.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:_LONGEST]!r}… is not a time")
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        # The usual form comes first because it is fast. Others write spaces, a small z, or the zone's name.
        tidy = text.strip().upper().removesuffix("UTC").removesuffix("GMT").replace(" +", "+").rstrip()
    try:
        return _aware(datetime.fromisoformat(tidy))
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write it like 2026-05-04 or 2026-05-04T09:30:00Z") from None


def time_of(value: object) -> datetime | None:
    """A time found in data, as ``parse_time`` reads it, or None where the data says no time."""
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            return None
    return _aware(value) if isinstance(value, datetime) else None


def seconds_between(start: object, end: object) -> float | None:
    """How much later one time found in data is than another, or None where one of them is no time."""
    if not (isinstance(start, str) and isinstance(end, str)):
        return None
    try:
        # As LangSmith writes them: both without a zone. Making them aware first would double the price.
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        began, ended = time_of(start), time_of(end)
        return None if began is None or ended is None else (ended - began).total_seconds()


def iso_second(at: float) -> str:
    """A time in Unix seconds as people and machines read it, to the second, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at: float, now: float | None = None) -> str:
    """A time in Unix seconds as people read it, in UTC; the date is left out where it is that of ``now``."""
    moment = datetime.fromtimestamp(at, UTC)
    same_day = now is not None and datetime.fromtimestamp(now, UTC).date() == moment.date()
    return f"{moment:%H:%M:%S} UTC" if same_day else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def epoch(value: object) -> float:
    """Unix seconds of a value found in data: an ISO 8601 text, or a number that is Unix seconds already.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        return parse_time(value).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{value!r} is not a time")


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)

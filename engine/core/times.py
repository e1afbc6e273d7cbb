"""Times as LangSmith, people and other systems write them."""

from __future__ import annotations

from datetime import UTC, datetime

#: A longer text is not a time. Python's error would quote all of it.
_LONGEST = 200


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 text. Without an offset it is UTC, without a time of day midnight.

    Raises:
        ValueError: with a message for the author of the text.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:_LONGEST]!r}… is not a time")
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        # The usual format first, because that is fast. Other formats have spaces, a lower-case z, or a zone name.
        tidy = text.strip().upper().removesuffix("UTC").removesuffix("GMT").replace(" +", "+").rstrip()
    try:
        return _aware(datetime.fromisoformat(tidy))
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write it like 2026-05-04 or 2026-05-04T09:30:00Z") from None


def time_of(value: object) -> datetime | None:
    """A time in data, parsed as by ``parse_time``, or None if the value is not a time."""
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            return None
    return _aware(value) if isinstance(value, datetime) else None


def iso_second(at: float) -> str:
    """A time in Unix seconds as ISO 8601, to the second, in UTC."""
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

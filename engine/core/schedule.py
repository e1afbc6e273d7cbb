"""Active hours of routes and actions. Pure functions of a given time.

An opening is an interval of real time, from the moment its first wall-clock time occurs to the moment its last one
occurs. When clocks change, no opening occurs twice: of a time that occurs twice, the first counts. A skipped time
counts as the moment of the change. Hours that are skipped completely start at that moment and keep their full length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo, available_timezones

from engine.core.suggest import did_you_mean, nearest

#: The beginning of the reason of deliveries that wait for their hours.
HELD: Final = "held until"
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY: Final = frozenset(range(7))
ALL_HOURS: Final = (0, 24 * 60)

_LONG_DAYS: Final = {
    "monday": "mon",
    "tuesday": "tue",
    "wednesday": "wed",
    "thursday": "thu",
    "friday": "fri",
    "saturday": "sat",
    "sunday": "sun",
    "weekdays": "mon-fri",
    "workdays": "mon-fri",
    "weekend": "sat-sun",
    "weekends": "sat-sun",
}
_HOURS: Final = re.compile(r"(\d{1,2}):(\d{2})\s*[-\u2013]\s*(\d{1,2}):(\d{2})", re.ASCII)
_BARE_HOURS: Final = re.compile(r"(\d{1,2})\s*[-\u2013]\s*(\d{1,2})", re.ASCII)
#: Days to search back for an opening that still lasts, and ahead for the next one. They include each weekday.
_BACK, _AHEAD = 2, 9
#: The maximum number of steps when searching for a time at which all schedules are open.
_ROUNDS = 64
#: Two Mondays, in winter and in summer: every time zone with summer time has it at one of them.
_REFERENCES: Final = (1767571200.0, 1783296000.0)

#: First and last minute of a span, from midnight at the start of its day. The last may be on the next day.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Days (0 is Monday) and hours in a time zone. A span belongs to the day on which it begins."""

    days: frozenset[int]
    spans: tuple[Span, ...]
    zone: ZoneInfo

    def is_open(self, at: float) -> bool:
        """Whether a time, in Unix seconds, is within an opening."""
        return any(begins <= at < ends for begins, ends in self._openings(at, 1))

    def next_open(self, at: float) -> float:
        """The first time from ``at`` on that is within an opening, in Unix seconds."""
        if self.is_open(at):
            return at
        return min(begins for begins, _ in self._openings(at, _AHEAD) if begins > at)

    def _openings(self, at: float, ahead: int) -> Iterator[tuple[float, float]]:
        today = datetime.fromtimestamp(at, self.zone).date()
        for offset in range(-_BACK, ahead + 1):
            day = today + timedelta(offset)
            if day.weekday() in self.days:
                for span in self.spans:
                    yield self._opening(day, span)

    def _opening(self, day: date, span: Span) -> tuple[float, float]:
        begins, ends = (_moment(day, minute, self.zone) for minute in span)
        return (begins, ends) if begins < ends else (begins, begins + 60.0 * (span[1] - span[0]))

    def __str__(self) -> str:
        """As in the configuration: ``mon-fri 09:00-18:00 Europe/Berlin``."""
        days = "" if self.days == EVERY_DAY else f"{_format_days(self.days)} "
        return f"{days}{', '.join(map(_format_span, self.spans))} {self.zone.key}"


def _moment(day: date, minute: int, zone: ZoneInfo) -> float:
    """When a wall clock first shows a time, or the moment of the change if that time is skipped."""
    naive = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001 - the zone is set in the next line
    local = naive.replace(tzinfo=zone)
    at = local.timestamp()
    if datetime.fromtimestamp(at, zone).replace(tzinfo=None) == naive:
        return at
    return _jump(zone, int(local.replace(fold=1).timestamp()), int(at))


def _jump(zone: ZoneInfo, before: int, after: int) -> float:
    """The second between two times at which a zone's clock was set forward."""
    old = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return float(after)


@dataclass(frozen=True, slots=True)
class Active:
    """A schedule, and what happens outside of it: deliveries are skipped, or held until the next opening."""

    schedule: Schedule
    otherwise: Literal["skip", "hold"] = "skip"


def skipping(active: Sequence[Active], at: float) -> Schedule | None:
    """The first schedule that skips deliveries at this time, if any."""
    return next((one.schedule for one in active if one.otherwise == "skip" and not one.schedule.is_open(at)), None)


def holding_until(active: Sequence[Active], at: float) -> float | None:
    """When the held deliveries may start, in Unix seconds; None if they need not wait."""
    held = [one.schedule for one in active if one.otherwise == "hold"]
    if all(schedule.is_open(at) for schedule in held):
        return None
    opening = _joint_opening(held, at)
    return held[0].next_open(at) if opening is None else opening


def held_message(active: Sequence[Active], until: float) -> str:
    """Why a delivery is held, and until when, in the time zone of its hours."""
    held = [one.schedule for one in active if one.otherwise == "hold"]
    opening = datetime.fromtimestamp(until, held[0].zone).strftime("%Y-%m-%d %H:%M %Z")
    return f"{HELD} {opening}: outside its hours, {' and '.join(map(str, held))}"


def never_open(schedules: Sequence[Schedule]) -> bool:
    """Whether the schedules have no common opening."""
    return all(_joint_opening(schedules, at) is None for at in _REFERENCES)


def _joint_opening(schedules: Sequence[Schedule], at: float) -> float | None:
    for _ in range(_ROUNDS):
        closed = [schedule for schedule in schedules if not schedule.is_open(at)]
        if not closed:
            return at
        at = max(schedule.next_open(at) for schedule in closed)
    return None


# --- parsing ----------------------------------------------------------------------------------------------------------


def parse_days(value: object) -> frozenset[int]:
    """Days as ``mon-fri``, ``sat,sun``, ``fri-mon``, or a list of such.

    Raises:
        ValueError: with a message for the author.
    """
    parts = value if isinstance(value, list) else str(value).split(",") if isinstance(value, str) else []
    if not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError("days are written mon-fri, or [mon, wed]")
    return frozenset(day for part in parts for text in part.split(",") for day in _days(text.strip().lower()))


def _days(text: str) -> Iterator[int]:
    text = _LONG_DAYS.get(text, text)
    first, dash, last = (part.strip() for part in text.partition("-"))
    begin = _day(first)
    end = _day(last) if dash else begin
    for offset in range((end - begin) % 7 + 1):
        yield (begin + offset) % 7


def _day(word: str) -> int:
    word = _LONG_DAYS.get(word, word)
    if word in DAYS:
        return DAYS.index(word)
    raise ValueError(f"{word!r} is not a day; {did_you_mean(word, DAYS)}")


def parse_hours(value: object) -> tuple[Span, ...]:
    """Hours as ``09:00-18:00``, ``22:00-06:00`` (to the next day), or a list of such.

    Raises:
        ValueError: with a message for the author.
    """
    parts = value if isinstance(value, list) else [value]
    if not parts:
        raise ValueError('hours are written "09:00-18:00", or as a list of such')
    return tuple(_span(part) for part in parts)


def _span(value: object) -> Span:
    text = value.strip() if isinstance(value, str) else ""
    if found := _HOURS.fullmatch(text):
        first, second = _minute(found[1], found[2]), _minute(found[3], found[4])
        if first == second:
            raise ValueError(f"{text!r} begins when it ends; the whole day is 00:00-24:00")
        if first < 24 * 60:
            return first, second if second > first else second + 24 * 60
        raise ValueError("hours begin before 24:00")
    if bare := _BARE_HOURS.fullmatch(text):
        raise ValueError(f"{text!r} are not hours; write {int(bare[1]):02}:00-{int(bare[2]):02}:00")
    raise ValueError(f'{value!r} are not hours; write them like "09:00-18:00"')


def _minute(hour: str, minute: str) -> int:
    at = int(hour) * 60 + int(minute)
    if int(minute) > 59 or at > 24 * 60:
        raise ValueError(f"there is no {hour}:{minute}; hours are 00:00 to 24:00")
    return at


def parse_zone(value: object) -> ZoneInfo:
    """A time zone by its IANA name, such as ``Europe/Berlin``.

    Raises:
        ValueError: with a message for the author.
    """
    name = value.strip() if isinstance(value, str) else ""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"{value!r} is not a time zone; {_near_zone(name)}") from None


def _near_zone(name: str) -> str:
    known = available_timezones()
    ending = sorted(zone for zone in known if zone.rpartition("/")[2].lower() == name.lower().replace(" ", "_"))
    near = next(iter(ending), "") or nearest(name, known)
    return f"did you mean {near!r}?" if near else "write it like Europe/Berlin"


# --- formatting -------------------------------------------------------------------------------------------------------


def _format_days(days: frozenset[int]) -> str:
    """Consecutive days as ranges, which may cross the end of the week."""
    starts = [day for day in sorted(days) if (day - 1) % 7 not in days]
    ranges = []
    for start in starts:
        last = start
        while (last + 1) % 7 in days:
            last = (last + 1) % 7
        ranges.append(DAYS[start] if last == start else f"{DAYS[start]}-{DAYS[last]}")
    return ",".join(ranges)


def _format_span(span: Span) -> str:
    return "-".join(f"{minute // 60 if minute <= 1440 else minute // 60 - 24:02}:{minute % 60:02}" for minute in span)

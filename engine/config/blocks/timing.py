"""Blocks about time: ``throttle`` and ``digest`` beside an action, ``wait_for`` on a route, ``active`` on either."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from engine.config.model import GateSpec, WaitSpec
from engine.config.section import Reader, Section, kind_of, positive_duration
from engine.config.yaml.mistakes import quoted, should_read
from engine.core.positions import Where
from engine.core.schedule import ALL_HOURS, EVERY_DAY, Active, Schedule, parse_days, parse_hours, parse_zone
from engine.core.units import parse_duration
from engine.core.variables import source_of, written

_Value = TypeVar("_Value")

#: Items of a digest where nothing else is said, and at most.
DIGEST_ITEMS, MOST_DIGEST_ITEMS = 100, 500
#: Seconds in the place of a time that is not known.
_STAND_IN: Final = 60.0
_SHORTEST_DIGEST, _LONGEST_DIGEST = 1.0, 86400.0
_LONGEST_WAIT: Final = 86400.0

_GATE_WORDS: Final = {
    "per": "by",
    "key": "by",
    "group_by": "by",
    "for": "every",
    "window": "every",
    "interval": "every",
    "period": "every",
    "within": "every",
    "limit": "max",
    "size": "max",
    "count": "max",
    "most": "max",
}
_ACTIVE_WORDS: Final = {
    "day": "days",
    "weekdays": "days",
    "on": "days",
    "time": "hours",
    "times": "hours",
    "between": "hours",
    "tz": "timezone",
    "zone": "timezone",
    "time_zone": "timezone",
    "else": "otherwise",
    "outside": "otherwise",
}
_OTHERWISE_WORDS: Final = {"wait": "hold", "queue": "hold", "delay": "hold", "defer": "hold", "drop": "skip"}
_WAIT_WORDS: Final = {"timeout": "up_to", "within": "up_to", "for": "up_to", "max": "up_to", "key": "feedback"}
#: A field's name, or a path to it, where a template is wanted.
_BARE_NAME: Final = re.compile(r"(?:\$\.)?(?:runs?(?:\[[*0]\])?\.)?([A-Za-z_][\w.]*)", re.ASCII)


def read_throttle(reader: Reader, value: Any, where: Where) -> GateSpec | None:
    """One delivery in ``every`` seconds."""
    section = _block(reader, value, where, {"every", "by"}, _GATE_WORDS, "{every: 10m}")
    if section is None:
        return None
    every, by = _every(section, lambda seconds: seconds), _by(section)
    return None if every is None else GateSpec(every=every, by=by, where=where)


def read_digest(reader: Reader, value: Any, where: Where) -> GateSpec | None:
    """Many deliveries as one."""
    section = _block(reader, value, where, {"every", "max", "by"}, _GATE_WORDS, "{every: 5m, max: 50}")
    if section is None:
        return None
    every = _every(section, _digest_time)
    most = section.parsed("max", DIGEST_ITEMS, _digest_items) or DIGEST_ITEMS
    by = _by(section)
    return None if every is None else GateSpec(every=every, by=by, where=where, most=most)


def read_active(reader: Reader, value: Any, where: Where) -> Active | None:
    """When to be heard, and what to do at other times."""
    known = {"days", "hours", "timezone", "otherwise"}
    example = '{days: mon-fri, hours: "09:00-18:00", timezone: Europe/Berlin}'
    section = _block(reader, value, where, known, _ACTIVE_WORDS, example)
    if section is None:
        return None
    if not {"days", "hours"} & value.keys() and not reader.meant & {(*where, "days"), (*where, "hours")}:
        reader.wrong(where, "'active' says neither days nor hours", f"write active: {example}")
    schedule = Schedule(
        section.parsed("days", EVERY_DAY, parse_days) or EVERY_DAY,
        section.parsed("hours", (ALL_HOURS,), parse_hours) or (ALL_HOURS,),
        section.parsed("timezone", None, parse_zone) or parse_zone("UTC"),
    )
    otherwise = section.word("otherwise", ("skip", "hold"), "skip", _OTHERWISE_WORDS)
    return Active(schedule, "hold" if otherwise == "hold" else "skip")


def read_wait_for(reader: Reader, value: Any, where: Where) -> WaitSpec | None:
    """Which feedback has to be there before a route is decided, and for how long at most."""
    example = "{feedback: correctness, up_to: 10m}"
    section = _block(reader, value, where, {"feedback", "up_to"}, _WAIT_WORDS, example)
    if section is None:
        return None
    keys = _required(section, "feedback", _feedback_keys, example)
    up_to = _required(section, "up_to", _wait_time, example)
    return None if keys is None or up_to is None else WaitSpec(keys, up_to)


def _block(
    reader: Reader, value: Any, where: Where, known: set[str], synonyms: Mapping[str, str], example: str
) -> Section | None:
    """A mapping with its unknown keys reported; what is none is reported with the line as it should read."""
    name = str(where[-1])
    if not isinstance(value, dict):
        example = _with_duration(value, example)
        reader.wrong(where, f"{name!r} must be a mapping, not {kind_of(value)}", f"write {name}: {example}")
        return None
    section = Section(reader, value, where)
    section.report_unknown(name, known, synonyms)
    return section


def _with_duration(value: Any, example: str) -> str:
    """The example with the time that somebody wrote without a key."""
    try:
        parse_duration(value)
    except ValueError:
        return example
    return re.sub(r"(every|up_to): \w+", rf"\1: {value}", example)


def _required(section: Section, key: str, parse: Callable[[Any], _Value], example: str) -> _Value | None:
    if key in section.values:
        return section.parsed(key, None, parse)
    if (*section.where, key) not in section.reader.meant:
        name = section.where[-1]
        section.reader.source.report(section.where, f"{name!r} needs {key!r}", f"write {name}: {example}", at_key=True)
    return None


def _every(section: Section, check: Callable[[float], float]) -> float | None:
    name = section.where[-1]
    if (*section.where, "every") in section.reader.quiet:
        return _STAND_IN  # what templates may read depends on there being one
    return _required(
        section,
        "every",
        lambda value: check(positive_duration(value)),
        "{every: 10m}" if name == "throttle" else "{every: 5m}",
    )


def _digest_time(seconds: float) -> float:
    if not _SHORTEST_DIGEST <= seconds <= _LONGEST_DIGEST:
        raise ValueError("a digest collects for 1s to 24h")
    return seconds


def _wait_time(value: Any) -> float:
    seconds = positive_duration(value)
    if seconds > _LONGEST_WAIT:
        raise ValueError("feedback is waited for up to 24h")
    return seconds


def _digest_items(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_DIGEST_ITEMS:
        return value
    raise ValueError(f"{value!r} is not a number of items; a digest has 1 to {MOST_DIGEST_ITEMS}")


def _feedback_keys(value: Any) -> tuple[str, ...]:
    keys = value if isinstance(value, list) else [value]
    if keys and all(isinstance(key, str) and key.strip() for key in keys):
        return tuple(dict.fromkeys(key.strip() for key in keys))
    raise ValueError("must be a feedback key or a list of them, such as correctness")


def _by(section: Section) -> str | None:
    """A template that tells the key; a name without braces is the usual mistake."""
    if "by" not in section.values:
        return None
    value, where = section.values["by"], (*section.where, "by")
    if isinstance(value, str) and ("{{" in source_of(value) or "{%" in source_of(value)):
        return value
    hint = 'write by: "{{ run.session_id }}"; of several values: "{{ run.name }}/{{ run.status }}"'
    if isinstance(value, str) and (found := _BARE_NAME.fullmatch(value.strip())):
        line, column = section.reader.line_of(where)
        fixed = "{{ run." + found[1] + " }}"
        hint = f'write by: "{fixed}"'
        plain_key = re.compile(rf"(?<=by:)\s*(['\"]?){re.escape(value)}\1")
        if column and plain_key.search(line):
            hint = should_read(plain_key.sub(lambda _: f" {quoted(fixed)}", line, count=1))
    message = "'by' must be a template, not " + kind_of(written(value))
    section.reader.wrong(where, message, hint)
    return None

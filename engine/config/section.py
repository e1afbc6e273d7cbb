"""Reading a mapping of the file key by key: by type, with defaults, with messages for its author."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.config.yaml.scalars import resolve_plain
from engine.core.positions import Source, Where
from engine.core.suggest import did_you_mean, nearest
from engine.core.units import parse_duration, parse_share

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Reader:
    """The file being read: where problems go, and what is known of its values.

    At ``quiet`` places a problem has been reported already. ``interpolated`` are the texts
    that came out of variables. ``meant`` are the keys that unknown ones were probably meant
    for: that these are missing is the same mistake.
    """

    source: Source
    quiet: frozenset[Where]
    interpolated: frozenset[Where]
    meant: set[Where] = field(default_factory=set)

    def section(
        self,
        value: Any,
        where: Where,
        what: str,
        known: Iterable[str],
        synonyms: Mapping[str, str] | None = None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> Section | None:
        """A mapping with its unknown keys reported; None, reported, where it is no mapping."""
        if not isinstance(value, dict):
            self.wrong(where, f"{what} must be a mapping (key: value), not {kind_of(value)}")
            return None
        section = Section(self, value, where)
        section.report_unknown(what, known, synonyms or {}, elsewhere)
        return section

    def wrong(self, where: Where, message: str, hint: str = "") -> None:
        """Report a problem with a value, unless one with it was reported before."""
        if where not in self.quiet:
            self.source.report(where, message, hint)

    def how_to_fill(self, where: Where, otherwise: str = "") -> str:
        """What to do about an empty text: give the variable that it came out of a value, else ``otherwise``."""
        return "the variable is set, but empty: give it a value" if where in self.interpolated else otherwise

    def resolved(self, value: Any, where: Where) -> Any:
        """A value for one of the engine's own typed settings: there a variable may hold a number or true or false."""
        if not isinstance(value, str) or where not in self.interpolated:
            return value
        try:
            return resolve_plain(value)
        except ValueError:
            return value

    def number_as_written(self, value: Any, where: Where) -> str:
        """A number as it stands in the file: ``012`` and ``1e3`` lose something as numbers. Empty for all else."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return ""
        return self.source.plain_scalar(where) or str(value)

    def line_of(self, where: Where) -> tuple[str, int]:
        """The line a place's key stands on, and the key's column from 1 (0: it has no key)."""
        mark = self.source.marks.get(where)
        lines = self.source.lines
        number = (mark.key_line or mark.line) if mark else 0
        return (lines[number - 1], mark.key_column) if mark and 0 < number <= len(lines) else ("", 0)


@dataclass(frozen=True, slots=True)
class Section:
    """One mapping. Each getter gives its default where the key is missing, or is wrong, which it reports."""

    reader: Reader
    values: Mapping[str, Any]
    where: Where

    def block(self, key: str, known: Iterable[str], synonyms: Mapping[str, str]) -> Section | None:
        """The mapping below a key; None where there is none, which is reported if something else is there."""
        if key not in self.values:
            return None
        return self.reader.section(self.values[key], (*self.where, key), repr(key), known, synonyms)

    def report(self, key: str, message: str, hint: str = "") -> None:
        """Report a problem at a key."""
        self.reader.source.report((*self.where, key), message, hint, at_key=True)

    def report_unknown(
        self, what: str, known: Iterable[str], synonyms: Mapping[str, str], elsewhere: Mapping[str, str] | None = None
    ) -> None:
        """Report every key that is not known here, with the nearest that is; ``elsewhere`` says where others belong."""
        known = sorted(known)
        for key in self.values:
            if key in known:
                continue
            if self.reader.source.full:
                break
            if elsewhere and key in elsewhere:
                self.report_misplaced(key, what, elsewhere[key])
                continue
            hint = did_you_mean(key, known, synonyms=synonyms)
            self.reader.meant.add((*self.where, nearest(key, known, synonyms=synonyms)))
            self.report(key, f"unknown key {key!r} in {what}", hint)

    def report_misplaced(self, key: str, what: str, hint: str) -> None:
        """Report a key that the engine knows, but not here."""
        self.report(key, f"{key!r} does nothing in {what}", hint)

    def text(self, key: str, default: str | None = None, *, needed: bool = False) -> str | None:
        """A text without white space around it; an empty one counts as missing."""
        if key not in self.values:
            return default
        value, where = self.values[key], (*self.where, key)
        if value is None and not needed and where not in self.reader.quiet:
            return default
        if isinstance(value, str):
            if not value.strip() and needed:
                self.reader.wrong(where, f"{key!r} is empty", self.reader.how_to_fill(where))
            return value.strip() or default
        number = self.reader.number_as_written(value, where)
        hint = f'quote it: {key}: "{number or str(value).lower()}"' if isinstance(value, (int, float)) else ""
        self.reader.wrong(where, f"{key!r} must be a text, not {kind_of(value)}", hint)
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        if key not in self.values:
            return default
        where = (*self.where, key)
        value = self.reader.resolved(self.values[key], where)
        if isinstance(value, bool):
            return value
        words = {"yes": "true", "on": "true", "no": "false", "off": "false"}
        meant = words.get(value.lower(), "") if isinstance(value, str) else ""
        hint = f"write {key}: {meant}" if meant else ""
        self.reader.wrong(where, f"{key!r} must be true or false, not {kind_of(value)}", hint)
        return default

    def duration(self, key: str, default: float | None = None) -> float | None:
        """Seconds, more than none, of a duration like 30s."""
        return self.parsed(key, default, positive_duration)

    def share(self, key: str, default: float | None = None) -> float | None:
        """A share from 0 to 1, written 5% or 0.05."""
        return self.parsed(key, default, parse_share)

    def count(self, key: str, default: int | None = None) -> int | None:
        """A whole number, at least 1."""
        return self.parsed(key, default, _count)

    def word(self, key: str, words: Iterable[str], default: str, synonyms: Mapping[str, str] | None = None) -> str:
        """One of a few words."""
        if key not in self.values:
            return default
        value, where = self.values[key], (*self.where, key)
        if isinstance(value, str) and value in words:
            return value
        hint = did_you_mean(value, words, synonyms=dict(synonyms or {})) if isinstance(value, str) else ""
        self.reader.wrong(where, f"{key!r} must be {' or '.join(words)}, not {kind_of(value)}", hint)
        return default

    def parsed(self, key: str, default: _Value | None, parse: Callable[[Any], _Value]) -> _Value | None:
        """Whatever ``parse`` makes of the value; its ``ValueError`` has words for the author."""
        if key not in self.values:
            return default
        where = (*self.where, key)
        try:
            return parse(self.reader.resolved(self.values[key], where))
        except OverflowError:
            self.reader.wrong(where, f"{key}: the number is too large")
        except ValueError as error:
            self.reader.wrong(where, f"{key}: {error}")
        return default


def kind_of(value: Any) -> str:
    """What a value is, in words of YAML, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {str(value)[:30]}"
        case str():
            return f"the text {value!r}" if len(value) <= 40 else "a text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def positive_duration(value: Any) -> float:
    """Seconds to wait: more than none, and a year at most.

    Raises:
        ValueError: with words for the author.
    """
    seconds = parse_duration(value)
    if not 0 < seconds <= 366 * 86400:
        raise ValueError(f"{value!r} is not a time to wait; write one of more than 0s and at most 366d")
    return seconds


def _count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
        return value
    raise ValueError(f"{value!r} is not a count; write a whole number from 1")

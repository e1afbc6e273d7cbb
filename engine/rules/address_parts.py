"""Values inserted into URLs: one with a delimiter would change where the parts of the URL begin and end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Zone = Literal["user", "password", "host", "path", "query"]

#: Placeholder for a value while the parts of the URL are found.
_VALUE: Final = "\ufffc"
_SCHEME: Final = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*://")
#: A percent sign that does not begin an encoded character.
_BAD_PERCENT: Final = r"%(?![0-9A-Fa-f]{2})"
#: What a value must not contain, for each part of a URL (RFC 3986, 3.2 to 3.4).
_DIVIDES: Final[dict[Zone, re.Pattern[str]]] = {
    "user": re.compile(rf"[:@/?#\\\[\]\s\x00-\x1f]|{_BAD_PERCENT}"),
    "password": re.compile(rf"[@/?#\\\[\]\s\x00-\x1f]|{_BAD_PERCENT}"),
    "host": re.compile(rf"[@/?#\\\s\x00-\x1f]|{_BAD_PERCENT}"),
    "path": re.compile(rf"[?#\\\s\x00-\x1f]|{_BAD_PERCENT}"),
    "query": re.compile(rf"[&#\s\x00-\x1f]|{_BAD_PERCENT}"),
}


@dataclass(frozen=True, slots=True)
class Inserted:
    """A value in a URL: as it is written, and its value (None: an event decides it)."""

    written: str
    value: str | None


def divided(parts: Sequence[str | Inserted]) -> tuple[str, str] | None:
    """The message and hint for a value that changes the parts of a URL; None if there is none.

    A value at the very beginning is a URL or its beginning, and may contain anything. A text that is not a URL is
    not checked.
    """
    if not _is_address(parts):
        return None
    for value, zone in _zones(parts):
        if value.value is not None and (found := _DIVIDES[zone].search(value.value)) is not None:
            sign = "a space or line break" if not found[0].strip() else found[0]
            message = f"{value.written} holds {sign}, which would divide the address within its {zone}"
            return message, _hint(value.written, zone)
    return None


def _is_address(parts: Sequence[str | Inserted]) -> bool:
    """Whether a text is one URL: it has a scheme (maybe from a value at its beginning) and no space."""
    first = next((part for part in parts if part), "")
    begins = _SCHEME.match((first.value or "") if isinstance(first, Inserted) else first)
    return begins is not None and not re.search(r"\s", _flat(parts).strip())


def _flat(parts: Sequence[str | Inserted]) -> str:
    """The URL with a placeholder for each value."""
    return "".join(part if isinstance(part, str) else _VALUE for part in parts)


def _hint(written: str, zone: Zone) -> str:
    inner = re.fullmatch(r"\{\{[-+]?\s*(.*?)\s*[-+]?\}\}", written, re.DOTALL)
    encoded = f"write {{{{ {inner[1] if inner else repr(written)} | urlencode }}}}"
    return "let the variable begin the address, its scheme included" if zone == "host" else encoded


def _zones(parts: Sequence[str | Inserted]) -> Iterator[tuple[Inserted, Zone]]:
    """Every value except one at the beginning, with the part of the URL in which it is."""
    flat, at = _flat(parts), 0
    for part in parts:
        if isinstance(part, Inserted) and flat[:at].strip():
            yield part, _zone(flat, at)
        at += len(part) if isinstance(part, str) else 1


def _zone(flat: str, at: int) -> Zone:
    before = flat[:at]
    if "?" in before or "#" in before:
        return "query"
    _scheme, mark, rest = before.partition("://")
    if not mark or re.search(r"[/\\]", rest):
        return "path"
    following = re.split(r"[/?#\\]", flat[at:], maxsplit=1)[0]
    if "@" not in following:
        return "host"
    return "user" if ":" in following.rpartition("@")[0] and ":" not in rest else "password"

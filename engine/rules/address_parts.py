"""Values put into addresses: one that holds a sign of the address itself would divide it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Zone = Literal["user", "password", "host", "path", "query"]

#: Stands for a value while the author's own signs are looked for.
_VALUE: Final = "\ufffc"
_SCHEME: Final = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*://")
#: A percent sign is good where it begins an encoded character.
_BAD_PERCENT: Final = r"%(?![0-9A-Fa-f]{2})"
#: What a value may not hold in each part of an address (RFC 3986, 3.2 to 3.4).
_DIVIDES: Final[dict[Zone, re.Pattern[str]]] = {
    "user": re.compile(rf"[:@/?#\\\[\]\s\x00-\x1f]|{_BAD_PERCENT}"),
    "password": re.compile(rf"[@/?#\\\[\]\s\x00-\x1f]|{_BAD_PERCENT}"),
    "host": re.compile(rf"[@/?#\\\s\x00-\x1f]|{_BAD_PERCENT}"),
    "path": re.compile(rf"[?#\\\s\x00-\x1f]|{_BAD_PERCENT}"),
    "query": re.compile(rf"[&#\s\x00-\x1f]|{_BAD_PERCENT}"),
}


@dataclass(frozen=True, slots=True)
class Put:
    """A value in an address: as its author wrote it, and what it came to (None: an event decides it)."""

    written: str
    value: str | None


def divided(parts: Sequence[str | Put]) -> tuple[str, str] | None:
    """What is wrong where a value divides an address, and how to write it; None where none does.

    A value at the very beginning is an address, or the beginning of one, and may hold anything. A text that is no
    address is not looked at.
    """
    if not _is_address(parts):
        return None
    for put, zone in _zones(parts):
        if put.value is not None and (found := _DIVIDES[zone].search(put.value)) is not None:
            sign = "a space or line break" if not found[0].strip() else found[0]
            message = f"{put.written} holds {sign}, which would divide the address within its {zone}"
            return message, _hint(put.written, zone)
    return None


def _is_address(parts: Sequence[str | Put]) -> bool:
    """Whether a text is one address: it has a scheme, be it a value's at its beginning, and no space."""
    first = next((part for part in parts if part), "")
    begins = _SCHEME.match((first.value or "") if isinstance(first, Put) else first)
    return begins is not None and not re.search(r"\s", _flat(parts).strip())


def _flat(parts: Sequence[str | Put]) -> str:
    """An address with a sign in the place of each value."""
    return "".join(part if isinstance(part, str) else _VALUE for part in parts)


def _hint(written: str, zone: Zone) -> str:
    inner = re.fullmatch(r"\{\{[-+]?\s*(.*?)\s*[-+]?\}\}", written, re.DOTALL)
    encoded = f"write {{{{ {inner[1] if inner else repr(written)} | urlencode }}}}"
    return "let the variable begin the address, its scheme included" if zone == "host" else encoded


def _zones(parts: Sequence[str | Put]) -> Iterator[tuple[Put, Zone]]:
    """Every value but one at the beginning, with the part of the address in which it stands."""
    flat, at = _flat(parts), 0
    for part in parts:
        if isinstance(part, Put) and flat[:at].strip():
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

"""JSON text → values: strict JSON quickly, and what other writers make of JSON repaired, within bounds."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from math import isfinite
from typing import Any

import orjson

from engine.core.errors import BadBody, TooComplex

_SURROGATE = re.compile("[\ud800-\udfff]")
#: In how many characters at once surrogates are looked for.
_PIECE = 64 * 1024
#: Bodies up to so many bytes are repaired whatever is wrong with them. Of larger ones only what costs no more than
#: parsing is: each other repair copies the whole text, and holds the interpreter's lock for a second.
_REPAIRED_WHATEVER = 16 * 1024 * 1024
#: How many backslashes a larger body may have: Python's parser makes a text of what is before each.
_MOST_ESCAPES = 3_000_000
#: A surrogate's escape without its other half before or behind it.
_HALF = re.compile(
    r"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F])"
)


def parse(body: bytes) -> tuple[Any, bool]:
    """Any JSON value, and whether the text had to be repaired to be one.

    Strict JSON goes through orjson: the last of duplicate keys counts, and integers beyond 64
    bits become floats. Python's own ``json`` writes NaN, infinities and lone surrogates, which
    are not JSON; other senders add a byte order mark, use UTF-16, or leave control
    characters and broken UTF-8 in strings. None of that is worth losing an event for:
    numbers that are not finite (1e400, too) become null, what is no character becomes U+FFFD.
    Of more than 16 MiB only numbers, UTF-16 and a byte order mark are. How deep a text may be
    nested is for ``engine.core.json_scan`` to say, before.

    Raises:
        TooComplex: the repair would take too long.
        BadBody: neither reading works.
    """
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(body), False
    return _parse_tolerantly(body), True


def _parse_tolerantly(body: bytes) -> Any:
    if not body.strip():
        raise BadBody("the body is empty")
    large = len(body) > _REPAIRED_WHATEVER
    if large and body.count(b"\\") > _MOST_ESCAPES:
        raise _too_large_for(f"more than {_MOST_ESCAPES:,} escapes")
    try:
        text = body.decode(json.detect_encoding(body), "strict" if large else "replace")
        if large and _HALF.search(text):
            raise _too_large_for("surrogates without their other half")
        value = json.loads(text, strict=large, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
        return _without_surrogates(value)
    except UnicodeDecodeError as error:
        raise _too_large_for("bytes that are no characters") from error
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid control character"):
            raise _too_large_for("control characters in texts") from error
        raise BadBody(_describe(error)) from error


def _too_large_for(fault: str) -> TooComplex:
    """A body is too large for the repair that it needs."""
    size = _REPAIRED_WHATEVER // (1024 * 1024)
    return TooComplex(f"the body is not strict JSON: it has {fault}, which is repaired up to {size} MiB only")


def _without_surrogates(value: Any) -> Any:
    """A value that orjson can write again: where it can't, surrogates on their own become U+FFFD."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return _repaired(value)
    return value


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _repaired_text(value)
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    if isinstance(value, dict):
        return {_repaired(key): _repaired(item) for key, item in value.items()}
    return value


def _repaired_text(text: str) -> str:
    if len(text) <= _PIECE:
        return _SURROGATE.sub("\ufffd", text)
    # In pieces, because one call for a text of many megabytes would hold the interpreter's lock for seconds.
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return "".join(_SURROGATE.sub("\ufffd", piece) for piece in pieces)


def _describe(error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno}, column {error.colno}"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"the body is not JSON: it ends too early ({error.msg}, {place})"
    return f"the body is not JSON: {error.msg} at {place}"


def _no_number(_name: str) -> None:
    """NaN, Infinity and -Infinity."""


def _finite(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def _integer(text: str) -> int | float | None:
    """An integer as orjson reads it: exact within 64 bits, a float beyond."""
    if len(text) < 19:
        return int(text)
    number = int(text) if len(text) <= 20 else None
    return number if number is not None and -(2**63) <= number < 2**64 else _finite(text)

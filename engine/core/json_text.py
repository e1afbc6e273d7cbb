"""JSON text → values: strict JSON with a fast parser; other text is repaired, up to a limit."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from math import isfinite
from typing import Any

import orjson

from engine.core.errors import BadBody, TooComplex

_SURROGATE = re.compile("[\ud800-\udfff]")
#: Characters searched for surrogates in one call.
_PIECE = 64 * 1024
#: Up to so many bytes, every repair is made. In larger bodies only repairs that cost no more than parsing: each other
#: one copies the whole text and holds the interpreter lock for a second.
_REPAIRED_WHATEVER = 16 * 1024 * 1024
#: The maximum number of backslashes in a larger body: Python's parser creates a string for each.
_MOST_ESCAPES = 3_000_000
#: The escape of a lone surrogate.
_HALF = re.compile(
    r"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F])"
)


def parse(body: bytes) -> tuple[Any, bool]:
    """Any JSON value, and whether the text had to be repaired.

    Strict JSON is parsed by orjson: the last of duplicate keys wins, and integers beyond 64 bits become floats.
    Python's ``json`` writes NaN, infinities and lone surrogates, which are not JSON. Other senders add a byte order
    mark, use UTF-16, or send control characters and invalid UTF-8 in strings. Such events are not lost: numbers that
    are not finite (also 1e400) become null, invalid characters become U+FFFD. Above 16 MiB only numbers, UTF-16 and a
    byte order mark are repaired. Callers check the nesting first, with ``engine.core.json_scan``.

    Raises:
        TooComplex: the repair would take too long.
        BadBody: the text cannot be parsed even with repairs.
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
            raise _too_large_for("lone surrogates")
        value = json.loads(text, strict=large, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
        return _without_surrogates(value)
    except UnicodeDecodeError as error:
        raise _too_large_for("invalid UTF-8") from error
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid control character"):
            raise _too_large_for("control characters in strings") from error
        raise BadBody(_describe(error)) from error


def _too_large_for(fault: str) -> TooComplex:
    """The error for a body that is too large for the repair it needs."""
    size = _REPAIRED_WHATEVER // (1024 * 1024)
    return TooComplex(f"the body is not strict JSON: it has {fault}, which are only repaired up to {size} MiB")


def _without_surrogates(value: Any) -> Any:
    """A value that orjson can write: lone surrogates become U+FFFD."""
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
    # In pieces: one call for a text of many megabytes would hold the interpreter lock for seconds.
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return "".join(_SURROGATE.sub("\ufffd", piece) for piece in pieces)


def _describe(error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno}, column {error.colno}"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"the body is not JSON: it ends too early ({error.msg}, {place})"
    return f"the body is not JSON: {error.msg} at {place}"


def _no_number(_name: str) -> None:
    """Replace NaN, Infinity and -Infinity by null."""


def _finite(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def _integer(text: str) -> int | float | None:
    """An integer as orjson parses it: exact within 64 bits, a float beyond."""
    if len(text) < 19:
        return int(text)
    number = int(text) if len(text) <= 20 else None
    return number if number is not None and -(2**63) <= number < 2**64 else _finite(text)

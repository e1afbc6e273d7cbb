"""JSON text: its values, size and levels estimated before it is parsed; parsing with repairs; its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from math import isfinite
from typing import Any, Final

import orjson

from engine.core.errors import BadBody, TooComplex

#: The maximum number of values in a body that is parsed. orjson holds the interpreter lock meanwhile: about half a
#: second for so many values, which take 150 MB.
MAX_VALUES: Final = 1_000_000
#: The maximum levels of objects and arrays in a body that is parsed. orjson writes up to 254, and API responses,
#: reports of ``engine explain`` and parameters of actions add levels around a payload.
MAX_LEVELS: Final = 200
#: The memory of a small body when parsed, as a multiple of its size: 3.4 to 4.7 for LangSmith's payloads of one run.
GROWTH: Final = 4
#: Up to this size, in bytes, the estimate is ``GROWTH`` alone, and the text is not scanned.
_SMALL = 4 * 1024
#: In a larger body that cannot have too many values, so many samples of so many bytes are scanned.
_PLACES, _PLACE = 8, 128
#: The memory of one value without its text, in bytes. Measured: 37 to 136, and 53 for a payload of 100 runs.
_VALUE_BYTES = 80
#: Bytes scanned in one call, which holds the interpreter lock.
_CHUNK = 256 * 1024
#: Bytes that do not precede a value. Each value except the first follows a comma or is the first in its container.
_NOT_OPENING = bytes(byte for byte in range(256) if byte not in b",[{")
_WHITE = b" \t\r\n"
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[{}]"')
#: The change of level at each bracket, as a signed byte.
_STEPS = bytes.maketrans(b"[{}]", b"\1\1\xff\xff")
#: The first bytes of characters beyond U+FFFF, escaped and in UTF-8.
_SURROGATES = (b"\\ud", b"\\uD")
_FOUR_BYTES = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")
#: Above so many bytes, the whole body is searched for escapes: 1.4 ms for each MB, a tenth of the total cost.
_ESCAPES_SOUGHT = 4 * 1024 * 1024


def parsed_size(body: bytes, max_values: int = MAX_VALUES) -> int:
    """The approximate memory of the parsed body, in bytes.

    Commas in texts count as values unless that gives too many, so the estimate for a long prose text is up to twice
    too high.

    Raises:
        TooComplex: it has more than ``max_values`` values, or more than ``MAX_LEVELS`` levels.
    """
    # A value takes two bytes: itself, and the comma or bracket beside it.
    surely_few = len(body) < 2 * max_values
    # Counted before the levels, which take longer: 2 s for 62 MiB of brackets.
    values = 0 if surely_few else _bounded(body, max_values)
    if is_deeper(body, MAX_LEVELS):
        raise TooComplex(f"the body is nested deeper than {MAX_LEVELS} levels")
    if surely_few and len(body) <= _SMALL:
        return GROWTH * len(body)
    sample = _sample(body)
    values = values or 1 + _openings(sample) * len(body) // len(sample)
    return len(body) * _width(body, sample) + values * _VALUE_BYTES


def _width(body: bytes, sample: bytes) -> int:
    """The bytes per character of a text in memory: the widest character decides.

    Two for characters beyond Latin-1, four beyond U+FFFF, which are escaped as surrogates. ``\\ud…`` may also be Hangul
    and counts as a surrogate.
    """
    seen = body if len(body) > _ESCAPES_SOUGHT else sample
    if body.isascii() and not _holds(seen, b"\\u"):
        return 1
    widest = any(_holds(seen, sign) for sign in _SURROGATES) or any(_holds(body, lead) for lead in _FOUR_BYTES)
    return 4 if widest else 2


def _holds(body: bytes, sign: bytes) -> bool:
    return any(body.find(sign, start, start + _CHUNK + len(sign)) >= 0 for start in range(0, len(body), _CHUNK))


def _sample(body: bytes) -> bytes:
    """A few pieces of a body, separated by spaces."""
    apart = max(len(body) // _PLACES, _PLACE)
    return b" ".join([body[start : start + _PLACE] for start in range(0, len(body), apart)])


def _openings(text: bytes) -> int:
    """The number of bytes that precede a value, including those in texts."""
    return len(text.translate(None, _NOT_OPENING))


def _bounded(body: bytes, max_values: int) -> int:
    """An upper bound of the number of values.

    Raises:
        TooComplex: it has more than ``max_values``.
    """
    chunks = (body[start : start + _CHUNK] for start in range(0, len(body), _CHUNK))
    values = 1 + sum(map(_openings, chunks))
    if values > max_values:
        values = count_values(body, max_values)
        if values > max_values:
            raise TooComplex(f"the body has more than {max_values:,} values, the limit of --max-values")
    return values


def count_values(body: bytes, limit: int) -> int:
    """The number of values in JSON text; if it is more than ``limit``, some number above it.

    Keys are not counted. For text that is not JSON the result is arbitrary.
    """
    values, quoted, opened = 1, False, b""
    for chunk in _chunks(_in_utf8(body)):
        pieces = chunk.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # A quotation mark replaces each text, so that an array of one text does not look empty.
        outside = opened + b'"'.join(pieces[quoted::2]).translate(None, _WHITE)
        quoted ^= len(pieces) % 2 == 0
        opened = outside[-1:] if not quoted and outside.endswith((b"[", b"{")) else b""
        outside = outside.removesuffix(opened)
        containers = outside.count(b"[") + outside.count(b"{")
        values += outside.count(b",") + containers - outside.count(b"[]") - outside.count(b"{}")
        if values > limit:
            break
    return values


def is_deeper(body: bytes, most: int) -> bool:
    """Whether JSON text has more than ``most`` levels. For text that is not JSON the result is arbitrary."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    level, quoted = 0, False
    for chunk in _chunks(_in_utf8(body)):
        marks = chunk.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
        # Adjacent quotation marks enclose text without brackets; removing pairs does not change what is inside texts.
        pieces = marks.replace(b'""', b"").split(b'"')
        steps = b"".join(pieces[quoted::2]).translate(_STEPS)
        quoted ^= len(pieces) % 2 == 0
        *_, level = levels = list(accumulate(memoryview(steps).cast("b"), initial=level))
        if max(levels) > most:
            return True
    return False


def _in_utf8(body: bytes) -> bytes:
    encoding = json.detect_encoding(body)
    return body if encoding.startswith("utf-8") else body.decode(encoding, "replace").encode()


def _chunks(body: bytes) -> Iterator[bytes]:
    """The text in pieces that do not split an escape."""
    start = 0
    while start < len(body):
        chunk = body[start : start + _CHUNK]
        backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
        if backslashes % 2 and len(chunk) == _CHUNK:
            chunk = chunk[:-1]
        start += len(chunk)
        yield chunk


# --- parsing ----------------------------------------------------------------------------------------------------------

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
    byte order mark are repaired. Callers check the nesting first, with ``is_deeper``.

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


# --- numbers ----------------------------------------------------------------------------------------------------------

#: From here on floats are not exact, so texts of digits are read as integers.
_EXACT = 2.0**53
_DIGITS = re.compile(r"[+-]?[0-9]{1,400}")
#: A longer text is not a number. Parsing takes a tenth of a second per 20 MB, and the error would quote all of it.
_LONGEST_NUMBER = 4096
_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"0" * 9)
#: The shortest number beyond 64 bits has 19 digits.
_LONG: Final = b"0" * 19
_BEYOND: Final = 2.0**63
#: Longer numbers stay floats: Python needs quadratic time for them.
_MOST_DIGITS: Final = 4000


def number_of(value: Any) -> int | float | None:
    """A value as a number, if it is one or a text of one. A boolean is not a number."""
    if isinstance(value, str):
        return spelled(value)
    return value if is_number(value) else None


def spelled(text: str) -> int | float | None:
    """The number that a text contains, or None. Infinities and NaN are not numbers."""
    if len(text) > _LONGEST_NUMBER:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    if not -_EXACT < number < _EXACT:
        return int(text) if _DIGITS.fullmatch(text) else (number if isfinite(number) else None)
    return None if "_" in text or not text.isascii() else number


def is_number(value: Any) -> bool:
    """Whether a value is a JSON number. A boolean is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def may_have_long_numbers(body: bytes) -> bool:
    """Whether a body has as many consecutive digits as a number beyond 64 bits. Takes about 1 ns per byte."""
    return _LONG in body.translate(_AS_ZEROS)


def restore_long_numbers(payload: dict[str, Any], body: bytes, index: int) -> dict[str, Any]:
    """Replace floats in a payload by the exact integers of the body. ``index`` is the index of its run, or -1.

    The body is parsed again only if it is given and the payload has a float that large.
    """
    if not body or not _has_beyond(payload):
        return payload
    try:
        original = json.loads(body, strict=False, parse_int=_whole)
    except (ValueError, RecursionError):
        return payload
    runs = original.get("runs") if isinstance(original, dict) else None
    if isinstance(runs, list) and 0 <= index < len(runs):
        original = {**original, "runs": [runs[index]]}
    merged: dict[str, Any] = _merged(payload, original)
    return merged


def _has_beyond(value: Any) -> bool:
    """Whether a value contains a float beyond 64 bits."""
    if isinstance(value, float):
        return abs(value) >= _BEYOND
    if isinstance(value, (dict, list)):
        return any(map(_has_beyond, value.values() if isinstance(value, dict) else value))
    return False


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _merged(value: Any, original: Any) -> Any:
    if isinstance(value, float):
        return original if type(original) is int else value
    if isinstance(value, dict) and isinstance(original, dict):
        return {key: _merged(item, original.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(original, list) and len(value) == len(original):
        return [_merged(item, other) for item, other in zip(value, original, strict=True)]
    return value

"""Estimates from the bytes of JSON text, before it is parsed: number of values, levels, and memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from engine.core.errors import TooComplex

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
    if is_deeper(body, MAX_LEVELS):
        raise TooComplex(f"the body is nested deeper than {MAX_LEVELS} levels")
    # A value takes two bytes: itself, and the comma or bracket beside it.
    surely_few = len(body) < 2 * max_values
    if surely_few and len(body) <= _SMALL:
        return GROWTH * len(body)
    sample = _sample(body)
    values = 1 + _openings(sample) * len(body) // len(sample) if surely_few else _bounded(body, max_values)
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

"""What JSON text holds, found from its bytes before it is parsed: how many values, how deep, and how much memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from engine.core.errors import TooComplex

#: How many values a body may have to be parsed. While orjson makes them it holds the interpreter's lock: about half a
#: second for so many, and 150 MB.
MAX_VALUES: Final = 1_000_000
#: How many levels of objects and arrays a body may have to be parsed. orjson writes 254, and what shows, sends or keeps
#: a payload puts more around it: an answer of the API, a report of ``engine explain``, an action's parameters.
MAX_LEVELS: Final = 200
#: How many times its own size a small body takes once it is parsed: 3.4 to 4.7 for LangSmith's payloads of one run.
GROWTH: Final = 4
#: Up to this size, in bytes, ``GROWTH`` says it, and the text is not looked at.
_SMALL = 4 * 1024
#: Of a larger body, as long as it can't have too many values, so many places of so many bytes are looked at.
_PLACES, _PLACE = 8, 128
#: What one value takes beside its text, in bytes. Measured: 37 to 136, and 53 for a payload of 100 runs.
_VALUE_BYTES = 80
#: How many bytes are looked at in one call: it holds the interpreter's lock.
_CHUNK = 256 * 1024
#: The bytes that do not begin a value. Each value but the first follows a comma or is the first in its container.
_NOT_OPENING = bytes(byte for byte in range(256) if byte not in b",[{")
_WHITE = b" \t\r\n"
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[{}]"')
#: What a bracket adds to the level, as a signed byte.
_STEPS = bytes.maketrans(b"[{}]", b"\1\1\xff\xff")
#: What characters beyond U+FFFF begin with where they are escaped, and in UTF-8.
_SURROGATES = (b"\\ud", b"\\uD")
_FOUR_BYTES = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")
#: Above so many bytes, escapes are sought in the whole body: 1.4 ms for each MB, a tenth of what a body costs.
_ESCAPES_SOUGHT = 4 * 1024 * 1024


def parsed_size(body: bytes, max_values: int = MAX_VALUES) -> int:
    """About how many bytes of memory the objects take that a body parses to.

    Commas in texts are taken for values unless that makes too many, so the result for a long
    prose text is up to twice of what it should be.

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
    """How many bytes a character of a text takes at most: its widest one decides for all of them.

    Two for those beyond Latin-1, four for those beyond U+FFFF, which are escaped as surrogates. What is escaped as
    ``\\ud…`` may be Hangul, too, and is taken for a surrogate.
    """
    seen = body if len(body) > _ESCAPES_SOUGHT else sample
    if body.isascii() and not _holds(seen, b"\\u"):
        return 1
    widest = any(_holds(seen, sign) for sign in _SURROGATES) or any(_holds(body, lead) for lead in _FOUR_BYTES)
    return 4 if widest else 2


def _holds(body: bytes, sign: bytes) -> bool:
    return any(body.find(sign, start, start + _CHUNK + len(sign)) >= 0 for start in range(0, len(body), _CHUNK))


def _sample(body: bytes) -> bytes:
    """A few places of a body, with spaces between."""
    apart = max(len(body) // _PLACES, _PLACE)
    return b" ".join([body[start : start + _PLACE] for start in range(0, len(body), apart)])


def _openings(text: bytes) -> int:
    """How many bytes begin a value; those in texts count, too."""
    return len(text.translate(None, _NOT_OPENING))


def _bounded(body: bytes, max_values: int) -> int:
    """How many values a body has at most.

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
    """How many values JSON text has, or, where these are more than ``limit``, some number beyond it.

    Keys are not counted. Text that is not JSON has some number, too.
    """
    values, quoted, opened = 1, False, b""
    for chunk in _chunks(_in_utf8(body)):
        pieces = chunk.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # A quotation mark stands for each text, so that an array of one text is not taken for an empty one.
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
    """Whether JSON text has more than so many levels of objects and arrays. Text that is not JSON may have."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    level, quoted = 0, False
    for chunk in _chunks(_in_utf8(body)):
        marks = chunk.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
        # Two marks side by side are the ends of texts without brackets: what is left stands in as many texts as before.
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
    """The text in pieces, no escape cut in two."""
    start = 0
    while start < len(body):
        chunk = body[start : start + _CHUNK]
        backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
        if backslashes % 2 and len(chunk) == _CHUNK:
            chunk = chunk[:-1]
        start += len(chunk)
        yield chunk

"""Encoding of values for rows: clean text, JSON, compression, and inserts of many rows in one statement."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson
import zstandard

#: Data over this many bytes is compressed.
COMPRESS_OVER = 8192
_PLAIN, _ZSTANDARD = 0, 1
#: NUL, which PostgreSQL's text type rejects, and lone surrogates, which UTF-8 cannot encode.
_UNFIT = re.compile("[\x00\ud800-\udfff]")
#: Reasons are cut to this many characters, to keep rows of ``work`` small.
_LONGEST_REASON = 4000
_MOST_ROWS = 512


def clean(text: str) -> str:
    """Replace NUL and lone surrogates with U+FFFD, so that every database's text column accepts the text."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNFIT.sub("\ufffd", text)


def clean_or_none(text: str | None) -> str | None:
    """``clean`` for a nullable column."""
    return None if text is None else clean(text)


def clean_reason(text: str) -> str:
    """A reason as it is stored: clean, and cut to 4000 characters."""
    text = clean(text)
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def dump_json(value: Any) -> bytes:
    """Encode any value as JSON. Types unknown to JSON become their ``str``; lone surrogates stay as escapes."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return json.dumps(value, default=str, skipkeys=True).encode()


def load_json(data: bytes | str) -> Any:
    """Decode what ``dump_json`` returned."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def ids_json(ids: Iterable[str]) -> str:
    """Ids as the parameter of ``IN (SELECT value FROM json_each(?))``."""
    return orjson.dumps([clean(one) for one in ids]).decode()


def pack(data: bytes) -> tuple[int, bytes]:
    """Encode data for storage: the encoding's number and the bytes, compressed if that makes them smaller."""
    if len(data) <= COMPRESS_OVER:
        return _PLAIN, data
    compressed = zstandard.compress(data, level=1)
    return (_ZSTANDARD, compressed) if len(compressed) < len(data) else (_PLAIN, data)


def unpack(encoding: int, data: bytes) -> bytes:
    """Decode what ``pack`` returned.

    Raises:
        ValueError: the data is damaged, or its encoding is unknown.
    """
    if encoding == _PLAIN:
        return data
    if encoding != _ZSTANDARD:
        raise ValueError(f"data encoding {encoding} is unknown to this version")
    try:
        return zstandard.decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"compressed data is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT of any number of rows in few statements.

    Each statement releases the GIL and must reacquire it from a busy event loop. ``executemany`` does that for each
    row, this class once for 512 rows and at most three times for the rest. It uses few distinct statements, so they
    stay prepared.
    """

    head: str
    width: int

    def run(self, db: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Insert the rows, each of ``width`` values."""
        row = "(" + ",".join("?" * self.width) + ")"
        start = 0
        for size in _pieces(len(rows)):
            values = list(chain.from_iterable(rows[start : start + size]))
            db.execute(self.head + f"{row}," * (size - 1) + row, values)
            start += size


def _pieces(rows: int) -> Iterator[int]:
    """Group sizes that add up to ``rows``: multiples of a power of eight, at most 512 each."""
    while rows:
        step = next(power for power in (64, 8, 1) if rows >= power)
        size = min(rows - rows % step, _MOST_ROWS)
        yield size
        rows -= size

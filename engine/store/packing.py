"""Values as rows hold them: clean text, JSON bytes, compressed bodies, many rows in one statement."""

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
#: What PostgreSQL's text cannot hold, or UTF-8 cannot say.
_UNFIT = re.compile("[\x00\ud800-\udfff]")
#: Reasons longer than this many characters are cut: rows of ``work`` are narrow.
_LONGEST_REASON = 4000
_MOST_ROWS = 512


def clean(text: str) -> str:
    """Text that every engine's text column takes: NUL and lone surrogates become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNFIT.sub("\ufffd", text)


def clean_or_none(text: str | None) -> str | None:
    """``clean`` for a column that may be null."""
    return None if text is None else clean(text)


def clean_reason(text: str) -> str:
    """A reason fit for a row: clean, and no longer than people read."""
    text = clean(text)
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def dump_json(value: Any) -> bytes:
    """JSON of anything: what JSON has no form for becomes its text, lone surrogates stay as escapes."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return json.dumps(value, default=str, skipkeys=True).encode()


def load_json(data: bytes | str) -> Any:
    """What ``dump_json`` wrote."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def ids_json(ids: Iterable[str]) -> str:
    """Ids as the one parameter of ``IN (SELECT value FROM json_each(?))``."""
    return orjson.dumps([clean(one) for one in ids]).decode()


def pack(data: bytes) -> tuple[int, bytes]:
    """Data as it is stored: its encoding and its bytes, compressed where that is worth it."""
    if len(data) <= COMPRESS_OVER:
        return _PLAIN, data
    squeezed = zstandard.compress(data, level=1)
    return (_ZSTANDARD, squeezed) if len(squeezed) < len(data) else (_PLAIN, data)


def unpack(encoding: int, data: bytes) -> bytes:
    """What ``pack`` was given.

    Raises:
        ValueError: the data is damaged, or its encoding is not known.
    """
    if encoding == _PLAIN:
        return data
    if encoding != _ZSTANDARD:
        raise ValueError(f"data encoding {encoding} is not known to this version")
    try:
        return zstandard.decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"compressed data is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT of any number of rows in few statements.

    Every statement a thread executes gives up the GIL a few times and must win it back from a
    busy event loop. ``executemany`` does so for each row, this for each digit of their number
    written in base eight; so the texts are few, too, and stay prepared.
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
    """Sizes that add up to a number of rows: as many of 512 as fit, then its digits in base eight."""
    while rows:
        step = next(power for power in (64, 8, 1) if rows >= power)
        size = min(rows - rows % step, _MOST_ROWS)
        yield size
        rows -= size

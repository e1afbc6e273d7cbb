"""Rows of the store's tables: clean text, JSON, compression and encryption of values, and the columns of each table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import zstandard

from engine.store.encryption import ENCRYPTED, Keyring
from engine.store.records import Attempt, Routed, Work

#: Data over this many bytes is compressed.
COMPRESS_OVER = 8192
_PLAIN, _ZSTANDARD = 0, 1
#: NUL, which PostgreSQL's text type rejects, and lone surrogates, which UTF-8 cannot encode.
_UNFIT = re.compile("[\x00\ud800-\udfff]")
#: Reasons are cut to this many characters, to keep rows of ``work`` small.
_LONGEST_REASON = 4000

#: The columns of the tables, in the order of the rows below.
WORK_COLUMNS = (
    "id, kind, event_id, route, action, idx, run_id, first_at, due_at, attempts, replays, owner, leased_at, error,"
    " lane, until_at, target"
)
ATTEMPT_COLUMNS = (
    "event_id, work_id, kind, route, action, idx, run_id, first_at, replay, number, started_at, seconds, outcome,"
    " reason, status, destination, worker, detail"
)
DECISION_COLUMNS = (
    "event_id, replays, decided_at, config_hash, matched, fallback, unmatched_reason, encoding, decisions"
)
VARIABLES_COLUMNS = "work_id, event_id, encoding, words, group_key, told"
ITEM_COLUMNS = "delivery_id, item_id, event_id, idx, run_id, replays, added_at"


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


def pack(data: bytes, keyring: Keyring | None = None, place: str = "") -> tuple[int, bytes]:
    """Encode data for storage: the encoding's number and the bytes, compressed if that makes them smaller.

    With a ``keyring`` they are encrypted. ``place`` names the column and row that will hold them.
    """
    encoding = _PLAIN
    if len(data) > COMPRESS_OVER and len(compressed := zstandard.compress(data, level=1)) < len(data):
        encoding, data = _ZSTANDARD, compressed
    return (encoding, data) if keyring is None else (encoding + ENCRYPTED, keyring.encrypt(data, place))


def unpack(encoding: int, data: bytes, keyring: Keyring | None = None, place: str = "") -> bytes:
    """Decode what ``pack`` returned for the same place.

    Raises:
        MissingKey: the data is encrypted with a key that is not configured.
        ValueError: the data is damaged, or its encoding is unknown.
    """
    if encoding >= ENCRYPTED:
        encoding, data = encoding - ENCRYPTED, (keyring or Keyring()).decrypt(data, place)
    if encoding == _PLAIN:
        return data
    if encoding != _ZSTANDARD:
        raise ValueError(f"data encoding {encoding} is unknown to this version")
    try:
        return zstandard.decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"compressed data is damaged: {error}") from error


def unpack_detail(data: bytes, keyring: Keyring | None, work_id: str) -> Mapping[str, Any]:
    """``attempt.detail`` as an object. A first byte says whether it is encrypted; JSON never begins with that byte."""
    if data[:1] == bytes((ENCRYPTED,)):
        data = unpack(data[0], data[1:], keyring, f"attempt.detail:{work_id}")
    detail: Mapping[str, Any] = load_json(data)
    return detail


def work_row(work: Work, owner: str | None = None, leased_at: float | None = None) -> tuple[Any, ...]:
    """A row of ``work``: owned, or due without an owner."""
    return (
        work.id,
        work.kind,
        work.event_id,
        clean(work.route),
        clean(work.action),
        work.index,
        clean_or_none(work.run_id),
        work.first_at,
        work.due_at,
        work.attempts,
        work.replays,
        owner,
        leased_at,
        None if work.error is None else clean_reason(work.error),
        clean(work.lane),
        work.until,
        work.target or None,
    )


def attempt_row(work: Work, attempt: Attempt, keyring: Keyring | None) -> tuple[Any, ...]:
    """A row of ``attempt``, with a copy of its work's columns."""
    detail = None if attempt.detail is None else dump_json(attempt.detail)
    if detail is not None and keyring is not None:
        detail = bytes((ENCRYPTED,)) + keyring.encrypt(detail, f"attempt.detail:{work.id}")
    return (
        work.event_id,
        work.id,
        work.kind,
        clean(work.route),
        clean(work.action),
        work.index,
        clean_or_none(work.run_id),
        work.first_at,
        attempt.replay,
        attempt.number,
        attempt.started_at,
        attempt.seconds,
        attempt.outcome,
        clean_reason(attempt.reason),
        attempt.status,
        clean(attempt.destination),
        clean(attempt.worker),
        detail,
    )


def decision_row(
    routed: Routed, decisions: Sequence[Mapping[str, Any]], replays: int, keyring: Keyring | None
) -> tuple[Any, ...]:
    """A row of ``decision``: the result of an evaluation."""
    return (
        routed.event_id,
        replays,
        routed.decided_at,
        clean(routed.config_hash),
        routed.matched,
        routed.fallback,
        clean_or_none(routed.unmatched_reason),
        *pack(dump_json(decisions), keyring, f"decision.decisions:{routed.event_id}"),
    )


def variables_row(work: Work, key: str | None, reported: int, keyring: Keyring | None) -> tuple[Any, ...]:
    """A row of ``delivery_words``: template variables, and how many suppressed deliveries of a key it reports."""
    packed = pack(dump_json(work.variables), keyring, f"delivery_words.words:{work.id}")
    return (work.id, work.event_id, *packed, key, reported)


def item_row(delivery_id: str, work: Work, at: float) -> tuple[Any, ...]:
    """A row of ``digest_item``."""
    return (delivery_id, work.id, work.event_id, work.index, clean_or_none(work.run_id), work.replays, at)

"""Names of the data in other tools → the field in our document."""

from __future__ import annotations

import re
from typing import Final

from engine.core.payload_schema import RUN_FIELDS, TEXT_FIELDS
from engine.core.vocabulary import (
    COMPUTED,
    DELIVERY_WORDS,
    DIGEST_WORDS,
    EVENT_WORDS,
    FIELD_SYNONYMS,
    ROUTE_WORDS,
    THROTTLE_WORDS,
)
from engine.rules.dialects.meaning import Field, Unclear

Key = str | int | None

#: Prefixes in other tools that mean the whole document.
_ROOTS: Final = frozenset({
    "$", "@", "this", "self", "input", "body", "payload", "data", "root", "ctx", "context", "_", "doc", "obj", "object",
    "request", "req", "msg", "message_body", "json", "$json", "github", "client_payload", "trigger", "output", "it",
    "record", "detail", "_source", "value", "properties", "attributes", "resource", "content", "webhook",
    "node", "new", "var", "local", "jsonpayload", "protopayload", "df", "pl", "row", "evt", "e", "r", "x",
    "item", "entry",
})  # fmt: skip
_RUNS: Final = frozenset({"runs", "traces", "spans"})
_RUN: Final = frozenset({"run", "trace", "span"})
_ENGINE: Final = {
    "event": EVENT_WORDS, "route": ROUTE_WORDS, "throttle": THROTTLE_WORDS, "digest": DIGEST_WORDS,
    "delivery": DELIVERY_WORDS,
}  # fmt: skip
#: Suffixes in other languages for the size of a value.
SIZES: Final = frozenset({"length", "size", "len", "count"})
_OPEN: Final = frozenset({"feedback", "feedbacks", "feedback_stats", "vars", "payload", "items"})
_ALIASES: Final = {
    "level": "status", "severity": "status", "error_message": "error", "exception": "error", "title": "name",
    "run_name": "name", "runname": "name", "service": "name", "kind": "run_type", "label": "tags", "labels": "tags",
    "elapsed": "latency", "response_time": "latency", "took": "latency", "runtime": "latency", "cost": "cost",
    "result": "outputs", "response": "outputs", "message_text": "error", "run_id": "id", "errors": "error",
}  # fmt: skip


def field_of(keys: tuple[Key, ...]) -> Field:
    """The field meant by a name in another language.

    Raises:
        Unclear: the field is not known.
    """
    rest = _below_roots(keys)
    if not rest:
        raise Unclear(field=_written(keys))
    first, *others = rest
    first = first.lower() if isinstance(first, str) and first.lower() in _RUN | _RUNS else first
    if first in _RUN and others:
        return Field(("run", *_run_field(tuple(others), keys)))
    if first in _RUNS:
        return _of_runs(rest, keys)
    if first in _ENGINE and others and others[0] in _ENGINE[str(first)]:
        return Field(rest)
    if first == "event" and others:
        return field_of(tuple(others))
    if first in _OPEN:
        return Field(rest)
    return Field(("run", *_run_field(rest, keys)))


def _below_roots(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    rest = tuple(key.lstrip("@") or key if isinstance(key, str) else key for key in keys)
    while len(rest) > 1 and (isinstance(rest[0], int) or (isinstance(rest[0], str) and rest[0].lower() in _ROOTS)):
        rest = rest[1:]
    return rest


def _of_runs(rest: tuple[Key, ...], keys: tuple[Key, ...]) -> Field:
    """``runs.0.status`` and ``runs[0].status``: the first run; ``runs[*].status``, ``runs.status``: each run."""
    if len(rest) == 1:
        return Field(rest)
    place = rest[1] if isinstance(rest[1], int) else None
    others = rest[2:] if isinstance(rest[1], int) or rest[1] is None else rest[1:]
    if not others:
        return Field(("runs", place))
    inner = _run_field(others, keys)
    return Field(("run", *inner)) if place is None or inner[0] in COMPUTED else Field(("runs", place, *inner))


def _run_field(rest: tuple[Key, ...], keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """The field within a run, by LangSmith's name for it."""
    name = rest[0]
    if not isinstance(name, str):
        raise Unclear(field=_written(keys))
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    for candidate in (name, snake):
        if candidate in TEXT_FIELDS - {"error"} and any(isinstance(key, str) and key not in SIZES for key in rest[1:]):
            raise Unclear(field=_written(keys))  # a text has no fields; an error may be an object
        if candidate in RUN_FIELDS or candidate in COMPUTED:
            return (candidate, *rest[1:])
        if (known := FIELD_SYNONYMS.get(candidate) or _ALIASES.get(candidate)) is not None:
            return (*known.split("."), *rest[1:])
    if name == "is_root":
        return ("is_root",)
    raise Unclear(field=_written(keys))


def _written(keys: tuple[Key, ...]) -> str:
    return ".".join("*" if key is None else str(key) for key in keys)


_STEP: Final = re.compile(
    r"""\.?(?P<name>[^\s.\[\]/'"(){}?]+)|\[\s*(?P<index>-?\d+)\s*\]|\[\s*(?P<each>\*|)\s*\]|\[\s*(?P<quote>['"])(?P<key>.*?)(?P=quote)\s*\]"""
)


def keys_of(text: str) -> tuple[Key, ...] | None:
    """The steps of a path in JSONPath, JMESPath, jq, gjson, Lodash or JSON Pointer; None if it is more than a path."""
    text = text.strip()
    if text.startswith(("/", "#/")):
        return tuple(
            _key(part.replace("~1", "/").replace("~0", "~")) for part in text.lstrip("#").strip("/").split("/")
        )
    keys: list[Key] = []
    place = 1 if text.startswith(("$.", "$[", "@.", "@[")) else 0
    while place < len(text):
        if (step := _STEP.match(text, place)) is None:
            return None
        place = step.end()
        keys.append(_step(step))
    return tuple(keys) or None


def _step(step: re.Match[str]) -> Key:
    if step["name"] is not None:
        return _key(step["name"])
    if step["index"] is not None:
        return int(step["index"])
    return step["key"] if step["key"] is not None else None


def _key(part: str) -> Key:
    if part in ("*", "#", "$", "-", "@this"):
        return None
    return int(part) if part.isdigit() else part.lstrip("@") or part

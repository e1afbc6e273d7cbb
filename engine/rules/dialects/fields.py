"""Names of the data in other tools → the field in our document."""

from __future__ import annotations

import re
from typing import Final

from engine.core.payload_schema import RUN_FIELDS, TEXT_FIELDS
from engine.core.vocabulary import (
    COMPUTED,
    DELIVERY_FIELDS,
    DIGEST_WORDS,
    EVENT_FIELDS,
    FIELD_SYNONYMS,
    ROUTE_WORDS,
    THROTTLE_WORDS,
)
from engine.rules.dialects.meaning import Field, Keys, Unclear

#: Prefixes in other tools that mean the whole document.
_ROOTS: Final = frozenset({
    "$", "@", "this", "self", "input", "body", "payload", "data", "root", "ctx", "context", "_", "doc", "obj", "object",
    "request", "req", "msg", "message_body", "json", "$json", "github", "client_payload", "trigger", "output", "it",
    "record", "detail", "_source", "value", "properties", "attributes", "resource", "content", "webhook",
    "node", "new", "var", "local", "jsonpayload", "protopayload", "df", "pl", "row", "evt", "e", "r", "x",
    "item", "entry",
})  # fmt: skip
_ENGINE: Final = {
    "event": EVENT_FIELDS, "route": ROUTE_WORDS, "throttle": THROTTLE_WORDS, "digest": DIGEST_WORDS,
    "delivery": DELIVERY_FIELDS,
}  # fmt: skip
#: Suffixes in other languages for the size of a value.
SIZES: Final = frozenset({"length", "size", "len", "count"})
_OPEN: Final = frozenset({"feedback", "feedbacks", "feedback_stats", "vars", "payload", "items"})
_ALIASES: Final = {
    **FIELD_SYNONYMS,
    "level": "status", "severity": "status", "error_message": "error", "exception": "error", "title": "name",
    "run_name": "name", "runname": "name", "service": "name", "kind": "run_type", "label": "tags", "labels": "tags",
    "elapsed": "latency", "response_time": "latency", "took": "latency", "runtime": "latency", "cost": "cost",
    "result": "outputs", "response": "outputs", "message_text": "error", "run_id": "id", "errors": "error",
}  # fmt: skip


def field_of(keys: Keys) -> Field:
    """The field meant by a name in another language.

    Raises:
        Unclear: the field is not known.
    """
    rest = tuple(key.lstrip("@") or key if isinstance(key, str) else key for key in keys)
    while len(rest) > 1 and (isinstance(rest[0], int) or str(rest[0]).lower() in _ROOTS):
        rest = rest[1:]
    match rest:
        case (str(first), _, *_) if first.lower() in ("run", "trace", "span"):
            return Field(("run", *_run_field(rest[1:], keys)))
        case (str(first), *_) if first.lower() in ("runs", "traces", "spans"):
            return _of_runs((first.lower(), *rest[1:]), keys)
        case (str(first), name, *_) if name in _ENGINE.get(first, ()):
            return Field(rest)
        case ("event", _, *_):
            return field_of(rest[1:])
        case (str(first), *_) if first in _OPEN:
            return Field(rest)
    return Field(("run", *_run_field(rest, keys)))


def _of_runs(rest: Keys, keys: Keys) -> Field:
    """``runs.0.status`` and ``runs[0].status``: the first run; ``runs[*].status``, ``runs.status``: each run."""
    if len(rest) == 1:
        return Field(rest)
    others = rest[1:] if isinstance(rest[1], str) else rest[2:]
    place = rest[1] if isinstance(rest[1], int) else None
    if not others:
        return Field(("runs", place))
    inner = _run_field(others, keys)
    return Field(("run", *inner)) if place is None or inner[0] in COMPUTED else Field(("runs", place, *inner))


def _run_field(rest: Keys, keys: Keys) -> Keys:
    """The field within a run, by LangSmith's name for it."""
    name = rest[0] if rest and isinstance(rest[0], str) else ""
    for candidate in (name, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()):
        known = candidate if candidate in RUN_FIELDS | COMPUTED | {"is_root"} else _ALIASES.get(candidate)
        # A text has no fields; an error may be an object.
        within = any(isinstance(key, str) and key not in SIZES for key in rest[1:])
        if known is not None and not (candidate in TEXT_FIELDS - {"error"} and within):
            return (*known.split("."), *rest[1:])
    raise Unclear(field=".".join("*" if key is None else str(key) for key in keys))


_STEP: Final = re.compile(
    r"""\.?(?P<name>[^\s.\[\]/'"(){}?]+)|\[\s*(?P<index>-?\d+)\s*\]|\[\s*(?P<each>\*|)\s*\]|\[\s*(?P<quote>['"])(?P<key>.*?)(?P=quote)\s*\]"""
)


def keys_of(text: str) -> Keys | None:
    """The steps of a path in JSONPath, JMESPath, jq, gjson, Lodash or JSON Pointer; None if it is more than a path."""
    text = text.strip()
    if text.startswith(("/", "#/")):
        parts = text.lstrip("#").strip("/").split("/")
        return tuple(_key(part.replace("~1", "/").replace("~0", "~")) for part in parts)
    keys: list[str | int | None] = []
    place = 1 if text.startswith(("$.", "$[", "@.", "@[")) else 0
    while place < len(text):
        if (step := _STEP.match(text, place)) is None:
            return None
        place = step.end()
        keys.append(_key(step["name"]) if step["name"] else int(step["index"]) if step["index"] else step["key"])
    return tuple(keys) or None


def _key(part: str) -> str | int | None:
    if part in ("*", "#", "$", "-", "@this"):
        return None
    return int(part) if part.isdigit() else part.lstrip("@") or part

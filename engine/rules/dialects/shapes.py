"""Other tools' shapes of conditions → the shape that ``mappings`` reads."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from engine.rules.dialects.meaning import Unclear
from engine.rules.dialects.words import operator_of

_KINDS: Final = frozenset({"string", "number", "boolean", "dateTime", "date", "array", "object", "bool"})
_MATCHER: Final = re.compile(r"\s*([\w.]+)\s*(=~|!~|!=|=)\s*(.*?)\s*")


def reshaped(raw: Any) -> Any:
    """The same condition in a shape that ``mappings`` reads; unchanged if it has one already."""
    match raw:
        case [str() as field, str() as operator, value] if _is_triple(field, operator, value):
            return {"field": field, "op": operator, "value": value}
        case {"a": field, "o": operator, **rest} if rest.keys() <= {"b"}:  # Make
            return {"field": field, "op": operator, **({"value": rest["b"]} if rest else {})}
        case {"operator": {"operation": str() as operation}}:  # n8n
            return {**raw, "operator": operation}
        case dict() if raw and raw.keys() <= _KINDS and all(map(_is_n8n, raw.values())):
            return {"all": [each for part in raw.values() for each in part]}
        case {"matchers": str() as text, **rest} if not rest:  # Alertmanager
            return "{" + text.strip().strip("{}") + "}"
        case {"matchers": [*each], **rest} | {"object_matchers": [*each], **rest} if not rest and each:
            return "{" + ", ".join(map(_matcher, each)) + "}"
        case {"properties": dict(properties), **rest} if rest.keys() <= {"required", "type"}:  # JSON Schema
            needed = [name for name in raw.get("required", []) if name not in properties]
            return {"all": [*({name: value} for name, value in properties.items()), *map(_exists, needed)]}
        case {"required": [*names], **rest} if rest.keys() <= {"type"}:
            return {"all": [*map(_exists, names)]}
        case {"expr": str() as text, "fields": [*fields], **rest} if not rest:  # Argo Events
            return {"expr": _with_sources(text, fields)}
        case {**one} if len(one) == 1:
            return _json_logic(raw, next(iter(raw.items())))
    return raw


def _is_triple(field: str, operator: str, value: Any) -> bool:
    """``[status, "==", error]``: the field, the operator, the value."""
    prefix = isinstance(value, str) and operator_of(field) is not None
    return operator_of(operator) is not None and not prefix and not isinstance(value, dict)


def _is_n8n(value: Any) -> bool:
    """Whether these are conditions of n8n's version 1, which are grouped by type."""
    return isinstance(value, list) and all(isinstance(each, dict) and "value1" in each for each in value)


def _exists(name: Any) -> dict[str, Any]:
    return {"field": str(name), "op": "exists"}


def _matcher(each: Any) -> str:
    """A matcher of Alertmanager or Grafana as text: from text, a triple or a mapping.

    Raises:
        Unclear: it is none of these.
    """
    match each:
        case str() if (found := _MATCHER.fullmatch(each)) is not None:
            name, sign, value = found[1], found[2], found[3].strip("\"'")
        case [name, sign, value]:
            pass
        case {"name": name, "value": value, **rest}:
            equal, pattern = rest.get("isEqual", True), rest.get("isRegex", False)
            sign = rest.get("matchType") or {(True, False): "=", (True, True): "=~", (False, True): "!~"}.get(
                (bool(equal), bool(pattern)), "!="
            )
        case _:
            raise Unclear("no matcher")
    return f"{name} {sign} {json.dumps(str(value), ensure_ascii=False)}"


def _with_sources(text: str, sources: list[Any]) -> str:
    """An expression with the source of each name in place of the name."""
    for each in sources:
        if isinstance(each, dict) and {"name", "path"} <= each.keys():
            text = re.sub(rf"(?<![\w.\"']){re.escape(str(each['name']))}(?![\w\"'])", str(each["path"]), text)
    return text


def _json_logic(raw: Any, item: tuple[str, Any]) -> Any:
    """JsonLogic's operators on one value, on the elements of a list, and for choices."""
    match item:
        case "!" | "!!" as key, {"var": field} | [{"var": field}]:
            return {"field": str(field), "op": "is empty" if key == "!" else "is not empty"}
        case "!" | "!!" as key, dict(inner) | [dict(inner)]:
            return {"not" if key == "!" else "all": [inner]}
        case "missing", str() | list() as names:
            return {
                "any": [
                    {"field": str(name), "op": "not exists"} for name in ([names] if isinstance(names, str) else names)
                ]
            }
        case "if", [condition, True, False]:
            return {"all": [condition]}
        case "some" | "none" as key, [{"var": str() as field}, dict(body)] if len(body) == 1:
            operator, sides = next(iter(body.items()))
            match sides:
                case [{"var": ""}, value]:
                    found = {"field": f"{field}[*]", "op": operator, "value": value}
                    return found if key == "some" else {"not": found}
        case "$expr", dict(inner):
            return {"all": [inner]}
    return raw

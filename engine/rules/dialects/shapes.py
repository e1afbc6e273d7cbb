"""Other tools' shapes of conditions → the shape that ``mappings`` reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.rules.dialects.words import operator_of

_KINDS: Final = frozenset({"string", "number", "boolean", "dateTime", "date", "array", "object", "bool"})
_EMPTY: Final[dict[str, str]] = {"!": "is empty", "!!": "is not empty"}
Raw = dict[str, Any]


def reshaped(raw: Any) -> Any:
    """The same condition in a shape that ``mappings`` reads; unchanged if it has one already."""
    if isinstance(raw, list):
        return _triple(raw)
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        return raw
    for change in _CHANGES:
        if (made := change(dict(raw))) is not None:
            return made
    return raw


def _triple(raw: list[Any]) -> Any:
    """``[status, "==", error]``: the field, the operator, the value."""
    if len(raw) != 3 or not isinstance(raw[0], str) or not isinstance(raw[1], str) or isinstance(raw[2], dict):
        return raw
    if operator_of(raw[1]) is None or (isinstance(raw[2], str) and operator_of(raw[0]) is not None):
        return raw
    return {"field": raw[0], "op": raw[1], "value": raw[2]}


def _make(raw: Raw) -> Raw | None:
    """Make: ``{a: "{{1.status}}", o: "text:equal", b: error}``."""
    if not {"a", "o"} <= raw.keys() <= {"a", "o", "b"}:
        return None
    return {"field": raw["a"], "op": raw["o"], **({"value": raw["b"]} if "b" in raw else {})}


def _n8n(raw: Raw) -> Raw | None:
    """n8n: the operator with the type of its operands; in version 1, conditions grouped by type."""
    operator = raw.get("operator")
    if isinstance(operator, dict) and isinstance(operator.get("operation"), str):
        return {**raw, "operator": operator["operation"]}
    lists = [value for key, value in raw.items() if key in _KINDS and isinstance(value, list)]
    if lists and len(lists) == len(raw) and all(isinstance(each, dict) and "value1" in each for each in lists[0]):
        return {"all": [each for part in lists for each in part]}
    return None


def _matchers(raw: Raw) -> Raw | None:
    """Grafana and Alertmanager: matchers as text, as triples, or with a separate comparison."""
    key = next((key for key in ("object_matchers", "matchers") if key in raw), None)
    if key is None or len(raw) > 1:
        return None
    if isinstance(raw[key], str):
        return {"expr": "{" + raw[key].strip().strip("{}") + "}"}
    if not isinstance(raw[key], list) or all(isinstance(each, str) for each in raw[key]):
        return None
    return {"matchers": [_matcher(each) for each in raw[key]]}


def _matcher(each: Any) -> Any:
    if isinstance(each, list) and len(each) == 3:
        return "{}{}{}".format(*each)
    if not isinstance(each, dict) or not {"name", "value"} <= each.keys():
        return each
    sign = each.get("matchType") or ("!" if each.get("isEqual") is False else "=") + (
        "~" if each.get("isRegex") else "=" if each.get("isEqual") is False else ""
    )
    return f"{each['name']}{sign}{each['value']}"


def _json_logic(raw: Raw) -> Raw | None:
    """JsonLogic's operators on one value, on several values, and for choices."""
    if len(raw) != 1:
        return None
    [(key, value)] = raw.items()
    first = value[0] if isinstance(value, list) and value else value
    if key in _EMPTY and isinstance(first, dict) and len(first) == 1:
        return {"field": str(first["var"]), "op": _EMPTY[key]} if "var" in first else _opposite(key, first)
    if key == "missing" and isinstance(value, (str, list)):
        return {"any": [{"field": str(each), "op": "not exists"} for each in ([value] if first is value else value)]}
    if key == "if" and isinstance(value, list) and value[1:] == [True, False]:
        return {"all": [first]}
    if key in ("some", "none") and isinstance(value, list) and len(value) == 2:
        return _element(key, *value)
    return {"all": [value]} if key == "$expr" and isinstance(value, dict) else None


def _opposite(key: str, inner: Raw) -> Raw:
    return {"not": inner} if key == "!" else {"all": [inner]}


def _element(key: str, source: Any, body: Any) -> Raw | None:
    """``{some: [{var: tags}, {"==": [{var: ""}, prod]}]}``."""
    match source, body:
        case {"var": str(field)}, dict() if len(body) == 1:
            [(operator, sides)] = body.items()
            if isinstance(sides, list) and len(sides) == 2 and sides[0] == {"var": ""}:
                found = {"field": f"{field}[*]", "op": operator, "value": sides[1]}
                return found if key == "some" else {"not": found}
    return None


def _schema(raw: Raw) -> Raw | None:
    """JSON Schema: ``{properties: {status: {const: error}}, required: [status]}``."""
    required = raw.get("required", [])
    if not isinstance(required, list) or not raw or not raw.keys() <= {"properties", "required", "type"}:
        return None
    if raw.keys() == {"type"}:
        return None
    properties = raw.get("properties", {})
    there = [{"field": str(name), "op": "exists"} for name in required if name not in properties]
    return {"all": [*({name: value} for name, value in properties.items()), *there]}


def _named(raw: Raw) -> Raw | None:
    """Argo Events: an expression, and the source of each name in it."""
    fields = raw.get("fields")
    if raw.keys() != {"expr", "fields"} or not isinstance(fields, list) or not isinstance(raw["expr"], str):
        return None
    text = raw["expr"]
    for each in fields:
        if not isinstance(each, dict) or not {"name", "path"} <= each.keys():
            return None
        text = re.sub(rf"(?<![\w.\"']){re.escape(str(each['name']))}(?![\w\"'])", str(each["path"]), text)
    return {"expr": text}


_CHANGES: Final[tuple[Callable[[Raw], Raw | None], ...]] = (_make, _n8n, _matchers, _json_logic, _schema, _named)

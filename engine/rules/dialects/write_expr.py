"""The meaning of a condition → our expression."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from engine.core.payload_schema import ARRAY_FIELDS, TEXT_FIELDS
from engine.rules.dialects.fields import field_of, keys_of
from engine.rules.dialects.meaning import (
    Among,
    Apply,
    Arithmetic,
    Choice,
    Compare,
    Constant,
    Default,
    Every,
    Field,
    Items,
    Node,
    Not,
    Path,
    Some,
    Unclear,
)

_SIGNS: Final = {"eq": "==", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_OPPOSITE: Final = {"eq": "!=", "lt": ">=", "lte": ">", "gt": "<=", "gte": "<"}
_FILTERS: Final = {
    "length": "length",
    "lower": "lower",
    "upper": "upper",
    "trim": "trim",
    "number": "float",
    "string": "string",
}
#: The precedence of the parts of an expression.
_CHOICE, _OR, _AND, _NOT, _COMPARE, _SUM, _VALUE = range(7)
_TYPES: Final = {"string": "string", "number": "number", "boolean": "boolean", "object": "mapping", "null": "none"}


def write_expression(node: Node) -> str:
    """The expression.

    Raises:
        Unclear: an expression cannot express it.
    """
    return _write(node)[0]


def _write(node: Node) -> tuple[str, int]:
    match node:
        case Constant(value):
            return constant(value), _VALUE
        case Field(keys):
            return _look(keys), _VALUE
        case Path(text):
            return _look(field_of(keys_of(text) or ()).keys), _VALUE
        case Every(parts):
            return " and ".join(_within(part, _NOT) for part in parts), _AND
        case Some(parts):
            return " or ".join(_within(part, _AND) for part in parts), _OR
        case Not(inner):
            return _negated(inner)
        case Compare():
            return _compared(node, negated=False)
        case Among():
            return _among(node)
        case Items(parts):
            return f"[{', '.join(_within(part, _OR) for part in parts)}]", _VALUE
    return _calculated(node)


def _calculated(node: Node) -> tuple[str, int]:
    match node:
        case Apply(name, value) if name in _FILTERS:
            return f"{_within(value, _VALUE)} | {_FILTERS[name]}", _SUM
        case Default(value, otherwise):
            return f"{_within(value, _VALUE)} | default({_within(otherwise, _OR)}, true)", _SUM
        case Arithmetic(sign, left, right):
            return f"{_within(left, _VALUE)} {sign} {_within(right, _VALUE)}", _SUM
        case Choice(condition, then, otherwise):
            parts = (_within(each, _OR) for each in (then, condition, otherwise))
            return "{} if {} else {}".format(*parts), _CHOICE
    raise Unclear("an expression cannot say this")


def _within(node: Node, needed: int) -> str:
    text, bound = _write(node)
    return text if bound >= needed else f"({text})"


def constant(value: Any) -> str:
    """A constant as written in expressions."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(constant, value))}]"
    if isinstance(value, dict):
        raise Unclear("an object")
    return json.dumps(value, ensure_ascii=False)


def _look(keys: tuple[str | int | None, ...]) -> str:
    if None in keys:
        raise Unclear("an expression has no way to say each")
    first, *rest = keys
    return str(first) + "".join(_step(key) for key in rest)


def _step(key: str | int | None) -> str:
    if isinstance(key, str) and re.fullmatch(r"[A-Za-z_]\w*", key):
        return f".{key}"
    return f"[{json.dumps(key, ensure_ascii=False)}]"


def _negated(inner: Node) -> tuple[str, int]:
    if isinstance(inner, Compare):
        return _compared(inner, negated=True)
    return f"not {_within(inner, _COMPARE)}", _NOT


def _compared(node: Compare, *, negated: bool) -> tuple[str, int]:
    operator, left, right = node.operator, node.left, node.right
    if operator == "exists":
        return f"{_within(left, _SUM)} is {'' if negated else 'not '}none", _COMPARE
    if operator == "empty":
        return _empty(left, negated=negated)
    if operator in _SIGNS:
        sign = _OPPOSITE[operator] if negated and operator == "eq" else _SIGNS[operator]
        text = f"{_side(left, node.fold)} {sign} {_side(right, node.fold)}"
        return (f"not ({text})", _NOT) if negated and operator != "eq" else (text, _COMPARE)
    word = "not in" if negated else "in"
    if operator == "in":
        return f"{_side(left, node.fold)} {word} {_side(right, node.fold)}", _COMPARE
    if operator == "contains":
        return f"{_side(right, node.fold)} {word} {_side(left, node.fold)}", _COMPARE
    return _of_text(node, negated=negated)


def _of_text(node: Compare, *, negated: bool) -> tuple[str, int]:
    if node.operator in ("starts_with", "ends_with"):
        method = "startswith" if node.operator == "starts_with" else "endswith"
        value = f"{_within(node.left, _VALUE)}.lower()" if node.fold else _within(node.left, _VALUE)
        return (
            f"{'not ' if negated else ''}{value}.{method}({_side(node.right, node.fold)})",
            _NOT if negated else _VALUE,
        )
    if node.operator == "matches" and not (node.fold and not isinstance(node.right, Constant)):
        right = Constant(f"(?i){node.right.value}") if node.fold and isinstance(node.right, Constant) else node.right
        found = f"{_within(node.left, _VALUE)} | regex_search({_within(right, _OR)})"
        return f"{found} is {'' if negated else 'not '}none", _COMPARE
    if node.operator == "type" and isinstance(node.right, Constant) and node.right.value in _TYPES:
        return f"{_within(node.left, _SUM)} is {'not ' if negated else ''}{_TYPES[node.right.value]}", _COMPARE
    raise Unclear(f"an expression has no {node.operator}")


def _side(node: Node, fold: bool) -> str:  # noqa: FBT001 - a flag handed on
    if not fold:
        return _within(node, _SUM)
    if isinstance(node, Constant):
        return constant(_lower(node.value))
    return f"({_within(node, _VALUE)} | lower)"


def _lower(value: Any) -> Any:
    if isinstance(value, list):
        return [_lower(item) for item in value]
    return value.lower() if isinstance(value, str) else value


def _empty(node: Node, *, negated: bool) -> tuple[str, int]:
    """Null, or without content: what kind of value a field holds is known for those of a run."""
    if not negated:
        return f"not {_within(node, _COMPARE)}", _NOT
    kind = node.keys[-1] if isinstance(node, Field) else None
    nothing = '[none, ""]' if kind in TEXT_FIELDS else "[none, []]" if kind in ARRAY_FIELDS else '[none, "", [], {}]'
    return f"{_within(node, _SUM)} {'not in' if negated else 'in'} {nothing}", _COMPARE


def _among(node: Among) -> tuple[str, int]:
    """Whether a list has an element that is equal to something."""
    match node.body:
        case Compare("eq", Field((name,)), Constant() as wanted, False) if (
            node.quantifier == "any" and name == node.name
        ):
            source = node.source
            if isinstance(source, Field) and source.keys[-1] is None:
                source = Field(source.keys[:-1])
            return f"{_within(wanted, _SUM)} in {_within(source, _SUM)}", _COMPARE
    raise Unclear("an expression has no such search")

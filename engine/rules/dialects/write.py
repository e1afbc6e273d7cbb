"""The meaning of a condition → our condition or expression, as written in YAML."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from engine.core.payload_schema import ARRAY_FIELDS, TEXT_FIELDS
from engine.core.vocabulary import COMPUTED
from engine.rules.dialects.fields import field_of, keys_of
from engine.rules.dialects.meaning import (
    Among,
    Call,
    Compare,
    Constant,
    Field,
    Group,
    Keys,
    Native,
    Node,
    Not,
    Path,
    Unclear,
)
from engine.rules.dialects.words import OPPOSITE
from engine.rules.jsonpath.write import write_look, write_steps

Condition = dict[str, Any]
#: Patterns that ignore case, by operator.
_PATTERNS: Final = {"eq": "^{}$", "in": "^{}$", "contains": "{}", "starts_with": "^{}", "ends_with": "{}$"}


# --- conditions with paths --------------------------------------------------------------------------------------------


def write_condition(node: Node) -> Condition:
    """The condition.

    Raises:
        Unclear: our conditions cannot express it.
    """
    match node:
        case Group("all", (Compare("gte", low, Constant(), False), Compare("lte", high, Constant(), False))) if (
            low == high and isinstance(low, (Field, Path))
        ):
            ends = [part.right.value for part in node.parts]  # type: ignore[union-attr]
            return {"path": _path(low), "between": ends}
        case Group(kind, parts):
            return {kind: [write_condition(part) for part in parts]}
        case Not(Group(kind, parts)):
            return {"none" if kind == "any" else "not": [write_condition(part) for part in parts]}
        case Not(inner):
            return _negated(inner)
        case Compare():
            return _compared(node)
        case Native(condition):
            return dict(condition)
        case Among():
            return _among(node)
    return {"expr": write_expression(node)}


def _negated(inner: Node) -> Condition:
    made = write_condition(inner)
    match inner, list(made):
        case Compare("contains", Field((*_, last))), ["path", "contains"] if last in ARRAY_FIELDS:
            # Every element is tested, so that it also holds for an absent or empty list.
            return {"not": {"path": f"{made['path']}[*]", "eq": made["contains"]}}
        case Compare(), ["path", "eq" | "in" as name]:
            return {"path": made["path"], OPPOSITE[name]: made[name]}
        case Compare(), ["path", "exists" | "empty" as name]:
            return {"path": made["path"], name: not made[name]}
    return {"not": made}


def _compared(node: Compare) -> Condition:
    match node.left, node.right:
        case (Field() | Path() as left) | Call("number", (Field() | Path() as left,)), Constant(value):
            return {"path": _path(left), **_operator(node, value)}
        case Call("length", (Field() | Path() as left,)), Constant(value):
            if node.operator not in ("lt", "lte", "gt", "gte", "eq"):
                raise Unclear("a length is compared with numbers")
            return {"path": _path(left), "length": value if node.operator == "eq" else {node.operator: value}}
    return {"expr": write_expression(node)}


def _path(node: Field | Path) -> str:
    return node.text if isinstance(node, Path) else path_of(node.keys)


def _operator(node: Compare, value: Any) -> Condition:
    texts = value if isinstance(value, list) else [value]
    if not node.fold or not all(isinstance(text, str) for text in texts):
        return {node.operator: value}
    if node.operator == "matches":
        return {"matches": f"(?i){value.removeprefix('(?i)')}"}
    if node.operator not in _PATTERNS:
        raise Unclear("upper and lower case of what is no text")
    quoted = [re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text) for text in texts]
    inner = quoted[0] if len(quoted) == 1 else f"(?:{'|'.join(quoted)})"
    return {"matches": f"(?i){_PATTERNS[node.operator].format(inner)}"}


def _among(node: Among) -> Condition:
    """A condition on the elements that a path finds."""
    negated = isinstance(node.body, Not)
    match node.source, node.body:
        case Field(keys), (Compare(_, Field((name, *rest))) as body) | Not(
            Compare(_, Field((name, *rest))) as body
        ) if name == node.name:
            each = keys if keys[-1] is None else (*keys, None)
            made = _compared(Compare(body.operator, Field((*each, *rest)), body.right, body.fold))
        case _:
            raise Unclear("a search in a list")
    if not negated:
        return made if node.quantifier == "any" else {**made, "quantifier": "all"}
    return {**made, "quantifier": "none"} if node.quantifier == "all" else {"not": {**made, "quantifier": "all"}}


def path_of(keys: Keys) -> str:
    """The path of a field; a run's begins with ``$.runs[*]``, except for fields that only ``run`` has."""
    if len(keys) > 1 and keys[0] == "run" and keys[1] not in COMPUTED:
        keys = ("runs", None, *keys[1:])
    return write_steps(keys)


# --- expressions ------------------------------------------------------------------------------------------------------

#: The precedence of the parts of an expression.
_CHOICE, _OR, _AND, _NOT, _COMPARE, _SUM, _VALUE = range(7)
#: Function → how it is written, the precedence of the whole, and of its parts.
_CALLS: Final = {
    **{name: (f"{{}} | {name}", _SUM, (_VALUE,)) for name in ("length", "lower", "upper", "trim", "string")},
    **{sign: (f"{{}} {sign} {{}}", _SUM, (_VALUE, _VALUE)) for sign in "+-*/%~"},
    "number": ("{} | float", _SUM, (_VALUE,)),
    "default": ("{} | default({}, true)", _SUM, (_VALUE, _OR)),
    "if": ("{1} if {0} else {2}", _CHOICE, (_OR, _OR, _OR)),
}
#: Operator → how it is written, its opposite, and the precedence of the opposite.
_COMPARISONS: Final = {
    "eq": ("{0} == {1}", "{0} != {1}", _COMPARE),
    **{
        name: (f"{{0}} {sign} {{1}}", f"not ({{0}} {sign} {{1}})", _NOT)
        for name, sign in {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}.items()
    },
    "in": ("{0} in {1}", "{0} not in {1}", _COMPARE),
    "contains": ("{1} in {0}", "{1} not in {0}", _COMPARE),
}
_TYPES: Final = {"string": "string", "number": "number", "boolean": "boolean", "object": "mapping", "null": "none"}


def write_expression(node: Node) -> str:
    """The expression.

    Raises:
        Unclear: an expression cannot express it.
    """
    return _write(node)[0]


def _write(node: Node) -> tuple[str, int]:
    """An expression and its precedence."""
    match node:
        case Constant(value):
            return _constant(value), _VALUE
        case Path(text):
            return _write(field_of(keys_of(text) or ()))
        case Field(keys) if None not in keys:
            return write_look(keys), _VALUE
        case Group(kind, parts):
            needed, binds = (_NOT, _AND) if kind == "all" else (_AND, _OR)
            return (" and " if kind == "all" else " or ").join(_within(part, needed) for part in parts), binds
        case Not(Compare() as compared):
            return _comparison(compared, negated=True)
        case Not(inner):
            return f"not {_within(inner, _COMPARE)}", _NOT
        case Compare():
            return _comparison(node, negated=False)
        case Among("any", source, name, Compare("eq", Field((element,)), Constant() as wanted, False)) if (
            element == name
        ):
            whole = Field(source.keys[:-1]) if isinstance(source, Field) and source.keys[-1] is None else source
            return f"{_within(wanted, _SUM)} in {_within(whole, _SUM)}", _COMPARE
        case Call("list", args):
            return f"[{', '.join(_within(part, _OR) for part in args)}]", _VALUE
        case Call(name, args) if name in _CALLS:
            shape, binds, needs = _CALLS[name]
            return shape.format(*map(_within, args, needs)), binds
    raise Unclear("an expression cannot say this")


def _within(node: Node, needed: int) -> str:
    text, binds = _write(node)
    return text if binds >= needed else f"({text})"


def _constant(value: Any) -> str:
    match value:
        case list():
            return f"[{', '.join(map(_constant, value))}]"
        case dict():
            raise Unclear("an object")
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _comparison(node: Compare, *, negated: bool) -> tuple[str, int]:
    if node.operator in _COMPARISONS:
        positive, opposite, binds = _COMPARISONS[node.operator]
        sides = [_side(side, node.fold) for side in (node.left, node.right)]
        return (opposite if negated else positive).format(*sides), binds if negated else _COMPARE
    left, no, yes = node.left, "not " if negated else "", "" if negated else "not "
    match node.operator, node.right:
        case "exists", _:
            return f"{_within(left, _SUM)} is {yes}none", _COMPARE
        case "empty", _:
            return (f"{_within(left, _SUM)} not in {_nothing(left)}", _COMPARE) if negated else _write(Not(left))
        case "starts_with" | "ends_with", right:
            value = f"{_within(left, _VALUE)}{'.lower()' if node.fold else ''}"
            text = f"{value}.{node.operator.replace('_', '')}({_side(right, node.fold)})"
            return f"{no}{text}", _NOT if negated else _VALUE
        case "matches", right if isinstance(right, Constant) or not node.fold:
            pattern = Constant(f"(?i){right.value}") if node.fold and isinstance(right, Constant) else right
            return f"{_within(left, _VALUE)} | regex_search({_within(pattern, _OR)}) is {yes}none", _COMPARE
        case "type", Constant(kind) if kind in _TYPES:
            return f"{_within(left, _SUM)} is {no}{_TYPES[kind]}", _COMPARE
    raise Unclear(f"an expression has no {node.operator}")


def _side(node: Node, fold: bool) -> str:  # noqa: FBT001 - a flag passed on
    if not fold:
        return _within(node, _SUM)
    return _constant(_lower(node.value)) if isinstance(node, Constant) else f"({_within(node, _VALUE)} | lower)"


def _lower(value: Any) -> Any:
    if isinstance(value, list):
        return [_lower(item) for item in value]
    return value.lower() if isinstance(value, str) else value


def _nothing(node: Node) -> str:
    """The values without content that a field may have: what kind of value it holds is known for those of a run."""
    kind = node.keys[-1] if isinstance(node, Field) else None
    return '[none, ""]' if kind in TEXT_FIELDS else "[none, []]" if kind in ARRAY_FIELDS else '[none, "", [], {}]'


# --- as text ----------------------------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r"[A-Za-z][\w-]*")
_NOT_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def in_yaml(value: Any, key: str = "") -> str:
    """A value as written inside YAML's braces: texts without quotes if none are needed, except paths."""
    match value:
        case dict():
            return f"{{{', '.join(f'{in_yaml(name)}: {in_yaml(item, str(name))}' for name, item in value.items())}}}"
        case list():
            return f"[{', '.join(map(in_yaml, value))}]"
        case str() if key not in ("path", "expr") and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
            return value
        case str() if ('"' in value or "\\" in value) and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False, default=str)

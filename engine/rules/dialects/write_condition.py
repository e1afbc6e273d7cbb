"""The meaning of a condition → our condition, as written in YAML."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from engine.core.payload_schema import ARRAY_FIELDS
from engine.core.vocabulary import COMPUTED
from engine.rules.dialects.meaning import (
    Among,
    Apply,
    Compare,
    Constant,
    Every,
    Field,
    Native,
    Node,
    Not,
    Path,
    Some,
    Unclear,
)
from engine.rules.dialects.write_expr import write_expression

Condition = dict[str, Any]
_WHOLE: Final = frozenset({"lt", "lte", "gt", "gte", "eq"})


def write_condition(node: Node) -> Condition:
    """The condition.

    Raises:
        Unclear: our conditions cannot express it.
    """
    match node:
        case Every(parts):
            return _joined("all", parts)
        case Some(parts):
            return _joined("any", parts)
        case Not(inner):
            return _negated(inner)
        case Compare():
            return _compared(node)
        case Native(condition):
            return dict(condition)
        case Among():
            return _among(node)
    return {"expr": write_expression(node)}


def _joined(group: str, parts: tuple[Node, ...]) -> Condition:
    if group == "all" and (between := _between(parts)) is not None:
        return between
    return {group: [write_condition(part) for part in parts]}


def _between(parts: tuple[Node, ...]) -> Condition | None:
    """A lower and an upper limit of the same value, both included."""
    match parts:
        case (Compare("gte", left, Constant(low)), Compare("lte", same, Constant(high))) if left == same:
            return _limits(left, low, high)
    return None


def _limits(left: Node, low: Any, high: Any) -> Condition | None:
    made = _compared(Compare("eq", left, Constant(low)))
    return {"path": made["path"], "between": [low, high]} if "path" in made and "eq" in made else None


def _negated(inner: Node) -> Condition:
    if isinstance(inner, Some):
        return _joined("none", inner.parts)
    if isinstance(inner, Every):
        return {"not": [write_condition(part) for part in inner.parts]}
    made = write_condition(inner)
    if "contains" in made and _is_array(inner):
        # Every element is tested, so that it also holds for an absent or empty list.
        return {"not": {"path": f"{made['path']}[*]", "eq": made["contains"]}}
    if isinstance(inner, Compare) and "path" in made:
        for name, opposite in (("eq", "ne"), ("in", "not_in")):
            if name in made:
                return {"path": made["path"], opposite: made[name]}
        for name in ("exists", "empty"):
            if name in made:
                return {"path": made["path"], name: not made[name]}
    return {"not": made}


def _is_array(node: Node) -> bool:
    return isinstance(node, Compare) and isinstance(node.left, Field) and node.left.keys[-1] in ARRAY_FIELDS


def _compared(node: Compare) -> Condition:
    left, right = node.left, node.right
    if isinstance(left, Apply) and left.name == "number":
        left = left.value
    if not isinstance(right, Constant):
        return {"expr": write_expression(node)}
    if isinstance(left, Apply) and left.name == "length" and isinstance(left.value, (Field, Path)):
        return {"path": _path(left.value), "length": _length(node, right.value)}
    if not isinstance(left, (Field, Path)):
        return {"expr": write_expression(node)}
    return {"path": _path(left), **_operator(node, right.value)}


def _path(node: Field | Path) -> str:
    return node.text if isinstance(node, Path) else path_of(node.keys)


def _length(node: Compare, value: Any) -> Any:
    if node.operator not in _WHOLE:
        raise Unclear("a length is compared with numbers")
    return value if node.operator == "eq" else {node.operator: value}


def _operator(node: Compare, value: Any) -> Condition:
    if not node.fold:
        return {node.operator: value}
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        return {node.operator: value}
    shapes = {"eq": "^{}$", "in": "^{}$", "contains": "{}", "starts_with": "^{}", "ends_with": "{}$"}
    if node.operator == "matches":
        return {"matches": f"(?i){value.removeprefix('(?i)')}"}
    if node.operator not in shapes:
        raise Unclear("upper and lower case of what is no text")
    quoted = [_escape(text) for text in texts]
    inner = quoted[0] if len(quoted) == 1 else f"(?:{'|'.join(quoted)})"
    return {"matches": f"(?i){shapes[node.operator].format(inner)}"}


def _escape(text: str) -> str:
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text)


def _among(node: Among) -> Condition:
    """A condition on the elements that a path finds."""
    body, negated = (node.body.inner, True) if isinstance(node.body, Not) else (node.body, False)
    if not isinstance(node.source, Field) or not isinstance(body, Compare) or not isinstance(body.left, Field):
        raise Unclear("a search in a list")
    if body.left.keys[0] != node.name:
        raise Unclear("a search in a list, for something else")
    keys = node.source.keys if node.source.keys[-1] is None else (*node.source.keys, None)
    made = _compared(Compare(body.operator, Field((*keys, *body.left.keys[1:])), body.right, body.fold))
    if not negated:
        return made if node.quantifier == "any" else {**made, "quantifier": "all"}
    if node.quantifier == "all":
        return {**made, "quantifier": "none"}
    return {"not": {**made, "quantifier": "all"}}


_PLAIN_KEY: Final = re.compile(r"[A-Za-z_]\w*")


def path_of(keys: tuple[str | int | None, ...]) -> str:
    """The path of a field; a run's begins with ``$.runs[*]``, except for fields that only ``run`` has."""
    if len(keys) > 1 and keys[0] == "run" and keys[1] not in COMPUTED:
        keys = ("runs", None, *keys[1:])
    return "$" + "".join(_step(key) for key in keys)


def _step(key: str | int | None) -> str:
    if key is None:
        return "[*]"
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"['{key}']"


# --- as text ----------------------------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r"[A-Za-z][\w-]*")
_NOT_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def in_yaml(value: Any, key: str = "") -> str:
    """A value as written inside YAML's braces: texts without quotes if none are needed, except paths."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{in_yaml(name)}: {in_yaml(item, str(name))}' for name, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(in_yaml, value))}]"
    if (
        isinstance(value, str)
        and key not in ("path", "expr")
        and _PLAIN.fullmatch(value)
        and value.lower() not in _NOT_TEXT
    ):
        return value
    if isinstance(value, str) and ('"' in value or "\\" in value) and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False, default=str)

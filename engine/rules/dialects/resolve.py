"""Other tools' field names → ours, in a whole condition, with what follows from what kind of field it is."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

from engine.core.payload_schema import ARRAY_FIELDS, TEXT_FIELDS, VALUES
from engine.rules.dialects.calls import decoded
from engine.rules.dialects.fields import SIZES, field_of
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
    every,
    exists,
    opposite,
    some,
)
from engine.rules.dialects.tokens import scalar

#: LangSmith's filters compare key and value separately: field of the key → field of the value, and its position.
_PAIRS: Final = {
    "metadata_key": ("metadata_value", ("run", "extra", "metadata"), ()),
    "feedback_key": ("feedback_score", ("feedback_stats",), ("avg",)),
    "input_key": ("input_value", ("run", "inputs"), ()),
    "output_key": ("output_value", ("run", "outputs"), ()),
}


def resolve(node: Any, *, example: bool = False, bound: frozenset[str] = frozenset()) -> Any:
    """The same condition with our fields.

    ``example``: replace an unknown field by an existing one. ``bound`` are names of elements, not fields.

    Raises:
        Unclear: a field is not known, or only its position in a text is asked for.
    """
    match node:
        case Field(keys):
            return node if keys[0] in bound else _field(keys, example=example)
        case Call("position" | "starts_with" | "ends_with"):
            raise Unclear("a part of a text")
        case Call("-", (Field((*_, "end_time")), Field((*_, "start_time")))):
            return Field(("run", "latency"))
        case Group("all", parts):
            return every(*resolve(_paired(parts), example=example, bound=bound))
        case Among(name=name):
            bound |= {name}
        case Compare(left=Field()):
            left, right = resolve((node.left, node.right), example=example, bound=bound)
            return _comparison(Compare(node.operator, left, right, node.fold))
        case tuple():
            return tuple(resolve(part, example=example, bound=bound) for part in node)
    if not is_dataclass(node) or isinstance(node, (Constant, Path, Native)):
        return node
    inner = {each.name: resolve(getattr(node, each.name), example=example, bound=bound) for each in fields(node)}
    return replace(node, **inner)  # type: ignore[type-var]


def _field(keys: Keys, *, example: bool) -> Node:
    """A field, or its length if it ends in that word and cannot have such a key."""
    if len(keys) > 1 and keys[-1] in SIZES:
        found = field_of(keys[:-1])
        if found.keys == ("runs",) or (len(found.keys) > 1 and found.keys[-1] in ARRAY_FIELDS | TEXT_FIELDS):
            return Call("length", (found,))
    try:
        return field_of(keys)
    except Unclear:
        if not example:
            raise
        return Field(("run", "name"))


def _own(node: Node) -> str:
    """The name of a direct field of a run; empty for everything else."""
    match node:
        case Field(("run", str() as name)) | Field(("runs", _, str() as name)):
            return name
    return ""


def _comparison(node: Compare) -> Node:
    """The real meaning of a comparison of a field; most are literal."""
    name, field, own = node.operator, node.left, _own(node.left)
    last = field.keys[-1] if isinstance(field, Field) else None
    value = node.right.value if isinstance(node.right, Constant) else node.right
    of_time = str(last).endswith(("_time", "_at"))
    match name, value:
        case _ if own == "is_root":
            parent = exists(Field(("run", "parent_run_id")))
            return Not(parent) if value is True else parent
        case "contains", str() if last == "metadata" and value.startswith("{"):  # LangSmith
            return _metadata(field, decoded(value))
        case "eq" | "in", bool() | "" | [bool() | ""] if own in TEXT_FIELDS:  # whether there is a text
            asked = Compare("empty" if value == "" else "exists", field, Constant(True))  # noqa: FBT003
            return opposite(asked) if value in (False, [False]) else asked
        case "lt" | "lte" | "gt" | "gte", str() if of_time:
            return replace(node, operator="before" if name in ("lt", "lte") else "after")
        case "eq" | "gte", str() if value.lower() in VALUES.get(own, ()):  # level >= ERROR
            return replace(node, operator="eq", right=Constant(value.lower()))
        case "lt" | "lte" | "gt" | "gte", str():
            return replace(node, right=Constant(scalar(value)))
        case "in", list() if last in ARRAY_FIELDS:
            return some(*(Compare("contains", field, Constant(each), node.fold) for each in value))
        case "eq", bool() | int() | float() | str() | None if last in ARRAY_FIELDS:
            return replace(node, operator="contains")
        case "eq" | "in", _ if last in ARRAY_FIELDS:
            raise Unclear("a list is compared")
    return node


def _metadata(field: Node, pairs: Any) -> Node:
    """LangSmith: ``has(metadata, '{"env": "prod"}')``."""
    if not isinstance(field, Field) or not isinstance(pairs, dict):
        raise Unclear("no object")
    return every(*(Compare("eq", Field((*field.keys, key)), Constant(value)) for key, value in pairs.items()))


def _paired(parts: tuple[Node, ...]) -> tuple[Node, ...]:
    """``eq(metadata_key, "env"), eq(metadata_value, "prod")`` as the one comparison it is."""
    for key, (value, base, end) in _PAIRS.items():
        named, other = _asking(parts, key), _asking(parts, value)
        match named:
            case None:
                continue
            case Compare(_, _, Constant([str() as name] | (str() as name))):
                field = Field((*base, name, *end))
            case _:
                raise Unclear("several keys")
        made = exists(field) if other is None else _moved(other, field)
        parts = tuple(made if part is named else part for part in parts if part is not other)
    return parts


def _asking(parts: tuple[Node, ...], name: str) -> Node | None:
    """The comparison of a field among several conditions."""
    for part in parts:
        match part:
            case Compare(_, Field((found,))) | Not(Compare(_, Field((found,)))) if found == name:
                return part
    return None


def _moved(part: Node, field: Field) -> Node:
    if isinstance(part, Not):
        return Not(_moved(part.inner, field))
    return replace(part, left=field) if isinstance(part, Compare) else part

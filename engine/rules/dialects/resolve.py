"""Other tools' field names → ours, in a whole condition."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

from engine.core.payload_schema import ARRAY_FIELDS, RUN_FIELDS, TEXT_FIELDS, VALUES
from engine.rules.dialects.fields import SIZES, field_of
from engine.rules.dialects.labels import scalar
from engine.rules.dialects.meaning import (
    Among,
    Apply,
    Arithmetic,
    Compare,
    Constant,
    Every,
    Field,
    Native,
    Node,
    Not,
    Operator,
    Part,
    Path,
    Position,
    Unclear,
    every,
    some,
)
from engine.rules.dialects.words import operator_of

#: LangSmith's filters compare key and value separately: field of the key → field of the value, and its position.
_PAIRS: Final = {
    "metadata_key": ("metadata_value", ("run", "extra", "metadata"), ()),
    "feedback_key": ("feedback_score", ("feedback_stats",), ("avg",)),
    "input_key": ("input_value", ("run", "inputs"), ()),
    "output_key": ("output_value", ("run", "outputs"), ()),
}


def resolve(node: Node, *, example: bool = False) -> Node:
    """The same condition with our fields. ``example``: replace an unknown field by an existing one.

    Raises:
        Unclear: a field is not known, or only its position in a text is asked for.
    """
    found: Node = _resolved(node, frozenset(), example)
    return found


def _resolved(node: Any, bound: frozenset[str], example: bool) -> Any:  # noqa: FBT001 - a flag passed on
    """``bound`` are names of elements, not fields."""
    match node:
        case Field(keys):
            return node if keys[0] in bound else _field(keys, example)
        case Position() | Part():
            raise Unclear("a part of a text")
        case Arithmetic("-", Field(end), Field(start)) if end[-1:] == ("end_time",) and start[-1:] == ("start_time",):
            return Field(("run", "latency"))
        case Every(parts):
            return every(*(_resolved(part, bound, example) for part in _paired(parts)))
        case Among(name=name):
            bound |= {name}
        case Compare(left=Field(), right=Constant(value)) if (meant := _meant(node, value, bound)) is not None:
            return _resolved(meant, bound, example)
        case Compare(left=Field()):
            node = replace(node, right=_right(node), operator=_of_time(node))
            found = _field(node.left.keys, example) if node.left.keys[0] not in bound else node.left
            of_array = isinstance(found, Field) and found.keys[-1] in ARRAY_FIELDS
            node = _known_value(node, VALUES.get(_own(found), frozenset()))
            if of_array and node.operator in ("eq", "in"):
                return _resolved(_elements(node), bound, example)
        case tuple():
            return tuple(_resolved(part, bound, example) for part in node)
    if not is_dataclass(node) or isinstance(node, (Constant, Path, Native)):
        return node
    inner = {each.name: _resolved(getattr(node, each.name), bound, example) for each in fields(node)}
    return replace(node, **inner)  # type: ignore[type-var]


def _field(keys: tuple[str | int | None, ...], example: bool) -> Node:  # noqa: FBT001 - a flag passed on
    """A field, or its length if it ends in that word and cannot have such a key."""
    if len(keys) > 1 and keys[-1] in SIZES:
        found = field_of(keys[:-1])
        if found.keys == ("runs",) or (len(found.keys) > 1 and found.keys[-1] in ARRAY_FIELDS | TEXT_FIELDS):
            return Apply("length", found)
    try:
        return field_of(keys)
    except Unclear:
        if not example:
            raise
        return Field(("run", "name"))


def _meant(node: Compare, value: Any, bound: frozenset[str]) -> Node | None:
    """The real meaning of a comparison with a constant that stands for something else; None if it is literal."""
    assert isinstance(node.left, Field)
    if node.left.keys[-1] == "is_root":
        return _is_root(node)
    if node.operator == "contains" and node.left.keys == ("metadata",) and str(value).startswith("{"):
        return _metadata(str(value))
    if node.operator not in ("eq", "in") or (there := _says_there(value)) is None or not _of_text(node, bound):
        return None
    asked = Compare("empty" if value == "" else "exists", node.left, Constant(True))  # noqa: FBT003
    return asked if there else Not(asked)


def _own(field: Node) -> str:
    """The name of a direct field of a run; empty for every other field."""
    keys = field.keys if isinstance(field, Field) else ()
    deep = {"run": 2, "runs": 3}.get(str(keys[0])) if keys else None
    return str(keys[-1]) if len(keys) == deep else ""


def _of_text(node: Compare, bound: frozenset[str]) -> bool:
    """Whether it is a field of a run that is a text or null."""
    assert isinstance(node.left, Field)
    if node.left.keys[0] in bound:
        return False
    try:
        return _own(field_of(node.left.keys)) in TEXT_FIELDS
    except Unclear:
        return False


def _known_value(node: Compare, known: frozenset[str]) -> Compare:
    """``level >= ERROR``: a value of a LangSmith enumeration, in its spelling."""
    value = node.right.value if isinstance(node.right, Constant) else None
    meant = value.lower() if isinstance(value, str) else ""
    if meant not in known or node.operator not in ("eq", "gte"):
        return node
    return replace(node, operator="eq", right=Constant(meant))


def _metadata(text: str) -> Node:
    """LangSmith: ``has(metadata, '{"env": "prod"}')``."""
    try:
        pairs = json.loads(text)
    except ValueError:
        raise Unclear("no JSON") from None
    if not isinstance(pairs, dict) or not pairs:
        raise Unclear("no object")
    return every(*(Compare("eq", Field(("metadata", key)), Constant(value)) for key, value in pairs.items()))


def _says_there(value: Any) -> bool | None:
    """``error: true`` and ``error: ""`` test whether there is a text; None for every other value."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value if isinstance(value, bool) else True if value == "" else None


def _is_root(node: Compare) -> Node:
    """LangSmith's ``is_root``: a run without a parent."""
    parent = Compare("exists", Field(("run", "parent_run_id")), Constant(True))  # noqa: FBT003
    positive = isinstance(node.right, Constant) and node.right.value is True
    return Not(parent) if positive else parent


def _of_time(node: Compare) -> Operator:
    """A comparison of times as ``before`` or ``after``, which accept every notation of a time."""
    left = node.left
    times: dict[str, Operator] = {"lt": "before", "lte": "before", "gt": "after", "gte": "after"}
    is_time = isinstance(left, Field) and str(left.keys[-1]).endswith(("_time", "_at"))
    if is_time and node.operator in times and isinstance(node.right, Constant) and isinstance(node.right.value, str):
        return times[node.operator]
    return node.operator


def _right(node: Compare) -> Node:
    """The operand of a field; ``"10s"`` and ``"50%"`` are numbers if the field is a number."""
    right, ordered = _bare_word(node.right), node.operator in ("lt", "lte", "gt", "gte")
    if ordered and isinstance(node.left, Field) and isinstance(right, Constant) and isinstance(right.value, str):
        return Constant(scalar(right.value))
    return right


def _elements(node: Compare) -> Node:
    """A list never equals a text: what is meant is whether it contains the text."""
    value = node.right.value if isinstance(node.right, Constant) else node.right
    if node.operator == "in" and isinstance(value, list):
        return some(*(Compare("contains", node.left, Constant(each), node.fold) for each in value))
    if isinstance(value, (list, dict)) or not isinstance(node.right, Constant):
        raise Unclear("a list is compared")
    return replace(node, operator="contains")


def _bare_word(right: Node) -> Node:
    """An unquoted word that is not a field is a text."""
    word = right.keys[0] if isinstance(right, Field) and len(right.keys) == 1 else None
    return Constant(word) if isinstance(word, str) and word not in RUN_FIELDS and operator_of(word) is None else right


def _paired(parts: tuple[Node, ...]) -> tuple[Node, ...]:
    """``eq(metadata_key, "env"), eq(metadata_value, "prod")`` as the one comparison it is."""
    found = {_simple(part): part for part in parts}
    left = list(parts)
    for key, (value, base, end) in _PAIRS.items():
        if (named := found.get(key)) is None or (name := _name_of(named)) is None:
            continue
        field = Field((*base, name, *end))
        other = found.get(value)
        made: Node = Compare("exists", field, Constant(True))  # noqa: FBT003
        if other is not None:
            made = _moved(other, field)
            left.remove(other)
        left[left.index(named)] = made
    return tuple(left)


def _name_of(named: Node) -> str | None:
    """The one key that is compared."""
    value = named.right.value if isinstance(named, Compare) and isinstance(named.right, Constant) else None
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if value is not None and not isinstance(value, str):
        raise Unclear("several keys")
    return value


def _simple(part: Node) -> str:
    inner = part.inner if isinstance(part, Not) else part
    field = inner.left if isinstance(inner, Compare) else None
    return str(field.keys[0]) if isinstance(field, Field) and len(field.keys) == 1 else ""


def _moved(part: Node, field: Field) -> Node:
    if isinstance(part, Not):
        return Not(_moved(part.inner, field))
    assert isinstance(part, Compare)
    return replace(part, left=field)

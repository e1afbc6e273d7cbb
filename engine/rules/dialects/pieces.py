"""Small parts that the parsers of texts and of mappings share."""

from __future__ import annotations

from typing import Final

from engine.rules.dialects.build import compare
from engine.rules.dialects.labels import anchored
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Apply,
    Choice,
    Compare,
    Constant,
    Default,
    Field,
    Items,
    Node,
    Position,
    Unclear,
    opposite,
)
from engine.rules.dialects.words import operator_of


def label_matcher(field: Node, sign: str, value: Node) -> Node:
    """One matcher of Prometheus and Alertmanager, whose patterns must match the whole text."""
    if sign not in ("=", "==", "!=", "=~", "!~", ":") or not isinstance(value, Constant):
        raise Unclear("no matcher")
    word = operator_of({":": "eq", "=~": "matches", "!~": "not matches"}.get(sign, sign))
    assert word is not None
    return compare(word, field, Constant(anchored(str(value.value))) if word.name == "matches" else value)


def deeper(node: Node, key: str | int | None) -> Node:
    """An element of a field."""
    if not isinstance(node, Field):
        raise Unclear("an element of a value that was worked out")
    return Field((*node.keys, key))


def as_list(parts: list[Node]) -> Node:
    """A list; a constant if all its items are."""
    parts = [constant_name(part, bare=True) for part in parts]
    if all(isinstance(part, Constant) for part in parts):
        return Constant([part.value for part in parts if isinstance(part, Constant)])
    return Items(tuple(parts))


def is_number(node: Node) -> bool:
    """Whether it is a constant number."""
    return isinstance(node, Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)


#: Constants that are often written without quotes.
_VALUES: Final = frozenset({
    "error", "success", "pending", "interrupted", "llm", "chain", "tool", "retriever", "embedding", "prompt", "parser",
    "string", "number", "object", "array", "boolean", "failed", "ok",
})  # fmt: skip


def constant_name(node: Node, *, bare: bool = False) -> Node:
    """A bare word to the right of an operator, if it can only be a constant."""
    word = node.keys[0] if isinstance(node, Field) and len(node.keys) == 1 else None
    return Constant(word) if isinstance(word, str) and word.lower() in _VALUES else node


def chosen(condition: Node, then: Node, otherwise: Node) -> Node:
    """A choice; between true and false it is the condition itself."""
    match then, otherwise:
        case Constant(True), Constant(False):
            return condition
        case Constant(False), Constant(True):
            return opposite(condition)
    return Choice(condition, then, otherwise)


def truth(node: Node) -> Node:
    """A value used as true or false: whether it exists and is not empty."""
    if isinstance(node, BOOLEAN):
        return node
    if isinstance(node, (Field, Apply, Default)):
        return opposite(Compare("empty", node, Constant(True)))  # noqa: FBT003
    if isinstance(node, Constant) and isinstance(node.value, bool):
        return node
    if isinstance(node, Choice):
        return node
    if isinstance(node, Position):
        return Compare("contains", node.value, node.part)
    raise Unclear("a condition was expected")

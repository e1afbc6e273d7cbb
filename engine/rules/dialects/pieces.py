"""Small parts that the parsers of texts and of mappings have in common."""

from __future__ import annotations

from typing import Final

from engine.rules.dialects.build import compare
from engine.rules.dialects.labels import anchored
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Apply,
    Choice,
    Compare,
    Default,
    Field,
    Items,
    Literally,
    Node,
    Position,
    Unclear,
    opposite,
)
from engine.rules.dialects.words import operator_of


def label_matcher(field: Node, sign: str, value: Node) -> Node:
    """One matcher of Prometheus and Alertmanager, whose patterns must fit the whole text."""
    if sign not in ("=", "==", "!=", "=~", "!~", ":") or not isinstance(value, Literally):
        raise Unclear("no matcher")
    word = operator_of({":": "eq", "=~": "matches", "!~": "not matches"}.get(sign, sign))
    assert word is not None
    return compare(word, field, Literally(anchored(str(value.value))) if word.name == "matches" else value)


def deeper(node: Node, key: str | int | None) -> Node:
    """An element of a field."""
    if not isinstance(node, Field):
        raise Unclear("an element of a value that was worked out")
    return Field((*node.keys, key))


def as_list(parts: list[Node]) -> Node:
    """A list, as a constant where all of it is."""
    parts = [constant_name(part, bare=True) for part in parts]
    if all(isinstance(part, Literally) for part in parts):
        return Literally([part.value for part in parts if isinstance(part, Literally)])
    return Items(tuple(parts))


def is_number(node: Node) -> bool:
    """Whether it is a number that is written out."""
    return isinstance(node, Literally) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)


#: Constants that are often written without quotes.
_VALUES: Final = frozenset({
    "error", "success", "pending", "interrupted", "llm", "chain", "tool", "retriever", "embedding", "prompt", "parser",
    "string", "number", "object", "array", "boolean", "failed", "ok",
})  # fmt: skip


def constant_name(node: Node, *, bare: bool = False) -> Node:
    """A bare word to the right of an operator, where it can only be a constant."""
    word = node.keys[0] if isinstance(node, Field) and len(node.keys) == 1 else None
    return Literally(word) if isinstance(word, str) and word.lower() in _VALUES else node


def chosen(condition: Node, then: Node, otherwise: Node) -> Node:
    """A choice; between true and false it is the condition itself."""
    match then, otherwise:
        case Literally(True), Literally(False):
            return condition
        case Literally(False), Literally(True):
            return opposite(condition)
    return Choice(condition, then, otherwise)


def truth(node: Node) -> Node:
    """A value where true or false is wanted: whether it is there and not empty."""
    if isinstance(node, BOOLEAN):
        return node
    if isinstance(node, (Field, Apply, Default)):
        return opposite(Compare("empty", node, Literally(True)))  # noqa: FBT003
    if isinstance(node, Literally) and isinstance(node.value, bool):
        return node
    if isinstance(node, Choice):
        return node
    if isinstance(node, Position):
        return Compare("contains", node.value, node.part)
    raise Unclear("a condition was expected")

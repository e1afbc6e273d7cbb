"""What follows a field in the mappings of other tools: flags, types, and operators inside names and texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from engine.core.vocabulary import run_field
from engine.rules.dialects.calls import fold, yes_or_no
from engine.rules.dialects.fields import keys_of
from engine.rules.dialects.meaning import Call, Constant, Field, Node, Unclear, opposite
from engine.rules.dialects.tokens import number, scalar
from engine.rules.dialects.words import Word, known_operator, operator_of, phrase_of, suffix

#: Flags: whether they say that case is ignored; those that negate; Home Assistant's kinds of conditions.
_CASE: Final = {
    "case sensitive": False, "ignore case": True, "case insensitive": True, "insensitive": True, "nocase": True,
}  # fmt: skip
_NEGATING: Final = frozenset({"negate", "negated", "not", "invert", "inverse", "exclude", "is negated", "negation"})
_STATES: Final = ("state", "numeric_state")
_ORDERS: Final = ("lt", "lte", "gt", "gte")
_SIGNED: Final = re.compile(r"\s*(>=|<=|>|<|==|!=|=|≥|≤)\s*(\S.*?)\s*")
#: Elastic's and Grafana's times.
_AGO: Final = re.compile(r"now\s*-\s*(\d+(?:ms|s|m|h|d|w))")
_SPAN: Final = re.compile(
    r"\s*([\d.]+(?:%|ms|s|m|h|d|w)?)\s*(?:-|\.\.\.?|to|and|,|;|:)\s*([\d.]+(?:%|ms|s|m|h|d|w)?)\s*"
)


def without_flags(rest: dict[Any, Any]) -> tuple[dict[Any, Any], Callable[[Node], Node]]:
    """The keys without flags, and the change that the flags make."""
    folded = negated = False
    kept: dict[Any, Any] = {}
    for key, value in rest.items():
        phrase = phrase_of(key)
        if phrase in _CASE and isinstance(value, (bool, str)):
            folded = folded or yes_or_no(Constant(value)) is _CASE[phrase]
        elif phrase in ("flags", "options") and isinstance(value, str):
            folded = folded or "i" in value
        elif phrase in _NEGATING and isinstance(value, bool):
            negated = negated or value
        elif phrase not in ("description", "comment") and not (key in ("condition", "platform") and value in _STATES):
            kept[key] = value

    def change(node: Node) -> Node:
        node = fold(node) if folded else node
        return opposite(node) if negated else node

    return kept, change


def typed(operand: Any, kind: str) -> Any:
    """``type: number, value: ["10"]``: the values with the given type."""
    if isinstance(operand, list):
        return [typed(each, kind) for each in operand]
    if kind == "text" or not isinstance(operand, str):
        return operand
    return number(operand.strip()) if kind == "number" else scalar(operand)


def with_operator(key: str) -> tuple[str, Word] | None:
    """``status__in``, ``latency_gt``, ``name.contains``, ``min_latency``: a field and an operator."""
    for mark in ("__", "|", ":"):
        if (found := suffix(key, mark)) is not None:
            return found[0].replace(mark, "."), found[1]
    first, _, rest = key.partition("_")
    word = operator_of(first) if first in ("min", "max", "not") else None
    found = suffix(key.replace(".", "_"), "_") if word is None else (rest, word)
    return found if found is not None and run_field(key) is None and run_field(found[0]) is not None else None


def spelled(word: Word, operand: str) -> tuple[Word, Any]:
    """``"> 10"``, ``1-2``, ``10s``."""
    name = word.name
    if name in ("in", "between") and "," in operand:
        return word, [scalar(part.strip()) for part in operand.strip("[]()").split(",")]
    if name in _ORDERS and (ago := _AGO.fullmatch(operand)) is not None:
        return Word("newer_than" if name in ("gt", "gte") else "older_than", word.negated), ago[1]
    if name == "between" and re.fullmatch(r"\d+(?:ms|s|m|h|d|w)", operand):  # within: 1h
        return Word("newer_than", word.negated), operand
    if (name == "between" or (name == "eq" and ".." in operand)) and (span := _SPAN.fullmatch(operand)) is not None:
        return Word("between", word.negated), [scalar(span[1]), scalar(span[2])]
    if name in (*_ORDERS, "eq") and (signed := _SIGNED.fullmatch(operand)) is not None:
        found = known_operator({"≥": ">=", "≤": "<="}.get(signed[1], signed[1]))
        if name not in ("eq", found.name):
            raise Unclear("two operators that do not agree")
        return Word(found.name, found.negated is not word.negated, word.fold), scalar(signed[2])
    return word, scalar(operand) if name in _ORDERS else operand


def concatenated(parts: list[Node]) -> Node:
    """``chat-{{ vars.name }}``: texts and values, joined."""
    node = parts[0]
    for part in parts[1:]:
        node = Call("~", (node, part))
    return node


def logic_value(raw: Any) -> Node:
    """A side of a comparison of JsonLogic.

    Raises:
        Unclear: it is calculated.
    """
    match raw:
        case {"var": [str() as name, otherwise]}:
            return Call("default", (Field(keys_of(name) or (name,)), Constant(otherwise)))
        case {"var": str() as name} | {"var": [str() as name]}:
            return Field(keys_of(name) or (name,))
        case dict():
            raise Unclear("a calculation")
    return Constant(raw)

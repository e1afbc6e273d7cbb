"""What follows a field in the mappings of other tools: values, flags, and operators inside texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.core.vocabulary import run_field
from engine.rules.dialects.build import compare, yes_or_no
from engine.rules.dialects.fields import keys_of
from engine.rules.dialects.labels import scalar
from engine.rules.dialects.meaning import Arithmetic, Constant, Default, Field, Items, Node, Unclear, opposite, some
from engine.rules.dialects.parser import parse_text
from engine.rules.dialects.tokens import number
from engine.rules.dialects.words import Word, operator_of, phrase_of

_TEMPLATE: Final = re.compile(r"\$?\{\{-?(.*?)-?\}\}", re.DOTALL)
_SIGNED: Final = re.compile(r"\s*(>=|<=|>|<|==|!=|=|≥|≤)\s*(\S.*?)\s*")
#: Elastic's and Grafana's times.
_AGO: Final = re.compile(r"now\s*-\s*(\d+(?:ms|s|m|h|d|w))")
_SPAN: Final = re.compile(
    r"\s*([\d.]+(?:%|ms|s|m|h|d|w)?)\s*(?:-|\.\.\.?|to|and|,|;|:)\s*([\d.]+(?:%|ms|s|m|h|d|w)?)\s*"
)


_CASE: Final = {
    "case sensitive": False,
    "ignore case": True,
    "case insensitive": True,
    "insensitive": True,
    "nocase": True,
}
_NEGATING: Final = frozenset({"negate", "negated", "not", "invert", "inverse", "exclude", "is negated", "negation"})
#: Home Assistant's kinds of conditions.
_KINDS: Final = (
    ("condition", "numeric_state"),
    ("condition", "state"),
    ("platform", "state"),
    ("platform", "numeric_state"),
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the translator needs to know: whether a condition or a path is valid as written."""

    condition: Callable[[Any], bool]
    path: Callable[[str], bool]
    variables: Mapping[str, Any]


def bare(text: str) -> str:
    """An expression without the braces of a template."""
    text = text.strip()
    return _TEMPLATE.sub(r"\1", text.removeprefix("=") if text.startswith("={{") else text).strip()


def ends(operand: Mapping[Any, Any]) -> dict[str, Any]:
    """``{min: 1, max: 2}``, ``{from: 1, to: 2}``."""
    names = {
        "from": "gte",
        "to": "lte",
        "start": "gte",
        "end": "lte",
        "low": "gte",
        "high": "lte",
        "lower": "gte",
        "upper": "lte",
    }
    return {names.get(str(key).lower(), str(key)): value for key, value in operand.items()}


def underscored(key: str) -> tuple[str, Word] | None:
    """``latency_gt``, ``name.contains``, ``min_latency``: a field of a run with an operator at one of its ends."""
    if run_field(key) is not None:
        return None
    words = key.replace(".", "_").split("_")
    for count in range(len(words) - 1, 0, -1):
        field = "_".join(words[:count])
        word = Word("eq", negated=True) if words[count:] == ["not"] else operator_of(" ".join(words[count:]))
        if run_field(field) is not None and word is not None:
            return field, word
    first, name = {"min": "gte", "max": "lte", "not": "ne"}.get(words[0]), key.partition("_")[2]
    word = operator_of(first) if first is not None and run_field(name) is not None else None
    return None if word is None else (name, word)


def options(rest: dict[Any, Any]) -> tuple[dict[Any, Any], bool, bool]:
    """The keys without flags; whether case is ignored; whether the condition is negated."""
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
        elif phrase not in ("description", "comment") and (phrase, value) not in _KINDS:
            kept[key] = value
    return kept, folded, negated


def typed(operand: Any, kind: str) -> Any:
    """``type: number, value: ["10"]``: the values with the given type."""
    if isinstance(operand, list):
        return [typed(each, kind) for each in operand]
    if kind in ("number", "numeric", "int", "integer", "float", "double") and isinstance(operand, str):
        return number(operand.strip())
    return scalar(operand) if kind in ("bool", "boolean") and isinstance(operand, str) else operand


_ORDERS: Final = frozenset({"lt", "lte", "gt", "gte"})


def adapted(word: Word, field: Node, operand: Any, known: Known) -> Node:
    """A comparison with an operand in another tool's notation."""
    if isinstance(operand, list) and len(operand) == 1 and word.name in (*_ORDERS, "contains", "matches", "like"):
        operand = operand[0]
    if isinstance(operand, list) and word.name in ("contains", "matches", "like", "starts_with", "ends_with"):
        made = some(*(adapted(Word(word.name, fold=word.fold), field, each, known) for each in operand))
        return opposite(made) if word.negated else made
    if isinstance(operand, str) and word.name in (*_ORDERS, "eq", "between"):
        word, operand = _spelled(word, operand)
    if word.name in ("in", "between") and isinstance(operand, str) and "," in operand:
        operand = [scalar(part.strip()) for part in operand.strip("[]()").split(",")]
    return compare(word, field, _operand_node(word, operand, known))


def _spelled(word: Word, operand: str) -> tuple[Word, Any]:
    """``"> 10"``, ``1-2``, ``10s``."""
    if word.name in _ORDERS and (ago := _AGO.fullmatch(operand)) is not None:
        return Word("newer_than" if word.name in ("gt", "gte") else "older_than", word.negated), ago[1]
    if word.name == "eq" and ".." in operand and (span := _SPAN.fullmatch(operand)):
        return Word("between", word.negated), [scalar(span[1]), scalar(span[2])]
    if word.name == "between" and re.fullmatch(r"\d+(?:ms|s|m|h|d|w)", operand):  # within: 1h
        return Word("newer_than", word.negated), operand
    if word.name == "between" and (span := _SPAN.fullmatch(operand)):
        return word, [scalar(span[1]), scalar(span[2])]
    if word.name in (*_ORDERS, "eq") and (signed := _SIGNED.fullmatch(operand)):
        found = operator_of({"≥": ">=", "≤": "<="}.get(signed[1], signed[1]))
        if found is None or word.name not in ("eq", found.name):
            raise Unclear("two operators that do not agree")
        return Word(found.name, found.negated is not word.negated, word.fold), scalar(signed[2])
    return word, scalar(operand) if word.name in _ORDERS else operand


def _operand_node(word: Word, operand: Any, known: Known) -> Node:
    if isinstance(operand, str) and _TEMPLATE.fullmatch(operand.strip()):
        return parse_text(bare(operand))
    if isinstance(operand, list) and any(isinstance(each, str) and _TEMPLATE.search(each) for each in operand):
        items = tuple(_operand_node(word, each, known) for each in operand)
        return items[0] if len(items) == 1 and _is_list(items[0], known) else Items(items)
    if isinstance(operand, str) and _TEMPLATE.search(operand):
        return _joined(operand)
    return Constant(operand)


def _is_list(node: Node, known: Known) -> bool:
    """Whether a variable of the configuration is a list."""
    if not isinstance(node, Field) or node.keys[0] != "vars":
        return False
    value: Any = known.variables
    for key in node.keys[1:]:
        value = value.get(key) if isinstance(value, Mapping) else None
    return isinstance(value, list)


def _joined(text: str) -> Node:
    """``chat-{{ vars.name }}``: texts and values, joined."""
    pieces = _TEMPLATE.split(text)  # texts, with the expressions of templates between them
    parts = [parse_text(piece) if place % 2 else Constant(piece) for place, piece in enumerate(pieces) if piece]
    node = parts[0]
    for part in parts[1:]:
        node = Arithmetic("~", node, part)
    return node


def logic_value(raw: Any) -> Node:
    """A side of a comparison of JsonLogic.

    Raises:
        Unclear: it is calculated.
    """
    if isinstance(raw, dict) and set(raw) == {"var"}:
        name, *otherwise = raw["var"] if isinstance(raw["var"], list) and raw["var"] else [raw["var"]]
        if (keys := keys_of(str(name))) is not None:
            return Default(Field(keys), Constant(otherwise[0])) if otherwise else Field(keys)
    if isinstance(raw, dict):
        raise Unclear("a calculation")
    return Constant(raw)

"""The operators on a value's type and on times."""

from __future__ import annotations

import operator as op
from collections.abc import Callable, Mapping
from typing import Any

from engine.core.json_text import is_number
from engine.core.shown_values import describe
from engine.core.suggest import did_you_mean
from engine.core.times import epoch, parse_time
from engine.core.units import parse_duration
from engine.rules.conditions.operands import OperandError, Test, known, undecidable

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": is_number,
    "integer": lambda value: is_number(value) and value == value // 1,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
}
_FOREIGN_TYPES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "none": "null",
    "list": "array",
    "dict": "object",
    "map": "object",
}


def compile_type(name: str, operand: Any) -> Test:
    """``type``: one name of a JSON type, or a list of names of which one must fit."""
    names = operand if isinstance(operand, list) else [operand]
    for index, each in enumerate(names):
        if not isinstance(each, str) or each not in _TYPES:
            shown = "null" if each is None else str(each)
            hint = 'write type: "null"' if each is None else did_you_mean(shown, _TYPES, synonyms=_FOREIGN_TYPES)
            part = (index,) if isinstance(operand, list) else ()
            raise OperandError(f"{name} takes the name of a JSON type, not {describe(each)}", hint, part)
    if not names:
        raise OperandError(f"{name} takes the name of a JSON type", did_you_mean("", _TYPES))
    tests = [_TYPES[each] for each in names]

    def test(value: Any, document: Any) -> bool:
        return known(value) or any(each(value) for each in tests)

    return test


def compile_time(name: str, operand: Any) -> Test:
    """``before`` and ``after``: compare with a fixed time."""
    try:
        limit = parse_time(operand).timestamp() if isinstance(operand, str) else epoch(operand)
    except ValueError as error:
        hint = "for a span of time there are older_than and newer_than" if _is_duration(operand) else ""
        raise OperandError(f"{name}: {error}", hint) from None
    compare = op.lt if name == "before" else op.gt
    return lambda value, document: bool(compare(_epoch(name, value), limit))


def compile_age(name: str, operand: Any) -> Test:
    """``older_than`` and ``newer_than``: a duration before the event was received."""
    try:
        span = parse_duration(operand)
    except ValueError as error:
        raise OperandError(f"{name}: {error}") from None
    compare = op.gt if name == "older_than" else op.lt

    def test(value: Any, document: Any) -> bool:
        # Counted from the receipt, not from now, so that a replay decides like the first time.
        return bool(compare(_epoch("received_at", document["event"]["received_at"]) - _epoch(name, value), span))

    return test


def _epoch(name: str, value: Any) -> float:
    try:
        return epoch(value)
    except (ValueError, OverflowError):
        undecidable(name, value, "a time")


def _is_duration(operand: Any) -> bool:
    try:
        parse_duration(operand)
    except ValueError:
        return False
    return True

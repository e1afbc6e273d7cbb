"""Frequent tests as inline code for generated functions: a call would cost more than the test."""

from __future__ import annotations

from typing import Any

from engine.core.json_text import number_of
from engine.rules.conditions.operands import Test
from engine.rules.jsonpath.generated import InlineTest

_ORDERS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
#: For numbers; every other value is passed to the test.
_NUMBER = "{{v}} {} {{k}} if {{v}}.__class__ is float or {{v}}.__class__ is int else {{t}}"


def inline(name: str, operand: Any, test: Test) -> InlineTest:
    """Code with the same results and exceptions as the operator's test; by default it calls the test."""
    return InlineTest(_code(name, operand), _constant(operand), test)


def _code(name: str, operand: Any) -> str:
    number = operand.__class__ in (int, float)
    if name == "eq" and isinstance(operand, str) and number_of(operand) is None:
        return "{v} == {k}"
    if name == "eq" and number:
        return _NUMBER.format("==")
    if name in _ORDERS and number:
        return _NUMBER.format(_ORDERS[name])
    if name in ("in", "not_in") and all(isinstance(item, str) and number_of(item) is None for item in operand):
        return f"{{v}} {'in' if name == 'in' else 'not in'} {{k}} if {{v}}.__class__ is str else {{t}}"
    return "{t}"


def _constant(operand: Any) -> Any:
    """A list of texts as a set; every other value unchanged."""
    texts = isinstance(operand, list) and all(isinstance(item, str) for item in operand)
    return frozenset(operand) if texts else operand

"""Comparisons inside a path's ``[?(…)]``, as in RFC 9535 2.3.5.2.2 and jsonpath-ng.

They differ from the conditions' comparisons (``engine.rules.conditions.operators``): a string never equals a number,
except for LangSmith's costs (``compare_decimal``).
"""

from __future__ import annotations

import operator as op
from collections.abc import Callable
from typing import Any

from engine.core.document import Missing
from engine.core.json_text import is_number, number_of

_ORDER: dict[str, Callable[[Any, Any], bool]] = {"<": op.lt, "<=": op.le, ">": op.gt, ">=": op.ge}


def compare(operator: str, left: Any, right: Any) -> bool:
    """Whether a comparison of two JSON values holds.

    Raises:
        DataMissing: one of them is data that was not fetched.
    """
    if operator in ("=", "=="):
        return equal(left, right)
    if operator == "!=":
        return not equal(left, right)
    if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return _ORDER[operator](left, right)
    return equal(left, right) and operator in ("<=", ">=")


def compare_decimal(operator: str, left: Any, right: Any) -> bool:
    """Compare with a field that LangSmith sends as a decimal number in a string; it is read as a number.

    Two texts are equal if they are the same text; their order is that of the conditions' operators.

    Raises:
        DataMissing: one of them is data that was not fetched.
    """
    if operator in _ORDER or is_number(left) or is_number(right):
        one, other = number_of(left), number_of(right)
        if one is not None and other is not None:
            return compare(operator, one, other)
    return compare(operator, left, right)


def compare_with(operator: str, literal: Any) -> Callable[[Any], bool]:
    """The comparison with a literal, as a test; frequent ones have a fast form."""
    if isinstance(literal, str) and operator in ("=", "=="):
        return lambda value: bool(value == literal)
    return lambda value: compare(operator, value, literal)


def equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; a boolean never equals a number.

    Raises:
        DataMissing: one of them is data that was not fetched.
    """
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
        elif isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pairs.extend((value, other[key]) for key, value in one.items())
        elif not _same(one, other):
            return False
    return True


def _same(one: Any, other: Any) -> bool:
    for each in (one, other):
        if type(each) is Missing:
            each[0]
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)

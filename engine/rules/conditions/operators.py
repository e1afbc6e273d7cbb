"""The operators of a condition: which operands each accepts, and how it tests a value.

Equality is always defined: values of different types are not equal. Order, patterns, lengths and
times are not: on a value of the wrong type the answer is ``Undecidable``, not false.
The reasons: docs/decisions/0006-what-conditions-answer.md.
"""

from __future__ import annotations

import math
import operator as op
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.core.json_text import is_number, number_of, spelled
from engine.core.offload import watched
from engine.core.regex import RegexError, compile_search, literal_pattern
from engine.core.shown_values import describe
from engine.core.suggest import did_you_mean
from engine.rules.conditions.operands import OperandError, Test, check_json, holds, known, shown, undecidable
from engine.rules.conditions.operators_time import compile_age, compile_time, compile_type
from engine.rules.dialects import misspelt, operator_of
from engine.rules.jsonpath.code_generator import InlineTest
from engine.rules.jsonpath.compare import equal


def compile_operator(name: str, operand: Any) -> Test:
    """The test of an operator with its operand.

    Raises:
        OperandError: the operand cannot be used with this operator.
        KeyError: there is no such operator.
    """
    return OPERATORS[name].compile(name, operand)


# --- equality -----------------------------------------------------------------------------


def _eq(name: str, operand: Any) -> Test:
    check_json(name, operand)
    if operand is None or isinstance(operand, bool):
        return lambda value, document: value is operand or known(value)
    if isinstance(operand, str):
        return _eq_text(operand)
    if isinstance(operand, (int, float)):
        return _eq_number(operand)
    return lambda value, document: equal(value, operand)


def _eq_text(operand: str) -> Test:
    number = spelled(operand)
    if number is None:
        return lambda value, document: bool(value == operand)

    def test(value: Any, document: Any) -> bool:
        return value == number if is_number(value) else bool(value == operand)

    return test


def _eq_number(operand: float) -> Test:
    def test(value: Any, document: Any) -> bool:
        if value.__class__ is int or value.__class__ is float:
            return bool(value == operand)
        number = number_of(value)
        return known(value) if number is None else number == operand

    return test


def _opposite(compiler: Callable[[str, Any], Test]) -> Callable[[str, Any], Test]:
    def compile_opposite(name: str, operand: Any) -> Test:
        test = compiler(name, operand)
        return lambda value, document: not test(value, document)

    return compile_opposite


def _in(name: str, operand: Any) -> Test:
    if not isinstance(operand, list):
        raise OperandError(f"{name} takes a list", f"write {name}: [{shown(operand)}]")
    if not operand:
        raise OperandError(f"{name} takes a list that is not empty")
    tests = [_eq(name, item) for item in operand]
    texts = frozenset(item for item in operand if isinstance(item, str) and spelled(item) is None)
    only_texts = len(texts) == len(tests)

    def test(value: Any, document: Any) -> bool:
        if only_texts and value.__class__ is str:
            return value in texts
        return any(each(value, document) for each in tests)

    return test


# --- order --------------------------------------------------------------------------------

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"lt": op.lt, "lte": op.le, "gt": op.gt, "gte": op.ge}


def _order(name: str, operand: Any) -> Test:
    compare, number = _ORDERS[name], number_of(operand)
    if isinstance(operand, str):
        return _order_text(name, compare, operand, number)
    if number is None or math.isnan(number):
        raise OperandError(f"{name} takes a number or a text, not {describe(operand)}")

    def test(value: Any, document: Any) -> bool:
        if value.__class__ is float or value.__class__ is int:
            return compare(value, number)
        found = number_of(value)
        return compare(found, number) if found is not None else undecidable(name, value, "a number")

    return test


def _order_text(name: str, compare: Callable[[Any, Any], bool], operand: str, number: float | None) -> Test:
    """Compare texts by code points, or as numbers if both are numbers."""

    def test(value: Any, document: Any) -> bool:
        found = number_of(value) if number is not None else None
        if found is not None:
            return compare(found, number)
        return compare(value, operand) if isinstance(value, str) else undecidable(name, value, "a text")

    return test


def _between(name: str, operand: Any) -> Test:
    if not isinstance(operand, list) or len(operand) != 2:
        raise OperandError(f"{name} takes two values, both included", f"write {name}: [0, 0.5]")
    low, high = (_part(name, "gte", operand, 0), _part(name, "lte", operand, 1))
    if is_number(operand[0]) is not is_number(operand[1]) and None in map(number_of, operand):
        raise OperandError(f"{name} takes two numbers or two texts, not one of each")
    if not low(operand[1], None):
        raise OperandError(
            f"{name} takes the lower value first: nothing is between {operand[0]!r} and {operand[1]!r}",
            f"write {name}: [{shown(operand[1])}, {shown(operand[0])}]",
        )
    return lambda value, document: low(value, document) and high(value, document)


def _part(name: str, order: str, operand: list[Any], index: int) -> Test:
    try:
        return _order(order, operand[index])
    except OperandError:
        message = f"{name} takes two numbers or two texts, not {describe(operand[index])}"
        raise OperandError(message, part=(index,)) from None


# --- texts, arrays, objects ---------------------------------------------------------------


def _contains(name: str, operand: Any) -> Test:
    if isinstance(operand, (list, dict)):
        raise OperandError(f"{name} takes one value", "write one condition for each, or put them under `any`")
    element = _eq(name, operand)

    def test(value: Any, document: Any) -> bool:
        if isinstance(value, list):
            return any(element(item, document) for item in watched(value))
        if isinstance(operand, str) and isinstance(value, str):
            return holds(value, operand)
        if isinstance(operand, str) and isinstance(value, Mapping):
            return operand in value
        wanted = "a text, an array or an object" if isinstance(operand, str) else "an array"
        return undecidable(name, value, wanted)

    return test


def _affix(name: str, operand: Any) -> Test:
    texts = operand if isinstance(operand, list) else [operand]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise OperandError(f"{name} takes a text, or a list of texts of which one must fit")
    wanted, starts = tuple(texts), name == "starts_with"

    def test(value: Any, document: Any) -> bool:
        if not isinstance(value, str):
            undecidable(name, value, "a text")
        return value.startswith(wanted) if starts else value.endswith(wanted)

    return test


def _matches(name: str, operand: Any) -> Test:
    if not isinstance(operand, str):
        raise OperandError(f"{name} takes a regular expression, not {describe(operand)}")
    try:
        search = compile_search(literal_pattern(operand))
    except RegexError as error:
        raise OperandError(str(error), error.hint) from None

    def test(value: Any, document: Any) -> bool:
        return search(value) if isinstance(value, str) else undecidable(name, value, "a text")

    return test


def _exists(name: str, operand: Any) -> Test:
    wanted = _boolean(name, operand)

    def test(value: Any, document: Any) -> bool:
        known(value)
        return (value is not None) is wanted

    return test


def _empty(name: str, operand: Any) -> Test:
    wanted = _boolean(name, operand)

    def test(value: Any, document: Any) -> bool:
        known(value)
        nothing = value is None or (isinstance(value, (str, list, Mapping)) and len(value) == 0)
        return nothing is wanted

    return test


def _boolean(name: str, operand: Any) -> bool:
    if not isinstance(operand, bool):
        raise OperandError(f"{name} takes true or false, not {describe(operand)}")
    return operand


def _length(name: str, operand: Any) -> Test:
    test_size = _size(name, operand)

    def test(value: Any, document: Any) -> bool:
        if not isinstance(value, (str, list, Mapping)):
            undecidable(name, value, "a text, an array or an object")
        return test_size(len(value), document)

    return test


def _size(name: str, operand: Any) -> Test:
    """The test of a count or length: equal to a number, or operators on it."""
    if isinstance(operand, dict) and operand:
        tests = [_nested(name, key, inner) for key, inner in operand.items()]
        return lambda value, document: all(test(value, document) for test in tests)
    if isinstance(operand, int) and not isinstance(operand, bool) and operand >= 0:
        return lambda value, document: bool(value == operand)
    raise OperandError(f"{name} takes a whole number or operators on it", f"write {name}: 3 or {name}: {{gte: 2}}")


_SIZE_OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte", "between", "in", "not_in")


def _nested(name: str, key: Any, operand: Any) -> Test:
    if key not in _SIZE_OPERATORS:
        hint = _near(str(key))
        raise OperandError(f"{name} knows no operator {key!r}", hint, (key,))
    for number in operand if isinstance(operand, list) else [operand]:
        if number_of(number) is None:
            raise OperandError(f"{name} is compared with numbers, not {describe(number)}", part=(key,))
    try:
        return compile_operator(key, operand)
    except OperandError as error:
        raise OperandError(str(error), error.hint, (key, *error.part)) from None


def _near(key: str) -> str:
    """The hint for an unknown operator: one with a similar name and the same meaning."""
    word = operator_of(key)
    near = word.ours if word is not None and word.ours in _SIZE_OPERATORS else misspelt(key, _SIZE_OPERATORS)
    return f"did you mean {near!r}?" if near else did_you_mean("", _SIZE_OPERATORS)


# --- the table ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator: ``compile`` makes its test from its name and operand.

    ``code`` is its sign in generated code, if it has one.
    ``shallow``: it does not read the value itself, only its type, its size, or whether it exists.
    ``negative``: its default quantifier is ``all``. ``answers``: it has an answer for an absent value.
    """

    compile: Callable[[str, Any], Test]
    code: str = ""
    shallow: bool = False
    negative: bool = False
    answers: bool = False


#: All operators, in the order of the documentation.
OPERATORS: Final = {
    "eq": Operator(_eq, "=="),
    "ne": Operator(_opposite(_eq), negative=True),
    "lt": Operator(_order, "<"),
    "lte": Operator(_order, "<="),
    "gt": Operator(_order, ">"),
    "gte": Operator(_order, ">="),
    "between": Operator(_between),
    "in": Operator(_in, "in"),
    "not_in": Operator(_opposite(_in), "not in", negative=True),
    "contains": Operator(_contains),
    "starts_with": Operator(_affix),
    "ends_with": Operator(_affix),
    "matches": Operator(_matches),
    "exists": Operator(_exists, shallow=True, answers=True),
    "empty": Operator(_empty, shallow=True, answers=True),
    "length": Operator(_length, shallow=True),
    "count": Operator(_size, shallow=True, answers=True),
    "type": Operator(compile_type, shallow=True),
    "before": Operator(compile_time),
    "after": Operator(compile_time),
    "older_than": Operator(compile_age),
    "newer_than": Operator(compile_age),
}
#: The names of those whose default quantifier is ``all``, and of those that have an answer for an absent value.
NEGATIVE: Final = frozenset(name for name, each in OPERATORS.items() if each.negative)
ANSWERING: Final = frozenset(name for name, each in OPERATORS.items() if each.answers)


def inline(name: str, operand: Any, test: Test) -> InlineTest:
    """Code with the same results and exceptions as the operator's test; by default it calls the test.

    Frequent tests are written out in generated functions: a call would cost more than the test.
    """
    sign, code = OPERATORS[name].code, "{t}"
    if sign in ("in", "not in"):
        if all(isinstance(item, str) and number_of(item) is None for item in operand):
            code = f"{{v}} {sign} {{k}} if {{v}}.__class__ is str else {{t}}"
    elif sign and operand.__class__ in (int, float):
        code = f"{{v}} {sign} {{k}} if {{v}}.__class__ is float or {{v}}.__class__ is int else {{t}}"
    elif sign == "==" and isinstance(operand, str) and number_of(operand) is None:
        code = "{v} == {k}"
    texts = isinstance(operand, list) and all(isinstance(item, str) for item in operand)
    return InlineTest(code, frozenset(operand) if texts else operand, test)

"""The tests inside a path's ``[?…]``, for warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import filter as query

from engine.core.payload_schema import Step
from engine.rules.jsonpath.closures import flatten, straight
from engine.rules.jsonpath.functions import Count, Test, Value
from engine.rules.jsonpath.path import tree_of

#: A comparison sign → the condition operator with the same meaning.
_OPERATORS: Final = {"==": "eq", "=": "eq", "!=": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "=~": "matches"}


@dataclass(frozen=True, slots=True)
class Tested:
    """One test on a field: ``steps`` from the root, the first ``within`` of which are ``@``.

    ``operator`` is a condition operator; empty if the field is not compared with a literal.
    """

    steps: tuple[Step, ...]
    within: int
    operator: str = ""
    operand: Any = None


def filter_tests(text: str) -> Iterator[Tested]:
    """The tests in a path's filters whose field in the document is known.

    Raises:
        PathError: the path cannot be compiled.
    """
    yield from _filters(tree_of(text), ())


def _filters(tree: Any, start: tuple[Step, ...] | None) -> Iterator[Tested]:
    """The tests in the filters of a path from this start; None: the start is not known."""
    place = start
    for node in flatten(tree):
        if isinstance(node, core.Root):
            place = ()
        elif isinstance(node, query.Filter):
            place = None if place is None else (*place, None)
            for expression in node.expressions:
                yield from _tests(expression, place)
        elif type(node) is not core.This:
            step = straight(node)
            place = None if place is None or step is ... else (*place, step)


def _tests(node: Any, place: tuple[Step, ...] | None) -> Iterator[Tested]:
    if isinstance(node, (query.And, query.Or)):
        for operand in node.operands:
            yield from _tests(operand, place)
    elif isinstance(node, Test):
        for test in node.tests:
            yield from _tests(test, place)
    elif isinstance(node, query.Expression):
        yield from _expression(node, place)


def _expression(node: query.Expression, place: tuple[Step, ...] | None) -> Iterator[Tested]:
    if isinstance(node.target, Test):
        yield from _tests(node.target, place)
        return
    literal = not isinstance(node.value, core.JSONPath)
    yield from _read(node.target, place, _OPERATORS.get(node.op or "", "") if literal else "", node.value)
    if not literal:
        yield from _read(node.value, place, "", None)


def _read(target: Any, place: tuple[Step, ...] | None, operator: str, operand: Any) -> Iterator[Tested]:
    """The test of a query inside a filter, and of the filters in that query."""
    nodes = flatten(target)
    if isinstance(nodes[0], (Count, Value)):
        yield from _read(nodes[0].query, place, "", None)
        return
    yield from _filters(target, place)
    start = () if type(nodes[0]) is core.Root else place
    if start is None:
        return
    steps = [straight(node) for node in nodes if type(node) not in (core.Root, core.This)]
    if ... in steps:  # as far as it is known
        steps, operator = steps[: steps.index(...)], ""
    yield Tested((*start, *steps), len(start), operator, operand)

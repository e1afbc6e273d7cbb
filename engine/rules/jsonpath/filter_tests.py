"""The tests inside a path's ``[?…]``, for warnings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import filter as query

from engine.core.payload_schema import Step
from engine.rules.jsonpath.closures import flatten, straight
from engine.rules.jsonpath.functions import Count, Test, Value
from engine.rules.jsonpath.path import tree_of

#: A comparison sign → the condition operator with the same meaning.
OPERATORS: Final = {"==": "eq", "=": "eq", "!=": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "=~": "matches"}


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
        match node:
            case core.Root():
                place = ()
            case query.Filter(expressions=tests):
                place = None if place is None else (*place, None)
                yield from _tests(tests, place)
            case _ if type(node) is not core.This:
                step = straight(node)
                place = None if place is None or step is ... else (*place, step)


def _tests(nodes: Iterable[Any], place: tuple[Step, ...] | None) -> Iterator[Tested]:
    for node in nodes:
        match node:
            case query.And(operands=inner) | query.Or(operands=inner) | Test(tests=inner):
                yield from _tests(inner, place)
            case query.Expression(target=Test() as inner):
                yield from _tests([inner], place)
            case query.Expression(target=target, value=core.JSONPath() as other):
                yield from _read(target, place, "", None)
                yield from _read(other, place, "", None)
            case query.Expression(target=target, value=literal, op=sign):
                yield from _read(target, place, OPERATORS.get(sign or "", ""), literal)


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

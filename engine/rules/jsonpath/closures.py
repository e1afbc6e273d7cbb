"""jsonpath-ng's syntax tree → closures over plain values, with exactly the library's results.

The library keeps every value's parents. The closures keep only the root, which is enough for
all nodes except those that read a value's parent or name. For these and for unknown nodes
``Unsupported`` is raised, and the library evaluates the path.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import arithmetic, iterable, string
from jsonpath_ng.ext import filter as query

from engine.core.errors import PathError
from engine.core.offload import check, watched
from engine.core.payload_schema import DECIMAL_OBJECTS, DECIMAL_TEXTS
from engine.core.regex import compile_search
from engine.rules.jsonpath.code_generator import Step, generate_all
from engine.rules.jsonpath.compare import compare, compare_decimal, compare_with
from engine.rules.jsonpath.functions import Count, Literal, Test, Value
from engine.rules.jsonpath.leaves import LEAVES, Finder, Scope, not_applicable

_LONGEST = 1_000_000


class Unsupported(Exception):  # noqa: N818 - a signal, not an error
    """Closures cannot evaluate this tree; the library has to."""


Holds = Callable[[Any, Scope], bool]

_DETACHING = (
    arithmetic.Operation,
    iterable.Len,
    iterable.Keys,
    iterable.SortedThis,
    string.Sub,
    string.Split,
    string.Str,
)


def flatten(node: Any) -> list[Any]:
    """The steps of a path, left to right. A group in parentheses is flattened into its steps."""
    steps, stack = [], [node]
    while stack:
        top = stack.pop()
        if type(top) is core.Child:
            stack += (top.right, top.left)
        else:
            steps.append(top)
    return steps


def straight(node: Any) -> Step | Any:
    """A node as a step for generated code; ``Ellipsis`` if it cannot be one."""
    if type(node) is core.Fields and len(node.fields) == 1:
        return node.fields[0]
    if type(node) is core.Index and len(node.indices) == 1:
        return node.indices[0]
    return None if type(node) is core.Wildcard else ...


def compile_node(node: Any, *, detached: bool = False) -> Finder:
    """A closure for a tree. ``detached``: its values have lost their parents, and so the root.

    Raises:
        Unsupported: the library has to evaluate this path.
        RegexError: a pattern in it is not valid RE2.
    """
    finders: list[Finder] = []
    run: list[Step] = []
    for place, step in enumerate(flatten(node)):
        plain = straight(step)
        if plain is not ...:
            run.append(plain)
            continue
        finders += _generated(run)
        run = []
        finders.append(_compile_step(step, first=place == 0, detached=detached))
        detached = detached or _detaches(step)
    finders += _generated(run)
    return finders[0] if len(finders) == 1 else _chain(tuple(finders))


def _generated(run: list[Step]) -> list[Finder]:
    if not run:
        return []
    find = generate_all(run)
    return [lambda value, scope: find(value)]


def _chain(finders: tuple[Finder, ...]) -> Finder:
    def find(value: Any, scope: Scope) -> Sequence[Any]:
        values: Sequence[Any] = (value,)
        for finder in finders:
            values = [match for each in values for match in finder(each, scope)]
            scope.charge(len(values) + 1)
        return values

    return find


def _compile_step(node: Any, *, first: bool, detached: bool) -> Finder:
    """A closure for one step that is not straight."""
    kind = type(node)
    if kind is core.This:
        return lambda value, scope: (value,)
    if kind is core.Root and not detached:  # a computed value has no root
        return lambda value, scope: (scope.root,)
    if kind is iterable.SortedThis and not first:  # only with its parent
        return _sorted(node)
    if (leaf := LEAVES.get(kind)) is not None:
        return leaf(node)
    if (inner := _INNER.get(kind)) is not None:
        return inner(node, detached)
    raise Unsupported(kind.__name__)


def _detaches(node: Any) -> bool:
    """Whether a node's results may have lost their parents; true in case of doubt."""
    if isinstance(node, _DETACHING):
        return True
    parts = [getattr(node, name, None) for name in ("left", "right")]
    return any(isinstance(part, core.JSONPath) and _detaches(part) for part in parts)


# --- inner nodes --------------------------------------------------------------------------


def _descendants(node: core.Descendants, detached: bool) -> Finder:  # noqa: FBT001
    start = compile_node(node.left, detached=detached)
    right = compile_node(node.right, detached=detached or _detaches(node.left))

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        matches: list[Any] = []
        stack = list(start(value, scope))[::-1]
        while stack:
            each = stack.pop()
            found = right(each, scope)
            scope.charge(1 + len(found))
            matches += found
            if isinstance(each, list):
                stack += reversed(each)
            elif isinstance(each, dict):
                stack += reversed(each.values())
            else:
                not_applicable(each)
        return matches

    return find


def _filter(node: query.Filter, detached: bool) -> Finder:  # noqa: FBT001
    test = _all([_compile_test(expression, detached) for expression in node.expressions])

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        if isinstance(value, list):
            return [each for each in watched(value) if test(each, scope)]
        if isinstance(value, dict):
            return [each for each in watched(value.values()) if test(each, scope)]
        return not_applicable(value)

    return find


def _union(node: Any, detached: bool) -> Finder:  # noqa: FBT001
    left, right = compile_node(node.left, detached=detached), compile_node(node.right, detached=detached)
    return lambda value, scope: [*left(value, scope), *right(value, scope)]


def _where(node: core.Where, detached: bool) -> Finder:  # noqa: FBT001
    left = compile_node(node.left, detached=detached)
    right = compile_node(node.right, detached=detached or _detaches(node.left))
    wanted = type(node) is core.Where
    return lambda value, scope: [each for each in left(value, scope) if bool(right(each, scope)) is wanted]


def _operation(node: arithmetic.Operation, detached: bool) -> Finder:  # noqa: FBT001
    left, right = _operand(node.left, detached), _operand(node.right, detached)
    both, calculate = left is not None and right is not None, node.op
    symbol = node.op_symbol

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        lefts: Sequence[Any] = [node.left] if left is None else left(value, scope)
        rights: Sequence[Any] = [node.right] if right is None else right(value, scope)
        if both and len(lefts) != len(rights):
            return ()
        if not both:
            lefts = lefts if left is not None else [node.left] * len(rights)
            rights = rights if right is not None else [node.right] * len(lefts)
        for pair in zip(lefts, rights, strict=True):
            _check_size(symbol, *pair)
        try:
            return [calculate(one, other) for one, other in zip(lefts, rights, strict=True)]
        except TypeError:
            return ()

    return find


def _operand(side: Any, detached: bool) -> Finder | None:  # noqa: FBT001
    return compile_node(side, detached=detached) if isinstance(side, core.JSONPath) else None


def _check_size(symbol: str, left: Any, right: Any) -> None:
    """Refuse to build a very long text or array by multiplication."""
    not_applicable(left)
    not_applicable(right)
    for sized, times in ((left, right), (right, left)):
        repeats = symbol == "*" and isinstance(sized, (str, list)) and isinstance(times, int)
        if repeats and len(sized) * times > _LONGEST:
            raise PathError(f"the path makes a value longer than {_LONGEST:,}")


def _sorted(node: iterable.SortedThis) -> Finder:
    keys = [(compile_node(field, detached=True), reverse) for field, reverse in node.expressions or ()]

    def order(left: Any, right: Any) -> int:
        check()
        for find_key, reverse in keys:
            lefts, rights = find_key(left, Scope(left)), find_key(right, Scope(right))
            if len(lefts) != 1 or len(rights) != 1 or lefts[0] == rights[0]:
                continue
            return (1 if reverse else -1) if lefts[0] < rights[0] else (-1 if reverse else 1)
        return 0

    key = functools.cmp_to_key(order) if keys else None

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        not_applicable(value)
        if isinstance(value, list) or (isinstance(value, dict) and not keys):
            scope.charge(len(value))
            return (sorted(value, key=key),)
        raise TypeError(f"only an array can be sorted, not {type(value).__name__}")

    return find


def _test_step(node: Test, detached: bool) -> Finder:  # noqa: FBT001
    test = _all([_compile_test(expression, detached) for expression in node.tests])
    return lambda value, scope: (value,) if test(value, scope) else ()


def _count(node: Count, detached: bool) -> Finder:  # noqa: FBT001
    find = compile_node(node.query, detached=detached)
    return lambda value, scope: (len(find(value, scope)),)


def _value(node: Value, detached: bool) -> Finder:  # noqa: FBT001
    find = compile_node(node.query, detached=detached)

    def find_one(value: Any, scope: Scope) -> Sequence[Any]:
        found = find(value, scope)
        return found if len(found) == 1 else ()

    return find_one


def _literal(node: Literal, detached: bool) -> Finder:  # noqa: FBT001
    found = (node.value,)
    return lambda value, scope: found


_INNER: dict[Any, Callable[[Any, bool], Finder]] = {
    Test: _test_step,
    Count: _count,
    Value: _value,
    Literal: _literal,
    core.Descendants: _descendants,
    core.Where: _where,
    core.WhereNot: _where,
    core._Union: _union,  # noqa: SLF001 - the parser creates it; the public name warns
    query.Filter: _filter,
    arithmetic.Operation: _operation,
}


# --- the tests of a filter ----------------------------------------------------------------


def _compile_test(node: Any, detached: bool) -> Holds:  # noqa: FBT001
    if type(node) is query.And:
        return _all([_compile_test(operand, detached) for operand in node.operands])
    if type(node) is query.Or:
        tests = [_compile_test(operand, detached) for operand in node.operands]
        return lambda value, scope: any(test(value, scope) for test in tests)
    if type(node) is not query.Expression:
        raise Unsupported(type(node).__name__)
    find = compile_node(node.target, detached=detached)
    if node.op is None:
        return lambda value, scope: bool(find(value, scope))
    if node.op == "!":
        return lambda value, scope: not find(value, scope)
    decimal = node.op != "=~" and (is_decimal(node.target) or is_decimal(node.value))
    if isinstance(node.value, core.JSONPath):
        comparison = compare_decimal if decimal else compare
        return _query_test(node.op, find, compile_node(node.value, detached=detached), comparison)
    if decimal:
        return _literal_test(node.op, find, lambda value: compare_decimal(node.op, value, node.value))
    test = compile_match(node.value) if node.op == "=~" else compare_with(node.op, node.value)
    return _literal_test(node.op, find, test)


def is_decimal(side: Any) -> bool:
    """Whether one side of a comparison is a field that LangSmith sends as a decimal number in a string."""
    if not isinstance(side, core.JSONPath):
        return False
    names = [straight(node) for node in flatten(side)[-2:]]
    return names[-1] in DECIMAL_TEXTS or (len(names) == 2 and names[0] in DECIMAL_OBJECTS)


def _all(tests: list[Holds]) -> Holds:
    return tests[0] if len(tests) == 1 else lambda value, scope: all(test(value, scope) for test in tests)


def _literal_test(operator: str, find: Finder, test: Callable[[Any], bool]) -> Holds:
    when_nothing = operator == "!="

    def holds(value: Any, scope: Scope) -> bool:
        found = find(value, scope)
        return any(map(test, found)) if found else when_nothing

    return holds


def compile_match(pattern: Any) -> Callable[[Any], bool]:
    """The test of ``=~``: the value is a text and contains a match of the pattern."""
    if not isinstance(pattern, str):
        raise PathError(f"=~ takes a pattern in quotes, not {pattern!r}")
    search = compile_search(pattern)
    return lambda value: search(value) if isinstance(value, str) else bool(not_applicable(value))


def _query_test(operator: str, find: Finder, find_other: Finder, comparison: Callable[[str, Any, Any], bool]) -> Holds:
    def holds(value: Any, scope: Scope) -> bool:
        found, others = find(value, scope), find_other(value, scope)
        scope.charge(len(found) * len(others))
        if not found or not others:
            both = not found and not others
            return not both if operator == "!=" else both and operator not in ("<", ">")
        return any(comparison(operator, one, other) for one in watched(found) for other in others)

    return holds

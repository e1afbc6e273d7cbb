"""Expressions of conditions: a value that is absent leaves undecided what needs it (Kleene's three values).

Undecided is an exception: whatever needs a value that is absent, was not fetched or makes no sense there, raises.
``and``, ``or`` and chained comparisons catch it: what the other side decides is decided. ``is defined``, ``is none``
and ``default`` alone take a value that is absent. Templates of actions have rules of their own.
"""

# ruff: noqa: N802 - Jinja dispatches visitors by these names

from __future__ import annotations

import operator as op
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Undefined

from engine.core.errors import DataMissing
from engine.rules.templates.rewriter import Rewriter, filtered
from engine.rules.templates.sandbox import WITHIN, Sandbox
from engine.rules.templates.values import need

#: Names that the rewriter puts into a syntax tree. No author can write them.
_NEED, _NOTHING = "__need", "__nothing"
#: Tests and filters that say what absence means.
_TELLING_TESTS, _TELLING_FILTERS = frozenset({"defined", "undefined"}), frozenset({"default", "d"})
#: Jinja's tests that are comparisons by another name.
COMPARING: Mapping[str, str] = MappingProxyType(
    {"in": "in"}
    | dict.fromkeys(("eq", "equalto", "=="), "eq")
    | dict.fromkeys(("ne", "!="), "ne")
    | dict.fromkeys(("lt", "lessthan", "<"), "lt")
    | dict.fromkeys(("le", "<="), "lteq")
    | dict.fromkeys(("gt", "greaterthan", ">"), "gt")
    | dict.fromkeys(("ge", ">="), "gteq")
)
#: ``in`` and ``not in`` beside a list that is written out.
_AMONG: Mapping[str, str] = MappingProxyType({"in": "among", "notin": "notamong"})

Lazy = Callable[[], Any]


class _Generator(CodeGenerator):
    """Writes ``and``, ``or`` and comparisons as calls of the environment, their sides as functions."""

    def visit_And(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Decided by a side that is false."""
        self._call("both", (node.left, node.right), frame)

    def visit_Or(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Decided by a side that is true."""
        self._call("either", (node.left, node.right), frame)

    def _call(self, method: str, sides: Iterable[nodes.Expr], frame: Frame) -> None:
        self.write(f"environment.{method}(")
        for side in sides:
            self._lazy(side, frame)
        self.write(")")

    def _lazy(self, node: nodes.Expr, frame: Frame) -> None:
        self.write("(lambda: ")
        self.visit(node, frame)
        self.write("), ")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """One comparison, or a chain: ``a < b < c`` is ``a < b and b < c``, each side evaluated once."""
        if len(node.ops) > 1:
            self.write(f"environment.chained({tuple(operand.op for operand in node.ops)!r}, ")
            self._lazy(node.expr, frame)
            for operand in node.ops:
                self.write("(lambda: ")
                self.visit(operand, frame)
                self.write("), ")
        else:
            self.write(f"environment.compared({node.ops[0].op!r}, ")
            self.visit(node.expr, frame)
            self.write(", ")
            self.visit(node.ops[0], frame)
        self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        """The right side of a comparison; the items of a list that is written out as functions."""
        if node.op in _AMONG.values():
            self.write("(")
            for item in node.expr.items:  # type: ignore[attr-defined]
                self._lazy(item, frame)
            self.write(")")
        else:
            self.visit(node.expr, frame)


class Deciding(Sandbox):
    """The environment that conditions' expressions run in."""

    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__()
        self.filters[_NEED] = need
        self.tests[_NOTHING] = _is_nothing

    def both(self, left: Lazy, right: Lazy) -> Any:
        """``left and right``."""
        return _joined(left, right, decides=False)

    def either(self, left: Lazy, right: Lazy) -> Any:
        """``left or right``."""
        return _joined(left, right, decides=True)

    def compared(self, operator: str, left: Any, right: Any) -> bool:
        """One comparison."""
        return _COMPARISONS[operator](need(left), need(right))

    def chained(self, operators: tuple[str, ...], *sides: Lazy) -> bool:
        """Comparisons of neighbours that must all hold."""
        values = [_once(side) for side in sides]
        pairs = zip(operators, values, values[1:], strict=False)
        held: Lazy = _true
        for operator, left, right in pairs:
            held = _and(held, self._pair(operator, left, right))
        return bool(held())

    def _pair(self, operator: str, left: Lazy, right: Lazy) -> Lazy:
        return lambda: self.compared(operator, left(), right())


def _joined(left: Lazy, right: Lazy, *, decides: bool) -> Any:
    """The value of the side that decides, else of the right one; a side that decides does so whatever the other is."""
    try:
        value = need(left())
        if bool(value) is decides:
            return value
    except Exception as error:  # noqa: BLE001 - undecided: the other side may decide
        return _decided(error, right, decides=decides)
    return need(right())


def _decided(error: Exception, right: Lazy, *, decides: bool) -> Any:
    """The right side's value if it decides.

    Raises:
        DataMissing: a side could be decided with data that was not fetched.
        Exception: why the left side is undecided.
    """
    try:
        value = need(right())
        if bool(value) is decides:
            return value
    except Exception as other:  # noqa: BLE001 - both are undecided
        raise _first_of(error, other) from None
    raise error


def _first_of(error: Exception, other: Exception) -> Exception:
    """Of two reasons the one to tell: data that can be fetched comes first."""
    return other if isinstance(other, DataMissing) and not isinstance(error, DataMissing) else error


def _and(left: Lazy, right: Lazy) -> Lazy:
    return lambda: _joined(left, right, decides=False)


def _true() -> bool:
    return True


def _once(side: Lazy) -> Lazy:
    """A side of two comparisons: evaluated when it is first asked for, and not again."""
    found: list[Any] = []

    def value() -> Any:
        if not found:
            found.append(side())
        return found[0]

    return value


def _among(value: Any, items: tuple[Lazy, ...]) -> bool:
    """Whether a value is one of the items: equal to the first, or to the second, or …"""
    undecided: Exception | None = None
    for item in items:
        try:
            if value == need(item()):
                return True
        except Exception as error:  # noqa: BLE001 - another item may decide
            undecided = error if undecided is None else _first_of(undecided, error)
    if undecided is not None:
        raise undecided
    return False


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "eq": op.eq,
        "ne": op.ne,
        "lt": op.lt,
        "lteq": op.le,
        "gt": op.gt,
        "gteq": op.ge,
        "in": lambda value, items: value in items,
        "notin": lambda value, items: value not in items,
        "among": _among,
        "notamong": lambda value, items: not _among(value, items),
    }
)


def _is_nothing(value: Any) -> bool:
    """``is none``: null, or absent."""
    return value is None or isinstance(value, Undefined)


class DecidingRewriter(Rewriter):
    """Makes everything but what tells of absence need its values."""

    def structure(self, node: nodes.Expr) -> nodes.Expr:
        """Rewrite a whole expression."""
        changed: nodes.Expr = self.visit(node)
        return changed

    def _needed(self, node: nodes.Expr) -> nodes.Expr:
        return filtered(_NEED, self.visit(node))

    def _all_needed(self, items: list[Any]) -> list[Any]:
        return [self._needed(item) for item in items]

    def visit_Not(self, node: nodes.Not) -> nodes.Node:
        """``not`` of what is undecided is undecided."""
        node.node = self._needed(node.node)
        return node

    def visit_CondExpr(self, node: nodes.CondExpr) -> nodes.Node:
        """``a if b else c``: what b is must be known."""
        node.test = self._needed(node.test)
        node.expr1 = self.visit(node.expr1)
        node.expr2 = None if node.expr2 is None else self.visit(node.expr2)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        """Filters need their value and their arguments; ``default`` is what takes one that is absent."""
        if node.name in _TELLING_FILTERS:
            return self.generic_visit(node)
        if node.node is not None:
            node.node = self._needed(node.node)
        self._arguments(node)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        """Tests need their value, but those that ask whether it is there."""
        if node.name in COMPARING and len(node.args) == 1:
            operand = nodes.Operand(COMPARING[node.name], node.args[0], lineno=node.lineno)
            return self.visit_Compare(nodes.Compare(node.node, [operand], lineno=node.lineno))
        if node.name == "none":
            node.name = _NOTHING
        if node.name in _TELLING_TESTS or node.name == _NOTHING:
            return self.generic_visit(node)
        node.node = self._needed(node.node)
        self._arguments(node)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        """Calls need their arguments."""
        node.node = self.visit(node.node)
        self._arguments(node)
        return node

    def _arguments(self, node: nodes.Filter | nodes.Test | nodes.Call) -> None:
        node.args = self._all_needed(node.args)
        for pair in node.kwargs:
            pair.value = self._needed(pair.value)
        self._spread(node)

    def _spread(self, node: nodes.Filter | nodes.Test | nodes.Call) -> None:
        """``*args`` and ``**kwargs``."""
        node.dyn_args = None if node.dyn_args is None else self._needed(node.dyn_args)
        node.dyn_kwargs = None if node.dyn_kwargs is None else self._needed(node.dyn_kwargs)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """As in templates; of a list that is written out only the items that are looked at have to be there."""
        node.expr = self._side(node.expr)
        for operand in node.ops:
            if operand.op in _AMONG and isinstance(operand.expr, (nodes.List, nodes.Tuple)):
                operand.op = _AMONG[operand.op]
                operand.expr.items = [self._side(item) for item in operand.expr.items]
            else:
                operand.expr = self._side(operand.expr)
                if operand.op in _AMONG:
                    operand.expr = filtered(WITHIN, operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """``~`` needs its parts."""
        node.nodes = [filtered(_NEED, part) for part in node.nodes]
        return super().visit_Concat(node)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        """A list is compared whole, so each of its items has to be there."""
        node.items = self._all_needed(node.items)
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """As ``visit_List``."""
        node.items = self._all_needed(node.items)
        return node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """As ``visit_List``."""
        for pair in node.items:
            pair.key, pair.value = self._needed(pair.key), self._needed(pair.value)
        return node

    def visit_Slice(self, node: nodes.Slice) -> nodes.Node:
        """Bounds have to be there."""
        for bound in ("start", "stop", "step"):
            if (written := getattr(node, bound)) is not None:
                setattr(node, bound, self._needed(written))
        return node

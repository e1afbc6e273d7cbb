"""Expressions of conditions: what needs an absent value is undecided (Kleene's three-valued logic).

Undecided is an exception: whatever needs a value that is absent, was not fetched or makes no sense there, raises.
``and``, ``or`` and chained comparisons catch it: what the other side decides is decided. ``is defined``, ``is none``
and ``default`` alone take a value that is absent. Templates of actions have rules of their own.
"""

# ruff: noqa: N802 - Jinja dispatches visitors by these names

from __future__ import annotations

import functools
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
#: Tests and filters that accept an absent value.
_TELLING = frozenset({"default", "d", "defined", "undefined", _NOTHING})
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
    """Compiles ``and``, ``or`` and comparisons to calls of the environment; the sides of and, or are functions."""

    def visit_And(self, node: nodes.BinExpr, frame: Frame) -> None:
        """One false side decides."""
        self._joined(node, frame, decides=False)

    def visit_Or(self, node: nodes.BinExpr, frame: Frame) -> None:
        """One true side decides."""
        self._joined(node, frame, decides=True)

    def _joined(self, node: nodes.BinExpr, frame: Frame, *, decides: bool) -> None:
        self.write("environment.joined(")
        self._lazy((node.left, node.right), frame)
        self.write(f"decides={decides})")

    def _lazy(self, sides: Iterable[nodes.Expr], frame: Frame) -> None:
        for side in sides:
            self.write("(lambda: ")
            self.visit(side, frame)
            self.write("), ")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """One comparison; the rewriter leaves no chains."""
        self.write(f"environment.compared({node.ops[0].op!r}, ")
        self.visit(node.expr, frame)
        self.write(", ")
        self.visit(node.ops[0], frame)
        self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        """The right side of a comparison; the items of a list that is written out as functions."""
        if node.op in _AMONG.values():
            self.write("(")
            self._lazy(node.expr.items, frame)  # type: ignore[attr-defined]
            self.write(")")
        else:
            self.visit(node.expr, frame)


def _joined(*sides: Lazy, decides: bool) -> Any:
    """The value of the first side that decides, else that of the last side.

    Raises:
        Exception: no side decides and one is undecided; DataMissing goes before other reasons.
    """
    value: Any = not decides
    undecided: Exception | None = None
    for side in sides:
        try:
            value = need(side())
            if bool(value) is decides:
                return value
        except Exception as error:  # noqa: BLE001 - undecided: another side may decide
            if undecided is None or (isinstance(error, DataMissing) and not isinstance(undecided, DataMissing)):
                undecided = error
    if undecided is not None:
        raise undecided
    return value


def _among(value: Any, items: tuple[Lazy, ...]) -> bool:
    """Whether a value is one of the items: equal to the first, or to the second, or …"""
    return bool(_joined(*(lambda item=item: value == need(item()) for item in items), decides=True))


class ConditionSandbox(Sandbox):
    """The environment that conditions' expressions run in."""

    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__()
        self.filters[_NEED] = need
        self.tests[_NOTHING] = _is_nothing

    joined = staticmethod(_joined)

    def compared(self, operator: str, left: Any, right: Any) -> bool:
        """One comparison."""
        return _COMPARISONS[operator](need(left), need(right))


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


_ARGUMENTS = ("args", "kwargs", "dyn_args", "dyn_kwargs")
#: The parts of a node that must exist.
_NEEDED: Mapping[type[nodes.Node], tuple[str, ...]] = MappingProxyType(
    {
        nodes.Not: ("node",),
        nodes.CondExpr: ("test",),
        nodes.Filter: ("node", *_ARGUMENTS),
        nodes.Test: ("node", *_ARGUMENTS),
        nodes.Call: _ARGUMENTS,
        nodes.Concat: ("nodes",),
        nodes.List: ("items",),
        nodes.Tuple: ("items",),
        nodes.Dict: ("items",),
        nodes.Slice: ("start", "stop", "step"),
    }
)


class ConditionRewriter(Rewriter):
    """Makes every value required, except where absence is handled."""

    def structure(self, node: nodes.Expr) -> nodes.Expr:
        """Rewrite a whole expression."""
        changed: nodes.Expr = self.visit(node)
        return changed

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Rewrite the parts of a node, and require those in ``_NEEDED``."""
        super().generic_visit(node, *args, **kwargs)
        telling = isinstance(node, (nodes.Filter, nodes.Test)) and node.name in _TELLING
        for field in () if telling else _NEEDED.get(type(node), ()):
            setattr(node, field, _needed(getattr(node, field)))
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        """Some tests are comparisons, and ``is none`` is true for an absent value."""
        if node.name in COMPARING and len(node.args) == 1:
            operand = nodes.Operand(COMPARING[node.name], node.args[0], lineno=node.lineno)
            return self.visit_Compare(nodes.Compare(node.node, [operand], lineno=node.lineno))
        if node.name == "none":
            node.name = _NOTHING
        return self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """``a < b < c`` is ``a < b and b < c``. In a list that is written out, only compared items must exist."""
        left = self._side(node.expr)
        pairs: list[nodes.Expr] = []
        for operand in node.ops:
            if operand.op in _AMONG and isinstance(operand.expr, (nodes.List, nodes.Tuple)):
                operand.op = _AMONG[operand.op]
                operand.expr.items = [self._side(item) for item in operand.expr.items]
            else:
                operand.expr = self._side(operand.expr)
                if operand.op in _AMONG:
                    operand.expr = filtered(WITHIN, operand.expr)
            pairs.append(nodes.Compare(left, [operand], lineno=node.lineno))
            left = operand.expr
        return functools.reduce(lambda before, pair: nodes.And(before, pair, lineno=node.lineno), pairs)


def _needed(part: Any) -> Any:
    """Require a part: an expression, or a list or pairs of them."""
    if isinstance(part, list):
        return [_needed(one) for one in part]
    if isinstance(part, nodes.Expr):
        return filtered(_NEED, part)
    for field in ("key", "value") if isinstance(part, nodes.Pair) else ("value",) if part is not None else ():
        setattr(part, field, _needed(getattr(part, field)))
    return part

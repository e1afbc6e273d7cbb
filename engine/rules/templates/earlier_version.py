"""Expressions whose answer changed when absence got one meaning, rewritten to keep the old answer.

Before, an absent value was false, equal to no value but another absent one, and neither none nor anything else that a
test asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from jinja2 import nodes

from engine.rules.templates.needs import Chain, chain_of
from engine.rules.templates.three_valued import COMPARING
from engine.rules.templates.unparse import unparse

#: Filters without a result for an empty list.
_CHOOSING = frozenset({"first", "last", "min", "max", "random"})
_NO_FACTS: frozenset[str] = frozenset()


class Asked(Enum):
    """What matters of a part's answer: that it is true, that it is false, or its value."""

    TRUE = "true"
    FALSE = "false"
    VALUE = "value"

    @property
    def inverse(self) -> Asked:
        """The same under ``not``."""
        return {Asked.TRUE: Asked.FALSE, Asked.FALSE: Asked.TRUE, Asked.VALUE: Asked.VALUE}[self]


@dataclass(frozen=True, slots=True)
class Former:
    """An expression whose answer changed where one of ``parts`` is absent; ``kept`` is the text with the old answer.

    ``decided``: the whole expression is one question, so that ``parts`` are all that it needs.
    """

    parts: tuple[str, ...]
    kept: str
    decided: bool


def former(expression: nodes.Expr, asked: Asked, there: Callable[[Chain], bool]) -> Former | None:
    """How to write an expression to keep its old answer; None if its answer did not change.

    ``there`` tells which looks into the document always find something. The tree is changed.
    """
    keeper = _Keeper(there)
    decided = isinstance(expression, (nodes.Compare, nodes.Test, nodes.Not, nodes.Name, nodes.Getattr, nodes.Getitem))
    if keeper.may_be_absent(expression, _NO_FACTS):  # a whole value that is absent was undecided before, too
        return None
    kept = keeper.keep(expression, asked, _NO_FACTS)
    if not keeper.parts:
        return None
    return Former(tuple(dict.fromkeys(keeper.parts)), unparse(kept), decided)


class _Keeper:
    """Rewrites one expression; ``parts`` are those whose absence changes the answer.

    ``facts`` are the texts of what is known to be there where a part is asked.
    """

    def __init__(self, there: Callable[[Chain], bool]) -> None:
        self._there = there
        self.parts: list[str] = []

    def keep(self, node: nodes.Expr, asked: Asked, facts: frozenset[str]) -> nodes.Expr:
        """Rewrite a part that is used as true or false."""
        match node:
            case nodes.And():
                left, right = node.left, node.right
                node.left = self.keep(left, asked, facts | _tested(right, true=True))
                node.right = self.keep(right, asked, facts | _there_if(left, true=True))
            case nodes.Or():
                left, right = node.left, node.right
                node.left = self.keep(left, asked, facts | _tested(right, true=False))
                node.right = self.keep(right, asked, facts | _there_if(left, true=False))
            case nodes.Not():
                node.node = self.keep(node.node, asked.inverse, facts)
            case nodes.CondExpr():
                return self._choice(node, asked, facts)
            case nodes.Compare():
                return self._compare(node, asked, facts)
            case nodes.Test():
                return self._test(node, asked, facts)
            case _ if self.may_be_absent(node, facts):
                return node if asked is Asked.TRUE else self._or_none(node)
            case _:
                self._within(node, facts)
        return node

    def _choice(self, node: nodes.CondExpr, asked: Asked, facts: frozenset[str]) -> nodes.Expr:
        true, false = _there_if(node.test, true=True), _there_if(node.test, true=False)
        node.test = self.keep(node.test, Asked.VALUE, facts)
        node.expr1 = self.keep(node.expr1, asked, facts | true)
        if node.expr2 is not None:
            node.expr2 = self.keep(node.expr2, asked, facts | false)
        return node

    def _within(self, node: nodes.Node, facts: frozenset[str]) -> None:
        """Rewrite the parts of a calculation, call or filter. An absent value was an error there before, too."""
        for name, value in node.iter_fields():
            if isinstance(value, nodes.Expr):
                setattr(node, name, self._part(value, facts))
            elif isinstance(value, list):
                setattr(node, name, [self._part(each, facts) for each in value])

    def _part(self, value: Any, facts: frozenset[str]) -> Any:
        if isinstance(value, (nodes.Pair, nodes.Keyword)):
            self._within(value, facts)
            return value
        if not isinstance(value, nodes.Expr) or self.may_be_absent(value, facts):
            return value
        return self.keep(value, Asked.VALUE, facts)

    # --- comparisons and tests ---

    def _compare(self, node: nodes.Compare, asked: Asked, facts: frozenset[str]) -> nodes.Expr:
        self._within_sides(node, facts)
        if len(node.ops) == 1:
            return self._pair(node.expr, node.ops[0], asked, facts) or node
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        kept = [self._pair(left, operand, asked, facts) for left, operand in zip(sides, node.ops, strict=False)]
        if not any(kept):
            return node
        pairs = zip(sides, node.ops, kept, strict=False)
        parts = [new or nodes.Compare(left, [operand], lineno=node.lineno) for left, operand, new in pairs]
        return _all(parts)

    def _within_sides(self, node: nodes.Compare, facts: frozenset[str]) -> None:
        node.expr = self._part(node.expr, facts)
        for operand in node.ops:
            operand.expr = self._part(operand.expr, facts)

    def _pair(self, left: nodes.Expr, operand: nodes.Operand, asked: Asked, facts: frozenset[str]) -> nodes.Expr | None:
        """One comparison with its old answer; None if that did not change."""
        if operand.op in ("eq", "ne"):
            return self._equality(left, operand, asked, facts)
        if operand.op in ("in", "notin"):
            return self._membership(left, operand, asked, facts)
        return None

    def _equality(
        self, left: nodes.Expr, operand: nodes.Operand, asked: Asked, facts: frozenset[str]
    ) -> nodes.Expr | None:
        absent = [side for side in (left, operand.expr) if self.may_be_absent(side, facts)]
        equal = operand.op == "eq"
        held = Asked.FALSE if equal else Asked.TRUE
        if not absent or (asked not in (held, Asked.VALUE) and len(absent) == 1):
            return None
        self._note(absent)
        pair = nodes.Compare(left, [operand], lineno=left.lineno)
        if len(absent) == 2:
            here = _all([_is("defined", side) for side in absent])
            gone = [_is("undefined" if equal else "defined", side) for side in absent]
            return nodes.CondExpr(here, pair, _all(gone) if equal else _any(gone), lineno=left.lineno)
        return _all([_is("defined", absent[0]), pair]) if equal else _any([_is("undefined", absent[0]), pair])

    def _membership(
        self, left: nodes.Expr, operand: nodes.Operand, asked: Asked, facts: frozenset[str]
    ) -> nodes.Expr | None:
        items = operand.expr.items if isinstance(operand.expr, (nodes.List, nodes.Tuple)) else []
        gone = self.may_be_absent(left, facts)
        inside = operand.op == "in"
        changed = asked is not (Asked.TRUE if inside else Asked.FALSE)
        if (changed or gone) and any(self.may_be_absent(item, facts) for item in items):
            return self._one_of(left, items, operand, facts)
        if not gone or not changed:
            return None
        if not items:
            return nodes.Compare(self._or_none(left), [operand], lineno=left.lineno)
        self._note([left])
        pair = nodes.Compare(left, [operand], lineno=left.lineno)
        return _all([_is("defined", left), pair]) if inside else _any([_is("undefined", left), pair])

    def _one_of(
        self, left: nodes.Expr, items: list[nodes.Expr], operand: nodes.Operand, facts: frozenset[str]
    ) -> nodes.Expr:
        """``x in [y, z]`` as ``x == y or x == z``: an absent x was equal to an absent y."""
        equal = [nodes.Operand("eq", item, lineno=left.lineno) for item in items]
        kept = _any(
            [
                self._equality(left, each, Asked.VALUE, facts) or nodes.Compare(left, [each], lineno=left.lineno)
                for each in equal
            ]
        )
        return kept if operand.op == "in" else nodes.Not(kept, lineno=left.lineno)

    def _test(self, node: nodes.Test, asked: Asked, facts: frozenset[str]) -> nodes.Expr:
        if node.name in ("defined", "undefined"):
            return node
        if node.name in COMPARING and len(node.args) == 1:
            operand = nodes.Operand(COMPARING[node.name], node.args[0], lineno=node.lineno)
            return self._pair(node.node, operand, asked, facts) or node
        if not self.may_be_absent(node.node, facts):
            node.node = self._part(node.node, facts)
            return node
        if asked is Asked.TRUE and node.name != "none":
            return node
        self._note([node.node])
        return _all([_is("defined", node.node), node])

    # --- what may be absent ---

    def may_be_absent(self, node: nodes.Expr, facts: frozenset[str]) -> bool:
        """Whether the value of a part may be absent."""
        chain = chain_of(node)
        if chain is not None:
            return not (self._there(chain) or str(chain) in facts)
        if isinstance(node, nodes.Filter):
            return node.name in _CHOOSING and unparse(node) not in facts
        whole = isinstance(node, (nodes.Getattr, nodes.Getitem)) and not isinstance(
            getattr(node, "arg", None), nodes.Slice
        )
        return whole and unparse(node) not in facts

    def _note(self, absent: list[nodes.Expr]) -> None:
        self.parts += [unparse(each) for each in absent]

    def _or_none(self, node: nodes.Expr) -> nodes.Expr:
        self._note([node])
        none = nodes.Const(None, lineno=node.lineno)
        return nodes.Filter(node, "default", [none], [], None, None, lineno=node.lineno)


def _tested(node: nodes.Expr, *, true: bool) -> frozenset[str]:
    """What must exist for an expression to be true (or false), as tested by ``is defined``."""
    match node:
        case nodes.Not():
            return _tested(node.node, true=not true)
        case nodes.And() if true:
            return _tested(node.left, true=True) | _tested(node.right, true=True)
        case nodes.Or() if not true:
            return _tested(node.left, true=False) | _tested(node.right, true=False)
        case nodes.Test(name="defined" | "undefined") if true is (node.name == "defined"):
            return frozenset({_key(node.node)})
        case nodes.Filter(name="default", node=nodes.Expr() as inner, args=[nodes.Const(value=None)]) if true:
            return frozenset({_key(inner)})
    return _NO_FACTS


def _there_if(node: nodes.Expr, *, true: bool) -> frozenset[str]:
    """What must exist for a rewritten expression to be true (or false)."""
    if true and isinstance(node, (nodes.Name, nodes.Getattr, nodes.Getitem)):
        return frozenset({_key(node)})
    return _tested(node, true=true)


def _key(node: nodes.Expr) -> str:
    chain = chain_of(node)
    return unparse(node) if chain is None else str(chain)


def _is(test: str, node: nodes.Expr) -> nodes.Expr:
    return nodes.Test(node, test, [], [], None, None, lineno=node.lineno)


def _all(parts: list[nodes.Expr]) -> nodes.Expr:
    return _fold(nodes.And, parts)


def _any(parts: list[nodes.Expr]) -> nodes.Expr:
    return _fold(nodes.Or, parts)


def _fold(kind: type[nodes.BinExpr], parts: list[nodes.Expr]) -> nodes.Expr:
    whole = parts[0]
    for part in parts[1:]:
        whole = kind(whole, part, lineno=part.lineno)
    return whole

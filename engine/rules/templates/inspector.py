"""What templates and expressions read, compare and need, for warnings about a configuration.

It works on syntax trees; nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import nodes

from engine.core.payload_schema import Step
from engine.core.variables import identity
from engine.rules.templates.earlier_version import Asked, Former, former
from engine.rules.templates.needs import chain_of, chains
from engine.rules.templates.sandbox import Sandbox
from engine.rules.templates.syntax import Mistake, Parsed, assigned, looks, parse, parse_expression, steps_of

_FLIPPED = {"lt": "gt", "lteq": "gteq", "gt": "lt", "gteq": "lteq", "eq": "eq", "ne": "ne"}
#: Filters that replace an absent value.
_FILLING = frozenset({"default", "d"})


@dataclass(frozen=True, slots=True)
class Compared:
    """A lookup that is compared with a constant; ``operator`` is Jinja's name (``eq``, ``notin``)."""

    line: int
    steps: tuple[Step, ...]
    operator: str
    operand: Any


@dataclass(frozen=True, slots=True)
class Needed:
    """A lookup that must find a value. ``whole``: it is the whole text, so null is allowed."""

    line: int
    steps: tuple[Step, ...]
    whole: bool


def comparisons(tree: nodes.Template) -> Iterator[Compared]:
    """Every comparison of a lookup with a constant."""
    own = assigned(tree)
    for node in tree.find_all(nodes.Compare):
        if len(node.ops) != 1:
            continue
        for one, operator, other in (
            (node.expr, node.ops[0].op, node.ops[0].expr),
            (node.ops[0].expr, _FLIPPED.get(node.ops[0].op, ""), node.expr),
        ):
            chain = chain_of(one)
            if chain is None or chain.root in own or not operator:
                continue
            try:
                operand = other.as_const()
            except nodes.Impossible:
                continue
            yield Compared(node.lineno, tuple(steps_of(chain)), operator, list(operand) if _many(operand) else operand)


def _many(operand: Any) -> bool:
    return isinstance(operand, (list, tuple))


def needed(tree: nodes.Template, *, native: bool) -> Iterator[Needed]:
    """Every lookup that has no default, and no test around it."""
    own = assigned(tree)
    for node, steps in _written(tree, frozenset()):
        chain = chain_of(node)
        if chain is not None and chain.root not in own:
            yield Needed(node.lineno, steps, native)


_Steps = tuple[Step, ...]


def _written(node: nodes.Node, tested: frozenset[_Steps]) -> Iterator[tuple[nodes.Node, _Steps]]:
    """The lookups below a node that do not begin with a tested one."""
    match node:
        case nodes.If() | nodes.CondExpr():
            within = tested | _looks(node.test)
            for child in node.iter_child_nodes(exclude=("test",)):
                yield from _written(child, within)
        case nodes.Filter(name=name) if name in _FILLING:
            for argument in node.args:
                yield from _written(argument, tested)
        case nodes.Or() | nodes.And():
            yield from _written(node.right, tested | _looks(node.left))
        case nodes.Test() | nodes.For() | nodes.Compare():
            for child in node.body if isinstance(node, nodes.For) else ():
                yield from _written(child, tested)
        case _:
            yield from _plain(node, tested)


def _plain(node: nodes.Node, tested: frozenset[_Steps]) -> Iterator[tuple[nodes.Node, _Steps]]:
    if (chain := chain_of(node)) is None:
        for child in node.iter_child_nodes():
            yield from _written(child, tested)
        return
    steps = tuple(steps_of(chain))
    if not any(steps[: len(one)] == one for one in tested):
        yield node, steps


def _looks(node: nodes.Node) -> frozenset[_Steps]:
    return frozenset(tuple(steps_of(chain)) for _, chain in chains(node))


#: Size of the cache of syntax trees: several warnings read the same text one after the other.
_TREES_KEPT: Final = 64


class Inspector:
    """Inspects valid texts. A text with a mistake reads nothing."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._looks: dict[tuple[object, bool], list[tuple[int, list[Step]]]] = {}
        self._trees: dict[tuple[object, bool], Parsed | Mistake] = {}

    def looks(self, text: str, *, bare: bool) -> list[tuple[int, list[Step]]]:
        """The lookups of a valid template, or (``bare``) expression, with their lines."""
        key = (identity(text), bare)
        if (found := self._looks.get(key)) is None:
            parsed = self._parsed(text, bare=bare)
            found = self._looks[key] = [] if parsed is None else list(looks(parsed.tree))
        return found

    def compared(self, text: str, *, bare: bool) -> list[Compared]:
        """The lookups that a valid template, or (``bare``) expression, compares with a constant."""
        parsed = self._parsed(text, bare=bare)
        return [] if parsed is None else list(comparisons(parsed.tree))

    def needed(self, text: str) -> list[Needed]:
        """The lookups that must find a value in a valid template."""
        parsed = self._parsed(text, bare=False)
        return [] if parsed is None else list(needed(parsed.tree, native=parsed.native))

    def chain(self, expression: str) -> list[Step] | None:
        """The lookup that makes up a whole valid expression, or None."""
        parsed = self._parsed(expression, bare=True)
        found = None if parsed is None else chain_of(parsed.expression)
        return None if found is None else steps_of(found)

    def former(self, expression: str, asked: Asked, there: Callable[[Sequence[Step]], bool]) -> Former | None:
        """How to write a valid expression to keep its answer of earlier versions; see ``former``."""
        parsed = parse_expression(self._sandbox, expression)  # anew: the tree is changed
        if isinstance(parsed, Mistake):
            return None
        return former(parsed.expression, asked, lambda chain: there(steps_of(chain)))

    def _parsed(self, text: str, *, bare: bool) -> Parsed | None:
        """The cached syntax tree of a text, or None if it has a mistake. It must not be changed."""
        key = (identity(text), bare)
        if (found := self._trees.get(key)) is None:
            if len(self._trees) >= _TREES_KEPT:
                self._trees.clear()
            found = parse_expression(self._sandbox, text) if bare else parse(self._sandbox, text)
            self._trees[key] = found
        return None if isinstance(found, Mistake) else found

"""What templates and expressions compare, and what of the document they cannot do without; for warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes

from engine.core.payload_schema import Step
from engine.rules.templates.needs import chain_of, chains
from engine.rules.templates.syntax import assigned, steps_of

_FLIPPED = {"lt": "gt", "lteq": "gteq", "gt": "lt", "gteq": "lteq", "eq": "eq", "ne": "ne"}
#: Filters that make something of nothing.
_FILLING = frozenset({"default", "d"})


@dataclass(frozen=True, slots=True)
class Compared:
    """A look into the document that is compared with a constant; ``operator`` is Jinja's word (``eq``, ``notin``)."""

    line: int
    steps: tuple[Step, ...]
    operator: str
    operand: Any


@dataclass(frozen=True, slots=True)
class Needed:
    """A look whose value a text cannot do without. ``whole``: the text is nothing else, so that null is fine."""

    line: int
    steps: tuple[Step, ...]
    whole: bool


def comparisons(tree: nodes.Template) -> Iterator[Compared]:
    """Every comparison of a look into the document with a constant."""
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
    """Every look that is written out where nothing stands in for it: no default, no test of it around it."""
    own = assigned(tree)
    for node, steps in _written(tree, frozenset()):
        chain = chain_of(node)
        if chain is not None and chain.root not in own:
            yield Needed(node.lineno, steps, native)


_Steps = tuple[Step, ...]


def _written(node: nodes.Node, tested: frozenset[_Steps]) -> Iterator[tuple[nodes.Node, _Steps]]:
    """The looks below a node that are not among those tested, nor go on from one of them."""
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

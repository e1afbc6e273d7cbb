"""What a template can touch, worked out from its syntax tree before it ever runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes

#: Parts of a run that LangSmith does not always send along.
Needs = frozenset[str]

_RUN = frozenset({"inputs", "outputs"})
_NONE: Needs = frozenset()
_METHODS = frozenset({"get", "items", "keys", "values"})

#: A key of a chain that is only known when the template runs.
DYNAMIC = object()


@dataclass(frozen=True, slots=True)
class Chain:
    """One look into the document: ``run.metadata["env"]`` is ``run``, ``("metadata", "env")``.

    ``keys`` may hold ``DYNAMIC``.
    """

    root: str
    keys: tuple[object, ...]

    def __str__(self) -> str:
        return self.root + "".join(_step(key) for key in self.keys)


def _step(key: object) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    return "[…]" if key is DYNAMIC else f"[{key!r}]"


def chain_of(node: nodes.Node) -> Chain | None:
    """The chain that an expression is, or None. Slices end a chain."""
    keys: list[object] = []
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        if isinstance(node, nodes.Getattr):
            keys.append(node.attr)
        elif isinstance(node.arg, nodes.Slice):
            return None
        else:
            keys.append(node.arg.value if isinstance(node.arg, nodes.Const) else DYNAMIC)
        node = node.node
    if isinstance(node, nodes.Name) and node.ctx == "load":
        return Chain(node.name, tuple(reversed(keys)))
    return None


def chains(node: nodes.Node) -> Iterator[tuple[nodes.Node, Chain]]:
    """Every longest chain in a tree, with the node that it is."""
    chain = chain_of(node)
    if chain is None:
        for child in node.iter_child_nodes():
            yield from chains(child)
        return
    yield node, chain
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):  # what stands in brackets
        if isinstance(node, nodes.Getitem):
            yield from chains(node.arg)
        node = node.node


def operands(tree: nodes.Node) -> Iterator[Chain]:
    """Every chain that is put in order, calculated with, gone through, or handed to a filter: what null spoils."""
    for node in tree.find_all((nodes.Compare, nodes.BinExpr, nodes.UnaryExpr, nodes.Filter, nodes.Concat, nodes.For)):
        for side in _sides(node):
            if (chain := chain_of(side)) is not None:
                yield chain


def _sides(node: nodes.Node) -> list[nodes.Expr]:
    match node:
        case nodes.Compare():
            by_name = {operand.op: operand.expr for operand in node.ops}
            if by_name.keys() & {"lt", "lteq", "gt", "gteq"}:
                return [node.expr, *by_name.values()]
            return [expr for name, expr in by_name.items() if name in ("in", "notin")]
        case nodes.And() | nodes.Or() | nodes.Not():
            return []
        case nodes.BinExpr():
            return [node.left, node.right]
        case nodes.Concat():
            return node.nodes
        case nodes.For():
            return [node.iter] if isinstance(node.iter, nodes.Expr) else []
        case nodes.UnaryExpr():
            return [node.node]
        case nodes.Filter(node=nodes.Expr() as filtered):
            return [filtered]
    return []


def needs_of(tree: nodes.Node) -> Needs:
    """The parts of a run's data that a template can touch; when in doubt, all that it could."""
    counted = {
        id(found.node)
        for found in tree.find_all(nodes.Filter)
        if found.name in ("length", "count") and isinstance(found.node, nodes.Name) and found.node.name == "runs"
    }
    found: set[str] = set()
    for node, chain in chains(tree):
        if id(node) not in counted:
            found |= _needs(chain)
    return frozenset(found)


def _needs(chain: Chain) -> Needs:
    if chain.root in ("feedback", "feedbacks"):
        return frozenset({"feedback"})
    if chain.root == "run":
        return _run_needs(chain.keys)
    if chain.root == "runs":
        return _run_needs(chain.keys[1:])
    if chain.root == "payload":
        return _payload_needs(chain.keys)
    return _NONE


def _payload_needs(keys: tuple[object, ...]) -> Needs:
    if not keys or keys[0] is DYNAMIC or keys[0] in _METHODS:
        return _RUN
    return _run_needs(keys[2:]) if keys[0] == "runs" else _NONE


def _run_needs(keys: tuple[object, ...]) -> Needs:
    if not keys or keys[0] is DYNAMIC or keys[0] in _METHODS:
        return _RUN
    return frozenset({keys[0]}) if keys[0] in _RUN and isinstance(keys[0], str) else _NONE

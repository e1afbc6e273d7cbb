"""Which data a template can read, found in its syntax tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes

from engine.rules.templates.sandbox import DOCUMENT_NAMES

#: Parts of a run that LangSmith does not always send along.
Needs = frozenset[str]

_RUN = frozenset({"inputs", "outputs"})
_ALL = _RUN | {"feedback"}
_NONE: Needs = frozenset()
_METHODS = frozenset({"get", "items", "keys", "values"})

#: A key of a chain that is only known when the template runs.
DYNAMIC = object()


@dataclass(frozen=True, slots=True)
class Chain:
    """One lookup in the document: ``run.metadata["env"]`` is ``run``, ``("metadata", "env")``.

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
    """Every chain that must not be null: it is ordered, calculated with, iterated over or filtered."""
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


def each_item(tree: nodes.Node) -> frozenset[str]:
    """The names that always mean an item of a digest: variables of loops over ``items`` that have no other use.

    A chain that begins with one is a lookup in that item's document.
    """
    targets = {id(loop.target): loop.target for loop in tree.find_all(nodes.For) if goes_through(loop)}
    if not targets:
        return frozenset()
    own = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load" and id(node) not in targets}
    own |= {node.name for node in tree.find_all(nodes.Macro)}
    if _hands_items_on(tree) or "items" in own:
        return frozenset()
    names = {target.name for target in targets.values() if isinstance(target, nodes.Name)}
    return frozenset(names - own - DOCUMENT_NAMES)


def _hands_items_on(tree: nodes.Node) -> bool:
    """Whether a loop gives access to its items in another way than by its variable."""
    if any(loop.recursive for loop in tree.find_all(nodes.For)):
        return True
    given = ((), ("previtem",), ("nextitem",), (DYNAMIC,))
    return any(chain.root == "loop" and chain.keys[:1] in given for _, chain in chains(tree))


def goes_through(loop: nodes.For) -> bool:
    """Whether a loop iterates over ``items`` or a slice of it."""
    source = loop.iter
    if isinstance(source, nodes.Getitem) and isinstance(source.arg, nodes.Slice):
        source = source.node
    return isinstance(loop.target, nodes.Name) and isinstance(source, nodes.Name) and source.name == "items"


def needs_of(tree: nodes.Node) -> Needs:
    """The parts of a run's data that a template can read; if that is unclear, all of them."""
    each = each_item(tree)
    without = _untouched(tree, each)
    found: set[str] = set()
    for node, chain in chains(tree):
        if id(node) not in without:
            found |= _needs(_into(chain) if chain.root in each else chain)
    return frozenset(found | _mapped(tree))


def _untouched(tree: nodes.Node, each: frozenset[str]) -> set[int]:
    """The nodes that are counted, iterated over or picked from by name; other functions see what they read."""
    counted = {
        id(found.node)
        for found in tree.find_all(nodes.Filter)
        if isinstance(found.node, nodes.Name)
        and (
            (found.name in ("length", "count") and found.node.name in ("runs", "items"))
            or (found.node.name in ("runs", "items") and _paths(found) is not None)
        )
    }
    for loop in tree.find_all(nodes.For):
        if each and goes_through(loop):
            counted.add(id(loop.iter.node if isinstance(loop.iter, nodes.Getitem) else loop.iter))
    return counted


def _paths(found: nodes.Filter) -> list[str] | None:
    """The paths that ``map(attribute="run.name")`` or ``pick("run.name")`` reads in each item, if they are constants.

    None where something stands in for what is missing, too.
    """
    given = [(None, value) for value in found.args] + [(one.key, one.value) for one in found.kwargs]
    picked = [value.value for _, value in given if isinstance(value, nodes.Const) and isinstance(value.value, str)]
    if found.dyn_args or found.dyn_kwargs or len(picked) != len(given):
        return None
    if found.name == "pick":
        return [path.removesuffix("?") for path in picked]
    return picked if found.name == "map" and [key for key, _ in given] == ["attribute"] else None


def _mapped(tree: nodes.Node) -> Needs:
    found: set[str] = set()
    for node in tree.find_all(nodes.Filter):
        if not isinstance(node.node, nodes.Name) or node.node.name not in ("runs", "items"):
            continue
        for path in _paths(node) or ():
            keys = tuple(path.split("."))
            found |= _needs(_into(Chain("items", keys)) if node.node.name == "items" else Chain("run", keys))
    return frozenset(found)


def _into(chain: Chain) -> Chain:
    """A lookup in an item as a lookup in its document; one of the whole item counts as ``items``."""
    if chain.keys and isinstance(chain.keys[0], str) and chain.keys[0] not in _METHODS:
        return Chain(chain.keys[0], chain.keys[1:])
    return Chain("items", ())


def _needs(chain: Chain) -> Needs:
    if chain.root == "items":
        inside = _into(Chain("items", chain.keys[1:]))
        return _ALL if inside.root == "items" else _needs(inside)
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

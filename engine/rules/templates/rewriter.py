"""Syntax trees, rewritten for rendering by the engine's rules."""

# ruff: noqa: N802 - Jinja dispatches visitors by these names

from __future__ import annotations

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from engine.rules.templates.needs import DYNAMIC, Chain, chain_of, goes_through
from engine.rules.templates.sandbox import DATA, EVENT_NAMES, LOOP, OWN_NAMES, PLAIN, SIDE, TEXT, WITHIN, WRITTEN
from engine.rules.templates.slack_marks import opened

#: Keys whose values Slack takes as they are, so that escaping would spoil them.
RAW_KEYS = frozenset({"url", "image_url", "value", "action_id", "block_id"})


class Rewriter(NodeTransformer):
    """Makes loops pay, texts JSON-like, and in an escaping environment event data marked.

    ``escaping`` false leaves data as it is. ``each`` are the names that stand for an item of a digest.
    """

    def __init__(self, *, escaping: bool, each: frozenset[str] = frozenset()) -> None:
        self.escaping, self.each = escaping, each

    def rewrite(self, tree: nodes.Template) -> nodes.Template:
        """The tree, changed in place."""
        self.visit(tree)
        return tree

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        """What is written into a text must not be null, and is told by the name its author knows."""
        told = [chain_of(child) for child in node.nodes]
        if self.escaping:
            for child, chain in zip(node.nodes, [*told[1:], None], strict=True):
                if isinstance(child, nodes.TemplateData) and (chain is None or chain.root not in OWN_NAMES):
                    child.data = opened(child.data)
        self.generic_visit(node)
        node.nodes = [
            child if isinstance(child, nodes.TemplateData) else filtered(WRITTEN, child, _name_of(chain, child))
            for child, chain in zip(node.nodes, told, strict=True)
        ]
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Each step of the loop costs, its body's literal text included."""
        source = node.iter
        if self.each and goes_through(node):  # what is used of an item is marked where it is looked for
            node.iter = nodes.Const(None, lineno=node.lineno)
            self.generic_visit(node)
            node.iter = source
        else:
            self.generic_visit(node)
        literal = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = filtered(LOOP, node.iter, nodes.Const(literal, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """``~`` joins texts as templates write them, not as Python does."""
        self.generic_visit(node)
        node.nodes = [filtered(TEXT, part) for part in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Marked and unmarked characters are equal; a search through a list costs."""
        node.expr = self._side(node.expr)
        for operand in node.ops:
            operand.expr = self._side(operand.expr)
            if operand.op in ("in", "notin"):
                operand.expr = filtered(WITHIN, operand.expr)
        return node

    def _side(self, node: nodes.Expr) -> nodes.Expr:
        chain = chain_of(node)
        own = not isinstance(node, nodes.Const) and (chain is None or chain.root not in EVENT_NAMES)
        seen: nodes.Expr = self.visit(node)
        if self.escaping:
            return filtered(PLAIN, seen)
        return filtered(SIDE, seen) if own else seen

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        """A method is looked up in marked data, and is not data itself."""
        if isinstance(node.node, nodes.Getattr):
            node.node.node = self.visit(node.node.node)
            callee, node.node = node.node, nodes.Const(None, lineno=node.lineno)
            self.generic_visit(node)
            node.node = callee
            return node
        return self.generic_visit(node)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        """A name of the document stands for event data."""
        return self._chain(node)

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        """The longest look into the document is marked where it ends: no more than what is used."""
        return self._chain(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """As ``visit_Getattr``."""
        return self._chain(node)

    def _chain(self, node: nodes.Expr) -> nodes.Node:
        chain = chain_of(node)
        if chain is None:
            return self.generic_visit(node)
        step: nodes.Node = node
        while isinstance(step, (nodes.Getattr, nodes.Getitem)):
            if isinstance(step, nodes.Getitem):
                step.arg = self.visit(step.arg)
            step = step.node
        data = self.escaping and self._is_data(chain)
        return filtered(DATA, node) if data else node

    def _is_data(self, chain: Chain) -> bool:
        if chain.root in self.each:
            return not (chain.keys and chain.keys[0] in OWN_NAMES)
        return chain.root in EVENT_NAMES

    def structure(self, node: nodes.Expr) -> nodes.Expr:
        """Rewrite a whole value's expression: under a raw key of a mapping written out there, data stays unmarked."""
        if isinstance(node, nodes.Dict):
            for pair in node.items:
                raw = isinstance(pair.key, nodes.Const) and pair.key.value in RAW_KEYS
                pair.key = self.visit(pair.key)
                pair.value = Rewriter(escaping=False).visit(pair.value) if raw else self.structure(pair.value)
            return node
        if isinstance(node, nodes.List):
            node.items = [self.structure(item) for item in node.items]
            return node
        changed: nodes.Expr = self.visit(node)
        return changed


def _name_of(chain: Chain | None, node: nodes.Expr) -> nodes.Expr:
    """How the author wrote a look, for a message; empty where it is none, or known only at run time."""
    told = "" if chain is None or DYNAMIC in chain.keys else str(chain)
    return nodes.Const(told, lineno=node.lineno)


def filtered(name: str, node: nodes.Node, *args: nodes.Expr) -> nodes.Filter:
    """A node with a filter behind it."""
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)

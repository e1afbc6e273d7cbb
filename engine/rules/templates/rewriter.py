"""Rewrite syntax trees, so that they render by the engine's rules."""

# ruff: noqa: N802 - Jinja dispatches visitors by these names

from __future__ import annotations

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from engine.rules.templates.needs import DYNAMIC, Chain, chain_of
from engine.rules.templates.sandbox import CONCAT, EVENT_NAMES, LOOP, OUTPUT, OWN, OWN_NAMES, SIDE, WITHIN, WRITTEN
from engine.rules.templates.slack_escape import opened

#: Keys whose values Slack does not unescape.
RAW_KEYS = frozenset({"url", "image_url", "value", "action_id", "block_id"})


class Rewriter(NodeTransformer):
    """Charges loops, writes values as JSON, and in an escaping environment marks the author's texts as ``Markup``.

    ``each`` are the names that stand for an item of a digest, ``hidden`` those that the template gives values itself.
    """

    def __init__(self, *, escaping: bool, each: frozenset[str], hidden: frozenset[str]) -> None:
        self.escaping, self._each, self._own = escaping, each, OWN_NAMES - hidden

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        """Null cannot be written into a text; the error names the lookup as the author wrote it."""
        names = [chain_of(child) for child in node.nodes]
        if self.escaping:
            for child, chain in zip(node.nodes, [*names[1:], None], strict=True):
                if isinstance(child, nodes.TemplateData) and (chain is None or chain.root not in self._own):
                    child.data = opened(child.data)
        self.generic_visit(node)
        node.nodes = [
            child if isinstance(child, nodes.TemplateData) else filtered(WRITTEN, child, _name_of(chain, child))
            for child, chain in zip(node.nodes, names, strict=True)
        ]
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Each step of a loop is charged, with the literal text of its body."""
        self.generic_visit(node)
        literal = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = filtered(LOOP, node.iter, nodes.Const(literal, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """``~`` writes values as templates do, not as Python does."""
        self.generic_visit(node)
        return filtered(CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> nodes.Node:
        """The result of a block's filter is output."""
        self.generic_visit(node)
        node.filter = filtered(OUTPUT, node.filter)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        """Jinja makes ``Markup`` of the filter's result, so data in it must be marked."""
        self.generic_visit(node)
        if node.filter is not None and self.escaping:
            node.filter = filtered(OUTPUT, node.filter)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        """A text in quotes is the author's."""
        return nodes.MarkSafe(node, lineno=node.lineno) if self.escaping and isinstance(node.value, str) else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Both sides are charged; for ``in`` the search too."""
        node.expr = self._side(node.expr)
        for operand in node.ops:
            operand.expr = self._side(operand.expr)
            if operand.op in ("in", "notin"):
                operand.expr = filtered(WITHIN, operand.expr)
        return node

    def _side(self, node: nodes.Expr) -> nodes.Expr:
        """A side of a comparison. Constants and event data have no marks and need no charge."""
        chain = chain_of(node)
        if isinstance(node, nodes.Const) or (chain is not None and chain.root in EVENT_NAMES):
            return self._looked(node)
        return filtered(SIDE, self.visit(node))

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        """The object of a method is rewritten, but not the method."""
        callee = node.node
        if not isinstance(callee, nodes.Getattr):
            return self.generic_visit(node)
        callee.node, node.node = self.visit(callee.node), nodes.Const(None, lineno=node.lineno)
        self.generic_visit(node)
        node.node = callee
        return node

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        """Values of ``vars`` and the like are the author's texts."""
        return self._chain(node)

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        """As ``visit_Name``, for a whole lookup."""
        return self._chain(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """As ``visit_Getattr``."""
        return self._chain(node)

    def _chain(self, node: nodes.Expr) -> nodes.Node:
        chain = chain_of(node)
        if chain is None:
            return self.generic_visit(node)
        self._looked(node)
        root, first = chain.root, chain.keys[:1]
        own = root in self._own or (root in self._each and first and first[0] in OWN_NAMES)
        return filtered(OWN, node) if own and self.escaping else node

    def _looked(self, node: nodes.Expr) -> nodes.Expr:
        """A lookup, with the expressions in its brackets rewritten."""
        step: nodes.Node = node
        while isinstance(step, (nodes.Getattr, nodes.Getitem)):
            if isinstance(step, nodes.Getitem) and not isinstance(step.arg, nodes.Const):
                step.arg = self.visit(step.arg)
            step = step.node
        return node

    def structure(self, node: nodes.Expr) -> nodes.Expr:
        """Rewrite the expression of a whole value. Data under a raw key of a literal mapping is not escaped."""
        if isinstance(node, nodes.Dict):
            for pair in node.items:
                raw = self.escaping and isinstance(pair.key, nodes.Const) and pair.key.value in RAW_KEYS
                pair.key = self.visit(pair.key)
                pair.value = filtered(OWN, self.visit(pair.value)) if raw else self.structure(pair.value)
            return node
        if isinstance(node, nodes.List):
            node.items = [self.structure(item) for item in node.items]
            return node
        changed: nodes.Expr = self.visit(node)
        return changed


def _name_of(chain: Chain | None, node: nodes.Expr) -> nodes.Expr:
    """A lookup as the author wrote it, for a message; empty for other expressions and dynamic keys."""
    name = "" if chain is None or DYNAMIC in chain.keys else str(chain)
    return nodes.Const(name, lineno=node.lineno)


def filtered(name: str, node: nodes.Node, *args: nodes.Expr) -> nodes.Filter:
    """Apply a filter to a node."""
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)

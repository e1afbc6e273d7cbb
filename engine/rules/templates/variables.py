"""Environment variables in templates and expressions are values in the syntax tree, never source."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from engine.core.variables import Filled


class NotAValue(Exception):  # noqa: N818 - becomes a mistake of the template
    """A variable stands where a value is not allowed: message, hint and line."""


def put_in(tree: nodes.Template, text: Filled) -> None:
    """Put the variables' values into the syntax tree of a text's source.

    In the template's own text and in texts in quotes they are put in as they are; outside of
    quotes one is a number, ``true`` or ``false``.

    Raises:
        NotAValue: one stands where a name or a piece of syntax is read.
    """
    _Filler(text).visit(tree)
    for node in (tree, *tree.find_all(nodes.Node)):
        for name in _names(node):
            if text.holds(name):
                raise _not_a_value(text, name, node.lineno)


def _names(node: nodes.Node) -> Iterator[str]:
    """The names in a node; texts of constants and of the template are not names."""
    if isinstance(node, (nodes.Const, nodes.TemplateData)):
        return
    for _, value in node.iter_fields():
        for one in value if isinstance(value, list) else [value]:
            for part in one if isinstance(one, tuple) else [one]:
                if isinstance(part, str):
                    yield part


class _Filler(NodeTransformer):
    def __init__(self, text: Filled) -> None:
        self._text = text

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802 - Jinja's name
        node.data = self._text.with_values(node.data)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802 - Jinja's name
        if isinstance(node.value, str):
            node.value = self._text.with_values(node.value)
        return node

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802 - Jinja's name
        variable = self._text.variables.get(node.name)
        if variable is None or node.ctx != "load":
            return node
        if variable.scalar is None:
            message = f"{variable.reference} is neither a number nor true or false, which a variable outside quotes is"
            raise NotAValue(message, as_text(variable.reference), node.lineno)
        return nodes.Const(variable.scalar, lineno=node.lineno, environment=node.environment)


def as_text(reference: str) -> str:
    """How to write a variable that is not allowed outside quotes."""
    return f"in quotes it is a text: '{reference}'; a list or mapping goes under vars, and is vars.NAME here"


def _not_a_value(text: Filled, name: str, line: int) -> NotAValue:
    reference = next(each.reference for word, each in text.variables.items() if word in name)
    message = f"{text.with_references(name)}: a variable is a value, and cannot be a name or a part of one"
    return NotAValue(message, f"{as_text(reference)}; a key is looked up so: run['{reference}']", line)

"""Paths that jsonpath-ng itself evaluates: with a budget, with RE2, and with an error for data that was not fetched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import filter as query
from jsonpath_ng.ext import string

from engine.core.document import Missing
from engine.core.errors import PathError
from engine.core.regex import compile_sub
from engine.rules.jsonpath.closures import compile_match, is_decimal
from engine.rules.jsonpath.functions import Node
from engine.rules.jsonpath.leaves import Scope

#: Nodes that pass a value on without reading its content.
_PASSING = frozenset(
    {core.Root, core.This, core.Parent, core.Child, core.Where, core.WhereNot, core.Descendants}
    | {core._Union, query.Expression, query.And, query.Or}  # noqa: SLF001 - the public name warns
)


def library_find(tree: Any) -> Callable[[Any], list[Any]]:
    """jsonpath-ng's own ``find``. The tree must not be shared: its nodes are wrapped with checks.

    Raises:
        RegexError: a pattern in it is not valid RE2.
        PathError: the library cannot evaluate a node in it.
    """
    meter = threading.local()
    nodes = list(all_nodes(tree))
    if any(map(_only_ours, nodes)):
        message = "jsonpath-ng itself evaluates `parent`, `path` and the like, and has no functions or costs"
        raise PathError(message, hint="write the test of [?…] as a condition of its own beside this one")
    for node in nodes:
        _use_re2(node)
        node.find = _guarded(node.find, meter, looks=type(node) not in _PASSING)

    def find(document: Any) -> list[Any]:
        meter.scope = Scope(document)
        return [match.value for match in tree.find(document)]

    return find


def _only_ours(node: Any) -> bool:
    """Whether the library does not know a node, or would read a cost as a text."""
    if isinstance(node, query.Expression):
        return node.op not in (None, "!", "=~") and (is_decimal(node.target) or is_decimal(node.value))
    return isinstance(node, Node)


def _guarded(find: Callable[[Any], Any], meter: threading.local, *, looks: bool) -> Callable[[Any], Any]:
    def guarded(datum: Any) -> Any:
        value = datum.value if isinstance(datum, core.DatumInContext) else datum
        if looks and type(value) is Missing:
            value[0]
        matches = find(datum)
        meter.scope.charge(1 + (len(matches) if isinstance(matches, list) else 1))
        return matches

    return guarded


def _use_re2(node: Any) -> None:
    """Use RE2 where the library would call ``re`` with outside input."""
    if isinstance(node, string.Sub):
        replace = compile_sub(node.expr, node.repl)
        node.regex = cast("Any", SimpleNamespace(sub=lambda _replacement, text: replace(text)))
    elif isinstance(node, query.Expression) and node.op == "=~":
        target, test = node.target, compile_match(node.value)
        node.find = lambda datum: [  # type: ignore[method-assign]
            match for match in target.find(core.DatumInContext.wrap(datum)) if test(match.value)
        ]


def all_nodes(tree: Any) -> Iterator[Any]:
    """All nodes of a tree."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        for part in vars(node).values():
            stack += _parts(part)


def _parts(part: Any) -> Iterator[Any]:
    if isinstance(part, core.JSONPath):
        yield part
    elif isinstance(part, (list, tuple)):
        for each in part:
            yield from _parts(each)

"""jsonpath-ng's nodes without child nodes → closures, and what all closures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import iterable, string

from engine.core.document import Missing
from engine.core.errors import PathError
from engine.core.offload import STRIDE, check
from engine.core.regex import compile_sub

#: How many values one evaluation may visit: anybody can send a large document.
BUDGET = 250_000


class Scope:
    """The state of one evaluation: the root, and how many values it may still visit.

    The deadline is checked whenever ``left`` falls below ``_check_at``.
    """

    __slots__ = ("_check_at", "left", "root")

    def __init__(self, root: Any) -> None:
        self.root = root
        self.left = BUDGET
        self._check_at = BUDGET - STRIDE

    def charge(self, count: int) -> None:
        """Count visited values.

        Raises:
            PathError: there are too many.
            OutOfTime: the deadline passed.
        """
        self.left -= count
        if self.left < self._check_at:
            if self.left < 0:
                raise PathError(f"the path visits more than {BUDGET:,} values of this document")
            check()
            self._check_at = max(self.left - STRIDE, 0)


Finder = Callable[[Any, Scope], Sequence[Any]]


def not_applicable(value: Any) -> Sequence[Any]:
    """The result of a step that does not apply to a value."""
    if type(value) is Missing:
        value[0]
    return ()


def _fields(node: core.Fields) -> Finder:
    names = tuple(node.fields)

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        if isinstance(value, dict):
            return [value[name] for name in names if name in value]
        return [value[name] for name in names if name in value] if hasattr(value, "keys") else not_applicable(value)

    return find


def _indexes(node: core.Index) -> Finder:
    indexes = tuple(node.indices)

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        if not isinstance(value, (list, tuple)):
            return not_applicable(value)
        return [value[index] for index in indexes if -len(value) <= index < len(value)]

    return find


def _slice(node: core.Slice) -> Finder:
    part = slice(node.start, node.end, node.step)

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        if not isinstance(value, (list, tuple)) or part.step == 0:
            return not_applicable(value)
        return value[part]

    return find


def _size(value: Any, scope: Scope) -> Sequence[Any]:
    try:
        return (len(value),)
    except TypeError:
        return ()


def _keys(value: Any, scope: Scope) -> Sequence[Any]:
    return list(value.keys()) if hasattr(value, "keys") else not_applicable(value)


def _sub(node: string.Sub) -> Finder:
    sub = compile_sub(node.expr, node.repl)

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        not_applicable(value)
        changed = sub(value)
        return () if changed == value else (changed,)

    return find


def _split(node: string.Split) -> Finder:
    mark, limit = node.chars, node.max_split
    segment = None if node.segment == "*" else int(node.segment)

    def find(value: Any, scope: Scope) -> Sequence[Any]:
        if not isinstance(value, str):
            return not_applicable(value)
        parts = value.split(mark, limit)
        if segment is None:
            return (parts,)
        return (parts[segment],) if -len(parts) <= segment < len(parts) else ()

    return find


#: Type of node → the function that creates its closure.
LEAVES: dict[Any, Callable[[Any], Finder]] = {
    core.Fields: _fields,
    core.Index: _indexes,
    core.Slice: _slice,
    iterable.Len: lambda _node: _size,
    iterable.Keys: lambda _node: _keys,
    string.Str: lambda _node: lambda value, _scope: (str(value),),
    string.Sub: _sub,
    string.Split: _split,
}

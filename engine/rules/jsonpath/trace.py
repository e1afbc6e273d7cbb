"""How far a path leads in a document before it finds nothing, and what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import filter as query

from engine.core.errors import DataMissing
from engine.core.shown_values import describe
from engine.core.suggest import nearest
from engine.rules.jsonpath.closures import Unsupported, compile_node, flatten, straight
from engine.rules.jsonpath.leaves import Scope
from engine.rules.jsonpath.path import Path, tree_of
from engine.rules.jsonpath.write import quoted, write_step

_SHOWN, _KEPT = 12, 200


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a path leads: the longest part that exists, the step after it, and what is there instead.

    ``reached`` and ``failed`` are parts of the path (``$.runs[*]`` and ``.nme``), ``value`` is the first value found
    at ``reached``, ``keys`` its first 200 keys, none if it is not an object. ``words`` says all of it on one line.
    """

    reached: str
    failed: str
    value: Any
    keys: tuple[str, ...]
    words: str


def how_far(path: Path, document: Any) -> Reach | None:
    """How far a path leads in a document; None if it finds something, or only jsonpath-ng can evaluate it.

    Raises:
        DataMissing: it reads data that was not fetched.
        PathError: it visits too many values.
    """
    reached, values, scope = "$", [document], Scope(document)
    for node in _steps(tree_of(path.source)):
        try:
            find = compile_node(node)
        except Unsupported:
            return None
        found = [match for value in values for match in find(value, scope)]
        if not found:
            return _reach(reached, node, values[0])
        reached, values = reached + _write(node), found
    return None


def absent_part(path: Path, document: Any) -> str:
    """The absent part of a path: up to the first step that finds nothing."""
    reach = how_far(path, document)
    return path.written if reach is None else reach.reached + reach.failed


def where_it_ends(path: Path, document: Any) -> str:
    """Why a path finds nothing: the step that failed, and what is there instead."""
    try:
        reach = how_far(path, document)
    except DataMissing as error:
        return f"not fetched: {error}"
    return reach.words if reach is not None else f"nothing found at {path.written}"


def _steps(tree: Any) -> Iterator[Any]:
    """The steps of a path, left to right; ``..x`` is one."""
    for node in flatten(tree):
        if isinstance(node, core.Descendants):
            yield from _steps(node.left)
            first, *rest = flatten(node.right)
            yield core.Descendants(core.This(), first)
            yield from rest
        elif type(node) not in (core.Root, core.This):
            yield node


def _write(node: Any) -> str:
    if (step := straight(node)) is not ...:
        return write_step(step)
    if isinstance(node, core.Descendants):
        return f"..{_write(node.right).removeprefix('.')}"
    if isinstance(node, core._Union):  # noqa: SLF001 - the parser creates it; the public name warns
        return f"[{', '.join(_selectors(node))}]"
    text = str(node)
    return text if text.startswith("[") else f".{text}"


def _selectors(node: Any) -> Iterator[str]:
    """The parts of a union, as written in one bracket."""
    for side in (node.left, node.right):
        if isinstance(side, core._Union):  # noqa: SLF001 - as above
            yield from _selectors(side)
        else:
            steps = list(_steps(side))
            name = straight(steps[0]) if len(steps) == 1 else ...
            text = quoted(name) if isinstance(name, str) else "".join(map(_write, steps))
            yield text[1:-1] if text.startswith("[") else text


def _reach(reached: str, node: Any, value: Any) -> Reach:
    keys = tuple(str(key) for key in list(value)[:_KEPT]) if isinstance(value, Mapping) else ()
    return Reach(reached, _write(node), value, keys, _words(reached, node, value, keys))


def _words(place: str, node: Any, value: Any, keys: Sequence[str]) -> str:
    step = straight(node)
    match node, value, step:
        case core.Descendants(), _, _:
            return f"nothing below {place} fits {_write(node)}" + (_there(value, keys) if keys else "")
        case _, Mapping(), str():
            return f"{place} has no {step!r}{_instead(step, value, keys)}"
        case _, list(), str():
            return f"{place} is an array, which has no {step!r}: write {place}[*]{write_step(step)}"
        case _, list(), int():
            return f"{place} has {_size(value)}"
        case _, list() | Mapping(), _ if not value:
            return f"{place} is empty"
        case query.Filter(), list() | Mapping(), _:
            return f"{place} has {_size(value)}, of which none fits {_write(node)}"
        case _, list() | Mapping(), _:
            return f"{place} is {describe(value)}, where {_write(node)} finds nothing"
    return f"{place} is {describe(value)}"


def _size(value: Any) -> str:
    kind = "element" if isinstance(value, list) else "key"
    return f"{len(value)} {kind}{'' if len(value) == 1 else 's'}"


def _instead(step: str, value: Mapping[str, Any], keys: Sequence[str]) -> str:
    if not keys:
        return ": it is empty"
    near = nearest(step, keys)
    return f": did you mean {near!r}? It has {_listed(value, keys)}" if near else _there(value, keys)


def _there(value: Mapping[str, Any], keys: Sequence[str]) -> str:
    return f"; it has {_listed(value, keys)}"


def _listed(value: Mapping[str, Any], keys: Sequence[str]) -> str:
    rest = f", … ({len(value)} keys)" if len(value) > _SHOWN else ""
    return f"{', '.join(keys[:_SHOWN])}{rest}"

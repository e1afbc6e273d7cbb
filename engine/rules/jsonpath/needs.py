"""The data of a run that a path may read (inputs, outputs, feedback), from its syntax tree."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import arithmetic, iterable, string
from jsonpath_ng.ext import filter as query

from engine.rules.jsonpath.closures import flatten
from engine.rules.jsonpath.functions import Count, Literal, Test, Value

Needs = frozenset[str]
ALL_NEEDS: Needs = frozenset({"inputs", "outputs", "feedback"})


class Place(Enum):
    """A kind of place in a document; below ``OTHER`` there is no data that may have to be fetched."""

    ROOT = auto()
    PAYLOAD = auto()
    RUNS = auto()
    RUN = auto()
    INPUTS = auto()
    OUTPUTS = auto()
    FEEDBACK = auto()
    OTHER = auto()


Places = frozenset[Place]
_EVERYWHERE: Places = frozenset(Place)
_OTHER: Places = frozenset({Place.OTHER})

#: The places below a place by name; ``*`` is every other name.
_BELOW: dict[Place, dict[str, Place]] = {
    Place.ROOT: {
        "payload": Place.PAYLOAD,
        "runs": Place.RUNS,
        "run": Place.RUN,
        "feedback": Place.FEEDBACK,
        "feedbacks": Place.FEEDBACK,
    },
    Place.PAYLOAD: {"runs": Place.RUNS},
    Place.RUNS: {"*": Place.RUN},
    Place.RUN: {"inputs": Place.INPUTS, "outputs": Place.OUTPUTS},
    Place.INPUTS: {"*": Place.INPUTS},
    Place.OUTPUTS: {"*": Place.OUTPUTS},
    Place.FEEDBACK: {"*": Place.FEEDBACK},
    Place.OTHER: {"*": Place.OTHER},
}
_WANTING = {Place.INPUTS: "inputs", Place.OUTPUTS: "outputs", Place.FEEDBACK: "feedback"}
_TEXT_NODES = (iterable.Len, iterable.Keys, iterable.Path, string.Sub, string.Split)


def path_needs(tree: Any) -> tuple[Needs, Needs]:
    """The needs of a path if its values are read completely, and if only their type or size is read."""
    walk = _Walk()
    try:
        ends = walk.through(tree, frozenset({Place.ROOT}))
    except RecursionError:
        return ALL_NEEDS, ALL_NEEDS
    shallow = _wanting(frozenset(walk.touched))
    return shallow | _wanting(_within(ends)), shallow


def _wanting(places: Places) -> Needs:
    return frozenset(_WANTING[place] for place in places if place in _WANTING)


def _children(places: Places) -> Places:
    """Every place one step below."""
    below = {child for place in places for child in _BELOW[place].values()}
    return frozenset(below) | (_OTHER if places & {Place.ROOT, Place.PAYLOAD, Place.RUN} else frozenset())


def _within(places: Places) -> Places:
    """These places and every place below them."""
    found, grown = places, places | _children(places)
    while grown != found:
        found, grown = grown, grown | _children(grown)
    return found


class _Walk:
    """Follows a syntax tree through places, and records every place that it may reach."""

    def __init__(self) -> None:
        self.touched: set[Place] = set()

    def through(self, node: Any, places: Places) -> Places:
        """The places of a node's values if it starts from these places."""
        for step in flatten(node):
            places = self._step(step, places)
            self.touched |= places
        return places

    def _step(self, node: Any, places: Places) -> Places:
        kind = type(node)
        if kind is core.Fields:
            return frozenset(filter(None, (_named(place, name) for place in places for name in node.fields)))
        if kind in (core.Index, core.Slice):
            return frozenset(below["*"] for place in places if "*" in (below := _BELOW[place]))
        if kind is core.Wildcard:
            return _children(places)
        if kind is core.Root:
            return frozenset({Place.ROOT})
        if kind in (core.This, iterable.SortedThis):
            return self._sorted(node, places)
        if kind in _TEXT_NODES:
            return _OTHER
        return self._inner(node, places)

    def _sorted(self, node: Any, places: Places) -> Places:
        for field, _reverse in getattr(node, "expressions", None) or ():
            self.through(field, _children(places))
        if isinstance(node, iterable.SortedThis):
            self.touched |= _within(places)
        return places

    def _inner(self, node: Any, places: Places) -> Places:
        if isinstance(node, (Test, Count, Value, Literal)):
            return self._function(node, places)
        if isinstance(node, core.Descendants):
            everywhere = _within(self.through(node.left, places))
            self.touched |= everywhere
            return self.through(node.right, everywhere)
        if isinstance(node, core.Where):
            left = self.through(node.left, places)
            self.through(node.right, left)
            return left
        if isinstance(node, core._Union):  # noqa: SLF001 - the parser creates it; the public name warns
            return self.through(node.left, places) | self.through(node.right, places)
        if isinstance(node, query.Filter):
            below = _children(places)
            for expression in node.expressions:
                self._test(expression, below)
            return below
        return self._made(node, places)

    def _function(self, node: Test | Count | Value | Literal, places: Places) -> Places:
        if isinstance(node, Test):
            for test in node.tests:
                self._test(test, places)
            return places
        if isinstance(node, Literal):
            return _OTHER
        ends = self.through(node.query, places)
        return ends if isinstance(node, Value) else _OTHER

    def _made(self, node: Any, places: Places) -> Places:
        """Nodes that compute new values from complete values, and unknown nodes."""
        if isinstance(node, string.Str):
            self.touched |= _within(places)
            return _OTHER
        if isinstance(node, arithmetic.Operation):
            for side in (node.left, node.right):
                if isinstance(side, core.JSONPath):
                    self.touched |= _within(self.through(side, places))
            return _OTHER
        self.touched |= _EVERYWHERE
        return _EVERYWHERE

    def _test(self, node: Any, places: Places) -> None:
        if isinstance(node, (query.And, query.Or)):
            for operand in node.operands:
                self._test(operand, places)
        elif isinstance(node, query.Expression):
            compared = node.op not in (None, "!")
            for side in (node.target, node.value):
                if isinstance(side, core.JSONPath):
                    ends = self.through(side, places)
                    self.touched |= _within(ends) if compared else ends
        else:
            self.touched |= _EVERYWHERE


def _named(place: Place, name: str) -> Place | None:
    """The place of a field; None if it finds nothing there."""
    if place is Place.RUNS:
        return None
    below = _BELOW[place]
    return below.get(name) or below.get("*") or Place.OTHER

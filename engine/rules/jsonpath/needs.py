"""The data of a run that a path may read (inputs, outputs, feedback), from its syntax tree."""

from __future__ import annotations

from collections.abc import Iterable
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
        match node:
            case core.Fields(fields=names):
                return frozenset(filter(None, (_named(place, name) for place in places for name in names)))
            case core.Index() | core.Slice():
                return frozenset(below["*"] for place in places if "*" in (below := _BELOW[place]))
            case core.Wildcard():
                return _children(places)
            case core.Root():
                return frozenset({Place.ROOT})
            case iterable.SortedThis(expressions=keys):
                for key, _reverse in keys or ():
                    self.through(key, _children(places))
                self.touched |= _within(places)
                return places
            case _ if type(node) is core.This:  # others are its subclasses
                return places
            case core.Descendants(left=left, right=right):
                everywhere = _within(self.through(left, places))
                self.touched |= everywhere
                return self.through(right, everywhere)
            case core.Where(left=left, right=right):
                found = self.through(left, places)
                self.through(right, found)
                return found
            case core._Union(left=left, right=right):  # noqa: SLF001 - the parser creates it; the public name warns
                return self.through(left, places) | self.through(right, places)
            case query.Filter(expressions=tests):
                return self._tests(tests, _children(places))
        return self._made(node, places)

    def _made(self, node: Any, places: Places) -> Places:
        """The engine's own nodes, nodes that compute new values, and unknown nodes."""
        match node:
            case Test(tests=tests):
                return self._tests(tests, places)
            case Value(query=inner):
                return self.through(inner, places)
            case Count(query=inner):
                self.through(inner, places)
            case string.Str():
                self.touched |= _within(places)
            case arithmetic.Operation(left=left, right=right):
                for side in (left, right):
                    self._read(side, places, whole=True)
            case iterable.Len() | iterable.Keys() | iterable.Path() | string.Sub() | string.Split() | Literal():
                pass
            case _:
                self.touched |= _EVERYWHERE
                return _EVERYWHERE
        return _OTHER

    def _tests(self, nodes: Iterable[Any], places: Places) -> Places:
        """The tests of a filter on values at these places."""
        for node in nodes:
            match node:
                case query.And(operands=operands) | query.Or(operands=operands):
                    self._tests(operands, places)
                case query.Expression(target=target, value=value, op=sign):
                    for side in (target, value):
                        self._read(side, places, whole=sign not in (None, "!"))
                case _:
                    self.touched |= _EVERYWHERE
        return places

    def _read(self, side: Any, places: Places, *, whole: bool) -> None:
        """One side of an operator, which is a query or a literal. ``whole``: its values are read completely."""
        if isinstance(side, core.JSONPath):
            ends = self.through(side, places)
            self.touched |= _within(ends) if whole else ends


def _named(place: Place, name: str) -> Place | None:
    """The place of a field; None if it finds nothing there."""
    if place is Place.RUNS:
        return None
    below = _BELOW[place]
    return below.get(name) or below.get("*") or Place.OTHER

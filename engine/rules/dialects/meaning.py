"""The meaning of a condition, independent of its notation. Parsers produce these nodes, writers our notation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

#: Comparisons without the negated ones.
Operator = Literal[
    "eq", "lt", "lte", "gt", "gte", "in", "contains", "starts_with", "ends_with", "matches", "exists", "empty", "type",
    "older_than", "newer_than", "before", "after",
]  # fmt: skip


class Unclear(Exception):  # noqa: N818 - a result, not an error
    """The meaning of a text or mapping is not known. ``field``: the unknown field, if that is the only reason."""

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message or field)
        self.field = field


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant."""

    value: Any


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the document, from its root: names, indexes, and None for every element."""

    keys: tuple[str | int | None, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of one value: ``length``, ``lower``, ``upper``, ``trim``, ``number``, ``string``, ``type``."""

    name: str
    value: Node


@dataclass(frozen=True, slots=True)
class Default:
    """A value, or another one if it is null or absent."""

    value: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A calculation with two values."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison. ``fold``: case is ignored."""

    operator: Operator
    left: Node
    right: Node
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """The negation."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Every:
    """All of them hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of them holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of two values, chosen by a condition."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Among:
    """Whether any or all elements of a list satisfy a condition, in which ``Field((name, …))`` is the element."""

    quantifier: Literal["any", "all"]
    source: Node
    name: str
    body: Node


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a text in another (``indexOf``); only in comparisons."""

    value: Node
    part: Node


@dataclass(frozen=True, slots=True)
class Part:
    """A number of letters at one end of a text; only in comparisons."""

    value: Node
    operator: Literal["starts_with", "ends_with"]
    length: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list of values, constant or not."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """A JSONPath that is valid as written."""

    text: str


@dataclass(frozen=True, slots=True)
class Native:
    """A condition that is valid as written."""

    condition: Any


Node = (
    Constant
    | Field
    | Apply
    | Default
    | Arithmetic
    | Compare
    | Not
    | Every
    | Some
    | Choice
    | Among
    | Items
    | Position
    | Part
    | Path
    | Native
)
#: Nodes whose value is true or false.
BOOLEAN = (Compare, Not, Every, Some, Among, Native)


def every(*parts: Node) -> Node:
    """The conjunction; a single condition unchanged."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Every) else (part,))]
    return flat[0] if len(flat) == 1 else Every(tuple(flat))


def some(*parts: Node) -> Node:
    """The disjunction; a single condition unchanged."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Some) else (part,))]
    return flat[0] if len(flat) == 1 else Some(tuple(flat))


def opposite(node: Node) -> Node:
    """The negation, without a double negation."""
    return node.inner if isinstance(node, Not) else Not(node)

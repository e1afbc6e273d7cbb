"""What a condition means, whatever language it is written in. Parsers make these; writers turn them into our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

#: Comparisons that are left once negations are taken out of their names.
Operator = Literal[
    "eq", "lt", "lte", "gt", "gte", "in", "contains", "starts_with", "ends_with", "matches", "exists", "empty", "type",
    "older_than", "newer_than", "before", "after",
]  # fmt: skip


class Unclear(Exception):  # noqa: N818 - an answer, not a fault
    """A text or mapping whose meaning cannot be told. ``field``: the field that is not known, if that is all."""

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message or field)
        self.field = field


@dataclass(frozen=True, slots=True)
class Literally:
    """A constant."""

    value: Any


@dataclass(frozen=True, slots=True)
class Field:
    """A look into the document, from its top: names, indexes, and None for every element."""

    keys: tuple[str | int | None, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of one value: ``length``, ``lower``, ``upper``, ``trim``, ``number``, ``string``, ``type``."""

    name: str
    value: Node


@dataclass(frozen=True, slots=True)
class Default:
    """A value, or another one where it is null or absent."""

    value: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Two values calculated with."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison. ``fold``: upper and lower case are the same."""

    operator: Operator
    left: Node
    right: Node
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

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
    """One value or another, as a condition says."""

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
    """Where a text holds another, as ``indexOf`` tells it; it stands in comparisons only."""

    value: Node
    part: Node


@dataclass(frozen=True, slots=True)
class Part:
    """So many letters at one end of a text; it stands in comparisons only."""

    value: Node
    operator: Literal["starts_with", "ends_with"]
    length: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list that is not constant, or a constant one as it is written."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """A JSONPath that is sound as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Native:
    """A condition that is sound as it is written."""

    condition: Any


Node = (
    Literally
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
#: Nodes that come to true or false.
BOOLEAN = (Compare, Not, Every, Some, Among, Native)


def every(*parts: Node) -> Node:
    """All of them; of one, that one."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Every) else (part,))]
    return flat[0] if len(flat) == 1 else Every(tuple(flat))


def some(*parts: Node) -> Node:
    """Any of them; of one, that one."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Some) else (part,))]
    return flat[0] if len(flat) == 1 else Some(tuple(flat))


def opposite(node: Node) -> Node:
    """Its opposite, without two negations."""
    return node.inner if isinstance(node, Not) else Not(node)

"""The meaning of a condition, independent of its notation. Readers produce these nodes, writers our notation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Keys = tuple[str | int | None, ...]


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

    keys: Keys


@dataclass(frozen=True, slots=True)
class Call:
    """A function of values.

    ``length``, ``lower``, ``upper``, ``trim``, ``number``, ``string`` and ``type`` of one value; ``default`` (a value,
    and another one if it is null or absent); ``if`` (a condition and two values); ``list``; the arithmetic signs; and,
    only in comparisons, ``ago`` (a duration), ``position`` (of a text in another), ``starts_with`` and ``ends_with``
    (a number of letters at one end of a text).
    """

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison with one of our operators, except the negated ones. ``fold``: case is ignored."""

    operator: str
    left: Node
    right: Node
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """The negation."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Group:
    """All or any of several conditions hold."""

    kind: Literal["all", "any"]
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Among:
    """Whether any or all elements of a list satisfy a condition, in which ``Field((name, …))`` is the element."""

    quantifier: str
    source: Node
    name: str
    body: Node


@dataclass(frozen=True, slots=True)
class Path:
    """A JSONPath that is valid as written."""

    text: str


@dataclass(frozen=True, slots=True)
class Native:
    """A condition that is valid as written."""

    condition: Any


Node = Constant | Field | Call | Compare | Not | Group | Among | Path | Native
#: Nodes whose value is true or false.
BOOLEAN: Final = (Compare, Not, Group, Among, Native)


def every(*parts: Node) -> Node:
    """The conjunction; a single condition unchanged."""
    return _group("all", parts)


def some(*parts: Node) -> Node:
    """The disjunction; a single condition unchanged."""
    return _group("any", parts)


def _group(kind: Literal["all", "any"], parts: tuple[Node, ...]) -> Node:
    flat = [
        inner for part in parts for inner in (part.parts if isinstance(part, Group) and part.kind == kind else (part,))
    ]
    return flat[0] if len(flat) == 1 else Group(kind, tuple(flat))


def opposite(node: Node) -> Node:
    """The negation, without a double negation."""
    return node.inner if isinstance(node, Not) else Not(node)


def exists(node: Node) -> Compare:
    """Whether a value is neither null nor absent."""
    return Compare("exists", node, Constant(True))  # noqa: FBT003


def list_of(parts: list[Node]) -> Node:
    """A list; a constant if all its items are."""
    if all(isinstance(part, Constant) for part in parts):
        return Constant([part.value for part in parts if isinstance(part, Constant)])
    return Call("list", tuple(parts))


def truth(node: Node) -> Node:
    """A value used as a condition: whether it exists and is not empty.

    Raises:
        Unclear: it is a constant that is neither true nor false.
    """
    match node:
        case Call("position", (value, part)):
            return Compare("contains", value, part)
        case Call("if") | Constant(True | False) | Compare() | Not() | Group() | Among() | Native():
            return node
        case Field() | Call():
            return Not(Compare("empty", node, Constant(True)))  # noqa: FBT003
    raise Unclear("a condition was expected")

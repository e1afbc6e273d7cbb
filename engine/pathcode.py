"""Straight paths (fields, indexes, wildcards) → generated Python functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.missing import Missing

#: One step of a straight path: a field's name, an index, or None for ``*``.
Step = str | int | None


class _Nothing:
    """The type of ``NOTHING``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NOTHING"


#: What a singular path answers when it finds nothing; null is a value and not this.
NOTHING = _Nothing()


def as_array(value: Any) -> Any:
    """The value, if an index applies to it.

    Raises:
        TypeError: it is not an array.
        WantOfData: it is data that is not at hand.
    """
    if isinstance(value, (list, tuple)):
        return value
    if type(value) is Missing:
        value[0]
    raise TypeError("an index applies to arrays only")


def members(value: Any) -> Iterable[Any]:
    """What ``*`` selects: an array's elements, an object's values, nothing of a scalar.

    Raises:
        WantOfData: it is data that is not at hand.
    """
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, dict):
        return value.values()
    if type(value) is Missing:
        value[0]
    return [value.get(key) for key in value.keys()] if hasattr(value, "keys") else ()  # noqa: SIM118 - a mapping


def generate_one(steps: Sequence[Step]) -> Callable[[Any], Any]:
    """A function from a document to the one value of a path without ``*``, or ``NOTHING``."""
    body = ["try:", *_indent(_reach(steps, "d", "v"))]
    body += ["    return v", "except (KeyError, TypeError, IndexError):", "    return NOTHING"]
    return _function(body)


def generate_all(steps: Sequence[Step]) -> Callable[[Any], list[Any]]:
    """A function from a document to all values of a path, in document order."""
    return _function(["out = []", *_loops(list(steps), 0), "return out"])


def _loops(steps: list[Step], depth: int) -> list[str]:
    """Code that appends what the steps find below ``v<depth>`` to ``out``, and skips what is not there."""
    start, skip = ("d", "return out") if depth == 0 else (f"v{depth}", "continue")
    straight = steps[: steps.index(None)] if None in steps else steps
    rest, name = steps[len(straight) + 1 :], f"w{depth}"
    lines = ["try:", *_indent(_reach(straight, start, name)), "except (KeyError, TypeError, IndexError):"]
    lines = [*lines, f"    {skip}"] if straight else [f"{name} = {start}"]
    if len(straight) == len(steps):
        return [*lines, f"out.append({name})"]
    within = f"({name} if {name}.__class__ is list else members({name}))"
    if not rest:
        return [*lines, f"out.extend({within})"]
    return [*lines, f"for v{depth + 1} in {within}:", *_indent(_loops(rest, depth + 1))]


def _reach(steps: Sequence[Step], start: str, name: str) -> list[str]:
    """Code that assigns to ``name`` what fields and indexes reach from ``start``, or raises a LookupError's kin."""
    lines, reached = [], start
    for step in steps:
        if isinstance(step, int):
            # A string can be indexed too, in Python but not in JSONPath.
            lines += [f"{name} = {reached}", f"if {name}.__class__ is not list: {name} = as_array({name})"]
            reached = name
        reached += f"[{step!r}]"
    return [*lines, f"{name} = {reached}"]


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _function(body: Iterable[str]) -> Callable[[Any], Any]:
    """The function whose body this is; its only foreign text are field names, as literals."""
    names: dict[str, Any] = {"NOTHING": NOTHING, "as_array": as_array, "members": members}
    exec("\n".join(["def find(d):", *_indent(body)]), names)  # noqa: S102 - our own code, from our own parts
    function: Callable[[Any], Any] = names["find"]
    return function

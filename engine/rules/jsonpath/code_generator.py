"""Straight paths (fields, indexes, wildcards) → generated Python functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.core.document import Missing
from engine.core.offload import STRIDE, watched

#: One step of a straight path: a field's name, an index, or None for ``*``.
Step = str | int | None
_MAX_LOOPS: Final = 10


class _Nothing:
    """The type of ``NOTHING``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NOTHING"


#: The result of a singular path that finds nothing; null is a value, not this.
NOTHING = _Nothing()


def as_array(value: Any) -> Any:
    """The value, if an index applies to it.

    Raises:
        TypeError: it is not an array.
        DataMissing: it is data that was not fetched.
    """
    if isinstance(value, (list, tuple)):
        return value
    if type(value) is Missing:
        value[0]
    raise TypeError("an index applies to arrays only")


def members(value: Any) -> Iterable[Any]:
    """The values that ``*`` selects: an array's elements, an object's values, nothing for a scalar.

    Raises:
        DataMissing: it is data that was not fetched.
        OutOfTime: the deadline passed, checked if there are many values.
    """
    if isinstance(value, (list, tuple)):
        return watched(value)
    if isinstance(value, dict):
        return watched(value.values())
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
    if (end := _end_of_loops(steps)) < len(steps):
        first, rest = generate_all(steps[:end]), generate_all(steps[end:])
        return lambda document: [value for each in first(document) for value in rest(each)]
    body = _loops(list(steps), 0, "return out", lambda name: [f"out.append({name})"])
    return _function(["out = []", *body, "return out"])


@dataclass(frozen=True, slots=True)
class InlineTest:
    """A test as code: ``{v}`` is the value, ``{k}`` the constant, ``{t}`` a call of the test."""

    code: str
    constant: Any
    test: Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class Answers:
    """The results: ``when`` the tests hold for a value, ``otherwise``, and ``nothing`` if there is no value."""

    when: Any
    otherwise: Any
    nothing: Any


def generate_any(
    steps: Sequence[Step], tests: Sequence[InlineTest], answers: Answers, careful: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """A function that returns whether all tests hold for any one value of a path.

    On an exception it returns what ``careful`` returns for the document.
    """
    if _end_of_loops(steps) < len(steps):
        return careful
    names: dict[str, Any] = {"when": answers.when, "otherwise": answers.otherwise, "nothing": answers.nothing}
    names["careful"] = careful
    for place, each in enumerate(tests):
        names |= {f"k{place}": each.constant, f"t{place}": each.test}

    def leaf(name: str) -> list[str]:
        codes = [_inline(each.code, name, place) for place, each in enumerate(tests)]
        return ["answer = otherwise", f"if {' and '.join(codes)}: return when"]

    body = ["answer = nothing", "try:", *_indent(_loops(list(steps), 0, "return nothing", leaf))]
    return _function([*body, "except Exception:", "    return careful(d)", "return answer"], names)


def _end_of_loops(steps: Sequence[Step]) -> int:
    """The number of steps that one function can have: Python nests at most 20 blocks."""
    loops = [place for place, step in enumerate(steps) if step is None]
    return loops[_MAX_LOOPS - 1] + 1 if len(loops) > _MAX_LOOPS else len(steps)


def _inline(code: str, name: str, place: int) -> str:
    return "(" + code.format(v=name, k=f"k{place}", t=f"t{place}({name}, d)") + ")"


def _loops(steps: list[Step], depth: int, stop: str, leaf: Callable[[str], list[str]]) -> list[str]:
    """Code that runs ``leaf`` for every value the steps find below ``v<depth>``; missing values are skipped."""
    start, skip = ("d", stop) if depth == 0 else (f"v{depth}", "continue")
    straight = steps[: steps.index(None)] if None in steps else steps
    rest, name = steps[len(straight) + 1 :], f"w{depth}"
    lines = ["try:", *_indent(_reach(straight, start, name)), "except (KeyError, TypeError, IndexError):"]
    lines = [*lines, f"    {skip}"] if straight else [f"{name} = {start}"]
    if len(straight) == len(steps):
        return [*lines, *leaf(name)]
    within = f"({name} if {name}.__class__ is list and len({name}) <= {STRIDE} else members({name}))"
    inner = _loops(rest, depth + 1, stop, leaf) if rest else leaf(f"v{depth + 1}")
    return [*lines, f"for v{depth + 1} in {within}:", *_indent(inner)]


def _reach(steps: Sequence[Step], start: str, name: str) -> list[str]:
    """Code that assigns to ``name`` the value at fields and indexes from ``start``, or raises a lookup error."""
    lines, reached = [], start
    for step in steps:
        if isinstance(step, int):
            # Python can index a string, JSONPath cannot.
            lines += [f"{name} = {reached}", f"if {name}.__class__ is not list: {name} = as_array({name})"]
            reached = name
        reached += f"[{step!r}]"
    return [*lines, f"{name} = {reached}"]


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _function(body: Iterable[str], constants: Mapping[str, Any] | None = None) -> Callable[[Any], Any]:
    """Compile a function with this body. The only outside text in it are field names, quoted as literals."""
    names: dict[str, Any] = {"NOTHING": NOTHING, "as_array": as_array, "members": members, **(constants or {})}
    exec("\n".join(["def find(d):", *_indent(body)]), names)  # noqa: S102 - the code is built from our own parts
    function: Callable[[Any], Any] = names["find"]
    return function

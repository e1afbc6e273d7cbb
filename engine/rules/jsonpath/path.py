"""JSONPath: jsonpath-ng's grammar, compiled once into functions from a document to values.

The results are those of ``[m.value for m in jsonpath_ng.ext.parse(text).find(document)]``, in the
same order. There are three deliberate differences: regular expressions are RE2's, evaluation has a
budget, and data that was not fetched (``engine.core.document.Missing``) raises instead of being skipped.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from jsonpath_ng import jsonpath as core
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext import iterable, string

from engine.core.errors import PathError
from engine.core.regex import RegexError
from engine.rules.jsonpath.closures import Unsupported, compile_node, flatten, straight
from engine.rules.jsonpath.code_generator import NOTHING, Step, generate_all, generate_one
from engine.rules.jsonpath.grammar import Grammar
from engine.rules.jsonpath.leaves import Scope
from engine.rules.jsonpath.library import all_nodes, library_find
from engine.rules.jsonpath.needs import Needs, path_needs
from engine.rules.jsonpath.variables import with_values

#: Characters; real paths are far shorter.
MAX_LENGTH = 4096

_AT = re.compile(r" at (\d+):(-?\d+)| on line (\d+), col (-?\d+)")
_NAMED_OPERATORS = "`len`, `keys`, `sorted`, `parent`, `this`, `path`, `split(…)`, `sub(…)`, `str()`"


class Spread(Enum):
    """How many values a path leads to.

    ``RUNS``: one value of each run, such as ``$.runs[*].status``; that is one value if a document has one run.
    """

    ONE = "one"
    RUNS = "runs"
    MANY = "many"

    def many(self, *, per_run: bool) -> bool:
        """Whether the path leads to a set of values; ``per_run``: the document has one run."""
        return self is Spread.MANY or (self is Spread.RUNS and not per_run)


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path.

    ``find`` returns all values, in jsonpath-ng's order. It raises ``DataMissing`` if it has to look
    into data that was not fetched (as a final value such data is returned as it is), ``PathError``
    if it visits too many values, and the exceptions of jsonpath-ng on unusual data.
    ``one`` returns the value or ``NOTHING``; only for a ``singular`` path (fields and indexes only).
    ``needs`` is the data of the run that it may read if its values are read completely,
    ``shallow_needs`` if only their type or length is read.
    ``steps`` exist only for straight paths: names, indexes, and None for ``*``.
    ``spread`` says whether it is a path to one value or to many.
    ``source`` is the compiled text, ``written`` the text as written, with the names of variables.
    """

    source: str
    written: str
    singular: bool
    needs: Needs
    shallow_needs: Needs
    first_field: str | None
    spread: Spread
    find: Callable[[Any], list[Any]] = field(repr=False, compare=False)
    one: Callable[[Any], Any] | None = field(repr=False, compare=False)
    steps: tuple[Step, ...] | None = field(repr=False, compare=False)


class Paths:
    """Compiles the paths of one configuration, each text once. May be shared between threads."""

    def __init__(self) -> None:
        self._parser = Grammar()
        self._lock = threading.Lock()  # the parser keeps its stacks
        self._compiled: dict[str, Path] = {}

    def compile(self, text: str) -> Path:
        """The compiled path of a text.

        Raises:
            PathError: it cannot be compiled; with the column, and a hint for known mistakes.
        """
        text = with_values(text)
        if (path := self._compiled.get(text)) is None:
            with self._lock:
                path = self._compiled[text] = _compile(text, self._parser)
        return path


def compile_path(text: str) -> Path:
    """Parse and compile one JSONPath.

    Raises:
        PathError: it cannot be compiled; with the column, and a hint for known mistakes.
    """
    return _compile(text, Grammar())


def tree_of(text: str) -> Any:
    """jsonpath-ng's syntax tree of a path.

    Raises:
        PathError: as ``compile_path``.
    """
    return _parse(with_values(text), Grammar())


def _compile(text: str, parser: Grammar) -> Path:
    tree = _parse(text, parser)
    try:
        needs, shallow = path_needs(tree)
        steps = _straight_steps(tree)
        find = generate_all(steps) if steps is not None else _find(tree, text, parser)
    except RegexError as error:
        raise PathError(f"a pattern in the path: {error}", column=text.find("=~") + 1 or 1, hint=error.hint) from None
    except RecursionError:
        raise PathError("the path is nested too deeply", hint="split it into several conditions") from None
    singular = steps is not None and None not in steps
    one = generate_one(steps) if steps is not None and singular else None
    return Path(text, text, singular, needs, shallow, _first_field(tree), _spread(tree), find, one, steps)


def _parse(text: str, parser: Grammar) -> Any:
    if not text.strip():
        raise PathError("the path is empty", hint="a path starts at the document: $.runs[*].status")
    if len(text) > MAX_LENGTH:
        raise PathError(f"the path is longer than {MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # `|` and `&` work as long as 1.x is installed
            tree = parser.parse(text)
    except JSONPathError as error:
        raise _syntax_error(text, str(error)) from None
    except string.DefintionInvalid:
        hint = "they are `split(char, segment, max_splits)`, `sub(/pattern/, replacement)` and `str()`"
        raise PathError("a function in backquotes is not well formed", column=text.find("`") + 1, hint=hint) from None
    except re.error as error:
        raise PathError(f"the pattern of `sub(…)` is not valid: {error}", column=text.find("`sub") + 1) from None
    except RecursionError:
        raise PathError("the path is nested too deeply", hint="split it into several conditions") from None
    if "&" in text and any(isinstance(node, core._Intersect) for node in all_nodes(tree)):  # noqa: SLF001 - its public name warns
        hint = "inside [?(…)] write && to join tests; between paths use two conditions"
        raise PathError("& between paths does not exist in jsonpath-ng", column=text.find("&") + 1, hint=hint)
    return tree


def _syntax_error(text: str, message: str) -> PathError:
    """The library's error about a path, with the column converted to ours."""
    place, column = _AT.search(message), len(text)
    if place:
        line, offset = int(place[1] or place[3]), int(place[2] or place[4])
        column = max(0, len("\n".join(text.split("\n")[: line - 1])) + offset)
    named = message.startswith("Unknown named operator")
    hint = f"in backquotes jsonpath-ng knows {_NAMED_OPERATORS}" if named else ""
    if not place or column >= len(text):
        return PathError("the path ends too early", column=len(text), hint=hint)
    if named:
        return PathError("the path has an unknown function in backquotes", column=column + 1, hint=hint)
    return PathError(f"the path cannot be read from {text[column : column + 20]!r} on", column=column + 1, hint=hint)


def _find(tree: Any, text: str, parser: Grammar) -> Callable[[Any], list[Any]]:
    """Closures if they support the path, else the library."""
    try:
        finder = compile_node(tree)
    except Unsupported:
        # A fresh tree, because the library's nodes are wrapped with checks.
        return library_find(_parse(text, parser))
    return lambda document: list(finder(document, Scope(document)))


def _straight_steps(tree: Any) -> tuple[Step, ...] | None:
    """The steps of a path that generated code supports, or None."""
    nodes = flatten(tree)
    if type(nodes[0]) in (core.Root, core.This):
        nodes = nodes[1:]
    steps = [straight(node) for node in nodes]
    return None if any(step is ... for step in steps) else tuple(steps)


def _first_field(tree: Any) -> str | None:
    """The top-level name with which a path begins, or None."""
    nodes = [node for node in flatten(tree) if type(node) not in (core.Root, core.This)]
    first = straight(nodes[0]) if nodes else ...
    return first if isinstance(first, str) else None


#: Steps with one result for one value.
_ONE_OF_ONE = (
    core.Root, core.This, core.Parent, iterable.Len, iterable.SortedThis, string.Sub, string.Split, string.Str,
)  # fmt: skip


def _spread(tree: Any) -> Spread:
    """How many values a path leads to, by its syntax alone."""
    steps = [step for step in flatten(tree) if type(step) not in (core.Root, core.This)]
    names = [straight(step) for step in steps]
    ahead = 1 if names[:1] == ["payload"] else 0
    over_runs = names[ahead : ahead + 1] == ["runs"] and _takes_runs(steps[ahead + 1 : ahead + 2])
    rest = steps[ahead + 2 :] if over_runs else steps
    if not all(_is_one(step) for step in rest):
        return Spread.MANY
    return Spread.RUNS if over_runs else Spread.ONE


def _takes_runs(step: list[Any]) -> bool:
    """Whether a step after ``runs`` selects several of them without reading their content."""
    return bool(step) and (straight(step[0]) is None or type(step[0]) is core.Slice)


def _is_one(step: Any) -> bool:
    plain = straight(step)
    return isinstance(step, _ONE_OF_ONE) if plain is ... else plain is not None


__all__ = ["MAX_LENGTH", "NOTHING", "Path", "Paths", "Spread", "compile_path"]

"""Whether a path leads to one value of a run or to many."""

from __future__ import annotations

from enum import Enum
from typing import Any

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import iterable, string

from engine.rules.jsonpath.closures import flatten, straight


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


#: Steps with one result for one value.
_ONE_OF_ONE = (
    core.Root,
    core.This,
    core.Parent,
    iterable.Len,
    iterable.SortedThis,
    string.Sub,
    string.Split,
    string.Str,
)


def spread_of(tree: Any) -> Spread:
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

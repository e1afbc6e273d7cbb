"""The answer of a condition if its path or expression finds nothing.

A path to one value needs it: without it every operator except ``exists`` and ``empty`` is undecided. A path to many
values asks about a set, and an empty set has an answer. See docs/decisions/0036-one-meaning-of-absence.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.errors import EngineError
from engine.core.shown_values import describe
from engine.core.truth import Truth, conjoin
from engine.rules.conditions.operands import Test
from engine.rules.conditions.operators import ANSWERING, NEGATIVE
from engine.rules.conditions.quantifiers import ALL, NONE, Quantifier


@dataclass(frozen=True, slots=True)
class WhenAbsent:
    """The result of a condition that finds nothing: ``truth``, unless there is a stand-in value.

    ``stand_in`` holds the value of ``absent:``, if it is written; the operators then test it.
    """

    truth: Truth
    stand_in: tuple[Any, ...] = ()

    def over(self, find: Callable[[Any], Sequence[Any]]) -> Callable[[Any], Sequence[Any]]:
        """The values found, or the stand-in value."""
        stand_in = self.stand_in
        return (lambda document: find(document) or stand_in) if stand_in else find


def of_nothing(operators: Sequence[tuple[str, Any]], quantifier: Quantifier, *, many: bool) -> Truth:
    """The truth of operators (with operands) if a path finds nothing; ``many``: it is a path to many values."""
    if not many:
        return quantifier.of([conjoin(_of_absent(name, operand) for name, operand in operators)])
    negative = quantifier is ALL and all(name in NEGATIVE for name, _ in operators)
    return Truth.TRUE if quantifier is NONE or negative else Truth.FALSE


def _of_absent(name: str, operand: Any) -> Truth:
    """The truth of one operator on one absent value."""
    if name not in ANSWERING:
        return Truth.UNDECIDED
    return Truth.TRUE if name == "empty" and operand else Truth.FALSE


#: A document for operators that need more than the value: ``older_than`` counts from the receipt.
_ANY_DOCUMENT = {"event": {"received_at": "2020-01-01T00:00:00+00:00"}}


def stand_in_problem(value: Any, tests: Sequence[tuple[str, Test]]) -> tuple[str, str] | None:
    """What is wrong with ``absent: VALUE`` beside operators, with a hint; None if nothing is."""
    if not tests:
        return "absent stands beside an operator", "within an expression write … | default(…)"
    if answering := next((name for name, _ in tests if name in ANSWERING), None):
        return f"{answering} already has an answer where nothing is found", "remove absent:"
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        return "absent takes a value, not a template", "write expr: … | default(…) with the same operator"
    for name, test in tests:
        try:
            test(value, _ANY_DOCUMENT)
        except EngineError as error:
            hint = (
                f"give {name} a value it can compare; without absent: the condition is undecided where nothing is found"
            )
            return f"absent: {describe(value)} cannot stand in: {error}", hint
    return None

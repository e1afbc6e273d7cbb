"""Compiled conditions: ``check`` for speed, ``explain`` for people, both from the same tests.

``explain`` evaluates and records everything; ``check`` stops as soon as the answer is known and records
nothing. An exception during evaluation makes the condition undecided; it is never passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from jinja2 import Undefined

from engine.core.errors import AbsentValue
from engine.core.offload import watched
from engine.core.shown_values import describe
from engine.core.truth import Truth, conjoin, disjoin, invert
from engine.rules.conditions.absence import WhenAbsent
from engine.rules.conditions.checks import (
    FALSE,
    GROUP_CHECKS,
    TRUE,
    UNDECIDED,
    Document,
    Operation,
    check_any,
    check_many,
    check_straight,
    check_whole,
    error_text,
    failure,
    judge,
)
from engine.rules.conditions.operands import Undecidable
from engine.rules.conditions.quantifiers import ALL, ANY, Quantifier
from engine.rules.conditions.verdict import Check, Kind, Verdict
from engine.rules.jsonpath import Path
from engine.rules.jsonpath.trace import absent_part, where_it_ends


class Evaluable(Protocol):
    """A compiled expression of ``engine.rules.templates``."""

    @property
    def source(self) -> str:
        """The text."""

    @property
    def needs(self) -> frozenset[str]:
        """The data of a run that it may read."""

    def evaluate(self, document: Document) -> Any:
        """Its value; Jinja's ``Undefined`` if it is absent."""

    def absence(self, value: Any, document: Document) -> AbsentValue:
        """Why its value is absent."""

    def reads(self, document: Document) -> Mapping[str, Any]:
        """The values that it reads, by their text in the expression."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A path or an expression with its operators. ``check`` is its truth, and raises nothing except ``OutOfTime``.

    ``find`` returns the values; ``nothing`` is the result if there are none. ``part`` then names the absent part,
    and ``why`` says what is there instead. ``reads`` returns the values that an expression without operator read.
    """

    kind: Kind
    text: str
    needs: frozenset[str]
    operations: tuple[Operation, ...]
    quantifier: Quantifier
    find: Callable[[Document], Sequence[Any]]
    nothing: WhenAbsent
    part: Callable[[Document], str]
    why: Callable[[Document], str]
    check: Callable[[Document], Truth]
    reads: Callable[[Document], Mapping[str, Any]] = lambda _: {}

    def absent(self, document: Document) -> str:
        """The absent part, if it is undecided because of it; else empty."""
        try:
            if self.find(document) or self.nothing.truth is not UNDECIDED or self.nothing.stand_in:
                return ""
            return self.part(document)
        except AbsentValue as error:
            return error.part
        except Exception:  # noqa: BLE001 - undecided for another reason
            return ""

    def explain(self, document: Document) -> Verdict:
        """Every operator on every value found; agrees with ``check``, and raises nothing except ``OutOfTime``."""
        return replace(self._judged(document), reads=self.reads(document))

    def _judged(self, document: Document) -> Verdict:
        try:
            found = tuple(self.find(document))
        except Exception as error:  # noqa: BLE001 - whatever is raised makes it undecided
            # No operator was evaluated, so "found nothing" would be wrong.
            truth, reason = failure(error)
            return Verdict(truth, self.kind, self.text, (), (), reason, getattr(error, "part", ""))
        if self.operations[0].whole:
            return self._explain_whole(found, document)
        if found:
            return self._explain_values(found, document)
        if self.nothing.stand_in:
            verdict = self._explain_values(self.nothing.stand_in, document)
            return replace(verdict, reason="; ".join(filter(None, (self._stands_in(document), verdict.reason))))
        return self._explain_nothing(document)

    def _explain_whole(self, values: tuple[Any, ...], document: Document) -> Verdict:
        [operation] = self.operations
        truth, reason = judge(operation.test, values, document)
        found = (len(values),) if operation.name == "count" else values
        check = Check(operation.name, operation.operand, found, truth, reason)
        return Verdict(truth, self.kind, self.text, (check,), (), reason)

    def _explain_nothing(self, document: Document) -> Verdict:
        truth = self.nothing.truth
        checks = tuple(Check(each.name, each.operand, (), truth, "nothing found") for each in self.operations)
        part = self.part(document) if truth is UNDECIDED else ""
        return Verdict(truth, self.kind, self.text, checks, (), self.why(document), part)

    def _stands_in(self, document: Document) -> str:
        [value] = self.nothing.stand_in
        return f"{self.part(document)} is absent, {describe(value)} stands in for it"

    def _explain_values(self, values: tuple[Any, ...], document: Document) -> Verdict:
        rows = [[judge(each.test, value, document) for value in watched(values)] for each in self.operations]
        checks = tuple(self._check_of(each, values, row) for each, row in zip(self.operations, rows, strict=True))
        each_value = [conjoin(row[place][0] for row in rows) for place in range(len(values))]
        truth = self.quantifier.of(each_value)
        return Verdict(truth, self.kind, self.text, checks, (), self._reason(truth, each_value, checks))

    def _check_of(self, operation: Operation, values: tuple[Any, ...], row: list[tuple[Truth, str]]) -> Check:
        truths = [truth for truth, _reason in row]
        reason = next((reason for _truth, reason in row if reason), "")
        if len(truths) > 1:
            reason = "; ".join(filter(None, (_tally(truths, self.quantifier), reason)))
        return Check(operation.name, operation.operand, values, self.quantifier.of(truths), reason)

    def _reason(self, truth: Truth, truths: list[Truth], checks: tuple[Check, ...]) -> str:
        """The reason for the result of a condition that found values; empty if the checks are enough."""
        if truth < 0:
            return next((check.reason for check in checks if check.truth < 0), "") or _tally(truths, self.quantifier)
        if len(truths) > 1:
            return _tally(truths, self.quantifier)
        if truth is FALSE:
            failed = next((check for check in checks if check.truth is FALSE), None)
            return f"found {describe(failed.found[0])}" if failed else ""
        return ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group: ``all``, ``any``, ``none`` or ``not``."""

    kind: Kind
    text: str
    needs: frozenset[str]
    children: tuple[Condition, ...]
    check: Callable[[Document], Truth]

    def absent(self, document: Document) -> str:
        """The absent part in the child that leaves the group undecided; empty if it has another reason."""
        if self.check(document) is not UNDECIDED:
            return ""
        return next((child.absent(document) for child in self.children if child.check(document) is UNDECIDED), "")

    def explain(self, document: Document) -> Verdict:
        """The verdicts of all children."""
        verdicts = tuple(child.explain(document) for child in self.children)
        truth = _JOIN[self.kind]([verdict.truth for verdict in verdicts])
        deciding = next((verdict for verdict in verdicts if truth < 0 and verdict.truth is truth), None)
        reason = f"{deciding.text}: {deciding.reason}" if deciding else ""
        return Verdict(truth, self.kind, self.text, (), verdicts, reason, deciding.absent if deciding else "")


Condition = Leaf | Group


# --- making them --------------------------------------------------------------------------


def path_condition(
    path: Path,
    operations: tuple[Operation, ...],
    quantifier: Quantifier,
    nothing: WhenAbsent,
    *,
    needs: frozenset[str],
    text: str,
) -> Leaf:
    """A condition on what a path finds."""
    find = nothing.over(path.find)
    if operations[0].whole:
        check = check_whole(path.find, operations[0].test)
    elif path.steps is not None and not nothing.stand_in and _is_any(path, quantifier):
        check = check_straight(path.steps, operations, nothing.truth, find)
    elif quantifier is ANY:
        check = check_any(find, operations, nothing.truth)
    else:
        check = check_many(find, operations, quantifier, nothing.truth)
    part, why = partial(absent_part, path), partial(where_it_ends, path)
    return Leaf("path", text, needs, operations, quantifier, path.find, nothing, part, why, check)


def _is_any(path: Path, quantifier: Quantifier) -> bool:
    return quantifier is ANY or (path.singular and quantifier is ALL)


def expression_condition(
    expression: Evaluable, operations: tuple[Operation, ...], nothing: WhenAbsent, text: str
) -> Leaf:
    """A condition on the value of an expression; without operators it must be true or false."""
    evaluate = expression.evaluate

    def find(document: Document) -> Sequence[Any]:
        value = evaluate(document)
        if isinstance(value, Undefined):
            return ()
        if not operations and not isinstance(value, bool):
            raise Undecidable(f"an expression without operator must be true or false, this is {describe(value)}")
        return (list(value) if isinstance(value, tuple) else value,)

    def absence(document: Document) -> AbsentValue:
        return expression.absence(evaluate(document), document)

    judged = operations or (Operation("eq", True, lambda value, document: value is True),)  # noqa: FBT003
    if judged[0].whole:
        check = check_whole(find, judged[0].test)
    else:
        check = check_any(nothing.over(find), judged, nothing.truth)
    part, why = lambda document: absence(document).part, lambda document: error_text(absence(document))
    leaf = Leaf("expr", text, expression.needs, judged, ANY, find, nothing, part, why, check)
    return leaf if operations else replace(leaf, reads=expression.reads)


def group_title(kind: str, count: int) -> str:
    """The text of a group, as shown to people."""
    return f"{kind} of {count} condition{'' if count == 1 else 's'}"


def group(kind: Kind, children: Sequence[Condition], text: str) -> Group:
    """A group of conditions. ``not`` of several conditions is the ``not`` of their conjunction."""
    checks = tuple(child.check for child in children)
    needs = frozenset[str]().union(*(child.needs for child in children))
    return Group(kind, text, needs, tuple(children), GROUP_CHECKS[kind](checks))


# --- truth, of verdicts ---------------------------------------------------------------------


_JOIN: dict[Kind, Callable[[Sequence[Truth]], Truth]] = {
    "all": conjoin,
    "any": disjoin,
    "none": lambda truths: invert(disjoin(truths)),
    "not": lambda truths: invert(conjoin(truths)),
}


def _tally(truths: Sequence[Truth], quantifier: Quantifier) -> str:
    holding = sum(truth is TRUE for truth in truths)
    undecided = sum(truth < 0 for truth in truths)
    open_ones = f", {undecided} undecided" if undecided else ""
    return f"{holding} of {len(truths)} values hold{open_ones} (asked for: {quantifier.text})"

"""Compiled conditions: ``check`` for speed, ``explain`` for people, both from the same tests.

``explain`` evaluates everything and keeps what it sees; ``check`` stops as soon as it may and
keeps nothing. What an evaluation raises makes a condition undecided, and never goes further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import Undefined

from engine.deadline import current, watched
from engine.errors import EngineError, WantOfData
from engine.filters.inline import inline
from engine.filters.operands import Test, Undecidable
from engine.filters.quantifiers import ALL, ANY, Quantifier
from engine.filters.verdict import Check, Kind, Verdict, describe
from engine.jsonpath import Path
from engine.jsonpath.code import Step, generate_any
from engine.jsonpath.trace import where_it_ends
from engine.missing import Missing
from engine.truth import Truth, conjoin, disjoin, invert

FALSE, TRUE, UNDECIDED, WANTING = Truth.FALSE, Truth.TRUE, Truth.UNDECIDED, Truth.WANTING

Document = Mapping[str, Any]


class Condition(Protocol):
    """One compiled condition or group. ``text`` is how people see it."""

    @property
    def text(self) -> str:
        """The condition in one line."""

    @property
    def needs(self) -> frozenset[str]:
        """What of a run's data it can touch: inputs, outputs, feedback."""

    @property
    def check(self) -> Callable[[Document], Truth]:
        """What it comes to; raises nothing but ``OutOfTime``."""

    def explain(self, document: Document) -> Verdict:
        """What it comes to and why; raises nothing but ``OutOfTime``, and agrees with ``check``."""


class Evaluable(Protocol):
    """An expression, as ``engine.templates`` compiles it."""

    @property
    def source(self) -> str:
        """The text."""

    @property
    def needs(self) -> frozenset[str]:
        """What of a run's data it can touch."""

    def evaluate(self, document: Document) -> Any:
        """Its value."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator with its operand. ``whole``: it asks about all values at once, not about each."""

    name: str
    operand: Any
    test: Test
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """A path or an expression with its operators.

    ``find`` gives the values, none where there is nothing. ``path`` is None for an expression.
    """

    kind: Kind
    text: str
    needs: frozenset[str]
    operations: tuple[Operation, ...]
    quantifier: Quantifier
    find: Callable[[Document], Sequence[Any]]
    path: Path | None
    check: Callable[[Document], Truth]

    def explain(self, document: Document) -> Verdict:
        """Every operator on every value found."""
        try:
            values = tuple(self.find(document))
        except Exception as error:  # noqa: BLE001 - an evaluation ends here, whatever it met
            # No operator was asked, so none has an answer: "found nothing" would be untrue.
            truth, reason = _failure(error)
            return Verdict(truth, self.kind, self.text, (), (), reason)
        if self.operations and self.operations[0].whole:
            return self._explain_whole(values, document)
        return self._explain_values(values, document)

    def _explain_whole(self, values: tuple[Any, ...], document: Document) -> Verdict:
        [operation] = self.operations
        truth, reason = judge(operation.test, values, document)
        found = (len(values),) if operation.name == "count" else values
        check = Check(operation.name, operation.operand, found, truth, reason)
        return Verdict(truth, self.kind, self.text, (check,), (), reason)

    def _explain_values(self, values: tuple[Any, ...], document: Document) -> Verdict:
        rows = [[judge(each.test, value, document) for value in watched(values)] for each in self.operations]
        checks = tuple(self._check_of(each, values, row) for each, row in zip(self.operations, rows, strict=True))
        if not values:
            reason = self._nothing(document)
            return Verdict(FALSE, self.kind, self.text, checks, (), reason)
        each_value = [conjoin(row[place][0] for row in rows) for place in range(len(values))]
        truth = self.quantifier.of(each_value)
        return Verdict(truth, self.kind, self.text, checks, (), self._reason(truth, each_value, checks))

    def _check_of(self, operation: Operation, values: tuple[Any, ...], row: list[tuple[Truth, str]]) -> Check:
        truths = [truth for truth, _reason in row]
        truth = self.quantifier.of(truths) if truths else FALSE
        reason = next((reason for _truth, reason in row if reason), "")
        if len(truths) > 1:
            reason = "; ".join(filter(None, (_tally(truths, self.quantifier), reason)))
        return Check(operation.name, operation.operand, values, truth, reason or ("" if truths else "nothing found"))

    def _reason(self, truth: Truth, truths: list[Truth], checks: tuple[Check, ...]) -> str:
        """Why a condition that found values came out as it did; empty where the checks say it all."""
        if truth < 0:
            return next((check.reason for check in checks if check.truth < 0), "") or _tally(truths, self.quantifier)
        if len(truths) > 1:
            return _tally(truths, self.quantifier)
        if truth is FALSE:
            failed = next((check for check in checks if check.truth is FALSE), None)
            return f"found {describe(failed.found[0])}" if failed else ""
        return ""

    def _nothing(self, document: Document) -> str:
        if self.path is None:
            return "the expression is undefined here"
        return where_it_ends(self.path, document)


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by ``all``, ``any``, ``none`` or ``not``."""

    kind: Kind
    text: str
    needs: frozenset[str]
    children: tuple[Condition, ...]
    check: Callable[[Document], Truth]

    def explain(self, document: Document) -> Verdict:
        """Every child, whatever the others came to."""
        verdicts = tuple(child.explain(document) for child in self.children)
        truth = _JOIN[self.kind]([verdict.truth for verdict in verdicts])
        deciding = next((verdict for verdict in verdicts if truth < 0 and verdict.truth is truth), None)
        reason = f"{deciding.text}: {deciding.reason}" if deciding else ""
        return Verdict(truth, self.kind, self.text, (), verdicts, reason)


# --- making them --------------------------------------------------------------------------


def path_condition(
    path: Path, operations: tuple[Operation, ...], quantifier: Quantifier, needs: frozenset[str], text: str
) -> Leaf:
    """A condition on what a path finds."""
    if operations[0].whole:
        check = _check_whole(path.find, operations[0].test)
    elif path.steps is not None and (quantifier is ANY or (path.singular and quantifier is ALL)):
        check = _check_straight(path, path.steps, operations)
    elif quantifier is ANY:
        check = _check_any(path.find, operations)
    else:
        check = _check_many(path.find, operations, quantifier)
    return Leaf("path", text, needs, operations, quantifier, path.find, path, check)


def expression_condition(expression: Evaluable, operations: tuple[Operation, ...], text: str) -> Leaf:
    """A condition on what an expression comes to; without operators that must be true or false."""
    evaluate = expression.evaluate

    def find(document: Document) -> Sequence[Any]:
        value = evaluate(document)
        if type(value) is Missing:
            value[0]
        if not operations and not isinstance(value, (bool, Undefined)):
            raise Undecidable(f"an expression without operator must be true or false, this is {describe(value)}")
        if isinstance(value, Undefined):
            return () if operations else _undefined(value)
        return (list(value) if isinstance(value, tuple) else value,)

    judged = operations or (Operation("eq", True, lambda value, document: value is True),)  # noqa: FBT003
    if judged[0].whole:
        check = _check_whole(find, judged[0].test)
    else:
        check = _check_any(find, judged)
    return Leaf("expr", text, expression.needs, judged, ANY, find, None, check)


def _undefined(value: Undefined) -> Sequence[Any]:
    name = getattr(value, "_undefined_name", None)
    raise Undecidable(f"{name} is undefined here" if name else "the expression is undefined here")


def group(kind: Kind, children: Sequence[Condition], text: str) -> Group:
    """Conditions joined. ``not`` of several is the ``not`` of all of them together."""
    checks = tuple(child.check for child in children)
    needs = frozenset[str]().union(*(child.needs for child in children))
    return Group(kind, text, needs, tuple(children), _CHECK[kind](checks))


# --- truth, fast --------------------------------------------------------------------------


def judge(test: Test, value: Any, document: Document) -> tuple[Truth, str]:
    """What a test says of a value, and why it can't say."""
    try:
        return (TRUE if test(value, document) else FALSE), ""
    except Exception as error:  # noqa: BLE001 - an evaluation ends here, whatever it met
        return _failure(error)


def _failure(error: Exception) -> tuple[Truth, str]:
    if isinstance(error, WantOfData):
        return WANTING, f"not at hand: {error}"
    if isinstance(error, RecursionError):
        return UNDECIDED, "the data is nested too deeply"
    if isinstance(error, Undecidable):
        return UNDECIDED, str(error)
    if isinstance(error, EngineError):
        return UNDECIDED, "; ".join(filter(None, (str(error), getattr(error, "hint", ""))))
    return UNDECIDED, f"cannot be evaluated: {error or type(error).__name__}"


def _judge_all(operations: tuple[Operation, ...]) -> Callable[[Any, Document], Truth]:
    """The truth of all operators on one value."""
    tests = tuple(operation.test for operation in operations)
    return lambda value, document: conjoin(judge(test, value, document)[0] for test in tests)


def _check_straight(
    path: Path, steps: Sequence[Step], operations: tuple[Operation, ...]
) -> Callable[[Document], Truth]:
    """The check of ``quantifier: any`` on a straight path, as one generated function."""
    tests = [inline(each.name, each.operand, each.test) for each in operations]
    return generate_any(steps, tests, TRUE, FALSE, _check_many(path.find, operations, ANY))


def _check_any(find: Callable[[Any], Sequence[Any]], operations: tuple[Operation, ...]) -> Callable[[Document], Truth]:
    """The check of ``quantifier: any``, fast as long as nothing is raised."""
    careful = _check_many(find, operations, ANY)
    first, *others = (operation.test for operation in operations)

    def check(document: Document) -> Truth:
        try:
            for value in watched(find(document)):
                if first(value, document):
                    for test in others:
                        if not test(value, document):
                            break
                    else:
                        return TRUE
        except Exception:  # noqa: BLE001 - looked at again with care, to know what it comes to
            return careful(document)
        return FALSE

    return check


def _check_many(
    find: Callable[[Any], Sequence[Any]], operations: tuple[Operation, ...], quantifier: Quantifier
) -> Callable[[Document], Truth]:
    """The check that is right for any quantifier, and whatever is raised."""
    truth, of = _judge_all(operations), quantifier.of

    def check(document: Document) -> Truth:
        try:
            values = find(document)
        except Exception as error:  # noqa: BLE001 - an evaluation ends here, whatever it met
            return _failure(error)[0]
        return of([truth(value, document) for value in watched(values)]) if values else FALSE

    return check


def _check_whole(find: Callable[[Any], Sequence[Any]], test: Test) -> Callable[[Document], Truth]:
    def check(document: Document) -> Truth:
        try:
            return TRUE if test(tuple(find(document)), document) else FALSE
        except Exception as error:  # noqa: BLE001 - an evaluation ends here, whatever it met
            return _failure(error)[0]

    return check


Checks = tuple[Callable[[Document], Truth], ...]


def _all_check(checks: Checks) -> Callable[[Document], Truth]:
    def check(document: Document) -> Truth:
        worst, deadline = TRUE, current()
        for each in checks:
            if deadline is not None:
                deadline.check()
            truth = each(document)
            if truth is FALSE:
                return FALSE
            worst = min(worst, truth)
        return worst

    return check


def _any_check(checks: Checks) -> Callable[[Document], Truth]:
    def check(document: Document) -> Truth:
        best, deadline = FALSE, current()
        for each in checks:
            if deadline is not None:
                deadline.check()
            truth = each(document)
            if truth is TRUE:
                return TRUE
            best = min(best, truth)
        return best

    return check


def _opposite(check: Callable[[Document], Truth]) -> Callable[[Document], Truth]:
    def opposite(document: Document) -> Truth:
        truth = check(document)
        return FALSE if truth is TRUE else TRUE if truth is FALSE else truth

    return opposite


_CHECK: dict[Kind, Callable[[Checks], Callable[[Document], Truth]]] = {
    "all": _all_check,
    "any": _any_check,
    "none": lambda checks: _opposite(_any_check(checks)),
    "not": lambda checks: _opposite(_all_check(checks)),
}
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

"""The fast checks of conditions: they stop as soon as the answer is known and record nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.errors import DataMissing, EngineError
from engine.core.offload import current, watched
from engine.core.truth import Truth, conjoin
from engine.rules.conditions.operands import Test, Undecidable
from engine.rules.conditions.operators import inline
from engine.rules.conditions.quantifiers import ANY, Quantifier
from engine.rules.conditions.verdict import Kind
from engine.rules.jsonpath.code_generator import Answers, Step, generate_any

FALSE, TRUE, UNDECIDED, WANTING = Truth.FALSE, Truth.TRUE, Truth.UNDECIDED, Truth.WANTING

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator with its operand. ``whole``: it tests all values together, not each one."""

    name: str
    operand: Any
    test: Test
    whole: bool = False


def judge(test: Test, value: Any, document: Document) -> tuple[Truth, str]:
    """The result of a test on a value, and the reason if it is undecided."""
    try:
        return (TRUE if test(value, document) else FALSE), ""
    except Exception as error:  # noqa: BLE001 - whatever a test raises makes it undecided
        return failure(error)


def failure(error: Exception) -> tuple[Truth, str]:
    """The truth of an evaluation that raised this, and the reason."""
    match error:
        case DataMissing():
            return WANTING, f"not fetched: {error}"
        case RecursionError():
            return UNDECIDED, "the data is nested too deeply"
        case Undecidable():
            return UNDECIDED, str(error)
        case EngineError():
            return UNDECIDED, error_text(error)
    return UNDECIDED, f"cannot be evaluated: {error or type(error).__name__}"


def error_text(error: EngineError) -> str:
    """The text of an error with its hint."""
    return "; ".join(filter(None, (str(error), getattr(error, "hint", ""))))


def _held(test: Test, value: Any, document: Document) -> Truth:
    """The result of a test on a value."""
    try:
        return TRUE if test(value, document) else FALSE
    except Exception as error:  # noqa: BLE001 - whatever a test raises makes it undecided
        return _open(error)


def _open(error: Exception) -> Truth:
    """The truth of an evaluation that raised this. No reason: its text may cost more than the evaluation."""
    return WANTING if isinstance(error, DataMissing) else UNDECIDED


def check_straight(
    steps: Sequence[Step],
    operations: tuple[Operation, ...],
    nothing: Truth,
    find: Callable[[Any], Sequence[Any]],
) -> Callable[[Document], Truth]:
    """The check for ``quantifier: any`` on a straight path, as one generated function."""
    tests = [inline(each.name, each.operand, each.test) for each in operations]
    return generate_any(steps, tests, Answers(TRUE, FALSE, nothing), check_many(find, operations, ANY, nothing))


def check_any(
    find: Callable[[Any], Sequence[Any]], operations: tuple[Operation, ...], nothing: Truth
) -> Callable[[Document], Truth]:
    """The check for ``quantifier: any``, fast if nothing is raised."""
    careful = check_many(find, operations, ANY, nothing)
    first, *others = (operation.test for operation in operations)

    def check(document: Document) -> Truth:
        try:
            values = find(document)
            for value in watched(values):
                if first(value, document):
                    for test in others:
                        if not test(value, document):
                            break
                    else:
                        return TRUE
        except Exception:  # noqa: BLE001 - the careful check decides what this means
            return careful(document)
        return FALSE if values else nothing

    return check


def check_many(
    find: Callable[[Any], Sequence[Any]], operations: tuple[Operation, ...], quantifier: Quantifier, nothing: Truth
) -> Callable[[Document], Truth]:
    """The check that is correct for every quantifier and every exception."""
    tests, of = tuple(operation.test for operation in operations), quantifier.of

    def truth(value: Any, document: Document) -> Truth:
        return conjoin(_held(test, value, document) for test in tests)

    def check(document: Document) -> Truth:
        try:
            values = find(document)
        except Exception as error:  # noqa: BLE001 - whatever a test raises makes it undecided
            return _open(error)
        return of([truth(value, document) for value in watched(values)]) if values else nothing

    return check


def check_whole(find: Callable[[Any], Sequence[Any]], test: Test) -> Callable[[Document], Truth]:
    """The check for an operator that tests all values together."""

    def check(document: Document) -> Truth:
        try:
            return TRUE if test(tuple(find(document)), document) else FALSE
        except Exception as error:  # noqa: BLE001 - whatever a test raises makes it undecided
            return _open(error)

    return check


Checks = tuple[Callable[[Document], Truth], ...]


def _joined(checks: Checks, otherwise: Truth, *, decided_by: Truth) -> Callable[[Document], Truth]:
    """A group's check: ``decided_by`` if any child is that, ``otherwise`` if all are that.

    Else it is wanting if any child is wanting, and undecided if none is.
    """

    def check(document: Document) -> Truth:
        answer, deadline = otherwise, current()
        for each in checks:
            if deadline is not None:
                deadline.check()
            truth = each(document)
            if truth is decided_by:
                return truth
            answer = min(answer, truth)
        return answer

    return check


def _opposite(check: Callable[[Document], Truth]) -> Callable[[Document], Truth]:
    def opposite(document: Document) -> Truth:
        truth = check(document)
        return FALSE if truth is TRUE else TRUE if truth is FALSE else truth

    return opposite


#: Kind of group → what makes its check from its children's checks.
GROUP_CHECKS: dict[Kind, Callable[[Checks], Callable[[Document], Truth]]] = {
    "all": lambda checks: _joined(checks, TRUE, decided_by=FALSE),
    "any": lambda checks: _joined(checks, FALSE, decided_by=TRUE),
    "none": lambda checks: _opposite(_joined(checks, FALSE, decided_by=TRUE)),
    "not": lambda checks: _opposite(_joined(checks, TRUE, decided_by=FALSE)),
}

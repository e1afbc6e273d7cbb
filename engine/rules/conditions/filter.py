"""A compiled ``Filter``: conditions that must all hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.core.offload import current
from engine.core.positions import Source, Where
from engine.core.truth import Truth
from engine.rules.conditions.checks import Document
from engine.rules.conditions.compile import ConditionCompiler, Expressions
from engine.rules.conditions.evaluate import Condition, Group, group, group_title
from engine.rules.conditions.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold. ``check`` is the fast answer, ``explain`` the full one; they agree."""

    conditions: tuple[Condition, ...]
    needs: frozenset[str]
    check: Callable[[Document], Truth]

    def first_unmet(self, document: Document) -> tuple[Truth, int]:
        """The truth, and the index of the condition that decided it; -1 if all hold.

        Raises:
            OutOfTime: the deadline of the computation has passed.
        """
        worst, place, deadline = Truth.TRUE, -1, current()
        for index, condition in enumerate(self.conditions):
            if index and deadline is not None:
                deadline.check()
            truth = condition.check(document)
            if truth is Truth.FALSE:
                return truth, index
            if truth < worst:
                worst, place = truth, index
        return worst, place

    def explain(self, document: Document) -> Verdict:
        """The verdict of every condition.

        Raises:
            OutOfTime: the deadline of the computation has passed.
        """
        return _joined(self.conditions).explain(document)


def compile_filter(
    conditions: Any, where: Where, source: Source, templates: Expressions, *, per_run: bool = True
) -> Filter:
    """Compile ``filters`` or ``when``: a list of conditions, one condition, or nothing.

    ``per_run``: the documents have one run each, so ``$.runs[*].status`` names one value. Every problem is reported
    to the source; a filter compiled from conditions with problems must not be used.
    """
    compiler = ConditionCompiler(source, templates, per_run=per_run)
    raw = [] if conditions is None else conditions
    if isinstance(raw, list):
        compiled = compiler.conditions(raw, [(*where, index) for index in range(len(raw))], 1)
    else:
        compiled = [compiler.condition(raw, where, 1)]
    sound = tuple(condition for condition in compiled if condition is not None)
    joined = _joined(sound)
    return Filter(sound, joined.needs, joined.check)


def _joined(conditions: tuple[Condition, ...]) -> Group:
    return group("all", conditions, group_title("all", len(conditions)))

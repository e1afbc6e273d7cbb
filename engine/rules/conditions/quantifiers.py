"""Quantifiers: how many of the values that a path finds must satisfy a condition."""

from __future__ import annotations

import operator as op
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.shown_values import describe
from engine.core.suggest import did_you_mean
from engine.core.truth import Truth, conjoin, disjoin, invert
from engine.core.units import parse_share
from engine.rules.conditions.operands import OperandError

_WORDS = ("any", "all", "none")
_SHARES = ("at_least", "more_than")
_FOREIGN = {"some": "any", "every": "all", "each": "all", "no": "none", "min": "at_least", "gte": "at_least"}


@dataclass(frozen=True, slots=True)
class Quantifier:
    """``of`` combines the truths of the values found (at least one) into one."""

    text: str
    of: Callable[[Sequence[Truth]], Truth]


ANY = Quantifier("any", disjoin)
ALL = Quantifier("all", conjoin)
NONE = Quantifier("none", lambda truths: invert(disjoin(truths)))


def compile_quantifier(raw: Any) -> Quantifier:
    """The quantifier of a YAML value.

    Raises:
        OperandError: it is not a quantifier.
    """
    if isinstance(raw, str):
        for known in (ANY, ALL, NONE):
            if raw == known.text:
                return known
        hint = did_you_mean(raw, _WORDS, synonyms=_FOREIGN)
        raise OperandError(f"there is no quantifier {raw!r}", f"{hint}; or write {{at_least: 3}} or {{more_than: 30%}}")
    if not isinstance(raw, dict) or len(raw) != 1:
        raise OperandError(
            f"a quantifier is any, all, none, {{at_least: …}} or {{more_than: …}}, not {describe(raw)}",
            "write quantifier: {at_least: 3} or quantifier: {more_than: 30%}",
        )
    [(word, amount)] = raw.items()
    if word not in _SHARES:
        raise OperandError(
            f"there is no quantifier {word!r}", did_you_mean(str(word), _SHARES, synonyms=_FOREIGN), (word,)
        )
    return _amount(str(word), amount)


def _amount(word: str, amount: Any) -> Quantifier:
    compare = op.ge if word == "at_least" else op.gt
    if isinstance(amount, int) and not isinstance(amount, bool):
        if amount < (1 if word == "at_least" else 0):
            raise OperandError(f"{word}: {amount} asks for nothing", "write a number from 1 on, or 30%", (word,))
        return Quantifier(f"{word} {amount}", lambda truths: _settled(truths, compare, amount))
    try:
        share = parse_share(amount)
    except ValueError as error:
        raise OperandError(f"{word}: {error}; a number of values is a whole number", part=(word,)) from None
    if (share == 0 and word == "at_least") or (share == 1 and word == "more_than"):
        raise OperandError(f"{word}: {amount} " + ("always holds" if share == 0 else "never holds"), part=(word,))
    text = f"{word} {share * 100:g}%"
    return Quantifier(text, lambda truths: _settled(truths, compare, share * len(truths)))


def _settled(truths: Sequence[Truth], compare: Callable[[float, float], bool], wanted: float) -> Truth:
    """True or false if the undecided values cannot change it, else undecided."""
    holding = sum(truth is Truth.TRUE for truth in truths)
    if compare(holding, wanted):
        return Truth.TRUE
    undecided = [truth for truth in truths if truth < 0]
    return min(undecided) if compare(holding + len(undecided), wanted) else Truth.FALSE

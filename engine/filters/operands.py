"""What all operators of a condition work with: their errors, and how they read values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from engine.deadline import check
from engine.errors import EngineError
from engine.filters.verdict import describe
from engine.jsonpath.compare import is_number
from engine.missing import Missing

#: Whether a value satisfies an operator; the second argument is the whole document.
Test = Callable[[Any, Any], bool]

#: From here on a float is no longer exact, and whole numbers are read as such.
_EXACT = 2.0**53
_DIGITS = re.compile(r"[+-]?[0-9]{1,400}")
#: A longer text spells no number. Reading one takes a tenth of a second per 20 MB, and the error quotes all of it.
_LONGEST_NUMBER = 4096
#: Characters of a text that one call searches: a call holds the interpreter's lock until it returns.
_PART = 1 << 20


class Undecidable(EngineError):  # noqa: N818 - an answer, not a fault
    """An operator makes no sense for a value; the words say why."""


class OperandError(EngineError):
    """What stands to the right of an operator cannot be used with it. ``part`` is the place within it."""

    def __init__(self, message: str, hint: str = "", part: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.part = part


def number_of(value: Any) -> int | float | None:
    """The number a value is, or that a text spells; a boolean is none."""
    if isinstance(value, str):
        return spelled(value)
    return value if is_number(value) else None


def spelled(text: str) -> int | float | None:
    """The number a text spells, as JSON or people write one; infinities and the like are none."""
    if len(text) > _LONGEST_NUMBER:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    if not -_EXACT < number < _EXACT:
        return int(text) if _DIGITS.fullmatch(text) else (number if math.isfinite(number) else None)
    return None if "_" in text or not text.isascii() else number


def undecidable(name: str, value: Any, wanted: str) -> NoReturn:
    """Raise that an operator makes no sense for a value, or that the value is not at hand."""
    if type(value) is Missing:
        value[0]
    raise Undecidable(f"{name} needs {wanted}, found {describe(value)}")


def known(value: Any) -> bool:
    """False. Raises for a value that is not at hand, which is neither this nor that."""
    if type(value) is Missing:
        value[0]
    return False


def holds(text: str, part: str) -> bool:
    """Whether a text contains another. A long text is searched part by part, so that other threads can run."""
    if len(text) <= _PART:
        return part in text
    length = _PART + len(part)
    for start in range(0, len(text), _PART):
        check()
        if text.find(part, start, start + length) >= 0:
            return True
    return False


def check_json(name: str, operand: Any) -> None:
    """Refuse what no JSON value can be equal to."""
    if isinstance(operand, float) and math.isnan(operand):
        raise OperandError(f"{name}: nothing is equal to .nan, which JSON does not have")


def shown(value: Any) -> str:
    """A scalar as YAML has it."""
    return "…" if isinstance(value, (list, dict)) else json.dumps(value, ensure_ascii=False)

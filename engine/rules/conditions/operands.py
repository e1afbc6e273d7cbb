"""What all operators of a condition work with: their errors, and how they read values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from engine.core.deadline import check
from engine.core.errors import EngineError
from engine.core.missing import Missing
from engine.core.shown_values import describe
from engine.core.variables import source_of

#: Whether a value satisfies an operator; the second argument is the whole document.
Test = Callable[[Any, Any], bool]

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
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


def template_in(operand: Any) -> tuple[str | int, ...] | None:
    """Where within an operand a template stands, which nothing would render; None if there is none."""
    if isinstance(operand, str):
        return () if _TEMPLATE.search(source_of(operand)) else None
    parts = operand.items() if isinstance(operand, dict) else enumerate(operand) if isinstance(operand, list) else ()
    found = ((key, place) for key, item in parts if (place := template_in(item)) is not None)
    return next(((key, *place) for key, place in found), None)


def check_json(name: str, operand: Any) -> None:
    """Refuse what no JSON value can be equal to."""
    if isinstance(operand, float) and math.isnan(operand):
        raise OperandError(f"{name}: nothing is equal to .nan, which JSON does not have")


def shown(value: Any) -> str:
    """A scalar as YAML has it."""
    return "…" if isinstance(value, (list, dict)) else json.dumps(value, ensure_ascii=False)

"""What all operators share: their errors, and how they read values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from engine.core.document import Missing
from engine.core.errors import EngineError
from engine.core.offload import check
from engine.core.shown_values import describe
from engine.core.variables import source_of

#: Whether a value satisfies an operator; the second argument is the whole document.
Test = Callable[[Any, Any], bool]

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
#: Characters that one call searches: a call holds the GIL until it returns.
_PART = 1 << 20


class Undecidable(EngineError):  # noqa: N818 - a result, not an error
    """An operator cannot be applied to a value; the message says why."""


class OperandError(EngineError):
    """An operand cannot be used with its operator. ``part`` is the position within the operand."""

    def __init__(self, message: str, hint: str = "", part: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.part = part


def undecidable(name: str, value: Any, wanted: str) -> NoReturn:
    """Raise ``Undecidable`` for a value, or ``DataMissing`` if it was not fetched."""
    if type(value) is Missing:
        value[0]
    raise Undecidable(f"{name} needs {wanted}, found {describe(value)}")


def known(value: Any) -> bool:
    """False; raises if the value was not fetched, because then nothing is known about it."""
    if type(value) is Missing:
        value[0]
    return False


def holds(text: str, part: str) -> bool:
    """Whether a text contains another. A long text is searched in parts, so that other threads can run."""
    if len(text) <= _PART:
        return part in text
    length = _PART + len(part)
    for start in range(0, len(text), _PART):
        check()
        if text.find(part, start, start + length) >= 0:
            return True
    return False


def template_in(operand: Any) -> tuple[str | int, ...] | None:
    """The position of a template in an operand; None if there is none. Operands are not rendered."""
    if isinstance(operand, str):
        return () if _TEMPLATE.search(source_of(operand)) else None
    parts = operand.items() if isinstance(operand, dict) else enumerate(operand) if isinstance(operand, list) else ()
    found = ((key, place) for key, item in parts if (place := template_in(item)) is not None)
    return next(((key, *place) for key, place in found), None)


def check_json(name: str, operand: Any) -> None:
    """Refuse operands that equal no JSON value."""
    if isinstance(operand, float) and math.isnan(operand):
        raise OperandError(f"{name}: nothing is equal to .nan, which JSON does not have")


def shown(value: Any) -> str:
    """A scalar as written in YAML."""
    return "…" if isinstance(value, (list, dict)) else json.dumps(value, ensure_ascii=False)

"""What counts as a number: JSON's numbers, and texts that spell one."""

from __future__ import annotations

import math
import re
from typing import Any

#: From here on a float is no longer exact, and whole numbers are read as such.
_EXACT = 2.0**53
_DIGITS = re.compile(r"[+-]?[0-9]{1,400}")
#: A longer text spells no number. Reading one takes a tenth of a second per 20 MB, and the error quotes all of it.
_LONGEST_NUMBER = 4096


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


def is_number(value: Any) -> bool:
    """Whether a value is a JSON number, which a boolean is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""Values of payloads for display: as shortened JSON, or as a short description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.core.document import Missing

#: The maximum characters of a text, elements of an array or object, and levels that are shown.
MAX_TEXT, MAX_ITEMS, MAX_DEPTH = 500, 20, 6


def shorten(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """A JSON copy with long texts, long arrays and deep levels cut. Each cut says how much is missing."""
    if isinstance(value, str):
        cut = len(value) - MAX_TEXT
        return f"{value[:MAX_TEXT]}… ({cut} more characters)" if cut > 0 else str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value if _plain(value) else _number(value)
    if isinstance(value, Missing):
        return repr(value)
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        short = {str(key): shorten(value[key], depth=depth - 1) for key in list(value)[:MAX_ITEMS]}
        return short | ({"…": f"{len(value) - MAX_ITEMS} more"} if len(value) > MAX_ITEMS else {})
    if isinstance(value, (list, tuple, set, frozenset)):
        items = list(value)
        more = [f"… ({len(items) - MAX_ITEMS} more)"] if len(items) > MAX_ITEMS else []
        return [shorten(item, depth=depth - 1) for item in items[:MAX_ITEMS]] + more
    return shorten(repr(value))


def describe(value: Any) -> str:
    """A short description of a value, for use in a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {_number(value)}"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 60 else f"the text {value[:60] + '…'!r}"
    if isinstance(value, Mapping):
        return f"an object with {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"an array of {len(value)}"
    return f"a {type(value).__name__}"


def _plain(value: float) -> bool:
    """Whether every JSON encoder can write the number."""
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def _number(value: float) -> str:
    """A number as text. Python refuses to format integers with more than a few thousand digits."""
    return str(value) if isinstance(value, float) or value.bit_length() < 256 else f"of {value.bit_length()} bits"

"""Whole numbers beyond 64 bits, which the parser reads as floats, as they stand in the body."""

from __future__ import annotations

import json
import re
from typing import Any

#: Such a number where a JSON value can stand. Texts seldom look like it, and then nothing is restored.
_LONG = re.compile(rb"[:,\[\s]-?\d{19,}\s*[,\]}]")
#: Longer numbers stay floats: Python takes quadratic time for them.
_MOST_DIGITS = 4000


def restored(payload: dict[str, Any], body: bytes, index: int) -> dict[str, Any]:
    """The payload with the body's whole numbers where it has floats in their places; ``index`` is its run's, or -1."""
    if not _LONG.search(body):
        return payload
    try:
        original = json.loads(body, strict=False, parse_int=_whole)
    except (ValueError, RecursionError):
        return payload
    runs = original.get("runs") if isinstance(original, dict) else None
    if isinstance(runs, list) and 0 <= index < len(runs):
        original = {**original, "runs": [runs[index]]}
    merged: dict[str, Any] = _merged(payload, original)
    return merged


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _merged(value: Any, original: Any) -> Any:
    if isinstance(value, float):
        return original if type(original) is int else value
    if isinstance(value, dict) and isinstance(original, dict):
        return {key: _merged(item, original.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(original, list) and len(value) == len(original):
        return [_merged(item, other) for item, other in zip(value, original, strict=True)]
    return value

"""Numbers in payloads: what counts as one, and whole numbers beyond 64 bits, which the parser reads as floats."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

#: From here on floats are not exact, so texts of digits are read as integers.
_EXACT = 2.0**53
_DIGITS = re.compile(r"[+-]?[0-9]{1,400}")
#: A longer text is not a number. Parsing takes a tenth of a second per 20 MB, and the error would quote all of it.
_LONGEST_NUMBER = 4096
_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"0" * 9)
#: The shortest number beyond 64 bits has 19 digits.
_LONG: Final = b"0" * 19
_BEYOND: Final = 2.0**63
#: Longer numbers stay floats: Python needs quadratic time for them.
_MOST_DIGITS: Final = 4000


def number_of(value: Any) -> int | float | None:
    """A value as a number, if it is one or a text of one. A boolean is not a number."""
    if isinstance(value, str):
        return spelled(value)
    return value if is_number(value) else None


def spelled(text: str) -> int | float | None:
    """The number that a text contains, or None. Infinities and NaN are not numbers."""
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
    """Whether a value is a JSON number. A boolean is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def may_have_long_numbers(body: bytes) -> bool:
    """Whether a body has as many consecutive digits as a number beyond 64 bits. Takes about 1 ns per byte."""
    return _LONG in body.translate(_AS_ZEROS)


def restore_long_numbers(payload: dict[str, Any], body: bytes, index: int) -> dict[str, Any]:
    """Replace floats in a payload by the exact integers of the body. ``index`` is the index of its run, or -1.

    The body is parsed again only if it is given and the payload has a float that large.
    """
    if not body or not _has_beyond(payload):
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


def _has_beyond(value: Any) -> bool:
    """Whether a value contains a float beyond 64 bits."""
    if isinstance(value, float):
        return abs(value) >= _BEYOND
    if isinstance(value, (dict, list)):
        return any(map(_has_beyond, value.values() if isinstance(value, dict) else value))
    return False


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

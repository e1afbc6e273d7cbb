"""What an unquoted scalar means by the core schema of YAML 1.2.2 (section 10.3)."""

from __future__ import annotations

import math
import re
from typing import Final

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_INT: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN: Final = frozenset({".nan", ".NaN", ".NAN"})
#: What every unquoted scalar begins with that is no text.
_BEGINNINGS: Final = frozenset("~nNtTfF-+.0123456789")


def resolve_plain(text: str) -> str | bool | int | float | None:
    """What an unquoted scalar means by the core schema.

    Raises:
        ValueError: a number that cannot be held.
    """
    if text and text[0] not in _BEGINNINGS:
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        return _integer(text)
    if _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    if match := _INFINITE.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    return math.nan if text in _NAN else text


def _integer(text: str) -> int:
    if len(text) > 400:
        raise ValueError(f"a number of {len(text)} digits cannot be held; quote it if it is a text")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is larger than any number that can be held; quote it if it is a text")
    return number


def kind_of_plain(text: str) -> str:
    """The core schema's name for what an unquoted scalar is: null, bool, int, float or str."""
    try:
        value = resolve_plain(text)
    except ValueError:
        return "float" if _FLOAT.fullmatch(text) and not _INT.fullmatch(text) else "int"
    names = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}
    return names[type(value)]

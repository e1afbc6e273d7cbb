"""A text in any of the usual expression languages → tokens."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from engine.core.units import parse_duration, parse_share
from engine.rules.dialects.meaning import Unclear

#: Characters; a longer condition is not translated.
MAX_TEXT: Final = 2000

_STRING: Final = r"""(?:[rbfu]?"(?:[^"\\]|\\.)*"|[rbfu]?'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`)"""
_TOKEN: Final = re.compile(
    rf"""(?P<space>\s+)
    |(?P<string>{_STRING})
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?P<unit>%|(?:ms|s|m|h|d|w)(?:\d+(?:ms|s|m))*)?(?![\w]))
    |(?P<name>[A-Za-z_$@][\w$]*)
    |(?P<sign>->>|->|===|!==|!~\*|=~\*|==~|==|!=|<>|<=|>=|=<|=>|=~|!~|~\*|:=|&&|\|\||\?\?|\?\.|//|\[\?|[-+*/%^=<>~!|&?.:,;()\[\]{{}}\#\\])
    """,
    re.VERBOSE,
)
_REGEX: Final = re.compile(r"/((?:[^/\\\n]|\\.)+)/([a-z]*)")
#: After these tokens a slash is a division.
_VALUE_ENDS: Final = frozenset({")", "]", "}"})


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: string, number, name, sign, regex or end. ``value`` is a constant's."""

    kind: str
    text: str
    value: Any
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """All tokens of a text, followed by one of kind ``end``.

    Raises:
        Unclear: it contains characters that no such language has.
    """
    if len(text) > MAX_TEXT:
        raise Unclear("too long")
    tokens: list[Token] = []
    place = 0
    while place < len(text):
        token = _regex(text, place, tokens) or _token(text, place)
        place = token.end
        if token.kind != "space":
            tokens.append(token)
    return [*tokens, Token("end", "", None, len(text), len(text))]


def _regex(text: str, place: int, before: list[Token]) -> Token | None:
    last = before[-1] if before else None
    divides = last is not None and (last.kind in ("number", "string", "name") or last.text in _VALUE_ENDS)
    if text[place] != "/" or divides or (found := _REGEX.match(text, place)) is None:
        return None
    pattern = found[1].replace("\\/", "/")
    return Token("regex", found[0], f"(?i){pattern}" if "i" in found[2] else pattern, place, found.end())


def _token(text: str, place: int) -> Token:
    if (found := _TOKEN.match(text, place)) is None:
        raise Unclear(f"unexpected {text[place]!r}")
    kind = str(found.lastgroup if found.lastgroup != "unit" else "number")
    return Token(kind, found[0], _value(kind, found), place, found.end())


def _value(kind: str, found: re.Match[str]) -> Any:
    if kind == "string":
        return _string(found[0])
    if kind == "number":
        return number(found[0])
    return None


def _string(text: str) -> Any:
    if text[0] == "`":
        try:
            return json.loads(text[1:-1])
        except ValueError:
            return text[1:-1]
    raw = text[0] == "r"
    inner = text.lstrip("rbfu")[1:-1]
    return inner if raw else re.sub(r"\\(['\"\\/])", r"\1", inner)


def number(text: str) -> int | float:
    """``10``, ``1.5``, ``10s`` (seconds), ``50%`` (a share).

    Raises:
        Unclear: it is not a number.
    """
    try:
        if text.endswith("%"):
            return _whole(parse_share(text))
        return _whole(parse_duration(text)) if text[-1].isalpha() else _plain(text)
    except ValueError as error:
        raise Unclear(str(error)) from None


def _plain(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value

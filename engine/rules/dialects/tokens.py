"""A text in any of the usual expression languages → tokens and constants."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from engine.core.units import parse_duration, parse_share
from engine.rules.dialects.meaning import Unclear

#: Characters; a longer condition is not translated.
MAX_TEXT: Final = 2000

CONSTANTS: Final[dict[str, Any]] = {
    "true": True, "false": False, "null": None, "none": None, "nil": None, "undefined": None,
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<string>[rbfu]?"(?:[^"\\]|\\.)*"|[rbfu]?'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`)
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?:%|(?:ms|s|m|h|d|w)(?:\d+(?:ms|s|m))*)?(?![\w]))
    |(?P<name>[A-Za-z_$@][\w$]*)
    |(?P<sign>->>|->|===|!==|!~\*|=~\*|==~|==|!=|<>|<=|>=|=<|=>|=~|!~|~\*|:=|&&|\|\||\?\?|\?\.|//|\[\?|[-+*/%^=<>~!|&?.:,;()\[\]{}\#\\])
    |(?P<end>\Z))""",
    re.VERBOSE,
)
#: Where a value may begin; elsewhere a slash is a division.
_REGEX: Final = re.compile(r"\s*/(?P<regex>(?:[^/\\\n]|\\.)+)/(?P<flags>[a-z]*)")
_NUMBER: Final = re.compile(r"-?\d[\d.]*(?:[eE][+-]?\d+)?(?:%|(?:ms|[smhdw])(?:\d+(?:ms|[sm]))*)?")


_NOW: Final = r"\b(?:now|current_timestamp|sysdate|getdate|utcnow|localtimestamp)\b(?:\(\s*\))?"
#: Constructs of single languages → the same in a form that the grammar reads.
_REWRITTEN: Final = [
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for pattern, replacement in {
        r"^\s*(?:lambda\s+\w+\s*:|(?:async\s+)?(?:\(\s*\w+\s*\)|\w+)\s*=>\s*(?![^=]*=>)(?=\S))": "",
        r"^\s*select\b.*?\bwhere\b": "",
        r"^\s*some\s+(\w+)\s+in\s+([^;\n]+)[;\n](.*)$": r"any(\2, \1 => \3)",  # Rego
        r"\bcase\s+when\b(.*?)\bthen\b(.*?)\belse\b(.*?)\bend\b": r"if(\1, \2, \3)",  # SQL
        r"\b(?:try_|safe_)?cast\((.*?)\sas\s+\w+\s*\)": r"(\1)",
        rf"""{_NOW}\s*-\s*(?:interval\s*)?['"]?(\d+)\s*(ms|[smhdw])[a-z]*['"]?""": r'ago("\1\2")',
        r"(?<![=!<>])=\s*(\w+\*)(?=\s|$)": r' like "\1"',  # Splunk
        r"\bvoid\s+0\b": "null",  # JavaScript
        r"\(\s*(\w+)\s*\)\s*(?==>)": r"\1 ",
        r"\.\?(?=\w)|\?\.(?=\w)": ".",
        r"(?<=[\w)])\?(?=\[)": "",  # Logic Apps
        r"(?<=\.)(any|all|none)\?\s*\{\s*\|\s*(\w+)\s*\|(.*?)\}": r"\1(\2, \3)",  # Ruby
        r"(?<=\.)(nil|empty|blank|present|exists?)\?(?=\s*(?:$|[)&|?]|and\b|or\b))": r"\1()",
        r"(?<=\.)(\w+)\?(?=\()": r"\1",
    }.items()
]


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: string, number, name, sign, regex or end. ``value`` is a constant's."""

    kind: str
    text: str
    value: Any
    start: int
    end: int


class Tokens:
    """The tokens of a text with a current position.

    Raises:
        Unclear: the text is too long, or contains characters that no such language has.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise Unclear("too long")
        for pattern, replacement in _REWRITTEN:
            text = pattern.sub(replacement, text)
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0

    @property
    def _now(self) -> Token:
        return self._tokens[self._place]

    def _at(self, ahead: int) -> Token:
        return self._tokens[min(self._place + ahead, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._now
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _is(self, *texts: str, ahead: int = 0) -> bool:
        token = self._at(ahead)
        return token.kind in ("sign", "name") and token.text.lower() in texts

    def _take(self, *texts: str) -> bool:
        taken = self._is(*texts)
        if taken:
            self._next()
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise Unclear(f"expected {text!r}, found {self._now.text!r}")

    def _touches(self, ahead: int = 0) -> bool:
        """Whether there is no space before a token."""
        return self._place + ahead > 0 and self._at(ahead - 1).end == self._at(ahead).start


def _tokens(text: str) -> list[Token]:
    """All tokens of a text; the last is of kind ``end``."""
    tokens: list[Token] = []
    while not tokens or tokens[-1].kind != "end":
        before = tokens[-1] if tokens else None
        after_value = before is not None and (before.kind != "sign" or before.text in (")", "]", "}"))
        place = before.end if before else 0
        found = (None if after_value else _REGEX.match(text, place)) or _TOKEN.match(text, place)
        if found is None:
            raise Unclear("a character that no language has")
        tokens.append(_token(found))
    return tokens


def _token(found: re.Match[str]) -> Token:
    kind, groups = str(found.lastgroup), found.groupdict()
    if kind == "flags":
        pattern = ("(?i)" if "i" in groups["flags"] else "") + groups["regex"].replace("\\/", "/")
        return Token("regex", found[0], pattern, found.start("regex") - 1, found.end())
    text = groups[kind]
    value = _string(text) if kind == "string" else number(text) if kind == "number" else None
    return Token(kind, text, value, found.end() - len(text), found.end())


def _string(text: str) -> Any:
    inner = text.lstrip("rbfu")[1:-1]
    if text[0] == "`":
        try:
            return json.loads(inner)
        except ValueError:
            return inner
    return inner if text[0] == "r" else re.sub(r"\\(['\"\\/])", r"\1", inner)


def number(text: str) -> int | float:
    """``10``, ``1.5``, ``10s`` (seconds), ``50%`` (a share).

    Raises:
        Unclear: it is not a number.
    """
    value = scalar(text)
    if not isinstance(value, (int, float)):
        raise Unclear("a number was expected")
    return value


def scalar(text: str) -> Any:
    """A word as a number, duration (in seconds), share, boolean or text."""
    if text.lower() in ("true", "false", "null"):
        return CONSTANTS[text.lower()]
    for read in (float, parse_share, parse_duration) if _NUMBER.fullmatch(text) else ():
        try:
            value = float(read(text))
        except ValueError:
            continue
        return int(value) if value == int(value) else value
    return text

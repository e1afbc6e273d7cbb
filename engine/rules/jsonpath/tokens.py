r"""The text of a path → tokens for jsonpath-ng's parser.

jsonpath-ng's own lexer drops the backslash of every escape (``'\n'`` becomes ``n``), and supports no exponents and no
names outside ASCII. This one reads names, texts and numbers as in RFC 9535, and the additions of jsonpath-ng
(backquotes, sorting, arithmetic, ``where``) as in jsonpath-ng.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from engine.core.errors import PathError

_FIRST: Final = "A-Za-z_\u0080-\ud7ff\ue000-\U0010ffff"
_NAME: Final = rf"@?[{_FIRST}][{_FIRST}0-9@\-]*"
_TOKENS: Final = re.compile(
    rf"""
      (?P<BLANK>[ \t\r\n]+)
    | (?P<TEXT>'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*")
    | (?P<NAMED_OPERATOR>`(?:[^`\\]|\\.)*`)
    | (?P<SORT_DIRECTION>,?\s*[/\\])
    | (?P<DOUBLEDOT>\.\.)
    | (?P<FILTER_OP>=~|==?|<=|>=|!=|<|>)
    | (?P<AND>&&)
    | (?P<OR>\|\|)
    | (?P<FLOAT>-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+(?![{_FIRST}0-9]) | -?[0-9]+\.[0-9]+)
    | (?P<NUMBER>-?[0-9]+)
    | (?P<ID>{_NAME})
    | (?P<LITERAL>[*.\[\]()$,:|&~?@+\-!])
    """,
    re.VERBOSE | re.DOTALL,
)
#: A name after a dot. ``true`` and ``where`` are names there, and ``1.5`` is two names.
_STEP: Final = re.compile(rf"(?P<NUMBER>-?[0-9]+)(?![{_FIRST}0-9])|(?P<ID>{_NAME})")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", "'": "'", '"': '"'}
_WORDS: Final[dict[str, tuple[str, Any]]] = {
    "true": ("BOOL", True),
    "false": ("BOOL", False),
    "null": ("NULL", "null"),
    "where": ("WHERE", "where"),
    "wherenot": ("WHERENOT", "wherenot"),
}
#: The largest whole number that is exact in JSON (RFC 9535, 2.1; RFC 7493).
_LARGEST: Final = 2**53 - 1


@dataclass(slots=True)
class Token:
    """One token, with the attributes that jsonpath-ng's parser reads. ``lexpos`` and ``end`` count from 0."""

    type: str
    value: Any
    lexpos: int
    end: int = 0
    quoted: bool = False
    lineno: int = 1
    lexer: Any = None

    @property
    def col(self) -> int:
        """Where it begins."""
        return self.lexpos


def tokenize(text: str) -> list[Token]:
    """The tokens of a path.

    Raises:
        PathError: a part of it is not a token; with the column.
    """
    tokens: list[Token] = []
    place = 0
    while place < len(text):
        after_dot = bool(tokens) and tokens[-1].type in (".", "DOUBLEDOT")
        match = (after_dot and _STEP.match(text, place)) or _TOKENS.match(text, place)
        if match is None and text[place] in "'\"`":
            raise PathError(f"{text[place]} is not closed", column=place + 1)
        if match is None:
            raise PathError(f"the path cannot be read from {text[place : place + 20]!r} on", column=place + 1)
        place = match.end()
        if match.lastgroup != "BLANK":
            tokens.append(_token(match, named=after_dot))
            tokens[-1].end = place
    return tokens


def _token(match: re.Match[str], *, named: bool) -> Token:
    kind, text, place = str(match.lastgroup), match[0], match.start()
    match kind:
        case "TEXT":
            return Token("ID", _decoded(text[1:-1], place + 1), place, quoted=True)
        case "NAMED_OPERATOR":
            return Token(kind, re.sub(r"\\(.)", r"\1", text[1:-1]), place)
        case "SORT_DIRECTION":
            return Token(kind, text[-1], place)
        case "FLOAT":
            return Token(kind, _finite(text, place), place)
        case "NUMBER":
            return Token(kind, _whole(text, place), place)
        case "ID":
            return _word(text, place, named=named)
        case _:
            return Token(text if kind == "LITERAL" else kind, text, place)


def _word(text: str, place: int, *, named: bool) -> Token:
    if named:
        return Token("ID", text, place)
    if text.startswith("@"):
        hint = f"write @.{text[1:]}, or ['{text}'] for a key of that name"
        raise PathError(f"{text} is neither @ nor a name", column=place + 1, hint=hint)
    kind, value = _WORDS.get(text, ("ID", text))
    return Token(kind, value, place)


def _whole(text: str, place: int) -> int:
    digits = text.lstrip("-")
    if len(digits) > 1 and digits[0] == "0":
        hint = f"for a key of that name write ['{text}']"
        raise PathError(f"a number has no leading zero: {text}", column=place + 1, hint=hint)
    if len(digits) > 16 or int(digits) > _LARGEST:
        hint = f"for a key of that name write ['{text}']"
        raise PathError(f"a whole number in a path is {_LARGEST} at most", column=place + 1, hint=hint)
    return int(text)


def _finite(text: str, place: int) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise PathError(f"{text} is larger than any JSON number", column=place + 1)
    return number


def _decoded(text: str, place: int) -> str:
    r"""The value of a quoted text; a pair of ``\uD83D\uDE00`` is one character."""
    if "\\" not in text:
        return text

    def character(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            hint = f"write \\\\{code} for a backslash and {code!r}, or {code} without the backslash"
            raise PathError(f"\\{code} is not a known escape", column=place + match.start() + 1, hint=hint)
        return _ESCAPES[code]

    decoded = _ESCAPE.sub(character, text)
    try:
        return decoded.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise PathError("half of a surrogate pair is not valid text", column=place + 1) from None

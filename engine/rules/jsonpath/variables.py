"""Variables in paths: a name, a quoted text or a number, never a part of the path's syntax."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

from engine.core.errors import PathError
from engine.core.variables import Filled, Variable

#: A quoted text, or the text between two quoted ones; backquotes hold jsonpath-ng's functions.
_PIECE: Final = re.compile(r"('(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?|`(?:[^`\\]|\\.)*`?)", re.DOTALL)
_HINT: Final = (
    "write the path itself; a variable may be one name, .${NAME} or ['${NAME}'], or what a name is compared with"
)


def with_values(text: str) -> str:
    """A path with the values of its variables, quoted where necessary.

    Raises:
        PathError: a variable is used where none is allowed.
    """
    return _written_out(text, lambda variable, _word: variable.value) if isinstance(text, Filled) else text


def with_words(text: Filled) -> str:
    """The path with the variables' source text in place of their values, for messages without values.

    Raises:
        PathError: a variable is used where none is allowed.
    """
    return _written_out(text, lambda _variable, word: word)


def _written_out(text: Filled, value_of: Callable[[Variable, str], str]) -> str:
    pieces = _PIECE.split(text.source)
    for word, variable in text.variables.items():
        number = next(number for number, piece in enumerate(pieces) if word in piece)
        put = _in_quotes if number % 2 else _outside
        made = put("".join(pieces[:number]), pieces[number].partition(word), variable, value_of(variable, word))
        if made is None:
            column = len(text.with_references(text.source[: text.source.index(word)])) + 1
            message = f"{variable.reference} would be a part of the path's syntax: a variable is a value"
            raise PathError(message, column=column, hint=_HINT)
        pieces[number] = made
    return "".join(pieces)


def _in_quotes(before: str, around: tuple[str, str, str], _variable: Variable, value: str) -> str | None:
    """A value in a quoted text, which is a name or an operand; None if it is neither."""
    head, _, tail = around
    if head[0] == "`" or before.rstrip().endswith("=~"):
        return None
    return f"{head}{_escaped(value, head[0])}{tail}"


def _outside(_before: str, around: tuple[str, str, str], variable: Variable, value: str) -> str | None:
    """A value outside quotes: a name after a dot, else a number, true or false; None if it is neither."""
    head, _, tail = around
    if re.search(r"\.\s*$", head) and re.match(r"\s*(?:[.\[\])=!<>&|,]|$)", tail):
        return f"{head}'{_escaped(value, chr(39))}'{tail}"
    scalar = variable.scalar
    stands = re.search(r"(?:[\[(,:]|[<>=!]=|[<>=])\s*$", head) and re.match(r"\s*(?:[\]),:&|]|$)", tail)
    return f"{head}{json.dumps(scalar)}{tail}" if stands and scalar is not None else None


def _escaped(value: str, quote: str) -> str:
    return value.replace("\\", "\\\\").replace(quote, f"\\{quote}")

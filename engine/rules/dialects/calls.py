"""Functions of other languages for a constant, a part of a text or a type → their meaning."""

from __future__ import annotations

import json
from typing import Any, Final

from engine.rules.dialects.fields import keys_of
from engine.rules.dialects.meaning import BOOLEAN, Apply, Compare, Constant, Field, Node, Part, Position, Unclear
from engine.rules.dialects.tokens import number

_TIMES: Final = frozenset({
    "timestamp", "datetime", "date", "to datetime", "todatetime", "to timestamp", "date parse", "parse time", "time",
    "from iso8601 timestamp", "datetime fromisoformat", "fromisoformat",
})  # fmt: skip
_SPANS: Final = frozenset({"duration", "interval", "parse duration", "timespan", "totimespan"})
_COLUMNS: Final = frozenset({"col", "column", "field", "attr", "itemgetter"})
_JSON: Final = frozenset({
    "from json", "parse json", "json parse", "fromjson", "jsondecode", "json loads", "json decode",
})  # fmt: skip
_STARTS: Final = frozenset({"left", "substring", "substr", "slice", "mid", "str left"})
#: Type names of Python, JavaScript and Java.
_KINDS: Final = {
    "str": "string", "string": "string", "int": "number", "float": "number", "number": "number", "bool": "boolean",
    "boolean": "boolean", "dict": "object", "object": "object", "list": "array", "array": "array", "mapping": "object",
}  # fmt: skip
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def special(phrase: str, args: list[Node]) -> Node | None:
    """The meaning of a call of such a function; None for every other function.

    Raises:
        Unclear: the call has no meaning for its arguments.
    """
    first = args[0] if args else None
    constant = first.value if isinstance(first, Constant) else None
    if phrase in _SPANS and len(args) == 1 and isinstance(constant, str):
        return Constant(number(constant))
    if phrase in _TIMES and len(args) == 1:
        return first
    if phrase in _JSON and len(args) == 1 and isinstance(constant, str):
        return Constant(_decoded(constant))
    if phrase in _COLUMNS and len(args) == 1 and isinstance(constant, str):
        return _field((), constant)
    if phrase == "getattr" and len(args) > 1 and isinstance(first, Field) and isinstance(args[1], Constant):
        return _field(first.keys, str(args[1].value))
    if phrase in ("ago", "older than") and len(args) == 1 and isinstance(constant, (int, float)):
        return Apply("ago", Constant(span(constant)))
    return _part(phrase, args) or _of_kind(phrase, args)


def _field(keys: tuple[str | int | None, ...], text: str) -> Node:
    further = keys_of(text)
    if further is None:
        raise Unclear("a field was expected")
    return Field((*keys, *further))


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unclear(str(error)) from None


def _part(phrase: str, args: list[Node]) -> Node | None:
    """``LEFT(name, 4)``, ``name.slice(0, 4)``: a number of letters at the beginning or the end."""
    numbers = [arg.value for arg in args[1:] if isinstance(arg, Constant) and isinstance(arg.value, int)]
    if len(numbers) != len(args) - 1 or not numbers:
        return None
    if phrase == "right" and len(numbers) == 1:
        return Part(args[0], "ends_with", numbers[0])
    if phrase in ("left", "str left") and len(numbers) == 1:
        return Part(args[0], "starts_with", numbers[0])
    if phrase in _STARTS and len(numbers) == 2 and numbers[0] in (0, 1):
        length = numbers[1] - numbers[0] if phrase in ("slice", "substring") and numbers[0] == 0 else numbers[1]
        return Part(args[0], "starts_with", length)
    return None


def _of_kind(phrase: str, args: list[Node]) -> Node | None:
    if phrase in ("isinstance", "is instance") and len(args) == 2 and isinstance(args[1], (Field, Constant)):
        name = args[1].value if isinstance(args[1], Constant) else args[1].keys[0]
        return _typed(args[0], str(name))
    if len(args) != 1:
        return None
    if phrase in ("is number", "isnumber") and isinstance(args[0], (*BOOLEAN, Position)):  # Excel: it was found
        return _folded(args[0])
    return _typed(args[0], phrase[3:]) if phrase.startswith("is ") and phrase[3:] in _KINDS else None


def _folded(node: Node) -> Node:
    return Compare(node.operator, node.left, node.right, fold=True) if isinstance(node, Compare) else node


def _typed(value: Node, name: str) -> Node:
    if name not in _KINDS:
        raise Unclear(f"an unknown kind {name!r}")
    return Compare("type", value, Constant(_KINDS[name]))


def span(seconds: float) -> str:
    """Seconds as a duration, in the largest unit that divides them."""
    unit = next((each for each in "wdhm" if seconds and seconds % _SECONDS[each] == 0), "s")
    return f"{seconds / _SECONDS[unit]:g}{unit}"

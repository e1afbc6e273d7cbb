"""Comparisons, functions and methods of other languages → their meaning."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, Final

from engine.core.payload_schema import RUN_FIELDS
from engine.core.vocabulary import run_field
from engine.rules.dialects.fields import keys_of
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Call,
    Compare,
    Constant,
    Field,
    Node,
    Not,
    Unclear,
    every,
    exists,
    list_of,
    opposite,
    some,
    truth,
)
from engine.rules.dialects.tokens import number
from engine.rules.dialects.words import FUNCTIONS, Word, known_operator, operator_of, phrase_of, suffix

_FLIPPED: Final = {
    "lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte", "eq": "eq", "contains": "contains", "matches": "matches",
    "starts_with": "starts_with", "ends_with": "ends_with",
}  # fmt: skip
_OPERATORS: Final = frozenset({*_FLIPPED, "in", "type", "older_than", "newer_than", "before", "after"})
#: Operators that test a value's state; their operand, if any, says yes or no.
STATES: Final = frozenset({"exists", "null", "empty", "true", "false"})
_YES: Final = frozenset({"true", "yes", "on", "1", "y", "", "present", "exists", "none"})
_NO: Final = frozenset({"false", "no", "off", "0", "n"})
#: Type names of Python, JavaScript and Java.
_KINDS: Final = {
    "str": "string", "string": "string", "int": "number", "float": "number", "number": "number", "bool": "boolean",
    "boolean": "boolean", "dict": "object", "object": "object", "list": "array", "array": "array", "mapping": "object",
}  # fmt: skip
#: Python's functions of ``re``, with the anchors they imply.
_PYTHON: Final = {"re match": ("^", ""), "re search": ("", ""), "re fullmatch": ("^", "$")}
_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
#: Constants that are often written without quotes.
_VALUES: Final = frozenset({
    "error", "success", "pending", "interrupted", "llm", "chain", "tool", "retriever", "embedding", "prompt", "parser",
    "string", "number", "object", "array", "boolean", "failed", "ok",
})  # fmt: skip
#: Operator of a wildcard pattern by whether any text may precede and follow.
_AFFIXES: Final = {
    (True, True): "contains",
    (True, False): "ends_with",
    (False, True): "starts_with",
    (False, False): "eq",
}
_NOT_AT_START: Final = re.compile(r"\^\(\?!(\.\*)?((?:[^()\\]|\\.|\([^()]*\))+)\)(?:\.[*+]\$?)?")


def compare(word: Word, left: Node, right: Node | None = None) -> Node:
    """The comparison of two sides with an operator.

    Raises:
        Unclear: the operator has no meaning for them.
    """
    right = right if right is None or isinstance(left, Constant) else bare_word(right)
    if isinstance(left, Constant) and isinstance(right, Constant) and run_field(str(left.value)) is not None:
        left = Field((left.value,))  # SQL: "status" = 'error'
    if word.name == "eq" and isinstance(left, Field) and (found := suffix(str(left.keys[-1]), "__")) is not None:
        left, word = Field((*left.keys[:-1], *found[0].split("__"))), found[1]  # Django: Q(latency__gt=10)
    made = _state(word, left, right) or _compared(word.name, left, right, word.fold)
    return opposite(made) if word.negated else made


def bare_word(node: Node) -> Node:
    """A word without quotes to the right of an operator is a text, unless it is a field."""
    word = node.keys[0] if isinstance(node, Field) and len(node.keys) == 1 else None
    is_text = isinstance(word, str) and (
        word.lower() in _VALUES or (word not in RUN_FIELDS and operator_of(word) is None and word.isidentifier())
    )
    return Constant(word) if is_text else node


def _state(word: Word, left: Node, right: Node | None) -> Node | None:
    """The comparison with an operator that tests a state, or of what is already true or false."""
    name = word.name
    if isinstance(left, BOOLEAN):
        return left if _wanted(name, right) else opposite(left)
    if name not in STATES:
        return None
    states: dict[str, Node] = {
        "empty": Compare("empty", left, Constant(True)),  # noqa: FBT003
        "true": Compare("eq", left, Constant(True)),  # noqa: FBT003
        "false": Compare("eq", left, Constant(False)),  # noqa: FBT003
    }
    made = states.get(name) or exists(left)
    return made if yes_or_no(right) is (name != "null") else opposite(made)


def _wanted(name: str, right: Node | None) -> bool:
    """Whether a comparison of what is true or false, or of a number of results, says that it is true."""
    match name, right:
        case "exists" | "true" | "null" | "empty" | "false", _:
            return yes_or_no(right) is (name in ("exists", "true"))
        case "eq", Constant(bool() as value):
            return value
        case ("gt", Constant(0)) | ("gte", Constant(1)):
            return True
        case ("eq" | "lte", Constant(0)) | ("lt", Constant(1)):
            return False
    raise Unclear("what is true or false is compared")


def yes_or_no(node: Node | None) -> bool:
    """The boolean meant by ``yes``, ``"true"``, ``1`` or nothing.

    Raises:
        Unclear: it is neither yes nor no.
    """
    value = node.value if isinstance(node, Constant) else node
    text = str(value).lower() if value is None or isinstance(value, (bool, int, str)) else "?"
    if text not in _YES | _NO:
        raise Unclear("neither yes nor no")
    return text in _YES


def _compared(name: str, left: Node, right: Node | None, fold: bool) -> Node:  # noqa: FBT001 - a flag passed on
    if right is None:
        raise Unclear(f"{name} needs a second value")
    constant = right.value if isinstance(right, Constant) else None
    match name, left, right:
        case _, Call("position", (value, part)), _:
            return _position(Compare("contains", value, part), (name, constant))
        case "eq", Call("starts_with" | "ends_with" as end, (value, Constant(length))), _ if _has(constant, length):
            return Compare(end, value, right)
        case "lt" | "lte" | "gt" | "gte", _, Call("ago", (duration,)):
            return Compare("newer_than" if name in ("gt", "gte") else "older_than", left, duration)
        case "length" | "count", _, _:
            return Compare("eq", Call("length", (left,)), right)
        case "contains_any" | "contains_all" | "between", _, _:
            return _of_several(name, left, _items(right), fold)
        case "like", _, _ if isinstance(constant, str):  # SQL's % and _, or a shell's * and ?
            sql = "%" in constant or not re.search(r"[*?]", constant)
            return glob(left, constant, "%_" if sql else "*?", fold=fold)
        case _ if name in _OPERATORS:
            return _with_operator(name, left, right, fold)
    raise Unclear(f"{name} is no comparison")


def _with_operator(name: str, left: Node, right: Node, fold: bool) -> Node:  # noqa: FBT001 - a flag passed on
    """A comparison with one of our operators."""
    match name, left, right:
        case _, Constant() | Call("list"), _ if not isinstance(right, Constant) and not _is_list(right):
            return _flipped(name, left, right, fold)
        case "contains", _, _ if _is_list(right):  # jq: all of them
            return _of_several("contains_all", left, _items(right), fold)
        case "eq", _, Constant():
            return _equal(left, right, fold)
        case "eq", _, Call("list"):
            return Compare("in", left, right, fold)
        case "in", _, Constant(value) if not isinstance(value, list):
            return Compare("in", left, Constant([value]), fold)
        case "matches", _, Constant(str() as pattern):
            return _matches(left, pattern, fold)
    return Compare(name, left, right, fold)


def _has(text: Any, length: Any) -> bool:
    return isinstance(text, str) and len(text) == length


def _is_list(node: Node) -> bool:
    match node:
        case Call("list") | Constant(list()):
            return True
    return False


def _items(node: Node) -> list[Node]:
    if isinstance(node, Call) and node.name == "list":
        return list(node.args)
    if not isinstance(node, Constant):
        raise Unclear("a list was expected")
    return [Constant(value) for value in (node.value if isinstance(node.value, list) else [node.value])]


def _of_several(name: str, left: Node, parts: list[Node], fold: bool) -> Node:  # noqa: FBT001 - a flag passed on
    if name == "between":
        if len(parts) != 2:
            raise Unclear("a range has two ends")
        return every(Compare("gte", left, parts[0]), Compare("lte", left, parts[1]))
    joined = some if name == "contains_any" else every
    return joined(*(Compare("contains", left, part, fold) for part in parts))


def _flipped(name: str, left: Node, right: Node, fold: bool) -> Node:  # noqa: FBT001 - a flag passed on
    """A comparison of a constant with something else, with the constant on the right."""
    if name == "contains" and _is_list(left):
        return _compared("in", right, left, fold)
    if name == "in":
        return Compare("contains", right, left, fold)
    return _compared(_FLIPPED[name], right, left, fold) if name in _FLIPPED else Compare(name, left, right, fold)


def _position(found: Node, asked: tuple[str, Any]) -> Node:
    """``x.indexOf("a") !== -1`` and the like."""
    match asked:
        case ("gt", -1) | ("gte", 0):
            return found
        case ("eq", -1) | ("lt", 0) | ("lte", -1):
            return Not(found)
        case ("eq", 0) if isinstance(found, Compare):
            return replace(found, operator="starts_with")
    raise Unclear("a position is compared")


def _equal(left: Node, right: Constant, fold: bool) -> Node:  # noqa: FBT001 - a flag passed on
    match left, right.value:
        case _, None:
            return Not(exists(left))
        case Call("type", (value,)), kind:
            return Not(exists(value)) if kind == "undefined" else Compare("type", value, right)
        case Call("lower" | "upper", (value,)), str():
            return Compare("eq", value, right, fold=True)
        case _, list():
            return Compare("in", left, right, fold)
    return Compare("eq", left, right, fold)


def _matches(left: Node, pattern: str, fold: bool) -> Node:  # noqa: FBT001 - a flag passed on
    """A pattern, maybe in slashes with flags. A leading negative lookahead becomes a negation."""
    if (slashes := re.fullmatch(r"/(.*)/([a-z]*)", pattern, re.DOTALL)) is not None:
        pattern = ("(?i)" if "i" in slashes[2] else "") + slashes[1]
    if pattern.startswith("*"):  # not a regular expression but a wildcard pattern
        return glob(left, pattern, fold=fold)
    if (refused := _NOT_AT_START.fullmatch(pattern)) is None:
        return Compare("matches", left, Constant(pattern), fold)
    inner = f"(?:{refused[2]})" if "|" in refused[2] and not refused[1] else refused[2]
    return Not(Compare("matches", left, Constant(inner if refused[1] else f"^{inner}"), fold))


def glob(left: Node, pattern: str, marks: str = "*?", *, fold: bool = False) -> Node:
    """A wildcard pattern as the simplest equivalent operator. ``marks``: for any text, and for any letter."""
    many, one = marks[0], marks[1]
    inner = pattern.strip(many)
    if not inner:
        return exists(left)
    if many not in inner and one not in pattern:
        return Compare(_AFFIXES[pattern.startswith(many), pattern.endswith(many)], left, Constant(inner), fold)
    text = "".join({many: ".*", one: "."}.get(letter) or re.escape(letter) for letter in pattern)
    return Compare("matches", left, Constant(f"^{text}$".removeprefix("^.*").removesuffix(".*$")), fold)


def anchored(pattern: str) -> str:
    """A whole-text pattern as a search pattern, with anchors. One that has an anchor stays unchanged."""
    if pattern.startswith("^") or pattern.endswith("$"):
        return pattern
    if "|" in pattern:
        return f"^(?:{pattern})$"
    start, end = not pattern.startswith(".*"), not pattern.endswith(".*") or pattern.endswith("\\.*")
    inner = pattern if end else pattern.removesuffix(".*")
    return f"{'^' if start else ''}{inner.removeprefix('.*')}{'$' if end else ''}" or "."


def fold(node: Node) -> Node:
    """The same comparison without regard to case."""
    if isinstance(node, Compare):
        return replace(node, fold=True)
    return Not(fold(node.inner)) if isinstance(node, Not) else node


def chosen(condition: Node, then: Node, otherwise: Node) -> Node:
    """A choice; between true and false it is the condition itself."""
    match then, otherwise:
        case Constant(True), Constant(False):
            return condition
        case Constant(False), Constant(True):
            return opposite(condition)
    return Call("if", (condition, then, otherwise))


def call(name: str, args: list[Node]) -> Node:
    """A call of a function, or of a method with its value as the first argument.

    Raises:
        Unclear: the function is not known.
    """
    phrase = phrase_of(name)
    conditions = bool(args) and all(isinstance(each, BOOLEAN) for each in args)
    match FUNCTIONS.get(phrase), args:
        case "length", [found] if conditions:
            return found
        case "length" | "lower" | "upper" | "trim" | "number" | "string" | "type" as ours, [value]:
            return Call(ours, (value,))
        case "itself", [value, *_]:
            return value
        case "and" | "not", _ if conditions or (phrase == "not" and args):
            return every(*args) if phrase != "not" else Not(every(*map(truth, args)))
        case "or" | "nor", _ if conditions:
            return some(*args) if phrase != "nor" else Not(some(*args))
        case "or" | "default", [value, otherwise]:
            return Call("default", (value, otherwise))
        case "if", [condition, then, otherwise]:
            return chosen(truth(condition), then, otherwise)
        case "position", [Constant() as part, value] | [value, part]:  # Excel, SQL; other languages
            return Call("position", (value, part))
        case "field", [value, *more]:
            return _field(value, more)
    return _of_text(phrase, args) or _of_kind(phrase, args) or _operator(name, args)


def _field(value: Node, more: list[Node]) -> Node:
    """``col("status")``, ``run.get("status")``, ``run.get("status", "")``."""
    match value, more:
        case Constant(str() as text), []:
            return Field(keys_of(text) or ("?",))
        case Field(keys), [Constant(str() | int() as key), *otherwise]:
            found = Field((*keys, key))
            return Call("default", (found, otherwise[0])) if otherwise else found
        case _, []:
            return value
    raise Unclear("a field was expected")


def _of_text(phrase: str, args: list[Node]) -> Node | None:
    """Patterns, parts of texts, and constants that are written as texts."""
    match FUNCTIONS.get(phrase), args:
        case _, [Constant(str() as pattern), value, *flags] if phrase in _PYTHON:
            start, end = _PYTHON[phrase]
            text = f"{start}{pattern.removeprefix(start)}"
            return Compare("matches", value, Constant(f"{text.removesuffix(end)}{end}"), fold=bool(flags))
        case "regex", [value, pattern, *flags]:
            return compare(Word("matches", fold=any("i" in str(flag) for flag in flags)), value, pattern)
        case "subset", [part, whole]:
            return compare(Word("contains_all"), whole, part)
        case "starts_with" | "ends_with" as end, [value, Constant(int()) as length]:
            return Call(end, (value, length))
        case "part", [value, Constant(0 | 1), Constant(int()) as length]:
            return Call("starts_with", (value, length))
        case "duration", [Constant(str() as text)]:
            return Constant(number(text))
        case "ago", [Constant(value)]:
            return Call("ago", (Constant(_span(number(str(value).lower()))),))
        case "json", [Constant(str() as text)]:
            return Constant(decoded(text))
    return None


def decoded(text: str) -> Any:
    """A value written as JSON.

    Raises:
        Unclear: it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unclear(str(error)) from None


def _span(seconds: float) -> str:
    """Seconds as a duration, in the largest unit that divides them."""
    unit = next((unit for unit, size in _SECONDS.items() if seconds and seconds % size == 0), "s")
    return f"{seconds / _SECONDS[unit]:g}{unit}"


def _of_kind(phrase: str, args: list[Node]) -> Node | None:
    """``isinstance(name, str)``, ``isString(name)``."""
    kind = phrase.removeprefix("is ")
    match args:
        case [value, Constant(str() as named) | Field((str() as named, *_))] if FUNCTIONS.get(phrase) == "kind":
            return Compare("type", value, Constant(_KINDS.get(named, named)))
        case [Call("position") | Compare() as found] if phrase in ("is number", "isnumber"):  # Excel: it was found
            return fold(truth(found))
        case [value] if kind != phrase and kind in _KINDS:
            return Compare("type", value, Constant(_KINDS[kind]))
    return None


def _operator(name: str, args: list[Node]) -> Node:
    word = known_operator(name.removeprefix("is") if len(args) == 1 and operator_of(name) is None else name)
    match args:
        case [value]:
            if isinstance(value, Constant) and (keys := keys_of(str(value.value))) is not None:
                value = Field(keys)  # exists("run.error")
            return compare(Word("exists", word.negated) if word.name == "contains" else word, value)  # CEL: has()
        case [value, other]:
            return compare(word, value, other)
        case [value, *others] if word.name in ("between", "in", "contains_any", "contains_all"):
            return compare(word, value, list_of(others))
    raise Unclear("a number of arguments")

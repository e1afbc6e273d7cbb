"""Comparisons, functions and methods of other languages → their meaning."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from engine.core.vocabulary import run_field
from engine.rules.dialects.calls import special
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Apply,
    Choice,
    Compare,
    Constant,
    Default,
    Field,
    Items,
    Node,
    Not,
    Operator,
    Part,
    Position,
    Unclear,
    every,
    opposite,
    some,
)
from engine.rules.dialects.words import Word, operator_of, phrase_of

_FLIPPED: Final[dict[str, Operator]] = {"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte"}
_PARTS: Final = frozenset({"contains", "starts_with", "ends_with", "matches"})
#: Names of functions of one value → our function.
FUNCTIONS: Final = {
    name: ours
    for ours, names in {
        "length": "len,length,size,count,strlen,char length,character length,array length,cardinality,array size,utf8 "
        "length,json array length,string length,lengthof",
        "lower": "lower ascii,lower,lowercase,lcase,tolower,to lower,to lower case,to lowercase,downcase,casefold,"
        "ascii downcase",
        "upper": "upper ascii,upper,uppercase,ucase,toupper,to upper,to upper case,to uppercase,upcase,ascii upcase",
        "trim": "trim,strip",
        "number": "number,int,float,tonumber,to number,parse int,parse float,to int,to float,double,toint,todouble",
        "string": "str,string,tostring,to string,text",
        "type": "typeof,type,type of",
        "itself": "bool,boolean,list,array,set,frozenset,sorted,can,try,nullif,ensure list,total seconds,seconds,"
        "tojson,to json,keyword,value,values,dyn,to array,entries",
    }.items()
    for name in names.split(",")
}
_DEFAULTS: Final = frozenset({
    "coalesce", "ifnull", "nvl", "default", "or else", "or value", "if null", "get or else", "else",
})  # fmt: skip
_AND_OR: Final = {"and": every, "all": every, "all of": every, "or": some, "any": some, "any of": some}
_REGEX_CALLS: Final = {"match": "^", "search": "", "fullmatch": "^$"}


def compare(word: Word, left: Node, right: Node | None) -> Node:
    """The comparison of two sides with an operator.

    Raises:
        Unclear: the operator has no meaning for them.
    """
    if isinstance(left, Constant) and isinstance(right, Constant):
        left = _quoted_field(left)
    made = _compare(word, left, right)
    return opposite(made) if word.negated else made


def _quoted_field(node: Constant) -> Node:
    """SQL: ``"status" = 'error'``. Two constants are never compared."""
    return Field((node.value,)) if isinstance(node.value, str) and run_field(node.value) is not None else node


def _compare(word: Word, left: Node, right: Node | None) -> Node:
    name = word.name
    if name in ("exists", "null", "empty", "true", "false"):
        return _state(name, left, right)
    if right is None:
        raise Unclear(f"{name} needs a second value")
    if isinstance(left, (Position, Part)):
        return _position(left, name, right) if isinstance(left, Position) else _part(left, name, right)
    if isinstance(right, Apply) and right.name == "ago":
        return _ago(name, left, right.value)
    return _with_operand(word, left, right)


def _ago(name: str, left: Node, duration: Node) -> Node:
    if name not in _FLIPPED:
        raise Unclear("a time that passes")
    return Compare("newer_than" if name in ("gt", "gte") else "older_than", left, duration)


def _with_operand(word: Word, left: Node, right: Node) -> Node:
    name = word.name
    if name in ("contains_any", "contains_all"):
        joined = some if name == "contains_any" else every
        return joined(*(Compare("contains", left, each, word.fold) for each in _items(right)))
    if name == "between":
        if len(ends := _items(right)) != 2:
            raise Unclear("a range has two ends")
        low, high = ends
        return every(Compare("gte", left, low), Compare("lte", left, high))
    if name == "like":
        return _like(left, right, fold=word.fold)
    if name in ("length", "count"):
        return Compare("eq", Apply("length", left), right)
    if name not in _OPERATORS:
        raise Unclear(f"{name} is no comparison")
    return _sides(name, left, right, fold=word.fold)


_OPERATORS: Final[dict[str, Operator]] = {
    name: name
    for name in ("eq", "lt", "lte", "gt", "gte", "in", "contains", "starts_with", "ends_with", "matches", "type",
                 "older_than", "newer_than", "before", "after")
}  # fmt: skip


def _sides(name: str, left: Node, right: Node, *, fold: bool) -> Node:
    """The comparison with its constant, if any, on the right."""
    if isinstance(left, (Constant, Items)) and not isinstance(right, Constant):
        if name == "in":
            return Compare("contains", right, left, fold)
        if name == "contains" and _is_list(left):
            return _sides("in", right, left, fold=fold)
        if name in _FLIPPED or name == "eq" or name in _PARTS:
            return _sides(_FLIPPED.get(name, name), right, left, fold=fold)
    if name == "contains" and _is_list(right):  # jq: all of them
        return every(*(Compare("contains", left, each, fold) for each in _items(right)))
    if name == "eq" and isinstance(right, Constant):
        return _equal(left, right, fold=fold)
    if name in ("eq", "in") and _is_list(right):
        return Compare("in", left, right, fold)
    if name == "in" and isinstance(right, Constant):
        right = Constant([right.value])
    if name == "matches" and isinstance(right, Constant) and isinstance(right.value, str):
        return _matches(left, javascript(right.value), fold=fold)
    if isinstance(left, BOOLEAN) and name in ("gt", "gte") and right in (Constant(0), Constant(1)):
        return left
    if isinstance(left, BOOLEAN):
        raise Unclear("what is true or false is compared")
    return Compare(_OPERATORS[name], left, right, fold)


_LOOKAHEAD: Final = re.compile(r"\^\(\?!((?:[^()\\]|\\.|\([^()]*\))+)\)(?:\.[*+]\$?)?")
_HELD: Final = re.compile(r"\^\(\?!(?:\.\*)((?:[^()\\]|\\.)+)\)(?:\.[*+]\$?)?")


def _matches(left: Node, pattern: str, *, fold: bool) -> Node:
    """A pattern. A leading negative lookahead becomes a negation."""
    if pattern.startswith("*"):  # not a regular expression but a wildcard pattern
        return glob(left, pattern, "*", "?", fold=fold)
    if (held := _HELD.fullmatch(pattern)) is not None:
        return Not(Compare("matches", left, Constant(held[1]), fold))
    if (ahead := _LOOKAHEAD.fullmatch(pattern)) is not None:
        inner = f"^{ahead[1]}" if "|" not in ahead[1] else f"^(?:{ahead[1]})"
        return Not(Compare("matches", left, Constant(inner), fold))
    return Compare("matches", left, Constant(pattern), fold)


def _equal(left: Node, right: Constant, *, fold: bool) -> Node:
    if right.value is None:
        return Not(Compare("exists", left, Constant(True)))  # noqa: FBT003
    if isinstance(right.value, bool) and isinstance(left, BOOLEAN):
        return left if right.value else opposite(left)
    if isinstance(left, Apply) and left.name == "type":
        there = Compare("exists", left.value, Constant(True))  # noqa: FBT003
        return Not(there) if right.value == "undefined" else Compare("type", left.value, right)
    if isinstance(left, Apply) and left.name in ("lower", "upper") and isinstance(right.value, str):
        return Compare("eq", left.value, right, fold=True)
    if _is_list(right):
        return Compare("in", left, right, fold)
    return Compare("eq", left, right, fold)


def javascript(pattern: str) -> str:
    """A pattern, maybe in slashes with flags."""
    found = re.fullmatch(r"/(.*)/([a-z]*)", pattern, re.DOTALL)
    return pattern if found is None else ("(?i)" if "i" in found[2] else "") + found[1]


def _state(name: str, left: Node, right: Node | None) -> Node:
    """Operators that test a value's state; their operand says yes or no."""
    wanted = yes_or_no(right)
    if isinstance(left, BOOLEAN):  # a search that found something, or not
        return left if wanted is (name in ("exists", "true")) else opposite(left)
    if name in ("true", "false"):
        made: Node = Compare("eq", left, Constant(name == "true"))
    elif name == "empty":
        made = Compare("empty", left, Constant(True))  # noqa: FBT003
    else:
        made = Compare("exists", left, Constant(True))  # noqa: FBT003
        made = Not(made) if name == "null" else made
    return made if wanted else opposite(made)


def yes_or_no(node: Node | None) -> bool:
    """The boolean meant by ``yes``, ``"true"``, ``1`` or nothing.

    Raises:
        Unclear: it is neither yes nor no.
    """
    if node is None or node == Constant(None):
        return True
    if isinstance(node, Constant) and isinstance(node.value, (bool, int, str)):
        text = str(node.value).lower()
        if text in ("true", "yes", "on", "1", "y", "", "present", "exists"):
            return True
        if text in ("false", "no", "off", "0", "n"):
            return False
    raise Unclear("neither yes nor no")


def _items(node: Node) -> list[Node]:
    if isinstance(node, Items):
        return list(node.parts)
    if not isinstance(node, Constant):
        raise Unclear("a list was expected")
    values = node.value if isinstance(node.value, list) else [node.value]
    return [Constant(value) for value in values]


def _is_list(node: Node) -> bool:
    return isinstance(node, Items) or (isinstance(node, Constant) and isinstance(node.value, list))


def _position(left: Position, name: str, right: Node) -> Node:
    """``x.indexOf("a") !== -1`` and the like."""
    found = Compare("contains", left.value, left.part)
    asked = (name, right.value if isinstance(right, Constant) else None)
    if asked in (("gt", -1), ("gte", 0)):
        return found
    if asked in (("eq", -1), ("lt", 0), ("lte", -1)):
        return Not(found)
    if asked == ("eq", 0):
        return Compare("starts_with", left.value, left.part)
    raise Unclear("a position is compared")


def _part(left: Part, name: str, right: Node) -> Node:
    """``LEFT(name, 4) = "chat"``."""
    text = right.value if isinstance(right, Constant) else None
    if name != "eq" or not isinstance(text, str) or len(text) != left.length:
        raise Unclear("a part of a text is compared")
    return Compare(left.operator, left.value, right)


def _like(left: Node, right: Node, *, fold: bool) -> Node:
    """SQL's ``%`` and ``_``, or a shell's ``*`` and ``?``."""
    if not isinstance(right, Constant) or not isinstance(right.value, str):
        raise Unclear("a pattern was expected")
    sql = "%" in right.value or not re.search(r"[*?]", right.value)
    many, one = ("%", "_") if sql else ("*", "?")
    return glob(left, right.value, many, one, fold=fold)


def glob(left: Node, pattern: str, many: str, one: str, *, fold: bool = False) -> Node:
    """A wildcard pattern as the simplest equivalent operator."""
    inner = pattern.strip(many)
    if many not in inner and one not in pattern:
        return _affixes(left, pattern, inner, many, fold=fold)
    parts = [
        re.escape(part) if part not in (many, one) else (".*" if part == many else ".") for part in _split(pattern)
    ]
    text = f"^{''.join(parts)}$".removeprefix("^.*").removesuffix(".*$")
    return Compare("matches", left, Constant(text), fold)


def _affixes(left: Node, pattern: str, inner: str, many: str, *, fold: bool) -> Node:
    if not inner:
        return Compare("exists", left, Constant(True))  # noqa: FBT003
    start, end = pattern.startswith(many), pattern.endswith(many)
    name: Operator = "contains" if start and end else "ends_with" if start else "starts_with" if end else "eq"
    return Compare(name, left, Constant(inner), fold)


def _split(pattern: str) -> list[str]:
    return re.findall(r".", pattern, re.DOTALL)


# --- functions and methods ------------------------------------------------------------------------------------------


def call(name: str, args: list[Node]) -> Node:
    """A function call.

    Raises:
        Unclear: the function is not known.
    """
    phrase = phrase_of(name)
    if (found := special(phrase, args)) is not None:
        return found
    if phrase in ("not", "nor") and args:
        return Not(some(*args)) if phrase == "nor" else Not(every(*args))
    if phrase in _AND_OR and args and all(isinstance(each, BOOLEAN) for each in args):
        return _AND_OR[phrase](*args)
    if phrase.startswith("re ") and len(args) >= 2:
        return _python_regex(phrase.removeprefix("re "), args)
    if phrase in _DEFAULTS and len(args) == 2:
        return Default(args[0], args[1])
    if phrase in ("if", "iif", "iff", "cond", "ternary") and len(args) == 3:
        return Choice(args[0], args[1], args[2])
    if phrase in ("select", "filter", "where") and len(args) == 1:
        return args[0]
    if (
        phrase in ("index of", "index", "find", "strpos", "instr", "indexof", "locate", "charindex", "position")
        and len(args) == 2
    ):
        value, part = args[::-1] if isinstance(args[0], Constant) else args  # Excel, SQL
        return Position(value, part)
    return _one_value(phrase, args) or _operator(name, args)


def _one_value(phrase: str, args: list[Node]) -> Node | None:
    if (len(args) != 1 and phrase != "nullif") or (ours := FUNCTIONS.get(phrase)) is None:
        return None
    if ours == "length" and isinstance(args[0], BOOLEAN):
        return args[0]
    return args[0] if ours == "itself" else Apply(ours, args[0])


def _python_regex(name: str, args: list[Node]) -> Node:
    pattern, value = args[0], args[1]
    if not isinstance(pattern, Constant) or name not in _REGEX_CALLS:
        raise Unclear(f"re.{name}")
    edges = _REGEX_CALLS[name]
    text = str(pattern.value)
    text = ("^" if "^" in edges and not text.startswith("^") else "") + text
    text += "$" if "$" in edges and not text.endswith("$") else ""
    return Compare("matches", value, Constant(text), fold=len(args) > 2)


def _operator(name: str, args: list[Node]) -> Node:
    word = operator_of(name.removeprefix("is") if len(args) == 1 and operator_of(name) is None else name)
    if word is None or not args:
        raise Unclear(f"an unknown function {name!r}")
    if len(args) == 1:
        word = Word("exists", word.negated) if word.name == "contains" else word  # CEL: has(run.error)
        return compare(word, _named(args[0]), None)
    if word.name in ("between", "in", "contains_any", "contains_all") and len(args) > 2:
        return compare(word, args[0], Items(tuple(args[1:])))
    if len(args) > 2:
        raise Unclear("too many arguments")
    return compare(word, args[0], args[1])


def _named(node: Node) -> Node:
    """``exists("run.error")``: a field that is named by a text."""
    from engine.rules.dialects.fields import keys_of

    if isinstance(node, Constant) and isinstance(node.value, str) and (keys := keys_of(node.value)) is not None:
        return Field(keys)
    return node


def method(value: Node, name: str, args: list[Node]) -> Node:
    """A method call.

    Raises:
        Unclear: the method is not known.
    """
    phrase = phrase_of(name)
    if phrase == "test" and isinstance(value, Constant) and len(args) == 1:
        return Compare("matches", args[0], Constant(javascript(str(value.value))))
    if phrase in ("test", "re match", "match", "is match") and args and not isinstance(value, Constant):
        return compare(Word("matches", fold="i" in _flags(args[1:])), value, args[0])
    if phrase in ("issubset", "subset of", "is subset") and len(args) == 1:
        return compare(Word("contains_all"), args[0], value)
    if phrase in ("or", "catch") and len(args) == 1:
        return Default(value, args[0])
    if phrase in ("get", "value", "field") and args and isinstance(value, Field) and isinstance(args[0], Constant):
        found = Field((*value.keys, *_more(args[0].value)))
        return Default(found, args[1]) if len(args) > 1 else found
    return call(name, [value, *args])


def _flags(args: list[Node]) -> str:
    return str(args[0].value) if args and isinstance(args[0], Constant) else ""


def _more(value: Any) -> tuple[str | int, ...]:
    if not isinstance(value, (str, int)):
        raise Unclear("a key was expected")
    return (value,)


def fold(node: Node) -> Node:
    """The same comparison without regard to case."""
    if isinstance(node, Compare):
        return replace(node, fold=True)
    return Not(fold(node.inner)) if isinstance(node, Not) else node

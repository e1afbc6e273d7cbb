"""Warnings about operands: values unknown to LangSmith, a list compared with one value, numbers meant as texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.core.json_text import is_number
from engine.core.payload_schema import VALUE_SYNONYMS, VALUES, Kind, Step, kind_at, run_steps, statistics_steps
from engine.core.suggest import did_you_mean
from engine.core.vocabulary import EVENT_FIELDS, ROUTE_WORDS
from engine.rules.jsonpath.write import write_look, write_steps

_EQUAL: Final = frozenset({"eq", "ne", "in", "not_in"})
_SCALAR: Final = _EQUAL | frozenset({
    "lt", "lte", "gt", "gte", "between", "starts_with", "ends_with", "matches", "before", "after", "older_than",
    "newer_than",
})  # fmt: skip
#: Jinja's names of comparisons → operators.
JINJA: Final = {"lteq": "lte", "gteq": "gte", "notin": "not_in"}
_SYMBOLS: Final = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "not_in": "not in",
    "matches": "=~",
}
_SLASHES: Final = re.compile(r"/(.+)/([a-z]*)", re.DOTALL)
#: How JSON writes a number; YAML reads more as numbers than that.
_AS_WRITTEN: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d*[1-9]|\.0)?")
_ARTICLE: Final[dict[Kind, str]] = {
    "text": "a text", "number": "a number", "boolean": "true or false", "time": "a time", "list": "a list",
    "object": "an object",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One comparison of a value, and how it is written.

    ``bare``: an expression reads the value; ``inline``: the comparison is inside the expression. ``within``: it is in
    a path's filter, where ``@`` replaces that many steps.
    """

    steps: Sequence[Step]
    operator: str
    operand: Any
    bare: bool = False
    inline: bool = False
    within: int = 0

    @property
    def path(self) -> str:
        """The value's path as people write it."""
        return self.further()

    @property
    def sign(self) -> str:
        """The operator as people write it."""
        return _SYMBOLS.get(self.operator, self.operator) if self.inline or self.within else self.operator

    def further(self, *steps: Step) -> str:
        """The value's path with more steps appended."""
        whole = (*self.steps, *steps)
        if self.bare:
            return write_look(whole)
        return f"@{write_steps(whole[self.within :])[1:]}" if self.within else write_steps(whole)


#: Message, hint, and the index in the operand if it is a list.
Finding = tuple[str, str, int | None]


def findings(asked: Asked) -> Iterator[Finding]:
    """The warnings about one comparison."""
    kind = kind_at(asked.steps)
    yield from _unknown_values(asked)
    if kind in ("list", "object"):
        yield from _one_of_many(asked, kind)
    elif isinstance(asked.operand, list) and asked.operator in ("eq", "ne"):
        yield from _whole_list(asked, kind)
    if asked.operator == "matches" and isinstance(asked.operand, str):
        yield from _slashes(asked.operand)


def number_slip(asked: Asked, written: str, value: Any) -> tuple[str, str] | None:
    """Message and hint for a number that was meant as a text, such as a version; None if it is fine."""
    if asked.operator not in _EQUAL | {"contains"} or not is_number(value) or _AS_WRITTEN.fullmatch(written):
        return None
    if kind_at(asked.steps) == "number":
        return None
    return f"{written} without quotes is the number {value:g}", f'write a text in quotes: "{written}"'


def _unknown_values(asked: Asked) -> Iterator[Finding]:
    own = run_steps(asked.steps)
    field = own[0] if own is not None and len(own) == 1 else None
    if field not in VALUES or asked.operator not in _EQUAL:
        return
    many = isinstance(asked.operand, list)
    known = VALUES[str(field)]
    for index, value in enumerate(asked.operand if many else [asked.operand]):
        if isinstance(value, str) and value not in known:
            hint = did_you_mean(value, known, synonyms=VALUE_SYNONYMS if _meant(value, known) else {})
            yield f"LangSmith's runs have no {field} {value!r}", hint, index if many else None


def _meant(value: str, known: frozenset[str]) -> bool:
    return VALUE_SYNONYMS.get(value.lower()) in known


def _one_of_many(asked: Asked, kind: Kind) -> Iterator[Finding]:
    """One value compared with a list or an object."""
    operand = asked.operand
    parts = operand if isinstance(operand, list) and asked.operator in ("in", "not_in") else [operand]
    whole = asked.operator in _EQUAL and any(part is None or isinstance(part, (list, dict)) for part in parts)
    if whole or asked.operator not in _SCALAR:
        return
    yield f"{asked.path} is {_ARTICLE[kind]}, and {asked.sign} asks about one value", _inside(asked), None


def _inside(asked: Asked) -> str:
    """The hint: which part of the list or object to compare."""
    steps, own = tuple(asked.steps), run_steps(asked.steps)
    statistics = statistics_steps(steps)
    if statistics is not None:
        return f"write {asked.further(*(('avg',) if statistics else ('KEY', 'avg')))}, or n for how many there are"
    if steps == ("event",):
        webhook = "payload.event" if asked.bare else "$.payload.event"
        return f"it has {_listed(EVENT_FIELDS)}; a webhook's own key of that name is {webhook}"
    if steps == ("route",):
        return f"it has {_listed(ROUTE_WORDS)}"
    if steps[0] == "feedback":
        return f"write {asked.further(*(('score',) if len(steps) > 1 else ('KEY', 'score')))}"
    if kind_at(steps) == "list" and asked.bare:
        return f"write VALUE in {asked.path}" if asked.inline else "write contains: VALUE"
    if kind_at(steps) == "list" and asked.within:
        return f"write {asked.path}[?@ {asked.sign} {asked.operand!r}]"
    if kind_at(steps) == "list":
        return f"write {asked.further(None)}"
    if own == ():
        return f"write {asked.further('name')}"
    return f"write {asked.further(*(('metadata', 'KEY') if own == ('extra',) else ('KEY',)))}"


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


def _whole_list(asked: Asked, kind: Kind | None) -> Iterator[Finding]:
    """``eq: [a, b]`` compares with the whole list."""
    own = run_steps(asked.steps)
    if kind is None and own is not None and own[:1] not in (("extra",), ("tags",)):
        return
    if kind is None and own is None:
        return
    what = f"{asked.path} is {_ARTICLE[kind]}" if kind else f"{asked.path} is probably not a list"
    meant = "in" if asked.operator == "eq" else "not_in"
    hint = f"for one of these values write {_SYMBOLS.get(meant, meant) if asked.inline else f'{meant}:'} […]"
    yield f"{asked.sign} compares with the list as a whole, and {what}", hint, None


def _slashes(pattern: str) -> Iterator[Finding]:
    if (match := _SLASHES.fullmatch(pattern)) is None:
        return
    flags = "".join(flag for flag in match[2] if flag in "ims")
    fixed = f"(?{flags}){match[1]}" if flags else match[1]
    quoted = fixed.replace("'", "''")
    yield "the slashes are part of this pattern, so it looks for them", f"write matches: '{quoted}'", None

"""Hints: what to write instead of a refused condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engine.core.errors import PathError
from engine.core.positions import Where
from engine.core.vocabulary import Vocabulary
from engine.rules.conditions.operators import OPERATORS
from engine.rules.dialects import Translation, in_yaml, misspelt, operator_of, translate
from engine.rules.dialects.words import misspelt_operator, phrase_of
from engine.rules.jsonpath import Paths
from engine.rules.jsonpath.mistakes import compile_checked

GROUPS: Final = ("all", "any", "none", "not")
KEYS: Final = ("path", "expr", "quantifier", "absent", *GROUPS, *OPERATORS)
SHAPE: Final = 'a condition is {path: "$.runs[*].status", eq: error}, {expr: "run.latency > 10"} or a group of them'

#: Other tools' names of the keys that are not operators.
_WORDS: Final = {
    word: ours
    for ours, words in {
        "all": "and,&&,all of,every,allof,must",
        "any": "or,||,any of,anyof,some,should",
        "none": "nor,none of,noneof,must not",
        "not": "!,negate,unless",
        "path": "jsonpath,json path",
        "expr": "expression,jinja,template,script",
        "quantifier": "quantify,mode,match mode",
        "absent": "default,if absent,if missing,on absent,on missing,otherwise",
    }.items()
    for word in words.split(",")
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a condition with a path or an expression."""

    place: Where
    message: str
    hint: str = ""
    line: int = 1
    column: int = 1
    at_key: bool = False


class Hints:
    """``sound`` says whether a condition can be loaded as it is; without it no condition is suggested."""

    def __init__(self, sound: Callable[[Any], bool] | None, vocabulary: Vocabulary, paths: Paths) -> None:
        self._sound = sound or (lambda _raw: False)
        self._silent, self._vocabulary, self._paths = sound is None, vocabulary, paths

    def condition(self, raw: Any, otherwise: str = "") -> str:
        """The condition to write instead of a refused one; else another hint."""
        found = self._translation(raw)
        if found.text and found.condition != raw:  # otherwise a variable in it was refused
            return f"write {found.text}"
        if found.field:
            return f"LangSmith documents no field {found.field!r} of a run; {self._example(raw)}"
        return otherwise

    def written(self, meant: Mapping[str, Any]) -> str:
        """To write this condition, if it can be loaded; else its translation."""
        return f"write {in_yaml(meant)}" if self._sound(meant) else self.condition(meant, SHAPE)

    def path(self, raw: Mapping[Any, Any], own: str) -> str:
        """The hint for a refused path: its own, unless more of the condition has to change."""
        found = self._translation(raw).condition
        rest = {key: value for key, value in raw.items() if key != "path"}
        same = found is None or {key: value for key, value in found.items() if key != "path"} == rest
        return own if same and own.startswith("write ") else self.condition(raw, own)

    def _reason(self, raw: Any, found: Translation) -> str:
        """Why the suggested path differs from the written one, in brackets; empty if the same, or was no JSONPath."""
        path = raw.get("path") if isinstance(raw, Mapping) else None
        meant = found.condition
        if not isinstance(path, str) or (isinstance(meant, Mapping) and meant.get("path") == path):
            return ""
        try:
            compile_checked(path, self._vocabulary, self._paths)
        except PathError as error:
            return f" ({error})"
        return ""

    def _example(self, raw: Any) -> str:
        """An example condition of the same kind, on a field that exists."""
        found = self._translation(raw, example=True)
        return f"a condition of this kind is {found.text}" if found.text else SHAPE

    def unknown_key(self, key: Any, raw: Mapping[Any, Any]) -> str:
        """The hint for an unknown key: its right name if that is enough, else the whole condition."""
        renamed = self._renamed(str(key))
        changed = {renamed if name == key else name: value for name, value in raw.items()}
        if renamed not in OPERATORS and renamed and self._sound(changed):
            return f"did you mean {renamed!r}?"
        found = self._translation(raw)
        if found.condition not in (None, changed):
            return f"write {found.text}{self._reason(raw, found)}"
        looks = renamed in OPERATORS and not raw.keys().isdisjoint(("path", "expr"))
        return f"did you mean {renamed!r}?" if looks else self.condition(raw, SHAPE)

    def _renamed(self, key: str) -> str:
        """The key that was probably meant, if it takes the same operand; never one with another meaning."""
        phrase = phrase_of(key)
        if (word := operator_of(key)) is not None:
            return word.ours if word.ours in OPERATORS else ""
        if near := _WORDS.get(phrase) or misspelt(key, KEYS):
            return near
        slip = misspelt_operator(key)
        return slip.name if slip is not None and slip.ours == slip.name in OPERATORS else ""

    def _translation(self, raw: Any, *, example: bool = False) -> Translation:
        if self._silent or (isinstance(raw, Mapping) and "absent" in raw):
            return Translation(None)  # no other tool has ``absent``, so the rest is already in our notation
        found = translate(raw, self._sound, self._path, self._vocabulary.vars, example=example)
        kept = _with_its_expr(raw, found.condition)
        return replace(found, condition=kept) if kept and self._sound(kept) else found

    def _path(self, text: str) -> bool:
        try:
            compile_checked(text, self._vocabulary, self._paths)
        except PathError:
            return False
        return True


def _with_its_expr(raw: Any, meant: Any) -> dict[str, Any] | None:
    """A condition with the ``expr`` its author wrote, where it only says the same as a path; None where it does not."""
    if not isinstance(raw, Mapping) or not isinstance(meant, Mapping):
        return None
    expr, path = raw.get("expr"), meant.get("path")
    if not isinstance(expr, str) or not isinstance(path, str):
        return None
    same = path.replace("$.runs[*].", "$.run.") == f"$.{expr.strip()}"
    return {"expr": expr} | {key: value for key, value in meant.items() if key != "path"} if same else None


def is_foreign(raw: Any) -> bool:
    """Whether a condition is written in another tool's notation."""
    if isinstance(raw, list):
        return not all(isinstance(each, (dict, list)) for each in raw)
    return isinstance(raw, str) or (isinstance(raw, dict) and not raw.keys() <= set(KEYS))


def operators_of(value: Any) -> dict[str, Any]:
    """The operators for the value of a path that was written as a key."""
    if isinstance(value, dict) and value and value.keys() <= set(OPERATORS):
        return value
    return {"in" if isinstance(value, list) else "eq": value}

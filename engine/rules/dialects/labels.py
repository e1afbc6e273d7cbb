"""``status:error latency:>10s``: a field with its value, as in Lucene, Datadog and Sentry."""

from __future__ import annotations

import re
from typing import Final

from engine.rules.dialects.calls import anchored, compare, glob
from engine.rules.dialects.meaning import Compare, Constant, Field, Node, Unclear, every, exists, opposite, some
from engine.rules.dialects.tokens import scalar
from engine.rules.dialects.words import Word, known_operator

_VALUE: Final = re.compile(
    r"""\s*(?:(?P<open>[\[{])\s*(?P<low>\S+)\s+TO\s+(?P<high>[^\s\]}]+)\s*(?P<close>[\]}])
    |[(\[](?P<inner>[^()\[\]]*)[)\]]
    |(?P<sign>>=|<=|>|<|!=|=~|=|!|~)?\s*
    (?:(?P<quote>["'])(?P<text>(?:[^"'\\]|\\.)*)(?P=quote)|/(?P<regex>(?:[^/\\]|\\.)+)/|(?P<bare>[^\s()\[\],"']+)))""",
    re.VERBOSE,
)
_SPLIT: Final = re.compile(r"\s+(?:OR|or|\|\|)\s+|\s*,\s*|\s+")


def label_value(field: Field, text: str, start: int) -> tuple[Node, int]:
    """The comparison of a field with the value after its colon, and the end of that value.

    Raises:
        Unclear: there is no value.
    """
    if (found := _VALUE.match(text, start)) is None:
        raise Unclear("a value was expected after the colon")
    return _meaning(field, found), found.end()


def _meaning(field: Field, found: re.Match[str]) -> Node:
    bare = found["bare"]
    if field.keys in (("has",), ("_exists_",), ("exists",)) and bare:
        return exists(Field(tuple(bare.split("."))))
    if found["low"]:
        low, high = "gt" if found["open"] == "{" else "gte", "lt" if found["close"] == "}" else "lte"
        ends = [(low, found["low"]), (high, found["high"])]
        return every(*(Compare(name, field, Constant(scalar(end))) for name, end in ends if end != "*"))
    if found["inner"] is not None:
        return _any_of(field, [word.strip("\"'") for word in _SPLIT.split(found["inner"].strip()) if word])
    if found["regex"]:
        return Compare("matches", field, Constant(anchored(found["regex"])))
    word = known_operator(found["sign"] or "=")
    return _single(word, field, bare) if bare else compare(word, field, Constant(found["text"]))


def _any_of(field: Field, words: list[str]) -> Node:
    if not words or not {"AND", "NOT"}.isdisjoint(words):
        raise Unclear("a group with AND or NOT, or without words")
    if any("*" in word for word in words):
        return some(*(_single(Word("eq"), field, word) for word in words))
    return Compare("in", field, Constant([scalar(word) for word in words]))


def _single(word: Word, field: Field, text: str) -> Node:
    if word.name == "eq" and re.search(r"[*?]", text):
        made = glob(field, text)
        return opposite(made) if word.negated else made
    return compare(word, field, Constant(scalar(text)))

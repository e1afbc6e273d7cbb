"""``status:error latency:>10s``: a field with its value, as in Lucene, Datadog and Sentry."""

from __future__ import annotations

import re
from typing import Any, Final

from engine.rules.dialects.build import compare, glob
from engine.rules.dialects.meaning import Compare, Constant, Field, Node, Unclear, every, opposite, some
from engine.rules.dialects.tokens import number
from engine.rules.dialects.words import operator_of

_VALUE: Final = re.compile(
    r"""\s*(?:(?P<range>[\[{]\s*(?P<low>\S+)\s+TO\s+(?P<high>[^\s\]}]+)\s*[\]}])
    |(?P<group>\((?P<inner>[^()]*)\))
    |(?P<list>\[(?P<items>[^\[\]]*)\])
    |(?P<sign>>=|<=|>|<|!=|=~|=|!|~)?\s*(?:(?P<quote>["'])(?P<text>(?:[^"'\\]|\\.)*)(?P=quote)|/(?P<regex>(?:[^/\\]|\\.)+)/|(?P<bare>[^\s()\[\],"']+)))""",
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
    return _made(field, found), found.end()


def _made(field: Field, found: re.Match[str]) -> Node:
    if field.keys in (("has",), ("_exists_",), ("exists",)) and found["bare"]:
        return Compare("exists", Field(tuple(found["bare"].split("."))), Constant(True))  # noqa: FBT003
    if found["range"]:
        return _range(field, found)
    if found["group"] or found["list"]:
        inner = found["inner"] or found["items"] or ""
        return _group(field, inner)
    if found["regex"]:
        return Compare("matches", field, Constant(anchored(found["regex"])))
    return _single(field, found["sign"] or "=", found["bare"], found["text"])


def _range(field: Field, found: re.Match[str]) -> Node:
    text = found["range"].strip()
    low = (
        None
        if found["low"] == "*"
        else Compare("gt" if text[0] == "{" else "gte", field, Constant(scalar(found["low"])))
    )
    high = (
        None
        if found["high"] == "*"
        else Compare("lt" if text[-1] == "}" else "lte", field, Constant(scalar(found["high"])))
    )
    parts = [part for part in (low, high) if part is not None]
    if not parts:
        raise Unclear("a range without ends")
    return every(*parts)


def _group(field: Field, inner: str) -> Node:
    if re.search(r"\b(?:AND|NOT)\b", inner):
        raise Unclear("a group with AND or NOT")
    words = [word.strip("\"'") for word in _SPLIT.split(inner.strip()) if word]
    if not words:
        raise Unclear("an empty group")
    if any("*" in word for word in words):
        return some(*(_bare(field, word) for word in words))
    return Compare("in", field, Constant([scalar(word) for word in words]))


def _single(field: Field, sign: str, bare: str | None, quoted: str | None) -> Node:
    if sign == "!":
        return opposite(_bare(field, bare) if bare is not None else Compare("eq", field, Constant(quoted)))
    if sign == "=":
        return _bare(field, bare) if bare is not None else Compare("eq", field, Constant(quoted))
    word = operator_of(sign)
    if word is None:
        raise Unclear(f"an unknown operator {sign!r}")
    return compare(word, field, Constant(quoted if bare is None else scalar(bare)))


def _bare(field: Field, word: str) -> Node:
    if "*" in word or "?" in word:
        return glob(field, word, "*", "?")
    return Compare("eq", field, Constant(scalar(word)))


def scalar(text: str) -> Any:
    """A word as a number, duration (in seconds), share, boolean or text."""
    lower = text.lower()
    if lower in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[lower]
    try:
        return (
            number(text)
            if re.fullmatch(r"-?\d[\d.]*(?:%|ms|s|m|h|d|w)?", text) and not text.startswith("-")
            else _signed(text)
        )
    except (Unclear, ValueError):
        return text


def _signed(text: str) -> Any:
    return float(text) if re.fullmatch(r"-\d+\.\d+", text) else int(text) if re.fullmatch(r"-\d+", text) else text


def anchored(pattern: str) -> str:
    """A whole-text pattern as a search pattern, with anchors. One that has an anchor stays unchanged."""
    if pattern.startswith("^") or pattern.endswith("$"):
        return pattern
    start, end = not pattern.startswith(".*"), not pattern.endswith(".*") or pattern.endswith("\\.*")
    if "|" in pattern:
        return f"^(?:{pattern})$"
    inner = pattern if start else pattern.removeprefix(".*")
    inner = inner if end else inner.removesuffix(".*")
    return f"{'^' if start else ''}{inner}{'$' if end else ''}" or "."

"""The parts of RFC 9535 filters that jsonpath-ng lacks, as nodes for its syntax tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jsonpath_ng import jsonpath as core

#: Parts of a pattern: an escape, a class, a dot outside of both.
_PARTS = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\.", re.DOTALL)


class Node(core.JSONPath):
    """A node of the engine, with its ``text``. Only the engine's closures evaluate it."""

    text: str

    def find(self, datum: Any) -> NoReturn:
        """Never called; see ``engine.rules.jsonpath.closures``."""
        raise NotImplementedError(type(self).__name__)

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Test(Node):
    """Tests that must all hold, as a step with one value if they do, else none. For ``match(…)`` and ``!(…)``."""

    tests: Sequence[Any]
    text: str


@dataclass(slots=True)
class Count(Node):
    """``count(…)``: how many values a query finds."""

    query: Any
    text: str


@dataclass(slots=True)
class Value(Node):
    """``value(…)``: the one value that a query finds; nothing if it finds none or several."""

    query: Any
    text: str


@dataclass(slots=True)
class Literal(Node):
    """A text, number, true, false or null where jsonpath-ng accepts only a query."""

    value: Any

    def __str__(self) -> str:
        return repr(self.value)


def whole_pattern(pattern: str) -> str:
    """The pattern of ``match(…)``, which must match the whole text."""
    inner = found_pattern(pattern)
    return f"^{inner}$" if inner == re.escape(inner) else f"^(?:{inner})$"


def found_pattern(pattern: str) -> str:
    """The pattern of ``search(…)``: a dot does not match a line break (RFC 9485, 5.4)."""
    return _PARTS.sub(lambda part: r"[^\n\r]" if part[0] == "." else part[0], pattern)

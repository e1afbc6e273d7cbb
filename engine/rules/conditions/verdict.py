"""What a filter came to and why, for people: every clause, the values found, the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.missing import Missing
from engine.core.truth import Truth

Kind = Literal["path", "expr", "all", "any", "none", "not"]

#: How much of a value is shown: characters of a text, elements of an array or object, levels.
MAX_TEXT, MAX_ITEMS, MAX_DEPTH = 500, 20, 6


@dataclass(frozen=True, slots=True)
class Check:
    """One operator of a condition.

    ``found`` holds the values it was held against, always as a tuple: none, one or many.
    ``truth`` is this operator's alone, under the condition's quantifier.
    """

    operator: str
    expected: Any
    found: tuple[Any, ...]
    truth: Truth
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The check as JSON, with long values cut."""
        return {
            "operator": self.operator,
            "expected": shorten(self.expected),
            "found": shorten(list(self.found), depth=MAX_DEPTH + 1),
            "count": len(self.found),
            "truth": self.truth.name.lower(),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition or a group came to. A path or expression has ``checks``, a group has ``children``.

    ``absent`` names what is absent, where it is undecided for that reason: a part of a path or of an expression.
    ``reads`` are the values that an expression without operator looked at, by how they are written.
    """

    truth: Truth
    kind: Kind
    text: str
    checks: tuple[Check, ...] = ()
    children: tuple[Verdict, ...] = ()
    reason: str = ""
    absent: str = ""
    reads: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON, with long values cut."""
        return {
            "truth": self.truth.name.lower(),
            "kind": self.kind,
            "text": self.text,
            "reason": self.reason,
            "absent": self.absent,
            "reads": {name: shorten(value) for name, value in self.reads.items()},
            "checks": [check.to_json() for check in self.checks],
            "children": [child.to_json() for child in self.children],
        }


def shorten(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """A JSON-able copy with long texts, long arrays and deep nests cut, each cut marked with what is left out."""
    if isinstance(value, str):
        rest = len(value) - MAX_TEXT
        return f"{value[:MAX_TEXT]}… ({rest} more characters)" if rest > 0 else str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value if _plain(value) else _number(value)
    if isinstance(value, Missing):
        return repr(value)
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        short = {str(key): shorten(value[key], depth=depth - 1) for key in list(value)[:MAX_ITEMS]}
        return short | ({"…": f"{len(value) - MAX_ITEMS} more"} if len(value) > MAX_ITEMS else {})
    if isinstance(value, (list, tuple, set, frozenset)):
        items = list(value)
        more = [f"… ({len(items) - MAX_ITEMS} more)"] if len(items) > MAX_ITEMS else []
        return [shorten(item, depth=depth - 1) for item in items[:MAX_ITEMS]] + more
    return shorten(repr(value))


def describe(value: Any) -> str:
    """A value in a few words, for a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {_number(value)}"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 60 else f"the text {value[:60] + '…'!r}"
    if isinstance(value, Mapping):
        return f"an object with {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"an array of {len(value)}"
    return f"a {type(value).__name__}"


def _plain(value: float) -> bool:
    """Whether every JSON encoder can write a number."""
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def _number(value: float) -> str:
    """A number as text; Python refuses to write out whole numbers beyond a few thousand digits."""
    return str(value) if isinstance(value, float) or value.bit_length() < 256 else f"of {value.bit_length()} bits"

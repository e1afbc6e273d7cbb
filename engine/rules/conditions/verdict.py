"""The full result of a filter, for people: every condition, the values found, the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.shown_values import MAX_DEPTH, shorten
from engine.core.truth import Truth

Kind = Literal["path", "expr", "all", "any", "none", "not"]


@dataclass(frozen=True, slots=True)
class Check:
    """One operator of a condition.

    ``found`` holds the tested values: none, one or many.
    ``truth`` is the result of this operator alone, under the condition's quantifier.
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
    """The result of a condition or group. A path or expression has ``checks``, a group has ``children``.

    ``absent`` names the absent part of the path or expression, if it is undecided because of that.
    ``reads`` are the values that an expression without operator read, by their text in it.
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

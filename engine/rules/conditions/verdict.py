"""What a filter came to and why, for people: every clause, the values found, the reason."""

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

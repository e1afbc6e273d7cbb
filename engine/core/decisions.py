"""Reads stored decisions: which are current, which matches were held back, and how to describe one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

#: How the reasons of matches that are held back begin. They are stored with the decisions, so they do not change.
MUTED: Final = "muted "
OUTSIDE_HOURS: Final = "outside its hours: "
THROTTLED: Final = "throttled: "
_SKIPPED: Final = {OUTSIDE_HOURS: "hours", THROTTLED: "throttle"}

Decision = Mapping[str, Any]


def latest_decisions(evaluations: Sequence[Mapping[str, Any]]) -> list[Decision]:
    """The current decisions. An evaluation that waited for data does not repeat the decisions of earlier ones."""
    latest: dict[tuple[int, str], Decision] = {}
    for evaluation in evaluations:
        if evaluation.get("replays") == evaluations[-1].get("replays"):
            latest |= {(decision["index"], decision["route"]): decision for decision in evaluation["decisions"]}
    return sorted(latest.values(), key=lambda decision: int(decision["index"]))


def held_back(decisions: Sequence[Decision]) -> dict[str, int]:
    """How many matches were held back by what: ``mute`` (of routes), ``hours``, ``throttle``, ``digest``."""
    return dict(Counter(hold for decision in decisions for hold in _holds(decision)))


def _holds(decision: Decision) -> Iterator[str]:
    if is_muted(decision):
        yield "mute"
    for reason in decision.get("skipped", {}).values():
        yield from (hold for start, hold in _SKIPPED.items() if reason.startswith(start))
    yield from ("digest" for _ in decision.get("collected", {}))


def is_muted(decision: Decision) -> bool:
    """Whether a mute of the route held back a match."""
    return decision.get("verdict") == "true" and decision.get("reason", "").startswith(MUTED)


def reason_of(decision: Decision) -> str:
    """The reason of a recorded decision, as it reads afterwards: ``was muted until 03:06:17 UTC by ana``."""
    reason: str = decision.get("reason", "")
    return f"was {reason}" if is_muted(decision) else reason


def outcome_of(decision: Decision) -> str:
    """A stored decision as text."""
    if decision["verdict"] != "true":
        verdict = {"false": "did not match", "wanting": "waited for data"}.get(decision["verdict"], "undecided")
        return ": ".join(filter(None, (verdict, decision.get("reason", ""))))
    collected = decision.get("collected", {})
    parts = [reason_of(decision)]
    parts += [f"{name} fired" for name in decision.get("fires", ()) if name not in collected]
    parts += [f"{name} collected for a digest" for name in collected]
    parts += [f"{name} did not fire: {reason}" for name, reason in decision.get("skipped", {}).items()]
    return "; ".join(filter(None, parts)) or "matched"

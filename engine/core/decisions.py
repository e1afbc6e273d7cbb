"""Matches that nothing follows, because something holds them back: read from the decisions that the store keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

#: How the reasons of decisions begin, by the word for what holds back.
MUTED: Final = "muted "
_SKIPPED: Final = {"outside its hours": "hours", "throttled": "throttle"}

Decision = Mapping[str, Any]


def latest_decisions(evaluations: Sequence[Mapping[str, Any]]) -> list[Decision]:
    """What is decided now: an evaluation that had to wait for data leaves the rest as earlier ones decided."""
    latest: dict[tuple[int, str], Decision] = {}
    for evaluation in evaluations:
        if evaluation.get("replays") == evaluations[-1].get("replays"):
            latest |= {(decision["index"], decision["route"]): decision for decision in evaluation["decisions"]}
    return sorted(latest.values(), key=lambda decision: int(decision["index"]))


def held_back(decisions: Sequence[Decision]) -> dict[str, int]:
    """How often something was held back, by what: ``mute`` (of routes), ``hours``, ``throttle``, ``digest``."""
    return dict(Counter(word for decision in decisions for word in _words(decision)))


def _words(decision: Decision) -> Iterator[str]:
    if is_muted(decision):
        yield "mute"
    for reason in decision.get("skipped", {}).values():
        yield from (word for start, word in _SKIPPED.items() if reason.startswith(start))
    yield from ("digest" for _ in decision.get("collected", {}))


def is_muted(decision: Decision) -> bool:
    """Whether a mute of the route held back a match."""
    return decision.get("verdict") == "true" and decision.get("reason", "").startswith(MUTED)


def reason_of(decision: Decision) -> str:
    """The reason of a recorded decision, as it reads afterwards: ``was muted until 03:06:17 UTC by ana``."""
    reason: str = decision.get("reason", "")
    return f"was {reason}" if is_muted(decision) else reason


def outcome_of(decision: Decision) -> str:
    """What a recorded decision came to, in words."""
    if decision["verdict"] != "true":
        verdict = {"false": "did not match", "wanting": "waited for data"}.get(decision["verdict"], "undecided")
        return ": ".join(filter(None, (verdict, decision.get("reason", ""))))
    collected = decision.get("collected", {})
    parts = [reason_of(decision)]
    parts += [f"{name} fired" for name in decision.get("fires", ()) if name not in collected]
    parts += [f"{name} collected for a digest" for name in collected]
    parts += [f"{name} did not fire: {reason}" for name, reason in decision.get("skipped", {}).items()]
    return "; ".join(filter(None, parts)) or "matched"

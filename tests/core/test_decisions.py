"""Stored decisions: which count, what held back their matches, and how they read."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.decisions import held_back, is_muted, latest_decisions, outcome_of, reason_of
from engine.core.truth import Truth
from engine.rules.decision import Decision, muted_message
from engine.store.records import Control


def decision(verdict: str = "true", index: int = 0, route: str = "a", **rest: Any) -> dict[str, Any]:
    return {"route": route, "index": index, "verdict": verdict, **rest}


def test_an_evaluation_that_waited_for_data_does_not_repeat_what_was_decided() -> None:
    first = {"replays": 0, "decisions": [decision("wanting", 1), decision("true", 0)]}
    second = {"replays": 0, "decisions": [decision("false", 1)]}
    assert latest_decisions([first, second]) == [decision("true", 0), decision("false", 1)]
    again = {"replays": 1, "decisions": [decision("false", 0)]}
    assert latest_decisions([first, second, again]) == [decision("false", 0)]
    assert latest_decisions([]) == []


def test_what_held_back_matches_is_counted_by_what_it_was() -> None:
    muted = decision(reason="muted until 03:06:17 UTC by ana")
    skipped = decision(skipped={"one": "throttled: one was made", "two": "outside its hours: closed", "x": "when"})
    collected = decision(collected={"three": "until then"})
    assert held_back([muted, skipped, collected]) == {"mute": 1, "throttle": 1, "hours": 1, "digest": 1}
    assert held_back([decision(), decision("false", reason="muted is a word of the condition")]) == {}
    assert held_back([{"index": 0}]) == {}, "of an engine that wrote them in another form"


def test_the_reason_of_a_mute_is_recognized_as_the_engine_writes_it() -> None:
    control = Control("mute", "a", "too loud", "ana", 100.0)
    made = Decision("a", 0, None, Truth.TRUE, muted_message(control)).to_json()
    assert is_muted(made)
    assert reason_of(made) == "was muted until it is unmuted by ana: too loud"
    assert reason_of(decision(reason="not in the sample")) == "not in the sample"


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (decision("false", reason="$.runs[*].status eq"), "did not match: $.runs[*].status eq"),
        (decision("wanting"), "waited for data"),
        (decision("undecided", reason="run has no 'x'"), "undecided: run has no 'x'"),
        (decision(), "matched"),
        (decision(fires=["a", "b"]), "a fired; b fired"),
        (decision(fires=["a", "b"], collected={"a": "x"}), "b fired; a collected for a digest"),
        (decision(skipped={"a": "throttled: one"}), "a did not fire: throttled: one"),
        (decision(reason="muted for good"), "was muted for good"),
    ],
)
def test_a_decision_reads_as_what_came_of_it(stored: dict[str, Any], text: str) -> None:
    assert outcome_of(stored) == text

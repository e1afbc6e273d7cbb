"""The events in memory: what is fetched for them, and what of it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from engine.core.document import Fetched
from engine.core.event import Event, parse_event
from engine.worker.context import InMemoryEvents

READS = frozenset({"inputs", "feedback"})


class Answers:
    """A hydrator that answers for the run it is asked for, and with all feedback."""

    def __init__(self, feedback: Mapping[str, Any]) -> None:
        self.feedback = feedback

    async def fetch(
        self, event: Event, wanted: object, indexes: Any, have: Fetched, *, refresh: bool = False, **_: Any
    ) -> Fetched:
        await asyncio.sleep(0)
        return have.merge(Fetched({f"run-{index}": {"of": index} for index in indexes}, {}, self.feedback))


@pytest.fixture
def event() -> Event:
    return parse_event(orjson.dumps({"rule_id": "r", "runs": [{"id": f"run-{number}"} for number in range(3)]}), 0.0)


async def test_what_several_fetch_at_once_is_saved_once(event: Event) -> None:
    saved: list[Fetched] = []

    async def save(event_id: str, fetched: Fetched) -> None:
        assert event_id == event.id
        saved.append(fetched)
        await asyncio.sleep(0)

    feedback = {f"run-{number}": [{"key": "k"}] for number in range(3)}
    events = InMemoryEvents(Answers(feedback), save)
    loaded = events.load(event, Fetched())
    assert await asyncio.gather(*(events.fetch(loaded, READS, index) for index in (0, 1, 1, 2))) == [True] * 4
    assert saved == [
        Fetched({"run-0": {"of": 0}}, {}, feedback),
        Fetched({"run-1": {"of": 1}}),
        Fetched({"run-2": {"of": 2}}),
    ]
    assert loaded.fetched == Fetched({f"run-{number}": {"of": number} for number in range(3)}, {}, feedback)


async def test_feedback_that_says_the_same_as_before_is_not_saved_again(event: Event) -> None:
    saved: list[Fetched] = []

    async def save(_event_id: str, fetched: Fetched) -> None:
        saved.append(fetched)

    answers = Answers({"run-0": [{"key": "k"}], "run-1": []})
    events = InMemoryEvents(answers, save)
    loaded = events.load(event, Fetched())
    for came in ({"run-0": [{"key": "k"}], "run-1": []}, {"run-0": [{"key": "k"}], "run-1": [{"key": "late"}]}):
        for _ in range(2):
            answers.feedback = came
            await events.fetch(loaded, READS, 0, refresh=True)
    assert saved[1:] == [Fetched(feedback={"run-1": [{"key": "late"}]})]

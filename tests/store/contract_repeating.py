"""What every store takes for a copy of an event, and for how long."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from contract_holding import HOUR
from store_cases import T0, Backend, all_claimed, make_event, replay_whole, routed

from engine.core.event import Event, Signed, parse_event
from engine.store.protocol import Store
from engine.store.queries import EventQuery
from engine.store.records import Appended

SPAN, ISSUES_SPAN = 60.0, 300.0


def webhook(at: float = T0, signed_id: str = "", **payload: Any) -> Event:
    return parse_event(json.dumps(payload).encode(), at, Signed("somebody", signed_id) if signed_id else None)


def prompt(commit: str = "a", name: str = "triage", **extra: Any) -> Event:
    return webhook(prompt_id=name, commit_hash=commit, **extra)


def alert(text: str = "a", **extra: Any) -> Event:
    return webhook(alert_rule_id="slow", text=text, **extra)


def notification(text: str = "a") -> Event:
    """A rule's webhook without runs, which has no identity."""
    return webhook(rule_id="rule-1", text=text)


async def append(store: Store, event: Event) -> bool:
    """Whether it is taken for a copy; each is evaluated at once, so that nothing is left."""
    appended = await store.append(event, leased=True)
    if not appended.duplicate:
        await store.settle_routed(routed(event))
    return appended.duplicate


async def copies(store: Store) -> list[int]:
    """How many copies each event has, oldest first."""
    return [row.copies for row in reversed(await store.events(EventQuery(limit=1000)))]


class Repeating:
    async def test_a_prompts_tag_that_goes_back_is_an_event_each_time(self, store: Store):
        assert [await append(store, prompt(commit)) for commit in "abaab"] == [False, False, False, True, False]

    async def test_a_senders_retry_is_no_event_and_is_counted(self, store: Store):
        first = prompt(at=T0)
        assert not await append(store, first)
        for count in (1, 2, 3):
            assert await store.append(prompt(), leased=True) == Appended(first.id, duplicate=True)
            assert await copies(store) == [count]
            assert (await store.event(first.id)).row.copies == count
        assert await all_claimed(store) == []

    @pytest.mark.parametrize(
        ("body", "span"),
        [
            ({"prompt_id": "triage"}, SPAN),
            ({"alert_rule_id": "slow"}, SPAN),
            ({"rule_id": "rule-1"}, SPAN),
            ({"note": "no webhook of LangSmith's"}, SPAN),
            ({"type": "issue.created", "id": "1"}, ISSUES_SPAN),
        ],
        ids=["prompt", "alert", "rule without runs", "unknown", "issue"],
    )
    async def test_a_body_is_known_for_its_senders_retry_span_from_the_first_copy_on(
        self, backend: Backend, store: Store, body: dict[str, Any], span: float
    ):
        found = {}
        for after in (0.0, span / 2, span - 1, span + 1, span + 2, 2 * span, 2 * span + 2):
            backend.clock.now = T0 + after
            found[after] = await append(store, webhook(T0 + after, **body))
        assert [after for after, copy in found.items() if not copy] == [0.0, span + 1, 2 * span + 2]
        assert await copies(store) == [2, 2, 0]

    async def test_an_identity_is_known_for_as_long_as_its_event_is_kept(self, backend: Backend, store: Store):
        bodies: list[dict[str, Any]] = [
            {"rule_id": "rule-1", "start_time": "1", "end_time": "2", "runs": [{"id": "a"}]},
            {"rule_id": "rule-1", "start_time": "1", "end_time": "2", "threads": [{"id": "a"}]},
            {"type": "issue.created", "id": "1", "signed_id": "by-signature"},
            {"prompt_id": "triage", "signed_id": "1"},
            {"alert_rule_id": "slow", "signed_id": "2"},
        ]
        firsts = [await store.append(webhook(**body), leased=True) for body in bodies]
        for after in (1.0, SPAN + 1, 365 * 24 * HOUR):
            backend.clock.now = T0 + after
            again = [await store.append(webhook(**body, note=after), leased=True) for body in bodies]
            assert again == [Appended(first.event_id, duplicate=True) for first in firsts]
        assert await copies(store) == [3] * len(bodies)

    @pytest.mark.parametrize(
        ("make", "between"),
        [
            (prompt, prompt("b")),
            (prompt, prompt("b", signed_id="1")),
            (alert, alert("b")),
            (alert, alert("b", signed_id="1")),
            (notification, notification("b")),
            (notification, make_event(1, rule="rule-1")),
        ],
        ids=["prompt", "signed prompt", "alert", "signed alert", "rule", "rule with runs"],
    )
    async def test_another_event_of_the_same_subject_ends_it(self, store: Store, make: Any, between: Event):
        assert [await append(store, make()), await append(store, between), await append(store, make())] == [False] * 3

    @pytest.mark.parametrize(
        ("make", "between"),
        [
            (prompt, prompt("b", name="other")),
            (prompt, alert()),
            (alert, webhook(alert_rule_id="other")),
            (alert, make_event(1, rule="slow")),
            (notification, make_event(1, rule="rule-2")),
            (lambda: webhook(note="a"), webhook(note="b")),
            (lambda: webhook(type="issue.created", id="a"), webhook(type="issue.created", id="b")),
            (lambda: webhook(**{"": "key", "note": "a"}), webhook(**{"": "key", "note": "b"})),
        ],
        ids=["prompt", "alert of a prompt", "alert", "rule of that name", "rule", "unknown", "issue", "empty key"],
    )
    async def test_an_event_of_another_subject_does_not(self, store: Store, make: Any, between: Event):
        assert [await append(store, one) for one in (make(), between, make())] == [False, False, True]

    async def test_a_copy_of_something_else_in_between_does_not(self, store: Store):
        run = make_event(1, rule="rule-1")
        await append(store, run)
        bodies = [notification(), make_event(1, rule="rule-1"), notification()]
        assert [await append(store, one) for one in bodies] == [False, True, True]

    async def test_copies_that_arrive_at_once_are_one_event(self, store: Store):
        events = [prompt() for _ in range(200)]
        answers = await asyncio.gather(*(store.append(event, leased=False) for event in events))
        assert [answer.duplicate for answer in answers] == [False] + [True] * 199
        assert {answer.event_id for answer in answers} == {events[0].id}
        assert len(await all_claimed(store)) == 1
        assert await copies(store) == [199]

    async def test_what_arrives_at_once_is_taken_in_its_order(self, store: Store):
        commits = "aababbcc"
        answers = await asyncio.gather(*(store.append(prompt(one), leased=False) for one in commits))
        assert [answer.duplicate for answer in answers] == [False, True, False, False, False, True, False, True]

    async def test_a_crash_forgets_neither_the_first_copy_nor_what_ended_it(self, backend: Backend):
        first = backend.store("first")
        await first.open()
        for event in (prompt("a"), prompt("b"), alert("a")):
            await first.append(event, leased=True)
        await backend.vanish(first)
        second = backend.store("second")
        await second.open()
        found = [
            (await second.append(event, leased=True)).duplicate for event in (alert("a"), prompt("b"), prompt("a"))
        ]
        assert found == [True, True, False]
        await second.close()

    @pytest.mark.parametrize("jump", [2.0 * HOUR, 24.0 * HOUR, -2.0 * HOUR, -24.0 * HOUR])
    async def test_a_copy_from_beyond_a_jump_of_the_clock_is_an_event(
        self, backend: Backend, store: Store, jump: float
    ):
        assert not await append(store, prompt())
        backend.clock.now = T0 + jump
        assert [await append(store, prompt()) for _ in range(2)] == [False, True]
        backend.clock.now = T0 + jump + SPAN + 1
        assert not await append(store, prompt())

    async def test_a_clock_that_is_corrected_by_less_than_a_second_makes_no_event(self, backend: Backend, store: Store):
        assert not await append(store, prompt())
        backend.clock.now = T0 - 0.5
        assert await append(store, prompt())

    async def test_midnight_is_a_time_like_any_other(self, backend: Backend, store: Store):
        backend.clock.now = midnight = T0 - T0 % (24 * HOUR) - 1
        assert not await append(store, prompt())
        backend.clock.now = midnight + 2
        assert await append(store, prompt())

    async def test_the_stores_time_counts_and_not_when_a_request_came(self, backend: Backend, store: Store):
        assert not await append(store, prompt(at=T0 - HOUR))
        assert await append(store, prompt(at=T0 + HOUR))
        backend.clock.now = T0 + SPAN + 1
        assert not await append(store, prompt(at=T0 - HOUR))

    async def test_a_body_is_not_known_when_its_event_is_gone(self, store: Store):
        assert not await append(store, prompt())
        assert (await store.prune("events", before=T0 + 1)).count == 1
        assert not await append(store, prompt())

    async def test_an_event_with_copies_can_be_replayed_and_keeps_their_number(self, store: Store):
        event = prompt()
        await append(store, event)
        await append(store, prompt())
        assert await replay_whole(store, event, ()) == set()
        assert await copies(store) == [1]

    async def test_subjects_that_no_column_accepts_are_different_from_none(self, store: Store):
        odd = [{"prompt_id": name, "commit": commit} for name in ("a\0b", "x" * 10**6, 5, True) for commit in "aa"]
        assert [await append(store, webhook(**body)) for body in odd] == [False, True] * 4

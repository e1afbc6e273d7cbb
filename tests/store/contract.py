"""What every store does, whichever engine is behind it. Subclass it with a ``backend`` fixture."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from store_cases import (
    T0,
    Backend,
    accepted,
    all_claimed,
    attempt,
    deliver,
    evaluation,
    eventually,
    fail,
    make_event,
    put_off,
    replay_whole,
    routed,
    succeed,
)

from engine.core.errors import AmbiguousId, BadQuestion, StoreError
from engine.core.event import Event, Kind
from engine.store.protocol import ORPHANED_AFTER, Store
from engine.store.queries import Backlog, DeliveryQuery, EventQuery
from engine.store.records import Again, Appended, Dead, Digest, Work

_APPENDER = Path(__file__).with_name("appender.py")


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    store = backend.store("me")
    await store.open()
    yield store
    await store.close()


class Appending:
    async def test_keeps_the_event_whole(self, store: Store):
        event = make_event(1, size=300)
        assert await store.append(event, leased=True) == Appended(event.id, duplicate=False)
        detail = await store.event(event.id)
        assert detail is not None
        assert detail.body == event.body
        row = detail.row
        assert (row.id, row.kind, row.rule_id, row.received_at) == (event.id, "rule", "rule-1", T0)
        assert (row.size, row.repaired, row.state) == (len(event.body), False, "pending")
        assert (detail.fetched, detail.evaluations, detail.deliveries, detail.attempts) == (None, [], [], [])

    async def test_a_second_event_of_one_dedup_key_answers_the_firsts_id(self, store: Store):
        first, second = make_event(1), make_event(1, at=T0 + 5)
        assert first.id != second.id
        await store.append(first, leased=True)
        assert await store.append(second, leased=False) == Appended(first.id, duplicate=True)
        assert await store.event(second.id) is None
        assert await all_claimed(store) == []

    async def test_equal_events_in_one_batch_are_distinguished(self, store: Store):
        events = [make_event(number % 10, at=T0 + number) for number in range(200)]
        answers = await asyncio.gather(*(store.append(event, leased=False) for event in events))
        assert [answer.duplicate for answer in answers] == [False] * 10 + [True] * 190
        assert [answer.event_id for answer in answers] == [events[number % 10].id for number in range(200)]
        assert len(await all_claimed(store)) == 10

    async def test_the_very_same_event_again_is_a_duplicate_and_not_evaluated_twice(self, store: Store):
        event, _ = await accepted(store)
        assert await store.append(event, leased=False) == Appended(event.id, duplicate=True)
        assert await all_claimed(store) == []

    async def test_duplicates_are_known_after_a_restart(self, backend: Backend):
        event = make_event(1)
        first = backend.store()
        await first.open()
        await first.append(event, leased=True)
        await first.close()
        second = backend.store()
        await second.open()
        assert await second.append(make_event(1), leased=True) == Appended(event.id, duplicate=True)
        await second.close()

    async def test_leased_work_is_not_for_claimers(self, store: Store):
        mine, free = make_event(1), make_event(2)
        await store.append(mine, leased=True)
        await store.append(free, leased=False)
        assert [claimed.event.id for claimed in await all_claimed(store)] == [free.id]

    async def test_text_that_no_column_takes_is_made_fit_and_the_body_is_kept(self, store: Store):
        event = replace(make_event(1), rule_id="a\0b\ud800c", body=b'{"rule_id": "a\\u0000b"}')
        await store.append(event, leased=True)
        detail = await store.event(event.id)
        assert detail is not None
        assert detail.row.rule_id == "a\ufffdb\ufffdc"
        assert detail.body == event.body

    @pytest.mark.parametrize("size", [0, 8000, 9000, 3_000_000])
    async def test_bodies_of_any_size_come_back_as_they_were(self, store: Store, size: int):
        event = make_event(1, size=size)
        await store.append(event, leased=False)
        (claimed,) = await all_claimed(store)
        assert claimed.event == event

    async def test_kinds_without_a_rule_come_back_as_they_were(self, store: Store):
        event = replace(make_event(1), kind=Kind.UNKNOWN, rule_id=None, repaired=True)
        await store.append(event, leased=False)
        (claimed,) = await all_claimed(store)
        assert claimed.event == event


class Routing:
    async def test_the_evaluation_is_done_and_its_deliveries_are_there(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        one, two = deliver(event, "one"), deliver(event, "two", index=-1, run_id=None, action="other")
        settled = routed(event, one, two, leased=False, decisions=[{"verdict": "true", "found": [1, None]}])
        assert (await store.settle_routed(settled)).inserted == {one.id, two.id}
        claimed = await all_claimed(store)
        assert {piece.work for piece in claimed} == {one, two}
        assert [piece.event for piece in claimed] == [event, event]

    async def test_decisions_are_kept_with_what_they_came_to(self, store: Store):
        event, _ = await accepted(store, "one", "two")
        detail = await store.event(event.id)
        assert detail is not None
        (evaluation,) = detail.evaluations
        assert evaluation["decisions"] == [{"route": "corrections/a", "index": 0, "verdict": "true"}] * 2
        assert (evaluation["config_hash"], evaluation["decided_at"], evaluation["replays"]) == ("hash", T0, 0)
        assert (detail.row.state, detail.row.matched, detail.row.unmatched_reason) == ("routed", 2, None)
        assert (detail.row.open, detail.row.dead) == (2, 0)

    async def test_decisions_with_anything_in_them_are_kept(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        odd = {"text": "\ud800\0é", "big": 2**70, "long": "x" * 20_000, "when": Kind.RULE}
        await store.settle_routed(routed(event, decisions=[odd]))
        detail = await store.event(event.id)
        assert detail is not None
        assert detail.evaluations[0]["decisions"] == [odd]

    async def test_leased_deliveries_are_mine_and_others_are_due(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        one, two = deliver(event, "one"), deliver(event, "two")
        settled = routed(event, one, two, leased=False)
        await store.settle_routed(replace(settled, leased=frozenset([one.id])))
        assert [claimed.work.id for claimed in await all_claimed(store)] == [two.id]
        await succeed(store, one)

    async def test_no_match_is_shown_with_its_reason(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        assert (await store.settle_routed(routed(event, unmatched_reason="unknown_rule"))).inserted == frozenset()
        detail = await store.event(event.id)
        assert detail is not None
        assert (detail.row.state, detail.row.matched) == ("routed", 0)
        assert detail.row.unmatched_reason == "unknown_rule"

    async def test_an_evaluation_that_is_not_mine_changes_nothing(self, store: Store):
        event = make_event()
        await store.append(event, leased=False)
        assert (await store.settle_routed(routed(event, deliver(event)))).inserted == frozenset()
        assert [claimed.work.kind for claimed in await all_claimed(store)] == ["evaluate"]

    async def test_an_evaluation_that_was_overtaken_is_fenced_off(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        began = evaluation(event)
        put_off_once = routed(event, work=began, pending=Again(T0), attempt=attempt("again", reason="not yet"))
        await store.settle_routed(put_off_once)
        (claimed,) = await store.claim(now=T0, limit=5)
        late = routed(event, deliver(event), work=began, attempt=attempt("again"), pending=Again(T0 + 9))
        assert (await store.settle_routed(late)).inserted == frozenset()
        detail = await store.event(event.id)
        assert detail is not None
        assert (len(detail.attempts), detail.evaluations, detail.deliveries) == (1, [], [])
        now = replace(claimed.work, replays=0)
        assert (await store.settle_routed(routed(event, deliver(event), work=now))).inserted == {deliver(event).id}

    async def test_an_evaluation_from_before_a_replay_is_fenced_off(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        await store.release([event.id], due_at=T0)
        await store.replay_events([event.id], now=T0)
        (claimed,) = await store.claim(now=T0, limit=5)
        late, right = (routed(event, deliver(event), work=work) for work in (evaluation(event), claimed.work))
        answers = await asyncio.gather(store.settle_routed(late), store.settle_routed(right))
        assert [answer.inserted for answer in answers] == [frozenset(), {deliver(event).id}]

    async def test_a_delivery_that_is_named_twice_is_inserted_once(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        work = deliver(event)
        settled = await store.settle_routed(routed(event, work, work))
        assert (settled.inserted, settled.leased) == ({work.id}, {work.id})
        assert len(await store.deliveries(DeliveryQuery())) == 1

    async def test_an_evaluation_settled_twice_counts_once(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        work = deliver(event)
        answers = await asyncio.gather(*(store.settle_routed(routed(event, work)) for _ in range(3)))
        assert sorted(len(answer.inserted) for answer in answers) == [0, 0, 1]
        detail = await store.event(event.id)
        assert detail is not None
        assert len(detail.evaluations) == len(detail.deliveries) == 1

    async def test_an_evaluation_can_be_put_off_with_what_is_decided_settled(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        first, second = deliver(event, "first"), deliver(event, "second")
        why = attempt("again", reason="no feedback yet")
        part = routed(event, first, pending=Again(T0 + 30), attempt=why)
        assert (await store.settle_routed(part)).inserted == {first.id}
        await succeed(store, first)
        detail = await store.event(event.id)
        assert detail is not None
        assert (detail.row.state, detail.row.reason) == ("pending", "no feedback yet")
        assert detail.attempts == [why]
        assert list(await store.claim(now=T0 + 29, limit=5)) == []
        (claimed,) = await store.claim(now=T0 + 30, limit=5)
        assert (claimed.work.kind, claimed.work.attempts, claimed.work.error) == ("evaluate", 1, "no feedback yet")
        assert (await store.settle_routed(routed(event, first, second))).inserted == {second.id}
        detail = await store.event(event.id)
        assert detail is not None
        assert len(detail.evaluations) == 2
        assert {row.id: row.state for row in detail.deliveries} == {first.id: "succeeded", second.id: "running"}

    async def test_an_evaluation_that_is_put_off_without_decisions_leaves_none(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        await store.settle_routed(routed(event, pending=Again(T0 + 30), attempt=attempt("again", reason="boom")))
        detail = await store.event(event.id)
        assert detail is not None
        assert detail.evaluations == []

    async def test_an_evaluation_can_die(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        why = attempt("dead", reason="gave up")
        await store.settle_routed(routed(event, pending=Dead("gave up"), attempt=why))
        detail = await store.event(event.id)
        assert detail is not None
        assert (detail.row.state, detail.row.reason) == ("dead", "gave up")
        assert await all_claimed(store) == []

    async def test_deliveries_that_were_there_are_not_inserted_again(self, store: Store):
        event, (dead, done, waiting) = await accepted(store, "dead", "done", "waiting")
        await fail(store, dead)
        await succeed(store, done)
        await put_off(store, waiting, T0 + 1000)
        await store.replay_events([event.id], now=T0)
        (claimed,) = await store.claim(now=T0, limit=5)
        assert claimed.work.kind == "evaluate"
        new = deliver(event, "new")
        assert (await store.settle_routed(routed(event, dead, done, waiting, new))).inserted == {new.id}

    async def test_a_delivery_that_is_being_made_is_replayed_once_it_is_done(self, backend: Backend, store: Store):
        event, deliveries = await accepted(store, "succeeds", "is put off", "dies", "comes to nothing")
        inserted = await replay_whole(store, event, deliveries, leased=True)
        assert inserted == frozenset()
        assert await all_claimed(store) == []
        assert {row.state for row in await store.deliveries(DeliveryQuery())} == {"running"}
        succeeds, put_away, dies, nothing = deliveries
        backend.clock.now = T0 + 60
        await succeed(store, succeeds)
        await put_off(store, put_away, T0 + 1000)
        await fail(store, dies)
        await store.release([nothing.id], due_at=T0 + 1000)
        claimed = {piece.work.id: piece.work for piece in await all_claimed(store, now=T0 + 60)}
        assert set(claimed) == {work.id for work in deliveries}
        for work in claimed.values():
            assert (work.attempts, work.replays, work.first_at, work.due_at) == (0, 1, T0 + 60, T0 + 60)
            await succeed(store, work, at=T0 + 61)
        detail = await store.delivery(succeeds.id)
        assert detail is not None
        assert [(one.replay, one.number, one.outcome) for one in detail.attempts] == [
            (0, 1, "succeeded"),
            (1, 1, "succeeded"),
        ]
        assert (detail.row.state, detail.row.created_at, detail.row.replays) == ("succeeded", T0, 1)
        assert [row.attempts for row in await store.deliveries(DeliveryQuery(ids=[nothing.id]))] == [1]
        assert await all_claimed(store) == []

    async def test_what_a_replay_waits_for_says_in_the_list_how_it_went(self, store: Store):
        event, (bad, good) = await accepted(store, "bad", "good")
        await replay_whole(store, event, [bad, good])
        await fail(store, bad, "404 there")
        await succeed(store, good)
        rows = {row.id: row for row in await store.deliveries(DeliveryQuery())}
        assert {row.state for row in rows.values()} == {"due"}
        assert (rows[bad.id].reason, rows[good.id].reason) == ("404 there", "")

    async def test_several_replays_of_a_delivery_that_is_being_made_are_one(self, store: Store):
        event, (work,) = await accepted(store, "one")
        for _ in range(3):
            assert await replay_whole(store, event, [work]) == frozenset()
        await succeed(store, work)
        (claimed,) = await all_claimed(store)
        assert (claimed.work.replays, claimed.work.attempts) == (3, 0)
        await succeed(store, claimed.work)
        assert await all_claimed(store) == []

    async def test_a_replay_that_was_asked_for_outlives_a_crash(self, backend: Backend):
        gone = backend.store("gone")
        await gone.open()
        event, (work,) = await accepted(gone, "one")
        await replay_whole(gone, event, [work])
        await backend.vanish(gone)
        store = backend.store("new")
        await store.open()
        (claimed,) = await all_claimed(store)
        assert (claimed.work.id, claimed.work.replays, claimed.work.attempts) == (work.id, 1, 0)
        await succeed(store, claimed.work)
        assert await all_claimed(store) == []
        await store.close()

    async def test_a_replay_fires_them_all_again(self, store: Store):
        event, (dead, done, waiting) = await accepted(store, "dead", "done", "waiting")
        await fail(store, dead)
        await succeed(store, done)
        await put_off(store, waiting, T0 + 1000)
        await store.replay_events([event.id], now=T0)
        (claimed,) = await store.claim(now=T0, limit=5)
        again = [replace(work, replays=claimed.work.replays) for work in (dead, done, waiting)]
        assert (await store.settle_routed(routed(event, *again))).inserted == {work.id for work in again}
        rows = await store.deliveries(DeliveryQuery(event_id=event.id))
        assert {row.state for row in rows} == {"running"}
        assert [row.attempts for row in rows] == [1, 1, 1]
        for work in again:
            await succeed(store, work)
        assert {row.state for row in await store.deliveries(DeliveryQuery())} == {"succeeded"}


class Attempting:
    async def test_success_removes_the_work_and_keeps_the_attempt(self, store: Store):
        _, (work,) = await accepted(store, "one")
        done = attempt(status=200, destination="https://x:443", detail={"id": 7})
        assert await store.settle_attempt(work, done, None)
        detail = await store.delivery(work.id)
        assert detail is not None
        assert detail.attempts == [done]
        assert (detail.row.state, detail.row.due_at, detail.row.reason) == ("succeeded", None, "")
        assert (detail.row.created_at, detail.row.updated_at, detail.row.attempts) == (T0, T0 + 0.25, 1)
        assert await store.backlog() == Backlog()

    async def test_again_makes_it_due_later(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await put_off(store, work, T0 + 60, "503 from there")
        (row,) = await store.deliveries(DeliveryQuery())
        assert (row.state, row.due_at, row.reason, row.attempts) == ("due", T0 + 60, "503 from there", 1)
        (claimed,) = await store.claim(now=T0 + 60, limit=1)
        assert claimed.work == replace(work, attempts=1, due_at=T0 + 60, error="503 from there")

    async def test_a_delivery_has_the_destination_that_it_waits_for_or_last_went_to(self, store: Store):
        async def destination() -> str:
            (row,) = await store.deliveries(DeliveryQuery())
            return row.destination

        _, (work,) = await accepted(store, "one")
        assert await destination() == ""
        await store.settle_attempt(work, attempt("again", destination="slack #ops"), Again(T0))
        (claimed,) = await store.claim(now=T0, limit=1)
        assert await destination() == "slack #ops"
        await store.release([work.id], due_at=T0, lane="slack #dev", reason="waits for slack #dev")
        assert await destination() == "slack #dev"
        (claimed,) = await store.claim(now=T0, limit=1)
        await store.settle_attempt(claimed.work, attempt("succeeded", number=2, destination="slack #new"), None)
        assert await destination() == "slack #new"

    async def test_what_failed_attempts_noted_is_there_until_one_succeeds(self, store: Store):
        _, (work,) = await accepted(store, "one")
        assert await store.progress(work.id) == {}
        for number, detail in enumerate(({"done": ["a"]}, {"done": ["a", "b"]}, None), 1):
            again = attempt("again", number=number, detail=detail)
            assert await store.settle_attempt(work, again, Again(T0))
            (claimed,) = await store.claim(now=T0, limit=1)
            work = claimed.work
        assert await store.progress(work.id) == {"done": ["a", "b"]}
        await fail(store, work)
        assert await store.progress(work.id) == {"done": ["a", "b"]}
        await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0)
        (claimed,) = await store.claim(now=T0, limit=1)
        assert await store.progress(work.id) == {"done": ["a", "b"]}
        await succeed(store, claimed.work)
        assert await store.progress(work.id) == {}

    async def test_dead_stays_to_be_looked_at(self, store: Store):
        event, (work,) = await accepted(store, "one")
        await fail(store, work, "404 there")
        (row,) = await store.deliveries(DeliveryQuery(state="dead"))
        assert (row.id, row.event_id, row.reason, row.due_at) == (work.id, event.id, "404 there", None)
        assert await all_claimed(store) == []
        (listed,) = await store.events(EventQuery())
        assert (listed.open, listed.dead) == (0, 1)

    async def test_work_that_is_not_mine_is_fenced_off(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        work = deliver(event)
        await store.settle_routed(routed(event, work, leased=False))
        assert not await store.settle_attempt(work, attempt(), None)
        detail = await store.delivery(work.id)
        assert detail is not None
        assert (detail.row.state, detail.attempts) == ("due", [])

    async def test_an_attempt_that_was_overtaken_is_fenced_off(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await put_off(store, work, T0)
        (claimed,) = await store.claim(now=T0, limit=1)
        assert not await store.settle_attempt(work, attempt(), None)
        await succeed(store, claimed.work)

    async def test_an_attempt_from_before_a_replay_is_fenced_off(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await store.release([work.id], due_at=T0)
        await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0)
        (claimed,) = await store.claim(now=T0, limit=1)
        assert not await store.settle_attempt(work, attempt(), None)
        assert claimed.work.replays == 1
        await succeed(store, claimed.work)

    async def test_one_attempt_settled_several_times_at_once_counts_once(self, store: Store):
        _, (work,) = await accepted(store, "one")
        answers = await asyncio.gather(*(store.settle_attempt(work, attempt(), None) for _ in range(4)))
        assert sorted(answers) == [False, False, False, True]
        detail = await store.delivery(work.id)
        assert detail is not None
        assert len(detail.attempts) == 1

    async def test_the_dead_can_not_be_settled(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await fail(store, work)
        assert not await store.settle_attempt(replace(work, attempts=1), attempt(), None)

    async def test_text_that_no_column_takes_is_made_fit(self, store: Store):
        _, (work,) = await accepted(store, "one")
        odd = "a\0\udfffé" + "x" * 10_000
        await store.settle_attempt(
            work, attempt("dead", reason=odd, destination=odd, detail={"a": "\ud800"}), Dead(odd)
        )
        detail = await store.delivery(work.id)
        assert detail is not None
        assert detail.row.reason.startswith("a\ufffd\ufffdéxxx")
        assert len(detail.row.reason) < 5000
        assert detail.attempts[0].detail == {"a": "\ud800"}


class Claiming:
    async def test_oldest_due_first_and_no_more_than_asked_for(self, store: Store):
        _, work = await accepted(store, "a", "b", "c", "d")
        for piece, due in zip(work, (40.0, 10.0, 30.0, 20.0), strict=True):
            await put_off(store, piece, T0 + due)
        first = await store.claim(now=T0 + 35, limit=2)
        assert [claimed.work.due_at for claimed in first] == [T0 + 10, T0 + 20]
        second = await store.claim(now=T0 + 35, limit=2)
        assert [claimed.work.due_at for claimed in second] == [T0 + 30]
        assert list(await store.claim(now=T0 + 50, limit=0)) == []

    async def test_a_claim_has_no_more_bytes_than_it_may(self, store: Store):
        events = [make_event(number, size=1000, at=T0 + number) for number in range(5)]
        for event in events:
            await store.append(event, leased=False)
        size = len(events[0].body)
        first = await all_claimed(store, max_bytes=2 * size)
        assert [claimed.event.id for claimed in first] == [event.id for event in events[:2]]
        assert await store.next_due() == T0 + 2
        rest = await all_claimed(store, max_bytes=3 * size)
        assert [claimed.event.id for claimed in rest] == [event.id for event in events[2:]]

    async def test_a_claim_takes_one_piece_however_large(self, store: Store):
        for number in range(2):
            await store.append(make_event(number, size=5000, at=T0 + number), leased=False)
        for number in range(2):
            (claimed,) = await all_claimed(store, max_bytes=1)
            assert claimed.event.received_at == T0 + number

    async def test_a_claim_counts_what_was_fetched(self, store: Store):
        events = [make_event(number, at=T0 + number) for number in range(3)]
        for event in events:
            await store.append(event, leased=False)
            await store.save_fetched(event.id, {"inputs": {"a": "x" * 20_000}})
        assert len(await all_claimed(store, max_bytes=50_000)) == 2

    async def test_a_claim_counts_what_was_fetched_for_the_items_of_a_digest(self, store: Store):
        for number in range(2):
            event = make_event(number)
            await store.append(event, leased=True)
            work = deliver(event)
            gates = {work.id: Digest("", 300.0, 2)}
            await store.settle_routed(routed(event, work, leased=False, gates=gates))
            await store.save_fetched(event.id, {"inputs": {"a": "x" * 20_000}})
        await store.append(make_event(2, at=T0 + 400), leased=False)
        (digest,) = await all_claimed(store, max_bytes=40_000)
        assert [item.fetched["inputs"] for item in digest.items] == [{"a": "x" * 20_000}] * 2

    async def test_deliveries_of_one_event_share_it_and_count_it_once(self, store: Store):
        event = make_event(size=50_000)
        await store.append(event, leased=True)
        await store.save_fetched(event.id, {"inputs": {"a": 1}})
        deliveries = [deliver(event, f"d{number}") for number in range(50)]
        await store.settle_routed(routed(event, *deliveries, leased=False))
        claimed = await all_claimed(store, max_bytes=60_000)
        assert len(claimed) == 50
        assert len({id(piece.event) for piece in claimed}) == len({id(piece.fetched) for piece in claimed}) == 1
        assert claimed[0].event == event

    async def test_comes_with_what_was_fetched(self, store: Store):
        event, (work,) = await accepted(store, "one")
        fetched = {"inputs": {"run-0": {"q": "é" * 9000}}, "outputs": {}, "feedback": None}
        await store.save_fetched(event.id, fetched)
        await put_off(store, work, T0)
        (claimed,) = await all_claimed(store)
        assert (claimed.event, claimed.fetched) == (event, fetched)
        detail = await store.event(event.id)
        assert detail is not None
        assert detail.fetched == fetched

    async def test_what_two_deliveries_fetched_is_kept_of_both(self, store: Store):
        event, _ = await accepted(store, "one")
        fetches = [
            {"inputs": {"a": 1, "b": 1}, "outputs": {}, "feedback": None},
            {"inputs": {"b": 2}, "outputs": {"a": "x"}, "feedback": {"a": [{"key": "k"}]}},
            {"inputs": {}, "outputs": {}, "feedback": {"b": []}},
            {"inputs": {"c": None}, "outputs": {}, "feedback": None},
        ]
        await store.save_fetched(event.id, fetches[0])
        await asyncio.gather(*(store.save_fetched(event.id, fetched) for fetched in fetches[1:3]))
        await store.save_fetched(event.id, fetches[3])
        detail = await store.event(event.id)
        assert detail is not None
        assert detail.fetched == {
            "inputs": {"a": 1, "b": 2, "c": None},
            "outputs": {"a": "x"},
            "feedback": {"a": [{"key": "k"}], "b": []},
        }

    async def test_what_was_fetched_last_counts(self, store: Store):
        event, _ = await accepted(store, "one")
        await store.save_fetched(event.id, {"inputs": {"a": 1}})
        await store.save_fetched(event.id, {"inputs": {"a": 2}})
        await store.save_fetched("no-such-event", {"inputs": {}})
        detail = await store.event(event.id)
        assert detail is not None
        assert detail.fetched == {"inputs": {"a": 2}, "outputs": {}, "feedback": None}

    async def test_released_work_is_due_without_an_attempt(self, store: Store):
        _, (work, other) = await accepted(store, "one", "other")
        await store.release([work.id], due_at=T0 + 5)
        assert list(await store.claim(now=T0 + 4, limit=5)) == []
        (claimed,) = await store.claim(now=T0 + 5, limit=5)
        assert claimed.work == replace(work, due_at=T0 + 5)
        await succeed(store, other)

    async def test_what_is_not_mine_can_not_be_released(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await put_off(store, work, T0 + 100)
        await store.release([work.id, "no-such-work"], due_at=T0)
        assert await store.next_due() == T0 + 100

    async def test_work_without_a_body_is_dead_with_a_reason(self, backend: Backend, store: Store):
        event = make_event()
        await store.append(event, leased=False)
        await backend.lose_body(store, event.id)
        assert await all_claimed(store) == []
        (row,) = await store.events(EventQuery(state="dead"))
        assert "body" in row.reason
        assert await store.next_due() is None

    async def test_next_due_is_that_of_unleased_work(self, store: Store):
        assert await store.next_due() is None
        _, (work, other, dead) = await accepted(store, "one", "other", "dead")
        assert await store.next_due() is None
        await put_off(store, work, T0 + 20)
        await put_off(store, other, T0 + 10)
        await fail(store, dead)
        assert await store.next_due() == T0 + 10

    @pytest.mark.parametrize("turns", range(12))
    async def test_a_caller_that_goes_away_has_claimed_nothing(self, store: Store, turns: int):
        """Whenever it goes: while the claim is written, while events are read, with the answer on its way."""
        event = make_event()
        await store.append(event, leased=False)
        claiming = asyncio.create_task(store.claim(now=T0, limit=5))
        for turn in range(turns):
            await asyncio.sleep(0 if turn % 2 else 0.001)
        claiming.cancel()
        if claiming.done():
            assert len(await claiming) == 1
            return
        with pytest.raises(asyncio.CancelledError):
            await claiming

        async def is_back() -> bool:
            return len(await all_claimed(store)) == 1

        await eventually(is_back)

    async def test_the_decisions_of_a_round_are_its_own(self, store: Store):
        event, (work,) = await accepted(store, "one")
        await replay_whole(store, event, [work])
        detail = await store.event(event.id)
        assert detail is not None
        assert len(detail.evaluations) == 2
        for replays, evaluations in enumerate(detail.evaluations):
            assert await store.decisions(event.id, replays) == [evaluations]
        assert await store.decisions(event.id, 2) == await store.decisions("no-such-event", 0) == []


class Living:
    async def test_work_of_a_process_that_crashed_is_due_at_once(self, backend: Backend):
        gone = backend.store("gone")
        await gone.open()
        _, (work, waiting) = await accepted(gone, "one", "waiting")
        await put_off(gone, waiting, T0 + 1e5)
        unrouted = make_event(2)
        await gone.append(unrouted, leased=True)
        await backend.vanish(gone)
        backend.clock.now = T0 + 20
        store = backend.store("new")
        await store.open()
        await store.heartbeat(now=T0 + 20)
        claimed = await store.claim(now=T0 + 20, limit=10)
        assert {piece.work.id for piece in claimed} == {work.id, unrouted.id}
        assert not await gone_settles(store, waiting)
        await store.close()

    async def test_work_held_at_close_is_due_for_the_next(self, backend: Backend):
        first = backend.store("same-name")
        await first.open()
        _, (work,) = await accepted(first, "one")
        await first.close()
        second = backend.store("same-name")
        await second.open()
        assert [claimed.work.id for claimed in await all_claimed(second)] == [work.id]
        await second.close()

    async def test_a_beat_leaves_held_work_alone(self, backend: Backend, store: Store):
        _, (work,) = await accepted(store, "one")
        for seconds in (2, 4, 600):
            backend.clock.now = T0 + seconds
            await store.heartbeat(now=T0 + seconds)
        assert await all_claimed(store) == []
        await succeed(store, work)

    async def test_a_heartbeat_frees_work_that_no_process_holds(self, backend: Backend, store: Store):
        _, (held, lost) = await accepted(store, "held", "lost")
        unrouted = make_event(2)
        await store.append(unrouted, leased=True)
        await store.heartbeat(now=T0 + ORPHANED_AFTER, holding=[])
        assert await all_claimed(store) == []
        backend.clock.now = T0 + ORPHANED_AFTER + 1
        await store.heartbeat(now=backend.clock.now, holding={held.id})
        claimed = {piece.work.id: piece.work for piece in await all_claimed(store, now=backend.clock.now)}
        assert set(claimed) == {lost.id, unrouted.id}
        assert (claimed[lost.id].attempts, claimed[lost.id].first_at) == (0, T0)
        await succeed(store, held)

    async def test_a_clock_set_back_leaves_no_work_unowned_for_hours(self, backend: Backend, store: Store):
        _, (held, lost) = await accepted(store, "held", "lost")
        backend.clock.now = T0 - 5 * 3600
        await store.heartbeat(now=backend.clock.now, holding={held.id})
        assert [piece.work.id for piece in await all_claimed(store, now=backend.clock.now)] == [lost.id]
        await succeed(store, held)

    async def test_a_lease_counts_from_when_it_was_last_taken(self, backend: Backend, store: Store):
        _, (work,) = await accepted(store, "one")
        backend.clock.now = T0 + 100
        await put_off(store, work, T0 + 100)
        (claimed,) = await store.claim(now=T0 + 100, limit=1)
        backend.clock.now = T0 + 110
        event = make_event(2, at=T0)
        await store.append(event, leased=True)
        born = deliver(event)
        await store.settle_routed(routed(event, born))
        await store.heartbeat(now=T0 + 120, holding=())
        assert await all_claimed(store) == []
        await succeed(store, claimed.work)
        await succeed(store, born)

    async def test_a_beat_that_knows_of_nothing_in_hand_frees_the_dead_never(self, backend: Backend, store: Store):
        _, (dead, waiting) = await accepted(store, "dead", "waiting")
        await fail(store, dead)
        await put_off(store, waiting, T0 + 1e9)
        await store.heartbeat(now=T0 + 1000, holding=[])
        assert await all_claimed(store) == []

    async def test_what_a_beat_freed_and_somebody_else_took_is_fenced_off_once(self, backend: Backend, store: Store):
        _, (work,) = await accepted(store, "one")
        await store.heartbeat(now=T0 + 1000, holding=[])
        (claimed,) = await all_claimed(store)
        answers = await asyncio.gather(*(store.settle_attempt(one, attempt(), None) for one in (claimed.work, work)))
        assert sorted(answers) == [False, True]

    async def test_a_store_that_is_closed_or_not_open_says_so(self, backend: Backend):
        store = backend.store()
        with pytest.raises(StoreError, match="not open"):
            await store.append(make_event(), leased=True)
        with pytest.raises(StoreError, match="not open"):
            await store.events(EventQuery())
        await store.open()
        await store.close()
        with pytest.raises(StoreError, match="not open"):
            await store.claim(now=T0, limit=1)
        with pytest.raises(StoreError, match="not open"):
            await store.next_due()

    async def test_what_was_handed_in_before_closing_is_kept(self, backend: Backend):
        store = backend.store()
        await store.open()
        events = [make_event(number) for number in range(300)]
        appends = [asyncio.ensure_future(store.append(event, leased=True)) for event in events]
        await asyncio.sleep(0)
        await store.close()
        assert {answer.event_id for answer in await asyncio.gather(*appends)} == {event.id for event in events}
        again = backend.store()
        await again.open()
        assert len(await all_claimed(again, limit=1000)) == 300
        await again.close()

    async def test_every_acknowledged_append_survives_kill_9(self, backend: Backend):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(_APPENDER), backend.url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        acknowledged = [(await process.stdout.readline()).decode().strip() for _ in range(400)]
        process.send_signal(signal.SIGKILL)
        rest = (await process.stdout.read()).decode()
        await process.wait()
        whole_lines = rest[: rest.rfind("\n") + 1].split()
        acknowledged += whole_lines
        store = backend.store()
        await store.open()
        kept = {claimed.event.id for claimed in await all_claimed(store, now=4e9, limit=100_000)}
        await store.close()
        assert set(acknowledged) <= kept


class Replaying:
    async def test_dead_deliveries_are_due_again_and_counted_afresh(self, store: Store):
        _, (work, other) = await accepted(store, "one", "other")
        await put_off(store, work, T0)
        (claimed,) = await store.claim(now=T0, limit=1)
        await fail(store, claimed.work)
        await succeed(store, other)
        assert await store.replay_deliveries(DeliveryQuery(state="dead"), now=T0 + 50) == [work.id]
        (claimed,) = await store.claim(now=T0 + 50, limit=5)
        again = claimed.work
        assert (again.id, again.attempts, again.replays, again.first_at) == (work.id, 0, 1, T0 + 50)
        await succeed(store, again, at=T0 + 51)
        detail = await store.delivery(work.id)
        assert detail is not None
        assert [(one.replay, one.number, one.outcome) for one in detail.attempts] == [
            (0, 1, "again"),
            (0, 2, "dead"),
            (1, 1, "succeeded"),
        ]
        assert (detail.row.attempts, detail.row.replays, detail.row.created_at) == (3, 1, T0)

    async def test_a_delivery_that_succeeded_can_be_made_again(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await succeed(store, work)
        for replays in (1, 2):
            assert await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0 + 9) == [work.id]
            (claimed,) = await store.claim(now=T0 + 9, limit=5)
            assert claimed.work == replace(work, replays=replays, first_at=T0 + 9, due_at=T0 + 9)
            await succeed(store, claimed.work)
            (row,) = await store.deliveries(DeliveryQuery())
            assert (row.state, row.replays, row.attempts) == ("succeeded", replays, replays + 1)

    async def test_waiting_deliveries_are_made_at_once_and_running_ones_left_alone(self, store: Store):
        _, (waiting, running) = await accepted(store, "waiting", "running")
        await put_off(store, waiting, T0 + 1000)
        assert await store.replay_deliveries(DeliveryQuery(), now=T0) == [waiting.id]
        assert [claimed.work.id for claimed in await store.claim(now=T0, limit=5)] == [waiting.id]
        await succeed(store, running)

    async def test_a_running_delivery_that_is_replayed_by_id_is_left_alone(self, store: Store):
        _, (work,) = await accepted(store, "one")
        assert await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0) == []
        await succeed(store, work)
        assert await all_claimed(store) == []

    async def test_an_event_replay_outdoes_one_that_is_still_waited_for(self, store: Store):
        event, (work,) = await accepted(store, "one")
        await replay_whole(store, event, [work])
        await store.replay_events([event.id], now=T0)
        (claimed,) = await all_claimed(store)
        assert claimed.work.replays == 2

    async def test_very_many_are_replayed_while_events_are_accepted(self, store: Store):
        async def dead(number: int) -> list[Work]:
            _, works = await accepted(store, *(f"d{one}" for one in range(50)), number=number)
            await asyncio.gather(*(fail(store, work) for work in works))
            return works

        works = [work for some in await asyncio.gather(*map(dead, range(50))) for work in some]
        query = DeliveryQuery(state="dead", limit=100_000)
        assert set(await store.replay_deliveries(query, now=T0, dry_run=True)) == {work.id for work in works}
        replaying = asyncio.ensure_future(store.replay_deliveries(query, now=T0 + 1))
        appended = 0
        while not replaying.done():
            await store.append(make_event(1000 + appended), leased=True)
            appended += 1
        assert appended > 3, "none of them waits for the whole of it"
        ids = await replaying
        assert sorted(ids) == sorted(work.id for work in works)
        assert (await store.backlog()).dead == 0

    async def test_no_more_are_replayed_than_asked_for_the_newest_first(self, store: Store):
        events = [(await accepted(store, "one", number=number, at=T0 + number))[1][0] for number in range(4)]
        for work in events:
            await fail(store, work)
        query = DeliveryQuery(state="dead", limit=2)
        assert list(await store.replay_deliveries(query, now=T0)) == [events[3].id, events[2].id]

    async def test_a_dry_run_changes_nothing(self, store: Store):
        event, (work,) = await accepted(store, "one")
        await fail(store, work)
        assert await store.replay_deliveries(DeliveryQuery(), now=T0, dry_run=True) == [work.id]
        assert await store.replay_events([event.id], now=T0, dry_run=True) == [event.id]
        assert await all_claimed(store) == []

    async def test_without_a_body_there_is_nothing_to_replay(self, backend: Backend, store: Store):
        event, (work,) = await accepted(store, "one")
        await fail(store, work)
        await backend.lose_body(store, event.id)
        assert await store.replay_deliveries(DeliveryQuery(), now=T0) == []
        assert await store.replay_events([event.id, "no-such-event"], now=T0) == []
        assert (await store.deliveries(DeliveryQuery()))[0].state == "dead"

    async def test_events_are_evaluated_again_in_the_order_asked(self, store: Store):
        first, _ = await accepted(store, number=1)
        second, _ = await accepted(store, number=2)
        assert await store.replay_events([second.id, first.id, second.id], now=T0 + 7) == [second.id, first.id]
        claimed = await all_claimed(store)
        assert {piece.work.id for piece in claimed} == {first.id, second.id}
        assert {(piece.work.kind, piece.work.replays, piece.work.due_at) for piece in claimed} == {
            ("evaluate", 1, T0 + 7)
        }

    async def test_dead_and_waiting_evaluations_can_be_replayed_but_running_ones_are_left_alone(self, store: Store):
        dead, waiting, running = events = [make_event(number) for number in range(3)]
        for event in events:
            await store.append(event, leased=True)
        why = attempt("dead", reason="no")
        await store.settle_routed(routed(dead, pending=Dead("no"), attempt=why))
        await store.settle_routed(routed(waiting, pending=Again(T0 + 1000), attempt=why))
        assert await store.replay_events([event.id for event in events], now=T0) == [dead.id, waiting.id]
        claimed = await store.claim(now=T0, limit=5)
        assert {(piece.work.id, piece.work.replays, piece.work.attempts) for piece in claimed} == {
            (dead.id, 1, 0),
            (waiting.id, 1, 0),
        }
        assert (await store.settle_routed(routed(running))).inserted == frozenset()
        assert (await store.events(EventQuery(state="pending"))) != []

    async def test_an_event_replay_outdoes_every_replay_of_its_deliveries(self, store: Store):
        event, (work,) = await accepted(store, "one")
        await succeed(store, work)
        for _ in range(3):
            await store.replay_deliveries(DeliveryQuery(), now=T0)
            (claimed,) = await all_claimed(store)
            await succeed(store, claimed.work)
        await store.replay_events([event.id], now=T0)
        (claimed,) = await all_claimed(store)
        assert claimed.work.replays == 4
        again = replace(work, replays=claimed.work.replays)
        assert (await store.settle_routed(routed(event, again))).inserted == {work.id}


class Listing:
    async def test_events_newest_first_page_by_page(self, store: Store):
        events = [make_event(number, at=T0 + number // 2) for number in range(25)]
        for event in events:
            await store.append(event, leased=True)
        seen: list[str] = []
        before = None
        while rows := await store.events(EventQuery(before=before, limit=10)):
            seen += [row.id for row in rows]
            before = rows[-1].id
        in_order = sorted(events, key=lambda event: (event.received_at, event.id), reverse=True)
        assert seen == [event.id for event in in_order]

    async def test_events_by_kind_rule_time_and_state(self, store: Store):
        plain, other, alert = make_event(1), make_event(2, at=T0 + 10, rule="rule-2"), make_event(3, at=T0 + 20)
        alert = replace(alert, kind=Kind.ALERT)
        for event in (plain, other, alert):
            await store.append(event, leased=True)
        await store.settle_routed(routed(other, unmatched_reason="no_match"))
        dead = Dead("No answer from there")
        await store.settle_routed(routed(alert, pending=dead, attempt=attempt("dead", reason=dead.reason)))

        async def ids(query: EventQuery) -> list[str]:
            return [row.id for row in await store.events(query)]

        assert await ids(EventQuery(kind="alert")) == [alert.id]
        assert await ids(EventQuery(rule_id="rule-2")) == [other.id]
        assert await ids(EventQuery(since=T0 + 10)) == [alert.id, other.id]
        assert await ids(EventQuery(until=T0 + 10)) == [other.id, plain.id]
        assert await ids(EventQuery(since=T0 + 1, until=T0 + 15)) == [other.id]
        assert await ids(EventQuery(state="pending")) == [plain.id]
        assert await ids(EventQuery(state="routed")) == [other.id]
        assert await ids(EventQuery(state="dead")) == [alert.id]
        assert await ids(EventQuery(state="dead", error="no ANSWER")) == [alert.id]
        assert await ids(EventQuery(state="dead", error="other words")) == []
        assert await ids(EventQuery(state="dead", event_id=alert.id, since=T0 + 20, until=T0 + 20)) == [alert.id]
        assert await ids(EventQuery(state="dead", event_id=other.id)) == []
        assert await ids(EventQuery(unmatched=True)) == [other.id]
        assert await ids(EventQuery(unmatched=False)) == [alert.id, plain.id]

    async def test_an_event_whose_evaluation_is_dead_is_not_unmatched(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        given_up = routed(event, unmatched_reason="no_match", pending=Dead("no"), attempt=attempt("dead"))
        await store.settle_routed(given_up)
        (row,) = await store.events(EventQuery(state="dead"))
        assert row.unmatched_reason is None
        assert await store.events(EventQuery(unmatched=True)) == []

    async def test_an_event_that_matched_in_the_end_is_not_unmatched(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        await store.settle_routed(routed(event, unmatched_reason="no_match"))
        await store.replay_events([event.id], now=T0)
        await all_claimed(store)
        await store.settle_routed(routed(event, deliver(event)))
        assert await store.events(EventQuery(unmatched=True)) == []

    async def test_deliveries_newest_first_page_by_page_whatever_their_state(self, store: Store):
        for number in range(12):
            _, (one, two) = await accepted(store, "one", "two", number=number, at=T0 + number)
            if number % 3 == 0:
                await succeed(store, one)
            if number % 4 == 0:
                await fail(store, two)
        everything = await store.deliveries(DeliveryQuery(limit=100))
        assert len(everything) == 24
        assert [row.event_id for row in everything] == sorted((row.event_id for row in everything), reverse=True)
        seen: list[str] = []
        before = None
        while rows := await store.deliveries(DeliveryQuery(before=before, limit=5)):
            seen += [row.id for row in rows]
            before = rows[-1].id
        assert seen == [row.id for row in everything]

    async def test_deliveries_by_state_route_action_event_error_and_time(self, store: Store):
        event, (dead, done, due, running) = await accepted(store, "dead", "done", "due", "running")
        await fail(store, dead, "Connection RESET by peer")
        await succeed(store, done)
        await put_off(store, due, T0 + 5, "429")
        later = make_event(2, at=T0 + 100)
        await store.append(later, leased=True)
        odd = deliver(later, "odd", route="alerts", action="notify", at=T0 + 100)
        await store.settle_routed(routed(later, odd))
        await succeed(store, odd)

        async def ids(query: DeliveryQuery) -> set[str]:
            return {row.id for row in await store.deliveries(query)}

        assert await ids(DeliveryQuery(state="dead")) == {dead.id}
        assert await ids(DeliveryQuery(state="due")) == {due.id}
        assert await ids(DeliveryQuery(state="running")) == {running.id}
        assert await ids(DeliveryQuery(state="succeeded")) == {done.id, odd.id}
        assert await ids(DeliveryQuery(route="alerts")) == {odd.id}
        assert await ids(DeliveryQuery(action="notify")) == {odd.id}
        assert await ids(DeliveryQuery(event_id=event.id)) == {dead.id, done.id, due.id, running.id}
        assert await ids(DeliveryQuery(error="reset by")) == {dead.id}
        assert await ids(DeliveryQuery(ids=[done.id, due.id, "none"])) == {done.id, due.id}
        assert await ids(DeliveryQuery(since=T0 + 50)) == {odd.id}
        assert await ids(DeliveryQuery(until=T0 + 50)) == {dead.id, done.id, due.id, running.id}
        assert await ids(DeliveryQuery(since=T0 + 500)) == set()

    async def test_what_does_not_exist_is_refused_or_none(self, store: Store):
        assert await store.event("none") is None
        assert await store.delivery("none") is None
        for query in (EventQuery(state="lost"), EventQuery(before="none")):
            with pytest.raises(BadQuestion, match=r"lost|none"):
                await store.events(query)
        for other in (DeliveryQuery(state="lost"), DeliveryQuery(before="none")):
            with pytest.raises(BadQuestion, match=r"lost|none"):
                await store.deliveries(other)

    async def test_the_start_of_an_id_will_do_while_it_is_alone(self, store: Store):
        event, (work, done) = await accepted(store, "one", "done")
        await succeed(store, done)
        detail = await store.event(event.id[:-1])
        assert detail is not None
        assert detail.row.id == event.id
        for piece in (work, done):
            found = await store.delivery(piece.id[:-1])
            assert found is not None
            assert found.row.id == piece.id
        other, _ = await accepted(store, "one-too", number=2)
        with pytest.raises(AmbiguousId, match=f"such as .*{work.id}"):
            await store.delivery("one")
        with pytest.raises(AmbiguousId, match="ambiguous"):
            await store.event(event.id[:10])
        assert (await store.event(other.id)) is not None

    async def test_an_id_that_begins_another_is_still_found(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        short, long = deliver(event), deliver(event)
        short, long = replace(short, id="abc"), replace(long, id="abcd")
        await store.settle_routed(routed(event, short, long))
        await succeed(store, long)
        found = await store.delivery("abc")
        assert found is not None
        assert found.row.id == "abc"

    async def test_the_backlog_counts_what_waits(self, backend: Backend, store: Store):
        assert await store.backlog() == Backlog()
        _, (dead, due, _running) = await accepted(store, "dead", "due", "running")
        await fail(store, dead)
        await put_off(store, due, T0 + 10)
        await store.append(make_event(2, at=T0 + 30), leased=False)
        assert await store.backlog() == Backlog(1, 2, 1, None, {"corrections/a": 2}, unassigned=1)
        backend.clock.now = T0 + 15
        assert (await store.backlog()).oldest_due_at == T0 + 10


class Together:
    async def test_hundreds_of_callers_get_each_its_own_answer(self, store: Store):
        async def life(number: int) -> None:
            _, (first, second) = await accepted(store, "a", "b", number=number)
            await succeed(store, first)
            if number % 2:
                await fail(store, second, f"reason {number}")
            else:
                await put_off(store, second, T0 + number)

        await asyncio.gather(*(life(number) for number in range(400)))
        backlog = await store.backlog()
        assert (backlog.evaluations, backlog.deliveries, backlog.dead) == (0, 200, 200)
        rows = await store.deliveries(DeliveryQuery(state="succeeded", limit=1000))
        assert len(rows) == 400
        (row,) = await store.deliveries(DeliveryQuery(error="reason 377"))
        assert row.reason == "reason 377"

    async def test_reads_and_writes_side_by_side(self, store: Store):
        async def writing(number: int) -> None:
            _, (work,) = await accepted(store, "a", number=number)
            await succeed(store, work)

        async def reading() -> int:
            return len(await store.events(EventQuery(limit=1000))) + len(await store.deliveries(DeliveryQuery()))

        await asyncio.gather(*(writing(number) for number in range(100)), *(reading() for _ in range(20)))
        assert len(await store.events(EventQuery(limit=1000))) == 100

    async def test_cancelled_callers_leave_the_others_alone_and_their_events_get_routed(self, store: Store):
        events = [make_event(number) for number in range(200)]
        appends = [asyncio.ensure_future(store.append(event, leased=True)) for event in events]
        await asyncio.sleep(0)
        # What is answered already can't be cancelled any more.
        gone = {event.id for event, append in list(zip(events, appends, strict=True))[::2] if append.cancel()}
        answers = await asyncio.gather(*appends, return_exceptions=True)
        for event, answer in zip(events, answers, strict=True):
            if event.id in gone:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert answer == Appended(event.id, duplicate=False)
        claimed: set[str] = set()

        async def all_are_there() -> bool:
            claimed.update(piece.event.id for piece in await all_claimed(store))
            return claimed == gone

        await eventually(all_are_there)

    async def test_a_copy_whose_caller_is_cancelled_leaves_the_first_event_to_its_owner(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        copy = asyncio.ensure_future(store.append(event, leased=True))
        await asyncio.sleep(0)
        copy.cancel()
        await asyncio.sleep(0.1)
        assert (await store.append(make_event(1), leased=True)).duplicate is False  # what was to be done is done
        assert await all_claimed(store) == []
        assert (await store.settle_routed(routed(event, deliver(event)))).inserted == {deliver(event).id}

    async def test_deliveries_of_a_cancelled_caller_are_due(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        work = deliver(event)
        settling = asyncio.create_task(store.settle_routed(routed(event, work)))
        await asyncio.sleep(0)
        settling.cancel()

        async def is_due() -> bool:
            return [claimed.work.id for claimed in await all_claimed(store)] == [work.id]

        await eventually(is_due)

    async def test_a_verb_that_can_not_be_done_hurts_no_other(self, store: Store):
        good = [make_event(number) for number in range(50)]
        bad = [replace(make_event(100 + number), received_at=None) for number in range(3)]  # type: ignore[arg-type]
        mixed: list[Event] = [*good[:20], bad[0], *good[20:30], bad[1], bad[2], *good[30:]]
        answers = await asyncio.gather(*(store.append(one, leased=True) for one in mixed), return_exceptions=True)
        for event, answer in zip(mixed, answers, strict=True):
            if event in bad:
                assert isinstance(answer, StoreError)
            else:
                assert answer == Appended(event.id, duplicate=False)
        assert len(await store.events(EventQuery(limit=100))) == 50

    async def test_a_settle_that_can_not_be_done_changes_nothing(self, store: Store):
        _, (one, two) = await accepted(store, "one", "two")
        broken = store.settle_attempt(one, attempt(number=2**80), None)
        fine = store.settle_attempt(two, attempt(), None)
        answers = await asyncio.gather(broken, fine, return_exceptions=True)
        assert isinstance(answers[0], StoreError)
        assert answers[1] is True
        await succeed(store, one)


class StoreContract(Appending, Routing, Attempting, Claiming, Living, Replaying, Listing, Together):
    """All of it."""


async def gone_settles(store: Store, work: object) -> bool:
    """What the crashed process would still try is fenced, for its work is another's now."""
    return await store.settle_attempt(replace(work, attempts=1), attempt(), None)  # type: ignore[type-var]

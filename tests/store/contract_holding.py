"""What every store holds back: lanes whose destination is shut, windows of throttles and digests, mutes and pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from store_cases import (
    T0,
    Backend,
    accepted,
    all_claimed,
    attempt,
    deliver,
    evaluation,
    fail,
    make_event,
    routed,
    succeed,
)

from engine.core.event import Event
from engine.store.protocol import BUSY_RECHECK, PAUSED_RECHECK, Store
from engine.store.queries import DeliveryQuery
from engine.store.records import Again, Claimed, Control, Dead, Digest, Settled, Throttle, Wait, Work

HOUR = 3600.0
ONE_IN_10_MINUTES = Throttle("session-1", 600.0)
EVERY_5_MINUTES = Digest("", 300.0, 3)


async def parked(store: Store, lane: str, count: int, *, first: int = 0, due_at: float = T0) -> list[Work]:
    """Deliveries that wait in a lane."""
    works = []
    for number in range(first, first + count):
        _, (work,) = await accepted(store, "d1", number=number)
        await store.release([work.id], due_at=due_at + number / 1000, lane=lane, reason=f"waits for {lane}")
        works.append(work)
    return works


async def gated(store: Store, number: int, gate: Throttle | Digest, **extra: Any) -> tuple[Event, Work, Settled]:
    """An event whose one delivery meets a gate."""
    event = make_event(number)
    await store.append(event, leased=True)
    work = deliver(event, **extra)
    decision = {"route": work.route, "index": 0, "verdict": "true", "fires": [work.action]}
    settled = await store.settle_routed(routed(event, work, decisions=[decision], gates={work.id: gate}))
    return event, work, settled


async def decision_of(store: Store, event: Event) -> dict[str, Any]:
    detail = await store.event(event.id)
    assert detail is not None
    (decision,) = detail.evaluations[-1]["decisions"]
    return decision


async def replayed(store: Store, event: Event, work: Work, gate: Throttle | Digest) -> Settled:
    """A person replays an event, and its one delivery meets the gate again."""
    await store.replay_events([event.id], now=T0)
    (claimed,) = await store.claim(now=T0, limit=1)
    again = replace(work, replays=claimed.work.replays)
    return await store.settle_routed(routed(event, again, gates={work.id: gate}, work=claimed.work))


def suppressed(settled: Settled, work: Work) -> int:
    """How many a delivery is to tell were held back."""
    count: int = settled.variables[work.id]["throttle"]["suppressed"]
    return count


def ids(claimed: Sequence[Claimed]) -> list[str]:
    return [one.work.id for one in claimed]


class Lanes:
    async def test_work_waits_in_the_queue_it_was_released_to(self, store: Store):
        (work,) = await parked(store, "slack #a", 1)
        row = (await store.deliveries(DeliveryQuery()))[0]
        assert (row.state, row.attempts, row.reason) == ("due", 0, "waits for slack #a")
        assert (await store.backlog()).by_lane == {"slack #a": 1}
        (claimed,) = await all_claimed(store)
        assert claimed.work == replace(work, lane="slack #a", error="waits for slack #a")

    async def test_a_failed_attempt_waits_in_its_destinations_queue(self, store: Store):
        _, (work,) = await accepted(store, "d1")
        assert await store.settle_attempt(work, attempt("again", reason="503"), Again(T0 + 5, lane="slack #a"))
        assert (await store.backlog()).by_lane == {"slack #a": 1}
        await store.release(ids(await all_claimed(store)), due_at=T0)
        assert (await store.backlog()).by_lane == {"slack #a": 1}, "where it was"

    async def test_no_more_is_taken_of_a_queue_than_its_capacity(self, store: Store):
        await parked(store, "full", 5)
        await parked(store, "some", 5, first=5)
        await parked(store, "free", 5, first=10)
        claimed = await store.claim(now=T0 + 1, limit=100, capacity={"full": 0, "some": 2})
        lanes = [one.work.lane for one in claimed]
        assert (lanes.count("full"), lanes.count("some"), lanes.count("free")) == (0, 2, 5)

    async def test_queues_take_turns_oldest_first(self, store: Store):
        long = await parked(store, "a long one", 20)
        short = await parked(store, "short", 2, first=20, due_at=T0 + 1)
        claimed = await store.claim(now=T0 + 2, limit=6)
        assert set(ids(list(claimed))) == {work.id for work in [*long[:4], *short]}

    async def test_the_queue_that_waited_longest_comes_first_however_little_is_taken(self, store: Store):
        await parked(store, "a", 5, due_at=T0 + 60)
        old = await parked(store, "z", 5, first=5)
        taken = [(await store.claim(now=T0 + 60, limit=1)).pieces[0] for _ in range(6)]
        assert {one.work.id for one in taken[:5]} == {work.id for work in old}
        assert taken[5].work.lane == "a"

    async def test_work_that_is_not_due_stays_in_its_queue(self, store: Store):
        await parked(store, "later", 1, due_at=T0 + 60)
        assert list(await store.claim(now=T0 + 59, limit=5)) == []
        assert len(await store.claim(now=T0 + 60, limit=5)) == 1

    async def test_what_was_claimed_because_its_time_was_over_is_due_after_a_crash(self, backend: Backend):
        gone = backend.store("gone")
        await gone.open()
        _, (work,) = await accepted(gone, "one")
        await gone.release([work.id], due_at=T0 + 1000, lane="shut", until=T0 + 9)
        assert ids(list(await gone.claim(now=T0 + 10, limit=5, paused={"shut"}))) == [work.id]
        await backend.vanish(gone)
        backend.clock.now = T0 + 10
        store = backend.store("new")
        await store.open()
        assert ids(list(await store.claim(now=T0 + 10, limit=5))) == [work.id]
        await store.close()

    async def test_of_a_paused_queue_only_expired_work_is_taken(self, store: Store):
        works = await parked(store, "shut", 2)
        _, (third,) = await accepted(store, "d1", number=2)
        await store.release([third.id], due_at=T0, lane="shut", until=T0 + 9)
        claim = partial(store.claim, limit=5, paused={"shut"})
        assert list(await claim(now=T0 + 8.9)) == []
        assert await store.next_due(paused={"shut"}) == T0 + 9
        assert ids(await claim(now=T0 + 9)) == [third.id]
        await store.release([third.id], due_at=T0 + 60)
        assert ids(await claim(now=T0 + 9)) == [third.id], "its time stays what it was"
        await store.release([third.id], due_at=T0, uncounted=30.0)
        assert list(await claim(now=T0 + 38.9)) == []
        assert ids(await claim(now=T0 + 39)) == [third.id]
        assert set(ids(await store.claim(now=T0 + 39, limit=5, reopened={"shut"}))) == {work.id for work in works}

    async def test_a_failed_attempt_and_a_new_delivery_have_their_time_too(self, store: Store):
        _, (work,) = await accepted(store, "d1")
        await store.settle_attempt(work, attempt("again"), Again(T0 + 5, "shut", until=T0 + 9))
        event = make_event(1)
        await store.append(event, leased=True)
        born = deliver(event, lane="shut", until=T0 + 8)
        await store.settle_routed(routed(event, born, leased=False))
        claim = partial(store.claim, limit=5, paused={"shut"})
        assert ids(await claim(now=T0 + 8)) == [born.id]
        assert ids(await claim(now=T0 + 9)) == [work.id]

    async def test_a_replay_in_a_paused_queue_is_claimed_at_once(self, store: Store):
        _, (work,) = await accepted(store, "d1")
        await store.settle_attempt(work, attempt("again"), Again(T0, "shut", until=T0 + HOUR))
        (claimed,) = await store.claim(now=T0, limit=1)
        await fail(store, claimed.work)
        await store.replay_deliveries(DeliveryQuery(state="dead"), now=T0 + 5)
        assert ids(await store.claim(now=T0 + 5, limit=5, paused={"shut"})) == [work.id]

    async def test_expired_work_in_an_open_queue_overtakes_nothing(self, store: Store):
        _, (work,) = await accepted(store, "d1")
        await store.release([work.id], due_at=T0 + 100, lane="open", until=T0 + 9)
        assert list(await store.claim(now=T0 + 9, limit=5)) == []
        assert await store.next_due() == T0 + 100
        assert list(await store.claim(now=T0 + 99, limit=5, paused={"open"})) == []
        assert ids(await store.claim(now=T0 + 9 + HOUR, limit=5, paused={"open"})) == [work.id]

    async def test_of_what_is_overdue_no_more_is_taken_than_was_asked_for(self, store: Store):
        for number in range(20):
            event = make_event(number, size=1000)
            await store.append(event, leased=True)
            await store.settle_routed(routed(event, work := deliver(event)))
            await store.release([work.id], due_at=T0, lane="gone", until=T0 + 1)
        claim = partial(store.claim, now=T0 + 9, paused={"gone"})
        assert len(await claim(limit=100, max_bytes=2500)) == 2
        assert len(await claim(limit=1)) == 1
        assert len(await claim(limit=20)) == 10, "half, so that other lanes have the rest"
        assert len(await claim(limit=100)) == 7

    async def test_a_skipped_queue_is_claimed_again_when_it_opens_or_after_a_while(self, store: Store):
        for number, name in enumerate(("busy", "shut", "shut for long")):
            await parked(store, name, 1, first=number)
        found = await store.claim(now=T0 + 1, limit=9, capacity={"busy": 0}, paused={"shut", "shut for long"})
        assert (list(found), found.skipped) == ([], {"busy", "shut", "shut for long"})
        again = await store.claim(now=T0 + 1, limit=9)
        assert (list(again), again.remaining, again.skipped, again.emptied) == ([], set(), set(), set())
        assert await store.next_due() == T0 + 1 + BUSY_RECHECK
        opened = await store.claim(now=T0 + 1, limit=9, reopened={"shut", "nobody knows"})
        assert ([one.work.lane for one in opened], opened.emptied) == (["shut"], {"shut"})
        assert [one.work.lane for one in await store.claim(now=T0 + 1 + BUSY_RECHECK, limit=9)] == ["busy"]
        assert [one.work.lane for one in await store.claim(now=T0 + 1 + PAUSED_RECHECK, limit=9)] == ["shut for long"]
        assert await store.next_due() is None

    async def test_what_is_stored_in_a_skipped_queue_is_found(self, store: Store):
        await parked(store, "busy", 1)
        await store.claim(now=T0 + 1, limit=9, capacity={"busy": 0})
        await parked(store, "busy", 1, first=1)
        assert len(await store.claim(now=T0 + 1, limit=9)) == 2

    async def test_a_restart_looks_at_every_queue(self, backend: Backend, store: Store):
        await parked(store, "shut", 1)
        await store.claim(now=T0 + 1, limit=9, paused={"shut"})
        await store.close()
        again = backend.store("another")
        await again.open()
        assert len(await again.claim(now=T0 + 1, limit=9)) == 1
        await again.close()

    async def test_a_long_queue_fills_what_short_ones_leave(self, store: Store):
        await parked(store, "long", 30)
        for number in range(5):
            await parked(store, f"short {number}", 1, first=30 + number)
        claimed = await store.claim(now=T0 + 1, limit=20, capacity={"long": 12})
        lanes = [one.work.lane for one in claimed]
        assert (len(lanes), lanes.count("long")) == (17, 12)
        assert len(set(lanes[:6])) == 6
        assert len(await store.claim(now=T0 + 1, limit=15)) == 15

    async def test_a_claim_names_the_queues_with_remaining_work(self, store: Store):
        for lane, first in (("a", 0), ("b", 2), ("full", 4), ("shut", 6)):
            await parked(store, lane, 2, first=first)
        await parked(store, "later", 1, first=8, due_at=T0 + 60)
        claim = partial(store.claim, now=T0 + 1, capacity={"full": 0, "a": 9}, paused={"shut"})
        found = await claim(limit=0)
        assert (found.remaining, found.skipped, found.emptied) == ({"a", "b", "full", "shut"}, set(), set())
        found = await claim(limit=3)
        assert (found.remaining, found.skipped, found.emptied) == ({"b", "full", "shut"}, {"full", "shut"}, {"a"})
        found = await claim(limit=3)
        assert (found.remaining, found.skipped, found.emptied) == (set(), set(), {"b"})

    async def test_bytes_and_damage_do_not_make_a_queue_seem_empty(self, backend: Backend, store: Store):
        for number, lane in enumerate("ab"):
            event = make_event(number, size=1000)
            await store.append(event, leased=True)
            await store.settle_routed(routed(event, work := deliver(event)))
            await store.release([work.id], due_at=T0 + number, lane=lane)
            if lane == "a":
                await backend.lose_body(store, event.id)
        found = await store.claim(now=T0 + 9, limit=10, max_bytes=500)
        assert (list(found), found.remaining) == ([], {"b"})

    async def test_one_kind_is_found_however_much_of_the_other_waits(self, store: Store):
        _, deliveries = await accepted(store, "d1", "d2", number=1)
        await store.release([work.id for work in deliveries], due_at=T0)
        event = make_event(2, at=T0 + 30)
        await store.append(event, leased=False)
        assert (await store.backlog()).unassigned == 2
        assert await store.next_due(kind="evaluate") == event.received_at
        assert await store.next_due(kind="deliver", paused={""}) is None
        (evaluation,) = await store.claim(now=T0 + 60, limit=1, kind="evaluate")
        assert evaluation.work.event_id == event.id
        claimed = await store.claim(now=T0 + 60, limit=9, kind="deliver")
        assert set(ids(list(claimed))) == {work.id for work in deliveries}
        assert await store.next_due() is None
        assert (await store.backlog()).unassigned == 0, "they are in hand"

    async def test_next_due_skips_paused_queues(self, store: Store):
        await parked(store, "shut", 1, due_at=T0 + 1)
        await parked(store, "open", 1, first=1, due_at=T0 + 9 - 0.001)
        assert await store.next_due() == T0 + 1
        assert await store.next_due(paused={"shut"}) == T0 + 9
        assert await store.next_due(paused={"shut", "open"}) is None


class Controls:
    async def test_what_is_held_back_is_known_until_its_time_is_over(self, backend: Backend, store: Store):
        mute = Control("mute", "corrections/a", "deploying", "admin", T0, T0 + HOUR)
        pause = Control("pause", "https://a:1", "HTTP 410", "engine", T0, None, {"hash": "abc"})
        for control in (pause, mute):
            await store.set_control(control)
        assert list(await store.controls()) == [mute, pause]
        backend.clock.now = T0 + HOUR
        assert list(await store.controls()) == [pause]

    async def test_the_last_word_counts_and_can_be_taken_back(self, store: Store):
        first = Control("mute", "r", "one", "admin", T0, T0 + 1)
        second = replace(first, reason="two", until_at=None)
        await store.set_control(first)
        await store.set_control(second)
        assert list(await store.controls()) == [second]
        assert await store.remove_control("mute", "r")
        assert not await store.remove_control("mute", "r")
        assert list(await store.controls()) == []

    async def test_it_outlives_a_restart(self, backend: Backend):
        store = backend.store()
        await store.open()
        control = Control("mute", "r", "", "admin", T0)
        await store.set_control(control)
        await store.close()
        store = backend.store()
        await store.open()
        assert list(await store.controls()) == [control]
        await store.close()


class Throttles:
    async def test_one_in_so_much_time_and_the_others_are_counted(self, backend: Backend, store: Store):
        _, work, first = await gated(store, 1, ONE_IN_10_MINUTES)
        assert (first.inserted, first.leased) == ({work.id}, {work.id})
        assert first.variables[work.id]["throttle"]["suppressed"] == 0
        for number in (2, 3):
            event, held_back, second = await gated(store, number, ONE_IN_10_MINUTES)
            assert second.inserted == frozenset()
            assert "throttled" in second.throttled[held_back.id]
            decision = await decision_of(store, event)
            assert decision["fires"] == []
            assert "throttled" in decision["skipped"]["log"]
        backend.clock.now = T0 + 600
        _, work, third = await gated(store, 4, ONE_IN_10_MINUTES)
        assert third.variables[work.id]["throttle"]["suppressed"] == 2
        await store.release([work.id], due_at=T0)
        claimed = {one.work.id: one.work for one in await all_claimed(store)}
        assert claimed[work.id].variables == third.variables[work.id]

    async def test_each_key_has_its_own(self, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        _, work, other = await gated(store, 2, Throttle("session-2", 600.0))
        assert other.inserted == {work.id}
        _, work, elsewhere = await gated(store, 3, ONE_IN_10_MINUTES, action="other")
        assert elsewhere.inserted == {work.id}

    async def test_equal_keys_in_one_batch_are_distinguished(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        works = [deliver(event, name, index=index) for index, name in enumerate(("d1", "d2", "d3"))]
        gates = {work.id: ONE_IN_10_MINUTES for work in works}
        settled = await store.settle_routed(routed(event, *works, gates=gates))
        assert settled.inserted == {works[0].id}
        assert set(settled.throttled) == {works[1].id, works[2].id}

    async def test_a_clock_that_was_set_back_opens_the_slot(self, backend: Backend, store: Store):
        backend.clock.now = T0 + 86400
        await gated(store, 1, ONE_IN_10_MINUTES)
        await gated(store, 2, ONE_IN_10_MINUTES)
        backend.clock.now = T0
        _, work, settled = await gated(store, 3, ONE_IN_10_MINUTES)
        assert settled.inserted == {work.id}
        assert suppressed(settled, work) == 1
        _, held_back, settled = await gated(store, 4, ONE_IN_10_MINUTES)
        assert set(settled.throttled) == {held_back.id}

    async def test_a_clock_that_is_put_right_by_moments_opens_no_slot(self, backend: Backend, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        backend.clock.now = T0 - 0.5
        _, held_back, settled = await gated(store, 2, ONE_IN_10_MINUTES)
        assert set(settled.throttled) == {held_back.id}

    async def test_a_clock_that_was_set_back_begins_a_new_digest(self, backend: Backend, store: Store):
        backend.clock.now = T0 + 86400
        await gated(store, 1, EVERY_5_MINUTES)
        backend.clock.now = T0
        _, second, settled = await gated(store, 2, EVERY_5_MINUTES)
        assert settled.inserted == {second.id}
        (digest,) = await store.claim(now=T0 + 300, limit=5)
        assert (digest.work.id, len(digest.items)) == (second.id, 1)

    async def test_the_dead_give_their_slot_back(self, store: Store):
        _, work, _ = await gated(store, 1, ONE_IN_10_MINUTES)
        await gated(store, 2, ONE_IN_10_MINUTES)
        await fail(store, work)
        _, next_one, settled = await gated(store, 3, ONE_IN_10_MINUTES)
        assert settled.inserted == {next_one.id}
        assert settled.variables[next_one.id]["throttle"]["suppressed"] == 1

    async def test_the_count_of_a_dead_delivery_goes_to_the_next_one(self, backend: Backend, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        await gated(store, 2, ONE_IN_10_MINUTES)
        backend.clock.now = T0 + 600
        _, dies, third = await gated(store, 3, ONE_IN_10_MINUTES)
        assert suppressed(third, dies) == 1
        await gated(store, 4, ONE_IN_10_MINUTES)
        await fail(store, dies)
        _, work, fifth = await gated(store, 5, ONE_IN_10_MINUTES)
        assert suppressed(fifth, work) == 2
        backend.clock.now = T0 + 1200
        _, work, sixth = await gated(store, 6, ONE_IN_10_MINUTES)
        assert suppressed(sixth, work) == 0, "it was told"

    @pytest.mark.parametrize("pruned", [False, True])
    async def test_a_delivery_that_dies_long_after_its_slot_passes_its_count_on(
        self, backend: Backend, store: Store, pruned: bool
    ):
        await gated(store, 1, ONE_IN_10_MINUTES)
        await gated(store, 2, ONE_IN_10_MINUTES)
        backend.clock.now = T0 + 600
        _, dies, _ = await gated(store, 3, ONE_IN_10_MINUTES)
        backend.clock.now = T0 + 1200
        if pruned:
            await store.prune("marks", before=T0 + 1201)
        else:
            _, other, _ = await gated(store, 4, ONE_IN_10_MINUTES)
            await succeed(store, other)
        await fail(store, dies)
        backend.clock.now = T0 + 1800
        _, work, settled = await gated(store, 5, ONE_IN_10_MINUTES)
        assert suppressed(settled, work) == 1

    async def test_a_death_is_not_reported_again_when_a_replay_dies(self, backend: Backend, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        await gated(store, 2, ONE_IN_10_MINUTES)
        backend.clock.now = T0 + 600
        _, work, _ = await gated(store, 3, ONE_IN_10_MINUTES)
        await succeed(store, work)
        await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0)
        (again,) = await all_claimed(store)
        await fail(store, again.work)
        _, work, settled = await gated(store, 4, ONE_IN_10_MINUTES)
        assert suppressed(settled, work) == 0

    async def test_a_delivery_that_dies_twice_passes_its_count_on_once(self, backend: Backend, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        await gated(store, 2, ONE_IN_10_MINUTES)
        backend.clock.now = T0 + 600
        _, work, _ = await gated(store, 3, ONE_IN_10_MINUTES)
        await fail(store, work)
        await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0)
        (again,) = await all_claimed(store)
        assert again.work.variables is not None
        assert again.work.variables["throttle"]["suppressed"] == 1
        await fail(store, again.work)
        _, work, settled = await gated(store, 4, ONE_IN_10_MINUTES)
        assert suppressed(settled, work) == 1

    async def test_a_replay_before_the_report_reports_then(self, backend: Backend, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        await gated(store, 2, ONE_IN_10_MINUTES)
        backend.clock.now = T0 + 600
        event, work, _ = await gated(store, 3, ONE_IN_10_MINUTES)
        await store.release([work.id], due_at=T0 + HOUR)
        settled = await replayed(store, event, work, ONE_IN_10_MINUTES)
        assert suppressed(settled, work) == 1

    async def test_a_replay_that_is_held_back_is_not_counted_again(self, backend: Backend, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        event, held_back, _ = await gated(store, 2, ONE_IN_10_MINUTES)
        assert set((await replayed(store, event, held_back, ONE_IN_10_MINUTES)).throttled) == {held_back.id}
        backend.clock.now = T0 + 600
        _, work, settled = await gated(store, 3, ONE_IN_10_MINUTES)
        assert suppressed(settled, work) == 1

    async def test_a_success_keeps_the_slot(self, store: Store):
        _, work, _ = await gated(store, 1, ONE_IN_10_MINUTES)
        await succeed(store, work)
        _, _, settled = await gated(store, 2, ONE_IN_10_MINUTES)
        assert settled.inserted == frozenset()

    async def test_a_slot_outlives_a_crash(self, backend: Backend):
        store = backend.store()
        await store.open()
        await gated(store, 1, ONE_IN_10_MINUTES)
        await backend.vanish(store)
        store = backend.store()
        await store.open()
        _, _, settled = await gated(store, 2, ONE_IN_10_MINUTES)
        assert settled.inserted == frozenset()
        await store.close()

    async def test_its_holder_may_be_replayed(self, store: Store):
        event, work, _ = await gated(store, 1, ONE_IN_10_MINUTES)
        await succeed(store, work)
        assert (await replayed(store, event, work, ONE_IN_10_MINUTES)).inserted == {work.id}

    async def test_an_evaluation_that_is_fenced_off_takes_no_slot(self, store: Store):
        event = make_event(1)
        work = deliver(event)
        settled = await store.settle_routed(routed(event, work, gates={work.id: ONE_IN_10_MINUTES}))
        assert settled == Settled()
        _, work, settled = await gated(store, 2, ONE_IN_10_MINUTES)
        assert settled.inserted == {work.id}


class Digests:
    async def test_many_become_one_made_when_its_time_is_over(self, backend: Backend, store: Store):
        first, one, opened = await gated(store, 1, EVERY_5_MINUTES)
        backend.clock.now = T0 + 1
        second, two, joined = await gated(store, 2, EVERY_5_MINUTES)
        assert (opened.inserted, opened.leased, joined.inserted) == ({one.id}, frozenset(), frozenset())
        assert (opened.collected, joined.collected) == ({one.id: one.id}, {two.id: one.id})
        assert (await decision_of(store, second))["collected"] == {"log": one.id}
        assert list(await store.claim(now=T0 + 299, limit=5)) == []
        backend.clock.now = T0 + 300
        (claimed,) = await store.claim(now=T0 + 300, limit=5)
        assert (claimed.work.id, claimed.work.first_at) == (one.id, T0 + 300)
        assert [(item.event.id, item.index) for item in claimed.items] == [(first.id, 0), (second.id, 0)]
        assert claimed.items[0].event.payload == first.payload

    async def test_it_is_made_at_once_when_it_is_full_and_the_next_opens_another(self, store: Store):
        _, one, _ = await gated(store, 1, EVERY_5_MINUTES)
        await gated(store, 2, EVERY_5_MINUTES)
        await gated(store, 3, EVERY_5_MINUTES)
        _, four, opened = await gated(store, 4, EVERY_5_MINUTES)
        assert opened.collected == {four.id: four.id}
        (claimed,) = await store.claim(now=T0, limit=5)
        assert (claimed.work.id, len(claimed.items)) == (one.id, 3)

    async def test_a_replay_that_is_collected_leaves_alone_what_is_being_made(self, store: Store):
        event, (work,) = await accepted(store, "one")
        assert await store.replay_events([event.id], now=T0) == [event.id]
        (claimed,) = await store.claim(now=T0, limit=1)
        again = replace(work, replays=claimed.work.replays)
        settled = await store.settle_routed(
            routed(event, again, work=claimed.work, gates={work.id: EVERY_5_MINUTES}, leased=False)
        )
        assert list(settled.collected) == [work.id]
        await succeed(store, work)
        (digest,) = await all_claimed(store)
        assert (digest.work.id, len(digest.items)) == (settled.collected[work.id], 1)

    async def test_a_replay_that_is_collected_leaves_the_dead_as_they_are(self, store: Store):
        event, (work,) = await accepted(store, "one")
        await fail(store, work)
        await store.replay_events([event.id], now=T0)
        (claimed,) = await store.claim(now=T0, limit=1)
        again = replace(work, replays=claimed.work.replays)
        await store.settle_routed(routed(event, again, work=claimed.work, gates={work.id: EVERY_5_MINUTES}))
        assert [row.id for row in await store.deliveries(DeliveryQuery(state="dead"))] == [work.id]

    async def test_it_is_full_by_its_bytes_too_and_the_next_opens_another(self, store: Store):
        digest, holders = Digest("", 300.0, 100), []
        for number in range(10):
            event = make_event(number, size=5_000_000)
            await store.append(event, leased=True)
            works = [deliver(event, f"d{index}", index=index) for index in (0, 1)]
            settled = await store.settle_routed(routed(event, *works, gates={work.id: digest for work in works}))
            holders += [settled.collected[work.id] for work in works]
        assert [holders.count(holder) for holder in dict.fromkeys(holders)] == [6, 6, 6, 2], "an event counts once"
        made = [claimed for _ in range(4) for claimed in await store.claim(now=T0, limit=5)]
        assert [len(claimed.items) for claimed in made] == [6, 6, 6], "the last one collects"

    async def test_an_event_that_is_larger_alone_is_collected_all_the_same(self, store: Store):
        for number, size in enumerate((20_000_000, 1)):
            event = make_event(number, size=size)
            await store.append(event, leased=True)
            work = deliver(event)
            settled = await store.settle_routed(routed(event, work, gates={work.id: EVERY_5_MINUTES}))
            assert settled.collected == {work.id: work.id}

    async def test_a_large_item_does_not_hurry_a_digest_that_waits_for_its_retry(self, store: Store):
        _, one, _ = await gated(store, 1, EVERY_5_MINUTES)
        (claimed,) = await all_claimed(store)
        await store.settle_attempt(claimed.work, attempt("again", reason="503"), Again(T0 + 900))
        event = make_event(2, size=20_000_000)
        await store.append(event, leased=True)
        work = deliver(event)
        await store.settle_routed(routed(event, work, gates={work.id: EVERY_5_MINUTES}))
        (row,) = await store.deliveries(DeliveryQuery(ids=[one.id]))
        assert row.due_at == T0 + 900

    async def test_one_that_has_begun_takes_no_more_items(self, backend: Backend, store: Store):
        _, one, _ = await gated(store, 1, EVERY_5_MINUTES)
        backend.clock.now = T0 + 300
        (claimed,) = await store.claim(now=T0 + 300, limit=5)
        _, two, opened = await gated(store, 2, EVERY_5_MINUTES)
        assert opened.collected == {two.id: two.id}
        again = attempt("again", reason="503")
        assert await store.settle_attempt(claimed.work, again, Again(T0 + 400))
        _, three, joined = await gated(store, 3, EVERY_5_MINUTES)
        assert joined.collected == {three.id: two.id}, "one that was attempted is as it was attempted"
        assert one.id != two.id

    async def test_it_outlives_a_crash(self, backend: Backend):
        store = backend.store()
        await store.open()
        _, one, _ = await gated(store, 1, EVERY_5_MINUTES)
        await backend.vanish(store)
        store = backend.store()
        await store.open()
        _, two, joined = await gated(store, 2, EVERY_5_MINUTES)
        assert joined.collected == {two.id: one.id}
        backend.clock.now = T0 + 300
        (claimed,) = await store.claim(now=T0 + 300, limit=5)
        assert len(claimed.items) == 2
        await store.close()

    async def test_an_event_shows_the_digest_it_is_part_of(self, store: Store):
        _, one, _ = await gated(store, 1, EVERY_5_MINUTES)
        second, _, _ = await gated(store, 2, EVERY_5_MINUTES)
        detail = await store.event(second.id)
        assert detail is not None
        assert [row.id for row in detail.deliveries] == [one.id]

    async def test_a_digest_shows_its_items_in_the_order_in_which_they_are_sent(self, backend: Backend, store: Store):
        later, earlier = make_event(1), make_event(2)
        for event, indexes in ((earlier, (0, 1)), (later, (-1,))):
            await store.append(event, leased=True)
            works = [deliver(event, f"d{index}", index=index, run_id=f"run-{index}") for index in indexes]
            await store.settle_routed(routed(event, *works, gates={work.id: EVERY_5_MINUTES for work in works}))
            backend.clock.now += 1
        (claimed,) = await all_claimed(store)
        detail = await store.delivery(claimed.work.id)
        assert detail is not None
        assert [(item.event_id, item.index) for item in detail.items] == [
            (item.event.id, item.index) for item in claimed.items
        ]
        assert [item.run_id for item in detail.items] == ["run-0", "run-1", "run--1"]
        assert detail.variables is None

    async def test_a_replay_of_an_item_makes_it_one_of_another_digest(self, store: Store):
        event, one, _ = await gated(store, 1, Digest("", 300.0, 1))
        (claimed,) = await store.claim(now=T0, limit=5)
        await succeed(store, claimed.work)
        (holder,) = (await replayed(store, event, one, EVERY_5_MINUTES)).collected.values()
        assert holder != one.id
        (row,) = await store.deliveries(DeliveryQuery(ids=[one.id]))
        assert row.state == "succeeded"

    async def test_what_is_held_or_collected_is_as_old_as_its_decision(self, backend: Backend, store: Store):
        _, first, _ = await gated(store, 1, EVERY_5_MINUTES)
        await gated(store, 2, EVERY_5_MINUTES)
        event = make_event(3)
        await store.append(event, leased=True)
        held = deliver(event, at=T0 + HOUR)
        await store.settle_routed(routed(event, held, leased=False))
        rows = {row.id: row for row in await store.deliveries(DeliveryQuery())}
        assert [(rows[one].created_at, rows[one].updated_at) for one in (first.id, held.id)] == [(T0, T0)] * 2
        assert [rows[one].items for one in (first.id, held.id)] == [2, 0]
        assert rows[held.id].due_at == T0 + HOUR
        backend.clock.now = T0 + HOUR
        for claimed in await all_claimed(store, now=T0 + HOUR):
            await succeed(store, claimed.work, at=T0 + HOUR)
        done = await store.deliveries(DeliveryQuery())
        assert {(row.state, row.created_at, row.updated_at) for row in done} == {("succeeded", T0, T0 + HOUR + 0.25)}
        assert {row.items for row in done} == {2, 0}

    async def test_a_digest_is_replayed_with_its_items(self, store: Store):
        _, one, _ = await gated(store, 1, Digest("", 300.0, 2))
        await gated(store, 2, Digest("", 300.0, 2))
        (claimed,) = await store.claim(now=T0, limit=5)
        await succeed(store, claimed.work)
        assert list(await store.replay_deliveries(DeliveryQuery(ids=[one.id]), now=T0)) == [one.id]
        (again,) = await store.claim(now=T0, limit=5)
        assert len(again.items) == 2

    async def test_a_digest_without_all_its_bodies_is_not_replayed(self, backend: Backend, store: Store):
        _, one, _ = await gated(store, 1, Digest("", 300.0, 2))
        second, _, _ = await gated(store, 2, Digest("", 300.0, 2))
        (claimed,) = await store.claim(now=T0, limit=5)
        await succeed(store, claimed.work)
        await backend.lose_body(store, second.id)
        for dry_run in (True, False):
            assert list(await store.replay_deliveries(DeliveryQuery(ids=[one.id]), now=T0, dry_run=dry_run)) == []

    @pytest.mark.parametrize("attempts", [0, 1])
    async def test_a_replay_of_an_item_leaves_it_in_the_digest_that_waits(
        self, backend: Backend, store: Store, attempts: int
    ):
        event, one, _ = await gated(store, 1, EVERY_5_MINUTES)
        if attempts:
            backend.clock.now = T0 + 300
            (claimed,) = await store.claim(now=T0 + 300, limit=5)
            await store.settle_attempt(claimed.work, attempt("again", reason="503"), Again(T0 + 900))
        for _ in range(3):
            settled = await replayed(store, event, one, EVERY_5_MINUTES)
            assert (settled.collected, settled.inserted) == ({one.id: one.id}, frozenset())
        assert list(await store.claim(now=T0, limit=5)) == [], "it is not full, and not due"
        (claimed,) = await store.claim(now=T0 + 900, limit=5)
        assert (claimed.work.attempts, len(claimed.items)) == (attempts, 1)

    @pytest.mark.parametrize("dies", [False, True])
    async def test_an_item_of_a_digest_that_is_being_made_or_dead_is_collected_anew(self, store: Store, dies: bool):
        event, one, _ = await gated(store, 1, Digest("", 300.0, 1))
        (claimed,) = await store.claim(now=T0, limit=5)
        if dies:
            await store.settle_attempt(claimed.work, attempt("dead", reason="boom"), Dead("boom"))
        settled = await replayed(store, event, one, EVERY_5_MINUTES)
        assert one.id not in settled.collected.values()
        assert settled.inserted == set(settled.collected.values())

    async def test_an_evaluation_that_is_made_again_after_a_crash_adds_nothing(self, backend: Backend, store: Store):
        event, work, _ = await gated(store, 1, EVERY_5_MINUTES, replays=0)
        assert await store.replay_events([event.id], now=T0)
        (claimed,) = await store.claim(now=T0, limit=1)
        again = routed(event, work, gates={work.id: EVERY_5_MINUTES}, work=claimed.work)
        assert (await store.settle_routed(again)).collected == {}, "it has that item already"
        backend.clock.now = T0 + 300
        (digest,) = await store.claim(now=T0 + 300, limit=5)
        assert len(digest.items) == 1


class Following:
    async def test_what_comes_of_a_death_is_inserted_with_it(self, store: Store):
        event, (work,) = await accepted(store, "d1")
        tell = deliver(event, "tell", action="on_dead.tell", variables={"delivery": {"reason": "boom"}})
        last = attempt("dead", reason="boom")
        assert await store.settle_attempt(work, last, Dead("boom"), on_dead=[tell])
        (claimed,) = await all_claimed(store)
        assert (claimed.work.id, claimed.work.variables) == (tell.id, {"delivery": {"reason": "boom"}})

    async def test_it_is_inserted_once(self, store: Store):
        event, (one, two) = await accepted(store, "d1", "d2")
        tell = deliver(event, "tell", action="on_dead.tell")
        for work in (one, two):
            assert await store.settle_attempt(work, attempt("dead", reason="boom"), Dead("boom"), on_dead=[tell])
        assert ids(await all_claimed(store)) == [tell.id]

    async def test_nothing_follows_what_is_fenced_off(self, store: Store):
        event, (work,) = await accepted(store, "d1")
        await store.release([work.id], due_at=T0)
        tell = deliver(event, "tell")
        assert not await store.settle_attempt(work, attempt("dead", reason="x"), Dead("x"), on_dead=[tell])
        assert ids(await all_claimed(store)) == [work.id]

    async def test_variables_are_kept_for_a_replay_of_what_succeeded(self, store: Store):
        event, (work,) = await accepted(store, "d1")
        tell = deliver(event, "tell", variables={"delivery": {"reason": "boom"}})
        await store.settle_attempt(work, attempt("dead", reason="boom"), Dead("boom"), on_dead=[tell])
        (claimed,) = await all_claimed(store)
        await succeed(store, claimed.work)
        await store.replay_deliveries(DeliveryQuery(ids=[tell.id]), now=T0)
        (again,) = await all_claimed(store)
        assert again.work.variables == {"delivery": {"reason": "boom"}}

    async def test_a_delivery_shows_what_its_templates_see_beside_the_event(self, store: Store):
        event, (work,) = await accepted(store, "d1")
        tell = deliver(event, "tell", variables={"delivery": {"reason": "boom"}})
        await store.settle_attempt(work, attempt("dead", reason="boom"), Dead("boom"), on_dead=[tell])
        for delivery_id, words in ((work.id, None), (tell.id, {"delivery": {"reason": "boom"}})):
            detail = await store.delivery(delivery_id)
            assert detail is not None
            assert (detail.variables, list(detail.items)) == (words, [])


class Waiting:
    async def test_an_evaluation_that_waits_spends_no_attempt(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        waiting = routed(event, pending=Wait(T0 + 5, "waits for feedback 'correctness'"), work=evaluation(event))
        await store.settle_routed(waiting)
        assert list(await store.claim(now=T0 + 4, limit=5)) == []
        (claimed,) = await store.claim(now=T0 + 5, limit=5)
        assert (claimed.work.attempts, claimed.work.error) == (0, "waits for feedback 'correctness'")
        detail = await store.event(event.id)
        assert detail is not None
        assert (detail.row.state, detail.attempts) == ("pending", [])

    @pytest.mark.parametrize("made", [False, True], ids=["waits", "was made"])
    async def test_a_delivery_of_an_earlier_look_is_not_inserted_again(self, store: Store, made: bool):
        event = make_event()
        await store.append(event, leased=True)
        wait = Wait(T0 + 5, "waits for langsmith")
        await store.settle_routed(routed(event, pending=wait, work=evaluation(event)))
        (second,) = await store.claim(now=T0 + 5, limit=5)
        delivery = deliver(event, "tell")
        looked = routed(event, delivery, pending=wait, work=second.work, leased=made)
        assert (await store.settle_routed(looked)).inserted == {delivery.id}
        if made:
            assert await store.settle_attempt(delivery, attempt("succeeded"), None)
        (third,) = await store.claim(now=T0 + 5, limit=5, kind="evaluate")
        again = routed(event, deliver(event, "tell"), work=third.work)
        assert delivery.id not in (await store.settle_routed(again)).inserted

    @pytest.mark.parametrize(("counted", "since"), [(False, 5.0), (True, 0.0)])
    async def test_its_time_runs_while_it_waits_only_where_that_counts(self, store: Store, counted: bool, since: float):
        event = make_event()
        await store.append(event, leased=True)
        await store.settle_routed(routed(event, pending=Wait(T0 + 5, "waits", counted), work=evaluation(event)))
        (claimed,) = await store.claim(now=T0 + 5, limit=5)
        assert (claimed.work.first_at, claimed.work.due_at) == (T0 + since, T0 + 5)

    async def test_what_is_put_off_for_a_reason_can_be_made_due(self, store: Store):
        one, other, running = make_event(), make_event(1), make_event(2)
        for event, reason in ((one, "waits for langsmith: paused"), (other, "waits for langsmithy: paused")):
            await store.append(event, leased=True)
            await store.settle_routed(routed(event, pending=Wait(T0 + 500, reason), work=evaluation(event)))
        await store.append(running, leased=True)
        assert await store.make_due("waits for langsmith:", now=T0 + 1) == 1
        (claimed,) = await store.claim(now=T0 + 1, limit=5)
        assert (claimed.event.id, claimed.work.due_at) == (one.id, T0 + 1)
        assert await store.make_due("waits for langsmith:", now=T0 + 1) == 0

    async def test_a_delivery_that_is_put_off_for_a_reason_can_be_made_due(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        work = deliver(event)
        await store.settle_routed(routed(event, work, leased=frozenset({work.id})))
        await store.release([work.id], due_at=T0 + 500, reason="waits for langsmith: paused")
        assert await store.make_due("waits for langsmith:", now=T0 + 2) == 1
        assert [claimed.work.id for claimed in await store.claim(now=T0 + 2, limit=5)] == [work.id]

    async def retried(self, store: Store, number: int = 0, **extra: Any) -> Work:
        """A delivery that waits for its second attempt, which was to go to a target."""
        event = make_event(number)
        await store.append(event, leased=True)
        work = deliver(event, **extra)
        await store.settle_routed(routed(event, work, leased=True))
        then = Again(T0 + 500, "https://there", target=store.fingerprint("there"))
        assert await store.settle_attempt(work, attempt("again"), then)
        return work

    async def due(self, store: Store, now: float = T0 + 2) -> list[tuple[str, float, str]]:
        """What can be taken, by id, with when it fell due and its lane."""
        return [(one.work.id, one.work.due_at, one.work.lane) for one in await store.claim(now=now, limit=9)]

    async def test_what_waits_for_a_changed_target_is_due_in_no_queue(self, store: Store):
        work = await self.retried(store)
        await self.retried(store, 1, action="other")
        await self.retried(store, 2, route="removed")
        now = {(work.route, work.action): "elsewhere", (work.route, "other"): "there"}
        assert await store.make_changed_due(now, now=T0 + 2) == {"https://there": 1}
        assert await self.due(store) == [(work.id, T0 + 2, "")]
        assert await store.make_changed_due(now, now=T0 + 2) == {}

    async def test_waiting_work_leaves_the_queue_of_a_changed_target_and_keeps_its_time(self, store: Store):
        _, (put_back,) = await accepted(store, "d1")
        event = make_event(1)
        await store.append(event, leased=True)
        lined_up = deliver(event, lane="https://there", target=store.fingerprint("there"))
        await store.settle_routed(routed(event, lined_up, leased=False))
        given = {"lane": "https://there", "target": store.fingerprint("there")}
        await store.release([put_back.id], due_at=T0, **given)
        paused = {"paused": ["https://there"]}
        assert not list(await store.claim(now=T0 + 1, limit=9, **paused))
        found = await store.make_changed_due({(put_back.route, put_back.action): "elsewhere"}, now=T0 + 2)
        assert found == {"https://there": 2}
        claimed = await store.claim(now=T0 + 2, limit=9, **paused)
        assert {(one.work.id, one.work.due_at) for one in claimed} == {(lined_up.id, T0), (put_back.id, T0)}

    async def test_what_waits_for_something_else_has_no_target(self, store: Store):
        work = await self.retried(store)
        (claimed,) = await store.claim(now=T0 + 500, limit=5)
        await store.release([claimed.work.id], due_at=T0 + 9000, reason="held until its hours begin")
        assert await store.make_changed_due({(work.route, work.action): "elsewhere"}, now=T0 + 501) == {}
        assert await store.make_lane_due("https://there", now=T0 + 501) == 0

    async def test_what_is_under_way_or_dead_is_left_alone_when_its_target_is_changed(self, store: Store):
        work, dead = await self.retried(store), await self.retried(store, 1)
        claimed = await store.claim(now=T0 + 500, limit=5)
        gone = next(one.work for one in claimed if one.work.id == dead.id)
        assert await store.settle_attempt(gone, attempt("dead", number=2), Dead("HTTP 400"))
        assert await store.make_changed_due({(work.route, work.action): "elsewhere"}, now=T0 + 501) == {}

    async def test_an_evaluation_that_waits_for_data_is_due_when_the_service_is_changed(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        again = Again(T0 + 500, target=store.fingerprint("langsmith"))
        await store.settle_routed(routed(event, pending=again, attempt=attempt("again"), work=evaluation(event)))
        assert await store.make_changed_due({("", ""): "langsmith"}, now=T0 + 2) == {}
        assert await store.make_changed_due({("", ""): "another key"}, now=T0 + 2) == {"": 1}
        assert await self.due(store) == [(event.id, T0 + 2, "")]

    async def test_what_waits_for_a_retry_can_be_made_due(self, store: Store):
        work = await self.retried(store)
        assert await store.make_lane_due("https://other", now=T0 + 2) == 0
        assert await store.make_lane_due("https://there", now=T0 + 2) == 1
        assert await self.due(store) == [(work.id, T0 + 2, "https://there")]

    async def test_what_is_decided_meanwhile_is_settled(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        work = deliver(event)
        settled = await store.settle_routed(routed(event, work, pending=Wait(T0 + 5, "waits")))
        assert settled.leased == {work.id}
        assert len(await store.decisions(event.id, 0)) == 1


class Holding(Lanes, Controls, Throttles, Digests, Following, Waiting):
    @pytest.fixture(autouse=True)
    def _of_this_time(self, backend: Backend) -> None:
        backend.clock.now = T0

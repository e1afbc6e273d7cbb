"""What every store keeps, and for how long: pruning, step by step, and its size."""

from __future__ import annotations

import os

import pytest
from contract_holding import EVERY_5_MINUTES, HOUR, ONE_IN_10_MINUTES, gated
from store_cases import T0, Backend, accepted, all_claimed, attempt, fail, make_event, routed, succeed

from engine.core.errors import StoreError
from engine.store.protocol import Store
from engine.store.queries import DeliveryQuery, EventQuery, Prunable, Pruned
from engine.store.records import Control, Dead, Digest, Throttle

DAY = 24 * HOUR


class Pruning:
    async def test_old_events_go_whole(self, store: Store):
        old, (work,) = await accepted(store, "one", number=1)
        await succeed(store, work)
        new, _ = await accepted(store, number=2, at=T0 + 100)
        assert await pruned(store, "events", T0 + 50) == 1
        assert await store.event(old.id) is None
        assert await store.delivery(work.id) is None
        assert [row.id for row in await store.events(EventQuery())] == [new.id]

    async def test_an_event_is_known_again_as_long_as_it_is_kept(self, store: Store):
        old, _ = await accepted(store, number=1)
        assert (await store.append(make_event(1), leased=True)).event_id == old.id
        await pruned(store, "events", T0 + 50)
        assert not (await store.append(make_event(1), leased=True)).duplicate

    async def test_bodies_go_with_what_was_fetched_and_leave_the_history(self, store: Store):
        event, (work,) = await accepted(store, "one")
        await store.save_fetched(event.id, {"inputs": {"run-0": {"a": 1}}})
        await succeed(store, work)
        assert await pruned(store, "bodies", T0 + 50) == 1
        detail = await store.event(event.id)
        assert detail is not None
        assert (detail.body, detail.fetched) == (None, None)
        assert [row.state for row in detail.deliveries] == ["succeeded"]
        assert len(detail.evaluations) == 1
        assert (await store.append(make_event(), leased=True)).duplicate
        assert await pruned(store, "bodies", T0 + 50) == 0

    @pytest.mark.parametrize("what", ["bodies", "events"])
    async def test_the_items_of_a_digest_are_kept_equally_long(self, backend: Backend, store: Store, what: Prunable):
        for number in (1, 2, 3):
            await gated(store, number, Digest("", 300.0, 3))
        (claimed,) = await store.claim(now=T0, limit=5)
        await store.settle_attempt(claimed.work, attempt(at=T0 + DAY), None)
        assert await pruned(store, what, T0 + HOUR) == 0
        assert await pruned(store, what, T0 + DAY + HOUR) == 3

    @pytest.mark.parametrize("what", ["bodies", "events", "unmatched"])
    async def test_waiting_and_dead_work_keeps_its_event_whole(self, store: Store, what: Prunable):
        with_dead, (dead,) = await accepted(store, "dead", number=1)
        await fail(store, dead)
        with_open, _ = await accepted(store, "open", number=2)
        pending, undecided = make_event(3), make_event(4)
        await store.append(pending, leased=False)
        await store.append(undecided, leased=True)
        await store.settle_routed(routed(undecided, unmatched_reason="no_match", pending=Dead("no data")))
        assert await pruned(store, what, T0 + 1e6) == 0
        for event in (with_dead, with_open, pending, undecided):
            detail = await store.event(event.id)
            assert detail is not None
            assert detail.body == event.body

    async def test_an_age_counts_from_the_last_that_happened(self, store: Store):
        _, (work,) = await accepted(store, "one", number=1)
        await succeed(store, work, at=T0 + 1000)
        decided = make_event(2)
        await store.append(decided, leased=True)
        await store.settle_routed(routed(decided, decided_at=T0 + 2000))
        for before, gone in ((T0 + 900, 0), (T0 + 1900, 1), (T0 + 2100, 1)):
            assert await pruned(store, "bodies", before) == gone
            assert await pruned(store, "events", before) == gone

    async def test_what_no_route_matched_may_go_earlier(self, store: Store):
        unmatched, matched, caught, replayed, rest = (make_event(number) for number in range(5))
        for event in (unmatched, matched, caught, replayed, rest):
            await store.append(event, leased=True)
        await store.settle_routed(routed(unmatched, unmatched_reason="no_match"))
        await store.settle_routed(routed(matched, matched=1))
        await store.settle_routed(routed(caught, unmatched_reason="unknown_rule", matched=1))
        await store.settle_routed(routed(rest, unmatched_reason="unknown_rule", fallback=1))
        await store.settle_routed(routed(replayed, matched=1))
        await store.replay_events([replayed.id], now=T0)
        (claimed,) = await store.claim(now=T0, limit=1)
        await store.settle_routed(routed(replayed, unmatched_reason="no_match", work=claimed.work))
        assert await pruned(store, "unmatched", T0 + 50) == 1
        assert await store.event(unmatched.id) is None
        kept = {matched.id: 0, caught.id: 0, replayed.id: 0, rest.id: 1}
        assert {row.id: row.fallback for row in await store.events(EventQuery())} == kept

    async def test_dead_letters_go_by_when_they_died(self, store: Store):
        event, (early, late, open_) = await accepted(store, "early", "late", "open")
        await fail(store, early, at=T0 + 100)
        await fail(store, late, at=T0 + 200)
        assert await pruned(store, "dead", T0 + 150) == 1
        assert {row.id: row.state for row in await store.deliveries(DeliveryQuery())} == {
            late.id: "dead",
            open_.id: "running",
        }
        assert await pruned(store, "dead", T0 + 1e6) == 1
        assert (await store.backlog()).dead == 0
        assert await pruned(store, "bodies", T0 + 1e6) == 0, "the open one still needs it"
        await succeed(store, open_)
        assert await pruned(store, "events", T0 + 1e6) == 1
        assert await store.event(event.id) is None

    async def test_a_dead_evaluation_is_a_dead_letter_too(self, store: Store):
        event = make_event()
        await store.append(event, leased=True)
        await store.settle_routed(routed(event, pending=Dead("no data")))
        assert await pruned(store, "dead", T0 + 50) == 1
        assert await pruned(store, "events", T0 + 50) == 1

    @pytest.mark.parametrize("what", ["bodies", "events"])
    async def test_the_items_of_a_digest_stay_as_long_as_it_is_not_made(
        self, backend: Backend, store: Store, what: Prunable
    ):
        for number in (1, 2):
            await gated(store, number, Digest("", 300.0, 2))
        (claimed,) = await store.claim(now=T0, limit=5)
        assert await pruned(store, what, T0 + 1e6) == 0, "it is being made"
        await fail(store, claimed.work)
        assert await pruned(store, what, T0 + 1e6) == 0, "it is dead, and may be replayed"
        await store.replay_deliveries(DeliveryQuery(state="dead"), now=T0)
        (again,) = await store.claim(now=T0, limit=5)
        assert len(again.items) == 2
        await succeed(store, again.work)
        assert await pruned(store, what, T0 + 1e6) == 2

    async def test_a_dead_digest_takes_its_hold_of_the_items_along(self, store: Store):
        for number in (1, 2):
            await gated(store, number, Digest("", 300.0, 2))
        (claimed,) = await store.claim(now=T0, limit=5)
        await fail(store, claimed.work)
        assert await pruned(store, "dead", T0 + 50) == 1
        assert await pruned(store, "events", T0 + 1e6) == 2

    async def test_windows_go_when_they_have_been_closed_for_long_enough(self, backend: Backend, store: Store):
        await gated(store, 1, ONE_IN_10_MINUTES)
        assert await pruned(store, "marks", T0 + 600) == 0
        assert await pruned(store, "marks", T0 + 601) == 1
        _, work, settled = await gated(store, 2, ONE_IN_10_MINUTES)
        assert settled.inserted == {work.id}

    async def test_the_count_of_a_throttle_is_kept_until_it_is_reported(self, backend: Backend, store: Store):
        for number in (1, 2, 3):
            await gated(store, number, ONE_IN_10_MINUTES)
        backend.clock.now = T0 + DAY
        assert await pruned(store, "marks", T0 + DAY) == 0
        _, work, settled = await gated(store, 4, ONE_IN_10_MINUTES)
        assert settled.variables[work.id]["throttle"]["suppressed"] == 2
        assert await pruned(store, "marks", T0 + DAY + HOUR) == 1

    async def test_how_many_a_throttle_held_back_is_not_kept_for_ever(self, store: Store):
        for number in (1, 2):
            await gated(store, number, ONE_IN_10_MINUTES)
        assert await pruned(store, "marks", T0 + 600 + 30 * DAY) == 0
        assert await pruned(store, "marks", T0 + 601 + 30 * DAY) == 1

    async def test_windows_go_in_steps_past_those_that_stay(self, store: Store):
        for number, key in enumerate("aabcd"):
            await gated(store, number, Throttle(key, 600.0))
        step = await store.prune("marks", before=T0 + DAY, limit=2)
        assert (step.count, step.more) == (2, True)
        assert await pruned(store, "marks", T0 + DAY) == 1

    async def test_threads_are_kept_until_they_are_no_longer_used(self, backend: Backend, store: Store):
        await store.save_thread("a", "1.1")
        await store.save_thread("b", "1.2")
        backend.clock.now += DAY
        await store.save_thread("b", "1.2")
        assert [await store.thread(subject) for subject in "abc"] == ["1.1", "1.2", None]
        assert await pruned(store, "marks", T0 + HOUR) == 1
        assert [await store.thread(subject) for subject in "ab"] == [None, "1.2"]
        await store.save_thread("b", "1.3")
        assert await store.thread("b") == "1.3"
        await store.save_thread("b", None)
        assert await store.thread("b") is None

    async def test_the_threads_used_last_are_kept(self, backend: Backend, store: Store, monkeypatch):
        monkeypatch.setattr("engine.store.protocol.MOST_THREADS", 3)
        for subject in "abcd":
            backend.clock.now += 1
            await store.save_thread(subject, subject)
        assert [await store.thread(subject) for subject in "abcd"] == [None, "b", "c", "d"]

    async def test_a_digest_whose_window_is_gone_is_made_all_the_same(self, backend: Backend, store: Store):
        await gated(store, 1, EVERY_5_MINUTES)
        backend.clock.now = T0 + HOUR
        assert await pruned(store, "marks", T0 + HOUR) == 1
        (claimed,) = await all_claimed(store)
        assert len(claimed.items) == 1

    async def test_controls_go_when_their_time_has_been_over_for_long_enough(self, store: Store):
        for subject, until in (("over", T0 + 1), ("not yet", T0 + 100), ("for ever", None)):
            await store.set_control(Control("mute", subject, "", "admin", T0, until))
        assert await pruned(store, "marks", T0 + 50) == 1
        assert {control.subject for control in await store.controls()} == {"not yet", "for ever"}

    async def test_fingerprints_are_the_same_as_long_as_the_store_lives(self, backend: Backend, store: Store):
        one, other = store.fingerprint("one"), store.fingerprint("other")
        assert len(one) == len(other) == 64
        assert one != other
        await store.close()
        with pytest.raises(StoreError, match="not open"):
            backend.store().fingerprint("one")
        later = backend.store()
        await later.open()
        assert (later.fingerprint("one"), later.fingerprint("other")) == (one, other)
        await later.close()

    async def test_a_step_stays_within_its_rows_and_goes_on_where_it_was(self, store: Store):
        events = [(await accepted(store, number=number, at=T0 + number))[0] for number in range(5)]
        first = await store.prune("bodies", before=T0 + 4, limit=3)
        assert (first.count, first.last, first.more) == (3, events[2].id, True)
        second = await store.prune("bodies", before=T0 + 4, after=first.last, limit=3)
        assert (second.count, second.more) == (1, False)
        again = await store.prune("bodies", before=T0 + 4, after=second.last, limit=3)
        assert (again.count, again.more) == (0, False)
        later = await store.prune("bodies", before=T0 + 50, after=again.last, limit=3)
        assert (later.count, later.last) == (1, events[4].id)

    async def test_a_step_stays_within_its_bytes_unless_one_event_alone_has_more(self, store: Store):
        sizes = [3000, 3000, 15_000, 3000]
        events = [make_event(number, at=T0 + number, pad=os.urandom(size).hex()) for number, size in enumerate(sizes)]
        for event in events:
            await store.append(event, leased=True)
            await store.settle_routed(routed(event))
        counts, after = [], ""
        for _ in range(3):
            step = await store.prune("bodies", before=T0 + 50, after=after, max_bytes=14_000)
            counts.append(step.count)
            after = step.last
        assert counts == [2, 1, 1]

    async def test_an_event_with_very_many_rows_goes_in_several_steps(self, store: Store):
        _, works = await accepted(store, *(f"d{number}" for number in range(20)))
        for work in works:
            await succeed(store, work)
        steps = [await store.prune("events", before=T0 + 50, limit=8)]
        while steps[-1].more:
            steps.append(await store.prune("events", before=T0 + 50, after=steps[-1].last, limit=8))
        assert len(steps) > 2
        assert sum(step.count for step in steps) == 1
        assert await store.events(EventQuery()) == []
        assert await store.deliveries(DeliveryQuery()) == []

    async def test_dead_letters_go_in_steps_too(self, store: Store):
        _, works = await accepted(store, *(f"d{number}" for number in range(5)))
        for work in works:
            await fail(store, work)
        step = await store.prune("dead", before=T0 + 50, limit=3)
        assert (step.count, step.more) == (3, True)
        assert await pruned(store, "dead", T0 + 50) == 2

    async def test_there_is_nothing_to_prune_in_an_empty_store(self, store: Store):
        for what in ("dead", "unmatched", "bodies", "events", "marks"):
            assert await store.prune(what, before=T0) == Pruned(0, "", more=False)

    async def test_its_size_is_known_and_what_was_deleted_is_used_again(self, store: Store):
        async def fill(at: float) -> int:
            for number in range(20):
                event = make_event(number, at=at, pad=os.urandom(20_000).hex())
                await store.append(event, leased=True)
                await store.settle_routed(routed(event, decided_at=at))
            return (await store.size()).used

        empty = await store.size()
        full = await fill(T0)
        assert full > empty.used + 400_000
        await pruned(store, "events", T0 + 50)
        freed = await store.size()
        if freed.spare:
            assert freed.spare > 300_000
            await fill(T0 + 100)
            assert (await store.size()).spare < freed.spare - 300_000

    async def test_what_is_spare_can_be_given_back_piece_by_piece(self, store: Store):
        for number in range(20):
            event = make_event(number, pad=os.urandom(20_000).hex())
            await store.append(event, leased=True)
            await store.settle_routed(routed(event))
        await pruned(store, "events", T0 + 50)
        spare, pieces = (await store.size()).spare, []
        while piece := await store.shrink(max_bytes=100_000):
            pieces.append(piece)
        assert sum(pieces) == spare
        assert max(pieces, default=0) <= 100_000
        assert (await store.size()).spare == 0
        assert await store.events(EventQuery()) == []


async def pruned(store: Store, what: Prunable, before: float) -> int:
    """How many went in all, step by step."""
    count, step = 0, Pruned(0, "", more=True)
    while step.more:
        step = await store.prune(what, before=before, after=step.last)
        count += step.count
    return count

"""Giving up what is dead."""

from __future__ import annotations

from store_cases import T0, accepted, fail, make_event, put_off, succeed

from engine.store.protocol import Store
from engine.store.queries import DeliveryQuery, EventQuery

STATES = ("due", "running", "succeeded", "dead", "discarded")


class Discarding:
    async def test_what_is_dead_is_given_up_and_its_history_kept(self, store: Store):
        event, (work, other) = await accepted(store, "one", "other")
        await fail(store, work)
        await put_off(store, other, T0 + 1000)
        ids = [work.id, other.id, "nothing", work.id]
        assert await store.discard(ids, now=T0 + 9, by="anna", reason="a test") == [work.id]
        assert await store.discard(ids, now=T0 + 10, by="anna") == []
        assert (await store.backlog()).dead == 0
        detail = await store.delivery(work.id)
        assert detail is not None
        assert (detail.row.state, detail.row.attempts, detail.row.due_at) == ("discarded", 1, None)
        assert detail.row.reason.startswith("discarded by anna: a test; it was dead: ")
        assert [one.outcome for one in detail.attempts] == ["dead", "discarded"]
        assert (detail.attempts[1].worker, detail.attempts[1].started_at) == ("anna", T0 + 9)
        by_state = {state: [row.id for row in await store.deliveries(DeliveryQuery(state=state))] for state in STATES}
        assert by_state == {"due": [other.id], "running": [], "succeeded": [], "dead": [], "discarded": [work.id]}
        assert {row.id for row in await store.deliveries(DeliveryQuery())} == {work.id, other.id}
        assert [row.dead for row in await store.events(EventQuery(event_id=event.id))] == [0]

    async def test_a_replay_takes_it_up_again(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await fail(store, work)
        await store.discard([work.id], now=T0 + 9, by="anna")
        assert await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0 + 20) == [work.id]
        (claimed,) = await store.claim(now=T0 + 20, limit=5)
        assert (claimed.work.id, claimed.work.replays, claimed.work.attempts) == (work.id, 1, 0)
        (row,) = await store.deliveries(DeliveryQuery())
        assert (row.state, row.attempts) == ("running", 1)
        await succeed(store, claimed.work, at=T0 + 21)
        (row,) = await store.deliveries(DeliveryQuery())
        assert (row.state, row.reason, row.attempts) == ("succeeded", "", 2)

    async def test_a_dead_evaluation_is_given_up_by_its_event(self, store: Store):
        event = make_event(1)
        await store.append(event, leased=False)
        (claimed,) = await store.claim(now=T0, limit=1)
        await fail(store, claimed.work)
        assert await store.discard([event.id], now=T0 + 9, by="anna") == [event.id]
        (row,) = await store.events(EventQuery())
        assert (row.state, row.unmatched_reason) == ("discarded", None)
        assert [row.id for row in await store.events(EventQuery(state="discarded"))] == [event.id]
        assert await store.events(EventQuery(state="routed")) == []
        assert await store.events(EventQuery(unmatched=True)) == []
        detail = await store.event(event.id)
        assert detail is not None
        assert [one.outcome for one in detail.attempts] == ["dead", "discarded"]
        assert await store.replay_events([event.id], now=T0 + 20) == [event.id]
        (row,) = await store.events(EventQuery())
        assert row.state == "pending"

    async def test_its_event_is_no_longer_kept_for_it(self, store: Store):
        _, (work,) = await accepted(store, "one")
        await fail(store, work)
        await store.discard([work.id], now=T0 + 9, by="anna")
        assert (await store.prune("bodies", before=T0 + 9)).count == 0
        assert (await store.prune("bodies", before=T0 + 1000)).count == 1
        assert await store.replay_deliveries(DeliveryQuery(ids=[work.id]), now=T0) == []

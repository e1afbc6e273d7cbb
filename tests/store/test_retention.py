"""Old records are deleted, what waits stays, and a full store says so: on a real store, with a clock of the test."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_cases import T0, Clock, accepted, fail, make_event, routed, succeed

from engine.config import DEFAULT_RETENTION, Retention
from engine.core.errors import StoreBusy
from engine.store import open_store
from engine.store.protocol import Store
from engine.store.queries import EventQuery, Size
from engine.worker.retention import RetentionService, StoreSpace

DAY = 86400.0
MIB = 2**20


class House:
    """A store with its retention, and a clock for both."""

    def __init__(self, store: Store, clock: Clock, kept: Retention = DEFAULT_RETENTION) -> None:
        self.store, self.clock, self.kept = store, clock, kept
        self.steady = 0.0
        self.retention = RetentionService(
            store, lambda: self.kept, logging.getLogger("retention"), clock=clock, monotonic=lambda: self.steady
        )

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.steady += seconds

    async def events(self) -> dict[str, bool]:
        """Those there are, and whether they have their body."""
        rows = await self.store.events(EventQuery(limit=10_000))
        return {row.id: (await self.store.event(row.id)).body is not None for row in rows}

    async def finished(self, number: int, *, matched: bool = True, size: int = 0) -> str:
        self.clock.now += 0.001
        event = make_event(number, at=self.clock.now, pad=os.urandom(size // 2).hex())
        await self.store.append(event, leased=True)
        reason = None if matched else "no_match"
        await self.store.settle_routed(
            routed(event, matched=int(matched), unmatched_reason=reason, decided_at=self.clock.now)
        )
        return event.id


@pytest.fixture
async def house(folder: Path) -> AsyncIterator[House]:
    clock = Clock()
    store = open_store(folder / "engine.db", clock=clock)
    await store.open()
    yield House(store, clock)
    await store.close()


async def test_each_has_its_own_age(house: House):
    unmatched, matched = await house.finished(1, matched=False), await house.finished(2)
    failed, (work,) = await accepted(house.store, "dead", number=3)
    await fail(house.store, work)
    seen = []
    for day in (1, 3, 8, 31, 91):
        house.pass_time(T0 + day * DAY - house.clock.now)
        await house.retention.round()
        seen.append(await house.events())
    assert seen == [
        {unmatched: True, matched: True, failed.id: True},
        {matched: True, failed.id: True},
        {matched: False, failed.id: True},
        {failed.id: True},
        {},
    ]


async def test_what_was_passed_over_gets_its_turn_when_it_is_done(house: House):
    _, (work,) = await accepted(house.store, "open")
    house.pass_time(40 * DAY)
    await house.retention.round()
    assert len(await house.events()) == 1
    await succeed(house.store, work)
    house.pass_time(2 * 3600.0)
    await house.retention.round()
    assert await house.events() == {}


async def test_an_age_that_is_changed_counts_from_the_next_round_on(house: House):
    event_id = await house.finished(1)
    house.pass_time(DAY)
    await house.retention.round()
    assert await house.events() == {event_id: True}
    house.kept = replace(house.kept, bodies=3600.0)
    await house.retention.round()
    assert await house.events() == {event_id: False}


async def test_forever_is_for_ever(house: House):
    house.kept = Retention(math.inf, math.inf, math.inf, math.inf, math.inf)
    event_id = await house.finished(1, matched=False)
    house.pass_time(10_000 * DAY)
    await house.retention.round()
    assert await house.events() == {event_id: True}


async def test_many_go_in_one_round_however_many_steps_that_takes(house: House):
    await asyncio.gather(*(house.finished(number) for number in range(1500)))
    house.pass_time(31 * DAY)
    await house.retention.round()
    assert await house.events() == {}


@pytest.mark.parametrize("jump", [40 * DAY, -40 * DAY])
async def test_a_clock_that_jumped_deletes_nothing_for_an_hour(house: House, caplog, jump: float):
    event_id = await house.finished(1)
    await house.retention.round()
    house.clock.now += jump
    await house.retention.round()
    assert await house.events() == {event_id: True}
    assert "the clock jumped" in caplog.text
    house.clock.now -= jump  # somebody put it right, which is another jump
    house.pass_time(1800.0)
    await house.retention.round()
    assert await house.events() == {event_id: True}
    house.pass_time(31 * DAY)
    await house.retention.round()
    assert await house.events() == {}


class TestRoom:
    def test_the_cap_bounds_it(self):
        room = StoreSpace.of(Size(900, 50, free=10**12, disk=10**13), 1000)
        assert (room.full, room.over(0.9), room.over(0.85), room.on_disk) == (False, False, True, False)
        assert StoreSpace.of(Size(1000), 1000).full
        assert not StoreSpace.of(Size(10**15), math.inf).full

    def test_the_disk_bounds_it_too_and_free_pages_count_as_space(self):
        disk = 10**12
        assert StoreSpace.of(Size(10**9, 0, free=MIB, disk=disk), math.inf).full
        assert StoreSpace.of(Size(10**9, 0, free=MIB, disk=disk), math.inf).on_disk
        assert not StoreSpace.of(Size(10**9, 100 * MIB, free=MIB, disk=disk), math.inf).full
        assert not StoreSpace.of(Size(10**9, 0, free=100 * MIB, disk=disk), math.inf).full

    def test_a_small_disk_is_not_full_from_the_start(self):
        assert not StoreSpace.of(Size(MIB, 0, free=15 * MIB, disk=16 * MIB), math.inf).full
        assert StoreSpace.of(Size(15 * MIB, 0, free=MIB // 2, disk=16 * MIB), math.inf).full

    def test_it_says_what_is_the_matter(self):
        assert (
            StoreSpace.of(Size(2**30), 2**30).message()
            == "the store is full: it has 1GiB, and retention.max_size is 1GiB"
        )
        assert "the disk is full" in StoreSpace.of(Size(2**30, 0, 0, 2**40), math.inf).message()


class TestFull:
    """``max_size`` in these is no larger than a test likes to write."""

    async def used(self, house: House) -> float:
        return (await house.store.size()).used

    async def test_undelivered_work_is_never_deleted_and_frees_space_when_it_is_done(self, house: House, caplog):
        caplog.set_level(logging.INFO)
        event = make_event(pad=os.urandom(500_000).hex())
        await house.store.append(event, leased=True)
        dead, (work,) = await accepted(house.store, "dead", number=1)
        await fail(house.store, work)
        house.kept = replace(house.kept, max_size=await self.used(house) * 0.95)
        house.pass_time(DAY)
        await house.retention.look()
        assert "the store is full" in house.retention.full
        await house.retention.round()
        assert set(await house.events()) == {event.id, dead.id}
        assert house.retention.full
        assert caplog.text.count("events are refused") == 1
        await house.store.settle_routed(routed(event, decided_at=house.clock.now))
        house.pass_time(DAY)
        await house.retention.round()
        assert await house.events() == {event.id: False, dead.id: True}
        house.kept = replace(house.kept, max_size=await self.used(house) * 1.05)
        await house.retention.look()
        assert house.retention.full == ""
        assert "events are accepted again" in caplog.text

    async def test_finished_history_is_deleted_early_unmatched_first_and_no_more_than_needed(
        self, house: House, caplog
    ):
        matched = [await house.finished(number, size=60_000) for number in range(20)]
        unmatched = [await house.finished(number, matched=False, size=60_000) for number in range(20, 40)]
        await house.retention.look()
        used = await self.used(house)
        house.kept = replace(house.kept, max_size=used * 1.05)
        house.pass_time(3600.0)
        await house.retention.round()
        left = await house.events()
        assert set(matched) <= set(left)
        assert all(left.values())
        assert 0 < len(set(unmatched) & set(left)) < 20
        assert list(left)[::-1][20:] == unmatched[-(len(left) - 20) :], "the oldest go first"
        assert "before its time" in caplog.text
        house.kept = replace(house.kept, max_size=used * 0.5)
        await house.retention.round()
        left = await house.events()
        assert set(left) == set(matched)
        assert not left[matched[0]], "then bodies, the oldest first; their history stays"
        assert left[matched[-1]]

    async def test_what_happened_a_moment_ago_stays_whatever_is_scarce(self, house: House):
        event_id = await house.finished(1, size=100_000)
        house.kept = replace(house.kept, max_size=1000.0)
        house.pass_time(60.0)
        await house.retention.round()
        assert await house.events() == {event_id: True}

    async def test_what_is_spare_in_the_file_goes_back_to_the_disk(self, house: House, folder: Path, monkeypatch):
        monkeypatch.setattr("engine.worker.retention._SPARE", 100_000)
        for number in range(40):
            await house.finished(number, size=100_000)
        house.pass_time(31 * DAY)
        await house.retention.round()
        size = await house.store.size()
        assert size.spare < 100_000
        await house.store.close()
        assert (folder / "engine.db").stat().st_size < 600_000


async def restarted(house: House, ahead: float) -> House:
    """Another process on the store, whose clock is ahead at its start."""
    house.clock.now += ahead
    made = House(house.store, house.clock)
    await made.retention.start()
    await made.retention.stop()
    return made


@pytest.mark.parametrize("ran_before", [True, False])
async def test_a_clock_that_is_far_ahead_at_the_start_deletes_nothing_for_an_hour(
    house: House, caplog, ran_before: bool
):
    """Whether the store was kept by this version before, or has only the times of its events."""
    event_id = await house.finished(1, matched=False)
    if ran_before:
        house = await restarted(house, 3000.0)
    house = await restarted(house, 400 * DAY)
    assert "s ahead of the last time in the store" in caplog.text
    assert "nothing old is deleted for an hour" in caplog.text
    await house.retention.round()
    assert await house.events() == {event_id: True}
    house.pass_time(1800)
    house = await restarted(house, 60.0)  # a restart within that hour changes nothing
    await house.retention.round()
    house.pass_time(1739)
    await house.retention.round()
    assert await house.events() == {event_id: True}
    house.pass_time(2)
    await house.retention.round()
    assert await house.events() == {}


async def test_a_store_that_cannot_be_read_at_the_start_is_asked_again_before_anything_is_deleted(
    house: House, monkeypatch, caplog
):
    event_id, failures, note = await house.finished(1, matched=False), 2, house.store.note

    async def busy(key: str) -> str | None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreBusy("the disk reports an I/O error")
        return await note(key)

    monkeypatch.setattr(house.store, "note", busy)
    house = await restarted(house, 400 * DAY)
    with pytest.raises(StoreBusy):
        await house.retention.round()
    await house.retention.round()
    assert await house.events() == {event_id: True}
    assert caplog.text.count("ahead of the last time in the store") == 1
    house.pass_time(3601)
    await house.retention.round()
    assert await house.events() == {}


async def test_an_hour_and_a_little_more_is_far_ahead(house: House, caplog):
    event_id = await house.finished(1, matched=False)
    house.kept = replace(house.kept, unmatched=600.0)
    kept, house = house.kept, await restarted(house, 3601.0)
    house.kept = kept
    await house.retention.round()
    assert await house.events() == {event_id: True}
    assert "ahead of the last time" in caplog.text


async def test_a_clock_that_jumped_and_stays_there_is_believed_after_an_hour(house: House, caplog):
    await house.finished(1, matched=False)
    house.clock.now += 400 * DAY
    await house.retention.round()
    assert len(await house.events()) == 1
    for _ in range(2):
        house.pass_time(1801)
        await house.retention.round()
    assert await house.events() == {}
    assert caplog.text.count("the clock jumped") == 1


async def test_a_clock_that_was_put_right_before_a_restart_is_believed(house: House, caplog):
    await house.finished(1, matched=False)
    house = await restarted(house, 400 * DAY)
    house.pass_time(60)
    await house.retention.round()
    caplog.clear()
    house = await restarted(house, -400 * DAY)
    house.kept = replace(house.kept, unmatched=600.0)
    house.pass_time(601)
    await house.retention.round()
    assert await house.events() == {}
    assert "ahead" not in caplog.text


@pytest.mark.parametrize("away", [0.0, 3500.0])
async def test_an_engine_that_was_away_for_less_than_an_hour_goes_on_at_once(house: House, caplog, away: float):
    await house.finished(1, matched=False)
    house.kept = replace(house.kept, unmatched=600.0)
    house = await restarted(house, 60.0)
    house.pass_time(1000)
    await house.retention.round()
    kept, house = house.kept, await restarted(house, away)
    house.kept = replace(kept, unmatched=600.0)
    await house.retention.round()
    assert await house.events() == {}
    assert "ahead" not in caplog.text


async def test_an_empty_store_believes_any_clock(house: House, caplog):
    house = await restarted(house, 400 * DAY)
    await house.finished(1, matched=False)
    house.kept = replace(house.kept, unmatched=600.0)
    house.pass_time(601)
    await house.retention.round()
    assert await house.events() == {}
    assert "ahead" not in caplog.text


async def test_trouble_with_the_store_ends_neither_service(house: House, monkeypatch, caplog):
    monkeypatch.setattr("engine.worker.retention.LOOK", 0.01)
    monkeypatch.setattr("engine.worker.retention.SOON", 0.01)
    monkeypatch.setattr("engine.worker.retention.ROUND", 0.02)
    size, prune, failures = house.store.size, house.store.prune, {"size": 3, "prune": 3}

    async def busy(verb: str, good: Any, *args: Any, **kwargs: Any) -> Any:
        if failures[verb]:
            failures[verb] -= 1
            raise StoreBusy("the disk reports an I/O error") if failures[verb] else KeyError("what")
        return await good(*args, **kwargs)

    monkeypatch.setattr(house.store, "size", lambda: busy("size", size))
    monkeypatch.setattr(house.store, "prune", lambda *args, **kwargs: busy("prune", prune, *args, **kwargs))
    await house.finished(1)
    await house.retention.start()
    house.pass_time(31 * DAY)
    deadline = time.monotonic() + 10
    while await house.events():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await house.retention.stop()
    assert failures == {"size": 0, "prune": 0}
    assert "the disk reports an I/O error" in str([record.__dict__.get("reason") for record in caplog.records])


async def test_no_append_waits_long_beside_a_big_prune(house: House):
    """Forty thousand rows and two hundred megabytes go; meanwhile an event is accepted every millisecond or two."""
    many = [house.finished(number) for number in range(8000)]
    large = [house.finished(number, size=8 * MIB) for number in range(8000, 8006)]
    await asyncio.gather(*many, *large)
    house.pass_time(31 * DAY)
    slowest, count, begun = 0.0, 0, time.perf_counter()
    pruning = asyncio.create_task(house.retention.round())
    while not pruning.done():
        event = make_event(10_000 + count, at=house.clock.now, size=2000)
        handed_in = time.perf_counter()
        await house.store.append(event, leased=True)
        slowest = max(slowest, time.perf_counter() - handed_in)
        count += 1
        await asyncio.sleep(0.001)
    whole = time.perf_counter() - begun
    assert len(await house.store.events(EventQuery(limit=10_000))) == count
    print(f"slowest of {count} appends beside the prune: {slowest * 1000:.0f} ms of {whole * 1000:.0f}")
    assert slowest < whole / 8, "were it one transaction, it would be a sixth of it or more"


async def test_over_many_cycles_the_file_grows_no_more(house: House):
    async def cycle(number: int) -> int:
        await asyncio.gather(*(house.finished(number * 200 + one, size=20_000) for one in range(200)))
        house.pass_time(31 * DAY)
        await house.retention.round()
        size = await house.store.size()
        return size.used + size.spare

    sizes = [await cycle(number) for number in range(15)]
    assert sizes[0] > 2_000_000
    assert max(sizes[3:]) <= max(sizes[:3]) * 1.1

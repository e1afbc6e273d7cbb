"""The way into a lane: at once, after a moment in memory, or back to the store; and what outlasts a restart."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace

import pytest

from engine.action.failures import Failure
from engine.clients.limits import LimitsSpec
from engine.core.masking import Masker
from engine.rules.router import Router
from engine.store import open_store
from engine.store.records import ClaimResult, Control
from engine.worker.context import Desk, Rules
from engine.worker.destinations import Admitted, LimitTable, Shut
from engine.worker.destinations.destination import WAITS_BYTES
from engine.worker.destinations.gateway import Gate
from engine.worker.in_memory import Holdings
from engine.worker.observer import Observer

NAME = "https://example.com"
GONE = Failure(retry=True, reason="HTTP 410", status=410, cause="answer")
BUSY = Failure(retry=True, reason="HTTP 429", status=429, cause="answer", after=60.0)
SECRET = "token-that-nobody-sees"


class Told(Observer):
    """What people were told."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        self.words.append(("paused", reason))

    def reopened(self, destination: str) -> None:
        self.words.append(("reopened", destination))


class Kept:
    """A route whose one action is the log."""

    on_dead = ()

    @property
    def actions(self) -> tuple[Kept, ...]:
        return (self,)

    name = "log"


class World:
    """A gate with its store, under rules that can be changed."""

    def __init__(self, store) -> None:
        self.store, self.told, self.woken = store, Told(), 0
        self.hash, self.concurrency, self.routes = "one", 2, {}
        self.gate = self.another()

    def another(self) -> Gate:
        """The gate after a restart."""
        return Gate(self.desk(), 100, self.wake)

    def desk(self, **other) -> Desk:
        return Desk(
            store=self.store,
            rules=lambda: Rules(self.router(), Masker([SECRET])),
            holdings=Holdings(None, None),
            observer=self.told,
            logger=logging.getLogger("engine.test"),
            rng=random.Random(1),
            **other,
        )

    def router(self) -> Router:
        limits = LimitTable({"default": LimitsSpec(concurrency=self.concurrency)})
        nothing = dict.fromkeys(("langsmith", "slack", "site", "vars", "by_key", "retry"))
        return Router(hash="shown", private_hash=self.hash, limits=limits, routes=self.routes, **nothing)

    def wake(self) -> None:
        self.woken += 1

    async def entered(self, count: int = 1) -> list[Admitted]:
        return [await self.gate.enter(NAME) for _ in range(count)]

    async def fail(self, failure: Failure) -> None:
        (admitted,) = await self.entered()
        self.gate.leave(admitted, failure)
        await self.gate.written()


@pytest.fixture
async def world(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'engine.db'}")
    await store.open()
    made = World(store)
    yield made
    made.gate.close()
    await made.gate.written()
    await store.close()


async def begun(*waiting):
    tasks = [asyncio.ensure_future(each) for each in waiting]
    await asyncio.sleep(0)
    return tasks


async def test_who_waits_is_let_in_in_the_order_of_coming(world) -> None:
    inside = await world.entered(2)
    waiting = await begun(*(world.gate.enter(NAME) for _ in range(3)))
    assert world.gate.waiting == 3
    for count, admitted in enumerate(inside, start=1):
        world.gate.leave(admitted, None)
        await asyncio.sleep(0.01)
        assert [task.done() for task in waiting] == [True] * count + [False] * (3 - count)
    world.gate.leave(waiting[0].result(), None)
    assert isinstance(await waiting[2], Admitted)
    assert world.gate.waiting == 0


async def test_who_waits_for_one_that_does_not_move_goes_back_to_the_store(world, monkeypatch) -> None:
    monkeypatch.setattr("engine.worker.destinations.gateway.PATIENCE", 0.05)
    await world.entered(2)
    answers = await asyncio.gather(*(world.gate.enter(NAME) for _ in range(150)))
    assert all(isinstance(each, Shut) and each.block is None for each in answers)
    assert world.gate.waiting == 0
    assert isinstance(await world.gate.enter("https://other.example"), Admitted)


async def test_when_a_lane_is_shut_all_who_wait_there_are_sent_away(world) -> None:
    first, _ = await world.entered(2)
    waiting = await begun(*(world.gate.enter(NAME) for _ in range(3)))
    world.gate.leave(first, GONE)
    answers = await asyncio.gather(*waiting)
    assert {each.block.kind for each in answers} == {"gone"}
    assert world.told.words == [("paused", "it is gone (HTTP 410)")]


async def test_who_gives_up_takes_no_place_along(world) -> None:
    first, second = await world.entered(2)
    one, other = await begun(world.gate.enter(NAME), world.gate.enter(NAME))
    world.gate.leave(first, None)  # lets the first one in, that is cancelled before it knows
    one.cancel()
    other.cancel()
    await asyncio.gather(one, other, return_exceptions=True)
    world.gate.give_up(second)
    assert world.gate.waiting == 0
    assert all(isinstance(each, Admitted) for each in await world.entered(2))


async def test_at_the_end_nobody_waits(world) -> None:
    await world.entered(2)
    (waiting,) = await begun(world.gate.enter(NAME))
    world.gate.close()
    assert isinstance(await waiting, Shut)
    assert isinstance(await world.gate.enter(NAME), Shut)


async def test_a_closed_gate_lets_in_who_finds_a_place_and_lets_nobody_wait(world) -> None:
    world.gate.close()
    entered = [await world.gate.enter(NAME) for _ in range(3)]
    assert [type(one) for one in entered] == [Admitted, Admitted, Shut]


async def test_new_limits_let_in_who_waits(world) -> None:
    await world.entered(2)
    waiting = await begun(*(world.gate.enter(NAME) for _ in range(3)))
    world.concurrency, world.hash = 4, "two"
    world.gate.reloaded()
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting] == [True, True, False]
    waiting[2].cancel()


async def test_what_outlasts_a_restart_is_kept_and_forgotten_when_it_is_over(world) -> None:
    await world.fail(GONE)
    (control,) = await world.store.controls()
    assert (control.kind, control.subject, control.reason, control.until_at) == ("pause", NAME, "HTTP 410", None)
    world.gate = world.another()
    await world.gate.restore()
    assert isinstance(await world.gate.enter(NAME), Shut)
    assert world.gate.resume(NAME)
    await world.gate.written()
    assert await world.store.controls() == []
    assert [word for word, _ in world.told.words] == ["paused", "paused", "reopened"]
    assert not world.gate.resume(NAME), "nothing is in its way any more"


async def test_only_a_changed_configuration_opens_what_was_gone_and_one_attempt_finds_out(world) -> None:
    await world.fail(GONE)
    for _ in range(6):
        world.gate.reloaded()
    assert isinstance(await world.gate.enter(NAME), Shut)
    world.hash = "two"
    world.gate.reloaded()
    one, *others = await begun(*(world.gate.enter(NAME) for _ in range(12)))
    assert isinstance(one.result(), Admitted)
    assert not any(other.done() for other in others)
    world.gate.leave(one.result(), GONE)
    assert all(isinstance(answer, Shut) for answer in await asyncio.gather(*others))
    assert world.gate.resume(NAME)
    (admitted,) = await world.entered()
    (waiting,) = await begun(world.gate.enter(NAME))
    world.gate.leave(admitted, None)
    assert isinstance(await waiting, Admitted)


async def test_what_others_leave_goes_to_those_who_found_no_place(world) -> None:
    world.gate = Gate(world.gate._desk, 8, world.wake)
    held = [await world.gate.enter(f"https://{name}.example") for name in "abcdefgh"]
    assert isinstance(await world.gate.enter("https://late.example"), Shut)
    assert world.woken == 0
    world.gate.leave(held[0], None)
    assert world.woken == 1
    world.gate.leave(held[1], None)
    assert world.woken == 1, "nobody else asked"
    assert isinstance(await world.gate.enter("https://late.example"), Admitted)


async def test_those_who_would_wait_too_long_at_the_pace_of_now_go_back_the_last_ones_first(world, monkeypatch) -> None:
    monkeypatch.setattr("engine.worker.destinations.gateway.PATIENCE", 0.1)
    inside = await world.entered(2)
    waiting = await begun(*(world.gate.enter(NAME) for _ in range(40)))
    for admitted in inside:
        world.gate.leave(admitted, None)
    await asyncio.sleep(0.15)
    assert [task.done() for task in waiting] == [True] * 2 + [False] * 12 + [True] * 26, "six times as many as began"
    assert all(task.result() == Shut(inside[0].lane, None) for task in waiting[14:])
    assert world.gate.waiting == 12
    for task in waiting:
        task.cancel()


async def test_one_busy_lane_does_not_take_all_the_memory_for_waiting(world) -> None:
    world.gate = Gate(world.gate._desk, 100, world.wake, most_waiting=10 * (WAITS_BYTES + 1000))
    await world.entered(2)
    waiting = await begun(*(world.gate.enter(NAME, events={f"event-{number}": 1000}) for number in range(10)))
    assert [task.done() for task in waiting] == [False] * 5 + [True] * 5
    assert world.gate.waits() == {NAME: 5}
    other = "https://other.example"
    inside = [await world.gate.enter(other) for _ in range(2)]
    sizes = {"large": 5 * (WAITS_BYTES + 1000)}, {"small": 1000}
    large = await begun(*(world.gate.enter(other, events=events) for events in sizes))
    assert [task.done() for task in large] == [True, False], "it is the bytes that count"
    for task in (*waiting, *large):
        task.cancel()
    await asyncio.gather(*waiting, *large, return_exceptions=True)
    assert (world.gate.waiting, world.gate._lanes.memory.taken) == (0, 0)
    assert all(isinstance(one, Admitted) for one in inside)


async def test_an_event_counts_once_for_all_its_deliveries_to_one_destination(world) -> None:
    event = {"event": 100_000}
    world.gate = Gate(world.gate._desk, 100, world.wake, most_held=150_000, most_waiting=1_000_000)
    inside = [await world.gate.enter(NAME, events=event) for _ in range(2)]
    waiting = await begun(*(world.gate.enter(NAME, events=event) for _ in range(40)))
    assert not any(task.done() for task in waiting)
    assert world.gate._lanes.memory.taken == 100_000 + 40 * WAITS_BYTES
    lane = inside[0].lane
    assert (lane.held.total, lane.is_heavy) == (100_000, False)
    (other,) = await begun(world.gate.enter(NAME, events={"other": 50_000}))
    assert lane.is_heavy
    for task in (*waiting, other):
        task.cancel()
    await asyncio.gather(*waiting, other, return_exceptions=True)
    assert (lane.held.total, world.gate._lanes.memory.taken) == (100_000, 0)
    for admitted in inside:
        world.gate.leave(admitted, None)
    assert lane.held.total == 0


async def test_with_another_configuration_a_restart_forgets_who_was_gone_and_keeps_a_pause(world) -> None:
    await world.fail(GONE)
    (admitted,) = [await world.gate.enter("slack #ops")]
    world.gate.leave(admitted, BUSY)
    await world.gate.written()
    world.hash = "two"
    world.gate = world.another()
    await world.gate.restore()
    await world.gate.written()
    assert [control.subject for control in await world.store.controls()] == ["slack #ops"]
    assert isinstance(await world.gate.enter(NAME), Admitted)
    shut = await world.gate.enter("slack #ops")
    assert shut.block.until == pytest.approx(time.time() + 60, abs=5)


async def test_a_rotated_secret_opens_what_refused_it_after_a_restart_and_is_not_stored(world) -> None:
    """``hash`` here is the private one: it alone differs where only a secret does."""
    await world.fail(replace(GONE, status=401))
    (control,) = await world.store.controls()
    assert control.state == {"kind": control.state["kind"], "config": world.store.fingerprint("one")}
    world.gate = world.another()
    await world.gate.restore()
    await world.gate.written()
    assert await world.store.controls() == [control]
    world.hash = "two"
    world.gate = world.another()
    await world.gate.restore()
    await world.gate.written()
    assert await world.store.controls() == []
    assert isinstance(await world.gate.enter(NAME), Admitted)


async def test_what_an_earlier_version_stored_is_another_configuration(world) -> None:
    await world.store.set_control(
        Control("pause", NAME, "HTTP 401", "engine", time.time(), None, {"kind": "refused", "config": "one"})
    )
    world.gate = world.another()
    await world.gate.restore()
    await world.gate.written()
    assert await world.store.controls() == []


@pytest.mark.parametrize("says", [GONE, replace(GONE, status=401)])
async def test_an_attempt_of_the_old_rules_does_not_shut_what_the_new_ones_have_mended(world, says) -> None:
    first, second = await world.entered(2)
    world.gate.leave(first, says, "one")
    world.hash = "two"
    world.gate.reloaded()
    world.gate.leave(second, says, "one")
    await world.gate.written()
    assert await world.store.controls() == []
    (admitted,) = await world.entered()
    assert isinstance(admitted, Admitted)
    world.gate.leave(admitted, says, "two")
    assert isinstance(await world.gate.enter(NAME), Shut)


async def test_a_short_pause_is_not_worth_a_row_and_is_told_once(world) -> None:
    short = Failure(retry=True, reason="HTTP 429", status=429, cause="answer", after=0.05)
    one, other = await world.entered(2)
    world.gate.leave(one, short)
    world.gate.leave(other, short)
    await world.gate.written()
    assert await world.store.controls() == []
    await asyncio.sleep(0.15)
    assert [word for word, _ in world.told.words] == ["paused", "reopened"]
    assert isinstance(await world.gate.enter(NAME), Admitted)


@pytest.mark.parametrize("first", [5.0, 40.0])
async def test_a_pause_that_is_made_longer_is_told_and_kept_as_such(world, first) -> None:
    world.concurrency = 3
    one, other, third = await world.entered(3)
    for admitted, after in ((one, first), (other, 3600.0), (third, 3600.01)):
        world.gate.leave(admitted, replace(BUSY, after=after))
    await world.gate.written()
    (control,) = await world.store.controls()
    assert control.until_at == pytest.approx(time.time() + 3600, abs=5)
    assert [word for word, _ in world.told.words] == ["paused", "paused"], "the third says nothing new"
    world.gate = world.another()
    await world.gate.restore()
    assert isinstance(await world.gate.enter(NAME), Shut)


async def test_the_worker_is_woken_when_a_place_is_free_for_what_waits_in_the_store(world) -> None:
    first, second = await world.entered(2)
    world.gate.stored(first.lane)
    await begun(*(world.gate.enter(NAME, NAME) for _ in range(2)))
    world.gate.leave(first, None)
    assert world.woken == 2, "a claim takes some ahead"
    world.gate.taken(world.gate.ask(), ClaimResult(emptied=frozenset({NAME})))
    world.gate.leave(second, None)
    assert world.woken == 2


async def test_who_comes_does_not_pass_what_waits_in_the_store(world) -> None:
    (inside,) = await world.entered()
    assert world.gate.turned_away(NAME) is None
    world.gate.stored(inside.lane)
    assert isinstance(world.gate.turned_away(NAME), Shut)
    assert [isinstance(each, Shut) for each in await world.entered(2)] == [True, True]
    assert isinstance(await world.gate.enter(NAME, NAME), Admitted), "it was taken out of the store"
    world.gate.taken(world.gate.ask(), ClaimResult(remaining=frozenset({NAME})))
    assert isinstance(world.gate.turned_away(NAME), Shut)
    world.gate.taken(world.gate.ask(), ClaimResult(emptied=frozenset({NAME})))
    assert world.gate.turned_away(NAME) is None


@pytest.mark.parametrize(
    "destination",
    ["https://" + SECRET + ".example", "x" * 5000, "two\nlines\x00", "half \ud800", "", "\x1b[31mred"],
)
async def test_a_lane_has_a_name_that_can_be_shown_and_is_its_own(world, destination) -> None:
    name = (await world.gate.enter(destination)).lane.name
    another = (await world.gate.enter(destination + "!")).lane.name
    assert name != another
    assert SECRET not in name
    assert 0 < len(name) < 250
    assert name.isprintable()


async def test_deliveries_of_a_removed_route_wait_in_a_lane_that_is_shut_until_it_is_there_again(world) -> None:
    name = world.gate.removed("corrections/a", "log")
    assert name == "removed route corrections/a, action log"
    assert (set(world.gate.ask().shut), world.told.words) == ({name}, [])
    world.hash = "two"
    world.gate.reloaded()
    assert set(world.gate.ask().shut) == {name}, "it is not there yet"
    world.hash, world.routes = "three", {"corrections/a": Kept()}
    world.gate.reloaded()
    ask = world.gate.ask()
    assert (set(ask.shut), set(ask.opened), dict(ask.rooms)) == (set(), {name}, {})
    world.gate.taken(ask, ClaimResult())
    assert set(world.gate.ask().opened) == set(), "it is told once"
    assert world.gate.removed("corrections/a", "log") == name
    assert set(world.gate.ask().shut) == set(), "a reload may come between"


async def test_a_removed_route_that_people_open_is_shut_by_its_next_delivery(world) -> None:
    name = world.gate.removed("corrections/a", "log")
    assert world.gate.resume(name)
    assert set(world.gate.ask().shut) == set()
    world.gate.removed("corrections/a", "log")
    assert set(world.gate.ask().shut) == {name}


async def test_a_claim_is_told_which_lanes_it_need_not_pass_over_any_more(world) -> None:
    first, second = await world.entered(2)
    ask = world.gate.ask()
    assert (ask.rooms, set(ask.opened)) == ({NAME: 2}, set())
    world.gate.taken(ask, ClaimResult(remaining=frozenset({NAME}), skipped=frozenset({NAME})))
    world.gate.leave(first, GONE)
    world.gate.give_up(second)
    assert set(world.gate.ask().opened) == set()
    world.gate.resume(NAME)
    ask = world.gate.ask()
    assert (ask.rooms, set(ask.opened)) == ({NAME: 1}, {NAME})
    assert set(world.gate.ask().opened) == {NAME}, "the claim may have failed"
    world.gate.taken(ask, ClaimResult(emptied=frozenset({NAME})))
    assert set(world.gate.ask().opened) == set()


async def test_what_was_stored_while_a_claim_was_made_is_not_forgotten_by_its_answer(world) -> None:
    (inside,) = await world.entered()
    world.gate.stored(inside.lane)
    ask = world.gate.ask()
    world.gate.stored(inside.lane)
    world.gate.taken(ask, ClaimResult(emptied=frozenset({NAME})))
    assert isinstance(world.gate.turned_away(NAME), Shut)
    world.gate.taken(world.gate.ask(), ClaimResult(emptied=frozenset({NAME})))
    assert world.gate.turned_away(NAME) is None

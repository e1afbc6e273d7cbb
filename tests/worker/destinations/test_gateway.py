"""Admission: at once, after a moment in memory, or back to the store; and which blocks survive a restart."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace

import pytest

from engine.action.failures import Failure
from engine.clients.limits import LimitsSpec, LimitTable
from engine.core.masking import Masker
from engine.rules.router import Router
from engine.store import open_store
from engine.store.records import ClaimResult, Control
from engine.worker.context import Context, InMemoryEvents, Mutes, Rules
from engine.worker.destinations.destination import WAITING_BYTES, Admitted, NotAdmitted
from engine.worker.destinations.gateway import Gateway
from engine.worker.observer import Observer

NAME = "https://example.com"
GONE = Failure(retry=True, reason="HTTP 410", status=410, cause="answer")
BUSY = Failure(retry=True, reason="HTTP 429", status=429, cause="answer", after=60.0)
SECRET = "a-secret-token"


class Reported(Observer):
    """Collects what is reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str]] = []

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        self.reports.append(("paused", reason))

    def reopened(self, destination: str) -> None:
        self.reports.append(("reopened", destination))


class Kept:
    """A route whose one action is the log."""

    on_dead = ()

    @property
    def actions(self) -> tuple[Kept, ...]:
        return (self,)

    name = "log"


class World:
    """A gateway with its store, under rules that can be changed."""

    def __init__(self, store) -> None:
        self.store, self.reported, self.woken = store, Reported(), 0
        self.hash, self.concurrency, self.routes = "one", 2, {}
        self.gateway = self.another()

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if "gateway" in vars(self):
            self.gateway._context.rules = self.rules()

    def rules(self) -> Rules:
        return Rules(self.router(), Masker([SECRET]))

    def another(self) -> Gateway:
        """The gateway after a restart."""
        return Gateway(self.context(), 100, self.wake)

    def context(self, **other) -> Context:
        return Context(
            store=self.store,
            rules=self.rules(),
            events=InMemoryEvents(None, None),
            observer=self.reported,
            logger=logging.getLogger("engine.test"),
            mutes=Mutes(self.store, logging.getLogger("engine.test")),
            rng=random.Random(1),
            **other,
        )

    def router(self) -> Router:
        limits = LimitTable({"default": LimitsSpec(concurrency=self.concurrency)})
        nothing = dict.fromkeys(("langsmith", "slack", "web_url", "vars", "by_key", "retry"))
        return Router(hash="shown", private_hash=self.hash, limits=limits, routes=self.routes, **nothing)

    def wake(self) -> None:
        self.woken += 1

    async def admitted(self, count: int = 1) -> list[Admitted]:
        return [await self.gateway.admit(NAME) for _ in range(count)]

    async def fail(self, failure: Failure) -> None:
        (admitted,) = await self.admitted()
        self.gateway.finish(admitted, failure)
        await self.gateway.flush()


@pytest.fixture
async def world(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'engine.db'}")
    await store.open()
    made = World(store)
    yield made
    made.gateway.close()
    await made.gateway.flush()
    await store.close()


async def begun(*waiting):
    tasks = [asyncio.ensure_future(each) for each in waiting]
    await asyncio.sleep(0)
    return tasks


async def test_waiting_deliveries_are_admitted_in_order(world) -> None:
    inside = await world.admitted(2)
    waiting = await begun(*(world.gateway.admit(NAME) for _ in range(3)))
    assert world.gateway.waiting == 3
    for count, admitted in enumerate(inside, start=1):
        world.gateway.finish(admitted, None)
        await asyncio.sleep(0.01)
        assert [task.done() for task in waiting] == [True] * count + [False] * (3 - count)
    world.gateway.finish(waiting[0].result(), None)
    assert isinstance(await waiting[2], Admitted)
    assert world.gateway.waiting == 0


async def test_deliveries_for_a_stuck_destination_return_to_the_store(world, monkeypatch) -> None:
    monkeypatch.setattr("engine.worker.destinations.waiting.PACE_INTERVAL", 0.05)
    await world.admitted(2)
    answers = await asyncio.gather(*(world.gateway.admit(NAME) for _ in range(150)))
    assert all(isinstance(each, NotAdmitted) and each.block is None for each in answers)
    assert world.gateway.waiting == 0
    assert isinstance(await world.gateway.admit("https://other.example"), Admitted)


async def test_a_block_returns_all_waiting_deliveries_to_the_store(world) -> None:
    first, _ = await world.admitted(2)
    waiting = await begun(*(world.gateway.admit(NAME) for _ in range(3)))
    world.gateway.finish(first, GONE)
    answers = await asyncio.gather(*waiting)
    assert {each.block.kind for each in answers} == {"gone"}
    assert world.reported.reports == [("paused", "it is gone (HTTP 410)")]


async def test_a_cancelled_delivery_keeps_no_slot(world) -> None:
    first, second = await world.admitted(2)
    one, other = await begun(world.gateway.admit(NAME), world.gateway.admit(NAME))
    world.gateway.finish(first, None)  # admits the first one, which is cancelled before it runs
    one.cancel()
    other.cancel()
    await asyncio.gather(one, other, return_exceptions=True)
    world.gateway.abandon(second)
    assert world.gateway.waiting == 0
    assert all(isinstance(each, Admitted) for each in await world.admitted(2))


async def test_close_returns_waiting_deliveries_to_the_store(world) -> None:
    await world.admitted(2)
    (waiting,) = await begun(world.gateway.admit(NAME))
    world.gateway.close()
    assert isinstance(await waiting, NotAdmitted)
    assert isinstance(await world.gateway.admit(NAME), NotAdmitted)


async def test_a_closed_gateway_admits_to_free_slots_and_queues_nothing(world) -> None:
    world.gateway.close()
    entered = [await world.gateway.admit(NAME) for _ in range(3)]
    assert [type(one) for one in entered] == [Admitted, Admitted, NotAdmitted]


async def test_new_limits_admit_waiting_deliveries(world) -> None:
    await world.admitted(2)
    waiting = await begun(*(world.gateway.admit(NAME) for _ in range(3)))
    world.concurrency, world.hash = 4, "two"
    world.gateway.reloaded()
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting] == [True, True, False]
    waiting[2].cancel()


async def test_a_block_that_survives_a_restart_is_stored_until_it_is_over(world) -> None:
    await world.fail(GONE)
    (control,) = await world.store.controls()
    assert (control.kind, control.subject, control.reason, control.until_at) == ("pause", NAME, "HTTP 410", None)
    world.gateway = world.another()
    await world.gateway.restore()
    assert isinstance(await world.gateway.admit(NAME), NotAdmitted)
    assert world.gateway.resume(NAME)
    await world.gateway.flush()
    assert await world.store.controls() == []
    assert [word for word, _ in world.reported.reports] == ["paused", "paused", "reopened"]
    assert not world.gateway.resume(NAME), "it is not blocked any more"


async def test_only_a_changed_configuration_unblocks_what_was_gone_with_one_probe(world) -> None:
    await world.fail(GONE)
    for _ in range(6):
        world.gateway.reloaded()
    assert isinstance(await world.gateway.admit(NAME), NotAdmitted)
    world.hash = "two"
    world.gateway.reloaded()
    one, *others = await begun(*(world.gateway.admit(NAME) for _ in range(12)))
    assert isinstance(one.result(), Admitted)
    assert not any(other.done() for other in others)
    world.gateway.finish(one.result(), GONE)
    assert all(isinstance(answer, NotAdmitted) for answer in await asyncio.gather(*others))
    assert world.gateway.resume(NAME)
    (admitted,) = await world.admitted()
    (waiting,) = await begun(world.gateway.admit(NAME))
    world.gateway.finish(admitted, None)
    assert isinstance(await waiting, Admitted)


async def test_a_free_slot_goes_to_a_destination_that_found_none(world) -> None:
    world.gateway = Gateway(world.gateway._context, 8, world.wake)
    held = [await world.gateway.admit(f"https://{name}.example") for name in "abcdefgh"]
    assert isinstance(await world.gateway.admit("https://late.example"), NotAdmitted)
    assert world.woken == 0
    world.gateway.finish(held[0], None)
    assert world.woken == 1
    world.gateway.finish(held[1], None)
    assert world.woken == 1, "nothing else waits"
    assert isinstance(await world.gateway.admit("https://late.example"), Admitted)


async def test_deliveries_that_would_wait_too_long_return_to_the_store_the_last_ones_first(world, monkeypatch) -> None:
    monkeypatch.setattr("engine.worker.destinations.waiting.PACE_INTERVAL", 0.1)
    inside = await world.admitted(2)
    waiting = await begun(*(world.gateway.admit(NAME) for _ in range(40)))
    for admitted in inside:
        world.gateway.finish(admitted, None)
    await asyncio.sleep(0.15)
    assert [task.done() for task in waiting] == [True] * 2 + [False] * 12 + [True] * 26, "six times as many as started"
    assert all(task.result() == NotAdmitted(inside[0].destination, None) for task in waiting[14:])
    assert world.gateway.waiting == 12
    for task in waiting:
        task.cancel()


async def test_one_busy_destination_does_not_take_all_the_memory_for_waiting(world) -> None:
    world.gateway = Gateway(world.gateway._context, 100, world.wake, max_waiting=10 * (WAITING_BYTES + 1000))
    await world.admitted(2)
    waiting = await begun(*(world.gateway.admit(NAME, events={f"event-{number}": 1000}) for number in range(10)))
    assert [task.done() for task in waiting] == [False] * 5 + [True] * 5
    assert world.gateway.waiting_counts() == {NAME: 5}
    other = "https://other.example"
    inside = [await world.gateway.admit(other) for _ in range(2)]
    sizes = {"large": 5 * (WAITING_BYTES + 1000)}, {"small": 1000}
    large = await begun(*(world.gateway.admit(other, events=events) for events in sizes))
    assert [task.done() for task in large] == [True, False], "the limit is in bytes"
    for task in (*waiting, *large):
        task.cancel()
    await asyncio.gather(*waiting, *large, return_exceptions=True)
    assert (world.gateway.waiting, world.gateway._table.shared.waiting_bytes) == (0, 0)
    assert all(isinstance(one, Admitted) for one in inside)


async def test_an_event_counts_once_for_all_its_deliveries_to_one_destination(world) -> None:
    event = {"event": 100_000}
    world.gateway = Gateway(world.gateway._context, 100, world.wake, max_bytes=150_000, max_waiting=1_000_000)
    inside = [await world.gateway.admit(NAME, events=event) for _ in range(2)]
    waiting = await begun(*(world.gateway.admit(NAME, events=event) for _ in range(40)))
    assert not any(task.done() for task in waiting)
    assert world.gateway._table.shared.waiting_bytes == 100_000 + 40 * WAITING_BYTES
    destination = inside[0].destination
    assert (destination.event_bytes.total, destination.is_memory_full) == (100_000, False)
    (other,) = await begun(world.gateway.admit(NAME, events={"other": 50_000}))
    assert destination.is_memory_full
    for task in (*waiting, other):
        task.cancel()
    await asyncio.gather(*waiting, other, return_exceptions=True)
    assert (destination.event_bytes.total, world.gateway._table.shared.waiting_bytes) == (100_000, 0)
    for admitted in inside:
        world.gateway.finish(admitted, None)
    assert destination.event_bytes.total == 0


async def test_with_another_configuration_a_restart_drops_gone_blocks_and_keeps_pauses(world) -> None:
    await world.fail(GONE)
    (admitted,) = [await world.gateway.admit("slack #ops")]
    world.gateway.finish(admitted, BUSY)
    await world.gateway.flush()
    world.hash = "two"
    world.gateway = world.another()
    await world.gateway.restore()
    await world.gateway.flush()
    assert [control.subject for control in await world.store.controls()] == ["slack #ops"]
    assert isinstance(await world.gateway.admit(NAME), Admitted)
    denied = await world.gateway.admit("slack #ops")
    assert denied.block.until == pytest.approx(time.time() + 60, abs=5)


async def test_a_rotated_secret_unblocks_what_refused_it_after_a_restart_and_is_not_stored(world) -> None:
    """``hash`` here is the private one: it alone differs where only a secret does."""
    await world.fail(replace(GONE, status=401))
    (control,) = await world.store.controls()
    assert control.state == {"kind": control.state["kind"], "config": world.store.fingerprint("one")}
    world.gateway = world.another()
    await world.gateway.restore()
    await world.gateway.flush()
    assert await world.store.controls() == [control]
    world.hash = "two"
    world.gateway = world.another()
    await world.gateway.restore()
    await world.gateway.flush()
    assert await world.store.controls() == []
    assert isinstance(await world.gateway.admit(NAME), Admitted)


async def test_what_an_earlier_version_stored_is_another_configuration(world) -> None:
    await world.store.set_control(
        Control("pause", NAME, "HTTP 401", "engine", time.time(), None, {"kind": "refused", "config": "one"})
    )
    world.gateway = world.another()
    await world.gateway.restore()
    await world.gateway.flush()
    assert await world.store.controls() == []


@pytest.mark.parametrize("says", [GONE, replace(GONE, status=401)])
async def test_an_attempt_of_the_old_rules_does_not_block_what_the_new_ones_have_fixed(world, says) -> None:
    first, second = await world.admitted(2)
    world.gateway.finish(first, says, "one")
    world.hash = "two"
    world.gateway.reloaded()
    world.gateway.finish(second, says, "one")
    await world.gateway.flush()
    assert await world.store.controls() == []
    (admitted,) = await world.admitted()
    assert isinstance(admitted, Admitted)
    world.gateway.finish(admitted, says, "two")
    assert isinstance(await world.gateway.admit(NAME), NotAdmitted)


async def test_a_short_pause_is_not_stored_and_is_reported_once(world) -> None:
    short = Failure(retry=True, reason="HTTP 429", status=429, cause="answer", after=0.05)
    one, other = await world.admitted(2)
    world.gateway.finish(one, short)
    world.gateway.finish(other, short)
    await world.gateway.flush()
    assert await world.store.controls() == []
    await asyncio.sleep(0.15)
    assert [word for word, _ in world.reported.reports] == ["paused", "reopened"]
    assert isinstance(await world.gateway.admit(NAME), Admitted)


@pytest.mark.parametrize("first", [5.0, 40.0])
async def test_a_longer_pause_is_reported_and_stored(world, first) -> None:
    world.concurrency = 3
    one, other, third = await world.admitted(3)
    for admitted, after in ((one, first), (other, 3600.0), (third, 3600.01)):
        world.gateway.finish(admitted, replace(BUSY, after=after))
    await world.gateway.flush()
    (control,) = await world.store.controls()
    assert control.until_at == pytest.approx(time.time() + 3600, abs=5)
    assert [word for word, _ in world.reported.reports] == ["paused", "paused"], "the third is no news"
    world.gateway = world.another()
    await world.gateway.restore()
    assert isinstance(await world.gateway.admit(NAME), NotAdmitted)


async def test_the_worker_is_woken_when_a_slot_is_free_for_what_waits_in_the_store(world) -> None:
    first, second = await world.admitted(2)
    world.gateway.note_stored(first.destination)
    await begun(*(world.gateway.admit(NAME, NAME) for _ in range(2)))
    world.gateway.finish(first, None)
    assert world.woken == 2, "a claim takes some to wait in memory"
    world.gateway.apply_claim(world.gateway.claim_request(), ClaimResult(emptied=frozenset({NAME})))
    world.gateway.finish(second, None)
    assert world.woken == 2


async def test_new_deliveries_do_not_overtake_those_in_the_store(world) -> None:
    (inside,) = await world.admitted()
    assert world.gateway.check(NAME) is None
    world.gateway.note_stored(inside.destination)
    assert isinstance(world.gateway.check(NAME), NotAdmitted)
    assert [isinstance(each, NotAdmitted) for each in await world.admitted(2)] == [True, True]
    assert isinstance(await world.gateway.admit(NAME, NAME), Admitted), "it was claimed from the store"
    world.gateway.apply_claim(world.gateway.claim_request(), ClaimResult(remaining=frozenset({NAME})))
    assert isinstance(world.gateway.check(NAME), NotAdmitted)
    world.gateway.apply_claim(world.gateway.claim_request(), ClaimResult(emptied=frozenset({NAME})))
    assert world.gateway.check(NAME) is None


@pytest.mark.parametrize(
    "destination",
    ["https://" + SECRET + ".example", "x" * 5000, "two\nlines\x00", "half \ud800", "", "\x1b[31mred"],
)
async def test_a_destination_has_a_unique_name_without_secrets(world, destination) -> None:
    name = (await world.gateway.admit(destination)).destination.name
    another = (await world.gateway.admit(destination + "!")).destination.name
    assert name != another
    assert SECRET not in name
    assert 0 < len(name) < 250
    assert name.isprintable()


async def test_the_queue_of_a_removed_route_is_blocked_until_the_route_is_back(world) -> None:
    name = world.gateway.removed_queue("corrections/a", "log")
    assert name == "removed route corrections/a, action log"
    assert (set(world.gateway.claim_request().blocked), world.reported.reports) == ({name}, [])
    world.hash = "two"
    world.gateway.reloaded()
    assert set(world.gateway.claim_request().blocked) == {name}, "it is not there yet"
    world.hash, world.routes = "three", {"corrections/a": Kept()}
    world.gateway.reloaded()
    request = world.gateway.claim_request()
    assert (set(request.blocked), set(request.unblocked), dict(request.capacity)) == (set(), {name}, {})
    world.gateway.apply_claim(request, ClaimResult())
    assert set(world.gateway.claim_request().unblocked) == set(), "it is in one request"
    assert world.gateway.removed_queue("corrections/a", "log") == name
    assert set(world.gateway.claim_request().blocked) == set(), "a reload may come between"


async def test_a_resumed_queue_of_a_removed_route_is_blocked_by_its_next_delivery(world) -> None:
    name = world.gateway.removed_queue("corrections/a", "log")
    assert world.gateway.resume(name)
    assert set(world.gateway.claim_request().blocked) == set()
    world.gateway.removed_queue("corrections/a", "log")
    assert set(world.gateway.claim_request().blocked) == {name}


async def test_a_claim_request_names_the_destinations_to_stop_skipping(world) -> None:
    first, second = await world.admitted(2)
    request = world.gateway.claim_request()
    assert (request.capacity, set(request.unblocked)) == ({NAME: 2}, set())
    world.gateway.apply_claim(request, ClaimResult(remaining=frozenset({NAME}), skipped=frozenset({NAME})))
    world.gateway.finish(first, GONE)
    world.gateway.abandon(second)
    assert set(world.gateway.claim_request().unblocked) == set()
    world.gateway.resume(NAME)
    request = world.gateway.claim_request()
    assert (request.capacity, set(request.unblocked)) == ({NAME: 1}, {NAME})
    assert set(world.gateway.claim_request().unblocked) == {NAME}, "the claim may have failed"
    world.gateway.apply_claim(request, ClaimResult(emptied=frozenset({NAME})))
    assert set(world.gateway.claim_request().unblocked) == set()


async def test_a_claim_does_not_overwrite_what_was_stored_meanwhile(world) -> None:
    (inside,) = await world.admitted()
    world.gateway.note_stored(inside.destination)
    request = world.gateway.claim_request()
    world.gateway.note_stored(inside.destination)
    world.gateway.apply_claim(request, ClaimResult(emptied=frozenset({NAME})))
    assert isinstance(world.gateway.check(NAME), NotAdmitted)
    world.gateway.apply_claim(world.gateway.claim_request(), ClaimResult(emptied=frozenset({NAME})))
    assert world.gateway.check(NAME) is None

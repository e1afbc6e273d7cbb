"""The books of ``make chaos`` see what is wrong: a promise that is broken does not pass for one that is kept."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.compare import Kept, Verdict, compare, number_of
from chaos.faults import KINDS, Moods
from chaos.script import Event, Script, Wanted
from chaos.senders import Sent
from chaos.world import World
from engine.rules.reload import Loader
from engine.store.queries import DeliveryRow

RULES = Path(__file__).parents[1] / "chaos" / "rules.yaml"
GOOD = Wanted("rule/good", "forward_webhook", 0, "hooks/good", "run-1")


def row(state: str, reason: str = "", **changes: object) -> DeliveryRow:
    values = {"route": GOOD.route, "action": GOOD.action, "index": 0, "run_id": "run-1", "attempts": 1, "replays": 0}
    times = {"created_at": 0.0, "updated_at": 0.0, "due_at": None}
    return DeliveryRow(id="d", event_id="e", state=state, reason=reason, **(values | times | changes))


@pytest.fixture
def world() -> World:
    world = World(random.Random(1))
    world.hooks.seen["hooks/good", "run-1"].times["d"] += 1
    return world


def kept(*rows: DeliveryRow, ids: tuple[str, ...] = ("e",), state: str = "routed") -> Kept:
    found = Kept()
    found.ids[0] = list(ids)
    found.states = dict.fromkeys(ids, state)
    found.deliveries["e"] = list(rows)
    return found


def verdict(found: Kept, world: World, *, wanted: Wanted = GOOD) -> Verdict:
    return compare({0: Event(0, b"", (wanted,))}, Sent(accepted={0: {"e"}}), found, world)


def test_a_kept_promise(world: World) -> None:
    found = verdict(kept(row("succeeded")), world)
    assert found.broken == []
    assert (found.lost, found.succeeded, found.once, found.effects, found.again) == (0, 1, 1, 1, 0)


def test_a_repetition_under_the_same_id_is_one_effect_and_counted(world: World) -> None:
    world.hooks.seen["hooks/good", "run-1"].times["d"] += 1
    found = verdict(kept(row("succeeded")), world)
    assert (found.broken, found.once, found.again) == ([], 1, 1)


def test_a_repetition_at_a_destination_without_ids_is_a_duplicate(world: World) -> None:
    world.hooks.seen.clear()
    world.mail.seen["mail", "run-1"].times[""] += 3
    found = verdict(kept(row("succeeded")), world, wanted=Wanted(GOOD.route, GOOD.action, 0, "mail", "run-1"))
    assert (found.broken, found.duplicates, found.elsewhere, found.effects) == ([], 2, 1, 0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Kept(), "LOST"),
        (kept(), "has no delivery"),
        (kept(row("succeeded"), ids=("e", "f")), "is 2 events"),
        (kept(row("succeeded"), state="pending"), "is pending"),
        (kept(row("due", "HTTP 503")), "is due: HTTP 503"),
        (kept(row("dead", "HTTP 503")), "dead: HTTP 503"),
        (kept(row("dead")), "dead without a reason"),
        (kept(row("succeeded"), row("succeeded", action="other")), "nobody asked for it"),
    ],
)
def test_a_broken_promise_is_reported_with_its_event_or_delivery(world: World, found: Kept, words: str) -> None:
    assert words in " ".join(verdict(found, world).broken)


def test_two_effects_none_and_an_unexpected_one(world: World) -> None:
    world.hooks.seen["hooks/good", "run-1"].times["other"] += 1
    world.hooks.seen["hooks/good", "run-2"].times["d"] += 1
    words = " ".join(verdict(kept(row("succeeded")), world).broken)
    assert "2 effects" in words
    assert "nobody asked for: run-2 at hooks/good" in words
    world.hooks.seen.clear()
    assert "0 effects" in " ".join(verdict(kept(row("succeeded")), world).broken)


def test_a_destination_that_never_takes_it_must_leave_a_dead_delivery(world: World) -> None:
    world.hooks.seen.clear()
    never = Wanted(GOOD.route, GOOD.action, 0, "", "run-1", dead=True)
    assert verdict(kept(row("dead", "HTTP 422: no")), world, wanted=never).broken == []
    assert "succeeded" in verdict(kept(row("succeeded")), world, wanted=never).broken[0]


def test_a_run_in_another_events_digest_has_no_delivery_but_must_be_reported(world: World) -> None:
    gathered = replace(GOOD, gate="digest")
    assert verdict(kept(), world, wanted=gathered).broken == []
    world.hooks.seen.clear()
    assert "0 effects" in verdict(kept(), world, wanted=gathered).broken[0]


def test_a_run_that_a_throttle_held_back_must_be_counted_by_one_that_was_made(world: World) -> None:
    throttled = replace(GOOD, gate="throttle")
    world.hooks.suppressed["d"] = 0
    assert verdict(kept(row("succeeded")), world, wanted=throttled).broken == []
    world.hooks.seen.clear()
    world.hooks.suppressed.clear()
    assert "of 1 throttled runs 0 were made and 0 counted" in verdict(kept(), world, wanted=throttled).broken[0]


def test_the_same_seed_makes_the_same_events_with_their_numbers_in_them() -> None:
    one, other = (Script(7, "http://storage") for _ in range(2))
    events = [one.event(number) for number in range(200)]
    assert events == [other.event(number) for number in range(200)]
    assert [number_of(event.body) for event in events] == list(range(200))
    assert {wanted.route.rpartition("/")[2] for event in events for wanted in event.wanted} > {"good", "lost", "audit"}


async def test_its_rules_load() -> None:
    async with World(random.Random(1)) as world:
        loaded = Loader(RULES, {"SECRET": "s" * 32, **world.environ}).load()
    assert len(loaded.router.routes) >= 10


def test_moods_strike_by_every_kind_and_end() -> None:
    world = World(random.Random(3), share=1.0)
    moods = world.hooks.faults
    assert isinstance(moods, Moods)
    assert all(moods.take("POST", "/") is not None for _ in range(300))
    assert set(world.tally) == set(KINDS)
    world.calm()
    assert moods.take("POST", "/") is None

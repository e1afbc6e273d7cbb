"""Who may enter a destination's lane, and how much of it is taken out of the store."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.action.failures import Failure
from engine.clients.limits import LimitsSpec
from engine.worker.destinations import Admitted, Lanes, Limits, LimitTable, Shut
from engine.worker.destinations.messages import overdue, waiting, waiting_after
from engine.worker.destinations.table import MOST_LANES
from engine.worker.destinations.token_bucket import Bucket

NOW = 1000.0
DOWN = Failure(retry=True, reason="HTTP 503", status=503, cause="answer")
LATE = Failure(retry=True, reason="timed out", cause="timeout")
BUSY = Failure(retry=True, reason="HTTP 429", status=429, cause="answer", after=10.0)
BAD_KEY = Failure(retry=True, reason="HTTP 401", status=401, cause="answer")
GONE = Failure(retry=True, reason="HTTP 410", status=410, cause="answer")
WRONG = Failure(retry=False, reason="HTTP 422", status=422, cause="answer")


def table(concurrency: int = 3, rate: float = 0.0, burst: int = 1) -> LimitTable:
    return LimitTable({"default": LimitsSpec(concurrency, rate, burst)})


class Street:
    """Lanes with a clock, and one destination."""

    def __init__(self, limits: LimitTable | None = None, seed: int = 1) -> None:
        self.now = NOW
        self.limits = limits or table()
        self.lanes = Lanes(random.Random(seed))

    def enter(self, name: str = "d") -> Admitted | Shut:
        return self.lanes.enter(self.lanes.lane(name, name, self.limits, self.now), self.now)

    def left(self, admitted: Admitted, failure: Failure | None = None) -> None:
        self.lanes.left(admitted, failure, self.now)

    def attempt(self, failure: Failure | None = None, name: str = "d") -> None:
        admitted = self.enter(name)
        assert isinstance(admitted, Admitted)
        self.left(admitted, failure)

    @property
    def room(self) -> int:
        return 0 if "d" in self.lanes.shut(self.now) else self.lanes.rooms(self.now)["d"]

    @property
    def state(self) -> str:
        return self.lanes.get("d").state(self.now)


@pytest.fixture
def street() -> Street:
    return Street()


def test_no_more_enter_than_may_be_under_way(street) -> None:
    first, *_ = [street.enter() for _ in range(3)]
    full = street.enter()
    assert isinstance(full, Shut)
    assert full.block is None
    assert waiting(full) == "waits its turn for d"
    street.left(first)
    assert isinstance(street.enter(), Admitted)
    assert isinstance(street.enter("another"), Admitted), "others have lanes of their own"


def test_a_429_pauses_the_destination_for_everybody_until_the_time_it_named(street) -> None:
    street.attempt(BUSY)
    shut = street.enter()
    assert (shut.block.kind, street.room, street.lanes.opens_at(NOW)) == ("paused", 0, None)
    why = "paused until 00:16:50 UTC because it said HTTP 429"
    assert waiting(shut) == f"waits for d: {why} (engine destinations shows it)"
    street.lanes.get("d").stored = True
    assert street.lanes.opens_at(NOW) == NOW + 10
    street.now += 10
    assert street.state == "healthy"
    assert isinstance(street.enter(), Admitted)


def test_a_lane_that_was_shut_is_used_gently_at_first(street) -> None:
    street.attempt(BUSY)
    street.now += 10
    first = street.enter()
    assert isinstance(street.enter(), Shut)
    street.left(first)
    two = [street.enter(), street.enter()]
    assert isinstance(street.enter(), Shut)
    for admitted in two:
        street.left(admitted)
    assert [isinstance(street.enter(), Admitted) for _ in range(4)] == [True, True, True, False]


def test_a_429_to_each_of_those_under_way_halves_the_lane_once() -> None:
    street = Street(table(concurrency=16))
    under_way = [street.enter() for _ in range(16)]
    for seconds, admitted in enumerate(under_way, 1):
        street.left(admitted, replace(BUSY, after=float(seconds)))
    street.now += 16
    assert [isinstance(street.enter(), Admitted) for _ in range(9)] == [True] * 8 + [False]


def test_an_open_circuit_lets_one_probe_in_at_a_time(street) -> None:
    for _ in range(5):
        street.attempt(LATE)
    assert (street.state, street.room) == ("failing", 0)
    assert "it keeps failing (timed out); next probe at" in waiting(street.enter())
    street.now = street.lanes.get("d").last_block.until
    assert (street.state, street.room) == ("probing", 1)
    probe = street.enter()
    assert isinstance(probe, Admitted)
    assert probe.probe
    assert isinstance(street.enter(), Shut)
    street.left(probe, DOWN)
    assert street.state == "failing"
    street.now = street.lanes.get("d").last_block.until
    street.attempt(WRONG)
    assert street.state == "healthy", "a destination that refuses this one lives"


def test_a_probe_that_is_given_up_lets_another_one_in(street) -> None:
    for _ in range(5):
        street.attempt(DOWN)
    street.now = street.lanes.get("d").last_block.until
    probe = street.enter()
    probe.lane.given_up(street.now)
    assert isinstance(street.enter(), Admitted)


def test_a_destination_that_is_gone_stays_so_until_people_say_otherwise(street) -> None:
    street.attempt(GONE)
    street.now += 1e6
    shut = street.enter()
    why = "it is gone (HTTP 410); stopped until the configuration changes"
    assert waiting(shut) == f"waits for d: {why} (engine destinations shows it)"
    assert waiting_after("HTTP  410", shut) == waiting(shut), "it is not said twice"
    assert waiting_after("timed out", shut) == f"timed out; {waiting(shut)}"
    assert overdue(shut, 86400) == ("waited 1d for d: it is gone (HTTP 410); stopped until the configuration changes")
    street.lanes.get("d").reset()
    first = street.enter()
    assert isinstance(first, Admitted)
    assert isinstance(street.enter(), Shut), "people may be wrong: one finds out, and costs one attempt"
    street.left(first)
    assert [isinstance(street.enter(), Admitted) for _ in range(3)] == [True, True, False]


def test_a_refused_key_is_tried_again_from_time_to_time(street) -> None:
    street.attempt(BAD_KEY)
    assert "it refuses the key (HTTP 401): fix it in the configuration; next probe at" in waiting(street.enter())
    street.now += 300
    assert street.room == 1


def test_a_rate_lets_a_burst_in_and_then_one_after_the_other() -> None:
    street = Street(table(concurrency=100, rate=2.0, burst=3))
    assert [isinstance(street.enter(), Admitted) for _ in range(4)] == [True, True, True, False]
    street.lanes.get("d").stored = street.lanes.get("d").waiting = 10
    assert street.lanes.opens_at(NOW) == pytest.approx(NOW + 0.5)
    street.now = street.lanes.opens_at(NOW)
    assert isinstance(street.enter(), Admitted)
    assert isinstance(street.enter(), Shut)


def test_some_are_taken_ahead_to_wait_in_memory(street) -> None:
    street.enter()
    lane = street.lanes.get("d")
    assert street.room == 2 + 3
    lane.waiting = 4
    assert street.room == 1
    lane.stored, lane.waiting = True, 1
    assert lane.wants(NOW)
    lane.waiting = 3
    assert not lane.wants(NOW), "that would be many claims of little"


def test_nobody_waits_in_memory_for_one_that_hangs_nor_for_a_turn_that_is_far_off() -> None:
    street = Street()
    inside = [street.enter() for _ in range(3)]
    lane = street.lanes.get("d")
    street.now += 0.9
    assert lane.may_wait(street.now)
    street.now += 0.2
    assert (lane.may_wait(street.now), street.room) == (False, 0)
    street.left(inside[0])
    assert (lane.may_wait(street.now), street.room) == (True, 1 + 3)
    slow = Street(table(concurrency=100, rate=1.0))
    slow.enter()
    one = slow.lanes.get("d")
    for _ in range(5):
        assert one.may_wait(NOW + 0.5)
        one.wait({})
    assert not one.may_wait(NOW + 0.5)
    slower = Street(table(concurrency=100, rate=1 / 60))
    slower.enter()
    assert not slower.lanes.get("d").may_wait(NOW + 0.5)


def test_of_a_shut_lane_nothing_is_taken_ahead(street) -> None:
    street.attempt(GONE)
    assert street.room == 0
    street.lanes.get("d").stored = True
    assert not street.lanes.get("d").wants(NOW)


def test_a_lane_whose_due_work_was_all_taken_wakes_nobody(street) -> None:
    street.attempt()
    lane = street.lanes.get("d")
    street.lanes.taken(street.lanes.ask(NOW), {"d", "unknown"}, {"unknown"}, {"nor this"})
    assert lane.stored
    street.lanes.taken(street.lanes.ask(NOW), set(), set(), set())
    assert lane.stored, "the claim did not meet it"
    street.lanes.taken(street.lanes.ask(NOW), set(), set(), {"d"})
    assert not lane.stored


def test_new_limits_count_at_once(street) -> None:
    taken = [street.enter() for _ in range(3)]
    street.limits = table(concurrency=1)
    street.left(taken.pop())
    assert isinstance(street.enter(), Shut)
    for admitted in taken:
        street.left(admitted)
    assert isinstance(street.enter(), Admitted)


def test_no_lane_has_more_than_its_share_whatever_its_limits_say(street) -> None:
    street.lanes = Lanes(random.Random(1), total=8)
    assert [isinstance(street.enter(), Admitted) for _ in range(3)] == [True, True, False]


def test_destinations_out_of_templates_do_not_pile_up() -> None:
    street = Street()
    for number in range(50_000):
        street.attempt(name=f"https://{number}.example")
    assert len(street.lanes) <= 512


def test_nor_do_those_that_are_gone() -> None:
    forgotten: list[str] = []
    street = Street()
    street.lanes = Lanes(random.Random(1), forgotten=forgotten.append)
    under_way = street.enter("busy")
    for number in range(MOST_LANES + 500):
        street.now += 1
        street.attempt(GONE, name=f"https://{number}.example")
    assert len(street.lanes) <= MOST_LANES
    assert forgotten[0] == "https://0.example"
    street.left(under_way)


def test_a_claim_with_thousands_of_lanes_looks_at_few() -> None:
    street = Street()
    for number in range(MOST_LANES - 10):
        street.attempt(GONE if number % 2 else BUSY, name=f"https://{number}.example")
    street.attempt(DOWN, name="failed once")
    street.enter("busy")
    asked = 0

    class Counted(dict):
        def values(self):
            nonlocal asked
            asked += 1
            return super().values()

    street.lanes._lanes = Counted(street.lanes._lanes)
    assert set(street.lanes.rooms(NOW)) == {"busy"}
    assert len(street.lanes.shut(NOW)) == MOST_LANES - 10
    assert len(street.lanes.shut(NOW + 10)) == MOST_LANES // 2 - 5, "the pauses are over"
    assert len(street.lanes.rooms(NOW + 10)) == 1 + MOST_LANES // 2 - 5, "these are used gently at first"
    assert asked == 0


def test_room_is_made_for_many_at_a_time(street) -> None:
    forgotten: list[str] = []
    street.lanes = Lanes(random.Random(1), forgotten=forgotten.append)
    for number in range(MOST_LANES + 400):
        street.attempt(GONE, name=f"https://{number}.example")
    assert len(forgotten) == 500


def test_a_lane_is_shut_until_its_time_is_over_however_often_that_changes(street) -> None:
    first, second, third = [street.enter() for _ in range(3)]
    street.left(first, BUSY)
    street.now += 5
    street.left(second, BUSY)
    street.now += 5
    assert street.lanes.shut(street.now) == {"d"}
    street.now += 5
    assert street.lanes.shut(street.now) == set()
    street.left(third, GONE)
    assert street.lanes.shut(street.now + 1e6) == {"d"}
    street.lanes.reset(street.lanes.get("d"), street.now)
    assert street.lanes.shut(street.now) == set()


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_most_exact_pattern_counts_and_the_others_fill_in() -> None:
    limits = LimitTable(
        {
            "default": LimitsSpec(concurrency=8),
            "slack *": LimitsSpec(burst=10),
            "slack #ops": LimitsSpec(rate=0.0),
            "https://*": LimitsSpec(concurrency=5, rate=3.0),
            "https://api.*": LimitsSpec(concurrency=2),
        }
    )
    assert limits.of("slack #other") == Limits(4, 1.0, 10)
    assert limits.of("slack #ops") == Limits(4, 0.0, 10)
    assert limits.of("https://api.example.com") == Limits(2, 3.0, 1)
    assert limits.of("https://www.example.com") == Limits(5, 3.0, 1)
    assert limits.of("Odd") == Limits(8, 0.0, 1)
    assert limits.of("langsmith") == Limits(16, 80.0, 100)


# --- places, shared by all lanes --------------------------------------------------------------------------------------


def crowded(total: int, concurrency: int = 1000) -> Street:
    street = Street(table(concurrency))
    street.lanes = Lanes(random.Random(1), total)
    return street


def test_lanes_that_hang_together_share_equally_and_leave_as_much_again() -> None:
    street = crowded(512)
    hung = [f"hung {number}" for number in range(30)]
    for name in hung * 512:
        street.enter(name)
    shares = {street.lanes.get(name).under_way for name in hung}
    assert max(shares) - min(shares) <= 1
    assert max(shares) == pytest.approx(384 / 31, abs=1)
    healthy = sum(isinstance(street.enter("healthy"), Admitted) for _ in range(512))
    assert healthy == pytest.approx(384 / 31 / 2, abs=2), "half of what is free: the rest stays for the next one"


def test_lanes_that_hang_one_after_another_never_take_the_last_places() -> None:
    street = crowded(512)
    for number in range(127):
        while isinstance(street.enter(f"hung {number}"), Admitted):
            pass
    assert street.lanes.get("hung 0").under_way == 128, "a quarter at most"
    assert isinstance(street.enter("healthy"), Admitted)


def test_who_found_no_place_is_told_of_the_next_one() -> None:
    street = crowded(8)
    inside = [street.enter(name) for name in "abcdefgh"]
    assert isinstance(street.enter("late"), Shut)
    assert street.lanes.places.short
    late = street.lanes.get("late")
    assert (late.may_wait(street.now), late.room(street.now)) == (False, 0), "there is no use in waiting in memory"
    street.left(inside[0])
    assert isinstance(street.enter("late"), Admitted)


@settings(deadline=None)
@given(st.integers(8, 600), st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=400))
def test_a_lane_with_nothing_under_way_can_always_begin_while_few_hold_all_they_get(total, steps) -> None:
    street, inside = crowded(total), []
    few = total // 4 - 1
    for which, ends in steps:
        if ends and inside:
            street.left(inside.pop(which % len(inside)))
        elif isinstance(admitted := street.enter(f"hung {which % few}"), Admitted):
            inside.append(admitted)
    for number in range(few):
        while isinstance(street.enter(f"hung {number}"), Admitted):
            pass
    places = street.lanes.places
    assert places.taken == sum(lane.under_way for lane in street.lanes) <= total
    assert all(lane.under_way <= places.most for lane in street.lanes)
    lane = street.lanes.lane("healthy", "healthy", street.limits, street.now)
    room, entered = lane.free(street.now), 0
    while isinstance(street.enter("healthy"), Admitted):
        entered += 1
    assert entered == room >= 1, "and it is told beforehand how much"


# --- properties ------------------------------------------------------------------------------------------------------


@given(
    st.floats(0.01, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 20), max_size=100),
)
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(rate, burst, gaps) -> None:
    bucket, now, taken = Bucket(rate, burst, NOW), NOW, 0
    for gap in gaps:
        now += gap
        while bucket.ready(now):
            bucket.take(now)
            taken += 1
        assert taken <= burst + rate * (now - NOW) + 1e-6
        at = bucket.next_at(now)
        assert now < at <= now + 1 / rate + 1e-6
        now = at
        assert bucket.ready(now) == 1


class Traffic(RuleBasedStateMachine):
    """Anything at any time: the limits hold, a shut lane lets nothing in, a probe is alone."""

    def __init__(self) -> None:
        super().__init__()
        self.street = Street(table(concurrency=4, rate=3.0, burst=6))
        self.under_way: list[Admitted] = []
        self.begun: list[float] = []

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds) -> None:
        self.street.now += seconds

    @rule()
    def an_attempt_begins(self) -> None:
        lane = self.street.lanes.get("d")
        shut = lane is not None and lane.block(self.street.now) is not None
        probing = lane is not None and lane.state(self.street.now) == "probing"
        busy = len(self.under_way)
        answer = self.street.enter()
        if isinstance(answer, Admitted):
            assert not shut
            assert not (probing and busy), "a probe is alone"
            assert answer.probe == probing
            self.under_way.append(answer)
            self.begun.append(self.street.now)

    @precondition(lambda self: self.under_way)
    @rule(failure=st.sampled_from([None, DOWN, LATE, BUSY, BAD_KEY, GONE, WRONG]), which=st.integers(0, 3))
    def one_ends(self, failure, which) -> None:
        self.street.left(self.under_way.pop(which % len(self.under_way)), failure)

    @precondition(lambda self: self.under_way)
    @rule()
    def one_is_given_up(self) -> None:
        admitted = self.under_way.pop()
        admitted.lane.given_up(self.street.now)

    @rule()
    def people_open_it(self) -> None:
        if (lane := self.street.lanes.get("d")) is not None:
            lane.reset()

    @invariant()
    def limits_hold(self) -> None:
        lane = self.street.lanes.get("d")
        if lane is None:
            return
        assert lane.under_way == len(self.under_way) <= 4
        assert lane.free(self.street.now) <= 4 - lane.under_way
        for start in self.begun[-30:]:
            since = [at for at in self.begun if start <= at]
            assert len(since) <= 6 + 3.0 * (self.street.now - start) + 1e-6

    @invariant()
    def whatever_is_shut_opens_by_itself_or_is_gone(self) -> None:
        lane = self.street.lanes.get("d")
        if lane is not None and (block := lane.block(self.street.now)) is not None:
            assert (lane.opens_at(self.street.now) is None) == (block.kind == "gone")


Traffic.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestTraffic = Traffic.TestCase

"""Which attempts destinations admit, and how much is claimed for each."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.action.failures import Failure
from engine.clients.limits import Limits, LimitsSpec, LimitTable
from engine.worker.destinations.destination import Admitted, NotAdmitted, TokenBucket
from engine.worker.destinations.messages import overdue_message, retry_message, waiting_message
from engine.worker.destinations.table import MAX_DESTINATIONS, DestinationTable

NOW = 1000.0
DOWN = Failure(retry=True, reason="HTTP 503", status=503, cause="answer")
LATE = Failure(retry=True, reason="timed out", cause="timeout")
BUSY = Failure(retry=True, reason="HTTP 429", status=429, cause="answer", after=10.0)
BAD_KEY = Failure(retry=True, reason="HTTP 401", status=401, cause="answer")
GONE = Failure(retry=True, reason="HTTP 410", status=410, cause="answer")
WRONG = Failure(retry=False, reason="HTTP 422", status=422, cause="answer")


def table(concurrency: int = 3, rate: float = 0.0, burst: int = 1) -> LimitTable:
    return LimitTable({"default": LimitsSpec(concurrency, rate, burst)})


class Harness:
    """A table with a clock, and one destination."""

    def __init__(self, limits: LimitTable | None = None, seed: int = 1) -> None:
        self.now = NOW
        self.limits = limits or table()
        self.table = DestinationTable(random.Random(seed))

    def admit(self, name: str = "d") -> Admitted | NotAdmitted:
        return self.table.get_or_add(name, name, self.limits, self.now).admit(self.now)

    def finish(self, admitted: Admitted, failure: Failure | None = None) -> None:
        admitted.destination.finish(admitted, failure, self.now)

    def attempt(self, failure: Failure | None = None, name: str = "d") -> None:
        admitted = self.admit(name)
        assert isinstance(admitted, Admitted)
        self.finish(admitted, failure)

    @property
    def capacity(self) -> int:
        return 0 if "d" in self.table.blocked(self.now) else self.table.capacity(self.now)["d"]

    @property
    def state(self) -> str:
        return self.table.get("d").state(self.now)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_no_more_are_admitted_than_the_concurrency(harness) -> None:
    first, *_ = [harness.admit() for _ in range(3)]
    full = harness.admit()
    assert isinstance(full, NotAdmitted)
    assert full.block is None
    assert waiting_message(full) == "waits its turn for d"
    harness.finish(first)
    assert isinstance(harness.admit(), Admitted)
    assert isinstance(harness.admit("another"), Admitted), "other destinations are independent"


def test_a_429_pauses_the_destination_until_the_time_in_its_answer(harness) -> None:
    harness.attempt(BUSY)
    denied = harness.admit()
    assert (denied.block.kind, harness.capacity, harness.table.ready_at(NOW)) == ("paused", 0, None)
    why = "paused until 00:16:50 UTC because it said HTTP 429"
    assert waiting_message(denied) == f"waits for d: {why} (engine destinations shows it)"
    harness.table.get("d").has_stored = True
    assert harness.table.ready_at(NOW) == NOW + 10
    harness.now += 10
    assert harness.state == "healthy"
    assert isinstance(harness.admit(), Admitted)


def test_after_a_block_the_concurrency_grows_from_one(harness) -> None:
    harness.attempt(BUSY)
    harness.now += 10
    first = harness.admit()
    assert isinstance(harness.admit(), NotAdmitted)
    harness.finish(first)
    two = [harness.admit(), harness.admit()]
    assert isinstance(harness.admit(), NotAdmitted)
    for admitted in two:
        harness.finish(admitted)
    assert [isinstance(harness.admit(), Admitted) for _ in range(4)] == [True, True, True, False]


def test_a_429_to_each_attempt_in_flight_halves_the_concurrency_once() -> None:
    harness = Harness(table(concurrency=16))
    under_way = [harness.admit() for _ in range(16)]
    for seconds, admitted in enumerate(under_way, 1):
        harness.finish(admitted, replace(BUSY, after=float(seconds)))
    harness.now += 16
    assert [isinstance(harness.admit(), Admitted) for _ in range(9)] == [True] * 8 + [False]


def test_an_open_circuit_admits_one_probe_at_a_time(harness) -> None:
    for _ in range(5):
        harness.attempt(LATE)
    assert (harness.state, harness.capacity) == ("failing", 0)
    assert "it keeps failing (timed out); next probe at" in waiting_message(harness.admit())
    harness.now = harness.table.get("d").last_block.until
    assert (harness.state, harness.capacity) == ("probing", 1)
    probe = harness.admit()
    assert isinstance(probe, Admitted)
    assert probe.probe
    assert isinstance(harness.admit(), NotAdmitted)
    harness.finish(probe, DOWN)
    assert harness.state == "failing"
    harness.now = harness.table.get("d").last_block.until
    harness.attempt(WRONG)
    assert harness.state == "healthy", "a destination that refuses this one is up"


def test_after_an_abandoned_probe_another_one_is_admitted(harness) -> None:
    for _ in range(5):
        harness.attempt(DOWN)
    harness.now = harness.table.get("d").last_block.until
    probe = harness.admit()
    probe.destination.abandon(harness.now)
    assert isinstance(harness.admit(), Admitted)


def test_a_destination_that_is_gone_stays_blocked_until_it_is_reset(harness) -> None:
    harness.attempt(GONE)
    harness.now += 1e6
    denied = harness.admit()
    why = "it is gone (HTTP 410); stopped until the configuration changes"
    assert waiting_message(denied) == f"waits for d: {why} (engine destinations shows it)"
    assert retry_message("HTTP  410", denied) == waiting_message(denied), "the reason is not repeated"
    assert retry_message("timed out", denied) == f"timed out; {waiting_message(denied)}"
    assert overdue_message("d", denied.block, 86400) == (
        "waited 1d for d: it is gone (HTTP 410); stopped until the configuration changes"
    )
    harness.table.get("d").reset()
    first = harness.admit()
    assert isinstance(first, Admitted)
    assert isinstance(harness.admit(), NotAdmitted), "one probe finds out, and costs one attempt"
    harness.finish(first)
    assert [isinstance(harness.admit(), Admitted) for _ in range(3)] == [True, True, False]


def test_a_refused_key_is_probed_at_intervals(harness) -> None:
    harness.attempt(BAD_KEY)
    assert "it refuses the key (HTTP 401): fix it in the configuration; next probe at" in waiting_message(
        harness.admit()
    )
    harness.now += 300
    assert harness.capacity == 1


def test_a_rate_admits_a_burst_and_then_one_at_a_time() -> None:
    harness = Harness(table(concurrency=100, rate=2.0, burst=3))
    assert [isinstance(harness.admit(), Admitted) for _ in range(4)] == [True, True, True, False]
    harness.table.get("d").has_stored = harness.table.get("d").waiting = 10
    assert harness.table.ready_at(NOW) == pytest.approx(NOW + 0.5)
    harness.now = harness.table.ready_at(NOW)
    assert isinstance(harness.admit(), Admitted)
    assert isinstance(harness.admit(), NotAdmitted)


def test_some_are_claimed_ahead_to_wait_in_memory(harness) -> None:
    harness.admit()
    destination = harness.table.get("d")
    assert harness.capacity == 2 + 3
    destination.waiting = 4
    assert harness.capacity == 1
    destination.has_stored, destination.waiting = True, 1
    assert destination.needs_claim(NOW)
    destination.waiting = 3
    assert not destination.needs_claim(NOW), "that would be many small claims"


def test_nothing_waits_in_memory_for_a_stuck_or_slow_destination() -> None:
    harness = Harness()
    inside = [harness.admit() for _ in range(3)]
    destination = harness.table.get("d")
    harness.now += 0.9
    assert destination.may_wait(harness.now)
    harness.now += 0.2
    assert (destination.may_wait(harness.now), harness.capacity) == (False, 0)
    harness.finish(inside[0])
    assert (destination.may_wait(harness.now), harness.capacity) == (True, 1 + 3)
    slow = Harness(table(concurrency=100, rate=1.0))
    slow.admit()
    one = slow.table.get("d")
    for _ in range(5):
        assert one.may_wait(NOW + 0.5)
        one.start_waiting({})
    assert not one.may_wait(NOW + 0.5)
    slower = Harness(table(concurrency=100, rate=1 / 60))
    slower.admit()
    assert not slower.table.get("d").may_wait(NOW + 0.5)


def test_nothing_is_claimed_ahead_for_a_blocked_destination(harness) -> None:
    harness.attempt(GONE)
    assert harness.capacity == 0
    harness.table.get("d").has_stored = True
    assert not harness.table.get("d").needs_claim(NOW)


def test_a_claim_that_took_all_due_work_ends_has_stored(harness) -> None:
    harness.attempt()
    destination = harness.table.get("d")
    harness.table.apply_claim(harness.table.claim_request(NOW), {"d", "unknown"}, {"unknown"}, {"nor this"})
    assert destination.has_stored
    harness.table.apply_claim(harness.table.claim_request(NOW), set(), set(), set())
    assert destination.has_stored, "the claim did not see it"
    harness.table.apply_claim(harness.table.claim_request(NOW), set(), set(), {"d"})
    assert not destination.has_stored


def test_new_limits_apply_at_once(harness) -> None:
    taken = [harness.admit() for _ in range(3)]
    harness.limits = table(concurrency=1)
    harness.finish(taken.pop())
    assert isinstance(harness.admit(), NotAdmitted)
    for admitted in taken:
        harness.finish(admitted)
    assert isinstance(harness.admit(), Admitted)


def test_no_destination_has_more_than_its_share_whatever_its_limits_are(harness) -> None:
    harness.table = DestinationTable(random.Random(1), total=8)
    assert [isinstance(harness.admit(), Admitted) for _ in range(3)] == [True, True, False]


def test_idle_destinations_are_evicted() -> None:
    harness = Harness()
    for number in range(50_000):
        harness.attempt(name=f"https://{number}.example")
    assert len(harness.table) <= 512


def test_so_are_destinations_that_are_gone() -> None:
    forgotten: list[str] = []
    harness = Harness()
    harness.table = DestinationTable(random.Random(1), on_forget=lambda one: forgotten.append(one.name))
    under_way = harness.admit("busy")
    for number in range(MAX_DESTINATIONS + 500):
        harness.now += 1
        harness.attempt(GONE, name=f"https://{number}.example")
    assert len(harness.table) <= MAX_DESTINATIONS
    assert forgotten[0] == "https://0.example"
    harness.finish(under_way)


def test_a_claim_with_thousands_of_destinations_looks_at_few() -> None:
    harness = Harness()
    for number in range(MAX_DESTINATIONS - 10):
        harness.attempt(GONE if number % 2 else BUSY, name=f"https://{number}.example")
    harness.attempt(DOWN, name="failed once")
    harness.admit("busy")
    asked = 0

    class Counted(dict):
        def values(self):
            nonlocal asked
            asked += 1
            return super().values()

    harness.table._destinations = Counted(harness.table._destinations)
    assert set(harness.table.capacity(NOW)) == {"busy"}
    assert len(harness.table.blocked(NOW)) == MAX_DESTINATIONS - 10
    assert len(harness.table.blocked(NOW + 10)) == MAX_DESTINATIONS // 2 - 5, "the pauses are over"
    assert len(harness.table.capacity(NOW + 10)) == 1 + MAX_DESTINATIONS // 2 - 5, "these start with one attempt"
    assert asked == 0


def test_many_are_evicted_at_a_time(harness) -> None:
    forgotten: list[str] = []
    harness.table = DestinationTable(random.Random(1), on_forget=lambda one: forgotten.append(one.name))
    for number in range(MAX_DESTINATIONS + 400):
        harness.attempt(GONE, name=f"https://{number}.example")
    assert len(forgotten) == 500


def test_a_destination_is_blocked_until_its_block_ends_however_often_that_changes(harness) -> None:
    first, second, third = [harness.admit() for _ in range(3)]
    harness.finish(first, BUSY)
    harness.now += 5
    harness.finish(second, BUSY)
    harness.now += 5
    assert harness.table.blocked(harness.now) == {"d"}
    harness.now += 5
    assert harness.table.blocked(harness.now) == set()
    harness.finish(third, GONE)
    assert harness.table.blocked(harness.now + 1e6) == {"d"}
    harness.table.get("d").reset()
    assert harness.table.blocked(harness.now) == set()


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_most_exact_pattern_wins_and_the_others_fill_in() -> None:
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


# --- slots, shared by all destinations ------------------------------------------------------------------------------


def crowded(total: int, concurrency: int = 1000) -> Harness:
    harness = Harness(table(concurrency))
    harness.table = DestinationTable(random.Random(1), total)
    return harness


def test_destinations_that_hang_together_share_equally_and_leave_as_much_again() -> None:
    harness = crowded(512)
    hung = [f"hung {number}" for number in range(30)]
    for name in hung * 512:
        harness.admit(name)
    shares = {harness.table.get(name).in_flight for name in hung}
    assert max(shares) - min(shares) <= 1
    assert max(shares) == pytest.approx(384 / 31, abs=1)
    healthy = sum(isinstance(harness.admit("healthy"), Admitted) for _ in range(512))
    assert healthy == pytest.approx(384 / 31 / 2, abs=2), (
        "half of the free slots: the rest stays for the next destination"
    )


def test_destinations_that_hang_one_after_another_never_take_the_last_slots() -> None:
    harness = crowded(512)
    for number in range(127):
        while isinstance(harness.admit(f"hung {number}"), Admitted):
            pass
    assert harness.table.get("hung 0").in_flight == 128, "a quarter at most"
    assert isinstance(harness.admit("healthy"), Admitted)


def test_a_destination_that_found_no_slot_is_noted_and_gets_the_next_one() -> None:
    harness = crowded(8)
    inside = [harness.admit(name) for name in "abcdefgh"]
    assert isinstance(harness.admit("late"), NotAdmitted)
    assert harness.table.shared.fair_share.has_waiters
    late = harness.table.get("late")
    assert (late.may_wait(harness.now), late.capacity(harness.now)) == (False, 0), "waiting in memory would not help"
    harness.finish(inside[0])
    assert isinstance(harness.admit("late"), Admitted)


@settings(deadline=None)
@given(st.integers(8, 600), st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=400))
def test_a_destination_with_nothing_in_flight_can_always_start_while_few_use_all_they_get(total, steps) -> None:
    harness, inside = crowded(total), []
    few = total // 4 - 1
    for which, ends in steps:
        if ends and inside:
            harness.finish(inside.pop(which % len(inside)))
        elif isinstance(admitted := harness.admit(f"hung {which % few}"), Admitted):
            inside.append(admitted)
    for number in range(few):
        while isinstance(harness.admit(f"hung {number}"), Admitted):
            pass
    fair_share = harness.table.shared.fair_share
    assert fair_share.taken == sum(destination.in_flight for destination in harness.table) <= total
    assert all(destination.in_flight <= fair_share.max_each for destination in harness.table)
    destination = harness.table.get_or_add("healthy", "healthy", harness.limits, harness.now)
    room, entered = destination.free_slots(harness.now), 0
    while isinstance(harness.admit("healthy"), Admitted):
        entered += 1
    assert entered == room >= 1, "and free_slots said how many"


# --- properties ------------------------------------------------------------------------------------------------------


@given(
    st.floats(0.01, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 20), max_size=100),
)
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(rate, burst, gaps) -> None:
    bucket, now, taken = TokenBucket(rate, burst, NOW), NOW, 0
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
    """Any sequence of operations: limits hold, a blocked destination admits nothing, one probe runs at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.harness = Harness(table(concurrency=4, rate=3.0, burst=6))
        self.in_flight: list[Admitted] = []
        self.begun: list[float] = []

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds) -> None:
        self.harness.now += seconds

    @rule()
    def an_attempt_begins(self) -> None:
        destination = self.harness.table.get("d")
        blocked = destination is not None and destination.block(self.harness.now) is not None
        probing = destination is not None and destination.state(self.harness.now) == "probing"
        busy = len(self.in_flight)
        answer = self.harness.admit()
        if isinstance(answer, Admitted):
            assert not blocked
            assert not (probing and busy), "a probe is alone"
            assert answer.probe == probing
            self.in_flight.append(answer)
            self.begun.append(self.harness.now)

    @precondition(lambda self: self.in_flight)
    @rule(failure=st.sampled_from([None, DOWN, LATE, BUSY, BAD_KEY, GONE, WRONG]), which=st.integers(0, 3))
    def one_ends(self, failure, which) -> None:
        self.harness.finish(self.in_flight.pop(which % len(self.in_flight)), failure)

    @precondition(lambda self: self.in_flight)
    @rule()
    def one_is_abandoned(self) -> None:
        admitted = self.in_flight.pop()
        admitted.destination.abandon(self.harness.now)

    @rule()
    def it_is_reset(self) -> None:
        if (destination := self.harness.table.get("d")) is not None:
            destination.reset()

    @invariant()
    def limits_hold(self) -> None:
        destination = self.harness.table.get("d")
        if destination is None:
            return
        assert destination.in_flight == len(self.in_flight) <= 4
        assert destination.free_slots(self.harness.now) <= 4 - destination.in_flight
        for start in self.begun[-30:]:
            since = [at for at in self.begun if start <= at]
            assert len(since) <= 6 + 3.0 * (self.harness.now - start) + 1e-6

    @invariant()
    def every_block_ends_by_itself_unless_it_is_gone(self) -> None:
        destination = self.harness.table.get("d")
        if destination is not None and (block := destination.block(self.harness.now)) is not None:
            assert (destination.ready_at(self.harness.now) is None) == (block.kind == "gone")


Traffic.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestTraffic = Traffic.TestCase

"""A destination that refuses some attempts and names a time: how much goes there meanwhile, and what falls behind."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

import pytest

from engine.action.failures import Failure
from engine.clients.limits import LimitsSpec
from engine.worker.destinations import Admitted, Lane, Lanes, Limits, LimitTable
from engine.worker.destinations.circuit import Shutter

NOW = 1000.0
BUSY = Failure(retry=True, reason="HTTP 503", status=503, cause="answer", after=1.0)
LIMITED = Failure(retry=True, reason="HTTP 429", status=429, cause="answer", after=1.0)


@dataclass
class Simulation:
    """Deliveries come at an even pace, wait for their turn, and each attempt takes a time and fails by chance."""

    refused: float
    latency: float
    rate: float = 120.0
    limits: LimitsSpec = field(default_factory=lambda: LimitsSpec(concurrency=32))
    failure: Failure = BUSY
    seed: int = 1

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.lanes = Lanes(random.Random(self.seed))
        self.table = LimitTable({"default": self.limits})
        self.begun: list[float] = []
        self.backlog: list[int] = []
        self.succeeded = 0
        #: When each refused delivery was refused, and when it was attempted again.
        self.retried: list[tuple[float, float]] = []

    @property
    def lane(self) -> Lane:
        return self.lanes.lane("d", "d", self.table, self.now)

    def run(self, seconds: float) -> Simulation:
        number = count()
        events: list[tuple[float, int, str, object]] = []
        self.queue: deque[float | None] = deque()
        arrivals = int(seconds * self.rate)
        for place in range(arrivals):
            heappush(events, (NOW + place / self.rate, next(number), "comes", None))
        while events and events[0][0] <= NOW + seconds:
            self.now, _, kind, what = heappop(events)
            if kind == "ends":
                self._end(what, events, number)
            elif kind == "comes":
                self.queue.append(what)
            while self.queue and isinstance(admitted := self.lanes.enter(self.lane, self.now), Admitted):
                if (since := self.queue.popleft()) is not None:
                    self.retried.append((since, self.now))
                self.begun.append(self.now)
                took = self.latency * self.rng.uniform(0.5, 1.5)
                heappush(events, (self.now + took, next(number), "ends", admitted))
            if self.queue and (at := self.lane.opens_at(self.now)) is not None:
                heappush(events, (at, next(number), "looks", None))
            self.backlog.append(len(self.queue))
        return self

    def _end(self, admitted: Admitted, events: list, number: count) -> None:
        failed = self.rng.random() < self.refused
        self.lanes.left(admitted, self.failure if failed else None, self.now)
        if failed:
            heappush(events, (self.now + self.failure.after, next(number), "comes", self.now))
        else:
            self.succeeded += 1


@pytest.mark.parametrize("latency", [0.005, 0.05, 0.2])
@pytest.mark.parametrize("after", [1.0, 30.0])
def test_two_of_a_hundred_that_are_refused_keep_nothing_behind(latency: float, after: float) -> None:
    made = Simulation(0.02, latency, failure=replace(BUSY, after=after)).run(180.0)
    assert max(made.backlog) < 480, "four seconds"
    assert made.backlog[-1] < 150
    assert all(again - refused > after - 1e-6 for refused, again in made.retried), (
        "who was refused comes when it was told to"
    )
    assert made.succeeded > 0.97 * 120 * (180 - after)


@pytest.mark.parametrize("failure", [BUSY, LIMITED])
def test_one_that_refuses_everything_is_left_alone_for_as_long_as_it_says(failure: Failure) -> None:
    made = Simulation(1.0, 0.05, failure=failure).run(60.0)
    assert made.succeeded == 0
    assert len(made.begun) < 32 + 16 + 8 + 4 + 2 + 60
    gaps = [later - earlier for earlier, later in zip(made.begun, made.begun[1:], strict=False)]
    assert sum(gap > 0.9 for gap in gaps) > 50
    assert len([at for at in made.begun if at > NOW + 10]) <= 51, "one at a time in the end"


def test_the_more_it_refuses_the_less_it_gets() -> None:
    attempts = [len(Simulation(refused, 0.05).run(60.0).begun) for refused in (0.02, 0.2, 0.5, 0.8, 1.0)]
    assert attempts == sorted(attempts, reverse=True)
    assert attempts[2] < attempts[0] / 2


def test_a_single_refusal_pauses_for_a_moment_and_many_in_a_row_for_as_long_as_was_said() -> None:
    made, now, pauses = Shutter(random.Random(1)), NOW, []
    made.learn("busy", "HTTP 503", now, after=30.0, number=1)
    assert made.block.until == NOW + 30, "nothing is known of it but that"
    made.learn("healthy", "", NOW + 30, number=2)
    for number in range(3, 10):
        made.learn("nothing", "ValueError", now, number=number)
        made.learn("busy", "HTTP 503", now, after=30.0, number=number)
        pauses.append(made.block.until - now)
        now = made.block.until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_429_is_about_our_rate_and_is_kept_to_the_end() -> None:
    made = Simulation(0.02, 0.05, failure=replace(LIMITED, after=5.0)).run(60.0)
    pauses = [
        later - earlier for earlier, later in zip(made.begun, made.begun[1:], strict=False) if later - earlier > 1
    ]
    assert len(pauses) > 5
    assert min(pauses) > 4.9


def test_slacks_limits_hold_also_after_a_429() -> None:
    slack = LimitsSpec(concurrency=4, rate=1.0, burst=3)
    made = Simulation(0.1, 0.2, rate=2.0, limits=slack, failure=replace(LIMITED, after=10.0)).run(300.0)
    for start, first in enumerate(made.begun):
        within = [at for at in made.begun[start:] if at - first < 10.0]
        assert len(within) <= 3 + 10
    assert made.retried


def street(concurrency: int = 32) -> tuple[Lanes, Lane]:
    lanes = Lanes(random.Random(1))
    return lanes, lanes.lane("d", "d", LimitTable({"default": LimitsSpec(concurrency=concurrency)}), NOW)


def entered(lanes: Lanes, lane: Lane, now: float) -> list[Admitted]:
    inside = []
    while isinstance(admitted := lanes.enter(lane, now), Admitted):
        inside.append(admitted)
    return inside


@pytest.mark.parametrize("failure", [BUSY, LIMITED])
def test_after_a_pause_it_goes_on_with_half_of_what_was_under_way(failure: Failure) -> None:
    lanes, lane = street()
    inside = entered(lanes, lane, NOW)
    for admitted in inside:
        lanes.left(admitted, failure, NOW + 0.1)
    assert lane.block(NOW + 1.0).until == NOW + 1.1
    inside = entered(lanes, lane, NOW + 1.1)
    assert len(inside) == 16, "all that were under way said one thing"
    for admitted in inside:
        lanes.left(admitted, None, NOW + 1.2)
    assert len(entered(lanes, lane, NOW + 1.2)) == 32


def test_attempts_that_began_later_and_succeed_end_the_pause() -> None:
    lanes, lane = street(4)
    first, second, third, fourth = entered(lanes, lane, NOW)
    lanes.left(second, BUSY, NOW + 0.1)
    assert lane.state(NOW + 0.1) == "paused"
    lanes.left(first, None, NOW + 0.2)
    assert lane.state(NOW + 0.2) == "paused", "it began earlier, and proves nothing"
    lanes.left(third, None, NOW + 0.3)
    assert (lane.state(NOW + 0.3), lanes.shut(NOW + 0.3)) == ("healthy", set())
    assert len(entered(lanes, lane, NOW + 0.3)) == 2, "half of four and one that worked, less the one under way"
    lanes.left(fourth, None, NOW + 0.3)


def test_it_takes_as_many_successes_as_there_were_refusals() -> None:
    lanes, lane = street(8)
    inside = entered(lanes, lane, NOW)
    for admitted in inside[:3]:
        lanes.left(admitted, BUSY, NOW + 0.1)
    for admitted in inside[3:5]:
        lanes.left(admitted, None, NOW + 0.2)
    assert lane.state(NOW + 0.2) == "paused"
    lanes.left(inside[5], None, NOW + 0.2)
    assert lane.state(NOW + 0.2) == "healthy"


@pytest.mark.parametrize("order", ["hard last", "hard first"])
def test_a_429_among_them_makes_the_pause_last(order: str) -> None:
    made = Shutter(random.Random(1))
    said = [("busy", 5.0), ("pause", 2.0)]
    for says, after in said if order == "hard last" else reversed(said):
        made.learn(says, "no", NOW, after=after, number=1)
    for number in range(2, 20):
        made.learn("healthy", "", NOW + 1, number=number)
    assert (made.block.until, made.block.soft) == (NOW + 5.0, False)


def test_what_was_refused_in_one_pause_does_not_count_in_the_next() -> None:
    made = Shutter(random.Random(1))
    for number in range(1, 9):
        made.learn("busy", "HTTP 503", NOW, after=1.0, number=number)
    made.learn("busy", "HTTP 503", NOW + 5, after=1.0, number=9)
    made.learn("healthy", "", NOW + 5, number=8)
    assert made.block.is_closed(NOW + 5)
    made.learn("healthy", "", NOW + 5, number=10)
    assert made.block is None


def test_limits_have_no_part_in_what_is_known_of_a_destination() -> None:
    lanes, lane = street(4)
    inside = entered(lanes, lane, NOW)
    lanes.left(inside[0], BUSY, NOW)
    lane.change(Limits(2), NOW)
    assert len(entered(lanes, lane, NOW + 1)) == 0, "three are under way yet"

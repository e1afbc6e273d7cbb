"""A destination that refuses some attempts and names a time: how much is sent meanwhile, and what falls behind."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

import pytest

from engine.action.failures import Failure
from engine.clients.limits import Limits, LimitsSpec, LimitTable
from engine.worker.destinations.circuit import Circuit
from engine.worker.destinations.destination import Admitted, Destination
from engine.worker.destinations.table import DestinationTable

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
        self.destinations = DestinationTable(random.Random(self.seed))
        self.limit_table = LimitTable({"default": self.limits})
        self.begun: list[float] = []
        self.backlog: list[int] = []
        self.succeeded = 0
        #: When each refused delivery was refused, and when it was attempted again.
        self.retried: list[tuple[float, float]] = []

    @property
    def destination(self) -> Destination:
        return self.destinations.get_or_add("d", "d", self.limit_table, self.now)

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
            while self.queue and isinstance(admitted := self.destination.admit(self.now), Admitted):
                if (since := self.queue.popleft()) is not None:
                    self.retried.append((since, self.now))
                self.begun.append(self.now)
                took = self.latency * self.rng.uniform(0.5, 1.5)
                heappush(events, (self.now + took, next(number), "ends", admitted))
            if self.queue and (at := self.destination.ready_at(self.now)) is not None:
                heappush(events, (at, next(number), "looks", None))
            self.backlog.append(len(self.queue))
        return self

    def _end(self, admitted: Admitted, events: list, number: count) -> None:
        failed = self.rng.random() < self.refused
        admitted.destination.finish(admitted, self.failure if failed else None, self.now)
        if failed:
            heappush(events, (self.now + self.failure.after, next(number), "comes", self.now))
        else:
            self.succeeded += 1


@pytest.mark.parametrize("latency", [0.005, 0.05, 0.2])
@pytest.mark.parametrize("after", [1.0, 30.0])
def test_two_refusals_of_a_hundred_do_not_hold_up_the_rest(latency: float, after: float) -> None:
    made = Simulation(0.02, latency, failure=replace(BUSY, after=after)).run(180.0)
    assert max(made.backlog) < 480, "four seconds"
    assert made.backlog[-1] < 150
    assert all(again - refused > after - 1e-6 for refused, again in made.retried), (
        "a refused delivery is retried at the time it was given"
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
    made, now, pauses = Circuit(random.Random(1)), NOW, []
    made.record("busy", "HTTP 503", now, after=30.0, number=1)
    assert made.block.until == NOW + 30, "nothing else is known of it"
    made.record("healthy", "", NOW + 30, number=2)
    for number in range(3, 10):
        made.record("unknown", "ValueError", now, number=number)
        made.record("busy", "HTTP 503", now, after=30.0, number=number)
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


def make_destination(concurrency: int = 32) -> tuple[DestinationTable, Destination]:
    destinations = DestinationTable(random.Random(1))
    return destinations, destinations.get_or_add(
        "d", "d", LimitTable({"default": LimitsSpec(concurrency=concurrency)}), NOW
    )


def admit_all(destinations: DestinationTable, destination: Destination, now: float) -> list[Admitted]:
    inside = []
    while isinstance(admitted := destination.admit(now), Admitted):
        inside.append(admitted)
    return inside


@pytest.mark.parametrize("failure", [BUSY, LIMITED])
def test_after_a_pause_it_goes_on_with_half_of_what_was_in_flight(failure: Failure) -> None:
    destinations, destination = make_destination()
    inside = admit_all(destinations, destination, NOW)
    for admitted in inside:
        destination.finish(admitted, failure, NOW + 0.1)
    assert destination.block(NOW + 1.0).until == NOW + 1.1
    inside = admit_all(destinations, destination, NOW + 1.1)
    assert len(inside) == 16, "the attempts in flight all reported one pause"
    for admitted in inside:
        destination.finish(admitted, None, NOW + 1.2)
    assert len(admit_all(destinations, destination, NOW + 1.2)) == 32


def test_attempts_that_began_later_and_succeed_end_the_pause() -> None:
    destinations, destination = make_destination(4)
    first, second, third, fourth = admit_all(destinations, destination, NOW)
    destination.finish(second, BUSY, NOW + 0.1)
    assert destination.state(NOW + 0.1) == "paused"
    destination.finish(first, None, NOW + 0.2)
    assert destination.state(NOW + 0.2) == "paused", "it began earlier, and proves nothing"
    destination.finish(third, None, NOW + 0.3)
    assert (destination.state(NOW + 0.3), destinations.blocked(NOW + 0.3)) == ("healthy", set())
    assert len(admit_all(destinations, destination, NOW + 0.3)) == 2, (
        "half of four and one success, less the one in flight"
    )
    destination.finish(fourth, None, NOW + 0.3)


def test_it_takes_as_many_successes_as_there_were_refusals() -> None:
    destinations, destination = make_destination(8)
    inside = admit_all(destinations, destination, NOW)
    for admitted in inside[:3]:
        destination.finish(admitted, BUSY, NOW + 0.1)
    for admitted in inside[3:5]:
        destination.finish(admitted, None, NOW + 0.2)
    assert destination.state(NOW + 0.2) == "paused"
    destination.finish(inside[5], None, NOW + 0.2)
    assert destination.state(NOW + 0.2) == "healthy"


@pytest.mark.parametrize("order", ["hard last", "hard first"])
def test_a_429_among_them_makes_the_pause_last(order: str) -> None:
    made = Circuit(random.Random(1))
    said = [("busy", 5.0), ("pause", 2.0)]
    for says, after in said if order == "hard last" else reversed(said):
        made.record(says, "no", NOW, after=after, number=1)
    for number in range(2, 20):
        made.record("healthy", "", NOW + 1, number=number)
    assert (made.block.until, made.block.soft) == (NOW + 5.0, False)


def test_what_was_refused_in_one_pause_does_not_count_in_the_next() -> None:
    made = Circuit(random.Random(1))
    for number in range(1, 9):
        made.record("busy", "HTTP 503", NOW, after=1.0, number=number)
    made.record("busy", "HTTP 503", NOW + 5, after=1.0, number=9)
    made.record("healthy", "", NOW + 5, number=8)
    assert made.block.is_closed(NOW + 5)
    made.record("healthy", "", NOW + 5, number=10)
    assert made.block is None


def test_new_limits_leave_what_is_known_of_a_destination() -> None:
    destinations, destination = make_destination(4)
    inside = admit_all(destinations, destination, NOW)
    destination.finish(inside[0], BUSY, NOW)
    destination.set_limits(Limits(2), NOW)
    assert len(admit_all(destinations, destination, NOW + 1)) == 0, "three are still in flight"

"""How the outcomes of attempts block and unblock a destination."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.worker.destinations.circuit import (
    BETWEEN_KEYS,
    FAILURES_TO_OPEN,
    LONGEST_COOL_DOWN,
    LONGEST_PAUSE,
    Circuit,
)

NOW = 1000.0


def circuit(seed: int = 1) -> Circuit:
    return Circuit(random.Random(seed))


def broken(now: float = NOW) -> Circuit:
    made = circuit()
    for _ in range(FAILURES_TO_OPEN):
        made.record("failing", "HTTP 503", now)
    return made


def test_failures_in_a_row_open_the_circuit() -> None:
    made = circuit()
    for _ in range(FAILURES_TO_OPEN - 1):
        made.record("failing", "HTTP 503", NOW)
    assert made.block is None
    made.record("failing", "HTTP 503", NOW)
    assert (made.block.kind, made.block.reason) == ("failing", "HTTP 503")
    assert NOW + 1 <= made.block.until <= NOW + 2


@pytest.mark.parametrize("says", ["healthy", "pause"])
def test_any_answer_between_failures_shows_that_it_is_up(says) -> None:
    made = circuit()
    for _ in range(3 * FAILURES_TO_OPEN):
        made.record("failing", "HTTP 503", NOW)
        made.record(says, "", NOW, after=0.0)
    assert made.block is None or made.block.kind == "paused"


def test_an_error_of_the_action_itself_neither_opens_nor_closes_it() -> None:
    made = circuit()
    for _ in range(FAILURES_TO_OPEN - 1):
        made.record("failing", "HTTP 503", NOW)
        made.record("unknown", "ValueError", NOW)
    assert made.block is None
    made.record("failing", "HTTP 503", NOW)
    assert made.block is not None
    later = made.block.until
    made.record("unknown", "ValueError", later, probe=True)
    assert made.block.probes(later)


def test_attempts_in_flight_when_it_opened_do_not_prolong_it() -> None:
    made = broken()
    block = made.block
    for _ in range(30):
        made.record("failing", "HTTP 503", NOW + 0.5)
    assert made.block is block


def test_a_probe_that_fails_opens_it_for_longer_up_to_a_bound_and_one_that_works_closes_it() -> None:
    made, now, cool_downs = broken(), NOW, []
    for _ in range(20):
        cool_downs.append(made.block.until - now)
        now = made.block.until
        assert made.block.probes(now)
        made.record("failing", "HTTP 503", now, probe=True)
    assert max(cool_downs) <= LONGEST_COOL_DOWN
    assert max(cool_downs[8:]) > LONGEST_COOL_DOWN / 2 > max(cool_downs[:4])
    assert made.block.since == NOW, "it has been open all the time"
    made.record("healthy", "", made.block.until, probe=True)
    assert made.block is None
    assert made.is_initial


def test_a_pause_lasts_as_long_as_was_asked_for_whatever_else_succeeds() -> None:
    made = circuit()
    made.record("pause", "HTTP 429", NOW, after=60.0)
    made.record("healthy", "", NOW + 1)
    assert made.block.is_closed(NOW + 59.9)
    assert not made.block.is_closed(NOW + 60)
    assert not made.block.probes(NOW + 60), "after a pause there is no probe"


def test_the_longer_of_two_pauses_counts() -> None:
    made = circuit()
    made.record("pause", "HTTP 429", NOW, after=60.0)
    made.record("pause", "HTTP 429", NOW + 1, after=5.0)
    assert made.block.until == NOW + 60
    made.record("pause", "HTTP 429", NOW + 2, after=100.0)
    assert (made.block.until, made.block.since) == (NOW + 102, NOW)


def test_pauses_of_no_given_length_grow_with_each_round_and_not_with_each_answer() -> None:
    made, now, lengths = circuit(), NOW, []
    for _ in range(12):
        for _ in range(20):
            made.record("pause", "HTTP 429", now)
        lengths.append(made.block.until - now)
        now = made.block.until
    assert lengths[0] <= 2
    assert max(lengths) <= LONGEST_PAUSE
    assert max(lengths[6:]) > 16


def test_a_destination_that_fails_after_a_pause_opens_the_circuit() -> None:
    made = circuit()
    made.record("pause", "HTTP 429", NOW, after=1.0)
    for _ in range(FAILURES_TO_OPEN):
        made.record("failing", "timed out", NOW + 2)
    assert made.block.kind == "failing"


def test_a_refused_key_waits_for_a_slow_probe() -> None:
    made = circuit()
    made.record("refused", "HTTP 401", NOW)
    assert made.block.is_closed(NOW + BETWEEN_KEYS - 1)
    now = NOW + BETWEEN_KEYS
    assert made.block.probes(now)
    made.record("refused", "HTTP 401", now, probe=True)
    assert made.block.until == now + BETWEEN_KEYS
    made.record("healthy", "", now + BETWEEN_KEYS, probe=True)
    assert made.block is None


def test_a_410_is_for_good_whatever_comes_after() -> None:
    made = circuit()
    made.record("gone", "HTTP 410", NOW)
    for says in ("healthy", "pause", "failing", "refused"):
        for _ in range(10):
            made.record(says, "late", NOW + 1, after=1.0)
    assert (made.block.kind, made.block.until, made.block.reason) == ("gone", None, "HTTP 410")
    made.reset()
    assert made.block is None


OUTCOMES = st.sampled_from(["healthy", "unknown", "pause", "failing", "refused", "gone"])


@given(st.lists(st.tuples(OUTCOMES, st.floats(0, 400), st.none() | st.floats(0, 3600)), max_size=60), st.integers())
def test_whatever_is_recorded_a_block_ends_unless_it_is_gone(outcomes, seed) -> None:
    made, now = circuit(seed), NOW
    for says, seconds, after in outcomes:
        now += seconds
        probe = made.block is not None and made.block.probes(now)
        made.record(says, says, now, after=after, probe=probe)
        if made.block is not None and made.block.kind != "gone":
            assert made.block.until is not None
            assert made.block.until <= now + 3600
            assert made.block.since <= now


@pytest.mark.parametrize("says", ["failing", "busy", "pause", "refused"])
def test_failures_in_a_row_are_counted_until_one_succeeds(says) -> None:
    made = Circuit(random.Random(1))
    for number in range(3):
        made.record(says, "HTTP 503", NOW + number, after=0.1, number=number)
    made.record("unknown", "", NOW + 4)
    assert made.failures_in_a_row == 3
    made.record("healthy", "", NOW + 5, number=9)
    assert made.failures_in_a_row == 0

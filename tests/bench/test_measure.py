"""What a measurement makes of what its processes say, and the time it may take."""

import time

import pytest

from bench.__main__ import _group, arguments, check_checkout, shares_of
from bench.bodies import SMALL
from bench.load import _of_wrk, combined
from bench.measure import Group, Options, in_rounds, rounds_until
from bench.plan import NOW
from bench.processes import ROOT, BenchError
from bench.report import Results, table
from bench.servers import rival


def tally(started, ended, statuses, lost=0, cpu=1.0):
    return {"started": started, "ended": ended, "statuses": statuses, "lost": lost, "cpu": cpu}


def test_processes_are_added_up():
    found = combined([tally(10, 12, {"202": 5, "503": 1}, 1, 0.5), tally(11, 15, {"202": 15}, 2, 1.0)], 202)
    assert (found.started, found.ended, found.rate) == (10, 15, 4.0)
    assert (found.answered, found.others, found.lost, found.busy) == (20, 1, 3, 0.2)


def test_no_answer_at_all():
    with pytest.raises(BenchError, match="no request was answered"):
        combined([tally(10, 0.0, {}, 64)], 202)


def test_what_wrk_says():
    line = '{"answered":110,"seconds":2.000000,"refused":10,"lost":3}'
    found = _of_wrk(f"Running 2s test\n{line}\n", 100.0, cpu=0.5)
    assert (found.started, found.ended, found.rate) == (100.0, 102.0, 50.0)
    assert (found.answered, found.others, found.lost, found.busy) == (100, 10, 3, 0.25)


def test_wrk_says_nothing():
    with pytest.raises(BenchError, match="unable to connect"):
        _of_wrk("unable to connect to 127.0.0.1:1", 0.0, 0.0)


@pytest.mark.parametrize(("until", "rounds"), [(100, [0, 1, 2, 3, 4]), (30, [0, 1, 2]), (29, [0, 1]), (0, [0])])
def test_rounds_that_would_end_too_late_do_not_begin(until, rounds):
    times = iter([0.0, *range(0, 1000, 10)])  # asked once before all, and once before each
    assert list(rounds_until(5, until, lambda: next(times))) == rounds


def test_what_a_task_does_not_use_the_next_ones_have():
    now = 0.0
    shares = shares_of([1, 1, 2], 40.0, lambda: now)
    assert next(shares) == 10.0
    now = 4.0
    assert next(shares) == 16.0
    now = 20.0
    assert next(shares) == 40.0


def test_one_round_of_a_real_server(tmp_path):
    party = rival("bare", "bare")
    options = Options(rounds=1, seconds=0.2, warm_up=0.1, folder=tmp_path, own_generator=True)
    samples = in_rounds(Group("g", SMALL, 4, (party,)), options, time.monotonic() + 60)["bare"]
    assert len(samples) == 1
    sample = samples[0]
    assert sample.events > 10
    assert (sample.unexpected, sample.missing) == (0, 0)
    assert sample.rate > 0
    assert sample.peak_rss > 10_000_000
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_start_is_a_missed_row(tmp_path):
    broken = rival("bare handler", "no-such-rival")
    options = Options(rounds=1, seconds=0.2, warm_up=0.1, folder=tmp_path, own_generator=True)
    results = Results()
    _group(results, Group("accept 3 MB", SMALL, 4, (broken,)), options, time.monotonic() + 60)
    assert [row.key for row in results.missed()] == ["accept-3m"]
    assert "KeyError: 'no-such-rival'" in results.failures["accept-3m"][NOW]
    assert "does not serve" in table(results)


def test_the_checkout_must_be_the_one_that_runs(tmp_path):
    check_checkout("engine", ROOT)
    with pytest.raises(BenchError, match="before: no engine in"):
        check_checkout("before", tmp_path)


def test_arguments():
    given = arguments(["--quick", "--against", "x", "--json", "y"])
    assert (given.quick, str(given.against), str(given.json), given.only) == (True, "x", "y", "")

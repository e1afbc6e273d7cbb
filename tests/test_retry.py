"""From an exception to the next attempt, or to the end."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Discard, Retry, TemplateError, WantOfData
from engine.langsmith.failure import LangSmithFailure
from engine.retry import (
    LONGEST_RETRY_AFTER,
    Failure,
    HttpFailure,
    RetryPolicy,
    check_response,
    classify,
    parse_retry_after,
)

AGAIN = Failure(retry=True, reason="busy", status=503, cause="answer")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 30),
    within=st.floats(0, 1e6),
    shortest=st.floats(0.01, 60),
    longest=st.floats(60, 7200),
)


@given(policies, st.integers(1, 1000), st.floats(0, 1e6), st.integers(), st.none() | st.floats(0, 3600))
def test_a_delay_keeps_all_its_bounds(policy, attempt, waited, seed, after):
    failure = Failure(retry=True, reason="busy", after=after)
    delay = policy.next_delay(failure, attempt=attempt, waited=waited, rng=random.Random(seed))
    if delay is None:
        worst = max(policy.longest, after or 0.0)
        assert attempt >= policy.attempts or waited + worst > policy.within
        return
    assert attempt < policy.attempts
    assert waited + delay <= policy.within
    assert delay >= policy.shortest / 2
    assert delay >= (after or 0.0)
    assert delay <= max(policy.longest, policy.shortest * 2.0**attempt if attempt < 60 else policy.longest, after or 0)
    assert delay <= max(policy.longest, after or 0.0)


@given(policies, st.integers())
def test_any_schedule_ends(policy, seed):
    rng, waited, attempt = random.Random(seed), 0.0, 1
    while (delay := policy.next_delay(AGAIN, attempt=attempt, waited=waited, rng=rng)) is not None:
        waited, attempt = waited + delay, attempt + 1
    assert attempt <= policy.attempts
    assert waited <= policy.within


def test_delays_grow_from_attempt_to_attempt_and_are_spread():
    policy = RetryPolicy(attempts=100, shortest=1.0, longest=64.0, within=1e9)

    def middle(attempt):
        rng = random.Random(attempt)
        delays = [policy.next_delay(AGAIN, attempt=attempt, waited=0, rng=rng) for _ in range(500)]
        assert max(delays) > 2 * min(delays)
        return sum(delays) / len(delays)

    assert [middle(attempt) for attempt in (1, 3, 5)] == sorted(middle(attempt) for attempt in (1, 3, 5))
    assert middle(6) < 64


def test_what_is_final_gets_no_delay():
    final = Failure(retry=False, reason="no")
    assert RetryPolicy().next_delay(final, attempt=1, waited=0, rng=random.Random(1)) is None


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (Failure(retry=True, reason="", cause="connection"), True),
        (Failure(retry=True, reason="", status=500, cause="answer"), True),
        (Failure(retry=True, reason="", status=503, cause="answer"), True),
        (Failure(retry=True, reason="", status=429, cause="answer"), False),
        (Failure(retry=True, reason="", status=408, cause="answer"), False),
        (Failure(retry=True, reason="", cause="timeout"), False),
        (Failure(retry=False, reason="", status=404, cause="answer"), False),
    ],
)
def test_langsmiths_policy_to_the_letter(failure, again):
    policy, rng = RetryPolicy.of_langsmith(), random.Random(1)
    delays = [policy.next_delay(failure, attempt=attempt, waited=0, rng=rng) for attempt in (1, 2, 3)]
    assert [delay is not None for delay in delays] == [again, again, False]


@pytest.mark.parametrize(
    ("error", "retry", "reason"),
    [
        (Retry("later", after=5), True, "later"),
        (Discard("never"), False, "never"),
        (Discard(""), False, "discarded by the action"),
        (TemplateError("bad"), False, "bad"),
        (WantOfData("inputs"), True, "data wanting: inputs"),
        (TimeoutError(), True, "timed out"),
        (TimeoutError("no answer within 10 s"), True, "timed out: no answer within 10 s"),
        (HttpFailure(404, {}, "gone  \n away"), False, "HTTP 404: gone away"),
        (LangSmithFailure("LangSmith said no", status=422), False, "LangSmith said no"),
    ],
)
def test_what_the_engine_knows_is_expected(error, retry, reason):
    failure = classify(error)
    assert (failure.retry, failure.reason, failure.expected) == (retry, reason, True)


def test_what_nobody_foresaw_is_tried_again_and_told_apart():
    failure = classify(ZeroDivisionError("division by zero"))
    assert (failure.retry, failure.expected, failure.reason) == (True, False, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), OSError("no route"), aiohttp.ServerDisconnectedError(), BrokenPipeError()]
)
def test_network_faults_are_tried_again(error):
    failure = classify(error)
    assert (failure.retry, failure.cause, failure.expected) == (True, "connection", True)


def test_a_status_is_found_on_the_exception_an_sdk_wrapped():
    class Response:
        status_code = 429
        headers = {"retry-after": "9"}  # noqa: RUF012

    inner = RuntimeError("inner")
    inner.response = Response()
    outer = RuntimeError("outer")
    outer.__cause__ = inner
    failure = classify(outer)
    assert (failure.retry, failure.status, failure.after, failure.reason) == (True, 429, 9.0, "outer")


def test_a_chain_that_bites_its_tail_ends():
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert classify(one).retry


@pytest.mark.parametrize(("after", "bounded"), [(-5, 0.0), (5, 5.0), (1e12, LONGEST_RETRY_AFTER), (None, None)])
def test_what_an_action_asks_for_is_bounded(after, bounded):
    assert classify(Retry("later", after=after)).after == bounded


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.5", 0.5),
        ("999999999999", LONGEST_RETRY_AFTER),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:05:05", 60.0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Fri, 99 Jan 2026 03:05:05 GMT", None),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
        (".", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value, seconds):
    assert parse_retry_after({"RETRY-AFTER": value}, now=NOW) == seconds


@given(st.text())
def test_no_retry_after_whatever_breaks_it(value):
    seconds = parse_retry_after({"Retry-After": value}, now=NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER


def test_there_need_not_be_a_retry_after():
    assert parse_retry_after({}) is None


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_no_failure(status):
    assert check_response(status, {}) is None


@pytest.mark.parametrize("status", [199, 300, 304, 400, 500])
def test_anything_else_is_one_and_keeps_a_short_excerpt(status):
    with pytest.raises(HttpFailure) as caught:
        check_response(status, {"A": "b"}, "x" * 1000)
    assert (caught.value.status, caught.value.headers) == (status, {"A": "b"})
    assert len(str(caught.value)) < 250


async def test_a_timeout_of_the_attempt_is_a_timeout():
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(5)
    assert classify(caught.value).cause == "timeout"

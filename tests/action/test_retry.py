"""From an exception to the next attempt, or to the end."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import ssl
from datetime import UTC, datetime

import aiohttp
import httpx2
import pytest
from certificates import Pair
from hypothesis import given
from hypothesis import strategies as st
from langsmith.utils import LangSmithConnectionError

from engine.action.failures import LONGEST_RETRY_AFTER, Failure, classify, parse_retry_after
from engine.action.registry import load_installed
from engine.action.retry import RetryPolicy
from engine.clients.langsmith.failure import LangSmithFailure
from engine.config import parse_config
from engine.core.errors import DataMissing, DataTooLarge, Discard, HttpFailure, Retry, TemplateError, check_response
from engine.rules.compile import compile_router

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
    assert delay <= max(policy.longest, after or 0.0)


@given(policies, st.integers())
def test_any_schedule_ends(policy, seed):
    rng, waited, attempt = random.Random(seed), 0.0, 1
    while (delay := policy.next_delay(AGAIN, attempt=attempt, waited=waited, rng=rng)) is not None:
        waited, attempt = waited + delay, attempt + 1
    assert attempt <= policy.attempts
    assert waited <= policy.within


@given(policies, st.integers(), st.sampled_from([None, 20.0]))
def test_a_delivery_asked_to_come_later_uses_no_attempt_and_ends_at_within(policy, seed, after):
    later = Failure(retry=True, reason="busy", status=429, cause="answer", after=after)
    rng, waited, count = random.Random(seed), 0.0, 0
    while count < 1000 and (delay := policy.next_delay(later, attempt=1, waited=waited, rng=rng)) is not None:
        waited, count = waited + delay, count + 1
    assert waited <= policy.within
    assert count == 1000 or waited + max(policy.longest, after or 0.0) > policy.within
    assert policy.next_delay(later, attempt=10**6, waited=0, rng=rng) is not None or policy.within < policy.longest


def test_eight_attempts_span_more_than_an_hour_as_a_rule():
    """A receiver that is down for a quarter of an hour must not cost a delivery its life."""

    def span(seed):
        rng, waited = random.Random(seed), 0.0
        for attempt in range(1, 8):
            waited += RetryPolicy().next_delay(AGAIN, attempt=attempt, waited=waited, rng=rng)
        return waited

    spans = sorted(span(seed) for seed in range(500))
    assert spans[5] > 900
    assert 3600 < spans[250] < 7200
    assert spans[-1] < 3 * 3600


def test_delays_grow_from_attempt_to_attempt_and_are_spread():
    policy = RetryPolicy(attempts=100, shortest=1.0, longest=4096.0, within=1e9)

    def middle(attempt):
        rng = random.Random(attempt)
        delays = [policy.next_delay(AGAIN, attempt=attempt, waited=0, rng=rng) for _ in range(500)]
        assert max(delays) > 2 * min(delays)
        return sum(delays) / len(delays)

    assert [middle(attempt) for attempt in (1, 3, 5)] == sorted(middle(attempt) for attempt in (1, 3, 5))
    assert middle(6) < 4096


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
        (DataMissing("inputs"), True, "data is missing: inputs"),
        (DataTooLarge("inputs: too large"), False, "data is missing: inputs: too large"),
        (TimeoutError(), True, "timed out"),
        (TimeoutError("no answer within 10 s"), True, "timed out: no answer within 10 s"),
        (HttpFailure(404, {}, "gone  \n away"), False, "HTTP 404: gone away"),
        (LangSmithFailure("LangSmith said no", status=422), False, "LangSmith said no"),
    ],
)
def test_what_the_engine_knows_is_expected(error, retry, reason):
    failure = classify(error)
    assert (failure.retry, failure.reason, failure.expected) == (retry, reason, True)


def test_unexpected_errors_are_retried_and_counted_separately():
    failure = classify(ZeroDivisionError("division by zero"))
    assert (failure.retry, failure.expected, failure.reason) == (True, False, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        BrokenPipeError(),
        OSError(errno.EHOSTUNREACH, "no route to host"),
        OSError(errno.ENETUNREACH, "network is unreachable"),
        OSError("Multiple exceptions: [Errno 111] refused, [Errno 101] unreachable"),
        OSError(errno.ETIMEDOUT, "the kernel gave up connecting"),
        socket.gaierror(-2, "name or service not known"),
        ssl.SSLCertVerificationError("self-signed certificate"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("the answer broke off"),
        aiohttp.ConnectionTimeoutError("Connection timeout to host http://h/"),
        httpx2.ConnectError("refused"),
        httpx2.ConnectTimeout("too long"),
        httpx2.RemoteProtocolError("odd"),
    ],
)
def test_network_faults_are_tried_again(error):
    failure = classify(error)
    assert (failure.retry, failure.cause, failure.expected) == (True, "connection", True)
    assert failure.reason.startswith("no connection: ")
    assert len(failure.reason) > len("no connection: ")


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), aiohttp.SocketTimeoutError("no data"), httpx2.ReadTimeout("no data"), httpx2.PoolTimeout("busy")],
)
def test_an_answer_that_does_not_come_in_time_is_a_timeout(error):
    failure = classify(error)
    assert (failure.retry, failure.cause, failure.expected) == (True, "timeout", True)
    assert failure.reason.startswith("timed out")


def test_a_connection_that_takes_too_long_is_a_failed_connection_also_when_the_engine_says_so():
    inner = aiohttp.ConnectionTimeoutError("Connection timeout to host http://h/")
    assert raised(TimeoutError("no answer within 5 s"), inner, "from").cause == "connection"


async def test_a_connection_that_failed_before_the_time_ran_out_does_not_change_the_timeout():
    async def reconnect():
        async with asyncio.timeout(0.01):
            try:
                raise aiohttp.ConnectionTimeoutError
            except TimeoutError:
                await asyncio.sleep(5)

    with pytest.raises(TimeoutError) as caught:
        await reconnect()
    assert classify(caught.value).cause == "timeout"


@pytest.mark.parametrize("inner", [httpx2.ReadTimeout("late"), httpx2.ConnectError("refused"), None])
def test_what_an_sdk_wrapped_says_what_it_was(inner):
    error = LangSmithConnectionError("Request error")
    error.__cause__ = inner
    outer = LangSmithFailure("LangSmith could not be reached")
    outer.__cause__ = error
    assert classify(outer).cause == ("timeout" if isinstance(inner, httpx2.ReadTimeout) else "connection")


@pytest.mark.parametrize("name", ["InvalidURL", "InvalidSchema", "MissingSchema", "UnsupportedProtocol"])
def test_a_url_that_no_client_can_use_is_final(name):
    error = type(name, (OSError,), {})("No scheme supplied")
    outer = RuntimeError("it failed")
    outer.__cause__ = error
    failure = Failure(retry=False, reason="the URL cannot be used: No scheme supplied")
    assert classify(error) == failure
    assert classify(outer) == Failure(retry=False, reason="the URL cannot be used: it failed")


@pytest.mark.parametrize("url", ["http://[::1]x/", "http://x\u2028y/", "http://127.0.0.1\\@x.y/", "x.y"])
async def test_a_url_that_aiohttp_cannot_use_is_final(url):
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.InvalidURL) as caught:
            await http.get(url)
    failure = classify(caught.value)
    assert (failure.retry, failure.expected, failure.health) == (False, True, "unknown")
    assert failure.reason.startswith("the URL cannot be used: ")


def test_where_a_redirect_leads_is_not_the_delivery_s_url():
    assert classify(aiohttp.InvalidUrlRedirectClientError("http://x:y/")).retry


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "no such file", "template.txt"),
        PermissionError(13, "no"),
        OSError("odd"),
        IsADirectoryError(),
    ],
)
def test_what_is_wrong_with_a_file_is_no_network_fault(error):
    failure = classify(error)
    assert (failure.retry, failure.cause, failure.expected) == (True, "action", False)
    assert failure.reason.startswith(type(error).__name__)


@pytest.mark.parametrize("status", [0, 1, 200, 299, 600, 1000, True, "404", None])
def test_not_every_status_is_http_s(status):
    class JobError(Exception):
        pass

    error = JobError("the job failed")
    error.status = status
    failure = classify(error)
    assert (failure.retry, failure.expected, failure.status) == (True, False, None)


@pytest.mark.parametrize("status", [300, 404, 599])
def test_every_http_failure_is(status):
    class ApiError(Exception):
        pass

    error = ApiError("it said no")
    error.status_code = status
    assert classify(error).status == status


def test_an_answer_with_an_unknown_status_is_an_answer():
    failure = classify(HttpFailure(999, {}, "request denied"))
    assert (failure.retry, failure.status, failure.expected) == (False, 999, True)


def raised(outer, inner, how):
    """What an exception means that was raised in one of three ways while another was handled."""
    with pytest.raises(type(outer)) as caught:
        _raise(outer, inner, how)
    return classify(caught.value)


def _raise(outer, inner, how):
    try:
        raise inner
    except type(inner) as error:
        if how == "while handling":
            raise outer  # noqa: B904
        raise outer from (error if how == "from" else None)


@pytest.mark.parametrize("inner", [HttpFailure(404, {}), ConnectionRefusedError()])
@pytest.mark.parametrize(("how", "counts"), [("from", True), ("while handling", True), ("from None", False)])
def test_what_was_swallowed_on_purpose_does_not_count(inner, how, counts):
    failure = raised(ValueError("no such thing"), inner, how)
    assert (failure.cause != "action") is counts
    assert failure.expected is counts


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("id"), "KeyError: 'id'"),
        (ValueError(), "ValueError"),
        (ValueError("  "), "ValueError"),
        (ValueError("two words"), "ValueError: two words"),
        (ConnectionResetError(), "no connection: ConnectionResetError"),
        (ConnectionResetError("closed"), "no connection: ConnectionResetError: closed"),
        (socket.gaierror(-2, "name not known"), "no connection: name not known"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "no connection: connection reset by peer"),
        (aiohttp.ServerDisconnectedError(), "no connection: it closed the connection without an answer"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 9), [Errno 101] x"),
            f"no connection: {os.strerror(111).lower()} and {os.strerror(101).lower()}",
        ),
        (ssl.SSLError(1, "a word of OpenSSL"), "no connection: a word of OpenSSL"),
    ],
)
def test_a_reason_says_more_than_a_key(error, reason):
    assert classify(error).reason == reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_connection_that_is_refused_has_a_message(host):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with aiohttp.ClientSession() as session:
            for scheme in ("http", "https"):
                with pytest.raises(aiohttp.ClientConnectorError) as caught:
                    await session.get(f"{scheme}://{host}:{port}/")
                assert classify(caught.value).reason == f"cannot connect to {host}:{port}: connection refused"
                wrapped = LangSmithConnectionError("Request error")
                wrapped.__cause__ = caught.value
                assert classify(wrapped).reason == f"cannot connect to {host}:{port}: connection refused"


async def test_a_certificate_that_is_not_trusted_and_a_port_without_tls_have_messages(tmp_path, sink):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = Pair.made().write(tmp_path)
    context.load_cert_chain(files.cert, files.key)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port, plain = server.sockets[0].getsockname()[1], sink.origin.rpartition(":")[2]
    expected = {
        port: "its certificate is not trusted (self-signed certificate)",
        plain: "it does not speak TLS there",
    }
    async with server, aiohttp.ClientSession() as session:
        for at, words in expected.items():
            with pytest.raises(aiohttp.ClientSSLError) as caught:
                await session.get(f"https://127.0.0.1:{at}/")
            assert classify(caught.value).reason == f"cannot connect to 127.0.0.1:{at}: {words}"


@pytest.mark.parametrize(
    ("outer", "reason"),
    [
        (KeyError("id of x"), "KeyError: 'id of x'"),
        (ValueError(), "ValueError"),
        (ValueError("it said no"), "it said no"),
    ],
)
def test_the_reason_of_an_answer_says_more_than_a_key(outer, reason):
    assert raised(outer, HttpFailure(500, {}), "from").reason == reason


# --- which policy ----------------------------------------------------------------------------------------------------


def delays(policy, failure, count=10):
    return [policy.next_delay(failure, attempt=n, waited=0, rng=random.Random(n)) for n in range(1, count)]


def test_want_of_data_is_retried_as_the_engine_does_whatever_the_policy():
    failure = classify(DataMissing("inputs"))
    assert failure.cause == "data"
    assert delays(RetryPolicy.of_langsmith(), failure) == delays(RetryPolicy(), failure)
    assert delays(RetryPolicy.of_langsmith(), failure)[6] is not None
    of_its_own = RetryPolicy.of_langsmith(RetryPolicy(attempts=2))
    assert [delay is not None for delay in delays(of_its_own, failure, 4)] == [True, False, False]


def test_the_policy_for_data_is_never_langsmiths():
    assert RetryPolicy(attempts=3).for_data() == RetryPolicy(attempts=3)
    assert RetryPolicy.of_langsmith().for_data() == RetryPolicy()
    assert RetryPolicy.of_langsmith(RetryPolicy(attempts=2)).for_data() == RetryPolicy(attempts=2)


def test_the_least_delay_may_be_longer_than_the_default_s_most():
    policy = RetryPolicy(shortest=7200.0, within=1e9)
    found = [policy.next_delay(AGAIN, attempt=1, waited=0, rng=random.Random(n)) for n in range(200)]
    assert max(found) > 7000
    assert all(3600 <= delay <= 7200 for delay in found)


def policies_of(retry: str, defaults: str = "") -> tuple[RetryPolicy, float, RetryPolicy]:
    """An action's policy and timeout as compiled, and the policy of evaluations."""
    config = parse_config(
        f"secrets: none\n{defaults}routes: {{alert: {{actions: [{{log: {{message: x}}{retry}}}]}}}}\n", environ={}
    )
    router = compile_router(config, load_installed())
    (action,) = router.routes["alert"].actions
    return action.retry, action.timeout, router.retry


def test_an_action_says_what_it_wants_otherwise():
    policy, _, of_evaluations = policies_of(", retry: {attempts: 3}", "defaults: {retry: {attempts: 5, max: 1m}}\n")
    assert (policy.kind, policy.attempts, policy.longest) == ("engine", 3, 60)
    assert of_evaluations.attempts == 5


def test_an_action_that_says_how_often_keeps_langsmith_s_policy():
    policy, timeout, _ = policies_of(", retry: {attempts: 2}", "defaults: {retry: langsmith}\n")
    assert (policy.kind, policy.attempts, policy.longest, timeout) == ("langsmith", 2, 4, 5)
    assert policy.for_data() == RetryPolicy(attempts=2)


def test_under_langsmith_s_policy_data_follows_the_defaults():
    policy, _, _ = policies_of(", retry: langsmith", "defaults: {retry: {attempts: 5}}\n")
    assert policy == RetryPolicy.of_langsmith(RetryPolicy(attempts=5))
    _, _, of_evaluations = policies_of("", "defaults: {retry: langsmith}\n")
    assert of_evaluations.for_data() == RetryPolicy()


def test_a_status_is_found_on_the_exception_an_sdk_wrapped():
    class Response:
        status_code = 429
        headers = {"retry-after": "9"}  # noqa: RUF012

    inner = RuntimeError("inner")
    inner.response = Response()
    outer = RuntimeError("outer")
    outer.__cause__ = inner
    failure = classify(outer)
    assert (failure.retry, failure.status, failure.after, failure.reason) == (True, 429, 9.0, "RuntimeError: outer")


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


@pytest.mark.parametrize("status", [300, 302, 307])
def test_a_redirect_names_its_target_and_what_to_do(status):
    failure = classify(HttpFailure(status, {"location": "https://example.org/new\n" + "x" * 900}, "<html>moved</html>"))
    assert not failure.retry
    assert failure.reason.startswith(f"HTTP {status}: it redirects to https://example.org/new x")
    assert failure.reason.endswith("…, and redirects are not followed: configure the final address")
    assert len(failure.reason) < 320
    assert classify(HttpFailure(status, {})).reason == (
        f"HTTP {status}: redirects are not followed: configure the final address"
    )


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


async def test_what_is_no_http_at_all_is_tried_again_as_a_connection_that_failed():
    async def babble(_reader, writer):
        writer.write(b"\x15\x03\x01 this is no HTTP\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError) as caught:
            await http.get(f"http://127.0.0.1:{port}/")
    failure = classify(caught.value)
    assert (failure.retry, failure.cause, failure.status) == (True, "connection", None)

"""Signed webhooks: which signatures open the door, which don't, and what they cover."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
import logging
from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from receiving import FakeStore, post, serving

from engine.core.signatures import (
    HEADERS,
    TOLERANCE,
    BadSignature,
    check_claims,
    read_claims,
    secret_problem,
    sign,
    webhook_key,
)
from engine.core.trace import Span, Spans
from engine.receiver.admission import Admission
from engine.receiver.receiver import WEBHOOK_PATH

KEY = b"a key of 24 bytes or so!"
WHSEC = f"whsec_{b64encode(KEY).decode()}"
PLAIN = "a-plain-signing-secret"
OTHER = b64encode(b"no" * 16).decode()
NOW = 1_700_000_000.0
BODY = b'{"type": "issue.created", "id": "evt-1", "data": {}}'


def signing(*secrets: str, **settings):
    """A receiver that knows signing secrets and no others."""
    chosen = {"secrets": tuple, "signing_secrets": lambda: secrets, "clock": lambda: NOW}
    return serving(**{**chosen, **settings})


def standard(body: bytes = BODY, *, key: bytes = KEY, at: float = NOW, message: str = "msg_1") -> dict[str, str]:
    """By the specification's words, not by our own code."""
    digest = hmac.digest(key, f"{message}.{int(at)}.".encode() + body, "sha256")
    signature = f"v1,{b64encode(digest).decode()}"
    return {"webhook-id": message, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def hub(body: bytes = BODY, *, secret: str = PLAIN, header: str = "X-LangSmith-Signature") -> dict[str, str]:
    return {header: "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()}


# What opens


@pytest.mark.parametrize(
    "headers",
    [
        hub(),
        {"x-langsmith-signature": "sha256=" + hub()["X-LangSmith-Signature"][7:].upper()},
        hub(header="X-Hub-Signature-256"),
        standard(),
        standard(at=NOW - TOLERANCE),
        standard(at=NOW + TOLERANCE),
        {
            **standard(),
            "webhook-signature": f"v1a,xyz= v1,{b64encode(b'no' * 16).decode()} " + standard()["webhook-signature"],
        },
        {**standard(key=b"another"), **hub()},
        {**hub(), "Authorization": "Bearer a-gateway's", "X-Webhook-Secret": "wrong"},
    ],
    ids=["langsmith", "any-case", "github", "standard", "as-late", "as-early", "several", "one-of-two", "beside"],
)
async def test_a_good_signature_is_as_good_as_a_secret(headers):
    async with signing(WHSEC, PLAIN) as served:
        answer = await served.send(BODY, query="", headers=headers)
        assert (answer.status, served.store.payloads) == (202, [json.loads(BODY)])


@pytest.mark.parametrize(("secret", "key"), [(b64encode(KEY).decode(), KEY), ("not base64!", b"not base64!")])
async def test_standard_webhooks_secrets_may_lack_their_prefix_or_be_plain(secret, key):
    async with signing(secret) as served:
        assert (await served.send(BODY, query="", headers=standard(key=key))).status == 202


async def test_a_github_example_of_its_documentation_is_good():
    """From GitHub's "Validating webhook deliveries", which gives these values to test with."""
    body, secret = b"Hello, World!", "It's a Secret to Everybody"
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = CIMultiDictProxy(CIMultiDict({"X-Hub-Signature-256": f"sha256={digest}"}))
    claims, wrong = read_claims(headers, NOW)
    assert (check_claims(claims, [secret], body).id, wrong) == ("", "")


def test_a_standard_example_of_its_reference_library_is_good():
    """From the test vectors of the specification's own libraries."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    claims, _ = read_claims(CIMultiDictProxy(CIMultiDict(headers)), 1614265330)
    assert check_claims(claims, [secret], body).id == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@pytest.mark.parametrize("size", [1, 24, 25, 26])
@pytest.mark.parametrize("prefix", ["whsec_", ""])
@pytest.mark.parametrize("padding", ["", "=", "=="])
async def test_a_standard_secret_is_the_same_with_padding_and_without(size, prefix, padding):
    key = bytes(range(size))
    secret = prefix + b64encode(key).decode().rstrip("=") + padding
    assert webhook_key(secret) == key
    assert secret_problem(secret) == ""
    claims, _ = read_claims(CIMultiDictProxy(CIMultiDict(standard(key=key))), NOW)
    assert check_claims(claims, [secret], BODY).id == "msg_1"
    assert sign("standard", secret, BODY, "msg_1", NOW)["webhook-signature"] == standard(key=key)["webhook-signature"]


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_=", "whsec_MfKQ9", "whsec_Mf KQ", "whsec_Mf-Q", "Mf!Q"])
def test_what_is_not_base64_is_no_standard_secret(secret):
    with pytest.raises(ValueError):  # noqa: PT011 - the words are binascii's
        webhook_key(secret)


@pytest.mark.parametrize("form", ["standard", "langsmith", "github"])
@pytest.mark.parametrize("secret", [WHSEC, PLAIN])
def test_what_is_signed_here_is_good_here(form, secret):
    headers = CIMultiDictProxy(CIMultiDict(sign(form, secret, BODY, "msg_1", NOW)))
    claims, wrong = read_claims(headers, NOW)
    assert (check_claims(claims, [secret], BODY).id, wrong) == ("msg_1" if form == "standard" else "", "")
    with pytest.raises(BadSignature):
        check_claims(claims, [secret], BODY + b" ")


async def test_a_signature_is_over_the_bytes_as_they_were_sent():
    squeezed = gzip.compress(BODY)
    async with signing(PLAIN) as served:
        coded = {"Content-Encoding": "gzip"}
        assert (await served.send(squeezed, query="", headers=hub(squeezed) | coded)).status == 202
        assert (await served.send(squeezed, query="", headers=hub(BODY) | coded)).status == 401


async def test_a_large_signed_body_is_checked_too():
    body = json.dumps({"text": "x" * 1_000_000}).encode()
    async with signing(PLAIN) as served:
        assert (await served.send(body, query="", headers=hub(body))).status == 202
        assert (await served.send(body, query="", headers=hub(body + b" "))).status == 401
        assert len(served.store.events) == 1


# What doesn't


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "the signature is missing"),
        (hub(b"{}"), "the signature is wrong"),
        (hub(secret="another"), "the signature is wrong"),
        ({"X-LangSmith-Signature": "sha256=abc"}, "64 hexadecimal digits"),
        ({"X-LangSmith-Signature": hub()["X-LangSmith-Signature"].removeprefix("sha256=")}, "64 hexadecimal digits"),
        (standard(b"{}"), "the signature is wrong"),
        (standard(at=NOW - TOLERANCE - 1), "5m1s behind this machine's clock"),
        (standard(at=NOW + 86400), "1d ahead of this machine's clock"),
        ({**standard(), "webhook-timestamp": str(int(NOW) - 1)}, "the signature is wrong"),
        ({**standard(), "webhook-timestamp": "soon"}, "not a time in Unix seconds"),
        ({**standard(), "webhook-id": "msg_2"}, "the signature is wrong"),
        ({**standard(), "webhook-id": ""}, "webhook-id is empty"),
        ({"webhook-signature": standard()["webhook-signature"]}, "webhook-id is missing"),
        ({**standard(), "webhook-signature": "v1a,abc="}, "has no v1"),
    ],
)
async def test_anything_else_is_refused_with_words(headers, words):
    async with signing(PLAIN, WHSEC) as served:
        answer = await served.send(BODY, query="", headers=headers)
        assert (answer.status, served.store.events) == (401, {})
        assert words in answer.json["error"]
        assert "signing_secrets" in answer.json["hint"]
        assert served.results[0][0] == "unauthorized"


async def test_a_header_sent_twice_is_none():
    twice = [f"X-LangSmith-Signature: {value}" for value in (*hub().values(), *hub().values())]
    async with signing(PLAIN) as served:
        answer = await served.send_raw(post(BODY, *twice, target=WEBHOOK_PATH))
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"more than once" in answer


async def test_without_signing_secrets_a_signature_counts_for_nothing():
    async with serving() as served:
        assert (await served.send(BODY, query="", headers=hub(secret="good"))).status == 401
        assert "signing_secrets" not in (await served.send(BODY, query="")).json["hint"]


async def test_a_good_secret_needs_no_signature_and_a_wrong_one_does_no_harm_to_it():
    async with signing(PLAIN, secrets=lambda: ("good",)) as served:
        assert (await served.send(BODY)).status == 202
        assert (await served.send(BODY, headers=hub(b"{}"))).status == 202
        answer = await served.send(BODY, query="?secret=bad")
        assert answer.json["error"] == "the secret is wrong, or was sent twice, and it has no signature"


async def test_nothing_of_a_signature_or_secret_is_logged_or_answered(caplog):
    caplog.set_level(logging.DEBUG)
    async with signing(PLAIN, WHSEC) as served:
        answers = [await served.send(BODY, query="", headers=headers) for headers in (hub(b"x"), standard(b"x"))]
    told = caplog.text + str([answer.body for answer in answers])
    for word in (PLAIN, WHSEC, *hub(b"x").values(), standard(b"x")["webhook-signature"]):
        assert word not in told


# What is covered counts for dedup


@pytest.mark.parametrize("type_", [b"issue.created", b"context_hub.commit.created.v1"])
async def test_a_webhooks_own_id_identifies_repetitions_once_its_signature_is_verified(type_):
    body = BODY.replace(b"issue.created", type_)
    again = body.replace(b"{}", b'{"more": 1}')
    async with signing(PLAIN, secrets=lambda: ("good",)) as served:
        first = await served.send(body, query="", headers=hub(body))
        assert (await served.send(again, query="", headers=hub(again))).json == {**first.json, "duplicate": True}
        # Whoever has only the secret could write any id, and so swallow somebody's event.
        forged = body.replace(b"{}", b'{"other": 1}')
        assert not (await served.send(forged)).json["duplicate"]
        assert not (await served.send(forged + b" ", headers=hub(b"no"))).json["duplicate"]


async def test_a_standard_webhooks_id_identifies_repetitions_signed_anew():
    async with signing(WHSEC) as served:
        first = await served.send(b'{"n": 1}', query="", headers=standard(b'{"n": 1}'))
        again = await served.send(b'{"n":1}', query="", headers=standard(b'{"n":1}', at=NOW + 60))
        other = await served.send(b'{"n": 1}', query="", headers=standard(b'{"n": 1}', message="msg_2"))
        assert [one.json["duplicate"] for one in (first, again, other)] == [False, True, False]


async def test_a_rules_window_counts_for_more_than_a_gateways_id():
    body = json.dumps({"rule_id": "r", "start_time": "a", "end_time": "b", "runs": [{"id": "1"}]}).encode()
    async with signing(WHSEC) as served:
        answers = [await served.send(body, query="", headers=standard(body, message=name)) for name in "ab"]
        assert [answer.json["duplicate"] for answer in answers] == [False, True]


async def test_senders_with_secrets_of_their_own_may_use_the_same_ids():
    billing, support = b'{"from": "billing"}', b'{"from": "support"}'
    async with signing(WHSEC, OTHER) as served:
        sent = [(billing, KEY), (support, b"no" * 16), (support + b" ", b"no" * 16)]
        answers = [await served.send(body, query="", headers=standard(body, key=key)) for body, key in sent]
    assert [answer.json["duplicate"] for answer in answers] == [False, False, True]


async def test_a_sender_that_signs_with_two_secrets_while_they_rotate_is_one_sender():
    one, two = standard(), standard(key=b"no" * 16)
    both = {**one, "webhook-signature": f"{two['webhook-signature']} {one['webhook-signature']}"}
    async with signing(WHSEC, OTHER) as served:
        answers = [await served.send(BODY, query="", headers=headers) for headers in (one, both)]
    assert [answer.json["duplicate"] for answer in answers] == [False, True]


def test_the_identity_of_a_signer_reveals_no_secret():
    claims, _ = read_claims(CIMultiDictProxy(CIMultiDict(standard())), NOW)
    by = check_claims(claims, [PLAIN, WHSEC], BODY).by
    assert len(by) == 8
    assert by not in WHSEC


class Begun(Spans):
    """Remembers the spans that were begun."""

    def __init__(self) -> None:
        self.parents: list[str] = []

    def begin(self, _name, parent, *_):
        self.parents.append(parent)
        return Span(parent)


@pytest.mark.parametrize("size", [0, 100_000], ids=["on-the-loop", "in-a-thread"])
async def test_a_trace_begins_with_a_good_signature_and_not_with_something_like_one(size):
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    body, spans = BODY + b" " * size, Begun()
    async with signing(PLAIN, spans=spans) as served:
        for headers, status in (({"X-Hub-Signature-256": f"sha256={'0' * 64}"}, 401), (hub(body), 202)):
            answer = await served.send(body, query="", headers={**headers, "traceparent": trace})
            assert answer.status == status
            assert spans.parents == ([] if status == 401 else [trace])
        assert next(iter(served.store.events.values())).trace == trace


# Whatever the headers say


_HEADERS = [*HEADERS.values(), "webhook-id", "webhook-timestamp"]
_TEXT = (
    st.text(max_size=40) | st.from_regex(r"(sha256=|v1,)[0-9a-fA-F+/=]{0,70}", fullmatch=True) | st.just("1700000000")
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_HEADERS), _TEXT), max_size=8), st.binary(max_size=40))
def test_no_headers_raise_anything_or_are_good_by_chance(headers, body):
    claims, _wrong = read_claims(CIMultiDictProxy(CIMultiDict(headers)), NOW)
    with pytest.raises(BadSignature):
        check_claims(claims, [PLAIN, WHSEC], body)


# Strangers' bodies


async def test_bodies_of_unknown_senders_use_at_most_a_quarter_of_the_memory():
    admission = Admission(4_000)
    async with signing(PLAIN, secrets=lambda: ("good",), admission=admission) as served:
        slow = post(b"{" + b" " * 900, *[f"{k}: {v}" for k, v in hub().items()], target=WEBHOOK_PATH, length=1_000)
        waiting = asyncio.create_task(served.send_raw(slow))
        async with asyncio.timeout(2):
            while admission.unauthenticated != 901:
                await asyncio.sleep(0.01)
        stranger = await served.send(b" " * 200, query="", headers=hub())
        assert (stranger.status, served.results[-1][0]) == (503, "overloaded")
        assert "unchecked signature" in stranger.json["error"]
        assert (await served.send(b"{" + b" " * 2_000 + b"}")).status == 202
        assert (await waiting).startswith(b"HTTP/1.1 503")
    assert (admission.unauthenticated, admission.held) == (0, 0)


async def test_a_sender_of_more_bytes_than_announced_is_stopped():
    admission = Admission(4_000)
    async with signing(PLAIN, admission=admission) as served:

        async def pieces():
            for _ in range(20):
                yield b" " * 100

        assert (await served.send(pieces(), query="", headers=hub())).status == 503
        assert (admission.unauthenticated, admission.held) == (0, 0)


async def test_verified_bodies_free_memory_for_other_unknown_senders_while_the_store_is_slow():
    admission, stuck = Admission(40_000), asyncio.Event()
    store = FakeStore(stuck=stuck)
    async with signing(PLAIN, admission=admission, store=store) as served:
        bodies = [json.dumps({"n": n, "pad": "x" * 8_000}).encode() for n in range(3)]
        sent = [asyncio.create_task(served.send(body, query="", headers=hub(body))) for body in bodies]
        async with asyncio.timeout(2):
            while admission.under_way != 3:
                await asyncio.sleep(0.01)
        assert admission.unauthenticated == 0
        stuck.set()
        assert {(await one).status for one in sent} == {202}

"""The webhook sink, the object store, and the payloads."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import aiohttp
import pytest

from engine.core.event import Kind, parse_event
from engine.testing import LangSmithStandIn, ObjectStore, WebhookSink, payloads


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as one:
        yield one


SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes or so").decode()


def _signed(body: bytes, *, at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, b"msg_1." + stamp.encode() + b"." + body, hashlib.sha256).digest()
    signature = f"v1,bm9uc2Vuc2U= v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}


async def test_the_sink_answers_as_configured_then_as_usual(sink, session):
    sink.answer_with(404, 410, body="gone")
    statuses = []
    for _ in range(3):
        async with session.post(sink.url) as response:
            statuses.append((response.status, await response.text()))
    assert statuses == [(404, "gone"), (410, "gone"), (200, "ok")]


async def test_the_sink_verifies_standard_webhooks(session):
    body = json.dumps({"a": "ü"}).encode()
    wrong = "whsec_" + base64.b64encode(b"another secret").decode()
    cases = [
        (_signed(body), 200, "ok"),
        ({}, 401, "missing"),
        (_signed(body, at=time.time() - 600), 401, "too far off"),
        (_signed(body, secret=wrong), 401, "does not match"),
        (_signed(body + b" "), 401, "does not match"),
    ]
    async with WebhookSink(verify_with=SECRET) as sink:
        for headers, status, words in cases:
            async with session.post(sink.url, data=body, headers=headers) as response:
                assert (response.status, words in await response.text()) == (status, True)


async def test_an_object_is_read_through_its_presigned_url(session):
    async with ObjectStore() as store, session.get(store.put("runs/1 ü/inputs", {"q": 1})) as response:
        assert (response.status, await response.json()) == (200, {"q": 1})


async def test_an_expired_url_is_refused_as_s3_refuses_it(session):
    now = [1_000_000.0]
    async with ObjectStore(clock=lambda: now[0]) as store:
        url = store.put("k", b"{}", expires_in=60)
        now[0] += 60
        async with session.get(url) as response:
            text = await response.text()
            assert (response.status, response.content_type) == (403, "application/xml")
        assert "<Code>AccessDenied</Code><Message>Request has expired</Message>" in text
        assert "<Expires>1970-01-12T13:47:40Z</Expires>" in text
        async with session.get(store.presign("k")) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda url: url.replace("Signature=", "Signature=0"), 403, "SignatureDoesNotMatch"),
        (lambda url: url.replace("/objects/k", "/objects/other"), 403, "SignatureDoesNotMatch"),
        (lambda url: url.partition("?")[0], 403, "AccessDenied"),
    ],
)
async def test_a_url_that_was_tampered_with_is_refused(session, change, status, code):
    async with ObjectStore() as store, session.get(change(store.put("k", b"{}"))) as response:
        assert response.status == status
        assert f"<Code>{code}</Code>" in await response.text()


async def test_objects_are_only_read(session):
    async with ObjectStore() as store:
        async with session.get(store.presign("a&b")) as response:
            assert response.status == 404
            assert "<Key>a&amp;b</Key>" in await response.text()
        async with session.put(store.presign("k"), data=b"x") as response:
            assert response.status == 405


def test_the_seed_is_the_documentations_payload():
    seed = payloads.seed()
    assert (seed["rule_id"], len(seed["runs"])) == (payloads.RULE_ID, 1)
    run = seed["runs"][0]
    assert (run["name"], run["status"], run["inputs"], run["feedback_stats"]) == ("Search", "success", None, None)
    assert payloads.feedback_stats()["user_score"] == {
        "n": 2,
        "avg": 0.0,
        "show_feedback_arrow": False,
        "values": {},
    }


def test_complete_runs_have_every_key_of_the_documented_one():
    documented = payloads.seed()["runs"][0].keys()
    runs = payloads.complete()["runs"]
    assert all(documented <= run.keys() for run in runs)
    assert len({run["id"] for run in runs}) == 3
    assert [run["status"] for run in runs] == ["success", "success", "error"]


def test_runs_are_numbered_and_do_not_share_state():
    assert payloads.run(7) == payloads.run(7)
    assert payloads.run(7)["id"] != payloads.run(8)["id"]
    payloads.run(7)["inputs"]["title"] = "changed"
    assert payloads.run(7)["inputs"]["title"] != "changed"
    assert len({run["id"] for run in payloads.several(50)["runs"]}) == 50


def test_what_was_left_out_has_a_url_in_its_place():
    run = payloads.with_s3(payloads.run(), inputs="https://s3.example/k?Signature=x")
    assert run["inputs"] is None
    assert run["inputs_s3_urls"]["ROOT"]["presigned_url"] == "https://s3.example/k?Signature=x"
    assert run["outputs"] == {"output": "question"}


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (payloads.seed(), Kind.RULE),
        (payloads.complete(), Kind.RULE),
        (payloads.threads(2), Kind.RULE),
        (payloads.alert(), Kind.ALERT),
        (payloads.prompt_commit(), Kind.PROMPT),
        (payloads.issue(), Kind.ISSUE),
        (payloads.issue("issue.trace.added"), Kind.ISSUE),
        (payloads.context_hub_commit(), Kind.CONTEXT_HUB),
    ],
)
def test_every_payload_is_of_the_kind_it_claims(payload, kind):
    event = parse_event(payloads.to_body(payload), 0.0)
    assert (event.kind, event.payload, event.repaired) == (kind, payload, False)


async def test_a_payloads_runs_can_be_held_by_the_stand_in(langsmith: LangSmithStandIn, session):
    ids = [langsmith.add_run(run) for run in payloads.complete()["runs"]]
    async with session.post(f"{langsmith.url}/api/v1/runs/query", json={"id": ids}) as response:
        assert {run["id"] for run in (await response.json())["runs"]} == set(ids)


@pytest.mark.parametrize("levels", [150, 240, 254, 900, 1100, 5000])
async def test_a_stand_in_answers_whatever_depth_it_is_sent(session, levels):
    """orjson reads 1,024 levels and writes 254; a stand-in must not fail over what it was sent."""
    nested = '{"inputs":{"a":' + "[" * levels + "]" * levels + "}}"
    async with LangSmithStandIn() as langsmith, WebhookSink() as sink:
        for url in (sink.url, f"{langsmith.url}/api/v1/runs/query", f"{langsmith.url}/api/v1/feedback"):
            async with session.post(url, data=nested, headers={"X-API-Key": "k"}) as response:
                assert response.status < 500
                await response.read()
        assert langsmith.crashes == sink.crashes == []

"""forward_webhook against a receiver that records."""

from __future__ import annotations

import base64
from types import MappingProxyType

import pytest
from action_samples import RUN
from pydantic import ValidationError

from actions.forward_webhook import ForwardWebhook
from engine import Discard
from engine.action.failures import classify
from engine.core.document import Missing
from engine.core.errors import HttpFailure
from engine.testing import WebhookSink

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


async def test_sends_the_payload_as_json_under_the_deliverys_id(attempt, sink):
    result = await attempt(ForwardWebhook(), {"url": sink.url}, delivery_id="d-1")
    (request,) = sink.received
    assert (request.method, request.body["runs"]) == ("POST", [RUN])
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["webhook-id"] == "d-1"
    assert request.headers["User-Agent"].startswith("langsmith-rules-engine")
    assert "webhook-signature" not in request.headers
    assert result == {"status": 200, "response": "ok"}


async def test_what_was_not_fetched_is_null_in_the_payload(attempt, sink):
    run = RUN | {"inputs": Missing("inputs", "not fetched")}
    await attempt(ForwardWebhook(), {"url": sink.url}, run=run)
    assert sink.received[0].body["runs"][0]["inputs"] is None


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ({"a": [1, None]}, b'{"a":[1,null]}', "application/json"),
        ([1], b"[1]", "application/json"),
        (False, b"false", "application/json"),
        ("häh", "häh".encode(), "text/plain; charset=utf-8"),
        (None, b"", None),
    ],
)
async def test_a_body_of_ones_own_is_sent_as_what_it_is(attempt, sink, body, sent, content_type):
    await attempt(ForwardWebhook(), {"url": sink.url, "body": body})
    (request,) = sink.received
    assert request.raw == sent
    assert request.headers.get("Content-Type") in (content_type, "application/octet-stream")


@pytest.mark.parametrize("number", [1, 2**70])
async def test_a_mapping_stays_one_beside_a_number_of_any_size(attempt, sink, number):
    body = {"n": number, "of": MappingProxyType({"a": [1, None]})}
    await attempt(ForwardWebhook(), {"url": sink.url, "body": body})
    assert sink.received[0].body == {"n": number, "of": {"a": [1, None]}}


async def test_a_content_type_that_was_given_counts(attempt, sink):
    params = {"url": sink.url, "body": "<a/>", "headers": {"content-type": "application/xml"}}
    await attempt(ForwardWebhook(), params)
    assert sink.received[0].headers.getall("Content-Type") == ["application/xml"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/a+json", "text/json"]
)
@pytest.mark.parametrize(
    "body", ['{"a": "x"y"}', '{"a": NaN}', "", "yes", '{"a": 1} {}', "[" * 100_000], ids=lambda body: body[:12]
)
async def test_a_text_that_is_no_json_is_not_sent_as_json(attempt, sink, body, content_type):
    with pytest.raises(ValidationError, match=r"body is not JSON.*write the body as a mapping"):
        await attempt(ForwardWebhook(), {"url": sink.url, "body": body, "headers": {"content-type": content_type}})
    assert not sink.received


async def test_a_text_that_is_json_is_sent_as_it_stands(attempt, sink):
    params = {"url": sink.url, "body": '{"a":  1}\n', "headers": {"Content-Type": "application/json"}}
    await attempt(ForwardWebhook(), params)
    assert sink.received[0].raw == b'{"a":  1}\n'


async def test_a_mapping_is_sent_as_the_form_that_its_content_type_says(attempt, sink):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    body = {"text": "a & b\n", "n": 3, "flag": True, "many": ["x", 1], "none": None}
    await attempt(ForwardWebhook(), {"url": sink.url, "body": body, "headers": headers})
    assert sink.received[0].raw == b"text=a+%26+b%0A&n=3&flag=true&many=x&many=1"
    with pytest.raises(Discard, match="field 'a' is neither"):
        await attempt(ForwardWebhook(), {"url": sink.url, "body": {"a": {}}, "headers": headers})


async def test_method_headers_and_query_are_sent(attempt, sink):
    params = {
        "url": f"{sink.url}?a=1",
        "method": "PUT",
        "headers": {"X-Token": "t", "X-Number": 3, "X-Flag": True},
        "query": {"b": [1, "zwei"], "c": True},
    }
    await attempt(ForwardWebhook(), params)
    (request,) = sink.received
    assert request.method == "PUT"
    assert [request.headers[name] for name in ("X-Token", "X-Number", "X-Flag")] == ["t", "3", "true"]
    assert list(request.query.items()) == [("a", "1"), ("b", "1"), ("b", "zwei"), ("c", "true")]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_get_and_delete_have_no_body_unless_one_is_given(attempt, sink, method):
    await attempt(ForwardWebhook(), {"url": sink.url, "method": method})
    assert sink.received[0].raw == b""


async def test_signatures_are_what_standard_webhooks_want(attempt):
    async with WebhookSink(verify_with=SECRET) as sink:
        assert await attempt(ForwardWebhook(), {"url": sink.url, "sign_with": SECRET})
        other = "whsec_" + base64.b64encode(b"another one").decode()
        assert await attempt(ForwardWebhook(), {"url": sink.url, "sign_with": [other, SECRET]})
        assert await attempt(ForwardWebhook(), {"url": sink.url, "sign_with": SECRET.removeprefix("whsec_")})
    long = "whsec_" + base64.b64encode(b"a key of 25 bytes, padded").decode()
    async with WebhookSink(verify_with=long) as sink:
        assert long.endswith("==")
        assert await attempt(ForwardWebhook(), {"url": sink.url, "sign_with": long.rstrip("=")})
    async with WebhookSink(verify_with=SECRET) as sink:
        other = "whsec_" + base64.b64encode(b"another").decode()
        with pytest.raises(HttpFailure, match="does not match"):
            await attempt(ForwardWebhook(), {"url": sink.url, "sign_with": other})


async def test_the_signature_of_the_specifications_example(make_context, monkeypatch):
    """Standard Webhooks' own libraries test against this triple of id, time and body."""
    from actions import forward_webhook

    monkeypatch.setattr(forward_webhook.time, "time", lambda: 1614265330.5)
    params = ForwardWebhook.Params(url="http://x.y", sign_with="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    context = make_context(delivery_id="msg_p5jXN8AQM9LWM0D4loKWxJek")
    headers = forward_webhook._identity(params, context, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


async def test_redirects_are_not_followed_and_the_reason_names_the_target(attempt, sink):
    sink.faults.add(status=302, headers={"Location": "https://example.org/new"})
    with pytest.raises(HttpFailure, match=r"HTTP 302: it redirects to https://example\.org/new") as caught:
        await attempt(ForwardWebhook(), {"url": sink.url})
    assert not classify(caught.value).retry
    assert len(sink.received) == 1


async def test_a_long_answer_is_read_in_part(attempt, sink):
    sink.faults.add(status=200, body=b"x" * 1_000_000)
    result = await attempt(ForwardWebhook(), {"url": sink.url})
    assert result["response"] == "x" * 2048 + "…"


async def test_an_answer_that_just_fits_is_whole(attempt, sink):
    sink.faults.add(status=200, body=b"x" * 2048)
    assert (await attempt(ForwardWebhook(), {"url": sink.url}))["response"] == "x" * 2048


async def test_an_answer_whose_body_breaks_still_counts_as_received(attempt, sink):
    sink.faults.add(status=200, body=b"not gzip", headers={"Content-Encoding": "gzip"})
    assert (await attempt(ForwardWebhook(), {"url": sink.url}))["status"] == 200


async def test_cookies_are_not_kept(attempt, sink):
    sink.faults.add(status=200, headers={"Set-Cookie": "a=b"})
    await attempt(ForwardWebhook(), {"url": sink.url})
    await attempt(ForwardWebhook(), {"url": sink.url})
    assert "Cookie" not in sink.received[1].headers


async def test_proxy_variables_are_not_read(attempt, sink, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await attempt(ForwardWebhook(), {"url": sink.url})


SLASHES = ["/", "\\", "%2f", "%2F", "%5c", "%5C", "%252f", "%25252F", "%255C", "%u002f", "%u005C", "%c0%af", "%c1%9C"]
DOTS = ["..", ".", "%2e%2e", "%2E.", ".%2e", "%252e%252E", "%c0%ae.", "%u002e%u002E", "%25c0%25ae."]
AUTHORS = [
    "https://x.y",
    "https://x.y/",
    "https://x.y/.well-known/hook",
    "https://x.y/a/.../b",
    "https://x.y/a/..b/c../.d/e.",
    "https://x.y/api/v4/projects/group%2Fproject/repository/files/lib%2Fclass%2Erb",
    "https://x.y/a%2f.hidden/b%5c...",
    "https://x.y:8443/triggers/manual/paths/invoke?sp=%2F..%2Fmanual&u=../x#/../",
    "https://user:p%40ss@x.y/a;v=1.0/b",
    "https://x.y/%E8%B3%AA/%25/100%25",
    "http://[::1]:80/x",
    "http://[fe80::1%25eth0]/x",
    "https://bücher.example/x",
    "https://a_b.internal/x",
    "HTTPS://X.Y/x",
]


@pytest.mark.parametrize("slash", SLASHES)
@pytest.mark.parametrize("dots", DOTS)
def test_dots_lead_to_no_other_path_however_they_are_written(slash, dots):
    for end in [*(f"{sign}b" for sign in (*SLASHES, ";", "%3b", "%253B", "%00")), "", "?b", "#b"]:
        with pytest.raises(ValidationError, match=r"url contains /\.\./ or /\./, maybe encoded"):
            ForwardWebhook.Params(url=f"https://x.y/a{slash}{dots}{end}")


@pytest.mark.parametrize("url", AUTHORS)
def test_what_an_author_writes_is_left_alone(url):
    assert ForwardWebhook.Params(url=url).url == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://[::1/x", "Invalid IPv6 URL"),
        ("http://[::1]x/", ""),
        ("http://x.y:99999/", "Port out of range"),
        ("http://x.y:port/", "Port could not be cast"),
        ("http://x.y:-1/", "Port could not be cast"),
        ("http://x\u2028y/", ""),
        ("http://x\x85y/", ""),
        ("http://\u2100/", "NFKC"),
        ("http://127.0.0.1\\@x.y/", ""),
        ("http://@:80/", ""),
        ("http://x%41.y/", "a host cannot contain '%'"),
        ('http://x"y/', "a host cannot contain '\"'"),
        ("http://x|y/", r"a host cannot contain '\|'"),
        ("http://{x}/", "a host cannot contain '{'"),
    ],
)
def test_a_url_that_cannot_be_parsed_is_refused(url, why):
    with pytest.raises(ValidationError, match=f"url cannot be parsed: .*{why}"):
        ForwardWebhook.Params(url=url)


@pytest.mark.parametrize("control", ["\x00", "\t", "\n", "\r", "\x1b", "\x7f", " "])
@pytest.mark.parametrize("url", ["http://x{}y/", "http://x.y/a{}b", "http://x.y/?a={}b", "{}http://x.y/"])
def test_a_control_character_in_a_url_is_refused(url, control):
    with pytest.raises(ValidationError, match="url contains a space or a control character"):
        ForwardWebhook.Params(url=url.format(control))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"url": "ftp://x.y"}, "must be absolute"),
        ({"url": "/hook"}, "must be absolute"),
        ({"url": "https://"}, "must be absolute"),
        ({"url": "https://x.y/a b"}, "needs | urlencode there".replace("|", r"\|")),
        ({"url": "https://x.y/a/../b"}, "lead to another path"),
        ({"url": "https://x.y/a/%2E./b"}, "lead to another path"),
        ({"url": "https://x.y:0/"}, "no usable port"),
        ({"url": "https://x.y:99999/"}, "Port out of range"),
        ({"headers": {"X": "a\r\nEvil: 1"}}, r"line break.*needs \| urlencode there"),
        ({"headers": {"X": "a\x00"}}, "control character"),
        ({"headers": {"X Y": "a"}}, "not a header name"),
        ({"headers": {"X\r\nY": "a"}}, "not a header name"),
        ({"headers": {"Webhook-Id": "a"}}, "set by the engine"),
        ({"headers": {"Content-Type": "a/b", "content-type": "c/d"}}, "more than once"),
        ({"headers": {"Content-Length": "1"}}, "set by the engine"),
        ({"sign_with": "whsec_not base64"}, "whsec_ followed by base64"),
        ({"sign_with": ""}, "whsec_ followed by base64"),
        ({"method": "post"}, "POST"),
    ],
)
def test_what_could_never_be_sent_is_refused(params, words):
    with pytest.raises(ValidationError, match=words):
        ForwardWebhook.Params.model_validate({"url": "https://x.y"} | params, strict=True)


def test_the_destination_is_the_origin_without_credentials():
    params = ForwardWebhook.Params(url="https://user:secret@x.y:8443/hook?token=1")
    assert ForwardWebhook().destination(params) == "https://x.y:8443"

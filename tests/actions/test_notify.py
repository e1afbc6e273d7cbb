"""notify through the real Apprise, to a recording receiver and to a real mail server."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import logging
import re
import sys
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from aiosmtpd.smtp import SMTP
from pydantic import ValidationError

from actions.notify import Notify, _message
from engine import Discard, Retry


def address(sink, scheme="json"):
    return sink.origin.replace("http", scheme) + "/hook"


async def test_notifies_every_url(attempt, sink):
    params = {
        "urls": [address(sink), address(sink, "xml")],
        "title": "Bad run",
        "body": "It was bad",
        "type": "warning",
    }
    assert await attempt(Notify(), params) == {"services": 2}
    json_request = next(request for request in sink.received if request.body)
    assert (json_request.body["title"], json_request.body["message"]) == ("Bad run", "It was bad")
    assert json_request.body["type"] == "warning"
    assert len(sink.received) == 2


async def test_one_url_may_be_written_without_a_list(attempt, sink):
    await attempt(Notify(), {"urls": address(sink), "body": "b"})
    assert sink.received[0].body["type"] == "info"


@pytest.fixture
async def mail():
    """A real SMTP server on loopback, and what it was handed."""
    handed = []

    class Handler:
        async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
            handed.append(envelope)
            return "250 OK"

    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler()), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], handed
    server.close()


async def test_sends_mail(attempt, mail):
    port, handed = mail
    url = f"mailto://127.0.0.1:{port}/?from=engine@example.com&to=me@example.com"
    await attempt(Notify(), {"urls": url, "title": "Bad run", "body": "It was bad"})
    (envelope,) = handed
    assert envelope.rcpt_tos == ["me@example.com"]
    assert b"Subject: Bad run" in envelope.content


async def test_a_message_is_text_where_mail_is_html(attempt, mail):
    port, handed = mail
    url = f"mailto://127.0.0.1:{port}/?from=engine@example.com&to=me@example.com&format=html"
    await attempt(Notify(), {"urls": url, "body": "<script>alert(1)</script> & more"})
    message = email.message_from_bytes(handed[0].content, policy=email.policy.default)
    html = message.get_body(("html",)).get_content()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


async def test_a_service_that_refuses_is_tried_again(attempt, sink):
    sink.answer_with(500)
    with pytest.raises(Retry, match=r"json: .*Internal server error"):
        await attempt(Notify(), {"urls": address(sink), "body": "b"})


async def test_a_retry_goes_only_to_the_urls_that_failed(attempt, sink):
    progress = {}
    params = {"urls": [address(sink), address(sink, "xml"), address(sink, "form")], "body": "b"}
    sink.faults.add(status=500, path="/xml")
    params["urls"][1] = address(sink, "xml").replace("/hook", "/xml")
    with pytest.raises(Retry, match=r"^xml: "):
        await attempt(Notify(), params, progress=progress)
    assert sorted(name.split()[0] for name in progress["notified"]) == ["form", "json"]
    sink.received.clear()
    assert await attempt(Notify(), params, attempt=2, progress=progress) == {"services": 3}
    assert [request.path for request in sink.received] == ["/xml"]


async def test_what_was_reached_is_known_though_another_service_hangs(attempt, sink):
    progress = {}
    sink.faults.add(hang=30, path="/slow")
    params = {"urls": [address(sink), address(sink, "xml").replace("/hook", "/slow")], "body": "b"}
    with pytest.raises(TimeoutError):
        await attempt(Notify(), params, timeout=1.5, progress=progress)
    assert [name.split()[0] for name in progress["notified"]] == ["json"]


async def test_a_url_that_stands_twice_is_notified_once(attempt, sink):
    await attempt(Notify(), {"urls": [address(sink)] * 2, "body": "b"})
    assert len(sink.received) == 1


async def test_what_is_noted_of_a_url_reveals_none_of_it(attempt, sink):
    progress = {}
    await attempt(Notify(), {"urls": address(sink) + "/s3cr3t", "body": "b"}, progress=progress)
    assert re.fullmatch(r"json [0-9a-f]{8}", progress["notified"][0])


async def test_a_redirect_is_final_and_says_so(attempt, sink):
    sink.faults.add(status=302, headers={"Location": f"{sink.origin}/s3cr3t"})
    with pytest.raises(Discard, match=r"^json: HTTP 302: redirects are not followed: configure") as caught:
        await attempt(Notify(), {"urls": address(sink), "body": "b"})
    assert "s3cr3t" not in str(caught.value)
    assert len(sink.received) == 1


async def test_pieces_of_an_address_are_not_taken_out_of_our_own_words(attempt, sink):
    sink.faults.add(status=302)
    with pytest.raises(Discard, match=r"^json: HTTP 302: redirects are not followed: configure the final address$"):
        await attempt(Notify(), {"urls": address(sink) + "/redir/final", "body": "b"})


async def test_a_redirect_does_not_end_what_another_service_may_still_get(attempt, sink):
    sink.faults.add(status=302, path="/moved")
    sink.faults.add(status=500, path="/hook")
    urls = [address(sink).replace("/hook", "/moved"), address(sink)]
    with pytest.raises(Retry, match=r"json: HTTP 302.*; json: "):
        await attempt(Notify(), {"urls": urls, "body": "b"})


@pytest.fixture
def no_pauses(monkeypatch):
    """Apprise waits 5.5 seconds between two messages to ntfy."""
    from apprise.plugins.ntfy import NotifyNtfy

    monkeypatch.setattr(NotifyNtfy, "request_rate_per_sec", 0)


@pytest.mark.usefixtures("no_pauses")
async def test_a_long_message_arrives_whole_in_parts_that_the_service_takes(attempt, sink):
    words = " ".join(f"word-{number}" for number in range(3_000))
    assert await attempt(Notify(), {"urls": address(sink, "ntfy"), "title": "Long", "body": words}) == {"services": 1}
    parts = [request.body["message"] for request in sink.received]
    assert len(parts) == 4
    assert max(map(len, parts)) <= 7_800
    assert " ".join(parts).split() == words.split()


async def test_how_a_long_message_is_handled_may_stand_in_the_url(attempt, sink):
    await attempt(Notify(), {"urls": address(sink, "ntfy") + "?overflow=truncate", "body": "x" * 40_000})
    (request,) = sink.received
    assert len(request.body["message"]) == 7_800


async def test_a_service_without_a_limit_gets_a_long_message_whole(attempt, sink, mail):
    port, handed = mail
    urls = [address(sink), f"mailto://127.0.0.1:{port}/?from=engine@example.com&to=me@example.com"]
    body = "word " * 50_000
    await attempt(Notify(), {"urls": urls, "title": "t" * 400, "body": body})
    (request,) = sink.received
    assert (request.body["title"], request.body["message"]) == ("t" * 400, body.rstrip())
    assert len(handed) == 1


async def test_a_title_that_is_too_long_is_whole_in_the_message(attempt, sink):
    title = "long title " * 40
    await attempt(Notify(), {"urls": address(sink, "ntfy"), "title": title, "body": "the message"})
    (request,) = sink.received
    assert len(request.body["title"]) <= 200
    assert request.body["title"].endswith("…")
    assert request.body["message"] == f"{title}\nthe message"


@pytest.mark.usefixtures("no_pauses")
async def test_a_message_beyond_all_measure_is_cut_and_says_so(attempt, sink):
    result = await attempt(Notify(), {"urls": address(sink, "ntfy"), "body": "word " * 20_000})
    assert result == {"services": 1, "cut": ["29,850 characters of the body"]}
    assert 9 <= len(sink.received) <= 10
    assert sink.received[-1].body["message"].endswith("… (29,850 more characters were cut)")


def service(**limits):
    known = {"title_maxlen": 250, "body_maxlen": 2000, "body_max_line_count": 0, "request_rate_per_sec": 0}
    return [SimpleNamespace(**(known | {"overflow_mode": "split"} | limits))]


def test_lines_that_a_service_leaves_out_are_joined():
    params = Notify.Params(urls="growl://x", body="one\ntwo\nthree\nfour")
    assert _message(service(body_max_line_count=2), params, 10.0).body == "one\ntwo / three / four"


def test_a_title_of_just_the_length_that_a_service_takes_stands_by_itself():
    made = _message(service(title_maxlen=250), Notify.Params(urls="ntfy://x", title="t" * 250, body="x"), 10.0)
    assert (made.title, made.body) == ("t" * 250, "x")


@pytest.mark.parametrize(
    ("limits", "timeout", "fits"),
    [
        ({"request_rate_per_sec": 5.5}, 10.0, 3550),
        ({"request_rate_per_sec": 5.5}, 5.0, 1950),
        ({"request_rate_per_sec": 5.5}, 600.0, 17_950),
        ({"request_rate_per_sec": 0}, 1.0, 17_950),
        ({"request_rate_per_sec": 5.5, "title_maxlen": 0}, 5.0, 1944),
    ],
)
def test_a_message_has_no_more_parts_than_can_be_sent_in_time(limits, timeout, fits):
    whole = _message(service(**limits), Notify.Params(urls="ntfy://x", title="four", body="x" * fits), timeout)
    assert (whole.body, whole.cut) == ("x" * fits, 0)
    cut = _message(service(**limits), Notify.Params(urls="ntfy://x", title="four", body="x" * (fits + 7)), timeout)
    assert (cut.body, cut.cut) == ("x" * fits + "… (7 more characters were cut)", 7)


async def test_a_url_that_is_not_understood_is_dead_and_not_quoted(attempt):
    with pytest.raises(Discard, match=r"url 2 of 2 \(nonsense://…\)") as caught:
        await attempt(Notify(), {"urls": ["json://x", "nonsense://token"], "body": "b"})
    assert "token" not in str(caught.value)


async def test_apprise_logs_no_address(attempt, sink, caplog, capfd):
    caplog.set_level(logging.DEBUG, logger="apprise")
    sink.answer_with(500)
    with pytest.raises(Retry):
        await attempt(Notify(), {"urls": address(sink) + "/s3cr3t", "body": "b"})
    with pytest.raises(Discard):
        await attempt(Notify(), {"urls": "json://:s3cr3t", "body": "b"})
    with pytest.raises(Discard):
        await attempt(Notify(), {"urls": "nonsense://s3cr3t", "body": "b"})
    out, err = capfd.readouterr()
    assert "s3cr3t" not in caplog.text + out + err


async def test_without_apprise_it_says_what_to_install(attempt, monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(Retry, match=r"pip install 'langsmith-rules-engine\[notify\]'"):
        await attempt(Notify(), {"urls": "json://x", "body": "b"})


def test_it_lacks_nothing_but_apprise(monkeypatch):
    assert Notify().lacks() == ""
    monkeypatch.setattr("actions.notify.find_spec", lambda name: None)
    assert Notify().lacks() == "notify needs Apprise: pip install 'langsmith-rules-engine[notify]'"


def test_the_destination_names_services_only():
    params = Notify.Params(urls=["slack://TokenA/TokenB/TokenC", "mailto://user:pass@x.y"], body="b")
    assert Notify().destination(params) == "notify mailto, slack"


@pytest.mark.parametrize("params", [{"urls": [], "body": "b"}, {"urls": "", "body": "b"}, {"urls": "json://x"}])
def test_nothing_to_send_or_nowhere_to_send_it_is_refused(params):
    with pytest.raises(ValidationError):
        Notify.Params.model_validate(params, strict=True)


PASSWORD = "k9@Tr0ub4dor/3"


@pytest.mark.parametrize(
    "url",
    [
        f"json://bot:{PASSWORD}@127.0.0.1:9/n",
        f"form://{PASSWORD}@127.0.0.1:9",
        f"mailto://bot:{PASSWORD}@127.0.0.1:9/n",
        f"jsons://bot:{PASSWORD}@127.0.0.1:9/?verify=no",
        f"tgram://12345:{'Tr0ub4dor' * 4}/Tr0ub4dor",
        f"xml://Tr0ub4dor.invalid/?+X-Key={PASSWORD}",
        f"{PASSWORD}://host",
        "json://Tr0ub4dor%2Ek9:9/",
    ],
)
async def test_no_part_of_an_address_is_shown_however_apprise_divides_it(attempt, url, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with pytest.raises((Retry, Discard)) as caught:
        await attempt(Notify(), {"urls": url, "body": "b"})
    out, err = capfd.readouterr()
    told = f"{caught.value} {Notify().destination(Notify.Params(urls=url, body='b'))}"
    engines = "".join(record.getMessage() for record in caplog.records if record.name.startswith("engine"))
    assert not re.search(r"tr0ub4dor|\bk9\b", told + engines + out + err, re.IGNORECASE)


async def test_what_apprise_raises_is_named_and_not_quoted(attempt, monkeypatch):
    async def burst(*_args, **_options):
        raise ValueError(f"bad host {PASSWORD}")

    monkeypatch.setattr("apprise.Apprise.async_notify", burst)
    with pytest.raises(Retry, match=r"^json: Apprise raised ValueError$"):
        await attempt(Notify(), {"urls": f"json://{PASSWORD}", "body": "b"})


async def test_statuses_and_innocent_words_stay(attempt, sink):
    sink.answer_with(500)
    with pytest.raises(Retry, match=r"^json: Failed to send JSON POST notification: Internal server error."):
        await attempt(Notify(), {"urls": address(sink) + "?to=a&format=text", "body": "b"})


async def test_a_password_that_is_encoded_arrives_as_it_is(attempt, sink):
    url = address(sink).replace("json://", f"json://bot:{quote(PASSWORD, safe='')}@")
    await attempt(Notify(), {"urls": url, "body": "b"})
    sent = sink.received[0].headers["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"bot:{PASSWORD}"

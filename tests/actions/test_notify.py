"""notify through the real Apprise, to a recording receiver and to a real mail server."""

from __future__ import annotations

import asyncio
import email
import email.policy
import logging
import sys

import pytest
from aiosmtpd.smtp import SMTP
from pydantic import ValidationError

from actions.notify import Notify
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

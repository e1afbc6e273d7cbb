"""What goes out on the wire: nothing that an event says ends a line early, or a header, or a request."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from actions.forward_webhook import ForwardWebhook
from actions.post_to_slack import PostToSlack
from engine.clients.network import parse_network
from engine.clients.session import open_session

BREAKS = [
    "\r\nX-Evil: 1",
    "\nX-Evil: 1",
    "\rX-Evil: 1",
    "\0",
    "\u560d\u560aX-Evil: 1",
    "\x85X-Evil: 1",
    "\u2028X-Evil: 1",
]
HOSTILE = (
    st.text(max_size=30)
    | st.sampled_from(BREAKS)
    | st.builds("{}{}{}".format, st.text(max_size=5), st.sampled_from(BREAKS), st.text())
)
FEW = settings(max_examples=40, deadline=None, derandomize=True)


@asynccontextmanager
async def wire():
    """A server that keeps the bytes it gets, to the last one, and answers every request with ok."""
    got: list[bytes] = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        got.append(head + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        got.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], got


def sent(make_context, action, params) -> bytes:
    """The bytes that one attempt sends; none where the parameters are refused."""

    async def run() -> bytes:
        async with wire() as (port, got), open_session(lambda: parse_network(["127.0.0.1"])) as http:
            try:
                checked = action.Params.model_validate(params(port), strict=True)
            except ValidationError:
                return b""
            await action.run(checked, make_context(http=http))
            await http.close()
            assert len(got) in (1, 2)
            assert b"".join(got[1:]) == b"", "a second request"
            return got[0]

    return asyncio.run(run())


def check(request: bytes, *more: str) -> tuple[str, dict[str, str]]:
    """The request's target and headers; it has one line for each of the expected ones, and no other."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert not re.search(rb"[\r\n\0]", first + b"".join(lines))
    method, target, version = first.split(b" ")
    assert (method, version) == (b"POST", b"HTTP/1.1")
    headers = {name.decode().lower(): value.decode() for name, _, value in (line.partition(b": ") for line in lines)}
    usual = {"host", "user-agent", "accept", "accept-encoding", "content-type", "content-length"}
    assert set(headers) == usual | set(more)
    assert len(lines) == len(headers)
    assert int(headers["content-length"]) == len(body)
    return target.decode(), headers


@pytest.fixture(scope="module")
def contexts():
    """What an action knows of its delivery, without anything that belongs to a loop."""
    from types import SimpleNamespace

    def make(**fields):
        known = {
            "payload": {"runs": []},
            "payloads": None,
            "delivery_id": "d-1",
            "timeout": 10.0,
            "run": None,
            "route": "r",
        }
        return SimpleNamespace(**known, **fields)

    return make


@FEW
@given(HOSTILE)
@example("ok")
def test_a_headers_value_is_one_value_or_refused(contexts, text):
    request = sent(
        contexts, ForwardWebhook(), lambda port: {"url": f"http://127.0.0.1:{port}/", "headers": {"X-A": text}}
    )
    if request:
        _, headers = check(request, "webhook-id", "x-a")
        assert headers["x-a"].strip(" \t") == text.strip(" \t")
    else:
        assert re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text)


@FEW
@given(HOSTILE)
@example("ok")
def test_a_headers_name_is_a_name_or_refused(contexts, text):
    params = lambda port: {"url": f"http://127.0.0.1:{port}/", "headers": {f"X-{text}": "v"}}  # noqa: E731
    if request := sent(contexts, ForwardWebhook(), params):
        check(request, "webhook-id", f"x-{text}".lower())


@FEW
@given(HOSTILE)
@example("/a b")
@example("?a=b#c")
def test_a_url_stays_one_target_on_its_own_host(contexts, text):
    params = lambda port: {"url": f"http://127.0.0.1:{port}/in/{text}"}  # noqa: E731
    if request := sent(contexts, ForwardWebhook(), params):
        target, headers = check(request, "webhook-id")
        assert target.startswith("/in/")
        assert headers["host"].startswith("127.0.0.1:")


@FEW
@given(HOSTILE, HOSTILE)
@example("a&b=c", "d#e")
def test_a_query_is_data(contexts, name, value):
    from urllib.parse import parse_qsl

    params = lambda port: {"url": f"http://127.0.0.1:{port}/", "query": {name: value}}  # noqa: E731
    target, _ = check(sent(contexts, ForwardWebhook(), params), "webhook-id")
    assert parse_qsl(target.partition("?")[2], keep_blank_values=True) == [(name, value)]


@FEW
@given(HOSTILE)
def test_nothing_of_a_slack_message_leaves_its_body(contexts, text):
    params = lambda port: {  # noqa: E731
        "webhook_url": f"http://127.0.0.1:{port}/",
        "text": f"t{text}",
        "username": text,
        "thread_ts": text,
    }
    check(sent(contexts, PostToSlack(), params))

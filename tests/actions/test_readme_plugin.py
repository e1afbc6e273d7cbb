"""The README's plug-in, as it stands there, against a real HTTP server that answers in every way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine import Action, read_response, read_text
from engine.action.failures import classify
from engine.action.plugin_files import PluginLoader
from engine.action.registry import Registry
from engine.core.errors import HttpFailure
from tests.actions.conftest import Attempts

README = (Path(__file__).parents[2] / "README.md").read_text()
Answered = Callable[..., str]


@pytest.fixture
def open_ticket(tmp_path: Path) -> Action:
    (text,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "open_ticket.py").write_text(text)
    registered = PluginLoader().load([tmp_path], Registry({})).get("open_ticket")
    assert registered is not None
    return registered.action


@pytest.fixture
async def tickets() -> AsyncIterator[tuple[str, dict[str, Any], list[Any]]]:
    """Its URL, how it answers (arguments of a response), and what it was sent."""
    answer: dict[str, Any] = {}
    seen: list[Any] = []

    async def take(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        if "broken" not in answer:
            return web.Response(**answer)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(answer["broken"])
        request.transport.close()
        return response

    app = web.Application()
    app.router.add_post("/tickets", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/tickets", answer, seen
    await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "ticket"),
    [
        ({"text": '{"id": 7}', "content_type": "application/json"}, {"id": 7}),
        ({"status": 201, "text": '{"id": 7}', "content_type": "text/html"}, {"id": 7}),
        ({"body": b'\xef\xbb\xbf{"id": 7}'}, {"id": 7}),
        ({"text": '{"key": "T-1"}', "content_type": "application/json"}, {"key": "T-1"}),
        ({"text": "[1, 2]", "content_type": "application/json"}, [1, 2]),
        ({"text": "18446744073709551617", "content_type": "application/json"}, 2**64 + 1),
        ({"text": "<h1>Thanks</h1>", "content_type": "text/html"}, "<h1>Thanks</h1>"),
        ({"text": "<h1>Thanks</h1>", "content_type": "application/json"}, "<h1>Thanks</h1>"),
        ({"text": "NaN", "content_type": "application/json"}, "NaN"),
        ({"body": b"\xff ok"}, "\ufffd ok"),
        ({"text": "[" * 100_000}, "[" * 100_000),
        ({"text": "x" * 2_000_000}, "x" * (1 << 20) + "…"),
        ({"status": 204}, None),
        ({"status": 200, "text": " \n"}, None),
    ],
)
async def test_a_ticket_is_opened_once_whatever_the_answer_holds(
    open_ticket: Action, tickets: Any, attempt: Attempts, answer: dict[str, Any], ticket: Any
) -> None:
    url, answers, seen = tickets
    answers |= answer
    assert await attempt(open_ticket, {"url": url, "title": "bad"}, delivery_id="d-1") == {"ticket": ticket}
    assert seen == [{"title": "bad", "priority": "low", "key": "d-1"}]


@pytest.mark.parametrize(
    ("answer", "retried", "reason"),
    [
        ({"status": 503, "text": "<h1>busy</h1>", "content_type": "text/html"}, True, "HTTP 503: <h1>busy</h1>"),
        ({"status": 422, "text": '{"error": "no title"}'}, False, 'HTTP 422: {"error": "no title"}'),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, False, "HTTP 302: it redirects to /elsewhere, and"),
    ],
)
async def test_a_refusal_says_what_was_answered(
    open_ticket: Action, tickets: Any, attempt: Attempts, answer: dict[str, Any], *, retried: bool, reason: str
) -> None:
    url, answers, _ = tickets
    answers |= answer
    with pytest.raises(HttpFailure) as raised:
        await attempt(open_ticket, {"url": url, "title": "bad"})
    failure = classify(raised.value)
    assert (failure.retry, failure.expected) == (retried, True)
    assert failure.reason.startswith(reason)


async def test_an_answer_that_breaks_off_is_retried(open_ticket: Action, tickets: Any, attempt: Attempts) -> None:
    url, answers, _ = tickets
    answers["broken"] = b'{"id":'
    with pytest.raises(aiohttp.ClientError) as raised:
        await attempt(open_ticket, {"url": url, "title": "bad"})
    failure = classify(raised.value)
    assert (failure.retry, failure.cause, failure.expected) == (True, "connection", True)


async def test_a_text_has_the_requested_length_and_its_end_shows_that_it_is_cut(tickets: Any) -> None:
    url, answers, _ = tickets
    answers["text"] = "äöü"
    async with aiohttp.ClientSession() as session:
        for longest, text in ((6, "äöü"), (5, "äö…"), (4, "äö…"), (0, "…")):
            async with session.post(url, json=1) as answer:
                assert await read_text(answer, longest=longest) == text
        answers["broken"] = b"half"
        async with session.post(url, json=1) as answer:
            assert await read_text(answer, patience=5) == "half…"


async def test_a_body_that_stalls_is_waited_for_as_long_as_the_attempt_may_take(tickets: Any) -> None:
    class Stalled:
        status = 200

        class content:  # noqa: N801
            @staticmethod
            async def read(_: int) -> bytes:
                await asyncio.sleep(60)
                return b""

    assert await read_text(Stalled(), patience=0.01) == "…"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await read_response(Stalled())

"""Reading answers: what is the whole of one, and what is cut."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.action.contract import LONGEST_ANSWER, read_response, read_text


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="x" * int(request.query["size"]))

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as running:
        yield running


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 5000])
@pytest.mark.parametrize("longest", [100, 1])
async def test_a_body_is_cut_only_where_it_is_longer(server: TestServer, size: int, longest: int) -> None:
    async with aiohttp.ClientSession() as http, http.get(server.make_url("/"), params={"size": str(size)}) as answer:
        text = await read_text(answer, longest=longest)
    assert text == ("x" * size if size <= longest else "x" * longest + "…")


@pytest.mark.parametrize("more", [0, 1])
async def test_an_answer_has_a_mebibyte_at_most(server: TestServer, more: int) -> None:
    size = LONGEST_ANSWER + more
    async with aiohttp.ClientSession() as http, http.get(server.make_url("/"), params={"size": str(size)}) as answer:
        text = await read_response(answer)
    assert text == "x" * LONGEST_ANSWER + "…" * more

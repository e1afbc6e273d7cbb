"""Who may ask the admin listener: names, pages, methods and tokens, on real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from engine.admin.guard import Guard


async def fine(_request: web.Request) -> web.Response:
    return web.Response(text="{}")


@asynccontextmanager
async def guarded(token: str | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    app = web.Application(middlewares=[Guard(token).check])
    for path in ("/", "/api"):
        app.router.add_route("*", path, fine)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ask(port: int, *lines: str, method: str = "GET", path: str = "/api", host: str = "127.0.0.1") -> int:
    """The status of a request made of these header lines, and no others."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
    async with asyncio.timeout(5):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


JSON = "Content-Type: application/json"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE", "QUERY"])
async def test_a_rebound_name_is_refused_whatever_the_method(method):
    async with guarded() as port:
        status = await ask(port, f"Host: evil.example:{port}", JSON, "Content-Length: 0", method=method)
        assert status == 403


@pytest.mark.parametrize(
    "hosts",
    [[], [""], ["127.0.0.1:{port}"] * 2, ["localhost.evil.example:{port}"], ["127.0.0.1.nip.io:{port}"],
     ["0.0.0.0:{port}"], ["127.0.0.1"], ["127.0.0.1:80{port}"], ["127.0.0.1:{port}/"], ["[::1:{port}"],
     ["127.0.0.1:x"]],
    ids=str,
)  # fmt: skip
async def test_what_is_no_name_of_this_listener_is_refused(hosts):
    async with guarded() as port:
        status = await ask(port, *(f"Host: {host.format(port=port)}" for host in hosts))
        assert status in {400, 403}


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_ipv6_has_its_own_way_of_writing():
    async with guarded(host="::1") as port:
        assert await ask(port, f"Host: [::1]:{port}", host="::1") == 200
        assert await ask(port, f"Host: localhost:{port}", host="::1") == 200
        assert await ask(port, f"Host: [::2]:{port}", host="::1") == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "QUERY"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([JSON], 200),
        ([JSON, "Origin: http://127.0.0.1:{port}"], 200),
        ([], 415),
        (["Content-Type: text/plain"], 415),
        ([JSON, "Origin: null"], 403),
        ([JSON, "Origin: https://evil.example"], 403),
        ([JSON, "Origin: http://localhost:3000"], 403),
        ([JSON, "Origin: https://127.0.0.1:{port}"], 403),
        ([JSON, "Origin: http://127.0.0.1:{port}", "Origin: https://evil.example"], 403),
        ([JSON, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"], 403),
    ],
)
async def test_unsafe_methods_need_json_and_no_origin_of_another_site(method, lines, status):
    async with guarded() as port:
        shown = [line.format(port=port) for line in lines]
        assert await ask(port, f"Host: 127.0.0.1:{port}", "Content-Length: 0", *shown, method=method) == status


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("none", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("cross-site", "navigate", "document", 200),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "no-cors", "script", 403),
        ("same-site", "cors", "empty", 403),
    ],
)
async def test_another_sites_page_may_link_here_and_do_nothing_else(site, mode, dest, status):
    async with guarded() as port:
        fetched = (f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}", f"Sec-Fetch-Dest: {dest}")
        assert await ask(port, f"Host: 127.0.0.1:{port}", *fetched) == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
async def test_with_a_token_nothing_but_the_first_page_is_open_without(method):
    async with guarded("sesame") as port:
        ours = (f"Host: 127.0.0.1:{port}", JSON, "Content-Length: 0")
        assert await ask(port, *ours, method=method) == 401
        assert await ask(port, *ours, "Authorization: Bearer sesam", method=method) == 401
        assert await ask(port, *ours, *["Authorization: Bearer sesame"] * 2, method=method) == 401
        assert await ask(port, *ours, "Authorization: Basic sesame", method=method) == 401
        assert await ask(port, *ours, path="/", method=method) == 200
        assert await ask(port, "Host: evil.example", JSON, "Content-Length: 0", path="/", method=method) == 403


async def test_the_token_works_through_a_proxy_that_ends_tls_and_pages_of_other_sites_are_refused():
    async with guarded("sesame") as port:
        proxied = ("Host: engine.internal", "Authorization: Bearer sesame", JSON, "Content-Length: 0")
        assert await ask(port, *proxied, "Origin: https://engine.internal", method="POST") == 200
        assert await ask(port, *proxied, "Origin: https://evil.example", method="POST") == 403
        assert await ask(port, *proxied, "Origin: null", method="POST") == 403

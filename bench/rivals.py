"""Servers to compare with, each in a process of its own: ``python -m bench.rivals NAME PORT SINK``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
import orjson
import uvloop
from aiohttp import web

PATH = "/webhooks/langsmith"
#: The largest body, as the engine's default is.
BODY_LIMIT = 64 * 1024 * 1024
WORKERS = 32
QUEUED = 1000
_ACCEPTED = b'{"ok":true}'


def accepted() -> web.Response:
    return web.Response(status=202, body=_ACCEPTED, content_type="application/json")


def bare(_: str) -> web.Application:
    """Reads and parses, nothing else."""

    async def handle(request: web.Request) -> web.Response:
        orjson.loads(await request.read())
        return accepted()

    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post(PATH, handle)
    return app


def script(sink: str) -> web.Application:
    """What a team writes by hand: receive, parse, check, forward by 32 workers; nothing is stored."""
    queue: asyncio.Queue[dict] = asyncio.Queue(QUEUED)

    async def handle(request: web.Request) -> web.Response:
        payload = orjson.loads(await request.read())
        if any(run["status"] == "success" for run in payload["runs"]):
            await queue.put(payload)
        return accepted()

    async def work(session: aiohttp.ClientSession) -> None:
        headers = {"Content-Type": "application/json"}
        while True:
            payload = await queue.get()
            async with session.post(sink, data=orjson.dumps(payload), headers=headers) as response:
                await response.read()

    async def workers(_: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            tasks = [asyncio.create_task(work(session)) for _ in range(WORKERS)]
            yield
            for task in tasks:
                task.cancel()

    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post(PATH, handle)
    app.cleanup_ctx.append(workers)
    return app


RIVALS = {"bare": bare, "script": script}


def main(name: str, port: str, sink: str) -> None:
    app = RIVALS[name](sink)
    web.run_app(app, host="127.0.0.1", port=int(port), loop=uvloop.new_event_loop(), access_log=None, print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])

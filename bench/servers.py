"""The servers that are measured, each in a process of its own: prints its port, serves until its input closes."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import orjson
import uvloop
from aiohttp import web

from engine.app import running
from engine.interpreter import tune_interpreter
from engine.public import receiver_runner
from engine.receiver import Receiver
from engine.settings import Address, ServeSettings
from engine.store import open_store

PATH = "/webhooks/langsmith"
LOOPBACK = Address("127.0.0.1", 0)


async def _site(stack: AsyncExitStack, runner: web.BaseRunner) -> int:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner.addresses[0][1]


async def bare(stack: AsyncExitStack, _: str) -> int:
    """A handler that only parses."""

    async def handle(request: web.Request) -> web.Response:
        orjson.loads(await request.read())
        return web.Response(status=202, body=b'{"ok":true}', content_type="application/json")

    app = web.Application()
    app.router.add_post(PATH, handle)
    return await _site(stack, web.AppRunner(app, access_log=None))


async def accept(stack: AsyncExitStack, folder: str) -> int:
    """Our receiver over our store: accepted means durable. Append only."""
    tune_interpreter()
    store = open_store(f"sqlite:///{folder}/engine.db")
    await store.open()
    stack.push_async_callback(store.close)

    def append(event):
        return store.append(event, leased=False)

    async def ready() -> str:
        return ""

    return await _site(stack, receiver_runner(Receiver(append=append, secrets=lambda: None, ready=ready)))


async def script(stack: AsyncExitStack, sink: str) -> int:
    """What a team writes by hand: receive, parse, forward, store nothing."""
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)))
    tasks: set[asyncio.Task[None]] = set()

    async def forward(payload) -> None:
        async with session.post(sink, json=payload) as response:
            await response.read()

    async def handle(request: web.Request) -> web.Response:
        payload = await request.json()
        if payload["runs"][0]["status"] == "success":
            task = asyncio.create_task(forward(payload))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return web.json_response({"ok": True}, status=202)

    app = web.Application()
    app.router.add_post(PATH, handle)
    return await _site(stack, web.AppRunner(app, access_log=None))


CONFIG = """
secrets: none
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    filters:
      - {{path: "$.runs[*].status", eq: success}}
    actions:
      - forward_webhook: {{url: "{sink}"}}
"""


async def engine(stack: AsyncExitStack, sink: str) -> int:
    """The whole engine: durable, routed, forwarded, settled."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(sink=sink))
    logger = logging.getLogger("engine")
    logger.setLevel(logging.ERROR)
    settings = ServeSettings(config=config, data=folder / "engine-data", listen=LOOPBACK, admin=LOOPBACK)
    serving = await stack.enter_async_context(running(settings, logger, environ={}))
    tune_interpreter()
    return serving.public.port


async def main(name: str, argument: str) -> None:
    async with AsyncExitStack() as stack:
        port = await globals()[name](stack, argument)
        print(json.dumps({"port": port}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))

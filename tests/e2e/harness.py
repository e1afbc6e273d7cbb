"""A whole engine in this process, on loopback, with a configuration file of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import textwrap
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from engine.app import Running, running
from engine.core.serve_settings import Address, ServeSettings
from engine.store.queries import DeliveryQuery, DeliveryRow

SECRET = "38ee77617c3a489ab6e871fbeb2ec87d"


class Engine:
    """Starts, stops and is spoken to as from outside; looks into the store as a person would through the API."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.config = folder / "config.yaml"
        self.environ = {"SECRET": SECRET, **environ}
        self._folder = folder
        self._stack = AsyncExitStack()
        self.running: Running | None = None
        self.http: aiohttp.ClientSession | None = None

    def write(self, text: str) -> None:
        self.config.write_text('secrets: ["${SECRET}"]\n' + textwrap.dedent(text))

    async def start(self, text: str | None = None, **settings: Any) -> None:
        if text is not None:
            self.write(text)
        chosen = {"listen": Address("127.0.0.1", 0), "admin": Address("127.0.0.1", 0), "grace": 5.0} | settings
        serve = ServeSettings(config=self.config, data=self._folder / "data", **chosen)
        logger = logging.getLogger("engine")
        self.running = await self._stack.enter_async_context(running(serve, logger, environ=self.environ))
        self.http = await self._stack.enter_async_context(aiohttp.ClientSession())

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://{self.running.public}/webhooks/langsmith?secret={SECRET}"

    async def post(self, payload: Any, status: int = 202) -> dict[str, Any]:
        async with self.http.post(self.url, data=json.dumps(payload)) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def deliveries(self, **query: Any) -> list[DeliveryRow]:
        return list(await self.running.store.deliveries(DeliveryQuery(limit=10_000, **query)))

    async def settled(self, count: int, seconds: float = 15.0, **query: Any) -> list[DeliveryRow]:
        """The deliveries, once there are ``count`` and none of them is open any more."""

        async def done() -> list[DeliveryRow] | None:
            rows = await self.deliveries(**query)
            return rows if len(rows) >= count and all(row.state in ("succeeded", "dead") for row in rows) else None

        return await until(done, seconds)

    async def quiet(self, seconds: float = 15.0) -> None:
        """Wait until nothing is under way and nothing waits."""

        async def done() -> bool:
            backlog = await self.running.store.backlog()
            return not (self.running.worker.busy or backlog.evaluations or backlog.deliveries)

        await until(done, seconds)


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The condition's value once it is true. Fails with its last value after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        await asyncio.sleep(0.02)


CLIENTS = """
langsmith: {api_key: "${LANGSMITH_API_KEY}", endpoint: "${LANGSMITH_ENDPOINT}"}
slack: {token: "${SLACK_BOT_TOKEN}", endpoint: "${SLACK_ENDPOINT}"}
"""

"""Runs a case's configuration and payload against Slack's stand-in, with a whole engine."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import aiohttp

from engine.app import running
from engine.core.serve_settings import Address, ServeSettings
from engine.store.queries import DeliveryDetail, DeliveryQuery
from engine.testing import SlackStandIn

CASES = Path(__file__).parent
_SLACK = "http://127.0.0.1:29302/api/"
_SECRET = "s3cret-value"


async def deliver(case: str, slack: SlackStandIn, folder: Path, *, deliveries: int = 1) -> list[DeliveryDetail]:
    """Send a case's payload to an engine with its configuration; its deliveries, once all are settled."""
    config = folder / "config.yaml"
    config.write_text((CASES / case / "config.yaml").read_text().replace(_SLACK, slack.url))
    return await send(config, json.loads((CASES / case / "payload.json").read_text()), deliveries=deliveries)


async def send(config: Path, payload: dict[str, Any], *, deliveries: int = 1) -> list[DeliveryDetail]:
    """The same for a configuration of the test's own."""
    loopback = Address("127.0.0.1", 0)
    settings = ServeSettings(config=config, data=config.parent / "data", listen=loopback, admin=loopback)
    async with (
        running(settings, logging.getLogger("engine"), environ={}) as engine,
        aiohttp.ClientSession() as http,
    ):
        url = f"http://{engine.public}/webhooks/langsmith"
        async with http.post(url, json=payload, params={"secret": _SECRET}) as answer:
            assert answer.status == 202, await answer.text()
        return await _settled(engine.store, deliveries)


async def _settled(store: Any, count: int) -> list[DeliveryDetail]:
    import asyncio

    async with asyncio.timeout(30):
        while True:
            rows = await store.deliveries(DeliveryQuery(limit=100))
            if len(rows) >= count and all(row.state in ("succeeded", "dead") for row in rows):
                return [await store.delivery(row.id) for row in reversed(rows)]
            await asyncio.sleep(0.02)

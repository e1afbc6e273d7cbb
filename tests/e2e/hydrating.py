"""A process that fetches objects under a memory limit of 64 MiB, and says how much memory it took."""

from __future__ import annotations

import asyncio
import resource
import sys
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson

from engine.clients.network import parse_network
from engine.clients.session import open_session
from engine.core.document import Fetched
from engine.core.event import parse_event
from engine.core.memory_budget import Memory
from engine.worker.hydrate import Hydrator


async def main(urls: list[str]) -> None:
    before = peak()
    async with open_session(lambda: parse_network(["127.0.0.0/8"])) as session:

        async def http() -> aiohttp.ClientSession:
            return session

        langsmith: Any = SimpleNamespace(settings=SimpleNamespace(endpoint="http://127.0.0.1:1"))
        hydrator = Hydrator(lambda: langsmith, http)
        runs = [{"id": url, "inputs_s3_urls": {"ROOT": {"presigned_url": url}}} for url in urls]
        event = parse_event(orjson.dumps({"rule_id": "r", "runs": runs}), 0.0)
        memory = Memory(64 * 2**20)
        account = memory.account()
        fetched = await hydrator.fetch(event, {"inputs"}, None, Fetched(), account=account)
    facts = {
        "before": before,
        "peak": peak(),
        "held": memory.held,
        "fetched": len(fetched.inputs),
        "lost": len(fetched.too_large),
    }
    print(orjson.dumps(facts).decode())


def peak() -> int:
    """The most memory this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


asyncio.run(main(sys.argv[1:]))

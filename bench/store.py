"""How fast the store takes events and settles work: group commit beside one commit per event.

python bench/store.py [--events 20000] [--size 2000] [--callers 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import uvloop

from engine.event import Event, parse_event
from engine.store import open_store
from engine.store.protocol import Store
from engine.store.work import Attempt, Routed, Work

T = TypeVar("T")


def make_events(count: int, size: int) -> list[Event]:
    """Events of about ``size`` bytes, all different."""
    filler = "".join(f"word{number} " for number in range(size // 8))[: max(size - 120, 0)]
    bodies = (json.dumps({"rule_id": "bench", "runs": [{"id": str(n), "x": filler}]}) for n in range(count))
    return [parse_event(body.encode(), time.time()) for body in bodies]


async def rate(items: list[T], callers: int, verb: Callable[[T], Awaitable[object]]) -> float:
    """Items a second, with so many callers that each await one answer before they ask again."""
    waiting = iter(items)

    async def caller() -> None:
        for item in waiting:
            await verb(item)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return len(items) / (time.perf_counter() - begun)


async def settle_all(store: Store, event: Event) -> None:
    """What becomes of an event that matched one route with one action."""
    now = time.time()
    delivery = Work(f"{event.id}/d", "deliver", event.id, now, now, "corrections/bench", "log", 0, "run")
    decisions = [{"route": "corrections/bench", "index": 0, "verdict": "true"}]
    routed = Routed(event.id, decisions, [delivery], frozenset([delivery.id]), "hash", now, matched=1)
    if await store.settle_routed(routed) != {delivery.id}:
        raise RuntimeError("the delivery was not inserted")
    if not await store.settle_attempt(delivery, Attempt(1, 0, now, 0.01, "succeeded"), None):
        raise RuntimeError("the attempt was not recorded")


async def bench(events: int, size: int, callers: int) -> None:
    """Print the rates."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "engine.db")
        await store.open()
        alone_count = min(events // 10, 2000)
        every = make_events(alone_count + events, size)
        some, many = every[:alone_count], every[alone_count:]
        alone = await rate(some, 1, lambda event: store.append(event, leased=True))
        group = await rate(many, callers, lambda event: store.append(event, leased=True))
        settle = await rate(many, callers, lambda event: settle_all(store, event))
        await store.close()
    print(f"one commit per event   {alone:9,.0f} appends/s")
    print(f"group commit           {group:9,.0f} appends/s  ({callers} callers, {size} B each)")
    print(f"routed and delivered   {settle:9,.0f} events/s   (two settles each)")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description="appends and settles a second")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=1000)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bench(options.events, options.size, options.callers))


if __name__ == "__main__":
    main()

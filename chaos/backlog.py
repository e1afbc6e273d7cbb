"""Checks that claiming and accepting are as fast with 120,000 waiting deliveries as with none."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

from chaos.table import Row
from engine.core.event import Event, parse_event
from engine.store import open_store
from engine.store.protocol import Store
from engine.store.records import Attempt, Routed, Work
from engine.testing import payloads

#: Ten minutes of 200 events a second, with a delivery each.
WAITING = 120_000
#: Destinations with waiting deliveries, each with its own queue.
HUNG = ("https://one.example", "https://two.example", "slack #oncall", "langsmith")
HEALTHY = "https://healthy.example"
#: The largest accepted factor between the two medians.
SLOWER = 1.5
_BATCH, _ROUNDS = 500, 200


async def run(waiting: int = WAITING) -> list[Row]:
    """Fill one store, leave the other empty, and measure both in turns; return the rows of the table."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        full, empty = Subject(folder / "full.db"), Subject(folder / "empty.db")
        for subject in (full, empty):
            await subject.store.open()
            stack.push_async_callback(subject.store.close)
        await full.fill(waiting)
        rounds = [(await full.round(), await empty.round()) for _ in range(_ROUNDS)]
        backlog = await full.store.backlog()
    medians = [
        [statistics.median(each) * 1e3 for each in zip(*side, strict=True)] for side in zip(*rounds, strict=True)
    ]
    (append, claim), (bare_append, bare_claim) = medians
    return [
        Row("deliveries that wait, in one store", f"{backlog.deliveries:,}", "", backlog.deliveries == waiting),
        _compared("  accepting: beside an empty store", append, bare_append),
        _compared("  claiming for a healthy one: beside an empty store", claim, bare_claim),
    ]


class Subject:
    """A store that is measured."""

    def __init__(self, path: Path) -> None:
        self.store: Store = open_store(path)
        self._numbers = count()

    async def fill(self, waiting: int) -> None:
        """Add so many events with a delivery each, waiting for destinations that hang."""
        for _ in range(waiting // _BATCH):
            await asyncio.gather(*(self._wait(HUNG[number % len(HUNG)]) for number in range(_BATCH)))

    async def round(self) -> tuple[float, float]:
        """Seconds to accept an event, and to claim its delivery to a healthy destination."""
        event = self._event()
        append = await _timed(lambda: self.store.append(event, leased=True))
        await self._settle(event, HEALTHY)
        found: list[Work] = []

        async def claim() -> None:
            rooms = dict.fromkeys(HUNG, 0)
            found.extend(one.work for one in await self.store.claim(now=time.time(), limit=32, capacity=rooms))

        seconds = await _timed(claim)
        (work,) = found
        await self.store.settle_attempt(work, Attempt(1, 0, time.time(), 0.0, "succeeded"), None)
        return append, seconds

    def _event(self) -> Event:
        body = payloads.to_body(
            payloads.seed() | {"chaos": next(self._numbers), "start_time": str(next(self._numbers))}
        )
        return parse_event(body, time.time())

    async def _wait(self, lane: str) -> None:
        event = self._event()
        await self.store.append(event, leased=True)
        await self._settle(event, lane)

    async def _settle(self, event: Event, lane: str) -> None:
        now = time.time()
        work = Work(f"d{event.id}", "deliver", event.id, now, now, route="r", action="a", index=0, lane=lane)
        await self.store.settle_routed(Routed(event.id, (), (work,), frozenset(), "hash", now))


async def _timed(verb: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await verb()
    return time.perf_counter() - started


def _compared(name: str, ours: float, bare: float) -> Row:
    return Row(name, f"{ours:.2f} / {bare:.2f} ms", f"at most {SLOWER:g} times", ours <= SLOWER * bare)

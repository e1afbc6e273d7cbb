"""``kill -9`` at random moments under load, while destinations fail in every way; then a comparison."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from chaos.compare import Verdict, compare, read_store
from chaos.faults import Weather
from chaos.script import SLOT, Event, Script
from chaos.senders import Senders
from chaos.serving import Serve
from chaos.table import Row, counted
from chaos.world import World

RULES = Path(__file__).with_name("rules.yaml")
SECRET = "38ee77617c3a489ab6e871fbeb2ec87d"
#: Events a second, of one to three runs each, and the size of occasional bursts.
RATE, BURST = 20.0, 25
#: The longest time to finish all work after the faults have stopped, in seconds.
DRAIN = 120.0
#: The longest time to accept, in seconds: LangSmith's timeout.
SLOWEST = 5.0
#: How late a timer of this process may run, in seconds. If it is later, the machine is too busy to judge speed.
LATE, _TICK = 0.5, 0.05


@dataclass(slots=True)
class Struck:
    """What happened to the process."""

    kills: int = 0
    at_start: int = 0
    stops: int = 0
    stop_codes: Counter[int] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)


class Run:
    """One run of the scenario."""

    def __init__(self, seed: int, kills: int, seconds: float) -> None:
        self._rng = random.Random(seed)
        self._seed, self._kills, self._seconds = seed, kills, seconds
        self.events: dict[int, Event] = {}
        self.struck = Struck()
        self.drained = False
        #: The longest delay of a timer of this process, in seconds.
        self.late = 0.0

    async def run(self) -> list[Row]:
        """Break things, finish the work, compare; return the rows of the table."""
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
            world = await stack.enter_async_context(World(self._rng))
            script = Script(self._seed, world.storage.origin)
            serve = self._serve(folder, world)
            stack.push_async_callback(serve.kill)
            await serve.start()
            senders = Senders(serve.url(SECRET), partial(self._event, script, world))
            async with _meanwhile(self._tick(), senders.flow(RATE), self._weather(world, serve)):
                await self._strike(serve, senders)
            world.calm()
            await reload(serve)
            await senders.done()
            self.drained = await drained(serve, DRAIN)
            script.closing = True
            await asyncio.sleep(2 * SLOT)
            senders.send(1)
            await senders.done()
            self.drained = await drained(serve, DRAIN) and self.drained
            self.struck.stop_codes[await serve.terminate()] += 1
            kept = await read_store(folder / "data")
            verdict = compare(self.events, senders.sent, kept, world)
            verdict.broken += world.crashes + unforeseen(serve)
            return self._rows(world, senders, verdict)

    def _serve(self, folder: Path, world: World) -> Serve:
        environ = {"SECRET": SECRET, **world.environ}
        options = ["--grace", "3s"]
        return Serve(RULES, folder / "data", environ, options, ports=free_ports(), keep=is_trouble)

    def _event(self, script: Script, world: World, number: int) -> Event:
        event = self.events[number] = script.event(number)
        world.knows(event)
        return event

    async def _weather(self, world: World, serve: Serve) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def mended() -> None:
            """Act as a person who fixes the key and reloads; a process that is down reads it at its start."""
            task = asyncio.create_task(reload(serve))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await Weather(random.Random(self._rng.random()), world.tally, mended).blow(world.moody)

    async def _tick(self) -> None:
        """If this process is too slow, so is the engine: then speed cannot be judged."""
        while True:
            due = time.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            self.late = max(self.late, time.monotonic() - due)

    async def _strike(self, serve: Serve, senders: Senders) -> None:
        """Kill so many times, or as often as the time allows, with a graceful stop before every fifth kill."""
        until = time.monotonic() + self._seconds
        while self.struck.kills < self._kills and time.monotonic() < until:
            await asyncio.sleep(self._rng.uniform(0.0, 1.0) ** 2 * 6.0)
            if self._rng.random() < 0.5:
                senders.send(BURST)
                await asyncio.sleep(self._rng.uniform(0.0, 0.1))
            if self._rng.random() < 0.2:
                await self._stop(serve)
            await self._kill(serve)
            if self._rng.random() < 0.15 and self.struck.kills < self._kills:
                await asyncio.sleep(self._rng.uniform(0.0, 2.0))
                self.struck.at_start += not serve.serving.is_set()
                await self._kill(serve)
            started = time.monotonic()
            await asyncio.wait_for(serve.serving.wait(), 60)
            self.struck.starts.append(time.monotonic() - started)

    async def _stop(self, serve: Serve) -> None:
        """Send ``SIGTERM``, sometimes with a kill before it has finished."""
        self.struck.stops += 1
        if self._rng.random() < 0.3:
            serve.signal(signal.SIGTERM)
            await asyncio.sleep(self._rng.uniform(0.0, 1.0))
            return
        self.struck.stop_codes[await serve.terminate()] += 1
        await serve.start(60)

    async def _kill(self, serve: Serve) -> None:
        await serve.kill()
        self.struck.kills += 1
        await serve.spawn()

    def _rows(self, world: World, senders: Senders, verdict: Verdict) -> list[Row]:
        sent, struck = senders.sent, self.struck
        faults = [("kill -9", struck.kills), ("SIGTERM", struck.stops), *sorted(world.tally.items())]
        odd_stops = {code: count for code, count in struck.stop_codes.items() if code}
        return [
            *counted("faults injected", faults),
            Row("kills, of those that were asked for", f"{struck.kills} of {self._kills}", self._time_up()),
            Row("  while it was starting", f"{struck.at_start}"),
            Row("webhooks sent", f"{len(self.events):,}"),
            *counted("  attempts that were refused or broken", sorted(sent.failed.items())),
            Row("events accepted (202)", f"{len(sent.accepted):,}"),
            Row("  answered as a duplicate of an unheard 202", f"{sent.duplicates:,}"),
            Row("kept, and the answer never heard", f"{verdict.unanswered:,}"),
            Row("lost", f"{verdict.lost:,}", "must be 0", verdict.lost == 0),
            Row("deliveries succeeded", f"{verdict.succeeded:,}"),
            *counted("deliveries dead, with a reason", verdict.dead.most_common(8), total=verdict.dead.total()),
            Row(
                "effects exactly once at idempotent destinations",
                f"{percent(verdict.once, verdict.effects)} of {verdict.effects:,}",
                "must be 100 %",
                verdict.once == verdict.effects > 0,
            ),
            Row("  repetitions they recognised", f"{verdict.again:,}"),
            Row("held back by a throttle, and counted", f"{verdict.suppressed:,}"),
            Row("duplicates elsewhere", f"{verdict.duplicates:,} of {verdict.elsewhere:,}"),
            Row(
                "slowest acceptance", f"{sent.slowest:.3f} s", f"LangSmith waits {SLOWEST:g} s", sent.slowest <= SLOWEST
            ),
            Row("no answer within LangSmith's 5 s", f"{len(sent.slow)}", *self._judged(not sent.slow)),
            Row("slowest start after a kill", f"{max(struck.starts, default=0):.1f} s"),
            Row("stops that did not end well", f"{len(odd_stops)}", "must be 0", not odd_stops),
            Row("everything drained", "yes" if self.drained else "no", f"within {DRAIN:g} s", self.drained),
            *(Row(f"  {one}", "", "", good=False) for one in verdict.broken[:50]),
            Row("promises broken", f"{len(verdict.broken)}", "must be 0", not verdict.broken),
        ]

    def _time_up(self) -> str:
        return "" if self.struck.kills >= self._kills else f"more did not fit into {self._seconds:g} s"

    def _judged(self, good: bool) -> tuple[str, bool | None]:
        """Judge speed, if it can be judged."""
        if self.late > LATE:
            return f"not judged: this machine stood still for {self.late:.1f} s", None
        return "must be 0", good


def percent(part: int, whole: int) -> str:
    """A percentage that is never rounded up to 100."""
    return "100 %" if part == whole else f"{int(part / whole * 10_000) / 100:.2f} %"


def free_ports() -> tuple[int, int]:
    """Two ports that are free now, so that every start takes the same ones."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def is_trouble(said: Mapping[str, Any]) -> bool:
    """A log line that is kept for the report."""
    return said.get("level") in ("error", "critical") or said["message"] == "serving" or "level" not in said


def unforeseen(serve: Serve) -> list[str]:
    """Unexpected errors in the engine's log."""
    lines = [one for one in serve.said if "unforeseen" in one["message"] or "Traceback" in one["message"]]
    return [f"the log says: {one['message']} {one.get('traceback', '')[-600:]}" for one in lines[:5]]


async def reload(serve: Serve) -> None:
    """Resume it, as a person does after fixing something."""
    url, patience = f"http://{serve.admin}/-/reload", aiohttp.ClientTimeout(5)
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with aiohttp.ClientSession(timeout=patience) as http, http.post(url, json={}) as response:
            await response.read()


async def drained(serve: Serve, seconds: float) -> bool:
    """Whether all work was finished within so many seconds."""
    until = time.monotonic() + seconds
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < until:
            async with http.get(f"http://{serve.admin}/api/v1/backlog") as response:
                backlog = await response.json()
            if not (backlog["evaluations"] or backlog["deliveries"]):
                return True
            await asyncio.sleep(0.5)
    return False


@contextlib.asynccontextmanager
async def _meanwhile(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run tasks until the end of the block."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

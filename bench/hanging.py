"""A healthy destination's latency while another one hangs, beside its latency alone, under the same load.

    python -m bench.hanging

Latency is from a webhook's first byte sent to the forwarded one's arrival. The destination that
hangs takes connections and never answers; it is given more events than the engine has hands,
before anything is measured, so that what is measured is how things are for as long as it hangs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from bench.load import bodies
from bench.servers import LOOPBACK, PATH
from engine.app import running
from engine.interpreter import tune_interpreter
from engine.settings import ServeSettings

#: The most that the latency may grow by, as a factor.
TARGET = 1.5
ROUNDS = 11
#: Events that come first, and fill every hand that is not kept from it.
WARM_UP = 700
#: Events of a round, and how many of them come in a second.
EVENTS, RATE = 100, 100.0
RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
HEALTHY = '  - {{name: healthy, actions: [{{forward_webhook: {{url: "{healthy}"}}}}]}}\n'
#: With so long a timeout it hangs to the end: no attempt fails, and no circuit opens.
HANGING = '  - {{name: hanging, actions: [{{forward_webhook: {{url: "{hanging}"}}, timeout: 5m}}]}}\n'
CONFIG = {
    "alone": f"secrets: none\nroutes:\n  {RULE}:\n" + HEALTHY,
    "beside": f"secrets: none\nroutes:\n  {RULE}:\n" + HANGING + HEALTHY,
}
_NUMBER = re.compile(rb"2024-04-05T01:28:56\.(\d{9})")


class Arrivals:
    """When each event was forwarded, by its number."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._more = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        found = _NUMBER.search(await request.read())
        self._at.setdefault(int(found[1]), time.perf_counter())
        self._more.set()
        return web.Response(text="ok")

    async def seen(self, count: int) -> dict[int, float]:
        """Once so many have come; a minute at most."""
        async with asyncio.timeout(60):
            while len(self._at) < count:
                self._more.clear()
                await self._more.wait()
        return self._at


def measure() -> tuple[float, float, float]:
    """Medians over rounds: seconds beside the one that hangs, seconds alone, and the ratio of a round's two.

    Both engines run all the time, and their events come in turns: what disturbs the machine disturbs both.
    """
    try:
        rounds = uvloop.run(_rounds())
    except TimeoutError:  # the healthy one's events did not come through at all
        return math.inf, math.nan, math.inf
    ratios = [beside / alone for beside, alone in rounds]
    return statistics.median(b for b, _ in rounds), statistics.median(a for _, a in rounds), statistics.median(ratios)


async def _rounds() -> list[tuple[float, float]]:
    async with AsyncExitStack() as stack:
        hanging = await asyncio.start_server(_hang, "127.0.0.1", 0)
        stack.callback(hanging.close)
        url = f"http://127.0.0.1:{hanging.sockets[0].getsockname()[1]}/"
        beside, alone = [await stack.enter_async_context(_subject(name, url)) for name in ("beside", "alone")]
        return [await _round(beside, alone) for _ in range(ROUNDS)]


async def _round(beside: Subject, alone: Subject) -> tuple[float, float]:
    """Each has its events in the middle between two of the other's."""

    async def later() -> float:
        await asyncio.sleep(0.5 / RATE)
        return await alone.latency()

    first, second = await asyncio.gather(beside.latency(), later())
    return first, second


class Subject:
    """An engine, and what it forwards to the healthy destination."""

    def __init__(self, url: str, http: aiohttp.ClientSession, arrivals: Arrivals) -> None:
        self._url, self._http, self._arrivals = url, http, arrivals
        self._next = 0

    async def warm_up(self) -> None:
        """Many at once, until all have come."""
        await asyncio.gather(*(_post(self._http, self._url, body) for body in bodies(WARM_UP)))
        self._next = WARM_UP
        await self._arrivals.seen(WARM_UP)

    async def latency(self) -> float:
        """The mean over a round's events, so that slow ones count, too; in seconds."""
        sent = await _steadily(self._http, self._url, self._next)
        self._next += EVENTS
        at = await self._arrivals.seen(self._next)
        return statistics.fmean(at[number] - started for number, started in sent.items())


@asynccontextmanager
async def _subject(name: str, hanging: str) -> AsyncIterator[Subject]:
    arrivals = Arrivals()
    async with _healthy(arrivals) as healthy, aiohttp.ClientSession() as http:
        with tempfile.TemporaryDirectory() as folder:
            config = CONFIG[name].format(healthy=healthy, hanging=hanging)
            with server(config, folder) as port:
                subject = Subject(f"http://127.0.0.1:{port}{PATH}", http, arrivals)
                await subject.warm_up()
                yield subject


async def _steadily(http: aiohttp.ClientSession, url: str, number: int) -> dict[int, float]:
    """Events at an even pace: when each was sent."""
    sent: dict[int, float] = {}
    first = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for place, body in enumerate(bodies(EVENTS, first=number)):
            await asyncio.sleep(max(0.0, first + place / RATE - time.perf_counter()))
            sent[number + place] = time.perf_counter()
            tasks.create_task(_post(http, url, body))
    return sent


async def _post(http: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with http.post(url, data=body) as response:
        assert response.status == 202, response.status


@asynccontextmanager
async def _healthy(arrivals: Arrivals) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", arrivals.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything, and say nothing."""
    while await reader.read(65536):
        pass
    writer.close()


@contextmanager
def server(config: str, folder: str) -> Iterator[int]:
    """The engine in a process of its own; killed at the end, for much waits then that nobody will take."""
    (Path(folder) / "config.yaml").write_text(config)
    command = [sys.executable, "-m", "bench.hanging", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.kill()
        process.communicate()


async def serve(folder: Path) -> None:
    """Print the port and serve until killed."""
    logger = logging.getLogger("engine")
    logger.setLevel(logging.CRITICAL)
    settings = ServeSettings(config=folder / "config.yaml", data=folder, listen=LOOPBACK, admin=LOOPBACK)
    async with running(settings, logger, environ={}) as engine:
        tune_interpreter()
        print(json.dumps({"port": engine.public.port}), flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Print both latencies and their ratio."""
    beside, alone, ratio = measure()
    print(f"forwarded while another destination hangs   {beside * 1e3:9.1f} ms")
    print(f"forwarded alone                             {alone * 1e3:9.1f} ms")
    print(f"ratio {ratio:.2f}, at most {TARGET}: {'ok' if ratio <= TARGET else 'MISSED'}")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(serve(Path(sys.argv[1])))
    else:
        sys.exit(main())

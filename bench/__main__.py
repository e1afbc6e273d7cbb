"""``make bench``: five ratios, each from one run, against the targets of today. Exit 1 if one is missed."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop
from aiohttp import web

from bench.filters import measure as measure_filters
from bench.hanging import TARGET as HANGING_TARGET
from bench.hanging import measure as measure_hanging
from bench.isolation import TARGET as ISOLATION_TARGET
from bench.isolation import measure as measure_isolation
from bench.load import Result, load
from bench.servers import PATH

ROUNDS = 7
REQUESTS = 6_000
EVENTS = 3_000
#: So many come first and are not counted: what is imported, opened and cached at the first requests.
WARM_UP = 500


@contextmanager
def server(name: str, argument: str) -> Iterator[int]:
    """One of the servers in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.servers", name, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.stdin.close()
        process.wait(30)


def accept_rate(name: str) -> float:
    """Requests a second, answered 202."""
    with tempfile.TemporaryDirectory() as folder, server(name, folder) as port:
        result = uvloop.run(_after_warm_up(port))
    assert result.statuses == {202: REQUESTS}, result.statuses
    return REQUESTS / result.seconds


async def _after_warm_up(port: int) -> Result:
    await load(port, PATH, WARM_UP)
    return await load(port, PATH, REQUESTS, first=WARM_UP)


class Sink:
    """Counts what is forwarded to it."""

    def __init__(self) -> None:
        self._seen, self._more = 0, asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self._seen += 1
        self._more.set()
        return web.Response(text="ok")

    async def seen(self, count: int) -> None:
        """Wait until so many have come, two minutes at most."""
        async with asyncio.timeout(120):
            while self._seen < count:
                self._more.clear()
                await self._more.wait()


async def _through(name: str) -> float:
    sink = Sink()
    app = web.Application()
    app.router.add_post("/", sink.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with server(name, f"http://127.0.0.1:{runner.addresses[0][1]}/") as port:
        await load(port, PATH, WARM_UP)
        await sink.seen(WARM_UP)
        started = time.perf_counter()
        await load(port, PATH, EVENTS, first=WARM_UP)
        await sink.seen(WARM_UP + EVENTS)
        seconds = time.perf_counter() - started
    await runner.cleanup()
    return EVENTS / seconds


def through_rate(name: str) -> float:
    """Events a second, from the first request to the last forwarded webhook."""
    return uvloop.run(_through(name))


def side_by_side(measure, ours: str, theirs: str) -> tuple[float, float, float]:
    """Medians over rounds that alternate: ours, theirs, and the ratio of a round's two.

    What disturbs the machine for a while disturbs both of a round, so its ratio is still true.
    """
    rates = [(measure(ours), measure(theirs)) for _ in range(ROUNDS)]
    return tuple(map(statistics.median, zip(*((mine, other, mine / other) for mine, other in rates), strict=True)))


def report(title: str, ours: float, theirs: float, ratio: float, target: float, unit: str) -> bool:
    good = ratio >= target
    verdict = "ok" if good else "MISSED"
    print(
        f"{title:<44} {ours:>10,.0f} {theirs:>10,.0f} {unit:<12} {ratio:>7.2f}  (at least {target:g}: {verdict})",
        flush=True,
    )
    return good


def report_latency(title: str, beside: float, alone: float, ratio: float, target: float) -> bool:
    """Here less is better: milliseconds beside and alone, whose ratio may be so much at most."""
    good = ratio <= target
    verdict, times = "ok" if good else "MISSED", f"{beside * 1e3:>10.1f} {alone * 1e3:>10.1f} {'ms':<12}"
    print(f"{title:<44} {times} {ratio:>7.2f}  (at most {target:g}: {verdict})", flush=True)
    return good


def main() -> int:
    print(f"{'':<44} {'ours':>10} {'theirs':>10} {'':<12} {'ratio':>7}")
    accepted = side_by_side(accept_rate, "accept", "bare")
    results = [report("accepted durably, beside a bare handler", *accepted, 0.4, "requests/s")]
    ours, theirs = measure_filters()
    results += [report("compiled filters, beside jsonpath-ng", ours, theirs, ours / theirs, 20, "checks/s")]
    through = side_by_side(through_rate, "engine", "script")
    results += [report("end to end, beside a hand-written script", *through, 0.25, "events/s")]
    blocked, waiting = measure_isolation()
    title = "accepted while a plug-in blocks, or does not"
    results += [report(title, blocked, waiting, blocked / waiting, ISOLATION_TARGET, "requests/s")]
    results += [report_latency("forwarded while another destination hangs", *measure_hanging(), HANGING_TARGET)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

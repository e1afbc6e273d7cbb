"""``make bench``: four ratios, each from one run, against the targets of today. Exit 1 if one is missed."""

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
from bench.isolation import TARGET as ISOLATION_TARGET
from bench.isolation import measure as measure_isolation
from bench.load import load
from bench.servers import PATH

ROUNDS = 5
REQUESTS = 6_000
EVENTS = 3_000


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
        result = uvloop.run(load(port, PATH, REQUESTS))
    assert result.statuses == {202: REQUESTS}, result.statuses
    return REQUESTS / result.seconds


class Sink:
    """Counts what is forwarded to it; knows when the last one came."""

    def __init__(self, expected: int) -> None:
        self._expected, self._seen, self.done = expected, 0, asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self._seen += 1
        if self._seen == self._expected:
            self.done.set()
        return web.Response(text="ok")


async def _through(name: str) -> float:
    sink = Sink(EVENTS)
    app = web.Application()
    app.router.add_post("/", sink.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with server(name, f"http://127.0.0.1:{runner.addresses[0][1]}/") as port:
        started = time.perf_counter()
        await load(port, PATH, EVENTS)
        async with asyncio.timeout(120):
            await sink.done.wait()
        seconds = time.perf_counter() - started
    await runner.cleanup()
    return EVENTS / seconds


def through_rate(name: str) -> float:
    """Events a second, from the first request to the last forwarded webhook."""
    return uvloop.run(_through(name))


def side_by_side(measure, ours: str, theirs: str) -> tuple[float, float]:
    """Medians over rounds that alternate, so that what disturbs the machine disturbs both."""
    rates = [(measure(ours), measure(theirs)) for _ in range(ROUNDS)]
    return statistics.median(r[0] for r in rates), statistics.median(r[1] for r in rates)


def report(title: str, ours: float, theirs: float, target: float, unit: str) -> bool:
    ratio = ours / theirs
    good = ratio >= target
    verdict = "ok" if good else "MISSED"
    print(
        f"{title:<44} {ours:>10,.0f} {theirs:>10,.0f} {unit:<12} {ratio:>7.2f}  (at least {target:g}: {verdict})",
        flush=True,
    )
    return good


def main() -> int:
    print(f"{'':<44} {'ours':>10} {'theirs':>10} {'':<12} {'ratio':>7}")
    results = [
        report(
            "accepted durably, beside a bare handler", *side_by_side(accept_rate, "accept", "bare"), 0.4, "requests/s"
        ),
        report("compiled filters, beside jsonpath-ng", *measure_filters(), 20, "checks/s"),
        report(
            "end to end, beside a hand-written script",
            *side_by_side(through_rate, "engine", "script"),
            0.25,
            "events/s",
        ),
        report("accepted while a plug-in blocks, or does not", *measure_isolation(), ISOLATION_TARGET, "requests/s"),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

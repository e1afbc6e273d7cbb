"""Acceptance while a plug-in sleeps in blocking code, beside acceptance while the same plug-in only waits.

    python -m bench.isolation

Every event makes one delivery to the plug-in. The one that blocks sleeps 50 ms at a time; the one
beside it waits in asyncio for longer than the measurement takes, so that deliveries cost the
same in both, which is next to nothing, and the difference is what the blocking costs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from bench.load import load
from bench.servers import LOOPBACK, PATH
from engine.app import running
from engine.settings import ServeSettings

TARGET = 0.8
ROUNDS = 5
REQUESTS = 4_000
#: What the plug-in does, by the name of the server that is measured.
SLEEPS = {"blocking": "time.sleep(0.05)", "waiting": "await asyncio.sleep(3600)"}
CONFIG = """
secrets: none
plugins: [./plugins]
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [sleeper: {}]}
"""
PLUGIN = """
import asyncio
import time

import engine


class Sleeper(engine.Action):
    \"\"\"Sleep.\"\"\"

    async def run(self, params, context):
        SLEEP
"""


def measure() -> tuple[float, float]:
    """Requests a second that are answered 202: while the plug-in blocks, and while it does not."""
    rounds = [(rate("blocking"), rate("waiting")) for _ in range(ROUNDS)]
    return statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds)


def rate(name: str) -> float:
    """Requests a second, answered 202, of one server."""
    with tempfile.TemporaryDirectory() as folder, server(name, folder) as port:
        result = uvloop.run(load(port, PATH, REQUESTS))
    assert result.statuses == {202: REQUESTS}, result.statuses
    return REQUESTS / result.seconds


@contextmanager
def server(name: str, folder: str) -> Iterator[int]:
    """The engine in a process of its own; killed at the end, for it has minutes of sleep before it."""
    command = [sys.executable, "-m", "bench.isolation", name, folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.kill()
        process.communicate()


async def serve(name: str, folder: Path) -> None:
    """Print the port and serve until killed."""
    (folder / "plugins").mkdir()
    (folder / "plugins" / "sleeper.py").write_text(PLUGIN.replace("SLEEP", SLEEPS[name]))
    (folder / "config.yaml").write_text(CONFIG)
    logger = logging.getLogger("engine")
    logger.setLevel(logging.CRITICAL)
    settings = ServeSettings(config=folder / "config.yaml", data=folder, listen=LOOPBACK, admin=LOOPBACK)
    async with running(settings, logger, environ={}) as engine:
        print(json.dumps({"port": engine.public.port}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Print both rates and their ratio."""
    blocking, waiting = measure()
    print(f"accepted while a plug-in blocks   {blocking:9,.0f} requests/s")
    print(f"accepted while it only waits      {waiting:9,.0f} requests/s")
    print(f"ratio {blocking / waiting:.2f}, at least {TARGET}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
    else:
        main()

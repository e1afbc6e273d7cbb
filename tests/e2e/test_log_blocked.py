"""The command as a process whose standard error nobody reads for a while."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import until
from processes import COMMAND

from chaos.serving import _BARE

EVENTS, PAUSE = 250, 10.0
CONFIG = """
secrets: none
defaults: {timeout: 30s}
routes:
  "*": {actions: [log: {message: "kept {{ run.name }}"}]}
"""


class Served:
    """``engine serve`` with a pipe as its standard error, which is read only while somebody asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read, self._write = os.pipe()
        self.said: list[dict[str, Any]] = []
        self.process: asyncio.subprocess.Process | None = None
        self.address = self.admin = ""

    async def start(self) -> None:
        (self._folder / "config.yaml").write_text(CONFIG)
        options = ["--config", str(self._folder / "config.yaml"), "--data", str(self._folder / "data")]
        options += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json", "--grace", "1s"]
        self.process = await asyncio.create_subprocess_exec(
            COMMAND, "serve", *options, env=_BARE, stdout=self._write, stderr=self._write
        )
        os.close(self._write)
        self._lines = os.fdopen(self._read, "rb")
        while not self.address:
            line = json.loads(await asyncio.to_thread(self._lines.readline))
            if line["message"] == "serving":
                self.address, self.admin = line["public"], line["admin"]

    def read_on(self) -> None:
        """Read to the end, in a thread."""
        threading.Thread(target=lambda: self.said.extend(map(json.loads, self._lines)), daemon=True).start()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 30)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await made.start()
    yield made
    if made.process.returncode is None:
        made.process.kill()
        await made.process.wait()
    await asyncio.sleep(0)
    made._lines.close()


def body(number: int) -> bytes:
    # A long id makes the line about it long, so that few events fill the queue.
    return json.dumps({"rule_id": f"{number}{'r' * 100_000}", "runs": [{"id": str(number), "name": number}]}).encode()


async def post(http: aiohttp.ClientSession, address: str, number: int) -> float:
    begun = time.monotonic()
    async with http.post(f"http://{address}/webhooks/langsmith", data=body(number)) as answer:
        assert answer.status == 202, await answer.text()
    return time.monotonic() - begun


async def metric(http: aiohttp.ClientSession, admin: str) -> float:
    async with http.get(f"http://{admin}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("engine_log_lines_dropped_total"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a pipe as standard error")
async def test_an_engine_whose_standard_error_is_not_read_answers_and_reports_what_it_dropped(served: Served) -> None:
    async with aiohttp.ClientSession() as http:
        begun, slowest = time.monotonic(), 0.0
        assert await metric(http, served.admin) == 0
        for number in range(EVENTS):
            slowest = max(slowest, await post(http, served.address, number))
            await asyncio.sleep(max(begun + PAUSE * number / EVENTS - time.monotonic(), 0))
        assert slowest < 3
        dropped = await metric(http, served.admin)
        assert dropped > 0
        served.read_on()
        kept = {f"kept {number}" for number in range(EVENTS)}
        await until(lambda: kept <= {line["message"] for line in served.said}, 60)
        # Further lines may have been dropped until the queue was half empty.
        dropped = await metric(http, served.admin)
    assert await served.stop() == 0
    await until(lambda: served.said[-1]["message"] == "stopped")
    reports = [line["message"] for line in served.said if " dropped because " in line["message"]]
    assert sum(int(report.split()[0]) for report in reports) == dropped
    assert reports[0].partition(" ")[2] == "log lines were dropped because standard error could not be written"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a pipe as standard error")
async def test_an_engine_whose_standard_error_is_not_read_stops(served: Served) -> None:
    async with aiohttp.ClientSession() as http:
        for number in range(5):
            await post(http, served.address, number)
    begun = time.monotonic()
    assert await served.stop() == 0
    assert time.monotonic() - begun < 15

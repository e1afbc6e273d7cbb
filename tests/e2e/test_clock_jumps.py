"""The system's clock jumps by hours under a running engine: nothing is lost, nothing fires twice, nothing spins."""

from __future__ import annotations

import asyncio
import os
import struct
import textwrap
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import SECRET, until
from processes import Serve, left_behind

from engine.store.queries import DeliveryQuery
from engine.testing import payloads

HOUR = 3600.0
CONFIG = """
secrets: ["${SECRET}"]
defaults: {timeout: 10s, retry: {attempts: 1000, within: 30d, min: 1h, max: 1h}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    name: forward
    actions: [{forward_webhook: {url: "${SINK}", body: {run: "{{ run.id }}"}}}]
"""
#: What Python imports before anything else: a clock that is as wrong as a file says.
WRONG_CLOCK = """
import mmap, struct, time

with open({path!r}, "rb") as _file:
    _offset = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)
_real = time.time
time.time = lambda: _real() + struct.unpack("d", _offset[:8])[0]
"""


class Moved:
    """A real process whose clock can be moved."""

    def __init__(self, folder: Path, sink_url: str) -> None:
        self._offset = folder / "offset"
        self._offset.write_bytes(struct.pack("d", 0.0))
        hook = folder / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(textwrap.dedent(WRONG_CLOCK).format(path=str(self._offset)))
        config = folder / "config.yaml"
        config.write_text(CONFIG)
        self.data = folder / "data"
        paths = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH", "")]))
        environ = {"SECRET": SECRET, "SINK": sink_url, "PYTHONPATH": paths}
        self.serve = Serve(config, self.data, environ, ["--grace", "2s"])
        self._numbers = iter(range(1000))

    def set_clock(self, offset: float) -> None:
        with self._offset.open("r+b") as file:
            file.write(struct.pack("d", offset))

    async def post(self, count: int) -> list[str]:
        runs = [payloads.run(next(self._numbers)) for _ in range(count)]
        async with aiohttp.ClientSession() as http:
            for run in runs:
                body = payloads.to_body(payloads.rule([run]))
                async with http.post(self.serve.url(SECRET), data=body) as answer:
                    assert answer.status == 202, await answer.text()
        return [run["id"] for run in runs]

    async def busy_for(self, seconds: float) -> float:
        """Processor seconds used meanwhile."""
        used = self._processor()
        await asyncio.sleep(seconds)
        return self._processor() - used

    def _processor(self) -> float:
        fields = Path(f"/proc/{self.serve.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def states(self) -> set[tuple[str, int]]:
        async with left_behind(self.data) as store:
            rows = await store.deliveries(DeliveryQuery(limit=1000))
            return {(row.state, row.attempts) for row in rows}


def delivered(sink: Any) -> list[str]:
    return [one.body["run"] for one in sink.received if one.status == 200]


@pytest.fixture
async def moved(tmp_path: Path, sink) -> Any:
    if not Path("/proc/self/stat").exists():
        pytest.skip("a process's use of the processor is read from /proc")
    made = Moved(tmp_path, sink.url)
    yield made
    await made.serve.kill()


async def test_forwards_what_waits_is_due_and_made_once(moved: Moved, sink) -> None:
    await moved.serve.start()
    sink.faults.add(status=503, times=4)  # one more in a row would open the circuit
    waiting = await moved.post(4)
    await until(lambda: len(sink.received) == 4)
    moved.set_clock(3 * HOUR)
    await until(lambda: len(delivered(sink)) == 4)
    fresh = await moved.post(5)
    await until(lambda: len(delivered(sink)) == 9)
    assert await moved.busy_for(3.0) < 1.5
    assert sorted(delivered(sink)) == sorted(waiting + fresh)
    assert await moved.serve.terminate() == 0
    assert await moved.states() == {("succeeded", 2), ("succeeded", 1)}


async def test_backwards_what_waits_goes_on_waiting_and_what_comes_is_made_at_once(moved: Moved, sink) -> None:
    await moved.serve.start()
    sink.faults.add(status=503, times=4)  # one more in a row would open the circuit
    waiting = await moved.post(4)
    await until(lambda: len(sink.received) == 4)
    moved.set_clock(-5 * HOUR)
    fresh = await moved.post(5)
    await until(lambda: len(delivered(sink)) == 5)
    assert await moved.busy_for(3.0) < 1.5
    assert sorted(delivered(sink)) == sorted(fresh)
    moved.set_clock(2 * HOUR)
    await until(lambda: len(delivered(sink)) == 9)
    await asyncio.sleep(0.5)
    assert sorted(delivered(sink)) == sorted(waiting + fresh)
    assert await moved.serve.terminate() == 0
    assert {state for state, _ in await moved.states()} == {"succeeded"}


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR])
async def test_what_is_being_attempted_meanwhile_is_not_taken_for_lost(moved: Moved, sink, jump: float) -> None:
    await moved.serve.start()
    sink.faults.add(status=200, hang=6.0, times=20)
    runs = await moved.post(20)
    await until(lambda: len(sink.received) == 20)
    moved.set_clock(jump)
    await until(lambda: len(delivered(sink)) == 20, 30)
    await asyncio.sleep(3.0)  # a sign of life, with its look for what nobody has in hand
    assert sorted(delivered(sink)) == sorted(runs)
    assert len(sink.received) == 20
    assert await moved.serve.terminate() == 0
    assert await moved.states() == {("succeeded", 1)}


async def test_work_that_was_in_flight_at_a_kill_is_due_at_a_start_with_another_clock(moved: Moved, sink) -> None:
    await moved.serve.start()
    sink.faults.add(status=200, hang=60.0, times=5)
    runs = await moved.post(5)
    await until(lambda: len(sink.received) == 5)
    await moved.serve.kill()
    moved.set_clock(-3 * HOUR)
    begun = time.monotonic()
    await moved.serve.start()
    await until(lambda: sorted(delivered(sink)) == sorted(runs))
    assert time.monotonic() - begun < 30
    assert await moved.serve.terminate() == 0

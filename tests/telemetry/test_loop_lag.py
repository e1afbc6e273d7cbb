"""The loop's lag is measured, and whoever blocks it is named."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import json
import logging
import sys
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from logs import configure_logging

from engine.app import running
from engine.core.masking import Masker
from engine.core.serve_settings import Address, ServeSettings
from engine.rules.conditions import Filter
from engine.telemetry.loop_lag import LoopLag

#: A stall for tests: short, but longer than a busy machine's hiccups are likely to be.
STALL = 0.15

PLUGIN = '''
import ctypes
import engine


class Hold(engine.Action):
    """Hold the interpreter's lock, as careless code in C does."""

    async def run(self, params, context):
        # A function of Python's own C interface keeps the lock; the C library's usleep knows nothing of it.
        ctypes.PyDLL(None).usleep(700_000)
'''


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("json", "info", Masker, stream)
    return stream


@pytest.fixture
async def lag(stream: io.StringIO) -> AsyncIterator[LoopLag]:
    lag = LoopLag(logging.getLogger("engine"), stall=STALL, tick=0.02)
    lag.start()
    await asyncio.sleep(0.05)
    yield lag
    lag.stop()


def warnings(stream: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if line["message"].startswith("the event loop was blocked")]


async def told(stream: io.StringIO) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while not warnings(stream):
            await asyncio.sleep(0.02)
    (line,) = warnings(stream)
    return line


async def test_a_loop_that_is_in_time_is_measured_and_not_complained_of(lag: LoopLag, stream: io.StringIO) -> None:
    await asyncio.sleep(0.2)
    (*_, (_, count)), total = lag.lag.read()
    assert count >= 3
    assert total < count * STALL
    assert warnings(stream) == []


async def test_a_stall_is_one_line_that_names_the_function_and_the_line(lag: LoopLag, stream: io.StringIO) -> None:
    def careless() -> None:
        time.sleep(STALL * 4)

    asyncio.get_running_loop().call_soon(careless)
    line = await told(stream)
    assert line["culprit"] == "test_loop_lag"
    assert line["where"].startswith("test_loop_lag.py:")
    assert line["where"].endswith(" careless")
    assert STALL * 3 < line["seconds"] < STALL * 40
    assert lag.stalls.read() == {("test_loop_lag",): 1}
    assert lag.stall_seconds.read()["test_loop_lag",] == pytest.approx(line["seconds"], abs=0.001)


async def test_what_a_stalled_function_held_is_freed_without_a_garbage_collection(
    lag: LoopLag, stream: io.StringIO
) -> None:
    class Large:
        pass

    def careless() -> weakref.ref[Large]:
        large = Large()
        time.sleep(STALL * 4)
        return weakref.ref(large)

    gc.disable()
    try:
        kept = careless()
        await told(stream)
        assert kept() is None
    finally:
        gc.enable()


async def test_when_nothing_of_ours_was_at_work_it_says_so(stream: io.StringIO) -> None:
    clock = [0.0]
    lag = LoopLag(logging.getLogger("engine"), stall=STALL, tick=0.02, clock=lambda: clock[0])
    lag.start()
    clock[0] = 5.0  # as after a machine's sleep
    line = await told(stream)
    lag.stop()
    assert line["culprit"] == "unknown"


async def test_after_the_end_nothing_runs(stream: io.StringIO) -> None:
    import threading

    lag = LoopLag(logging.getLogger("engine"), stall=0.02, tick=0.01)
    lag.start()
    lag.stop()
    async with asyncio.timeout(5):
        while any(thread.name == "loop-watch" for thread in threading.enumerate()):
            await asyncio.sleep(0.01)


# --- in a whole engine -----------------------------------------------------------------------------------------------


async def run_once(folder: Path, action: str, stream: io.StringIO) -> tuple[dict[str, Any], str]:
    """One event through one action; the warning that came of it, and the metrics."""
    (folder / "config.yaml").write_text(
        f"secrets: none\nplugins: [./plugins]\nroutes:\n  alert:\n    - name: slow\n      actions: [{action}]\n"
    )
    loopback = Address("127.0.0.1", 0)
    settings = ServeSettings(folder / "config.yaml", folder / "data", listen=loopback, admin=loopback, grace=1)
    async with (
        running(settings, logging.getLogger("engine"), environ={}) as engine,
        aiohttp.ClientSession() as http,
    ):
        async with http.post(f"http://{engine.public}/webhooks/langsmith", json={"alert_rule_id": "x"}) as response:
            assert response.status == 202
        line = await told(stream)
        async with http.get(f"http://{engine.admin}/metrics") as response:
            return line, await response.text()


async def test_a_route_whose_filter_blocks_is_named(
    tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, blocked = Filter.first_unmet, []

    def first_unmet(self: Filter, document: Any) -> Any:
        if not blocked:
            blocked.append(time.sleep(0.7))
        return whole(self, document)

    (tmp_path / "plugins").mkdir()
    monkeypatch.setattr(Filter, "first_unmet", first_unmet)
    line, _ = await run_once(tmp_path, "{log: {message: x}}", stream)
    assert line["culprit"] == "route alert/slow"


@pytest.mark.skipif(not hasattr(ctypes, "PyDLL") or sys.platform == "win32", reason="needs usleep")
async def test_a_plug_in_that_holds_the_interpreter_is_named_with_its_route(
    tmp_path: Path, stream: io.StringIO
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hold.py").write_text(PLUGIN)
    line, metrics = await run_once(tmp_path, "{hold: {}}", stream)
    assert line["culprit"] == "action hold of route alert/slow"
    # On a busy machine the plug-in may have gone on before anybody could look.
    assert line["where"].startswith(("hold.py:", "code in C that held the interpreter's lock"))
    assert 'engine_loop_stalls_total{culprit="action hold of route alert/slow"} 1.0' in metrics
    assert 'engine_loop_stall_seconds_total{culprit="action hold of route alert/slow"} 0.' in metrics


async def test_an_action_of_the_engine_that_blocks_is_named_with_its_route(
    tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actions.log import Log

    (tmp_path / "plugins").mkdir()

    async def blocking(self: Any, params: Any, context: Any) -> None:
        time.sleep(0.7)

    monkeypatch.setattr(Log, "run", blocking)
    line, _ = await run_once(tmp_path, "{log: {message: x}}", stream)
    assert line["culprit"] == "action log of route alert/slow"

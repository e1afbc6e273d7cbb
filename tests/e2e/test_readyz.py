"""``/readyz`` and ``/healthz`` of a whole engine, while things happen to its disk and its store."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Engine, until

from engine.store.sqlite.writer import Operation
from engine.testing import payloads

CONFIG = """
routes:
  alert:
    actions: [{log: {message: "{{ payload.alert_rule_name }}"}}]
"""
needs_mount = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("mount"), reason="needs Linux's tmpfs")


def mount(folder: Path, *options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB, with the engine's data on it."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount(folder, "size=16m")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def look(engine: Engine, path: str = "/readyz") -> tuple[int, str]:
    async with engine.http.get(f"http://{engine.running.public}{path}") as response:
        return response.status, (await response.text()).strip()


async def ready_gauge(engine: Engine) -> dict[str, str]:
    """What ``/metrics`` says of it: the value by reason."""
    async with engine.http.get(f"http://{engine.running.admin}/metrics") as response:
        lines = [line for line in (await response.text()).splitlines() if line.startswith("engine_ready{")]
    return {line.split('"')[1]: line.rpartition(" ")[2] for line in lines}


async def becomes(engine: Engine, *expected: tuple[int, str]) -> None:
    async def is_so() -> bool:
        return await look(engine) in expected

    await until(is_so)


async def test_an_engine_that_is_well_says_so(engine: Engine) -> None:
    await engine.start(CONFIG)
    assert await look(engine) == (200, "ready")
    assert await look(engine, "/healthz") == (200, "ok")
    assert await ready_gauge(engine) == {"": "1.0"}


@needs_mount
async def test_a_full_disk_and_free_space_are_reported(small_disk: Path, engine: Engine) -> None:
    await engine.start(CONFIG)
    await becomes(engine, (200, "ready"))
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * (shutil.disk_usage(small_disk).free - 4096))
    await becomes(engine, (503, "disk"), (503, "full"))
    assert await look(engine, "/healthz") == (200, "ok")
    assert list((await ready_gauge(engine)).values()) == ["0.0"]
    filler.unlink()
    await becomes(engine, (200, "ready"))
    await engine.post(payloads.alert(alert_rule_name="after"))


async def test_a_stuck_writer_is_reported_and_gets_no_more_work(engine: Engine) -> None:
    await engine.start(CONFIG)
    go_on = threading.Event()
    writer = engine.running.store._writer  # type: ignore[attr-defined]
    writer.submit(Operation(lambda _db, _requests: [go_on.wait(60)]), None)
    try:
        await becomes(engine, (503, "store"))
        waiting = writer._queue.qsize()
        for _ in range(3):
            assert await look(engine) == (503, "store")
        assert writer._queue.qsize() <= waiting + 2  # the signs of life come by themselves
        assert await look(engine, "/healthz") == (200, "ok")
    finally:
        go_on.set()
    await becomes(engine, (200, "ready"))
    await engine.post(payloads.alert(alert_rule_name="after"))

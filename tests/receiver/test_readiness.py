"""``/readyz`` tells the truth: it tries, once at a time, and recovers by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.core.errors import StoreBusy
from engine.receiver import readiness
from engine.receiver.readiness import REASONS, Readiness
from engine.store import open_store
from engine.store.protocol import Store


class Disk:
    """A store's small write, as it is told to behave."""

    def __init__(self) -> None:
        self.writes = 0
        self.error: Exception | None = None
        self.stuck: asyncio.Event | None = None

    async def write(self) -> None:
        self.writes += 1
        if self.stuck is not None:
            await self.stuck.wait()
        if self.error is not None:
            raise self.error


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_it_is_ready_where_a_small_write_goes_through(tmp_path: Path) -> None:
    disk = Disk()
    assert await Readiness(disk.write, tmp_path).obstacle() == ""
    assert disk.writes == 1


async def test_frequent_requests_write_at_most_once_a_second() -> None:
    disk, clock = Disk(), Clock()
    ready = Readiness(disk.write, None, clock=clock)
    for _ in range(50):
        await ready.obstacle()
    assert disk.writes == 1
    clock.now += 1.1
    await ready.obstacle()
    assert disk.writes == 2


async def test_a_store_that_fails_is_reported_and_recovers_by_itself() -> None:
    disk, clock = Disk(), Clock()
    ready = Readiness(disk.write, None, clock=clock)
    disk.error = StoreBusy("the disk is full")
    assert await ready.obstacle() == "store"
    disk.error = None
    clock.now += 1.1
    assert await ready.obstacle() == ""


async def test_nothing_piles_up_on_a_stuck_store() -> None:
    disk = Disk()
    disk.stuck = asyncio.Event()
    ready = Readiness(disk.write, None, timeout=0.02)
    assert await asyncio.gather(*(ready.obstacle() for _ in range(20))) == ["store"] * 20
    assert await ready.obstacle() == "store"
    assert disk.writes == 1
    disk.stuck.set()
    await asyncio.sleep(0)
    assert await ready.obstacle() == ""
    assert disk.writes == 1
    await ready.close()


async def test_a_stuck_store_does_not_keep_the_engine_from_stopping() -> None:
    disk = Disk()
    disk.stuck = asyncio.Event()
    ready = Readiness(disk.write, None, timeout=0.01)
    await ready.obstacle()
    await ready.close()


@pytest.mark.parametrize(
    ("free", "total", "word"),
    [
        (63 * 2**20, 2**40, "disk"),
        (65 * 2**20, 2**40, ""),
        (2 * 2**20, 100 * 2**20, ""),
        (2**19, 100 * 2**20, "disk"),
        (0, 0, ""),
    ],
    ids=["less_than_64_MiB", "a_large_disk_with_more", "a_small_disk_with_more_than_1_%", "with_less", "no_sizes"],
)
async def test_a_disk_is_full_below_64_mib_or_one_percent_whatever_is_smaller(
    free: int, total: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    usage = SimpleNamespace(total=total, free=free)
    monkeypatch.setattr(readiness.shutil, "disk_usage", lambda _folder: usage)
    ready = Readiness(disk.write, Path("/"))
    assert await ready.obstacle() == word
    assert disk.writes == (0 if word else 1)
    assert ready.read_free() == {(): float(free)}


async def test_a_missing_folder_is_reported_by_the_store(tmp_path: Path) -> None:
    disk = Disk()
    disk.error = StoreBusy("cannot be opened")
    ready = Readiness(disk.write, tmp_path / "gone")
    assert await ready.obstacle() == "store"
    assert ready.read_free() == {}


async def test_other_parts_are_asked_first() -> None:
    disk, words = Disk(), [""]
    ready = Readiness(disk.write, None, checks=[lambda: words[0]])
    assert await ready.obstacle() == ""
    words[0] = "full"
    assert await ready.obstacle() == "full"
    assert "full" in REASONS


# --- against the real store ------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_store(folder: Path) -> AsyncIterator[Store]:
    store = open_store(folder / "engine.db")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("mount"), reason="needs Linux's tmpfs")
async def test_a_full_disk_and_free_space_are_reported(small_disk: Path) -> None:
    clock = Clock()
    async with a_store(small_disk) as store:
        ready = Readiness(lambda: store.heartbeat(now=1.0), small_disk, clock=clock)
        assert await ready.obstacle() == ""
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            free = os.statvfs(small_disk)
            file.write(b"x" * (free.f_bavail * free.f_frsize))
        clock.now += 2
        assert await ready.obstacle() == "disk"
        filler.unlink()
        clock.now += 2
        assert await ready.obstacle() == ""


async def test_a_locked_store_file_and_its_release_are_reported(tmp_path: Path) -> None:
    import sqlite3

    clock = Clock()
    async with a_store(tmp_path) as store:
        ready = Readiness(lambda: store.heartbeat(now=1.0), tmp_path, clock=clock, timeout=0.2)
        other = sqlite3.connect(tmp_path / "engine.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert await ready.obstacle() == "store"
        other.execute("ROLLBACK")
        other.close()
        async with asyncio.timeout(10):
            while await ready.obstacle():
                clock.now += 2
        await ready.close()

"""What can happen to a store, with the real process: it refuses in words or answers 503, loses nothing, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import SECRET, until
from processes import Serve, left_behind

from engine.store import open_store
from engine.store.queries import DeliveryQuery, EventQuery
from engine.testing import payloads
from engine.worker.destinations.circuit import LONGEST_COOL_DOWN

CONFIG = """
secrets: ["${SECRET}"]
retention: {bodies: forever, events: forever, unmatched: forever, dead: forever}
defaults: {timeout: 10s, retry: {attempts: 1000, within: 30d, min: 100ms, max: 200ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    name: forward
    actions: [{forward_webhook: {url: "${SINK}", body: {run: "{{ run.id }}"}}}]
"""
VERSION_1 = Path(__file__).with_name("store_version_1.sql")
APPLICATION_ID = 0x4C535245


class House:
    """A real process on a data directory, and who posts to it."""

    def __init__(self, folder: Path, sink_url: str, data: Path | None = None, **environ: str) -> None:
        self.data = data or folder / "data"
        self.config = folder / "config.yaml"
        self.config.write_text(CONFIG)
        self.environ = {"SECRET": SECRET, "SINK": sink_url, **environ}
        self.serve = self.another()
        self.accepted: dict[str, str] = {}
        self._numbers = iter(range(10**6))

    def another(self) -> Serve:
        return Serve(self.config, self.data, self.environ, ["--grace", "1s"])

    async def post(self, size: int = 0) -> int:
        """One event of one run, padded with what can't be compressed. The status."""
        run = payloads.run(next(self._numbers))
        body = payloads.to_body(payloads.rule([run]) | {"pad": random.randbytes(size // 2).hex()})
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(self.serve.url(SECRET), data=body) as answer,
        ):
            told = await answer.json()
            if answer.status == 202:
                self.accepted[told["event"]] = run["id"]
            self.said = told.get("error", "")
            return answer.status

    async def posts(self, count: int, size: int = 0) -> set[int]:
        return {await self.post(size) for _ in range(count)}

    async def readyz(self) -> tuple[int, str]:
        async with aiohttp.ClientSession() as http, http.get(f"http://{self.serve.address}/readyz") as answer:
            return answer.status, (await answer.text()).strip()

    async def is_ready(self) -> bool:
        return await self.readyz() == (200, "ready")

    async def is_full(self) -> bool:
        return await self.readyz() == (503, "full")

    async def accepts_again(self) -> None:
        async def accepts() -> bool:
            return await self.post() == 202

        await until(accepts, 15)
        await until(self.is_ready, 15)

    async def assert_all_is_delivered_once(self, sink: Any, *, again: int = 0) -> None:
        """Every accepted event's run, exactly once (``again``: how many may have been cut off and made again)."""

        def delivered() -> list[str]:
            return [one.body["run"] for one in sink.received if one.status == 200]

        # A destination that has failed for a while is tried again after so long at the latest.
        await until(lambda: set(self.accepted.values()) <= set(delivered()), LONGEST_COOL_DOWN + 20)
        assert len(delivered()) <= len(set(delivered())) + again
        assert await self.serve.terminate() == 0
        async with left_behind(self.data) as store:
            assert {row.id for row in await store.events(EventQuery(limit=10_000))} >= set(self.accepted)
            rows = await store.deliveries(DeliveryQuery(limit=10_000))
            assert {row.state for row in rows} == {"succeeded"}


@pytest.fixture
async def house(tmp_path: Path, sink) -> Any:
    made = House(tmp_path, sink.url)
    yield made
    await made.serve.kill()


# It refuses to start


async def a_store(path: Path, events: int = 60) -> None:
    store = open_store(path)
    await store.open()
    for number in range(events):
        from engine.core.event import parse_event

        body = payloads.to_body(payloads.rule([payloads.run(number)]) | {"pad": "x" * 2000})
        await store.append(parse_event(body, time.time()), leased=False)
    await store.close()


async def not_a_database(path: Path) -> None:
    path.write_text("routes: {}\n" * 1000)


async def another_programs(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE event (id TEXT)")
    db.commit()
    db.close()


async def a_newer_one(path: Path) -> None:
    await a_store(path, 1)
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    db.commit()
    db.close()


async def a_broken_header(path: Path) -> None:
    await a_store(path)
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"\xff" * 84)


async def a_broken_page(path: Path) -> None:
    await a_store(path)
    with path.open("r+b") as file:
        file.seek(8192 * 4)
        file.write(os.urandom(8192 * 3))


async def a_cut_file(path: Path) -> None:
    await a_store(path)
    os.truncate(path, 8192 * 5)


async def a_schema_without_a_version(path: Path) -> None:
    await a_store(path, 1)
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = 'two' WHERE name = 'schema_version'")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (not_a_database, "is not a SQLite database; choose another path"),
        (another_programs, "is another program's SQLite database; choose another path"),
        (a_newer_one, "was written by a newer version of the engine (its schema is 99"),
        (a_broken_header, "is damaged"),
        (a_broken_page, "is damaged"),
        (a_cut_file, "is damaged"),
        (a_schema_without_a_version, "is damaged"),
    ],
)
async def test_a_foreign_store_is_refused_with_a_message_and_not_changed(
    house: House, make: Callable[[Path], Awaitable[None]], words: str
) -> None:
    house.data.mkdir()
    path = house.data / "engine.db"
    await make(path)
    before = path.read_bytes()
    code, said = await refused(house.serve)
    assert code == 2, said
    assert words in said
    assert str(path) in said
    assert "Traceback" not in said
    assert path.read_bytes() == before


async def refused(serve: Serve) -> tuple[int, str]:
    await serve.spawn()
    return await asyncio.wait_for(serve.ended(), 20), serve.words


async def test_a_second_engine_on_one_data_directory_is_refused_and_the_first_goes_on(house: House, sink) -> None:
    await house.serve.start()
    assert await house.posts(3) == {202}
    code, said = await refused(house.another())
    assert code == 2
    assert "is in use by another engine (pid " in said
    assert await house.posts(3) == {202}
    await house.assert_all_is_delivered_once(sink)


async def test_a_data_directory_that_is_a_file_is_refused(house: House) -> None:
    house.data.write_text("not a directory")
    code, said = await refused(house.serve)
    assert (code, "Traceback" in said) == (2, False)
    assert str(house.data) in said


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("to mount a disk takes root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all the disk has but so many bytes."""
    filler = disk / "filler"
    size = shutil.disk_usage(disk).free - leave
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        file.write(b"x" * max(size, 0))
    return filler


async def test_a_disk_that_fills_up_answers_503_keeps_all_and_goes_on(tmp_path: Path, disk: Path, sink) -> None:
    house = House(tmp_path, sink.url, disk / "data")
    await house.serve.start()
    sink.faults.add(status=503, times=None)
    filler = fill(disk, leave=12 * 2**20)

    async def full() -> bool:
        return await house.post(400_000) == 503

    await until(full, 30)
    assert "disk is full" in house.said
    assert len(house.accepted) > 5
    await until(house.is_full)
    filler.unlink()
    await house.accepts_again()
    sink.faults.clear()
    await house.assert_all_is_delivered_once(sink)


async def test_a_disk_that_is_full_to_the_last_byte_loses_nothing_and_goes_on(tmp_path: Path, disk: Path, sink) -> None:
    house = House(tmp_path, sink.url, disk / "data")
    await house.serve.start()
    assert await house.posts(5, 50_000) == {202}
    filler = fill(disk)

    async def full() -> bool:
        return await house.post(400_000) == 503

    await until(full, 20)
    filler.unlink()
    await house.accepts_again()
    # What was delivered and could not be written down is settled when there is room: nothing is made twice.
    await house.assert_all_is_delivered_once(sink)


async def test_a_full_disk_at_the_start_is_reported_and_no_obstacle_later(tmp_path: Path, disk: Path, sink) -> None:
    house = House(tmp_path, sink.url, disk / "data")
    filler = fill(disk)
    code, said = await refused(house.serve)
    assert (code, "Traceback" in said) == (2, False)
    assert "No space left" in said or "disk is full" in said
    filler.unlink()
    await house.serve.start()
    assert await house.post() == 202
    await house.assert_all_is_delivered_once(sink)


async def test_a_read_only_disk_is_reported(tmp_path: Path, disk: Path, sink) -> None:
    house = House(tmp_path, sink.url, disk / "data")
    await house.serve.start()
    assert await house.post() == 202
    await house.serve.terminate()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, said = await refused(house.serve)
    assert (code, "Traceback" in said) == (2, False)
    assert str(house.data) in said
    assert "not writable" in said or "read-only" in said.lower()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    await house.serve.start()
    await house.assert_all_is_delivered_once(sink)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can set another process's limits")
async def test_a_disk_that_fails_under_a_running_engine_answers_503_and_goes_on(house: House, sink) -> None:
    await house.serve.start()
    assert await house.posts(3) == {202}
    assert house.serve.pid is not None
    soft, hard = resource.prlimit(house.serve.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(house.serve.pid, resource.RLIMIT_FSIZE, (4096, hard))

    async def fails() -> bool:
        return await house.post() == 503

    await until(fails, 10)
    assert "the disk" in house.said
    assert await house.posts(3) == {503}
    resource.prlimit(house.serve.pid, resource.RLIMIT_FSIZE, (soft, hard))
    await house.accepts_again()
    await house.assert_all_is_delivered_once(sink)


# Files that vanish or change under a running engine


async def test_a_directory_that_is_moved_away_takes_nothing_until_it_is_back(house: House, sink) -> None:
    await house.serve.start()
    sink.faults.add(status=503, times=None)
    assert await house.posts(5) == {202}
    aside = house.data.rename(house.data.with_name("aside"))
    assert await house.posts(5) == {503}
    assert "was removed or replaced" in house.said
    assert await house.readyz() == (503, "store")
    assert not house.data.exists()
    aside.rename(house.data)
    await house.accepts_again()
    sink.faults.clear()
    await house.assert_all_is_delivered_once(sink)


async def test_a_directory_that_is_removed_for_good_takes_nothing_more(house: House, sink) -> None:
    await house.serve.start()
    assert await house.posts(2) == {202}
    shutil.rmtree(house.data)
    assert await house.posts(3) == {503}
    house.data.mkdir()
    assert await house.posts(3) == {503}, "an empty directory is not the one"
    assert list(house.data.iterdir()) == []
    assert await house.readyz() == (503, "store")
    # It can't give back what it had in hand, and what was accepted is gone with the directory: no good end.
    assert await house.serve.terminate() == 2
    assert "was removed or replaced" in house.serve.said[-1]["message"]
    assert "Traceback" not in house.serve.words
    house.accepted.clear()
    await house.serve.start()
    assert await house.post() == 202
    await house.assert_all_is_delivered_once(sink)


async def test_a_log_cut_off_in_the_middle_of_a_write_costs_nothing_that_was_accepted(house: House, sink) -> None:
    await house.serve.start()
    sink.faults.add(status=503, times=None)
    assert await house.posts(20) == {202}
    await house.serve.kill()
    with (house.data / "engine.db-wal").open("ab") as log:
        log.write(os.urandom(8192 * 3 + 100))
    (house.data / "engine.db-shm").write_bytes(os.urandom(32768))
    await house.serve.start()
    assert await house.post() == 202
    sink.faults.clear()
    await house.assert_all_is_delivered_once(sink)


# Older files


def older(path: Path) -> None:
    """The file that the code before left behind."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
    db.executescript(VERSION_1.read_text())
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


async def test_a_store_of_the_version_before_is_brought_up_and_what_waited_in_it_happens(house: House, sink) -> None:
    house.data.mkdir()
    path = house.data / "engine.db"
    older(path)
    await house.serve.start()
    runs = [f"00000000-0000-7000-8000-00000000000{number}" for number in (2, 3, 4)]
    await until(lambda: len(sink.received) == 3)
    assert sorted(one.body["run"] for one in sink.received) == runs
    assert await house.serve.terminate() == 0
    async with left_behind(house.data) as store:
        events = await store.events(EventQuery())
        assert [event.state for event in events] == ["routed"] * 5
        rows = await store.deliveries(DeliveryQuery())
        assert sorted(row.state for row in rows) == ["dead", *["succeeded"] * 4]
        (dead,) = await store.deliveries(DeliveryQuery(state="dead"))
        assert dead.reason == "HTTP 422: no such customer"
        assert list(await store.replay_deliveries(DeliveryQuery(state="dead"), now=time.time())) == [dead.id]
    await house.serve.start()
    assert await house.post() == 202
    await until(lambda: len(sink.received) == 5)
    await house.assert_all_is_delivered_once(sink)
    db = sqlite3.connect(path)
    assert db.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() != ("1",)
    db.close()


async def test_a_crash_in_the_middle_of_bringing_it_up_leaves_it_as_it_was(tmp_path: Path, monkeypatch) -> None:
    from engine.store.sqlite import connection as sqlite_open

    path = tmp_path / "engine.db"
    older(path)
    first, second, *_ = sqlite_open._schema_files()
    monkeypatch.setattr(sqlite_open, "_schema_files", lambda: [first, second + "\nCREATE TABLE oops (;\n"])
    with pytest.raises(Exception, match="syntax error"):
        await open_store(path).open()
    monkeypatch.undo()
    db = sqlite3.connect(path)
    assert db.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() == ("1",)
    db.close()
    async with left_behind(tmp_path) as store:
        assert len(await store.events(EventQuery())) == 5

"""A backup is a whole store under another name, or nothing at all."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from store_cases import T0, accepted, attempt, make_event

from engine.core.errors import StoreError
from engine.store import open_store
from engine.store.encryption import new_key
from engine.store.queries import DeliveryQuery, EventQuery
from engine.store.records import Dead
from engine.store.sqlite import backup
from engine.store.sqlite.backup import back_up


async def a_store(path: Path, keys: str = "") -> list[str]:
    """Two events, one with a dead delivery and one with a waiting one; their ids."""
    store = open_store(path, keys=keys, clock=lambda: T0)
    await store.open()
    first, (dead,) = await accepted(store, "dead", number=1)
    await store.settle_attempt(dead, attempt("dead"), Dead("no such customer"))
    second, _ = await accepted(store, "waits", number=2)
    await store.close()
    return [first.id, second.id]


async def content(path: Path, keys: str = "") -> tuple[list[str], list[tuple[str, str, str]], list[bytes | None]]:
    store = open_store(path, keys=keys, clock=lambda: T0)
    await store.open()
    try:
        events = [row.id for row in await store.events(EventQuery())]
        deliveries = [(row.id, row.state, row.reason) for row in await store.deliveries(DeliveryQuery())]
        return events, deliveries, [(await store.event(one)).body for one in events]
    finally:
        await store.close()


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_backup_is_the_store_under_another_name(folder: Path, sealed: bool) -> None:
    keys = new_key() if sealed else ""
    ids = await a_store(folder / "engine.db", keys)
    made = back_up(folder / "engine.db", folder / "copy.db")
    assert (made.file, made.size) == (folder / "copy.db", (folder / "copy.db").stat().st_size)
    assert made.seconds > 0
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    found = await content(made.file, keys)
    assert found == await content(folder / "engine.db", keys)
    assert (sorted(found[0]), sorted(state for _, state, _ in found[1])) == (sorted(ids), ["dead", "due"])
    with closing(sqlite3.connect(made.file)) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)


async def test_what_is_sealed_stays_sealed(folder: Path) -> None:
    await a_store(folder / "engine.db", new_key())
    back_up(folder / "engine.db", folder / "copy.db")
    assert b'"status"' not in (folder / "copy.db").read_bytes()
    with pytest.raises(StoreError, match="ENGINE_STORE_KEY is not set"):
        await content(folder / "copy.db")


async def test_what_stands_in_the_log_alone_is_in_the_backup(folder: Path) -> None:
    """Beside an engine that has not written it into the file yet, and with one in use."""
    store = open_store(folder / "engine.db", clock=lambda: T0)
    await store.open()
    try:
        event = make_event()
        await store.append(event, leased=True)
        assert (folder / "engine.db-wal").stat().st_size > 0
        back_up(folder / "engine.db", folder / "copy.db")
        await store.append(make_event(2), leased=True)
    finally:
        await store.close()
    assert (await content(folder / "copy.db"))[0] == [event.id]


async def refused(source: Path, target: Path, match: str) -> None:
    before = sorted(target.parent.iterdir()) if target.parent.is_dir() else None
    with pytest.raises(StoreError, match=match):
        back_up(source, target)
    if before is not None:
        after = [path for path in sorted(target.parent.iterdir()) if not path.name.startswith("engine.db-")]
        assert after == [path for path in before if not path.name.startswith("engine.db-")]


async def test_an_existing_file_is_never_replaced(folder: Path) -> None:
    await a_store(folder / "engine.db")
    (folder / "copy.db").write_text("precious")
    (folder / "link.db").symlink_to(folder / "nowhere")
    await refused(folder / "engine.db", folder / "copy.db", "copy.db exists already; a backup replaces nothing")
    await refused(folder / "engine.db", folder / "link.db", "exists already")
    await refused(folder / "engine.db", folder / "engine.db", "exists already")
    assert (folder / "copy.db").read_text() == "precious"


async def test_nor_one_that_was_made_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_store(folder / "engine.db")
    copy = backup._copy

    def slow(*arguments: object) -> None:
        copy(*arguments)
        (folder / "copy.db").write_text("precious")

    monkeypatch.setattr(backup, "_copy", slow)
    with pytest.raises(StoreError, match="exists already"):
        back_up(folder / "engine.db", folder / "copy.db")
    assert (folder / "copy.db").read_text() == "precious"
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_a_file_system_without_links_has_backups_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    def no_links(*_: object) -> None:
        if meanwhile:
            (folder / "copy.db").write_text("precious")
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    ids = await a_store(folder / "engine.db")
    if meanwhile:
        with pytest.raises(StoreError, match="exists already"):
            back_up(folder / "engine.db", folder / "copy.db")
    else:
        back_up(folder / "engine.db", folder / "copy.db")
        assert sorted((await content(folder / "copy.db"))[0]) == sorted(ids)
    assert not [path for path in folder.iterdir() if path.name.endswith(".partial")]


async def test_what_cannot_be_done_is_said(folder: Path) -> None:
    await a_store(folder / "engine.db")
    (folder / "other.db").write_text("no database")
    sqlite3.connect(folder / "theirs.db").execute("CREATE TABLE t (x)")
    await refused(folder / "engine.db", folder / "no" / "copy.db", "there is no folder .*no; make it first")
    await refused(folder / "nothing.db", folder / "copy.db", "there is no store at .*nothing.db")
    await refused(folder / "other.db", folder / "copy.db", "other.db is damaged")
    await refused(folder / "theirs.db", folder / "copy.db", "theirs.db is not an engine's store")


async def test_it_does_not_begin_without_free_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_store(folder / "engine.db")
    usage = namedtuple("usage", "total used free")
    size = back_up(folder / "engine.db", folder / "copy.db").size
    reserve = 64 * 2**20
    for free, good in ((size + reserve, True), (size + reserve - 1, False)):
        monkeypatch.setattr(backup.shutil, "disk_usage", lambda _, free=free: usage(2**40, 0, free))
        if good:
            back_up(folder / "engine.db", folder / "second.db")
        else:
            await refused(folder / "engine.db", folder / "third.db", "it needs .*KiB, and .*KiB can be used there")


async def test_a_full_disk_leaves_nothing_behind(folder: Path) -> None:
    await a_store(folder / "engine.db")
    script = f"""
import resource, signal
from pathlib import Path
from typing import Any
from engine.store.sqlite.backup import back_up
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
back_up(Path({str(folder / "engine.db")!r}), Path({str(folder / "copy.db")!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "StoreError" in done.stderr.splitlines()[-1]
    assert f"{folder / 'copy.db'} cannot be written: " in done.stderr.splitlines()[-1]
    assert not [path for path in folder.iterdir() if "copy" in path.name or "partial" in path.name]


async def test_two_backups_of_processes_with_one_id_do_not_disturb_each_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers that share a folder. The name is as long as file systems allow."""
    ids, name, copy = await a_store(folder / "engine.db"), "c" * 245, backup._copy

    def slow(*arguments: Any) -> None:
        monkeypatch.setattr(backup, "_copy", copy)
        back_up(folder / "engine.db", folder / "second.db")
        copy(*arguments)

    monkeypatch.setattr(backup, "_copy", slow)
    back_up(folder / "engine.db", folder / name)
    for made in (name, "second.db"):
        assert sorted((await content(folder / made))[0]) == sorted(ids)
        assert (folder / made).stat().st_mode & 0o777 == 0o600


async def test_what_a_killed_backup_left_does_not_keep_the_next_from_working(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await a_store(folder / "engine.db")
    with monkeypatch.context() as killed:
        killed.setattr(os, "unlink", lambda _: None)
        killed.setattr(backup, "_copy", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            back_up(folder / "engine.db", folder / "copy.db")
    assert len(list(folder.glob(".engine-backup-*.partial"))) == 1
    back_up(folder / "engine.db", folder / "copy.db")
    assert sorted((await content(folder / "copy.db"))[0]) == sorted(ids)


async def test_the_copy_is_on_the_disk_before_it_has_its_name_and_the_name_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_store(folder / "engine.db")
    synced: list[tuple[str, bool]] = []
    monkeypatch.setattr(backup, "_sync", lambda path: synced.append((path.suffix, (folder / "copy.db").exists())))
    back_up(folder / "engine.db", folder / "copy.db")
    assert synced == [(".partial", False), (folder.suffix, True)]


async def test_ctrl_c_ends_it_and_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    await a_store(folder / "engine.db")
    monkeypatch.setattr(backup, "_STEPS", 1)
    monkeypatch.setattr(backup, "_go_on", interrupted)
    with pytest.raises(StoreError, match="the backup was interrupted; nothing is left of it"):
        back_up(folder / "engine.db", folder / "copy.db")
    assert not [path for path in folder.iterdir() if "copy" in path.name or "partial" in path.name]

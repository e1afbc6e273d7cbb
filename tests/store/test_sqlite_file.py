"""SQLite's file: whose it is, what is wrong with it, and what happens when the disk says no."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from store_cases import T0, accepted, all_claimed, attempt, deliver, make_event, routed, succeed

from engine.core.errors import StoreBusy, StoreError
from engine.core.event import Event
from engine.store import open_store
from engine.store.queries import DeliveryQuery, EventQuery
from engine.store.records import Dead
from engine.store.sqlite.store import SqliteStore

_FULL_DISK = Path(__file__).with_name("full_disk.py")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = sqlite_store(tmp_path / "engine.db")
    await store.open()
    yield store
    await store.close()


def sqlite_store(path: Path | str) -> SqliteStore:
    store = open_store(path, clock=lambda: T0)
    assert isinstance(store, SqliteStore)
    return store


async def refusal(path: Path) -> str:
    store = sqlite_store(path)
    with pytest.raises(StoreError) as caught:
        await store.open()
    return str(caught.value)


async def made(path: Path, events: int = 1) -> None:
    store = sqlite_store(path)
    await store.open()
    await asyncio.gather(*(store.append(make_event(number, size=2000), leased=False) for number in range(events)))
    await store.close()


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


class TestWhere:
    @pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
    def test_postgresql_is_not_part_of_this_version(self, scheme: str):
        with pytest.raises(StoreError, match="PostgreSQL support is not part of this version"):
            open_store(f"{scheme}://localhost/engine")

    @pytest.mark.parametrize(
        "url", ["", "sqlite://", "sqlite:///", "sqlite://host/path", "mysql://x/y", "sqlite:///a?b"]
    )
    def test_what_names_no_file_is_refused_with_the_way_to_write_it(self, url: str):
        with pytest.raises(StoreError, match="sqlite:///"):
            open_store(url)

    async def test_urls_paths_and_directories_name_one_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        await made(tmp_path / "engine.db")
        names = [f"sqlite:///{tmp_path}/engine.db", "sqlite:///engine.db", "engine.db", tmp_path, str(tmp_path)]
        for name in names:
            store = sqlite_store(name)
            await store.open()
            assert len(await store.events(EventQuery())) == 1
            await store.close()

    async def test_odd_names_are_just_names(self, tmp_path: Path):
        path = tmp_path / "a b?c#d%41" / "é;.db"
        await made(path)
        assert path.stat().st_size > 0

    async def test_the_data_is_not_for_everybody(self, tmp_path: Path):
        await made(tmp_path / "new" / "engine.db")
        assert (tmp_path / "new" / "engine.db").stat().st_mode & 0o077 == 0
        assert (tmp_path / "new").stat().st_mode & 0o077 == 0

    async def test_two_stores_of_one_process_have_different_owners(self, tmp_path: Path):
        assert sqlite_store(tmp_path / "a.db").owner != sqlite_store(tmp_path / "b.db").owner
        assert open_store(tmp_path / "a.db", owner="me").owner == "me"


class TestRefusals:
    async def test_a_second_engine_on_one_file(self, tmp_path: Path, store: SqliteStore):
        said = await refusal(tmp_path / "engine.db")
        assert f"pid {os.getpid()} " in said
        assert "in use by another engine" in said
        await store.append(make_event(), leased=True)

    async def test_the_lock_goes_with_the_process(self, tmp_path: Path):
        await made(tmp_path / "engine.db")
        await made(tmp_path / "engine.db")

    async def test_not_a_database(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        path.write_text("routes: {}\n" * 1000)
        assert "not a SQLite database" in await refusal(path)
        assert path.read_text() == "routes: {}\n" * 1000

    async def test_another_programs_database(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        change(path, "CREATE TABLE event (id TEXT)")
        before = path.read_bytes()
        assert "another program's" in await refusal(path)
        assert path.read_bytes() == before

    async def test_a_newer_schema(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        await made(path)
        change(path, "UPDATE meta SET value = '99' WHERE name = 'schema_version'")
        said = await refusal(path)
        assert "newer version" in said
        assert "99" in said

    async def test_a_damaged_file(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        await made(path, events=50)
        with path.open("r+b") as file:
            file.seek(8192 * 3)
            file.write(os.urandom(8192 * 8))
        said = await refusal(path)
        assert "damaged" in said
        assert "backup" in said

    async def test_a_truncated_file(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        await made(path, events=50)
        os.truncate(path, 8192 * 5)
        assert "damaged" in await refusal(path)

    async def test_a_directory_where_the_file_should_be(self, tmp_path: Path):
        (tmp_path / "engine.db" / "engine.db").mkdir(parents=True)
        assert "not a file" in await refusal(tmp_path / "engine.db")

    async def test_a_data_directory_that_can_not_be(self, tmp_path: Path):
        (tmp_path / "file").write_text("x")
        assert "cannot be created" in await refusal(tmp_path / "file" / "deeper" / "engine.db")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    async def test_a_data_directory_that_may_not_be_written(self, tmp_path: Path):
        tmp_path.chmod(0o500)
        assert "not writable" in await refusal(tmp_path / "engine.db")

    async def test_after_a_refusal_the_right_file_opens(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        path.write_text("nonsense")
        await refusal(path)
        path.unlink()
        await made(path)


class TestSchema:
    async def test_has_every_table(self, store: SqliteStore):
        names = {row[0] for row in await store._people.ask(_all, "SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert names == {
            *("meta", "event", "event_body", "work", "attempt", "decision", "replica", "window", "control"),
            *("delivery_words", "digest_item", "fetched", "lane", "latest_body", "thread"),
        }

    async def test_is_durable_by_its_settings(self, store: SqliteStore):
        def settings(db: sqlite3.Connection) -> list[Any]:
            return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

        assert await store._do(settings) == ["wal", 2]

    async def test_a_step_that_fails_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = tmp_path / "engine.db"
        scripts = ["CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);\nCREATE TABLE oops (;\n"]
        monkeypatch.setattr("engine.store.sqlite.connection._schema_files", lambda: scripts)
        assert "syntax error" in await refusal(path)
        monkeypatch.undo()
        await made(path)

    async def test_an_older_file_is_brought_up_step_by_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        from engine.store.sqlite import connection as sqlite_open

        path = tmp_path / "engine.db"
        await made(path)
        scripts = [*sqlite_open._schema_files(), "-- one more;\nALTER TABLE control ADD COLUMN extra TEXT;\n"]
        monkeypatch.setattr(sqlite_open, "_schema_files", lambda: scripts)
        store = sqlite_store(path)
        await store.open()
        assert await store._people.ask(_all, "SELECT value FROM meta WHERE name = 'schema_version'") == [
            (str(len(scripts)),)
        ]
        assert await store._people.ask(_all, "SELECT extra FROM control") == []
        assert len(await store.events(EventQuery())) == 1
        await store.close()

    async def test_readers_can_not_write(self, store: SqliteStore):
        with pytest.raises(StoreError, match="read-only"):
            await store._people.ask(_all, "DELETE FROM event RETURNING id")
        assert await store.events(EventQuery()) == []


class TestTrouble:
    async def test_a_full_disk_is_reported_loses_nothing_and_recovers(self, store: SqliteStore):
        _, (work,) = await accepted(store, "one")
        pages = await store._do(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await store._do(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 4}"))
        events = [make_event(number, size=60_000, noise=os.urandom(30_000).hex()) for number in range(1, 40)]
        answers = await asyncio.gather(*(store.append(one, leased=True) for one in events), return_exceptions=True)
        assert any(isinstance(answer, StoreBusy) and "full" in str(answer) for answer in answers)
        await store._do(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
        kept = {event.id for event, answer in zip(events, answers, strict=True) if not isinstance(answer, StoreBusy)}
        assert {row.id for row in await store.events(EventQuery(limit=100))} - kept == {work.event_id}
        again = await asyncio.gather(*(store.append(one, leased=True) for one in events))
        assert [answer.event_id for answer in again] == [event.id for event in events]
        await succeed(store, work)

    async def test_one_event_too_large_for_the_disk_does_not_keep_out_the_small(self, store: SqliteStore):
        pages = await store._do(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await store._do(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 40}"))
        small = [make_event(number) for number in range(20)]
        large = make_event(99, noise=os.urandom(1_000_000).hex())
        events = [*small[:10], large, *small[10:]]
        answers = await asyncio.gather(*(store.append(one, leased=True) for one in events), return_exceptions=True)
        assert isinstance(answers.pop(10), StoreBusy)
        assert [getattr(answer, "event_id", answer) for answer in answers] == [event.id for event in small]

    async def test_a_disk_that_really_fails_is_reported_and_recovers(self, tmp_path: Path):
        ran = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, _FULL_DISK, tmp_path / "engine.db"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.stdout.split() == ["before:ok", "during:StoreBusy", "reading:ok", "after:ok", "kept:ok"], ran.stderr

    async def test_a_read_only_file_is_reported_and_recovers(self, store: SqliteStore):
        await store._do(lambda db: db.execute("PRAGMA query_only = ON"))
        with pytest.raises(StoreBusy, match="read-only"):
            await store.append(make_event(1), leased=True)
        await store.append(make_event(1), leased=True)

    async def test_another_program_that_holds_the_file_is_waited_for_and_then_reported(
        self, store: SqliteStore, tmp_path: Path
    ):
        other = sqlite3.connect(tmp_path / "engine.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        appends = (store.append(make_event(number), leased=True) for number in range(20))
        answers = await asyncio.gather(*appends, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreBusy}
        assert "another program" in str(answers[0])
        other.execute("ROLLBACK")
        other.close()
        await store.append(make_event(1), leased=True)
        assert len(await store.events(EventQuery())) == 1

    async def test_a_settle_the_disk_refuses_can_be_settled_later(self, store: SqliteStore):
        _, (work,) = await accepted(store, "one")
        await store._do(lambda db: db.execute("PRAGMA query_only = ON"))
        with pytest.raises(StoreBusy):
            await store.settle_attempt(work, attempt(), None)
        assert await store.settle_attempt(work, attempt(), None)

    async def test_a_damaged_body_makes_its_work_dead_and_no_other(self, store: SqliteStore):
        bad, good = make_event(1, size=20_000), make_event(2)
        await store.append(bad, leased=False)
        await store.append(good, leased=False)
        await store._do(lambda db: db.execute("UPDATE event_body SET body = x'00' WHERE event_id = ?", (bad.id,)))
        assert [claimed.event.id for claimed in await all_claimed(store)] == [good.id]
        (row,) = await store.events(EventQuery(state="dead"))
        assert "damaged" in row.reason

    async def test_an_event_whose_pages_are_damaged_makes_its_work_dead_and_no_other(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        noise = os.urandom(40_000).hex()
        store = sqlite_store(path)
        await store.open()
        bad, good = make_event(1, noise=noise), make_event(2)
        await store.append(bad, leased=False)
        await store.append(good, leased=False)
        await store.close()
        await store_again(path, bad, good)

    @pytest.mark.parametrize("damage", ["x'00'", "x'5b5d'"])
    async def test_damaged_variables_break_only_their_delivery(self, store: SqliteStore, damage: str):
        event = make_event(1)
        await store.append(event, leased=True)
        bad, good = (deliver(event, name, variables={"throttle": {"suppressed": 1}}) for name in ("bad", "good"))
        await store.settle_routed(routed(event, bad, good, leased=False))
        await store._do(
            lambda db: db.execute(f"UPDATE delivery_words SET words = {damage} WHERE work_id = ?", (bad.id,))
        )
        claimed = {one.work.id: one for one in await all_claimed(store)}
        assert (claimed[good.id].work, claimed[good.id].broken) == (good, "")
        assert "its template variables are damaged" in claimed[bad.id].broken
        assert (claimed[bad.id].work.variables, claimed[bad.id].event) == (None, event)
        detail = await store.delivery(bad.id)
        assert detail is not None
        assert detail.variables is None

    async def test_variables_on_damaged_pages_break_only_their_delivery(self, tmp_path: Path):
        path = tmp_path / "engine.db"
        store = sqlite_store(path)
        await store.open()
        event = make_event(1)
        await store.append(event, leased=True)
        bad = deliver(event, "bad", variables={"delivery": {"reason": os.urandom(40_000).hex()}})
        good = deliver(event, "good", variables={"delivery": {"reason": "500"}})
        decisions = [{"route": "a", "index": 0, "reason": os.urandom(40_000).hex()}]
        await store.settle_routed(routed(event, bad, good, leased=False, decisions=decisions))
        await store.close()
        store = sqlite_store(path)
        await store.open()
        break_overflow(path)
        broken = {one.work.id: one.broken for one in await all_claimed(store)}
        assert broken[good.id] == ""
        assert "the store's file is damaged there" in broken[bad.id]
        detail = await store.event(event.id)
        assert detail is not None
        assert [evaluation["decisions"] for evaluation in detail.evaluations] == [[]]
        await store.close()

    async def test_what_is_damaged_of_an_event_is_left_out_and_the_rest_is_shown(
        self, store: SqliteStore, caplog: pytest.LogCaptureFixture
    ):
        event, (work,) = await accepted(store, "one")
        await store.settle_attempt(work, attempt("dead", detail={"a": 1}), Dead("no"))
        await store.save_fetched(event.id, {"inputs": {"run-0": 1}})
        for column in ("decision.decisions", "attempt.detail", "event_body.body", "fetched.data"):
            table, _, name = column.partition(".")
            await store._do(lambda db, sql=f"UPDATE {table} SET {name} = x'02ff'": db.execute(sql))
        await store._do(lambda db: db.execute("UPDATE event_body SET encoding = 1"))
        shown, delivery = await store.event(event.id), await store.delivery(work.id)
        assert shown is not None
        assert delivery is not None
        assert (shown.body, shown.fetched, shown.evaluations[0]["decisions"]) == (None, None, [])
        assert [(one.outcome, one.detail) for one in delivery.attempts] == [("dead", None)]
        assert list(await store.decisions(event.id, 0)) == list(shown.evaluations)
        assert len(await store.events(EventQuery())) == len(await store.deliveries(DeliveryQuery())) == 1
        assert caplog.text.count("data that can't be read is left out") == 7

    @pytest.mark.parametrize("what", ["engine.db", "engine.db-wal", "."])
    async def test_a_file_that_is_moved_away_takes_nothing_until_it_is_back(self, folder: Path, what: str):
        place, aside = (folder / "data" / what).resolve(), folder / "aside"
        store = sqlite_store(folder / "data" / "engine.db")
        await store.open()
        await store.append(make_event(0), leased=True)
        place.rename(aside)
        for _ in range(2):
            with pytest.raises(StoreBusy, match=r"was removed or replaced .* put the file back"):
                await store.append(make_event(1), leased=True)
        assert not (folder / "data" / "engine.db").exists() or what == "engine.db-wal"
        if what != "engine.db-wal":
            with pytest.raises(StoreBusy, match="was removed or replaced"):
                await store.next_due()
        aside.rename(place)
        await store.append(make_event(1), leased=True)
        await store.close()
        await store_has(folder / "data" / "engine.db", 2)

    async def test_another_file_in_its_place_is_not_taken_for_it(self, folder: Path):
        path = folder / "engine.db"
        await made(folder / "other.db")
        store = sqlite_store(path)
        await store.open()
        (folder / "other.db").rename(path)
        with pytest.raises(StoreBusy, match="was removed or replaced"):
            await store.append(make_event(1), leased=True)
        await store.close()
        await store_has(path, 1)

    async def test_closing_twice_is_once(self, tmp_path: Path):
        store = sqlite_store(tmp_path / "engine.db")
        await store.open()
        await store.close()
        await store.close()


async def store_has(path: Path, events: int) -> None:
    """A store of another process finds so many events."""
    store = sqlite_store(path)
    await store.open()
    assert len(await store.events(EventQuery(limit=100))) == events
    await store.close()


async def store_again(path: Path, bad: Event, good: Event) -> None:
    """What a claim finds after pages were damaged under an open store."""
    store = sqlite_store(path)
    await store.open()
    break_overflow(path)
    assert [claimed.event for claimed in await all_claimed(store)] == [good]
    (row,) = await store.events(EventQuery(state="dead"))
    assert row.id == bad.id
    assert "the store's file is damaged there" in row.reason
    await store.close()


def break_overflow(path: Path) -> None:
    """Make the chains of every page that is one of a long value lead nowhere."""
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data), 8192):
        if data[start] == 0 and 0 < int.from_bytes(data[start : start + 4]) <= len(data) // 8192:
            data[start : start + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)


def _all(db: sqlite3.Connection, statement: str) -> list[Any]:
    return db.execute(statement).fetchall()

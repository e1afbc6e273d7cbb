"""What hydration fetched, as SQLite keeps it: one row for each run and part, beside what earlier versions kept."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from store_cases import T0, Clock, accepted, all_claimed, make_event, succeed

from engine.core.errors import StoreError
from engine.core.event import Event
from engine.store import open_store
from engine.store.encryption import new_key
from engine.store.packing import dump_json, pack
from engine.store.sqlite.connection import Database
from engine.store.sqlite.fetched import SAVED_BYTES, pieces_of
from engine.store.sqlite.prune import find
from engine.store.sqlite.store import SqliteStore

KEY = new_key()
OLD = {
    "inputs": {"run-0": {"q": "a" * 20_000}, "run-1": "kept"},
    "outputs": {},
    "feedback": {"run-0": [{"key": "k"}]},
}


def opened(folder: Path, keys: str = "") -> SqliteStore:
    store = open_store(folder / "engine.db", owner="me", clock=Clock(), keys=keys)
    assert isinstance(store, SqliteStore)
    return store


def rows(db: sqlite3.Connection, statement: str, *values: Any) -> list[Any]:
    return db.execute(statement, values).fetchall()


NOTHING: dict[str, Any] = {"inputs": {}, "outputs": {}, "feedback": None}


async def fetched_of(store: SqliteStore, event: Event) -> Any:
    detail = await store.event(event.id)
    assert detail is not None
    return detail.fetched


async def with_an_old_value(folder: Path, keys: str) -> Event:
    """A store in which an event has what versions before schema 7 kept: all that was fetched, as one value."""
    store = opened(folder, keys)
    await store.open()
    event = make_event(size=20_000)
    await store.append(event, leased=False)

    def save(db: Database) -> None:
        data = dump_json(OLD)
        packed = pack(data, db.keyring, f"event_body.fetched:{event.id}")
        statement = "UPDATE event_body SET fetched_size = ?, fetched_encoding = ?, fetched = ? WHERE event_id = ?"
        db.execute(statement, (len(data), *packed, event.id))

    await store._do(save)
    await store.close()
    return event


def untouched(folder: Path) -> Any:
    db = sqlite3.connect(folder / "engine.db")
    found = rows(db, "SELECT body, fetched_size, fetched_encoding, fetched FROM event_body")
    db.close()
    return found


@pytest.mark.parametrize("keys", ["", KEY], ids=["plain", "sealed"])
async def test_what_an_earlier_version_fetched_is_read_as_it_is_and_joined_with_new_rows(
    tmp_path: Path, keys: str
) -> None:
    event = await with_an_old_value(tmp_path, keys)
    before = untouched(tmp_path)
    store = opened(tmp_path, keys)
    await store.open()
    assert await fetched_of(store, event) == OLD
    await store.save_fetched(event.id, {"inputs": {"run-0": "newer"}, "outputs": {"run-0": 1}})
    joined = {
        "inputs": {"run-0": "newer", "run-1": "kept"},
        "outputs": {"run-0": 1},
        "feedback": {"run-0": [{"key": "k"}]},
    }
    assert await fetched_of(store, event) == joined
    (claimed,) = await all_claimed(store)
    assert (claimed.event, claimed.fetched) == (event, joined)
    await store.close()
    assert untouched(tmp_path) == before, "it is rewritten neither by the start nor by a save"


async def test_a_claim_counts_both(tmp_path: Path) -> None:
    event = await with_an_old_value(tmp_path, "")
    store = opened(tmp_path)
    await store.open()
    other = make_event(1, at=T0 + 1)
    await store.append(other, leased=False)
    await store.save_fetched(event.id, {"outputs": {"run-0": "x" * 30_000}})
    sizes = len(event.body) + len(dump_json(OLD)) + len(dump_json("x" * 30_000)) + len(other.body)
    assert len(await all_claimed(store, max_bytes=sizes - 1)) == 1
    await store.release([event.id], due_at=T0)
    assert len(await all_claimed(store, max_bytes=sizes)) == 2
    await store.close()


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    store = opened(tmp_path)
    await store.open()
    yield store
    await store.close()


async def test_a_save_writes_what_is_new_and_nothing_else(store: SqliteStore) -> None:
    """An earlier version wrote 26 MB here: with each save all that was fetched before, and the event's body."""
    event = make_event(noise=os.urandom(200_000).hex())
    await store.append(event, leased=True)
    before = written()
    for number in range(50):
        await store.save_fetched(event.id, {"inputs": {f"run-{number}": os.urandom(10_000).hex()}})
    assert written() - before < 5 * 2**20
    assert len((await fetched_of(store, event))["inputs"]) == 50


def written() -> int:
    """How many bytes this process has written."""
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(facts["wchar"])


async def test_what_is_saved_again_takes_the_place_of_what_was(store: SqliteStore) -> None:
    event, _ = await accepted(store, "one")
    for value in (1, 2):
        await store.save_fetched(event.id, {"feedback": {"run-0": [value], "run-1": []}})
    found = await store._people.ask(rows, "SELECT part, run_key, size, data FROM fetched ORDER BY run_key")
    assert found == [("feedback", "run-0", 3, b"[2]"), ("feedback", "run-1", 2, b"[]")]


async def test_many_saves_at_once_are_one_statement_and_the_last_counts(store: SqliteStore) -> None:
    event, _ = await accepted(store, "one")
    await asyncio.gather(*(store.save_fetched(event.id, {"inputs": {"run-0": number}}) for number in range(20)))
    assert await fetched_of(store, event) == NOTHING | {"inputs": {"run-0": 19}}


async def test_what_is_large_is_kept_in_several_transactions(store: SqliteStore) -> None:
    event, _ = await accepted(store, "one")
    third = os.urandom(SAVED_BYTES // 6).hex()
    fetched = {"inputs": {f"run-{number}": third for number in range(7)}, "feedback": {"run-0": []}}
    groups = list(pieces_of(event.id, fetched))
    assert [[piece.run_key for piece in group] for group in groups] == [
        ["run-0", "run-1", "run-2"],
        ["run-3", "run-4", "run-5"],
        ["run-6", "run-0"],
    ]
    await store.save_fetched(event.id, fetched)
    assert await fetched_of(store, event) == NOTHING | fetched


async def test_a_row_that_is_damaged_is_left_out_and_the_others_are_read(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    event = make_event()
    await store.append(event, leased=False)
    await store.save_fetched(event.id, {"inputs": {"run-0": 0, "run-1": 1}, "outputs": {"run-0": 2}})
    await store._do(lambda db: db.execute("UPDATE fetched SET data = x'ff' WHERE run_key = 'run-1'"))
    await store._do(lambda db: db.execute("UPDATE event_body SET fetched_encoding = 0, fetched = x'ff'"))
    (claimed,) = await all_claimed(store)
    assert claimed.fetched == NOTHING | {"inputs": {"run-0": 0}, "outputs": {"run-0": 2}}
    left_out = [record.of for record in caplog.records if record.getMessage() == "data that can't be read is left out"]
    assert left_out == [event.id, f"{event.id}:inputs:run-1"]


async def test_sealed_rows_are_of_no_use_in_another_place(tmp_path: Path) -> None:
    store = opened(tmp_path / "sealed", KEY)
    await store.open()
    event, _ = await accepted(store, "one")
    await store.save_fetched(event.id, {"inputs": {"run-0": "mine", "run-1": "other"}})
    await store._do(lambda db: db.execute("UPDATE fetched SET run_key = 'run-2' WHERE run_key = 'run-0'"))
    assert await fetched_of(store, event) == NOTHING | {"inputs": {"run-1": "other"}}
    await store.close()


async def test_a_key_that_seals_nothing_but_what_was_fetched_is_needed(tmp_path: Path) -> None:
    store = opened(tmp_path / "sealed", KEY)
    await store.open()
    event, _ = await accepted(store, "one")
    await store.save_fetched(event.id, {"inputs": {"run-0": 1}})
    await store._do(lambda db: db.execute("DELETE FROM event_body"))
    await store._do(lambda db: db.execute("DELETE FROM decision"))
    await store.close()
    with pytest.raises(StoreError, match="encrypted with the key"):
        await opened(tmp_path / "sealed", new_key()).open()


@pytest.mark.parametrize("what", ["bodies", "events"])
async def test_rows_go_with_their_event_and_count_as_its_bytes(store: SqliteStore, what: Any) -> None:
    events = []
    for number in range(3):
        event, (work,) = await accepted(store, "one", number=number)
        await store.save_fetched(event.id, {"inputs": {f"run-{one}": os.urandom(3000).hex() for one in range(5)}})
        await succeed(store, work)
        events.append(event)
    look = {"what": what, "before": T0 + 50, "after": "", "limit": 100}
    found = await store._people.ask(find, **look, max_bytes=45_000)
    assert (len(found[0]), found[2]) == (1, True)
    assert len((await store._people.ask(find, **look, max_bytes=70_000))[0]) == 2
    await store.prune(what, before=T0 + 50)
    assert await store._people.ask(rows, "SELECT count(*) FROM fetched") == [(0,)]


async def test_what_comes_when_the_body_is_gone_is_not_kept(store: SqliteStore) -> None:
    event, _ = await accepted(store, "one")
    await store._do(lambda db: db.execute("DELETE FROM event_body"))
    await store.save_fetched(event.id, {"inputs": {"run-0": 1}})
    assert await store._people.ask(rows, "SELECT count(*) FROM fetched") == [(0,)]


async def test_sizes_are_added_up_in_an_index(store: SqliteStore) -> None:
    plan = await store._people.ask(rows, "EXPLAIN QUERY PLAN SELECT sum(size) FROM fetched WHERE event_id = 'e'")
    assert "COVERING INDEX fetched_size" in plan[0][3]


async def test_fetched_data_that_is_too_large_is_not_loaded(store: SqliteStore) -> None:
    event = make_event()
    await store.append(event, leased=False)
    await store.save_fetched(event.id, {"inputs": {"run-0": "x" * 98}, "outputs": {"run-0": "x" * 98}})
    for most, fetched in (
        (199, None),
        (200, NOTHING | {"inputs": {"run-0": "x" * 98}, "outputs": {"run-0": "x" * 98}}),
    ):
        (claimed,) = await store.claim(now=T0, limit=1, max_fetched=most)
        assert (claimed.fetched, claimed.fetched_size > 200) == (fetched, fetched is not None)
        await store.release([event.id], due_at=T0)

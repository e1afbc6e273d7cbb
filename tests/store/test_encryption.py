"""Encryption at rest: what the files on the disk show, which keys open them, and what happens without."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import test_sqlite_contract as on_sqlite
from contract import store
from store_cases import T0, Clock, all_claimed, attempt, deliver, make_event, routed

from engine.core.errors import StoreError
from engine.store import open_store
from engine.store.encryption import Keyring, MissingKey, keyring_from, new_key
from engine.store.protocol import Store
from engine.store.records import Dead

__all__ = ["store"]

MARKER = "the-customers-own-words"
OLD, NEW = new_key(), new_key()


class _SealedBackend(on_sqlite.SqliteBackend):
    def store(self, owner: str | None = None) -> Store:
        return open_store(self.url, owner=owner, clock=self.clock, keys=OLD)


class TestSealedSqlite(on_sqlite.TestSqlite):
    """Whatever a store does it does with sealed rows, too."""

    @pytest.fixture
    def backend(self, folder: Path) -> _SealedBackend:
        return _SealedBackend(folder)


@asynccontextmanager
async def opened(folder: Path, keys: str = "", clock: Clock | None = None) -> AsyncIterator[Store]:
    store = open_store(folder / "engine.db", owner="me", clock=clock or Clock(), keys=keys)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def marked(store: Store, number: int = 0, *, size: int = 0) -> str:
    """An event with the marker everywhere where it may stand, and a delivery that is due again."""
    event = make_event(number, text=MARKER, size=size)
    await store.append(event, leased=True)
    await store.save_fetched(event.id, {"feedback": {"run-0": [MARKER]}})
    work = replace(deliver(event), variables={"throttle": MARKER})
    dead = replace(deliver(event, "d2"), variables={"throttle": MARKER})
    await store.settle_routed(routed(event, work, dead, decisions=[{"found": MARKER}]))
    await store.settle_attempt(dead, attempt("dead", detail={"response": MARKER}), Dead("no"))
    await store.release([work.id], due_at=T0)
    await store.save_thread(f"{MARKER} {number}", MARKER)
    return event.id


async def whole(store: Store, event_id: str) -> None:
    """Everything about a marked event comes back as it was."""
    detail = await store.event(event_id)
    assert MARKER.encode() in detail.body
    assert detail.fetched == {"inputs": {}, "outputs": {}, "feedback": {"run-0": [MARKER]}}
    assert detail.evaluations[0]["decisions"] == [{"found": MARKER}]
    (dead,) = [row for row in detail.deliveries if row.state == "dead"]
    assert (await store.delivery(dead.id)).attempts[0].detail == {"response": MARKER}


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


@pytest.mark.parametrize("size", [0, 20_000], ids=["small", "compressed"])
async def test_nothing_of_a_payload_is_on_the_disk(tmp_path: Path, size: int) -> None:
    async with opened(tmp_path) as store:
        await marked(store, size=size)
        assert MARKER.encode() in on_disk(tmp_path)
    sealed = tmp_path / "sealed"
    async with opened(sealed, OLD) as store:
        event_id = await marked(store, size=size)
        assert MARKER.encode() not in on_disk(sealed), "in the write-ahead log"
        await whole(store, event_id)
    assert MARKER.encode() not in on_disk(sealed)
    async with opened(sealed, OLD) as store:
        await whole(store, event_id)
        (claimed,) = await all_claimed(store)
        assert (claimed.event.payload["text"], claimed.work.variables) == (MARKER, {"throttle": MARKER})


async def test_keys_are_rotated_while_rows_of_every_age_stay_readable(tmp_path: Path) -> None:
    ids = []
    for number, keys in enumerate(("", OLD, f"{NEW},{OLD}", f" {NEW} , {OLD} ")):
        async with opened(tmp_path, keys) as store:
            ids.append(await marked(store, number))
            for event_id in ids:
                await whole(store, event_id)
    with pytest.raises(StoreError, match=keyring_from(OLD).ids[0]):
        async with opened(tmp_path, NEW):
            pass


async def test_a_thread_is_known_by_every_key(tmp_path: Path) -> None:
    for keys in ("", OLD, f"{NEW},{OLD}"):
        async with opened(tmp_path, keys) as store:
            assert await store.thread("kept") == ("1.5" if keys else None)
            await store.save_thread("kept", "1.5")
            await store.save_thread(f"of {keys}", keys)
    async with opened(tmp_path, f"{NEW},{OLD}") as store:
        assert [await store.thread(f"of {keys}") for keys in ("", OLD, f"{NEW},{OLD}")] == ["", OLD, f"{NEW},{OLD}"]
        await store.save_thread("kept", None)
        assert await store.thread("kept") is None


async def test_an_old_key_may_go_when_nothing_is_sealed_with_it_any_more(tmp_path: Path) -> None:
    async with opened(tmp_path, OLD) as store:
        await marked(store)
    db = sqlite3.connect(tmp_path / "engine.db", isolation_level=None)
    for table in ("event_body", "fetched", "decision", "delivery_words", "thread"):
        db.execute(f"DELETE FROM {table}")
    db.execute("UPDATE attempt SET detail = NULL")
    db.close()
    async with opened(tmp_path, NEW) as store:
        await marked(store, 1)
    with pytest.raises(StoreError):
        async with opened(tmp_path):
            pass


@pytest.mark.parametrize(
    ("keys", "words"),
    [("", "ENGINE_STORE_KEY is not set"), (NEW, "add the missing key after the first")],
    ids=["none", "another"],
)
async def test_without_its_key_a_store_is_refused_and_nothing_changes(tmp_path: Path, keys: str, words: str) -> None:
    async with opened(tmp_path, OLD) as store:
        event_id = await marked(store)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            async with opened(tmp_path, keys):
                pass
        assert words in str(caught.value)
        assert keyring_from(OLD).ids[0] in str(caught.value)
        assert OLD not in str(caught.value)
    async with opened(tmp_path, OLD) as store:
        await whole(store, event_id)
        assert len(await all_claimed(store)) == 1


async def test_work_that_needs_a_missing_key_waits_and_is_not_dead(tmp_path: Path) -> None:
    """The check at the start is there to prevent it; should it be passed by, nothing is buried all the same."""
    clock = Clock()
    async with opened(tmp_path, OLD) as store:
        await marked(store)
    db = sqlite3.connect(tmp_path / "engine.db", isolation_level=None)
    db.execute("DELETE FROM meta WHERE name LIKE 'key:%'")
    db.close()
    async with opened(tmp_path, NEW, clock) as store:
        healthy = await marked(store, 1)
        claimed = await store.claim(now=clock.now, limit=10)
        assert [one.event.id for one in claimed] == [healthy]
        assert list(await store.claim(now=clock.now + 60, limit=10)) == []
        due = await store.next_due()
    assert due == clock.now + 300
    async with opened(tmp_path, f"{NEW},{OLD}", clock) as store:
        assert len(await store.claim(now=clock.now + 300, limit=10)) == 2


@pytest.mark.parametrize("keys", ["short", "not base64!", f"{OLD},", f"{OLD},x", OLD[:-4]], ids=range(5))
def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, keys: str) -> None:
    with pytest.raises(StoreError, match="engine keygen") as caught:
        open_store(tmp_path / "engine.db", keys=keys)
    assert OLD[:20] not in str(caught.value)


def test_a_sealed_value_opens_in_its_own_place_only_and_never_looks_alike() -> None:
    keyring = keyring_from(OLD)
    sealed = keyring.encrypt(b"data", "event_body.body:1")
    assert keyring.decrypt(sealed, "event_body.body:1") == b"data"
    assert sealed != keyring.encrypt(b"data", "event_body.body:1")
    for changed, place in (
        (sealed, "event_body.body:2"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), "event_body.body:1"),
        (sealed[:10], "event_body.body:1"),
    ):
        with pytest.raises(ValueError, match="damaged"):
            keyring.decrypt(changed, place)
    with pytest.raises(MissingKey):
        Keyring().decrypt(sealed, "event_body.body:1")
    assert OLD not in repr(keyring)


async def test_a_fingerprint_is_made_with_the_stores_own_key_and_the_one_from_outside(folder: Path) -> None:
    found = []
    for name, keys in (("a", ""), ("b", ""), ("a", OLD), ("a", NEW + "," + OLD), ("a", OLD)):
        async with opened(folder / name, keys) as store:
            found.append(store.fingerprint("secret"))
    assert len(set(found)) == 4
    assert found[2] == found[4]
    assert hashlib.sha256(b"secret").hexdigest() not in found

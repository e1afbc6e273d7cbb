"""Group commit: one transaction and one wake-up for all who wait, and an order that could have been."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import make_event

from engine.core.errors import StoreError, StoreGone
from engine.store import open_store, packing
from engine.store.queries import DeliveryQuery
from engine.store.sqlite.connection import connect, prepare
from engine.store.sqlite.query_deliveries import _ENDED, _WORK, list_deliveries
from engine.store.sqlite.reader import Reader
from engine.store.sqlite.writer import Call, Insert, Operation, Writer, _groups


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    (tmp_path / "w.db").touch()
    db = connect(tmp_path / "w.db")
    db.execute("CREATE TABLE t (n INTEGER NOT NULL)")
    db.close()
    writer = Writer(tmp_path / "w.db")
    writer.start()
    yield writer
    writer.stop()


def add(db: sqlite3.Connection, numbers: Sequence[Any]) -> list[Any]:
    for number in numbers:
        db.execute("INSERT INTO t VALUES (?)", (number,))
    return list(numbers)


def rows(path: Path) -> list[int]:
    db = sqlite3.connect(path)
    try:
        return [row[0] for row in db.execute("SELECT n FROM t ORDER BY rowid")]
    finally:
        db.close()


async def test_calls_that_wait_together_are_committed_and_answered_together(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held = threading.Event()
    transactions: list[int] = []
    wakes: list[object] = []
    kind, wait = Operation(add, mergeable=True), Operation(lambda _db, requests: [held.wait(10) for _ in requests])
    attempt, loop = writer._try, asyncio.get_running_loop()
    monkeypatch.setattr(writer, "_try", lambda verbs: transactions.append(len(verbs)) or attempt(verbs))
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: wakes.append(args) or wake(*args))
    first = writer.submit(wait, None)
    others = [writer.submit(kind, number) for number in range(500)]
    await asyncio.sleep(0.05)
    held.set()
    assert await first is True
    assert await asyncio.gather(*others) == list(range(500))
    # The first may have been drained together with some of the rest.
    assert sum(transactions) == 501
    assert len(transactions) <= 2
    assert len(wakes) == len(transactions)


async def test_only_a_busy_writer_waits_for_company(writer: Writer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.store.sqlite.writer._GATHERING", 0.3)
    held, begun = threading.Event(), threading.Event()
    sizes: list[int] = []
    kind = Operation(lambda _db, numbers: sizes.append(len(numbers)) or list(numbers), mergeable=True)
    await writer.submit(kind, 0)
    await writer.submit(kind, 1)
    holding = writer.submit(Operation(lambda _db, _requests: [begun.set() or held.wait(10)]), None)
    await asyncio.to_thread(begun.wait, 10)
    many = [writer.submit(kind, number) for number in range(8)]
    held.set()
    await asyncio.gather(holding, *many)
    one = writer.submit(kind, 2)
    await asyncio.sleep(0.05)
    await asyncio.gather(one, writer.submit(kind, 3))
    assert sizes == [1, 1, 8, 2]


@settings(max_examples=10, deadline=None)  # it waits for a real disk
@given(st.sets(st.integers(0, 40), max_size=6))
def test_only_the_verbs_that_fail_fail(tmp_path_factory: pytest.TempPathFactory, bad: set[int]):
    async def check(path: Path) -> None:
        path.touch()
        db = connect(path)
        db.execute("CREATE TABLE t (n INTEGER NOT NULL)")
        db.close()
        writer = Writer(path)
        kind = Operation(add, mergeable=True)
        writer.is_open = True
        futures = [writer.submit(kind, None if number in bad else number) for number in range(41)]
        writer.start()
        answers = await asyncio.gather(*futures, return_exceptions=True)
        await asyncio.to_thread(writer.stop)
        for number, answer in enumerate(answers):
            assert isinstance(answer, StoreError) if number in bad else answer == number
        assert rows(path) == [number for number in range(41) if number not in bad]

    asyncio.run(check(tmp_path_factory.mktemp("w") / "w.db"))


async def test_a_fault_of_ours_is_answered_and_the_writer_goes_on(writer: Writer, tmp_path: Path):
    def broken(_db: sqlite3.Connection, _requests: Sequence[Any]) -> list[Any]:
        raise KeyError("oops")

    with pytest.raises(StoreError, match="oops"):
        await writer.submit(Operation(broken), None)
    with pytest.raises(StoreError):
        await writer.submit(Operation(lambda db, _: add(db, [1]) and []), None)
    assert await writer.submit(Operation(add), 7) == 7
    assert rows(tmp_path / "w.db") == [7]


async def test_what_is_committed_to_a_file_that_was_removed_meanwhile_is_not_acknowledged(
    writer: Writer, tmp_path: Path
):
    def remove(db: sqlite3.Connection, requests: Sequence[Any]) -> list[Any]:
        done = add(db, requests)
        (tmp_path / "w.db").unlink()
        return done

    with pytest.raises(StoreGone, match="was removed or replaced"):
        await writer.submit(Operation(remove), 1)


async def test_verbs_come_from_any_loop(tmp_path: Path):
    store = open_store(tmp_path / "engine.db")
    await store.open()

    async def append(number: int) -> str:
        return (await store.append(make_event(number), leased=True)).event_id

    def elsewhere(number: int) -> str:
        return asyncio.run(append(number))

    ids = await asyncio.gather(*(asyncio.to_thread(elsewhere, number) for number in range(5)))
    assert len(set(ids)) == 5
    await store.close()


async def test_a_verb_handed_in_while_the_writer_stops_is_answered(writer: Writer, tmp_path: Path):
    """It was let in before the end, and is queued after it: the end waits for that moment."""
    queued, put = threading.Event(), writer._queue.put

    class Slow:
        def put(self, verb: Call | None) -> None:
            if verb is not None:
                queued.set()
                time.sleep(0.2)
            put(verb)

        def __getattr__(self, name: str) -> Any:
            return getattr(queue, name)

    queue, writer._queue = writer._queue, Slow()
    stopping = threading.Thread(target=lambda: queued.wait(5) and writer.stop())
    stopping.start()
    answer = writer.submit(Operation(add), 1)
    assert await asyncio.wait_for(answer, 5) == 1
    stopping.join(5)
    with pytest.raises(StoreError, match="not open"):
        await asyncio.wait_for(writer.submit(Operation(add), 2), 5)
    writer.post(Operation(add), 3)
    assert rows(tmp_path / "w.db") == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_no_call_waits_for_ever_when_the_writers_thread_ends_by_a_fault(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
):
    held = threading.Event()

    def broken(_batch: object) -> None:
        held.wait(5)
        raise MemoryError

    monkeypatch.setattr(writer, "_commit", broken)
    answers = [writer.submit(Operation(add), number) for number in range(3)]
    await asyncio.sleep(0.05)
    answers += [writer.submit(Operation(add), number) for number in range(3)]
    held.set()
    told = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 5)
    assert [str(error) for error in told] == ["the store is not open"] * 6
    assert not writer.is_open
    with pytest.raises(StoreError, match="not open"):
        await writer.do(Operation(add), 7)


async def test_a_question_asked_while_the_reader_stops_is_answered(tmp_path: Path):
    prepare(tmp_path / "r.db")
    reader = Reader(tmp_path / "r.db", "test")
    reader.start()
    reader._pool.shutdown()
    with pytest.raises(StoreError, match="not open"):
        await reader.ask(lambda _db: 1)
    reader.stop()
    with pytest.raises(StoreError, match="not open"):
        await reader.ask(lambda _db: 1)


async def test_a_closed_loop_blocks_no_caller(writer: Writer, tmp_path: Path):
    loop = asyncio.new_event_loop()
    kind = Operation(add, mergeable=True)

    async def leave() -> None:
        writer.submit(kind, 1)

    held = threading.Event()
    blocked = writer.submit(Operation(lambda _db, _r: [held.wait(10)]), None)
    await asyncio.to_thread(loop.run_until_complete, leave())
    loop.close()
    held.set()
    await blocked
    assert await writer.submit(kind, 2) == 2
    assert rows(tmp_path / "w.db") == [1, 2]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abX"), max_size=30))
def test_mergeable_verbs_merge_and_never_pass_one_that_is_not(letters: list[str]):
    kinds = {"a": Operation(add, mergeable=True), "b": Operation(add, mergeable=True), "X": Operation(add)}
    verbs = [Call(kinds[letter], (letter, place), 0, None) for place, letter in enumerate(letters)]
    groups = [(kind, [verb.request for verb in group]) for kind, group in _groups(verbs)]
    flat = [request for _, group in groups for request in group]
    assert sorted(flat) == sorted((letter, place) for place, letter in enumerate(letters))
    for kind, group in groups:
        assert all(kinds[letter] is kind for letter, _ in group)
        assert [place for _, place in group] == sorted(place for _, place in group)
        assert kind.mergeable or len(group) == 1
    for index, (letter, place) in enumerate(flat):
        if letter == "X":
            assert all(other < place for _, other in flat[:index])
            assert all(other > place for _, other in flat[index + 1 :])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1400))
def test_many_rows_go_in_as_they_are(count: int):
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (a, b)")
    Insert("t", "a, b").run(db, [(number, str(number)) for number in range(count)])
    assert db.execute("SELECT a, b FROM t").fetchall() == [(number, str(number)) for number in range(count)]
    db.close()


def test_inserts_use_few_statements_so_that_they_stay_prepared():
    class Database:
        def __init__(self) -> None:
            self.statements: set[str] = set()

        def execute(self, statement: str, _values: object) -> None:
            self.statements.add(statement)

    db: Any = Database()
    for count in range(1400):
        Insert("t", "a").run(db, [(0,)] * count)
    assert len(db.statements) == 8 + 7 + 7


@given(st.binary(max_size=50) | st.binary(max_size=5).map(lambda part: part * 5000))
def test_data_comes_back_as_it_was(data: bytes):
    assert packing.unpack(*packing.pack(data)) == data


@given(st.text(st.characters(exclude_categories=())))
def test_clean_text_is_text_for_every_engine(text: str):
    cleaned = packing.clean(text)
    assert "\0" not in cleaned
    assert len(cleaned) == len(text)
    cleaned.encode()


#: Larger whole numbers become floating point ones wherever the engine reads JSON.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_json_comes_back_as_it_was(value: Any):
    assert packing.load_json(packing.dump_json(value)) == value


@pytest.mark.parametrize("table", [_WORK, _ENDED])
def test_lists_of_deliveries_are_read_in_order_and_not_sorted(tmp_path: Path, table: Any):
    prepare(tmp_path / "engine.db")
    db = connect(tmp_path / "engine.db", read_only=True)
    plan = " / ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {table.head}{table.tail}", (50,)))
    assert "TEMP B-TREE FOR ORDER BY" not in plan
    assert list_deliveries(db, DeliveryQuery()) == []
    db.close()

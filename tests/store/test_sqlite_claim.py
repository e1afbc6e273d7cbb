"""What a claim costs on SQLite: it follows what is taken, however many destinations wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.store.protocol import BUSY_RECHECK, PAUSED_RECHECK
from engine.store.sqlite import claim as sqlite_claim
from engine.store.sqlite import connection as sqlite_open
from engine.store.sqlite.claim import MOST_SKIPPED, Claim, Taken
from engine.store.sqlite.connection import connect, prepare

NOW = 1000.0
LIMIT = 64
FEW, MANY = 2_000, 20_000
#: Steps of SQLite's machine that one count of its progress stands for.
STEPS = 50


class Lanes:
    """A store in which one delivery waits in each of so many lanes."""

    def __init__(self, folder: Path, count: int) -> None:
        path = folder / f"{count}.db"
        prepare(path)
        self.db = connect(path)
        self.names = [f"https://{number:05}.example" for number in range(count)]
        self.steps = 0
        self.db.execute("BEGIN")
        rows = [(f"d{number}", f"e{number}", name, number / 1e6) for number, name in enumerate(self.names)]
        self.db.executemany(
            "INSERT INTO work (id, kind, event_id, route, action, idx, first_at, due_at, attempts, replays, lane)"
            " VALUES (?1, 'deliver', ?2, 'r', 'a', 0, ?4, ?4, 0, 0, ?3)",
            rows,
        )
        self.db.execute("COMMIT")
        self.db.set_progress_handler(self._step, STEPS)

    def _step(self) -> int:
        self.steps += STEPS
        return 0

    def counted(self, question: Callable[[], Any]) -> tuple[Any, int]:
        """An answer, and how many steps it took."""
        self.steps = 0
        return question(), self.steps

    def claim(self, now: float = NOW, **asked: Any) -> tuple[Taken, int]:
        request = Claim(now, LIMIT, 2**30, "deliver", **asked)
        taken, steps = self.counted(lambda: sqlite_claim.claim("me", lambda: now, self.db, [request]))
        return taken[0], steps

    def settle(self, **asked: Any) -> None:
        """Claim until all lanes that take nothing are passed over."""
        for _ in range(len(self.names) // MOST_SKIPPED + 2):
            self.claim(**asked)

    def next_due(self, **asked: Any) -> tuple[float | None, int]:
        return self.counted(lambda: sqlite_claim.next_due(self.db, kind="deliver", **asked))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lanes")


@pytest.fixture
def both(folder: Path) -> Iterator[list[Lanes]]:
    made = [Lanes(folder, FEW), Lanes(folder, MANY)]
    with closing(made[0].db), closing(made[1].db):
        yield made
    for file in folder.iterdir():
        file.unlink()


def test_with_all_queues_open_a_claim_costs_what_it_takes(both: list[Lanes]) -> None:
    (few, less), (many, more) = [lanes.claim() for lanes in both]
    assert few.ids == many.ids == [f"d{number}" for number in range(LIMIT)]
    assert more < 1.3 * less
    assert len(many.remaining) == MOST_SKIPPED
    assert many.emptied == set(both[1].names[:LIMIT])


@pytest.mark.parametrize("kind", ["paused", "busy"])
def test_with_all_queues_paused_or_busy_a_claim_costs_nothing(both: list[Lanes], kind: str) -> None:
    for lanes in both:
        asked = {"paused": set(lanes.names)} if kind == "paused" else {"capacity": dict.fromkeys(lanes.names, 0)}
        first, steps = lanes.claim(**asked)
        assert (first.ids, len(first.skipped)) == ([], LIMIT + MOST_SKIPPED)
        assert steps < 100_000
        lanes.settle(**asked)
        again, steps = lanes.claim(**asked)
        assert (again, steps < 200) == (Taken([]), True)
        look, steps = lanes.next_due(paused=asked.get("paused", ()))
        assert steps < 200 * (1 + MOST_SKIPPED // 10)
        assert look == NOW + (PAUSED_RECHECK if kind == "paused" else BUSY_RECHECK)


def test_with_half_of_the_queues_paused_the_open_ones_are_found_at_once(both: list[Lanes]) -> None:
    """And the shut ones wait for longer than any of the others."""
    costs = []
    for lanes in both:
        half = len(lanes.names) // 2
        shut = set(lanes.names[:half])
        lanes.settle(paused=shut, capacity=dict.fromkeys(lanes.names, 0))
        assert lanes.next_due(paused=shut)[0] == NOW + BUSY_RECHECK
        taken, steps = lanes.claim(NOW + BUSY_RECHECK, paused=shut)
        assert taken.ids == [f"d{half + number}" for number in range(LIMIT)]
        costs.append(steps)
    assert costs[1] < 1.3 * costs[0]


def test_resumed_queues_are_claimed_in_their_turn(both: list[Lanes]) -> None:
    lanes = both[1]
    lanes.settle(paused=set(lanes.names))
    opened = {lanes.names[7], lanes.names[5], lanes.names[19_000]}
    taken, steps = lanes.claim(reopened=opened)
    assert taken.ids == ["d5", "d7", "d19000"]
    assert (taken.remaining, taken.skipped, taken.emptied) == (set(), set(), opened)
    assert steps < 2000


def test_a_claim_reads_no_more_of_a_queue_than_it_may_take(both: list[Lanes]) -> None:
    lanes = both[1]
    lanes.db.execute("UPDATE work SET lane = 'one'")
    taken, steps = lanes.claim(capacity={"one": 3})
    assert (taken.ids, taken.remaining, taken.emptied) == (
        ["d0", "d1", "d2"],
        {"one"},
        set(lanes.names[: LIMIT + MOST_SKIPPED - 1]),
    )
    assert steps < 30_000
    assert lanes.claim()[0].ids == [f"d{number}" for number in range(3, 3 + LIMIT)]


def test_queues_without_due_work_are_forgotten(both: list[Lanes]) -> None:
    lanes = both[0]
    lanes.db.execute("DELETE FROM work")
    lanes.settle()
    assert lanes.db.execute("SELECT count(*) FROM lane").fetchone() == (0,)
    assert lanes.next_due()[0] is None


def test_what_an_earlier_version_left_waiting_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "engine.db"
    with monkeypatch.context() as patched:
        files = sqlite_open._schema_files()[:7]
        patched.setattr(sqlite_open, "_schema_files", lambda: files)
        prepare(path)
    insert = (
        "INSERT INTO work (id, kind, event_id, route, action, idx, first_at, due_at, attempts, replays, lane, owner,"
        " dead_at) VALUES (?, ?, 'e', 'r', 'a', 0, ?, ?, 0, 0, ?, ?, ?)"
    )
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(insert, ("waits", "deliver", 1.0, 5.0, "shut", None, None))
        db.execute(insert, ("waits too", "deliver", 2.0, 4.0, "shut", None, None))
        db.execute(insert, ("unassigned", "deliver", 2.0, 3.0, "", None, None))
        db.execute(insert, ("in hand", "deliver", 2.0, 3.0, "busy", "me", None))
        db.execute(insert, ("dead", "deliver", 2.0, 3.0, "dead", None, 9.0))
        db.execute(insert, ("evaluation", "evaluate", 2.0, 3.5, "", None, None))
    prepare(path)
    with closing(connect(path)) as db:
        assert db.execute("SELECT name, look_at FROM lane ORDER BY name").fetchall() == [("", 3.0), ("shut", 4.0)]
        times = dict(db.execute("SELECT id, until_at FROM work"))
        assert times == {
            "waits": 1.0,
            "waits too": 2.0,
            "in hand": 2.0,
            **dict.fromkeys(("unassigned", "dead", "evaluation")),
        }
        (taken,) = sqlite_claim.claim("me", lambda: NOW, db, [Claim(NOW, 9, 2**30, None, paused={"shut"})])
        assert taken.ids == ["waits", "waits too", "unassigned", "evaluation"]

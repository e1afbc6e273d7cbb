"""``engine destinations``, with the store of a stopped engine."""

from __future__ import annotations

import asyncio
import io
import re
import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from rich.console import Console

from engine.cli.commands.destinations import _table
from engine.cli.support.show_deliveries import detail_lines
from engine.core.event import parse_event
from engine.store import open_store
from engine.store.records import Again, Attempt, Control, Routed, Work
from engine.testing import payloads
from engine.worker.destinations.destination import State
from tests.cli.conftest import CONFIG, SECRET, Command, Server
from tests.cli.test_cli_serve import settled

NAME = "https://hooks.example.com"


@pytest.fixture
def stopped(engine: Command) -> Command:
    """An engine that was stopped while one destination was gone and another one paused."""

    async def prepare() -> None:
        folder = engine.folder / "engine-data"
        folder.mkdir()
        store = open_store(f"sqlite:///{folder / 'engine.db'}")
        await store.open()
        now = time.time()
        state = {"kind": "gone", "config": "0123456789ab"}
        await store.set_control(Control("pause", NAME, "HTTP 410", "engine", now - 120, None, state))
        state = {"kind": "paused", "config": "0123456789ab"}
        await store.set_control(Control("pause", "slack #ops", "HTTP 429", "engine", now, now + 600, state))
        await store.close()

    asyncio.run(prepare())
    return engine


def test_a_paused_destination_is_shown_with_its_reason_and_resumed_by_name(stopped: Command) -> None:
    stopped.environ["COLUMNS"] = "160"
    listed = stopped("destinations").output
    assert NAME in listed
    assert "  for 2m; until the configuration changes\n" in listed
    assert "HTTP 410" in listed
    assert [one["state"] for one in stopped.json("destinations", "list")["destinations"]] == ["gone", "paused"]
    assert f"resumed: {NAME}" in stopped("destinations", "resume", NAME).output
    assert [one["name"] for one in stopped.json("destinations")["destinations"]] == ["slack #ops"]


def test_waiting_work_is_shown_without_an_engine_and_the_state_of_a_destination_is_not_guessed(engine: Command) -> None:
    engine.environ["COLUMNS"] = "160"

    async def prepare() -> None:
        folder = engine.folder / "engine-data"
        folder.mkdir()
        store = open_store(f"sqlite:///{folder / 'engine.db'}")
        await store.open()
        now = time.time()
        event = parse_event(payloads.to_body(payloads.complete()), now)
        await store.append(event, leased=True)
        works = [Work(f"d{number}", "deliver", event.id, now, now, route="r", action="log") for number in range(3)]
        await store.settle_routed(Routed(event.id, (), works, frozenset(("d0",)), "hash", now))
        await store.release(["d0"], due_at=now, lane=NAME, reason=f"waits for {NAME}")
        await store.close()

    asyncio.run(prepare())
    answer = engine.json("destinations")
    assert [(one["name"], one["state"], one["waiting"]) for one in answer["destinations"]] == [(NAME, "unknown", 1)]
    assert answer["unassigned"] == 2
    listed = engine("destinations")
    assert re.search(rf"{NAME} +unknown +0 +1\n", listed.stdout)
    assert "LIMITS" not in listed.stdout
    assert "2 deliveries wait whose destination shows when it is their turn" in listed.stderr


def test_a_stopped_engine_promises_no_time(stopped: Command) -> None:
    assert "until" not in stopped("destinations").stdout.replace("until the configuration changes", "")


def test_a_pause_shows_its_end() -> None:
    until = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    row = {"name": "slack #ops", "state": "paused", "reason": "it said HTTP 429", "since": None, "until": until}
    first, why, command = (line.plain for line in detail_lines(row, live=True))
    assert re.fullmatch(r"until \d\d:\d\d:\d\d UTC \((10|9)m more\)", first)
    assert (why, command) == ("it said HTTP 429", "engine destinations resume 'slack #ops'")


@pytest.mark.parametrize("width", [40, 80])
def test_below_what_takes_nothing_stands_the_command_to_copy(stopped: Command, width: int) -> None:
    """Whole on any width, and with the quotes that a shell needs."""
    stopped.environ["COLUMNS"] = str(width)
    listed = stopped("destinations").stdout
    assert re.search(r"slack #ops +paused", listed)
    (command,) = re.findall(r"^  (engine destinations resume .*slack.*)$", listed, re.MULTILINE)
    assert stopped(*shlex.split(command)[1:]).stdout == "resumed: slack #ops\n"


def test_eighty_columns_are_enough_for_every_state_and_limit() -> None:
    limits = {"concurrency": 8, "rate": "1/s", "burst": 5}
    row = {"name": "slack #slow-chats", "state": "failing", "reason": "it keeps failing (timed out)", "limits": limits}
    row |= {"since": (datetime.now(UTC) - timedelta(seconds=3)).isoformat(), "until": None, "next_at": None}
    rows = [row | {"state": state, "under_way": 0, "waiting": 3} for state in get_args(State)]
    console = Console(file=io.StringIO(), width=80)
    console.print(_table(rows))
    head, _, first, *below = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert head.split() == ["DESTINATION", "STATE", "UNDER", "WAY", "WAITING", "LIMITS"]
    assert first.endswith("8 at once, 1/s (burst 5)")
    assert "  for 3s" in below


def test_a_part_of_a_name_is_enough_where_one_destination_has_it(stopped: Command) -> None:
    assert stopped("destinations", "resume", "#OPS").stdout == "resumed: slack #ops\n"


def test_a_part_that_several_have_is_refused_with_their_names(stopped: Command) -> None:
    refused = stopped("destinations", "resume", "s", expect=2)
    assert "'s' is in the names of 2 destinations" in refused.stderr
    assert f"write one of them whole: {NAME}, 'slack #ops'" in " ".join(refused.stderr.split())


def test_a_name_that_is_not_known_gets_a_suggestion(stopped: Command) -> None:
    refused = stopped("destinations", "resume", "slack #opps", expect=2)
    assert "no destination is called 'slack #opps'" in refused.stderr
    assert "did you mean 'slack #ops'?" in refused.stderr
    assert "engine destinations lists them" in stopped("destinations", "resume", "pigeon", expect=2).stderr


def test_where_something_was_delivered_is_known_after_a_stop_and_after_a_restart(
    engine: Command, serve: Callable[..., Server]
) -> None:
    engine.environ["COLUMNS"] = "160"
    server = serve()
    engine("send", engine.payload(payloads.complete()), "--to", server.url, "--secret", SECRET)
    settled(engine)
    before = {row["name"] for row in engine.json("destinations")["destinations"]} - {"langsmith"}  # for data
    assert before == {"log", "http://127.0.0.1:9"}
    server.stop()
    del engine.environ["ENGINE_ADMIN_URL"]
    rows = engine.json("destinations")["destinations"]
    assert {row["name"] for row in rows} == before
    assert {row["state"] for row in rows} == {"unknown"}
    assert all(row["last_attempt_at"] for row in rows)
    assert re.search(r"unknown 0 0 last attempt \d+s ago", " ".join(engine("destinations").output.split()))
    serve()
    rows = engine.json("destinations")["destinations"]
    assert {row["name"]: row["state"] for row in rows} == dict.fromkeys(before, "healthy")
    assert "already open: http://127.0.0.1:9" in engine("destinations", "resume", "127.0.0.1:9").stdout
    assert "no destination is known" not in engine("destinations").output


def test_where_nothing_is_known_that_is_said(stopped: Command) -> None:
    for name in (NAME, "slack #ops"):
        stopped("destinations", "resume", name)
    assert "no destination is known" in stopped("destinations").stderr


@pytest.fixture
def retrying(engine: Command) -> list[str]:
    """The ids of two deliveries that a stopped engine left, to be retried in a quarter of an hour."""
    ids = [f"{number}" * 32 for number in (1, 2)]

    async def prepare() -> None:
        folder = engine.folder / "engine-data"
        folder.mkdir()
        store = open_store(f"sqlite:///{folder / 'engine.db'}")
        await store.open()
        now = time.time()
        event = parse_event(payloads.to_body(payloads.complete()), now)
        await store.append(event, leased=True)
        works = [Work(one, "deliver", event.id, now, now, route="r", action="log") for one in ids]
        await store.settle_routed(Routed(event.id, (), works, frozenset(ids), "hash", now))
        for work in works:
            again = Again(now + 900, NAME, target=store.fingerprint("there"))
            await store.settle_attempt(work, Attempt(1, 0, now, 0.1, "again", "HTTP 500", 500, NAME), again)
        await store.close()

    asyncio.run(prepare())
    return ids


def test_resume_says_how_many_waited_for_a_retry_and_makes_them_due(engine: Command, retrying: list[str]) -> None:
    answer = engine("destinations", "resume", NAME)
    assert answer.stdout == f"{NAME}; 2 deliveries were waiting for a retry and are due now\n"
    assert engine("destinations", "resume", NAME).stdout == f"already open: {NAME}\n"
    rows = engine.json("deliveries")["deliveries"]
    assert {(row["id"], row["attempts"]) for row in rows} == {(one, 1) for one in retrying}
    assert all(row["due_at"] <= datetime.now(UTC).isoformat() for row in rows)


def test_a_replay_says_that_it_hurries_what_waits(engine: Command, retrying: list[str]) -> None:
    said = engine("replay", retrying[0]).stdout
    assert re.fullmatch(r"1 delivery will be retried when engine serve starts; it was due in 1[45]m\n", said)
    said = engine("replay", "--state", "due").stdout
    assert re.fullmatch(r"2 deliveries will be retried when engine serve starts; 1 of them was due in 1[45]m\n", said)
    assert engine("replay", "--state", "due").stdout == "2 deliveries will be retried when engine serve starts\n"
    assert engine("replay", "--dead").stdout == "nothing to replay: nothing is dead\n"


def test_a_failing_destination_says_why_and_a_waiting_delivery_when_and_how_now(
    engine: Command, serve: Callable[..., Server]
) -> None:
    engine.environ["COLUMNS"] = "160"
    engine.write(CONFIG.replace("attempts: 1, within: 1m", "attempts: 9, within: 1h"))
    server = serve()
    engine("send", engine.payload(), "--to", server.url, "--secret", SECRET)
    server.until(lambda: "attempts failed in a row" in engine("destinations").stdout)
    (row,) = [one for one in engine.json("destinations")["destinations"] if one["name"] == "http://127.0.0.1:9"]
    assert row["state"] == "erring"
    assert "connection refused" in row["last_error"]
    listed = " ".join(engine("destinations").stdout.split())
    assert re.search(r"attempts failed in a row: \d.* last error: cannot connect .* connection refused", listed)
    server.until(lambda: "next attempt at" in engine("destinations").stdout)

    delivery = engine.json("deliveries", "--state", "due")["deliveries"][0]["id"]
    server.until(lambda: "next attempt" in engine("deliveries", delivery).stdout)
    (advice,) = re.findall(rf"engine replay {delivery[:18]} tries now", engine("deliveries", delivery).stdout)
    tried = len(engine.json("deliveries", delivery)["history"])
    engine(*advice.split()[1:3])
    server.until(lambda: len(engine.json("deliveries", delivery)["history"]) > tried)
    assert engine.json("deliveries", delivery)["replays"] == 1

"""Ids are given by any start of eight characters or more that only one has, to an engine and to its store alike."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.core.event import parse_event
from engine.rules.decision import delivery_id
from engine.store import open_store
from engine.testing import payloads
from tests.cli.conftest import Command, Server
from tests.store.store_cases import deliver, fail, routed

#: Of one minute; the first two are the same up to the sixteenth character.
EVENTS = (
    "01a22eda-1025-7a32-bcc7-f5dcc34aad6e",
    "01a22eda-1025-7a71-bcc7-f5dcc34aad6f",
    "01a22eda-1f45-7bbb-a5ec-70375a878fb5",
)
PLACE = ("corrections/errors", "forward_webhook")
DELIVERIES = tuple(delivery_id(event, 0, *PLACE) for event in EVENTS)


async def seed(folder: Path) -> None:
    """Events with one dead delivery each."""
    folder.mkdir(mode=0o700)
    store, now = open_store(str(folder / "engine.db")), time.time()
    await store.open()
    for number, (event_id, work_id) in enumerate(zip(EVENTS, DELIVERIES, strict=True)):
        body = payloads.to_body(payloads.rule([payloads.run(number, status="error")]))
        event = replace(parse_event(body, now - 60 + number), id=event_id)
        await store.append(event, leased=True)
        work = replace(deliver(event, at=now), id=work_id, route=PLACE[0], action=PLACE[1])
        await store.settle_routed(routed(event, work, decided_at=now))
        await fail(store, work, at=now)
    await store.close()


@pytest.fixture(params=["running", "stopped"])
def asked(request: pytest.FixtureRequest, engine: Command, serve: Callable[..., Server]) -> Command:
    """The command, beside an engine that runs or with the store of one that does not."""
    asyncio.run(seed(engine.folder / "engine-data"))
    if request.param == "running":
        serve()
    return engine


EVENT, DELIVERY = EVENTS[0][:18], DELIVERIES[0][:18]
COMMANDS = [
    (("events",), EVENT),
    (("events", "show"), EVENT),
    (("deliveries",), DELIVERY),
    (("deliveries", "show"), DELIVERY),
    (("deliveries", "list", "--event"), EVENT),
    (("deliveries", "list", "--before"), DELIVERY),
    (("events", "list", "--before"), EVENT),
    (("explain", "--event"), EVENT),
    (("replay", "--dry-run"), EVENT),
    (("replay", "--dry-run"), DELIVERY),
    (("replay", "--dry-run", "--event"), EVENT),
    (("discard", "--dry-run"), EVENT),
    (("discard", "--dry-run"), DELIVERY),
    (("discard", "--dry-run", "--event"), EVENT),
]


def test_every_command_takes_what_tables_show_in_either_case(asked: Command) -> None:
    for words, start in COMMANDS:
        whole = next(one for one in (*EVENTS, *DELIVERIES) if one.startswith(start))
        told = asked.json(*words, whole)
        assert asked.json(*words, start) == told, words
        assert asked.json(*words, start.upper()) == told, words


def test_every_command_refuses_a_start_that_is_too_short_unknown_or_of_several(asked: Command) -> None:
    for words, start in COMMANDS:
        assert "'01a22ed' is too short for an id" in asked(*words, "01a22ed", expect=2).stderr, words
        assert "write at least 8 characters of it" in asked(*words, "01a22ed", expect=2).stderr, words
        unknown = asked(*words, "01a22edf", expect=2).stderr
        assert "starts with '01a22edf'" in unknown, words
        several = asked(*words, start[:9], expect=2).stderr
        assert f"{start[:9]!r} is ambiguous: it is the start of 3 ids" in several, words
        for whole in EVENTS if "-" in start else DELIVERIES:
            [line] = [line for line in several.splitlines() if whole[:18] in line]
            assert "corrections" in line, words
            assert ("Z, routed, rule " if "-" in start else ", run 0, dead") in line, words
        assert several.rstrip().endswith("write more of the one"), words


def test_where_both_are_meant_a_start_of_both_is_ambiguous(asked: Command) -> None:
    for command in ("replay", "discard"):
        told = asked(command, "--dry-run", "01a22eda", expect=2).stderr
        assert "it is the start of 6 ids" in told
        assert [line.split()[1] for line in told.splitlines()[-7:-1]] == ["event"] * 3 + ["delivery"] * 3
        assert "ambiguous" not in asked(command, "--dry-run", "01a22eda-1f").output


def test_tables_show_as_much_of_both_and_that_is_taken_again(asked: Command) -> None:
    for group, ids in (("events", EVENTS), ("deliveries", DELIVERIES)):
        shown = [line.split()[0] for line in asked(group).stdout.splitlines()[2:] if line.startswith("01a2")]
        assert sorted(shown) == sorted(whole[:18] for whole in ids)
        for start in shown:
            assert asked.json(group, start)["id"].startswith(start)


def test_the_next_page_takes_the_given_arguments(asked: Command) -> None:
    for group in ("events", "deliveries"):
        said = asked(group, "--limit", "1").stderr
        command = said.partition("there are more:")[2].split()
        assert len(command[-1]) == 18
        assert asked.json(*command[1:])[group] == asked.json(group)[group][1:2]


def post(url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_admin_listener_says_what_an_ambiguous_start_may_stand_for(
    engine: Command, serve: Callable[..., Server]
) -> None:
    asyncio.run(seed(engine.folder / "engine-data"))
    api = serve().admin + "/api/v1"
    for path, body, ids in (
        ("/events/01a22eda", None, EVENTS),
        ("/deliveries/01a22eda", None, DELIVERIES),
        ("/deliveries?event=01a22eda", None, EVENTS),
        ("/explain", {"event": "01a22eda"}, EVENTS),
        ("/preview", {"delivery": "01a22eda"}, DELIVERIES),
        ("/preview", {"event": "01a22eda"}, EVENTS),
        ("/replay", {"events": ["01a22eda"]}, EVENTS),
        ("/replay", {"deliveries": ["01a22eda"]}, DELIVERIES),
        ("/discard", {"events": ["01a22eda"]}, EVENTS),
        ("/discard", {"deliveries": ["01a22eda"]}, DELIVERIES),
    ):
        status, answer = post(api + path, body)
        assert (status, answer["hint"]) == (400, "write more of the one"), path
        assert {one["id"] for one in answer["candidates"]} == set(ids), path
    assert post(api + "/events/01A22EDA-1F")[1]["id"] == EVENTS[2]
    assert post(api + "/events/01a22ed")[0] == 400
    assert post(api + "/events/01a22edf")[0] == 404

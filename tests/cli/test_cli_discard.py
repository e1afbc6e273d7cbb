"""``engine discard``: giving up what is dead."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

import pytest

from engine.core.event import parse_event
from engine.store import open_store
from engine.store.records import Attempt, Dead
from engine.testing import payloads
from tests.cli.conftest import CONFIG, SECRET, Command, Server
from tests.cli.test_cli_serve import settled


@pytest.fixture
def beside(engine: Command, serve: Callable[..., Server]) -> tuple[Command, Server]:
    """An engine with one dead delivery."""
    engine.write(CONFIG.partition("    - name: corrected")[0])
    server = serve()
    engine("send", engine.payload(), "--to", server.url, "--secret", SECRET)
    settled(engine)
    return engine, server


def test_a_dead_delivery_is_given_up_kept_in_the_history_and_replayed(beside: tuple[Command, Server]) -> None:
    engine, _server = beside
    (dead,) = engine.json("deliveries", "--dead")["deliveries"]
    tried = engine("discard", "--dead", "--dry-run")
    assert "1 delivery would be discarded" in tried.stderr
    assert dead["id"][:18] in tried.stdout
    assert engine("discard", dead["id"][:20], "--reason", "nobody needs it").stdout == "1 delivery discarded\n"
    assert engine.json("deliveries", "--dead")["deliveries"] == []
    (kept,) = engine.json("deliveries", "--state", "discarded")["deliveries"]
    assert (kept["id"], kept["attempts"]) == (dead["id"], 1)
    assert re.search(r"discarded by \S+: nobody needs it; it was dead: cannot connect", kept["reason"])
    shown = " ".join(engine("deliveries", "show", dead["id"]).stdout.split())
    assert "state discarded after 1 attempt" in shown
    assert "nobody needs it" in shown
    assert engine("discard", dead["id"]).stdout == "nothing to discard: nothing of it is dead\n"
    assert engine.json("replay", dead["id"], "--wait", expect=1)["settled"]["dead"] == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--dead"], 1),
        (["--route", "errors"], 1),
        (["--route", "low-score"], 0),
        (["--action", "forward_webhook", "--error", "CANNOT connect"], 1),
        (["--error", "something else"], 0),
        (["--since", "1h"], 1),
        (["--until", "1h"], 0),
    ],
)
def test_it_is_chosen_as_in_replay(beside: tuple[Command, Server], words: list[str], found: int) -> None:
    engine, _server = beside
    answer = engine.json("discard", *words, "--dry-run")
    assert (answer["count"], answer["dry_run"]) == (found, True)
    assert answer["deliveries"] == engine.json("replay", *words, "--dry-run")["deliveries"]
    assert len(engine.json("deliveries", "--dead")["deliveries"]) == 1
    assert engine.json("discard", *words)["count"] == found


def test_an_event_gives_up_all_of_it_that_is_dead(beside: tuple[Command, Server]) -> None:
    engine, _server = beside
    (event,) = engine.json("events")["events"]
    answer = engine.json("discard", event["id"][:20])
    assert (len(answer["deliveries"]), answer["events"]) == (1, [])
    assert engine.json("events")["events"][0]["dead"] == 0


def test_it_says_what_it_needs(engine: Command) -> None:
    assert "give IDs" in engine("discard", expect=2).stderr
    assert "give IDs" in engine("discard", "x", "--dead", expect=2).stderr


def test_without_an_engine_it_works_on_the_store(engine: Command) -> None:
    async def prepare() -> str:
        (engine.folder / "engine-data").mkdir()
        store = open_store(f"sqlite:///{engine.folder / 'engine-data' / 'engine.db'}")
        await store.open()
        event = parse_event(payloads.to_body(payloads.complete()), time.time())
        await store.append(event, leased=False)
        (claimed,) = await store.claim(now=time.time(), limit=1)
        last = Attempt(1, 0, time.time(), 0.0, "dead", "undecided", None, "", None, "worker")
        assert await store.settle_attempt(claimed.work, last, Dead("undecided"))
        await store.close()
        return event.id

    event = asyncio.run(prepare())
    assert engine.json("discard", "--dead")["events"] == [event]
    (row,) = engine.json("events")["events"]
    assert (row["state"], row["dead"]) == ("discarded", 0)
    assert "discarded by" in engine("events", "show", event).stdout

"""``engine mute``, ``unmute`` and ``mutes``, with an engine running and without; and where a mute shows."""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.sandbox import payloads
from tests.cli.conftest import SECRET, Command, Server
from tests.cli.test_cli_serve import settled


def test_a_route_is_muted_and_let_go_in_a_running_engine(engine: Command, serve: Callable[..., Server]) -> None:
    server = serve()
    told = engine("mute", "low-score", "--for", "2h", "--reason", "we know")
    assert "corrections/low-score is muted until " in told.output
    (mute,) = engine.json("mutes")["mutes"]
    assert (mute["route"], mute["reason"]) == ("corrections/low-score", "we know")
    again = engine("mute", "low-score", "--for", "1h").output
    assert re.search(r"in place of a mute until \S+Z by .*: we know", again)
    assert engine.json("mutes")["mutes"][0]["reason"] == "we know"
    assert re.search(r"\d\d:\d\d:\d\d UTC", engine("mute", "--list").output)
    assert "muted until" in engine("routes").output
    (route,) = [one for one in engine.json("routes")["routes"] if one["name"] == "low-score"]
    assert route["muted"]["reason"] == "we know"
    explained = engine("explain", engine.payload(), "--route", "low-score").output
    assert "matches, muted until" in explained

    engine("send", "--kind", "rule", "--to", server.url, "--secret", SECRET)
    event = settled(engine)[0]
    assert f"by {mute['by']}: we know" in " ".join(engine("events", "show", event["id"]).output.split())
    assert not [one for one in engine.json("deliveries", "list")["deliveries"] if "low-score" in one["route"]]

    assert "acts again" in engine("unmute", "corrections/low-score").output
    assert "was not muted" in engine("unmute", "low-score", expect=1).output
    assert engine.json("mutes") == {"mutes": []}
    assert "no route is muted" in engine("mutes").output


def test_without_an_engine_the_store_takes_it_and_the_next_one_heeds_it(
    engine: Command, serve: Callable[..., Server]
) -> None:
    serve().stop()
    del engine.environ["ENGINE_ADMIN_URL"]
    assert "is muted until it is unmuted" in engine("mute", "errors", "--forever").output
    assert engine.json("mutes")["mutes"][0]["until"] is None
    server = serve()
    engine("send", engine.payload(payloads.complete()), "--to", server.url, "--secret", SECRET)
    settled(engine)
    assert not [one for one in engine.json("deliveries", "list")["deliveries"] if one["route"] == "corrections/errors"]


def test_what_makes_no_sense_is_told(engine: Command, serve: Callable[..., Server]) -> None:
    serve()
    assert "did you mean 'low-score'?" in engine("mute", "low-scores", "--for", "2h", expect=2).output
    assert "Say how long: --for 2h, or --forever." in engine("mute", "low-score", expect=2).output
    assert "Say how long" in engine("mute", "low-score", "--for", "2h", "--forever", expect=2).output
    assert "Name a route" in engine("mute", expect=2).output
    assert "is not a duration" in engine("mute", "low-score", "--for", "soon", expect=2).output
    assert "at most 366d" in engine("mute", "low-score", "--for", "400d", expect=2).output

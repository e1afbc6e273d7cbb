"""``engine mute``, ``unmute`` and ``mutes``, with an engine running and without; and where a mute shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from engine.cli.support.output import who
from engine.testing import payloads
from tests.cli.conftest import CONFIG, SECRET, Command, Server
from tests.cli.test_cli_serve import settled

#: As people read it: the date is left out today.
TIME = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC"


def test_a_route_is_muted_and_let_go_in_a_running_engine(engine: Command, serve: Callable[..., Server]) -> None:
    server = serve()
    told = engine("mute", "low-score", "--for", "2h", "--reason", "we know")
    assert re.search(rf"corrections/low-score is muted for 2h \(until {TIME}\)", told.output)
    (mute,) = engine.json("mutes")["mutes"]
    assert (mute["route"], mute["reason"]) == ("corrections/low-score", "we know")
    again = engine("mute", "low-score", "--for", "1h").output
    assert re.search(rf"in place of a mute until {TIME} by .*: we know", again)
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


def test_without_an_engine_it_is_stored_and_the_next_engine_applies_it(
    engine: Command, serve: Callable[..., Server]
) -> None:
    serve().stop()
    del engine.environ["ENGINE_ADMIN_URL"]
    assert "is muted until it is unmuted" in engine("mute", "errors", "--forever").output
    assert engine.json("mutes")["mutes"][0]["until"] is None
    engine("mute", "low-score", "--for", "1h")
    server = serve()
    muted = rf"2 routes are muted: corrections/errors until it is unmuted, corrections/low-score until {TIME}"
    assert re.search(rf"muted +{muted}", " ".join(" ".join(server.out).split()))
    assert re.search(muted, engine("check").stderr)
    engine("send", engine.payload(payloads.complete()), "--to", server.url, "--secret", SECRET)
    settled(engine)
    assert not [one for one in engine.json("deliveries", "list")["deliveries"] if one["route"] == "corrections/errors"]
    engine("unmute", "low-score")
    assert "1 route is muted: corrections/errors until it is unmuted" in engine("check").stderr


def test_every_change_by_a_person_is_one_line_of_the_log(engine: Command, serve: Callable[..., Server]) -> None:
    server = serve()
    engine("send", engine.payload(), "--to", server.url, "--secret", SECRET)
    event = settled(engine)[0]["id"]
    dead = engine.json("deliveries", "--dead")["deliveries"][0]["id"]
    engine("discard", dead, "--dry-run")
    engine("replay", dead, "--dry-run")
    changes = [
        (
            ["mute", "low-score", "--for", "2h", "--reason", "we know"],
            r"muted .*route=corrections/low-score  until=\S+Z",
        ),
        (["unmute", "low-score"], r"unmuted  route=corrections/low-score"),
        (["discard", dead, "--reason", "not now"], rf"discarded .*delivery={dead[:18]}"),
        (["replay", dead], rf"replayed  delivery={dead[:18]}"),
        (["replay", event], rf"replayed  event={event[:18]}"),
        (["reload"], r"configuration reloaded .*hash=\w+"),
    ]
    for words, line in changes:
        engine(*words)
        server.until(lambda line=line: any(re.search(rf"INFO +{line}.*  by={who('')}", one) for one in server.log))
    assert len([line for line in server.log if "  by=" in line]) == len(changes)
    assert 'reason="we know"' in next(line for line in server.log if " muted " in line)
    engine("unmute", "low-score", expect=1)
    assert engine("destinations", "resume", "log").stdout == "already open: log\n"
    assert len([line for line in server.log if "  by=" in line]) == len(changes)


def test_a_route_goes_by_the_start_of_its_id_as_the_log_shows_it(engine: Command, serve: Callable[..., Server]) -> None:
    engine.write(CONFIG.replace("  corrections:\n    -", f"  {payloads.RULE_ID}:\n    -"))
    serve()
    whole, short = f"{payloads.RULE_ID}/low-score", f"{payloads.RULE_ID[:13]}/low-score"
    assert f"{whole} is muted" in engine("mute", short, "--for", "1h").output
    assert f"{whole} acts again" in engine("unmute", f"{payloads.RULE_ID[:8]}/low-score").output
    several = engine("mute", payloads.RULE_ID[:2], "--for", "1h", expect=2).output
    assert f"route '{payloads.RULE_ID[:2]}' is ambiguous: {payloads.RULE_ID}/errors, {whole}, " in several
    report = engine.json("explain", engine.payload(), "--route", short)
    assert {route["route"] for document in report["documents"] for route in document["routes"]} == {whole}
    assert "no deliveries" in engine("deliveries", "--route", short).output


def test_any_start_that_only_one_route_has_will_do(engine: Command, serve: Callable[..., Server]) -> None:
    engine.write(CONFIG.partition("    - name: corrected")[0])
    serve()
    for start in ("corrections/lo", "corrections/l", "low", "l"):
        assert "corrections/low-score is muted" in engine("mute", start, "--for", "1h").output
    for start in ("corrections", "corr", "corrections/"):
        several = engine("mute", start, "--for", "1h", expect=2).output
        assert f"route {start!r} is ambiguous: corrections/errors, corrections/low-score\n" in several
    assert "no route is called 'x'" in engine("mute", "x", "--for", "1h", expect=2).output
    assert "no deliveries" in engine("deliveries", "--route", "corrections/lo").output
    assert "is ambiguous: corrections/errors" in engine("deliveries", "--route", "corr", expect=2).output
    explained = engine.json("explain", engine.payload(), "--route", "low")
    assert {route["route"] for one in explained["documents"] for route in one["routes"]} == {"corrections/low-score"}
    # The only one of them that is muted.
    assert "corrections/low-score acts again" in engine("unmute", "corr").output
    assert "is ambiguous" in engine("unmute", "corr", expect=2).output


def test_a_route_that_is_muted_gives_way_to_one_that_is_named_in_full(
    engine: Command, serve: Callable[..., Server]
) -> None:
    log = "{actions: [{log: {message: hi}}]}"
    engine.write(f"secrets: none\nrules: {{chat: a, chat-more: b}}\nroutes:\n  chat: {log}\n  chat-more: {log}\n")
    serve()
    engine("mute", "chat-more", "--for", "1h")
    assert "chat was not muted" in engine("unmute", "chat", expect=1).output
    assert engine.json("mutes")["mutes"]


def test_the_newest_goes_by_the_name_last(engine: Command, serve: Callable[..., Server]) -> None:
    server = serve()
    assert "there is no event yet" in engine("events", "last", expect=2).stderr
    assert "there is no delivery yet" in engine("deliveries", "last", expect=2).stderr
    for _ in range(2):
        engine("send", "--kind", "rule", "--fresh", "--to", server.url, "--secret", SECRET)
    server.until(lambda: all(event["state"] == "dead" for event in engine.json("events")["events"]))
    newest = engine.json("events")["events"][0]["id"]
    assert newest in engine("events", "last").stdout
    assert engine.json("events", "show", "last")["id"] == engine.json("events", newest[:18])["id"] == newest
    assert engine.json("explain", "--event", "last")["event"]["id"] == newest
    assert engine.json("replay", "last", "--dry-run")["events"] == [newest]
    assert engine.json("discard", "last", "--dry-run")["events"] == [newest]
    first = engine.json("deliveries")["deliveries"][0]["id"]
    assert engine.json("deliveries", "last")["id"] == first
    assert {one["event_id"] for one in engine.json("deliveries", "--event", "last")["deliveries"]} == {newest}


def test_what_makes_no_sense_is_reported(engine: Command, serve: Callable[..., Server]) -> None:
    serve()
    assert "did you mean 'low-score'?" in engine("mute", "low-scores", "--for", "2h", expect=2).output
    assert "Say how long: --for 2h, or --forever." in engine("mute", "low-score", expect=2).output
    assert "Say how long" in engine("mute", "low-score", "--for", "2h", "--forever", expect=2).output
    assert "Name a route" in engine("mute", expect=2).output
    assert "is not a duration" in engine("mute", "low-score", "--for", "soon", expect=2).output
    assert "at most 366d" in engine("mute", "low-score", "--for", "400d", expect=2).output


def test_an_event_that_a_mute_held_back_differs_from_one_that_was_delivered(
    engine: Command, serve: Callable[..., Server]
) -> None:
    text = CONFIG.partition("    - name: corrected")[0]
    engine.write(text.replace('- {path: "$.feedback_stats.user_score.avg", gte: 0, lt: 0.5}', ""))
    server = serve()
    send = ["send", engine.payload(), "--fresh", "--to", server.url, "--secret", SECRET]
    engine(*send)
    settled(engine)
    assert "held back" not in engine("events").stdout
    engine("mute", "low-score", "--for", "1h", "--reason", "we know")
    engine(*send)
    settled(engine, 2)
    held, delivered = engine.json("events")["events"]
    assert (held["matched"], delivered["matched"]) == (3, 3)
    assert (held["held"], delivered["held"]) == ({"mute": 2}, {})
    assert "2 by mute" in engine("events").stdout
    assert re.search("held back +2 by mute", engine("events", "last").stdout)
    now = " ".join(engine("explain", "--event", "last", "--route", "low-score").stdout.split())
    assert re.search(rf"→ log would fire, but the route is muted until {TIME} by \S+: we know", now)
    assert now.split(" matched, ")[1].startswith("but no action fires")
    assert "recorded at" not in now

    unmuted = engine("unmute", "low-score").stderr
    assert "1 event matched corrections/low-score while it was muted. To act on it now:\n" in unmuted
    assert "was muted until " in engine("events", "last").stdout
    now = " ".join(re.sub("[│├─]", "", engine("explain", "--event", "last", "--route", "low-score").stdout).split())
    assert re.search(rf"recorded at {TIME}: was muted until {TIME} by .*: we know; below is what it would be now", now)
    assert "→ log fires" in now
    before = " ".join(engine("explain", "--event", delivered["id"], "--route", "low-score").stdout.split())
    assert "recorded at" not in before

    (command,) = [line.split() for line in unmuted.splitlines() if line.startswith("  engine replay ")]
    assert command[2:] == [held["id"][:18]]
    engine(*command[1:])
    server.until(
        lambda: engine.json("events")["events"][0]["held"] == {} and not engine.json("events")["events"][0]["open"]
    )
    assert [one["route"] for one in engine.json("deliveries", "--event", held["id"])["deliveries"]].count(
        "corrections/low-score"
    )
    engine("mute", "low-score", "--for", "1h")
    assert engine.json("unmute", "low-score")["held_back"] == []


def test_what_hours_throttles_and_digests_held_back_is_marked_too(
    engine: Command, serve: Callable[..., Server]
) -> None:
    day = f"{datetime.now(UTC) + timedelta(days=3):%a}".lower()
    never = f"active: {{days: {day}, timezone: UTC, otherwise: skip}}"
    engine.write(
        f"secrets: [{SECRET!r}]\nroutes:\n  alert:\n    actions:\n"
        "      - {log: {message: one}, name: one, throttle: {every: 1h}}\n"
        "      - {log: {message: two}, name: two, digest: {every: 1h}}\n"
        f"      - {{log: {{message: three}}, name: three, {never}}}\n"
    )
    server = serve()
    for number in range(2):
        alert = engine.payload(payloads.alert() | {"n": number})
        engine("send", alert, "--to", server.url, "--secret", SECRET)
    server.until(lambda: all(one["state"] == "routed" for one in engine.json("events")["events"]))
    second, first = engine.json("events")["events"]
    assert first["held"] == {"hours": 1, "digest": 1}
    assert second["held"] == {"hours": 1, "throttle": 1, "digest": 1}
    assert "recorded at" in engine("explain", "--event", "last").stdout

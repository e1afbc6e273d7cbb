"""``engine serve`` as a process, and the commands that talk to it."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest

from engine.cli.commands.deliveries import _words
from engine.cli.commands.serve import _written_afterwards
from engine.core.masking import Masker
from engine.telemetry.log import TextFormatter
from engine.telemetry.log_queue import LogQueue
from engine.testing import payloads
from tests.cli.conftest import SECRET, Command, Server

Serve = Callable[..., Server]


def settled(engine: Command, count: int = 1) -> list[dict[str, Any]]:
    """The events, once all of them are through (dead because data is missing counts)."""
    for _ in range(400):
        events: list[dict[str, Any]] = engine.json("events", "list")["events"]
        if len(events) == count and all(one["state"] != "pending" and not one["open"] for one in events):
            return events
        time.sleep(0.05)
    raise AssertionError(events)


def test_after_a_webhook_that_nothing_matched_the_next_step_is_named(engine: Command, serve: Serve) -> None:
    server = serve()
    assert engine("deliveries").stderr == "no deliveries\n"
    engine.environ["LANGSMITH_WEBHOOK_SECRET"] = SECRET
    engine("send", "--kind", "alert", "--to", server.url)
    settled(engine)
    said = engine("deliveries").stderr
    assert said == "no deliveries; the last event matched nothing: engine explain --event last\n"
    assert "no route" in engine("explain", "--event", "last", expect=1).stdout
    assert engine("deliveries", "--dead").stderr == "no deliveries\n"
    # The variable stands for --secret, and gives way to what is written.
    engine("send", "--kind", "alert", "--to", server.url, "--secret", "another one", expect=1)
    engine("send", "--kind", "alert", "--to", f"{server.url}?secret=another", expect=1)
    engine("send", "--kind", "alert", "--to", server.url, "--sign", "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=", expect=1)
    assert SECRET not in engine("send", "--kind", "alert", "--to", server.url, "--json").output


def test_a_webhook_goes_all_the_way_and_everything_about_it_can_be_asked(engine: Command, serve: Serve) -> None:
    server = serve()
    sent = engine("send", "--kind", "rule", "--to", server.url, "--secret", SECRET)
    assert "accepted (202)" in sent.output
    assert SECRET not in sent.output
    event = settled(engine)[0]
    assert f"engine events {event['id'][:18]} shows what became of it" in sent.output
    dead = engine.json("deliveries", "list", "--dead")["deliveries"]
    assert [one["route"] for one in dead] == ["corrections/errors"]

    shown = engine("events", "show", event["id"][:20]).output
    assert event["id"] in shown
    assert "corrections/low-score" in shown
    assert "fires log" in shown
    assert '\n  $.runs[*].status eq "error"  found "success"' in shown
    assert f"engine explain --event {event['id'][:18]} shows every condition" in shown
    assert f"corrections  {payloads.RULE_ID}" in shown
    for head in ("VERDICT ", "DELIVERY ", "evaluations that", "engine explain"):
        assert f"\n\n{head}" in shown
    assert "corrections" in engine("events").output
    assert (
        "cannot connect to 127.0.0.1:9: connection refused" in engine("deliveries", "show", dead[0]["id"][:18]).output
    )
    engine.environ["COLUMNS"] = "80"
    listed = engine("deliveries", "list").output
    engine.environ["COLUMNS"] = ""
    assert all(len(line) <= 80 for line in listed.splitlines())

    named = {one["name"] for one in engine.json("destinations")["destinations"]}
    assert named == {"http://127.0.0.1:9", "langsmith", "log"}, "LangSmith is asked for feedback"

    counted = engine("replay", "--dead", "--error", "connection", "--dry-run")
    assert "1 delivery and 1 event would be replayed" in counted.output
    assert "would send to " in counted.output
    assert '"url": ' in counted.output
    assert f'"rule_id": "{payloads.RULE_ID}"' in counted.output
    assert re.search(r"low-score → log  run 0  had succeeded before", counted.output)
    assert re.search(r"errors → forward_webhook  run 2\n", re.sub(" +\n", "\n", counted.output))
    (previewed,) = engine.json("replay", "--dead", "--dry-run")["previews"]
    assert (previewed["id"], previewed["succeeded_before"]) == (dead[0]["id"], False)
    assert previewed["would"]["would"] == "fire"
    waited = engine("replay", dead[0]["id"][:18], "--wait", expect=1)
    assert "1 delivery replayed: 0 succeeded, 1 dead" in waited.output
    assert f"{dead[0]['id'][:18]}  cannot connect to 127.0.0.1:9: connection refused" in waited.output
    assert "after 2 attempts, replayed 1 time\n" in re.sub(
        " +\n", "\n", engine("deliveries", "show", dead[0]["id"]).output
    )
    check_names(engine, event["id"])
    again = engine.json("deliveries", "show", dead[0]["id"])
    assert (again["replays"], again["attempts"]) == (1, 2)
    assert re.search(r"dead +2 \(1 replay\)", engine("deliveries").output)
    server.until(lambda: any("attempt=1  replay=1  " in line for line in server.log))
    assert engine.json("events", "list", "--unmatched")["events"] == []
    explained = engine.json("explain", "--event", event["id"][:20])
    assert explained["event"]["id"] == event["id"]

    assert server.stop() == 0
    assert any("stopped" in line for line in server.log)
    del engine.environ["ENGINE_ADMIN_URL"]
    offline = engine("events", "list")
    assert event["id"][:18] in offline.stdout
    assert "no engine" in offline.stderr
    marked = engine("replay", "--dead")
    words = " ".join(marked.output.split())
    assert "1 delivery will be retried and 1 event will be evaluated again when engine serve starts" in words
    assert "needs a running engine" in engine("replay", "--dead", "--wait", expect=2).stderr


def check_names(engine: Command, event_id: str) -> None:
    """Routes and actions go by their names; what is unknown is no empty answer."""
    assert [one["route"] for one in engine.json("deliveries", "--route", "errors")["deliveries"]] == [
        "corrections/errors"
    ]
    assert len(engine.json("replay", "--dead", "--route", "errors", "--dry-run")["deliveries"]) == 1
    for words, hint in ((["--route", "erors"], "did you mean 'errors'"), (["--action", "lgo"], "did you mean 'log'")):
        for command in (["deliveries"], ["replay", "--dry-run"]):
            assert hint in engine(*command, *words, expect=2).stderr
    text = engine.config.read_text()
    engine.write(text.replace("name: errors", "name: broken"))
    assert "loaded" in engine("reload").output
    gone = engine("deliveries", "--route", "corrections/errors", "--event", event_id)
    assert "corrections/errors is not in the configuration any more" in gone.stderr
    engine.write(text)
    engine("reload")


def test_an_edit_a_broken_edit_and_a_sighup_do_what_they_should(engine: Command, serve: Serve) -> None:
    server = serve()
    before = engine.json("config", "show", "--live")["hash"]
    text = engine.config.read_text()
    engine.write(text.replace("eq: error", "equals: error"))
    server.until(lambda: any("did you mean 'eq'" in line for line in server.log))
    assert any(f"{engine.config}:10:" in line for line in server.log)
    live = engine.json("config", "show", "--live")
    assert live["hash"] == before
    assert not live["last_reload"]["good"]
    assert "failed" in engine("config", "show", "--live").output
    del engine.environ["ENGINE_ADMIN_URL"]
    differs = f"in use: {before} since "
    checked = engine("check", expect=1)
    assert differs in checked.stderr
    assert "; the file has 1 problem" in checked.stderr
    assert engine.json("check", expect=1)["files"][0]["in_use"] == {
        "hash": before,
        "since": ANY,
        "same": False,
        "file_is": "refused",
    }
    assert "did you mean 'eq'" in engine("reload", expect=1).stderr
    assert engine.json("reload", expect=1)["hash"] == before
    engine.write(text.replace("eq: error", "eq: failed"))
    server.until(lambda: any("configuration reloaded" in line for line in server.log))
    assert engine.json("config")["in_use"]["same"]
    assert "differs" not in engine("check").stderr
    server.log.clear()
    server.signal(signal.SIGHUP)
    server.until(lambda: any("configuration reloaded" in line for line in server.log))
    assert "the-api-key-itself" not in engine("config", "show", "--live").output


def test_a_port_in_use_has_a_message(engine: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = engine("serve", "--listen", address, "--admin", "127.0.0.1:0", expect=2)
        assert f"cannot listen on {address}: another program listens there" in result.stderr
        assert "--listen HOST:PORT" in result.stderr
        result = engine("serve", "--listen", "127.0.0.1:0", "--admin", address, expect=2)
        assert "--admin HOST:PORT" in result.stderr


def test_the_banner_comes_before_the_first_line_of_the_log(engine: Command) -> None:
    """Also where work of before is taken up at once."""
    engine.write(engine.config.read_text() + "  alert: {actions: [{log: {message: alerted}}]}\n")
    both = subprocess.Popen(
        [sys.executable, "-m", "engine", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | engine.environ | {"ENGINE_LOG_LEVEL": "debug", "ENGINE_CONCURRENCY": "2"},
    )  # fmt: skip
    try:
        assert both.stdout is not None
        assert "engine serves" in both.stdout.readline()
        both.send_signal(signal.SIGTERM)
        assert "stopped" in both.communicate(timeout=20)[0]
    finally:
        both.kill()


def test_what_is_logged_while_starting_comes_out_when_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LogQueue(TextFormatter(Masker))
    logger = logging.Logger("engine.test.held")
    logger.addHandler(lines)

    def start() -> None:
        with _written_afterwards(lines):
            logger.warning("early")
            assert capsys.readouterr().err == ""
            raise OSError("no store")

    with pytest.raises(OSError, match="no store"):
        start()
    assert capsys.readouterr().err.endswith("WARNING early\n")
    logger.warning("late")
    assert lines.drain(5)
    assert capsys.readouterr().err.endswith("WARNING late\n")
    lines.close()


def test_a_broken_configuration_does_not_start(engine: Command) -> None:
    engine.write("secrets: none\nroutes:\n  x:\n    actions:\n      - lgo: {message: hi}\n")
    result = engine("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", expect=2)
    assert f"{engine.config}:5:9: error: unknown action 'lgo'" in result.stderr
    assert "      - lgo: {message: hi}" in result.stderr
    assert "did you mean 'log'" in result.stderr


def test_an_admin_listener_beyond_loopback_needs_a_token(engine: Command) -> None:
    result = engine("serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", expect=2)
    assert "ENGINE_ADMIN_TOKEN" in result.stderr


def test_no_secret_is_for_loopback_only(engine: Command) -> None:
    engine.write("secrets: none\nroutes: {}\n")
    result = engine("serve", "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0", expect=2)
    assert "loopback" in result.stderr


@pytest.mark.parametrize("flag", [["--listen", "nowhere"], ["--grace", "soon"], ["--body-limit", "big"]])
def test_a_wrong_flag_is_reported_with_the_right_form(engine: Command, flag: list[str]) -> None:
    assert "write it like" in engine("serve", *flag, expect=2).stderr


def test_the_engine_that_uses_the_store_is_found_without_its_address(engine: Command, serve: Serve) -> None:
    server = serve()
    told = engine.folder / "engine-data" / "admin-address"
    assert told.read_text().startswith(f"{server.admin} ")
    del engine.environ["ENGINE_ADMIN_URL"]
    assert engine.json("events")["events"] == []
    engine.environ["ENGINE_ADMIN_URL"] = "http://127.0.0.1:9"
    assert engine.json("events")["events"] == []
    assert (
        "no engine answers at http://127.0.0.1:9" in engine("events", "--admin", "http://127.0.0.1:9", expect=2).stderr
    )
    del engine.environ["ENGINE_ADMIN_URL"]
    engine.environ |= {"ENGINE_ADMIN": server.admin.removeprefix("http://"), "ENGINE_DATA": str(engine.folder / "none")}
    assert engine.json("events")["events"] == []
    del engine.environ["ENGINE_ADMIN"], engine.environ["ENGINE_DATA"]
    kept = told.read_text()
    told.write_text(kept.replace(kept.split()[1], "an engine that crashed"))
    refused = engine("events", expect=2)
    assert "in use by another engine" in refused.stderr
    assert "--admin URL" in refused.stderr
    told.write_text(kept)
    assert server.stop() == 0
    assert not told.exists()
    engine.environ["ENGINE_ADMIN_URL"] = server.admin
    assert "using the store" in engine("events").stderr


def test_many_are_sent_and_counted(engine: Command, serve: Serve) -> None:
    server = serve("--log-level", "error")
    sent = engine("send", "--kind", "alert", "--to", server.url, "--secret", SECRET, "--fresh", "--count", "20")
    assert "20 accepted, 0 failed" in sent.output
    assert len(engine.json("events", "list", "--kind", "alert", "--limit", "100")["events"]) == 20
    wrong = engine("send", "--kind", "seed", "--to", server.url, "--count", "3", expect=1)
    assert "3 times: the endpoint answered 401, which is final: the secret is missing" in wrong.output
    again = engine("send", "--kind", "seed", "--same", "--to", server.url, "--secret", SECRET, "--count", "3")
    assert "2 duplicates of earlier events: nothing fires" in again.output


def test_copies_are_counted_at_their_event_and_it_can_be_fired_again(engine: Command, serve: Serve) -> None:
    server = serve()
    for _ in range(3):
        sent = engine("send", "--kind", "prompt", "--same", "--to", server.url, "--secret", SECRET)
    engine("send", "--kind", "alert", "--to", server.url, "--secret", SECRET)
    rows = {row["kind"]: row for row in engine.json("events")["events"]}
    assert {kind: row["copies"] for kind, row in rows.items()} == {"prompt": 2, "alert": 0}
    listed = engine("events").output
    assert "  sent again 2 times, not acted on\n" in listed
    event = rows["prompt"]["id"]
    advice = f"engine replay {event[:18]} fires"
    assert (
        f"duplicate of event {event[:18]}: nothing fires; --fresh makes it new, {advice} that one again" in sent.output
    )
    shown = engine("events", "show", event).output
    assert f"2 more received, not acted on; {advice} its actions again" in " ".join(shown.split())
    assert "sent again" not in engine("events", "--kind", "alert").output
    assert "copies" not in engine("events", "show", rows["alert"]["id"]).output


def test_a_token_is_taken_from_the_environment(engine: Command, serve: Serve) -> None:
    engine.environ["ENGINE_ADMIN_TOKEN"] = "open sesame"
    serve()
    assert engine.json("events", "list")["events"] == []
    engine.environ["ENGINE_ADMIN_TOKEN"] = "wrong"
    assert "ENGINE_ADMIN_TOKEN" in engine("events", "list", expect=2).stderr


def test_an_event_that_could_not_be_evaluated_is_undecided_and_replayed_with_all_that_is_dead(
    engine: Command, serve: Serve
) -> None:
    server = serve()
    file = engine.payload(payloads.rule([payloads.run(1, status="success", feedback_stats=None)]))
    engine("send", file, "--to", server.url, "--secret", SECRET)
    (event,) = settled(engine)
    assert (event["state"], event["unmatched_reason"]) == ("dead", None)
    assert re.search(r"dead +undecided +0 +0 +corrections\n  because data is missing", engine("events").output)
    assert engine.json("events", "--unmatched")["events"] == []
    shown = engine("events", "show", event["id"]).output
    assert re.search(r"because +undecided because data is missing", shown)
    assert re.search(r"undecided +corrections/corrected  run 0\n", shown)
    assert "no match" not in re.sub("no match +corrections/(errors|low-score)  run 0", "", shown)
    assert f"engine replay {event['id'][:18]} evaluates it again" in shown

    for words in ((), ("--since", "1h"), ("--event", event["id"][:18]), ("--error", "DATA is missing")):
        assert engine.json("replay", "--dead", *words, "--dry-run")["events"] == [event["id"]]
    for words in (("--until", "1h"), ("--error", "other words"), ("--route", "corrected"), ("--action", "log")):
        assert engine.json("replay", "--dead", *words, "--dry-run")["events"] == []
    assert "1 event would be replayed" in engine("replay", "--dead", "--dry-run").output
    assert (
        engine("replay", "--dead", "--error", "no such reason").stdout
        == "nothing to replay: nothing is as the options say\n"
    )
    waited = engine("replay", "--dead", "--wait", expect=1)
    assert "1 event replayed: 0 succeeded, 1 dead" in waited.output


def test_a_replay_of_an_event_that_ran_again_is_followed(engine: Command, serve: Serve) -> None:
    server = serve()
    engine("send", "--kind", "alert", "--to", server.url, "--secret", SECRET)
    event = settled(engine)[0]
    assert event["unmatched_reason"] == "unknown_rule"
    assert re.search(r"alert +routed +no route +0 +0 +\S+", engine("events").output)
    assert "no route for alert" in engine("events", "show", event["id"]).output
    engine.write(engine.config.read_text() + "  alert: {actions: [{log: {message: alerted}}]}\n")
    server.until(lambda: any("configuration reloaded" in line for line in server.log))
    waited = engine("replay", event["id"], "--wait")
    assert "1 event replayed: 1 succeeded, 0 dead" in waited.output


def test_a_replay_of_what_had_worked_is_visible_as_such(engine: Command, serve: Serve) -> None:
    server = serve()
    engine.write(
        engine.config.read_text() + "  alert: {actions: [{log: {message: '{{ payload.alert_rule_name }}'}}]}\n"
    )
    server.until(lambda: any("configuration reloaded" in line for line in server.log))
    engine("send", "--kind", "alert", "--to", server.url, "--secret", SECRET)
    settled(engine)
    (row,) = engine.json("deliveries")["deliveries"]
    shown = engine("replay", row["id"], "--dry-run").output
    assert "had succeeded before" in shown
    assert engine.json("replay", row["id"], "--dry-run")["previews"][0]["succeeded_before"]
    waited = engine("replay", row["id"], "--wait").output
    assert "1 delivery replayed: 1 succeeded, 0 dead (1 had succeeded before)" in waited
    assert engine.json("replay", row["id"], "--wait")["settled"]["succeeded_before"] == 1
    history = engine.json("deliveries", "show", row["id"])["history"]
    assert [(one["replay"], one["outcome"]) for one in history] == [(round_, "succeeded") for round_ in range(3)]
    again = engine("replay", row["id"]).stdout
    assert again == "1 delivery will be retried now; it had succeeded before\n"
    settled(engine)
    assert engine.json("replay", row["id"])["had_succeeded"] == [row["id"]]
    settled(engine)
    again = engine("replay", row["event_id"]).stdout
    assert again == "1 event will be evaluated again now; 1 of its deliveries had succeeded before\n"


ALERTED = """  alert:
    actions:
      - log: {message: "evaluated again"}
      - forward_webhook: {url: "http://127.0.0.1:9/hook"}
        digest: {every: 1h}
"""


def test_a_dry_run_shows_what_todays_configuration_would_send(engine: Command, serve: Serve) -> None:
    server = serve()
    text = engine.config.read_text()
    engine.write(text + "  alert: {actions: [{log: {message: 'old words'}}]}\n")
    server.until(lambda: any("configuration reloaded" in line for line in server.log))
    engine("send", "--kind", "alert", "--to", server.url, "--secret", SECRET)
    settled(engine)
    (row,) = engine.json("deliveries")["deliveries"]
    engine.write(text + "  alert: {actions: [{log: {message: 'words of today'}}]}\n")
    engine("reload")
    assert "words of today" in engine("replay", row["id"], "--dry-run").output
    engine.write(text + "  alert: {actions: [{log: {message: '{{ run.nowhere }}'}}]}\n")
    engine("reload")
    assert "would be dead again" in engine("replay", row["id"], "--dry-run").output
    event = row["event_id"]
    engine.write(text + ALERTED)
    engine("reload")
    follows = engine("replay", event, "--dry-run").output
    assert "2 deliveries would follow" in follows
    assert re.search(r"alert → log +had succeeded before", follows)
    assert "evaluated again" in follows
    assert re.search(r"alert → forward_webhook\n", re.sub(" +\n", "\n", follows))
    assert "digest stands before it" in follows
    (preview,) = engine.json("replay", event, "--dry-run")["event_previews"]
    assert [one["succeeded_before"] for one in preview["deliveries"]] == [True, False]
    assert preview["deliveries"][1]["would"]["params"]["body"]["items"][0]["alert_rule_name"]
    engine("mute", "alert", "--for", "1h")
    assert "0 deliveries would follow" in engine("replay", event, "--dry-run").output
    engine.write(text)
    engine("reload")
    gone = engine.json("replay", row["id"], "--dry-run")["previews"][0]["would"]
    assert "alert → log is not in today's configuration" in gone["error"]
    engine.write(text + "  alert: {actions: [{log: {message: 'last words'}}]}\n")
    engine("reload")
    engine.write(text + "  alert: {aktions: []}\n")
    engine("reload", expect=1)
    refused = engine("replay", row["id"], "--dry-run")
    assert "last words" in refused.stdout
    assert "the engine refused config.yaml (1 problem" in refused.stderr
    server.stop()
    del engine.environ["ENGINE_ADMIN_URL"]
    unknown = engine("replay", row["id"], "--dry-run")
    assert "config.yaml cannot be loaded" in unknown.stderr
    assert "the configuration cannot be loaded" in unknown.stdout
    assert "1 delivery would be replayed" in unknown.output


DIGEST = f"""
secrets: ["{SECRET}"]
defaults: {{retry: {{attempts: 1}}}}
routes:
  {payloads.RULE_ID}:
    actions:
      - forward_webhook:
          url: "http://127.0.0.1:9/hook"
          body: "{{{{ items | map(attribute='run.name') | join('+') }}}}"
        digest: {{every: 1h, max: 3}}
    on_dead:
      - log: {{message: "{{{{ delivery.action }}}} gave up: {{{{ delivery.reason }}}}"}}
"""


def test_a_digest_and_the_report_of_its_death_are_shown_and_rendered_whole(
    engine: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.write(DIGEST)
    server = serve()
    for numbers in ((0, 1), (2,)):
        file = engine.payload(payloads.rule([payloads.run(number, name=f"n{number}") for number in numbers]))
        engine("send", file, "--to", server.url, "--secret", SECRET)
    settled(engine, 2)
    rows = {row["action"]: row for row in engine.json("deliveries")["deliveries"]}
    dead, told = rows["forward_webhook"]["id"], rows["on_dead.log"]["id"]
    shown = engine("deliveries", "show", dead).output
    assert re.search(r"items +3 runs of 2 events\b", shown)
    assert payloads.run(2)["id"] in shown
    assert [item["run_index"] for item in engine.json("deliveries", "show", dead)["items"]] == [0, 1, 0]
    told_of = engine("deliveries", "show", told).output
    assert re.search(rf"tells of +{dead} forward_webhook\n +cannot connect to ", told_of)
    assert engine.json("deliveries", "show", told)["words"]["delivery"]["id"] == dead

    (digest,) = engine.json("replay", dead, "--dry-run")["previews"]
    assert (digest["would"]["params"]["body"], digest["would"]["note"]) == ("n0+n1+n2", "")
    assert "forward_webhook gave up: cannot connect to " in engine("replay", told, "--dry-run").output
    server.stop()  # so that it is this process that renders
    del engine.environ["ENGINE_ADMIN_URL"]
    with monkeypatch.context() as patch:
        patch.setattr("engine.admin.previews._MOST_ITEMS", 2)
        bounded = engine("replay", dead, "--dry-run").output
    assert "shown with the first 2 of 3 items" in bounded
    assert "n0+n1" in bounded
    with monkeypatch.context() as patch:
        patch.setattr("engine.admin.previews._MOST_BYTES", 1)
        assert "shown with the first 1 of 3 items" in engine("replay", dead, "--dry-run").output
    engine.write(DIGEST.replace("        digest: {every: 1h, max: 3}\n", "").replace("items |", "[] |"))
    assert "its other items would be sent on their own" in engine("replay", dead, "--dry-run").output


def test_a_delivery_shows_how_many_a_throttle_held_back_before_it() -> None:
    assert dict(_words({"throttle": {"suppressed": 3, "since": "2026-05-04"}})) == {
        "throttled": "3 others since 2026-05-04 00:00:00 UTC"
    }
    assert list(_words({"throttle": {"suppressed": 0, "since": None}})) == []


def test_the_seed_of_the_documentation_twice_is_one_event(engine: Command, serve: Serve) -> None:
    server = serve()
    file = engine.payload(payloads.seed())
    host = server.url.removeprefix("http://").partition("/")[0]
    first = engine("send", file, "--to", host, "--secret", SECRET)
    (event,) = engine.json("events")["events"]
    assert f"event {event['id'][:18]}\n" in first.output
    second = engine("send", file, "--to", host, "--secret", SECRET)
    assert f"duplicate of event {event['id'][:18]}: nothing fires (same rule, time window and runs;" in second.output
    assert "; --fresh makes it new" in second.output
    third = engine.json("send", file, "--to", host, "--secret", SECRET)
    assert (third["event"], third["duplicate"]) == (event["id"], True)
    assert len(engine.json("events", "list")["events"]) == 1
    wrong = engine("send", file, "--to", host, "--secret", "wrong", expect=1)
    assert "the secret is wrong" in wrong.output
    assert "?secret=" in wrong.output
    engine("send", file, "--to", server.url, "--secret", SECRET, "--fresh")
    assert len(engine.json("events", "list")["events"]) == 2


def test_log_lines_for_machines_are_json_and_nothing_else_is_printed(engine: Command, serve: Serve) -> None:
    server = serve("--log-format", "json")
    engine("send", "--kind", "seed", "--to", server.url, "--secret", SECRET)
    server.until(lambda: any('"accepted"' in line for line in server.log))
    assert server.stop() == 0
    server.until(lambda: any('"stopped"' in line for line in server.log))
    assert all(isinstance(json.loads(line), dict) for line in server.log)
    assert server.out == []


def test_a_second_signal_stops_at_once_and_the_next_start_takes_up_what_was_under_way(
    engine: Command, serve: Serve
) -> None:
    plugins = engine.folder / "plugins"
    plugins.mkdir()
    (plugins / "slow.py").write_text(SLOW)
    engine.write(
        "secrets: none\nplugins: [./plugins]\ndefaults: {timeout: 1m}\nroutes: {alert: {actions: [{slow: {}}]}}\n"
    )
    first = serve("--grace", "1m")
    engine("send", "--kind", "alert", "--to", first.url)
    server_has_begun(engine)
    first.signal(signal.SIGTERM)
    first.until(lambda: any("stopping" in line for line in first.log))
    assert first.process.poll() is None
    first.signal(signal.SIGTERM)
    assert first.process.wait(10) == 128 + signal.SIGTERM
    (engine.folder / "go").write_text("on")
    serve()
    assert settled(engine)[0]["state"] == "routed"
    assert [one["state"] for one in engine.json("deliveries", "list")["deliveries"]] == ["succeeded"]


SLOW = """
import asyncio
import engine
from pathlib import Path

class Slow(engine.Action):
    \"\"\"Wait until there is a file.\"\"\"

    async def run(self, params, context):
        while not (Path(__file__).parent.parent / "go").exists():
            await asyncio.sleep(0.05)
"""


def server_has_begun(engine: Command) -> None:
    for _ in range(200):
        if [one["state"] for one in engine.json("deliveries", "list")["deliveries"]] == ["running"]:
            return
        time.sleep(0.05)
    raise AssertionError("the action never ran")


HELD = f"""
secrets: ["{SECRET}"]
routes:
  {payloads.RULE_ID}:
    actions:
      - log: {{message: "{{{{ items | length }}}}"}}
        digest: {{every: 1h}}
      - log: {{message: x}}
        name: later
        active: {{days: DAY, otherwise: hold}}
"""


def test_what_is_collected_or_held_says_until_when_and_a_replay_says_that_it_stays_so(
    engine: Command, serve: Serve
) -> None:
    far = (datetime.now(UTC) + timedelta(days=3)).strftime("%a").lower()
    engine.write(HELD.replace("DAY", far))
    server = serve()
    file = engine.payload(payloads.rule([payloads.run(number) for number in range(3)]))
    engine("send", file, "--to", server.url, "--secret", SECRET)
    for _ in range(400):
        rows = engine.json("deliveries")["deliveries"]
        if len(rows) == 4:
            break
        time.sleep(0.05)
    engine.environ["COLUMNS"] = "160"
    listed = engine("deliveries").output
    assert re.search(r"collecting \(3 items\) until \d\d:\d\d:\d\d UTC", listed)
    assert len(re.findall(r" held until \d{4}-", listed)) == 3
    assert re.search(r"^01\S+ +\d+s ", listed, re.MULTILINE)
    assert " in " not in listed
    held = next(row["id"] for row in rows if row["action"] == "later")
    assert re.search(r"due .*\(in 3d\)|due .*\(in 2d\)", engine("deliveries", "show", held).output)
    answer = engine("replay", held)
    assert "1 delivery will be retried now; 1 of them only when their hours begin" in answer.output
    shown = engine("events", "show", rows[0]["event_id"]).output
    assert shown.count("log: collected for digest") == 3
    assert "fires later\n" in re.sub(" +\n", "\n", shown)
    assert "fires log" not in shown

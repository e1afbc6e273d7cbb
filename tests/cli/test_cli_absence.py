"""Routes that stay undecided because a value is absent: named by the metric, the routes' views and ``engine check``."""

from __future__ import annotations

import re
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

from engine.cli.commands.routes import mostly_undecided
from engine.core.truth import Truth
from engine.rules.decision import Decision
from engine.telemetry.metrics import Undecided
from engine.testing import payloads
from tests.cli.conftest import SECRET, Command, Server
from tests.cli.test_cli_serve import settled

CONFIG = f"""
secrets: ["{SECRET}"]
rules: {{corrections: {payloads.RULE_ID}}}
routes:
  corrections:
    - name: silent
      filters: [{{path: "$.runs[*].extra.metadata.enviroment", ne: staging}}]
      actions: [{{log: {{message: x}}}}]
    - name: loud
      filters: [{{path: "$.runs[*].status", exists: true}}]
      actions:
        - log: {{message: x}}
          when: [{{expr: "run.extra.metdata.env == 'a'"}}]
        - log: {{message: y}}
          name: always
    - name: fine
      filters: [{{path: "$.runs[*].status", eq: error}}]
      actions: [{{log: {{message: x}}}}]
"""
SILENT, LOUD = "corrections/silent", "corrections/loud"


def sent(engine: Command, server: Server) -> None:
    engine("send", "--kind", "rule", "--to", server.url, "--secret", SECRET)
    for _ in range(400):
        if [event["state"] for event in engine.json("events", "list")["events"]] == ["routed"]:
            return
        time.sleep(0.05)
    raise AssertionError("not routed")


def metrics(server: Server) -> str:
    with urllib.request.urlopen(f"{server.admin}/metrics") as answer:
        return str(answer.read().decode())


def test_a_route_that_is_mostly_undecided_is_named_everywhere(engine: Command, serve: Callable[..., Server]) -> None:
    engine.write(CONFIG)
    server = serve()
    runs = len(payloads.complete()["runs"])
    assert engine.json("check")["files"][0]["warnings"] == []
    sent(engine, server)

    page = metrics(server)
    assert f'engine_undecided_total{{route="{SILENT}"}} {runs}.0' in page
    assert f'engine_undecided_total{{route="{LOUD}"}} {runs}.0' in page
    assert 'engine_undecided_total{route="corrections/fine"}' not in page
    assert f'engine_decisions_total{{route="{SILENT}",verdict="undecided"}} {runs}.0' in page

    views = {route["id"]: route["undecided"] for route in engine.json("routes")["routes"]}
    part = "$.runs[*].extra.metadata.enviroment"
    assert views[SILENT] == {"absent": runs, "verdicts": runs, "mostly": True, "part": part}
    assert views[LOUD]["part"] == "run.extra.metdata"
    assert views["corrections/fine"] is None
    shown = " ".join(engine("routes").output.replace("│", "").split())
    assert f"! mostly undecided: {part} is absent ({runs} of {runs} verdicts)" in shown

    [event] = engine.json("events", "list")["events"]
    [evaluation] = engine.json("events", "show", event["id"])["evaluations"]
    decision = next(one for one in evaluation["decisions"] if one["route"] == SILENT)
    assert (decision["verdict"], decision["absent"]) == ("undecided", part)
    assert decision["reason"] == f'{part} ne "staging": {part} is absent'
    # Undecided for good: nothing is retried, and what always follows has followed.
    assert event["open"] == 0
    shown = " ".join(engine("explain", "--event", event["id"]).output.replace("│", "").split())
    assert "$.runs[*].extra.metadata has no 'enviroment'" in shown

    for _ in range(2):  # of the running engine, and of its store when it is stopped
        remarks = engine.json("check")["files"][0]["warnings"]
        times = f"is undecided in {runs} of {runs} recorded verdicts, so it or an action of it does not fire"
        assert [(remark["line"], remark["message"]) for remark in remarks] == [
            (6, f"route {SILENT!r} {times}: {part} is absent"),
            (9, f"route {LOUD!r} {times}: run.extra.metdata is absent"),
        ]
        assert "absent: VALUE" in remarks[0]["hint"]
        engine("check", "--strict", expect=1)
        if server.process.poll() is None:
            server.stop()

    engine.write(CONFIG.replace("enviroment", "env").replace("metdata", "metadata"))
    assert engine.json("check")["files"][0]["warnings"] == []


def test_a_store_of_an_older_schema_is_left_alone(engine: Command, serve: Callable[..., Server]) -> None:
    engine.write(CONFIG)
    server = serve()
    sent(engine, server)
    server.stop()
    [file] = engine.folder.rglob("engine.db")
    with sqlite3.connect(file) as db:
        db.execute("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
    assert engine.json("check")["files"][0]["warnings"] == []
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() == ("1",)


def decision(verdict: Truth, absent: str = "") -> Decision:
    return Decision("r", 0, None, verdict, absent=absent)


def test_mostly_is_more_than_half() -> None:
    found = Undecided()
    rows: list[tuple[Truth, str]] = [(Truth.FALSE, ""), (Truth.UNDECIDED, "$.a"), (Truth.UNDECIDED, "")]
    for verdict, absent in rows:
        found.add(decision(verdict, absent))
    assert not found.mostly
    for part in ("$.b", "$.b"):
        found.add(decision(Truth.UNDECIDED, part))
    view: dict[str, Any] = found.to_json()
    assert view == {"absent": 3, "verdicts": 5, "mostly": True, "part": "$.b"}
    assert mostly_undecided(view) == "mostly undecided: $.b is absent (3 of 5 verdicts)"


def test_however_many_parts_are_absent_few_are_kept() -> None:
    found = Undecided()
    for number in range(1000):
        found.add(decision(Truth.UNDECIDED, f"$.run[{number}]"))
    assert (found.absent, len(found.parts)) == (1000, 20)


def test_a_misspelt_field_is_reported_when_it_is_loaded_and_when_it_decides(
    engine: Command, serve: Callable[..., Server]
) -> None:
    text = (
        "secrets: [{secret}]\nroutes:\n  {rule}:\n    filters: [{{expr: run.{name} > 5000}}]\n"
        "    actions: [{{log: {{message: hi}}}}]\n"
    )
    make = partial(text.format, secret=f"'{SECRET}'", rule=payloads.RULE_ID)
    engine.write(make(name="latency"))
    server = serve()
    assert not any("warning" in line.lower() for line in server.log)
    engine.write(make(name="latncy"))
    server.until(lambda: any("WARNING loaded with 1 warning, the first is" in line for line in server.log))
    warning = next(line for line in server.log if "loaded with" in line)
    assert "config.yaml:4:" in warning
    assert "latncy" in warning
    assert "(engine check shows them)" in warning
    engine("send", engine.payload(), "--to", server.url, "--secret", SECRET)
    settled(engine)
    routed = logged(server, "INFO    routed")[0]
    assert "unmatched=undecided" in routed
    assert "run.latncy > 5000: run.latncy is absent; did you mean 'latency'?" in routed
    assert engine.json("events")["events"][0]["unmatched_reason"] == "undecided"
    assert re.search(r"routed +undecided", engine("events").stdout)
    assert "nothing matched (undecided)" in engine("explain", "--event", "last", expect=1).stdout

    engine.write(make(name="latency"))
    logged(server, "configuration reloaded", 2)
    engine("send", engine.payload(), "--fresh", "--to", server.url, "--secret", SECRET)
    settled(engine, 2)
    assert "unmatched=no_match" in logged(server, "INFO    routed", 2)[-1]
    assert engine.json("events")["events"][0]["unmatched_reason"] == "no_match"


def logged(server: Server, words: str, count: int = 1) -> list[str]:
    """The lines of the log with some words in them, once there are so many."""
    server.until(lambda: sum(words in line for line in server.log) >= count)
    return [line for line in server.log if words in line]

"""Lists of events and deliveries: rows that differ, reasons once, and nothing wider than 80 columns."""

from __future__ import annotations

import io
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from engine.cli.commands.deliveries import print_delivery
from engine.cli.commands.events import _events_table
from engine.cli.support.show_deliveries import DeliveryState, Present, print_deliveries, why_of
from engine.cli.support.tables import Pairs, Table
from engine.cli.support.terminal import SafeConsole


def _delivery(reason: str = "", *, due: int | None = None, **more: Any) -> dict[str, Any]:
    due_at = None if due is None else (datetime.now(UTC) + timedelta(seconds=due)).isoformat()
    row = {"id": "0199-1", "route": "chat", "action": "post_to_slack", "run_index": 0, "run_id": None, "replays": 0}
    row |= {"state": "dead" if due is None else "due", "destination": "slack #ops", "created_at": None}
    return row | {"attempts": 1, "item_count": 0, "reason": reason, "due_at": due_at} | more


def _destination(**more: Any) -> dict[str, Any]:
    row = {"name": "slack #ops", "state": "healthy", "reason": "", "last_error": "", "since": None, "until": None}
    return row | {"next_at": None} | more


def _shown(rows: list[dict[str, Any]], present: Present, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_deliveries(console, rows, present)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_an_overdue_delivery_differs_from_a_later_one() -> None:
    live = Present(live=True)
    assert why_of(_delivery("503 from there", due=-60), live) == "retry due for 1m: 503 from there"
    assert why_of(_delivery("503 from there", due=65), live) == "retry in 1m: 503 from there"
    assert why_of(_delivery("503 from there"), live) == "503 from there"
    assert why_of(_delivery("held until then: hours", due=65, attempts=0), live) == "held until then: hours"
    assert why_of(_delivery("503 from there", due=65), Present()) == "503 from there"


def test_why_deliveries_wait_for_a_destination_is_said_once_and_as_it_is_now() -> None:
    old = "waits for slack #ops: it keeps failing (timed out); next probe at 01:05:18 UTC (engine destinations)"
    rows = [
        _delivery(old, due=9),
        _delivery(old.replace("18 UTC", "20 UTC"), due=-2, run_index=1),
        _delivery("cannot connect", due=5),
    ]
    until = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    since = (datetime.now(UTC) - timedelta(seconds=3)).isoformat()
    down = _destination(state="failing", reason="it keeps failing (cannot connect)", since=since, until=until)
    shown = _shown(rows, Present(live=True, destinations={"slack #ops": down}))
    assert shown.count("waits for slack #ops\n") == 3
    assert shown.count("next probe at") == shown.count("cannot connect") == 1
    assert "01:05" not in shown
    assert "slack #ops  failing\n  for 3s; next probe at" in shown
    assert "\n  engine destinations resume 'slack #ops'\n" in shown
    stopped = _shown(rows, Present(destinations={"slack #ops": down}))
    assert "next probe" not in stopped
    assert "no engine runs: what waits is sent once engine serve runs" in stopped


def test_what_is_held_or_collects_waits_for_no_destination() -> None:
    blocked = Present(live=True, destinations={"slack #ops": _destination(state="failing")})
    assert why_of(_delivery("held until then: hours", due=65, attempts=0), blocked) == "held until then: hours"
    assert why_of(_delivery(due=65, attempts=0, item_count=3), blocked).startswith("collecting (3 items) until ")


def test_a_delivery_that_waits_shows_its_destination_as_it_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    stale = "cannot connect; waits for slack #ops: it keeps failing (timed out); next probe at 01:05:18 UTC"
    row = _delivery(stale, due=9, event_id="0199", history=[], items=[], words=None)
    down = _destination(state="failing", reason="it keeps failing (cannot connect)")
    print_delivery(Console(file=sys.stdout, width=100), row, Present(live=True, destinations={"slack #ops": down}))
    shown = capsys.readouterr().out
    assert "because   waits for slack #ops\n" in shown
    assert "slack #ops  failing\n  it keeps failing (cannot connect)\n" in shown
    assert "01:05" not in shown
    assert "next attempt" not in shown
    print_delivery(Console(file=sys.stdout, width=100), row | {"reason": "cannot connect"}, Present())
    shown = capsys.readouterr().out
    assert "tries now" not in shown
    assert "no engine runs" in shown


def test_retries_that_fail_for_the_destinations_last_error_say_it_once() -> None:
    rows = [_delivery("cannot connect", due=5), _delivery("HTTP 500 for another reason", due=5, run_index=1)]
    erring = _destination(state="erring", reason="attempts failed in a row: 2", last_error="cannot connect")
    shown = _shown(rows, Present(live=True, destinations={"slack #ops": erring}))
    assert shown.count("cannot connect") == 1
    assert re.search(r"retry in \ds\n", shown)
    assert re.search(r"retry in \ds: HTTP 500 for another reason\n", shown)
    assert "slack #ops  failing\n  attempts failed in a row: 2\n  last error: cannot connect\n" in shown


def test_deliveries_of_a_list_are_distinguished_by_run_and_by_destination() -> None:
    ids = ["0199aaaa-0000-7000-0000-000000000001", "0199aaaa-1000-7000-0000-000000000001"]
    rows = [_delivery(run_id=ids[0]), _delivery(run_id=ids[1], run_index=1)]
    shown = _shown(rows, Present(live=True))
    assert "chat → post_to_slack  run 0 0199aaaa-0\n" in shown
    assert "chat → post_to_slack  run 1 0199aaaa-1\n" in shown
    assert "slack #ops" not in shown
    both = _shown([*rows, _delivery(destination="slack #dev")], Present(live=True), width=120)
    assert "run 0 0199aaaa-0  slack #ops" in both
    assert "run 0  slack #dev" in both


def test_a_delivery_shows_its_last_attempts_reason_once(capsys: pytest.CaptureFixture[str]) -> None:
    attempt = {"number": 1, "replay": 1, "started_at": "2026-01-02T12:00:00Z", "seconds": 0.1, "outcome": "dead"}
    attempt |= {"reason": "HTTP 422: no", "status": 422, "destination": "slack #ops", "detail": None}
    row = _delivery("HTTP 422: no", event_id="0199", history=[attempt], items=[], words=None)
    print_delivery(Console(file=sys.stdout, width=100), row, Present(live=True))
    shown = capsys.readouterr().out
    assert shown.count("HTTP 422: no") == 1
    assert "1 (replay 1)" in shown
    row["reason"] = "waited 1h for slack #ops"
    print_delivery(Console(file=sys.stdout, width=100), row, Present(live=True))
    assert "because   waited 1h for slack #ops" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["waiting", "due"])
def test_a_state_is_taken_as_lists_write_it_and_as_json_does(word: str) -> None:
    assert DeliveryState().convert(word, None, None) == "due"
    assert "waiting" in DeliveryState().choices


def test_events_with_everything_to_note_fit_eighty_columns() -> None:
    event = {"id": "0199" * 8, "received_at": datetime.now(UTC).isoformat(), "kind": "rule", "rule": "chat"}
    event |= {"rule_id": None, "state": "routed", "matched": 3, "fallback": 0, "unmatched_reason": None, "open": 2}
    event |= {"dead": 1, "reason": "", "copies": 2, "held": {"mute": 1}}
    console = Console(file=io.StringIO(), width=80)
    console.print(_events_table([event]))
    head, _, row, notes = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert head.split() == ["EVENT", "AGE", "KIND", "STATE", "RUNS", "MATCHED", "WAITING", "DEAD", "RULE"]
    assert row.endswith("chat")
    assert notes == "  held back: 1 by mute · sent again 2 times, not acted on"


def test_a_destination_explains_what_waits_for_it_and_nothing_else() -> None:
    blocked = {"name": "d", "state": "failing", "last_error": "HTTP 500", "reason": "r"}
    row = {"destination": "d", "state": "due", "due_at": "2099-01-01T00:00:00Z", "attempts": 1, "item_count": 0}
    waits, fails = row | {"reason": "waits for d: failing"}, row | {"reason": "HTTP 500: oops"}
    other = row | {"reason": "text: run has no 'x'", "due_at": None}
    present = Present(live=True, destinations={"d": blocked})
    assert [present.explains(each) for each in (waits, fails, other)] == [True, True, False]
    healthy = Present(live=True, destinations={"d": blocked | {"state": "healthy", "last_error": ""}})
    assert [healthy.explains(each) for each in (waits, fails, other)] == [False, False, False]
    assert [Present().explains(each) for each in (waits, fails, other)] == [False, False, False]


def test_a_word_that_is_longer_than_its_column_stands_whole_below_the_row() -> None:
    made = Table("ID", "WHAT*", "STATE")
    made.add_row("1", "see https://example.com/" + "x" * 40 + " now", "due")
    made.add_row("2", "short", "dead")
    console = SafeConsole(width=50, file=io.StringIO(), color_system=None)
    console.print(made)
    shown = console.file.getvalue()
    assert "https://example.com/" + "x" * 40 in shown
    assert shown.splitlines()[0].split() == ["ID", "STATE", "WHAT"]


def test_pairs_begin_their_further_lines_below_the_first() -> None:
    console = SafeConsole(width=40, file=io.StringIO(), color_system=None)
    console.print(Pairs([("name", "one two three four five six seven eight"), ("longer", "x"), ("empty", "")]))
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "name    one two three four five six",
        "        seven eight",
        "longer  x",
    ]

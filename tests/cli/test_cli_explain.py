"""``engine explain``: what every route makes of a webhook, sending nothing."""

from __future__ import annotations

import json
import re
from typing import Any

from rich.console import Console

from engine.cli.commands.events import print_event
from engine.cli.support.samples import stored_event
from engine.cli.support.show_deliveries import Present
from engine.core.document import Fetched
from engine.core.event import Kind
from engine.testing import payloads
from tests.cli.conftest import CONFIG, Command


def routes_of(report: dict[str, Any], index: int) -> dict[str, dict[str, Any]]:
    document = next(one for one in report["documents"] if one["index"] == index)
    return {route["route"]: route for route in document["routes"]}


def test_every_condition_is_shown_with_what_it_expected_and_found(engine: Command) -> None:
    report = engine.json("explain", engine.payload())
    routes = routes_of(report, 1)
    low = routes["corrections/low-score"]
    assert low["verdict"] == "false"
    status, score = low["filter"]["children"]
    assert status["truth"] == "true"
    assert [(one["operator"], one["expected"], one["found"], one["truth"]) for one in score["checks"]] == [
        ("gte", 0, [1.0], "true"),
        ("lt", 0.5, [1.0], "false"),
    ]


def test_a_comparison_shows_the_value_that_was_found_in_either_form(engine: Command) -> None:
    conditions = '[{expr: run.latency, gt: 10}, {expr: "run.latency > 10"}, {expr: "run.latency > 1 or run.cost > 9"}]'
    engine.write(f"{CONFIG}\n  '*': {{name: slow, filters: {conditions}, actions: [log: {{message: slow}}]}}\n")
    run = payloads.run(0, start_time="2026-05-04T09:00:00Z", end_time="2026-05-04T09:00:12.3Z", total_cost="0.25")
    shown = engine("explain", engine.payload(payloads.rule([run])), "--route", "slow").output
    assert "✓ run.latency gt 10  found 12.3\n" in shown
    assert "✓ run.latency > 10  found run.latency = 12.3\n" in shown
    assert "found run.latency = 12.3, run.cost = 0.25\n" in shown  # the condition is on the line before


def test_what_would_be_fetched_is_said_and_nothing_is(engine: Command) -> None:
    report = engine.json("explain", engine.payload())
    assert routes_of(report, 1)["corrections/corrected"]["verdict"] == "wanting"
    assert report["would_fetch"] == ["feedback"]
    shown = engine("explain", engine.payload()).output
    assert "would be fetched from LangSmith" in shown


def test_supplied_feedback_decides_it(engine: Command) -> None:
    file = engine.folder / "feedback.json"
    ids = [run["id"] for run in payloads.complete()["runs"]]
    file.write_text(json.dumps([{"run_id": ids[1], "key": "correctness", "correction": {"label": "bug"}}]))
    report = engine.json("explain", engine.payload(), "--feedback", str(file), "--render")
    corrected = routes_of(report, 1)["corrections/corrected"]
    assert corrected["verdict"] == "true"
    assert "bug" in corrected["actions"][0]["params"]["message"]
    assert routes_of(report, 2)["corrections/corrected"]["verdict"] == "false"
    assert report["would_fetch"] == []
    fetched = engine.folder / "fetched.json"
    fetched.write_text(json.dumps({"feedback": {key: [] for key in ids}}))
    again = engine.json("explain", engine.payload(), "--fetched", str(fetched))
    assert routes_of(again, 1)["corrections/corrected"]["verdict"] == "false"


def test_parameters_are_shown_as_they_would_be_sent_with_secrets_masked(engine: Command) -> None:
    report = engine.json("explain", engine.payload(), "--render", "--run", "2", "--route", "errors")
    action = routes_of(report, 2)["corrections/errors"]["actions"][0]
    assert action["fires"]
    written = {"url": "http://127.0.0.1:9/hook", "headers": {"X-Key": "***"}}
    assert action["params"] == written | {"body": action["params"]["body"]}
    assert [run["id"] for run in action["params"]["body"]["runs"]] == [payloads.complete()["runs"][2]["id"]]
    assert action["destination"] == "http://127.0.0.1:9"
    assert "the-api-key-itself" not in engine("explain", engine.payload(), "--render").output


def test_when_and_stop_are_explained(engine: Command) -> None:
    routes = routes_of(engine.json("explain", engine.payload()), 0)
    assert routes["corrections/low-score"]["actions"][0]["when"]["truth"] == "true"
    assert routes["corrections/corrected"]["verdict"] == "not_asked"
    assert "stop: true" in routes["corrections/corrected"]["reason"]


def test_a_webhook_of_another_rule_matches_nothing_and_says_so(engine: Command) -> None:
    near = payloads.RULE_ID[:-1] + "b"
    file = engine.payload(payloads.complete() | {"rule_id": near})
    report = engine.json("explain", file, expect=1)
    assert report["unmatched_reason"] == "unknown_rule"
    assert payloads.RULE_ID in report["notes"][0]
    hypothetical = engine.json("explain", file, "--route", "errors", expect=1)
    route = routes_of(hypothetical, 2)["corrections/errors"]
    assert (route["applies"], route["verdict"]) == (False, "true")
    assert "nothing matched (unknown rule)" in engine("explain", file, expect=1).output


def test_standard_input_and_80_columns(engine: Command) -> None:
    engine.environ["COLUMNS"] = "80"
    result = engine("explain", "-", input=payloads.to_body(payloads.complete()))
    assert '✓ $.runs[*].status eq "success"' in result.output
    assert all(len(line) <= 80 for line in result.output.splitlines())


def test_values_are_whole_in_a_pipe_so_that_json_stays_json(engine: Command) -> None:
    long = "no_space_to_break_at_" * 4
    engine.write(
        engine.config.read_text().replace("low score of", f"{long} {long}").replace("eq: success", f"ne: {long}")
    )
    shown = engine("explain", engine.payload(), "--render", "--run", "0", "--route", "low-score").output
    assert f'✓ $.runs[*].status ne "{long}"  found "success"\n' in shown
    block = shown[shown.index("{\n") : shown.index("}\n") + 1]
    assert json.loads(block.replace("│", " "))["message"].startswith(f"{long} {long} classify")


def test_a_sample_is_explained_without_a_file(engine: Command) -> None:
    assert engine.json("explain", "--kind", "rule")["matched"]
    assert engine.json("explain", "--kind", "prompt", expect=1)["event"]["kind"] == "prompt"
    assert "give a FILE" in engine("explain", "--kind", "rule", engine.payload(), expect=2).stderr


def test_that_parameters_can_be_shown_is_said_once_where_there_are_any(engine: Command) -> None:
    offer = "parameters not rendered; --render shows them"
    assert engine("explain", engine.payload()).output.count(offer) == 1
    assert offer not in engine("explain", engine.payload(), "--render").output
    assert offer not in engine("explain", "--kind", "prompt", expect=1).output


def test_an_event_without_runs_is_explained_once(engine: Command) -> None:
    engine.write(engine.config.read_text() + '  alert: {actions: [{log: {message: "{{ alert_rule_name }}"}}]}\n')
    report = engine.json("explain", engine.payload(payloads.alert()), "--render")
    assert routes_of(report, -1)["alert"]["actions"][0]["params"] == {"message": "Latency over 5 s"}


def test_a_template_that_fails_is_reported(engine: Command) -> None:
    engine.write(engine.config.read_text().replace("low score of {{ run.name }}", "{{ run.nmae.x }}"))
    report = engine.json("explain", engine.payload(), "--render", "--run", "0", expect=1)
    action = routes_of(report, 0)["corrections/low-score"]["actions"][0]
    assert action["params"] is None
    assert "nmae" in action["error"]
    shown = engine("explain", engine.payload(), "--render", "--run", "0", expect=1).output
    assert "✗ log  would be dead: " in shown
    assert "nmae" in shown
    assert engine.json("explain", engine.payload(), "--run", "0")["matched"]


def test_unmatched_routes_are_explained_with_their_reason(engine: Command) -> None:
    text = engine.config.read_text()
    engine.write(text + '  unmatched: {actions: [{log: {message: "{{ event.unmatched_reason }}"}}]}\n')
    report = engine.json("explain", engine.payload(payloads.issue()), "--render")
    assert routes_of(report, -1)["unmatched"]["actions"][0]["params"] == {"message": "unknown_rule"}


def test_runs_that_matched_are_counted_and_those_of_fallback_routes_apart(engine: Command) -> None:
    log = 'actions: [{log: {message: "{{ event.id }}"}}]'
    own = f'{payloads.RULE_ID}: {{filters: [{{path: "$.runs[*].status", eq: error}}], {log}}}'
    engine.write(f"secrets: [a-secret-of-ours]\nroutes:\n  {own}\n  unmatched: {{name: rest, {log}}}\n")
    runs = [payloads.run(place, status=status) for place, status in enumerate(("error", "success", "success"))]
    file = engine.payload(payloads.rule(runs))
    shown = engine("explain", file).output
    assert "unmatched/rest  matches  fallback\n" in shown
    assert "1 of 3 runs matched, 2 fallback\n" in shown
    report = engine.json("explain", file, "--run", "1")
    assert (report["matched"], report["counts"]) == (False, {"runs": 1, "matched": 0, "fallback": 1})
    shown = engine("explain", file, "--route", "rest", "--run", "1").output
    assert "nothing matched, 1 fallback\n" in shown
    assert engine("explain", engine.payload(payloads.alert())).output.endswith(
        "nothing matched (unknown rule), fallback\nparameters not rendered; --render shows them\n"
    )


def test_an_unknown_rule_is_answered_with_the_known_ones_or_with_an_id_nearly_the_same(
    engine: Command,
) -> None:
    rule = "0f1e2d3c-4b5a-4697-8877-665544332211"
    explained = engine("explain", engine.payload(payloads.complete() | {"rule_id": rule}), expect=1).output
    said = f"no route is for rule {rule}; known rules: corrections; add this id to one of them under `rules:`"
    assert said in " ".join(explained.split())
    slip = payloads.RULE_ID[:-1] + ("0" if payloads.RULE_ID[-1] != "0" else "1")
    explained = engine("explain", engine.payload(payloads.complete() | {"rule_id": slip}), expect=1).output
    assert f"did you mean '{payloads.RULE_ID}'?" in explained
    # The advice works.
    engine.write(engine.config.read_text().replace(payloads.RULE_ID, f"[{payloads.RULE_ID}, {rule}]"))
    explained = engine("explain", engine.payload(payloads.complete() | {"rule_id": rule})).output
    assert "no route is for" not in explained
    engine.write("secrets: [a-secret-of-ours]\nroutes:\n  alert: {actions: [{log: {message: hi}}]}\n")
    explained = engine("explain", engine.payload(), expect=1).output
    assert "add it with a name under `rules:`, and routes under that name" in " ".join(explained.split())


def test_bad_questions_are_answered_with_words(engine: Command) -> None:
    file = engine.payload()
    assert "did you mean" in engine("explain", file, "--route", "erors", expect=2).stderr
    assert "its runs are 0 to 2" in engine("explain", file, "--run", "7", expect=2).stderr
    assert "give a FILE" in engine("explain", expect=2).stderr
    broken = engine.folder / "broken.json"
    broken.write_text("[1, 2")
    assert "broken.json" in engine("explain", str(broken), expect=2).stderr
    rows = engine.folder / "rows.json"
    rows.write_text("[1]")
    assert "feedback is a list" in engine("explain", file, "--feedback", str(rows), expect=2).stderr
    assert "there is no store" in engine("explain", "--event", "x", expect=2).stderr


def test_disabled_routes_and_batch_statistics_are_noted(engine: Command) -> None:
    engine.write(
        engine.config.read_text().replace("    - name: errors\n", "    - name: errors\n      enabled: false\n")
    )
    runs = [payloads.run(0, feedback_stats=None), payloads.run(1, feedback_stats=None)]
    report = engine.json("explain", engine.payload(payloads.rule(runs, feedback_stats={"x": {"avg": 1}})), expect=1)
    assert any("corrections/errors is disabled" in note for note in report["notes"])
    assert any("whole batch of 2 runs" in note for note in report["notes"])


def test_a_webhook_that_is_not_parsed_is_explained_by_the_routes_that_see_it(engine: Command) -> None:
    engine.write(
        CONFIG
        + """
  "*": {actions: [log: {message: any}]}
  unmatched:
    filters: [{expr: "event.unmatched_reason == 'unparsed'"}]
    actions: [log: {message: "{{ event.kind }}"}]
"""
    )
    file = engine.folder / "payload.json"
    file.write_bytes(b'{"a":' * 1100 + b"1" + b"}" * 1100)
    report = engine.json("explain", str(file), "--render")
    assert (report["event"]["kind"], report["event"]["rule_id"], report["event"]["runs"]) == ("unparsed", None, 0)
    assert report["event"]["unparsed"] == "the body is nested deeper than 200 levels"
    assert (report["matched"], report["unmatched_reason"]) == (False, "unparsed")
    assert report["counts"] == {"runs": 1, "matched": 0, "fallback": 1}
    (seen,) = routes_of(report, -1).values()
    assert (seen["route"], seen["actions"][0]["params"]["message"]) == ("unmatched", "unparsed")
    assert report["notes"] == [
        "the body is nested deeper than 200 levels: it is kept as it came, and only routes under `unmatched` see it"
    ]
    shown = engine("explain", str(file)).output
    assert shown.startswith("unparsed\n! the body is nested deeper than 200 levels: it is kept as it came")


def test_a_stored_event_is_explained_though_it_is_not_parsed() -> None:
    detail = {"id": "e1", "received_at": "2026-01-02T11:00:00Z", "payload": None, "unparsed": "why", "fetched": None}
    event, fetched = stored_event(detail)
    assert (event.id, event.kind, event.unparsed, event.payload) == ("e1", Kind.UNPARSED, "why", {})
    assert fetched == Fetched()


def test_a_stored_event_was_parsed_where_it_is_stored_whatever_the_limit_is_here() -> None:
    detail = {"id": "e1", "received_at": "2026-01-02T11:00:00Z", "payload": {"a": [0] * 1_000_001}, "unparsed": None}
    event, _ = stored_event(detail | {"fetched": None})
    assert (event.id, event.kind, event.unparsed, event.payload) == ("e1", Kind.UNKNOWN, "", detail["payload"])


def test_a_stored_event_that_is_not_parsed_is_shown_with_the_reason(capsys) -> None:
    event = {
        "id": "0199",
        "kind": "unparsed",
        "rule": None,
        "rule_id": None,
        "received_at": "2026-01-02T11:00:00Z",
        "bytes": 3_000_000,
        "repaired": False,
        "state": "routed",
        "reason": "",
        "copies": 0,
        "matched": 0,
        "fallback": 0,
        "unmatched_reason": "unparsed",
        "unparsed": "it has too many values",
        "payload": None,
        "evaluations": [],
        "deliveries": [],
        "history": [],
    }
    print_event(Console(width=100), event, {}, Present(), payload=True)
    shown = capsys.readouterr()
    assert re.search(r"unparsed +it has too many values", shown.out)
    assert re.search(r"unmatched +unparsed *\n", shown.out)
    assert "the body was not parsed, so there is no payload to show" in shown.err
    assert "no longer kept" not in shown.err

"""What ``explain`` says of deliveries whose parameters cannot be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.admin.explain import Focus, explain
from engine.core.document import Fetched
from engine.core.event import parse_event
from engine.rules.reload import Loader
from engine.testing.payloads import seed

CONFIG = """\
secrets: [long-enough-secret]
langsmith: {api_key: k}
routes:
  "*":
    actions:
      - log: {message: "{{ run.name }}"}
      - log: {message: "{{ run.nmae }}"}
        name: slip
      - log: {message: "{{ feedback.correctness.comment }}"}
        name: waiting
"""


def actions(tmp_path: Path, *, render: bool) -> dict[str, dict[str, Any]]:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    event = parse_event(orjson.dumps(seed()), 1_700_000_000.0)
    report = explain(Loader(path, {}).load(), event, Fetched(), Focus(render=render))
    [route] = [route for document in report["documents"] for route in document["routes"]]
    return {action["name"]: action for action in route["actions"]}


def test_it_shows_whether_a_delivery_would_be_dead_and_why(tmp_path: Path) -> None:
    told = actions(tmp_path, render=True)
    assert {name: action["would"] for name, action in told.items()} == {"log": "fire", "slip": "die", "waiting": "wait"}
    assert all(action["fires"] for action in told.values())
    slip = told["slip"]
    assert slip["reason"].startswith("parameter message (config.yaml:7): run has no 'nmae' (it has ")
    assert (slip["params"], slip["hint"]) == (None, "did you mean 'name'?")
    assert "reason" not in told["log"]
    assert told["waiting"]["error"].startswith("not rendered: feedback: ")


def test_without_rendering_nothing_is_predicted(tmp_path: Path) -> None:
    assert not any("would" in action for action in actions(tmp_path, render=False).values())


def test_a_route_that_reaches_the_limit_of_time_is_shown_as_undecided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.rules.router.LIMIT", 0.05)
    monkeypatch.setattr("engine.admin.explain.LIMIT", 0.05)
    slow = "range(60000) | map('string') | map('upper') | join | length > 5"
    path = tmp_path / "config.yaml"
    conditions = "".join(f'        - {{expr: "{slow}"}}\n' for _ in range(9))
    path.write_text(
        'secrets: [long-enough-secret]\nroutes:\n  "*":\n    - filters:\n'
        f"{conditions}      actions: [{{log: {{message: x}}}}]\n"
    )
    event = parse_event(orjson.dumps(seed()), 1_700_000_000.0)
    report = explain(Loader(path, {}).load(), event, Fetched())
    [shown] = [route for document in report["documents"] for route in document["routes"]]
    limit = "the evaluation took longer than 0.05 s of CPU time"
    assert (shown["verdict"], shown["reason"]) == ("undecided", f"{limit}, and was stopped at route '*'")
    assert (shown["filter"]["truth"], shown["filter"]["reason"]) == ("undecided", limit)
    assert [one["reason"] for one in shown["filter"]["children"]] == [limit] * 9

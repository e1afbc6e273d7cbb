"""What is said of metrics, alerts, words and log fields is what the engine has: docs, dashboard, rules."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from engine.action.failures import REASON_CLASSES
from engine.app import running
from engine.cli.main import COMMANDS
from engine.core.serve_settings import Address, ServeSettings
from engine.receiver.readiness import REASONS
from engine.receiver.responses import REFUSALS
from engine.store.records import Again, Attempt, Work
from engine.worker.observer import HeldBack, _facts

ROOT = Path(__file__).parents[1]
PAGE = re.sub(r"```.*?```", "", (ROOT / "docs" / "operations.md").read_text(), flags=re.DOTALL)
RULES = ROOT / "deploy" / "prometheus-alerts.yaml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def words(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def table(title: str) -> dict[str, str]:
    """The first cells of a section's tables, with the rest of their rows."""
    return dict(re.findall(r"^\| (`[^|]+?) \| (.*) \|$", section(title), re.MULTILINE))


@pytest.fixture
async def labels(tmp_path: Path) -> dict[str, list[str]]:
    """Every metric of an engine that serves, by the name it is queried by, with its labels."""
    (tmp_path / "config.yaml").write_text("secrets: none\nroutes: {}\n")
    loopback = Address("127.0.0.1", 0)
    settings = ServeSettings(tmp_path / "config.yaml", tmp_path / "data", listen=loopback, admin=loopback, grace=1)
    async with running(settings, logging.getLogger("engine.test"), environ={}) as engine:
        types = {family.name: family.type for family in engine.metrics.collect()}
        known = engine.metrics.labels()
    return {name + ("_total" if types[name] == "counter" else ""): list(known[name]) for name in types}


def queries() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard and the rules, with what it is for."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["name"], str(variable.get("definition", ""))
    for rule in rules():
        yield rule["alert"], rule["expr"] + str(rule["annotations"])


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def base(name: str, known: dict[str, list[str]]) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in known else name


async def test_dashboard_and_rules_ask_for_metrics_and_labels_that_exist(labels: dict[str, list[str]]) -> None:
    for title, query in queries():
        names = [base(name, labels) for name in re.findall(r"\bengine_[a-z_]+", query)]
        assert names or query in ("prometheus", "") or "process_" in query, title
        for name in names:
            assert name in labels, f"{title}: {name}"
        allowed = {"instance", "le", *(label for name in names for label in labels[name])}
        for group in re.findall(r"\bby \(([^)]*)\)", query):
            assert set(re.split(r",\s*", group)) <= allowed, f"{title}: by ({group})"
        for selector in re.findall(r"engine_[a-z_]+\{([^}]*)\}", query):
            used = set(re.findall(r"([a-z_]+)(?:=~|!~|!=|=)", selector))
            assert used <= allowed, f"{title}: {selector}"


async def test_every_metric_is_documented_with_its_labels_and_no_other_is(labels: dict[str, list[str]]) -> None:
    rows = {name.strip("`"): row for name, row in table("Metrics").items()}
    assert set(rows) == set(labels)
    for name, row in rows.items():
        assert words(row.split("|")[0]) == set(labels[name]), name


def test_every_word_that_a_label_or_readyz_may_have_is_documented() -> None:
    metrics = words(section("Metrics"))
    assert {word for word in REASON_CLASSES if word} <= metrics
    assert set(REFUSALS) <= metrics
    assert set(get_args(HeldBack)) <= metrics
    assert {f"`{word}`" for word in REASONS} == set(table("Is it healthy?"))


def test_every_alert_is_documented_and_no_other_is() -> None:
    documented = set().union(*map(words, table("Alerts")))
    assert documented == {rule["alert"] for rule in rules()}


def test_every_field_of_an_attempt_s_line_is_documented_and_no_other_is() -> None:
    work = Work("d", "deliver", "e", 1.0, 1.0)
    fields = set(_facts(work, Attempt(1, 0, 1.0, 0.1, "again"), Again(2.0))) | {"action_type"}
    assert set().union(*map(words, table("Log"))) == fields


def test_commands_that_are_advised_exist() -> None:
    told = PAGE + RULES.read_text()
    named = {name for name in re.findall(r"\bengine ([a-z]+)\b(?= --|`|\.| for)", told) if name != "itself"}
    assert named <= set(COMMANDS)


def test_the_dashboard_s_panels_have_their_own_ids_and_places() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.skipif(
    not shutil.which("promtool") and not os.environ.get("CI"),
    reason="promtool (Debian's package prometheus) is not installed",
)
@pytest.mark.parametrize("what", [("check", RULES), ("test", RULES.with_suffix(".test.yaml"))], ids=["check", "test"])
def test_promtool_finds_the_rules_good_and_they_fire_when_they_should(what: tuple[str, Path]) -> None:
    verb, file = what
    ran = subprocess.run(["promtool", verb, "rules", str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr

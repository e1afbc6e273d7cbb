"""What Prometheus is told, by a whole engine and by the parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from engine.action.failures import REASON_CLASSES, classify
from engine.app import running
from engine.core.counters import Counts
from engine.core.errors import DataMissing, Discard, HttpFailure, StoreBusy, TemplateError
from engine.core.serve_settings import Address, ServeSettings
from engine.core.truth import Truth
from engine.receiver.responses import REFUSALS
from engine.rules.decision import Decision, Routing
from engine.store.queries import Backlog
from engine.store.records import Attempt, Dead, Work
from engine.telemetry.metrics import MOST_DESTINATIONS, MOST_ROUTES, Metrics
from engine.worker.attempt import AttemptResult, Job


class Parts:
    """What metrics ask of an engine."""

    def __init__(self) -> None:
        self.routes = ["alert/a", "alert/b"]
        self.backlog = Backlog(evaluations=3, deliveries=4, dead=5, oldest_due_at=90.0)
        self.error: Exception | None = None
        self.registry = CollectorRegistry()
        self.metrics = Metrics(
            self.registry,
            routes=lambda: self.routes,
            backlog=self.ask,
            mask=lambda text: text.replace("s3cret", "***"),
            knows=lambda route, action: route in self.routes and action == "a",
            clock=lambda: 100.0,
            rejections=REFUSALS,
        )
        self.metrics.reloaded(0, "abc", 50.0)

    async def ask(self) -> Backlog:
        if self.error is not None:
            raise self.error
        return self.backlog

    async def read(self, name: str, **labels: str) -> float | None:
        await self.metrics.page("")
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def parts() -> Parts:
    return Parts()


def attempt(
    parts: Parts, route: str, error: Exception | None = None, seconds: float = 0.2, due_at: float = 99.0
) -> None:
    ran = AttemptResult(None if error is None else classify(error), None, "", 100.0, seconds, error)
    action: Any = SimpleNamespace(name="a", registered=SimpleNamespace(name="log"))
    work = Work("d", "deliver", "e", due_at, due_at, route, "a")
    job = Job(work, None, SimpleNamespace(id=route), action, {})  # type: ignore[arg-type]
    outcome = "dead" if error else "succeeded"
    parts.metrics.attempted(job, ran, Attempt(1, 0, 100.0, seconds, outcome), Dead("no") if error else None)


# --- counting --------------------------------------------------------------------------------------------------------


async def test_attempts_are_counted_by_route_action_outcome_and_reason(parts: Parts) -> None:
    attempt(parts, "alert/a")
    attempt(parts, "alert/a")
    attempt(parts, "alert/b", HttpFailure(503, {}))
    labels = {"route": "alert/a", "action": "log", "outcome": "succeeded", "reason": ""}
    assert await parts.read("engine_attempts_total", **labels) == 2
    labels = {"route": "alert/b", "action": "log", "outcome": "dead", "reason": "server_error"}
    assert await parts.read("engine_attempts_total", **labels) == 1
    assert await parts.read("engine_queue_wait_seconds_sum") == 3.0
    assert await parts.read("engine_attempt_seconds_count", action="log") == 3
    assert await parts.read("engine_attempt_seconds_bucket", action="log", le="0.1") == 0
    assert await parts.read("engine_attempt_seconds_bucket", action="log", le="0.25") == 3


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (None, ""),
        (HttpFailure(401, {}), "auth"),
        (HttpFailure(403, {}), "auth"),
        (HttpFailure(404, {}), "client_error"),
        (HttpFailure(302, {}), "client_error"),
        (HttpFailure(429, {}), "rate_limited"),
        (HttpFailure(500, {}), "server_error"),
        (TimeoutError("late"), "timeout"),
        (ConnectionRefusedError("no"), "connection"),
        (DataMissing("feedback"), "data"),
        (TemplateError("no such name"), "template"),
        (Discard("not mine"), "discarded"),
        (ZeroDivisionError("oops"), "unexpected"),
    ],
    ids=str,
)
def test_every_reason_is_a_word_of_a_closed_set(error: Exception | None, word: str) -> None:
    assert ("" if error is None else classify(error).reason_class) == word
    assert word in REASON_CLASSES


async def test_requests_are_counted_by_their_end(parts: Parts) -> None:
    for outcome in ("accepted", "duplicate", *REFUSALS):
        parts.metrics.answered(outcome, 0.002)
    assert await parts.read("engine_accept_seconds_count") == 2
    for reason in REFUSALS:
        assert await parts.read("engine_requests_rejected_total", reason=reason) == 1


async def test_only_configured_routes_are_labels_and_what_is_gone_takes_its_metrics_along(parts: Parts) -> None:
    attempt(parts, "alert/a")
    attempt(parts, "alert/unheard-of")
    labels = {"action": "log", "outcome": "succeeded", "reason": ""}
    assert await parts.read("engine_attempts_total", route="other", **labels) == 1
    parts.routes = ["alert/b"]
    parts.metrics.reloaded(0, "def", 60.0)
    assert await parts.read("engine_attempts_total", route="alert/a", **labels) is None
    assert await parts.read("engine_attempts_total", route="other", **labels) == 1
    parts.routes = [f"alert/{number}" for number in range(MOST_ROUTES + 50)]
    parts.metrics.reloaded(0, "ghi", 70.0)
    for route in parts.routes:
        attempt(parts, route)
    assert await parts.read("engine_attempts_total", route="other", **labels) == 51


async def test_a_bad_reload_changes_what_is_said_of_it_and_nothing_else(parts: Parts) -> None:
    parts.routes = []
    attempt(parts, "alert/a")
    parts.metrics.reloaded(2, "abc", 60.0)
    assert await parts.read("engine_reload_good") == 0
    assert await parts.read("engine_reload_timestamp_seconds") == 60
    assert await parts.read("engine_config_timestamp_seconds") == 50
    assert await parts.read("engine_config_info", hash="abc") == 1
    assert await parts.read("engine_reloads_total", result="bad") == 1
    labels = {"route": "alert/a", "action": "log", "outcome": "succeeded", "reason": ""}
    assert await parts.read("engine_attempts_total", **labels) == 1


async def test_a_store_that_does_not_answer_costs_its_own_numbers_only(parts: Parts) -> None:
    assert await parts.read("engine_backlog", kind="deliver") == 4
    assert await parts.read("engine_dead") == 5
    assert await parts.read("engine_oldest_waiting_seconds") == 10
    parts.error = StoreBusy("locked")
    assert await parts.read("engine_store_up") == 0
    assert await parts.read("engine_dead") is None
    assert await parts.read("engine_reload_good") == 1


async def test_why_events_would_not_be_accepted_is_a_label(parts: Parts) -> None:
    assert await parts.read("engine_ready", reason="") == 1

    async def full() -> str:
        return "disk"

    parts.metrics.unready = full
    assert await parts.read("engine_ready", reason="disk") == 0
    assert await parts.read("engine_ready", reason="") is None


async def test_what_waits_for_a_destination_is_shown_without_secrets_and_bounded(parts: Parts) -> None:
    lanes = {f"https://{number}.example": 1 for number in range(MOST_DESTINATIONS + 7)}
    parts.backlog = Backlog(by_lane={"https://s3cret.example": 3} | lanes)
    assert await parts.read("engine_waiting_deliveries", destination="https://***.example") == 3
    assert await parts.read("engine_waiting_deliveries", destination="other") == 8
    parts.metrics.in_memory = lambda: {"https://s3cret.example": 2}
    assert await parts.read("engine_waiting_deliveries", destination="https://***.example") == 5


async def test_pauses_are_shown_until_they_are_over_without_secrets(parts: Parts) -> None:
    parts.metrics.paused("https://s3cret.example", None, "410")
    parts.metrics.paused("https://over.example", 99.0, "429")
    assert await parts.read("engine_destination_paused", destination="https://***.example") == 1
    assert await parts.read("engine_destination_paused", destination="https://over.example") == 0
    parts.metrics.reopened("https://s3cret.example")
    assert await parts.read("engine_destination_paused", destination="https://***.example") is None
    assert await parts.read("engine_destination_pauses_total", destination="https://***.example") == 1


async def test_of_several_destinations_that_share_a_label_one_that_is_paused_is_shown(parts: Parts) -> None:
    for number in range(MOST_DESTINATIONS):
        parts.metrics.paused(f"https://{number}.example", 99.0, "429")
    parts.metrics.paused("https://one.example", None, "410")
    parts.metrics.paused("https://two.example", None, "410")
    parts.metrics.paused("https://three.example", 99.0, "429")
    parts.metrics.reopened("https://one.example")
    assert await parts.read("engine_destination_paused", destination="other") == 1
    parts.metrics.reopened("https://two.example")
    assert await parts.read("engine_destination_paused", destination="other") == 0


async def test_a_death_says_whether_its_route_and_action_are_configured(parts: Parts) -> None:
    parts.routes += [f"alert/{number}" for number in range(MOST_ROUTES)]
    parts.metrics.reloaded(0, "abc", 50.0)
    dead = Attempt(1, 0, 1.0, 0.0, "dead", destination="https://slow.example")
    for work, attempt_, route, reason in (
        (
            Work("d", "deliver", "e", 1.0, 1.0, "alert/a", "removed"),
            replace(dead, destination=""),
            "alert/a",
            "unconfigured",
        ),
        (Work("d", "deliver", "e", 1.0, 1.0, parts.routes[-1], "a"), dead, "other", "overdue"),
    ):
        parts.metrics.failed(work, attempt_, Dead(""))
        labels = {"route": route, "action": "", "outcome": "dead", "reason": reason}
        assert await parts.read("engine_attempts_total", **labels) == 1


async def test_what_could_not_be_attempted_is_counted_too(parts: Parts) -> None:
    parts.metrics.failed(Work("e", "evaluate", "e", 1.0, 1.0), Attempt(1, 0, 1.0, 0.0, "again"), None)
    parts.metrics.failed(Work("d", "deliver", "e", 1.0, 1.0, "gone/x", "a"), Attempt(1, 0, 1.0, 0.0, "dead"), Dead(""))
    assert await parts.read("engine_evaluations_total", outcome="again") == 1
    labels = {"route": "other", "action": "", "outcome": "dead", "reason": "unconfigured"}
    assert await parts.read("engine_attempts_total", **labels) == 1


async def test_an_evaluation_counts_when_it_is_at_its_end_and_not_while_it_waits(parts: Parts) -> None:
    event: Any = SimpleNamespace(id="e")
    end = Routing((), (), frozenset(), None)
    for routing in (end, replace(end, wanting=frozenset({"feedback"})), replace(end, awaiting={"score": 9.0})):
        parts.metrics.routed(event, routing, 1.0, 0, over=routing is end)
    assert await parts.read("engine_evaluations_total", outcome="routed") == 1


async def test_a_verdict_counts_once_it_stands(parts: Parts) -> None:
    event: Any = SimpleNamespace(id="e")
    waiting = Decision("alert/a", -1, None, Truth.WANTING)
    open_action = replace(waiting, truth=Truth.TRUE, pending=("log",))
    for decision in (waiting, waiting, open_action, replace(open_action, pending=())):
        over = decision.settled
        routing = Routing((decision,), (), frozenset(), "no_match")
        parts.metrics.routed(event, routing, 1.0, 0, over=over)
    assert await parts.read("engine_decisions_total", route="alert/a", verdict="true") == 1
    assert await parts.read("engine_decisions_total", route="alert/a", verdict="wanting") is None
    assert await parts.read("engine_events_unmatched_total", reason="no_match") == 1


async def test_others_add_what_they_know(parts: Parts) -> None:
    parts.metrics.gauge("engine_x", "X.", lambda: {("a",): 1.5}, "of")
    parts.metrics.show("engine_y", "Y.", Counts()).add()
    assert await parts.read("engine_x", of="a") == 1.5
    assert await parts.read("engine_y_total") == 1


# --- a whole engine --------------------------------------------------------------------------------------------------

CONFIG = """
secrets: none
routes:
  alert:
    - name: logged
      actions: [{log: {message: "{{ payload.alert_rule_name }}"}}]
    - name: never
      filters: [{path: "$.alert_rule_name", eq: nothing}]
      actions: [{log: {message: never}}]
"""


@asynccontextmanager
async def an_engine(folder: Path, token: str | None = None) -> AsyncIterator[tuple[Any, aiohttp.ClientSession]]:
    (folder / "config.yaml").write_text(CONFIG)
    loopback = Address("127.0.0.1", 0)
    settings = ServeSettings(
        folder / "config.yaml", folder / "data", listen=loopback, admin=loopback, admin_token=token, grace=1
    )
    logger = logging.getLogger("engine.test")
    async with running(settings, logger, environ={}) as engine, aiohttp.ClientSession() as http:
        yield engine, http


@pytest.fixture
async def served(tmp_path: Path) -> Any:
    async with an_engine(tmp_path) as engine_and_http:
        yield engine_and_http


async def page(engine: Any, http: aiohttp.ClientSession, accept: str = "") -> tuple[str, str]:
    async with http.get(f"http://{engine.admin}/metrics", headers={"Accept": accept} if accept else {}) as response:
        assert response.status == 200
        return await response.text(), response.headers["Content-Type"]


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


async def test_an_engine_shows_what_happened_to_an_event(served: Any) -> None:
    engine, http = served
    body = {"alert_rule_id": "x", "alert_rule_name": "latency"}
    for status in (202, 202, 400):
        url = f"http://{engine.public}/webhooks/langsmith"
        data = b"[]" if status == 400 else None
        async with http.post(url, json=None if data else body, data=data) as response:
            assert response.status == status
    while engine.worker.busy or (await engine.store.backlog()).deliveries:
        await asyncio.sleep(0.01)
    text, content_type = await page(engine, http)
    assert content_type.startswith("text/plain")
    found = samples(text)
    assert found["engine_events_accepted_total", (("kind", "alert"),)] == 1
    assert found["engine_events_duplicate_total", (("kind", "alert"),)] == 1
    assert found["engine_requests_rejected_total", (("reason", "bad_body"),)] == 1
    assert found["engine_decisions_total", (("route", "alert/logged"), ("verdict", "true"))] == 1
    assert found["engine_decisions_total", (("route", "alert/never"), ("verdict", "false"))] == 1
    labels = (("action", "log"), ("outcome", "succeeded"), ("reason", ""), ("route", "alert/logged"))
    assert found["engine_attempts_total", labels] == 1
    assert found["engine_backlog", (("kind", "deliver"),)] == 0
    assert found["engine_store_commit_verbs_count", ()] >= 3
    assert found["engine_store_commit_seconds_count", ()] >= 3
    assert found["engine_disk_free_bytes", ()] > 0
    assert ("process_resident_memory_bytes", ()) in found
    assert found["engine_work_under_way", ()] == 0


async def test_openmetrics_is_served_on_request(served: Any) -> None:
    engine, http = served
    text, content_type = await page(engine, http, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert {"engine_attempts", "engine_build_info"} <= {family.name for family in parse_openmetrics(text)}


async def test_two_engines_in_one_process_count_apart(parts: Parts) -> None:
    attempt(parts, "alert/a")
    other = Parts()
    labels = {"route": "alert/a", "action": "log", "outcome": "succeeded", "reason": ""}
    assert await other.read("engine_attempts_total", **labels) is None


async def test_the_page_takes_the_token_that_everything_takes(tmp_path: Path) -> None:
    async with an_engine(tmp_path, "sesame") as (engine, http):
        for token, status in (("", 401), ("Bearer sesame", 200)):
            headers = {"Authorization": token} if token else {}
            async with http.get(f"http://{engine.admin}/metrics", headers=headers) as response:
                assert response.status == status

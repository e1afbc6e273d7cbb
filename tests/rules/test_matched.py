"""How many runs of an event matched, and for how many a route under ``unmatched`` fired: counted apart."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest

from engine.action.registry import load_installed
from engine.config import parse_config
from engine.core.document import Fetched
from engine.core.event import Event, parse_event
from engine.rules.compile import compile_router
from engine.rules.decision import Circumstances, Known, Routing
from engine.testing import payloads
from engine.testing.payloads import RULE_ID
from engine.worker.observer import LogObserver

ERROR = '[{path: "$.runs[*].status", eq: error}]'
NEVER = '[{path: "$.runs[*].status", eq: never}]'
LOG = "actions: [log: {message: x}]"
OWN = f"{RULE_ID}: [{{name: a, filters: {ERROR}, {LOG}}}, {{name: b, filters: {ERROR}, {LOG}}}]"
REST = f"unmatched: {{{LOG}}}"


def event(*statuses: str, **body: Any) -> Event:
    runs = [payloads.run(place, status=status) for place, status in enumerate(statuses)]
    return parse_event(orjson.dumps(payloads.rule(runs) if runs else body), 1_778_493_600.0)


def decide(of: Event, *routes: str, **around: Any) -> Routing:
    text = "secrets: [x]\nroutes:\n" + "".join(f"  {route}\n" for route in routes)
    return compile_router(parse_config(text, environ={}), load_installed()).decide(
        of, Fetched(), Circumstances(of.received_at, **around)
    )


@pytest.mark.parametrize(
    ("routes", "matched", "fallback"),
    [
        ([OWN], 1, 0),
        ([OWN, REST], 1, 2),
        ([OWN, f'"*": {{{LOG}}}', REST], 3, 2),
        ([f"{RULE_ID}: {{filters: {NEVER}, {LOG}}}", REST], 0, 3),
        ([f"{RULE_ID}: {{for_each: event, {LOG}}}", REST], 3, 0),
        ([f"{RULE_ID}: {{for_each: event, filters: {NEVER}, {LOG}}}", f"unmatched: {{for_each: event, {LOG}}}"], 0, 3),
        ([f"unmatched: [{{name: a, {LOG}}}, {{name: b, filters: {ERROR}, {LOG}}}]"], 0, 3),
        (["alert: {" + LOG + "}"], 0, 0),
    ],
)
def test_matched_counts_runs_and_fallbacks_apart(routes: list[str], matched: int, fallback: int) -> None:
    routing = decide(event("error", "success", "success"), *routes)
    assert (routing.matched, routing.fallback) == (matched, fallback)


def test_an_event_without_runs_counts_as_one() -> None:
    alert = event(**payloads.alert())
    assert [(one.matched, one.fallback) for one in (decide(alert, f"alert: {{{LOG}}}"), decide(alert, REST))] == [
        (1, 0),
        (0, 1),
    ]


def test_what_an_earlier_evaluation_settled_is_counted_with_the_rest() -> None:
    known = {(0, f"{RULE_ID}/a"): Known(matched=True), (1, "unmatched"): Known(matched=True)}
    routing = decide(event("success", "success"), OWN, REST, known=known)
    assert (routing.matched, routing.fallback) == (1, 1)


def test_the_log_names_fallback_routes_apart(caplog: pytest.LogCaptureFixture) -> None:
    came = event("error", "success")
    with caplog.at_level(logging.INFO, logger="engine"):
        LogObserver(logging.getLogger("engine")).routed(came, decide(came, OWN, REST), 0.0, 3, over=True)
        LogObserver(logging.getLogger("engine")).routed(came, decide(came, OWN), 0.0, 2, over=True)
    both, own = caplog.records
    assert (both.matched, both.fallback) == (f"{RULE_ID}/a,{RULE_ID}/b", "unmatched")
    assert not hasattr(own, "fallback")

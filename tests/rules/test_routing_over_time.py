"""What routing says about time: gates and their keys, hours, mutes, and feedback that is waited for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from engine.action.registry import load_installed
from engine.config import parse_config
from engine.core.document import Fetched
from engine.core.event import Event, parse_event
from engine.core.truth import Truth
from engine.rules.compile import compile_router
from engine.rules.decision import Circumstances, Decision, Known, Routing
from engine.rules.router import Router
from engine.store.records import Control, Digest, Throttle
from engine.testing.payloads import RULE_ID, seed

RECEIVED = 1_778_493_600.0  # Monday, 2026-05-11, 10:00 UTC
SUNDAY = RECEIVED - 86400.0
RUN_ID = seed()["runs"][0]["id"]


def router(routes: str) -> Router:
    head = f"secrets: [x]\nlangsmith: {{api_key: k}}\nroutes:\n  {RULE_ID}:\n"
    body = "".join(f"    {line}\n" for line in routes.strip("\n").splitlines())
    return compile_router(parse_config(head + body, environ={}), load_installed())


def event(runs: list[dict[str, Any]] | None = None, **run: Any) -> Event:
    payload = seed()
    first = payload["runs"][0] | run
    payload["runs"] = [first] if runs is None else [first | each for each in runs]
    return parse_event(orjson.dumps(payload), RECEIVED)


def decide(routes: str, fetched: Fetched | None = None, *, of: Event | None = None, **around: Any) -> Routing:
    return router(routes).decide(of or event(), fetched or Fetched(), Circumstances(**{"now": RECEIVED} | around))


def only(routing: Routing) -> Decision:
    [decision] = routing.decisions
    return decision


def test_a_route_that_an_event_meets_in_two_ways_decides_once() -> None:
    one = router("- actions: [{log: {message: x}}]")
    twice = replace(one, by_key={RULE_ID: one.by_key[RULE_ID] * 2, "*": one.by_key[RULE_ID]})
    routing = twice.decide(event(), Fetched(), Circumstances(RECEIVED))
    assert (len(routing.plans), len(routing.decisions), routing.matched) == (1, 1, 1)


# --- throttle and digest ---------------------------------------------------------------------------------------------


def gated(block: str) -> str:
    return f"- actions:\n    - log: {{message: x}}\n      {block}"


def test_a_throttle_without_a_key_has_one_slot() -> None:
    [plan] = decide(gated("throttle: {every: 10m}")).plans
    assert plan.gate == Throttle("", 600.0)


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("{{ run.name }}", "chat"),
        ("{{ run.name }}/{{ run.status }}", "chat/error"),
        ("{{ run.total_tokens }}", "7"),
        ("{{ run.error }}", "null"),
        ("{{ {'b': 1, 'a': run.name} }}", '{"a":"chat","b":1}'),
        ("{{ run.extra.nothing | default('all') }}", "all"),
    ],
)
def test_a_key_is_what_its_template_comes_to(by: str, key: str) -> None:
    of = event(name="chat", status="error", total_tokens=7, error=None, extra={})
    [plan] = decide(gated(f'digest: {{every: 5m, max: 50, by: "{by}"}}'), of=of).plans
    assert plan.gate == Digest(key, 300.0, 50)


def test_long_keys_are_distinguished_all_the_same() -> None:
    block = gated('throttle: {every: 10m, by: "{{ run.name }}"}')
    one, other = (decide(block, of=event(name="x" * 5000 + end)).plans[0].gate for end in "ab")
    assert isinstance(one, Throttle)
    assert one != other
    assert len(one.key) < 250


def test_deliveries_without_a_key_share_one_slot_and_the_decision_says_why() -> None:
    of = event(runs=[{"extra": {}}, {"extra": {"team": "a"}}])
    routing = decide(gated('throttle: {every: 10m, by: "{{ run.extra.team }}"}'), of=of)
    assert [plan.gate.key for plan in routing.plans if plan.gate] == ["(cannot be told)", "a"]
    assert (
        routing.decisions[0]
        .notes["log"]
        .startswith(
            "throttle: its key cannot be computed, so it shares one with other such deliveries: run.extra has no 'team'"
        )
    )
    assert routing.decisions[1].notes == {}


def test_a_key_that_wants_data_waits_for_it_and_in_the_end_goes_without() -> None:
    block = gated('digest: {every: 5m, by: "{{ feedback.team.value }}"}')
    waiting = decide(block)
    assert only(waiting).pending == ("log",)
    assert waiting.wanting == {"feedback"}
    [plan] = decide(block, final=True).plans
    assert plan.gate == Digest("(cannot be told)", 300.0, 100)
    [plan] = decide(block, Fetched(feedback={RUN_ID: [{"key": "team", "value": "a"}]})).plans
    assert plan.gate == Digest("a", 300.0, 100)


# --- hours -----------------------------------------------------------------------------------------------------------

OFFICE = 'days: mon-fri, hours: "09:00-18:00", timezone: Europe/Berlin'


def test_within_its_hours_an_action_is_as_any_other() -> None:
    routing = decide(gated(f"active: {{{OFFICE}}}"))
    assert only(routing).fires == ("log",)
    assert routing.plans[0].due_at is None


def test_outside_its_hours_an_action_is_skipped_and_the_route_has_matched() -> None:
    routing = decide(gated(f"active: {{{OFFICE}}}"), now=SUNDAY)
    assert only(routing).truth is Truth.TRUE
    assert only(routing).skipped == {"log": "outside its hours: mon-fri 09:00-18:00 Europe/Berlin"}
    assert [(held.action, held.why) for held in routing.held_back] == [("log", "inactive")]
    assert routing.matched == 1


def test_outside_its_hours_an_action_that_holds_is_due_at_the_next_opening() -> None:
    routing = decide(gated(f"active: {{{OFFICE}, otherwise: hold}}"), now=SUNDAY)
    opening = datetime(2026, 5, 11, 7, tzinfo=UTC).timestamp()
    assert routing.plans[0].due_at == opening
    assert only(routing).fires == ("log",)
    assert only(routing).notes == {
        "log": "held until 2026-05-11 09:00 CEST: outside its hours, mon-fri 09:00-18:00 Europe/Berlin"
    }


def test_the_hours_of_route_and_action_must_both_hold() -> None:
    route = (
        f"- active: {{{OFFICE}}}\n  actions:\n    - log: {{message: x}}\n      active: {{days: tue, otherwise: hold}}"
    )
    assert only(decide(route, now=SUNDAY)).skipped
    tuesday = datetime(2026, 5, 12, tzinfo=UTC).timestamp()
    assert decide(route).plans[0].due_at == tuesday
    assert decide(route, now=tuesday + 10 * 3600).plans[0].due_at is None


def test_a_paused_destination_fetches_no_data() -> None:
    block = gated(f"active: {{{OFFICE}}}\n      when: [{{path: $.feedback.k, exists: true}}]")
    routing = decide(block, now=SUNDAY)
    assert routing.wanting == frozenset()
    assert only(routing).settled


# --- mutes -----------------------------------------------------------------------------------------------------------


def mute(until: float | None = RECEIVED + 60) -> Control:
    return Control("mute", RULE_ID, "too loud", "ann", RECEIVED - 60, until)


def test_a_muted_match_is_a_match_that_does_nothing() -> None:
    routes = "- actions: [{log: {message: x}}]"
    routing = decide(routes, mutes={RULE_ID: mute()})
    assert only(routing).truth is Truth.TRUE
    assert only(routing).reason == "muted until 2026-05-11 10:01:00 UTC by ann: too loud"
    assert (routing.plans, routing.matched, routing.unmatched_reason) == ((), 1, None)
    assert [held.why for held in routing.held_back] == ["muted"]
    assert len(decide(routes, mutes={RULE_ID: mute(RECEIVED)}).plans) == 1
    assert only(decide(routes, mutes={RULE_ID: mute(None)})).reason.startswith("muted until it is unmuted by ann")


def test_a_muted_route_does_not_match_what_it_would_not_match() -> None:
    routes = '- filters: [{path: "$.runs[*].name", eq: other}]\n  actions: [{log: {message: x}}]'
    routing = decide(routes, mutes={RULE_ID: mute()})
    assert only(routing).truth is Truth.FALSE


def test_a_mute_leaves_alone_what_was_decided_before_it_also_what_waits_for_data() -> None:
    routes = '- actions:\n    - log: {message: x}\n      when: [{path: "$.feedback.k", exists: true}]'
    known = {(0, RULE_ID): Known(matched=True, pending=frozenset({"log"}))}
    routing = decide(routes, Fetched(feedback={RUN_ID: [{"key": "k"}]}), known=known, mutes={RULE_ID: mute()})
    assert [plan.action.name for plan in routing.plans] == ["log"]
    assert (only(routing).reason, routing.held_back) == ("", ())


# --- feedback that is waited for -------------------------------------------------------------------------------------

WAITING = """
- name: scored
  wait_for: {feedback: correctness, up_to: 10m}
  filters: [{path: "$.runs[*].status", eq: success}]
  actions: [{log: {message: x}}]
- name: other
  actions: [{log: {message: x}}]
"""
SCORED = Fetched(feedback={RUN_ID: [{"key": "correctness", "score": 1}]})
NOT_YET = Fetched(feedback={RUN_ID: [{"key": "noise", "score": 1}]})
UNTIL = "2026-05-11 10:10:00 UTC"


@pytest.mark.parametrize("fetched", [Fetched(), NOT_YET])
def test_a_route_waits_alone_until_its_feedback_is_there(fetched: Fetched) -> None:
    routing = decide(WAITING, fetched, of=event(status="success"))
    waiting, other = routing.decisions
    assert (waiting.truth, waiting.reason) == (Truth.WANTING, f"waits for feedback 'correctness' until {UNTIL}")
    assert routing.awaiting == {waiting.reason: RECEIVED + 600}
    assert other.fires == ("log",)
    assert routing.wanting == frozenset()


def test_feedback_that_is_there_is_not_waited_for() -> None:
    routing = decide(WAITING, SCORED, of=event(status="success"))
    assert routing.awaiting == {}
    assert routing.decisions[0].fires == ("log",)


def test_what_is_false_whatever_the_feedback_may_be_is_decided_at_once() -> None:
    routing = decide(WAITING, of=event(status="error"))
    assert routing.awaiting == {}
    assert routing.decisions[0].truth is Truth.FALSE


def test_after_its_time_a_route_is_decided_with_what_there_is() -> None:
    late = {"now": RECEIVED + 600, "of": event(status="success")}
    assert decide(WAITING, NOT_YET, **late).awaiting  # it was not looked for at the end yet
    decision = decide(WAITING, NOT_YET, looked=True, **late).decisions[0]
    assert decision.fires == ("log",)
    assert decision.reason == "feedback 'correctness' did not come within 10m"
    reads = WAITING.replace('{path: "$.runs[*].status", eq: success}', '{path: "$.feedback.correctness", exists: true}')
    decision = decide(reads, NOT_YET, looked=True, **late).decisions[0]
    assert decision.truth is Truth.FALSE
    assert decision.reason.endswith("; feedback 'correctness' did not come within 10m")


def test_all_of_several_keys_are_waited_for() -> None:
    routes = WAITING.replace("feedback: correctness", "feedback: [correctness, tone]")
    routing = decide(routes, SCORED, of=event(status="success"))
    assert routing.decisions[0].reason == f"waits for feedback 'tone' until {UNTIL}"


def test_each_run_waits_for_its_own_feedback() -> None:
    of = event(runs=[{"status": "success"}, {"status": "success", "id": "run-2"}])
    routing = decide(WAITING, SCORED, of=of)
    verdicts = {(one.index, one.route.partition("/")[2]): one.truth for one in routing.decisions}
    assert verdicts[0, "scored"] is Truth.TRUE
    assert verdicts[1, "scored"] is Truth.WANTING


def test_what_has_no_run_is_not_waited_for() -> None:
    payload = seed() | {"runs": []}
    routing = decide(WAITING.replace("status", "name"), of=parse_event(orjson.dumps(payload), RECEIVED))
    assert routing.awaiting == {}


def test_a_route_that_may_stop_holds_those_behind_it_while_it_waits() -> None:
    routing = decide(WAITING.replace("- name: scored", "- name: scored\n  stop: true"), of=event(status="success"))
    assert [one.truth for one in routing.decisions] == [Truth.WANTING, Truth.WANTING]
    assert routing.plans == ()
    assert routing.unmatched_reason is None


def test_what_stays_undecided_because_data_is_missing_is_not_unmatched() -> None:
    block = '- filters: [{path: "$.feedback.score.value", eq: 1}]\n  actions: [{log: {message: x}}]'
    routing = decide(block, final=True)
    assert only(routing).truth is Truth.UNDECIDED
    assert routing.unmatched_reason is None
    assert decide(block, Fetched(feedback={RUN_ID: []})).unmatched_reason == "undecided"


# Data that is too large to be fetched

LOST = Fetched(errors={"feedback": "too large"}, too_large={("feedback", RUN_ID): "it is too large"})


def test_a_route_does_not_wait_for_feedback_that_is_too_large() -> None:
    routing = decide(WAITING, LOST, of=event(status="success"))
    assert (routing.awaiting, routing.wanting) == ({}, frozenset())


def test_what_reads_too_much_is_undecided_for_good_and_not_unmatched() -> None:
    routes = '- filters: [{path: "$.feedback.score.score", gte: 1}]\n  actions: [{log: {message: x}}]'
    routing = decide(routes, LOST)
    (decision,) = routing.decisions
    assert (decision.truth, decision.settled) == (Truth.UNDECIDED, True)
    assert decision.reason.startswith("data is missing: $.feedback.score.score")
    assert decision.reason.endswith("it is too large")
    assert (routing.wanting, routing.unmatched_reason) == (frozenset(), None)
    assert decide(routes).wanting == {"feedback"}, "what was not asked for yet is fetched"


def test_an_action_whose_condition_or_key_reads_too_much_does_not_wait() -> None:
    when = '- actions: [{log: {message: x}, when: [{path: "$.feedback.score.score", gte: 1}]}]'
    (decision,) = decide(when, LOST).decisions
    assert (decision.fires, decision.pending, decision.settled) == ((), (), True)
    assert "it is too large" in decision.skipped["log"]
    key = '- actions: [{log: {message: x}, throttle: {every: 1h, by: "{{ feedback.score.score }}"}}]'
    routing = decide(key, LOST)
    assert (routing.decisions[0].fires, routing.wanting) == (("log",), frozenset())
    assert "it is too large" in routing.decisions[0].notes["log"]
    assert decide(key).wanting == {"feedback"}

"""Evaluations that take long: the event loop goes on, and what reaches the limit is undecided for good."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from engine.action.registry import load_installed
from engine.config import parse_config
from engine.core.document import Fetched
from engine.core.event import Event, parse_event
from engine.core.offload import Deadline, Deferred, Offload, Overdue, within
from engine.core.truth import Truth
from engine.rules.compile import compile_router
from engine.rules.conditions.operands import holds
from engine.rules.decision import Circumstances, Known, Routing
from engine.rules.router import Router
from engine.testing.payloads import seed

RECEIVED = 1_778_493_600.0
#: About half a second of work, whatever the event.
SLOW = "range(60000) | map('string') | map('upper') | join | length > 5"
#: One that takes no time worth mentioning.
QUICK = '{path: "$.runs[*].status", ne: nothing}'


def router(*routes: str) -> Router:
    body = "".join(f"    - {{name: {chr(97 + place)}, {route}}}\n" for place, route in enumerate(routes))
    return compile_router(parse_config(f"secrets: [x]\nroutes:\n  '*':\n{body}", environ={}), load_installed())


def route(*conditions: str, action: str = "log: {message: x}") -> str:
    return f"filters: [{', '.join(conditions)}], actions: [{{{action}}}]"


def event(runs: int = 1, **run: Any) -> Event:
    payload = seed()
    payload["runs"] = [{**payload["runs"][0], "id": str(place), **run} for place in range(runs)]
    return parse_event(orjson.dumps(payload), RECEIVED)


def within_limit(rules: Router, seconds: float, of: Event | None = None, **around: Any) -> Routing:
    with within(Deadline(seconds)):
        return rules.decide(of or event(), Fetched(), Circumstances(RECEIVED, **around))


def slow(count: int = 1) -> list[str]:
    return [f'{{expr: "{SLOW}"}}'] * count


# --- what the limit leaves open ---


def test_what_was_decided_before_the_limit_stands_and_the_rest_is_undecided() -> None:
    rules = router(route(QUICK), route(*slow(100)), route(QUICK))
    routing = within_limit(rules, 0.2)
    reason = "the evaluation took longer than 0.2 s of CPU time, and was stopped at route '*/b'"
    assert [(one.route, one.truth, one.reason) for one in routing.decisions] == [
        ("*/a", Truth.TRUE, ""),
        ("*/b", Truth.UNDECIDED, reason),
        ("*/c", Truth.UNDECIDED, reason),
    ]
    assert [plan.route.id for plan in routing.plans] == ["*/a"]
    assert routing.overdue == reason
    assert not routing.wanting
    assert all(one.settled for one in routing.decisions)


def test_an_event_that_reached_the_limit_is_not_unmatched() -> None:
    rules = compile_router(
        parse_config(
            "secrets: [x]\nroutes:\n  d75d7417-0c57-4655-88fe-1db3cda3a47a:\n"
            f"    - {{name: a, {route(*slow(100))}}}\n  unmatched:\n    - {{name: u, {route()}}}\n",
            environ={},
        ),
        load_installed(),
    )
    routing = within_limit(rules, 0.1)
    assert routing.unmatched_reason is None
    assert [one.route for one in routing.decisions] == ["d75d7417-0c57-4655-88fe-1db3cda3a47a/a"]
    assert not routing.plans


def test_later_runs_are_undecided_each_with_its_id() -> None:
    routing = within_limit(router(route(*slow(100))), 0.1, event(runs=3))
    assert [(one.index, one.run_id, one.truth) for one in routing.decisions] == [
        (place, str(place), Truth.UNDECIDED) for place in range(3)
    ]


def test_of_a_route_that_matched_an_action_is_skipped_whose_condition_reached_the_limit() -> None:
    when = f"log: {{message: y}}, name: late, when: [{', '.join(slow(100))}]"
    [decision] = within_limit(router(route(QUICK, action="log: {message: x}}, {" + when)), 0.1).decisions
    assert (decision.truth, decision.fires) == (Truth.TRUE, ("log",))
    assert decision.skipped == {
        "late": "undecided: the evaluation took longer than 0.1 s of CPU time, and was stopped at action 'late'"
    }


def test_a_throttle_whose_key_reaches_the_limit_holds_the_delivery_back_with_others() -> None:
    key = "{{ " + SLOW + " }}"
    action = f'log: {{message: x}}, throttle: {{every: 1h, by: "{"x" + key * 50}"}}'
    routing = within_limit(router(route(QUICK, action=action)), 0.1)
    assert len(routing.plans) == 1
    assert "took longer than 0.1 s" in routing.decisions[0].notes["log"]


def test_what_an_earlier_evaluation_settled_stands_past_the_limit() -> None:
    rules = router(route(QUICK), route(QUICK))
    known = {(0, "*/a"): Known(matched=True)}
    routing = rules.undecided(event(), Fetched(), Circumstances(RECEIVED, known=known), "it never ended")
    assert [(one.route, one.reason) for one in routing.decisions] == [("*/b", "it never ended")]
    assert (routing.matched, routing.overdue) == (1, "it never ended")


def test_within_its_limit_an_evaluation_says_nothing_of_it() -> None:
    routing = router(route(QUICK)).decide(event(), Fetched())
    assert (routing.overdue, routing.matched) == ("", 1)


def test_on_the_loop_a_long_evaluation_is_broken_off_whole() -> None:
    with pytest.raises(Deferred), within(Deadline(0.02, Deferred, work=20_000)):
        router(route(*slow())).decide(event(), Fetched())


# --- where the deadline is checked: each of these would take many seconds ---

LONG: dict[str, str] = {
    "an expression": SLOW.replace('"', "'"),
    "a macro of filters": "range(90000) | list | sort(reverse=true) | map('string') | unique | list | length > 1",
}


@pytest.mark.parametrize("expression", LONG.values(), ids=LONG)
def test_expressions_are_stopped(expression: str) -> None:
    rules = router(route(*[f'{{expr: "{expression}"}}'] * 30))
    assert_stops(rules, event())


@pytest.mark.parametrize(
    "condition",
    [
        '{path: "$.runs[*].v[*]", starts_with: x}',
        '{path: "$.runs[*].v[*]", eq: x, quantifier: {at_least: 3}}',
        '{path: "$.runs[*].v", contains: "7.5"}',
        '{path: "$.runs[*].v[?(@ > 300000)]", exists: true}',
        '{path: "$.runs[*].w..[?(@ > 5)]..x", exists: true}',
        '{path: "$.runs[*].w[*][*][*]", starts_with: x}',
        '{all: [{path: "$.runs[*].v[*]", starts_with: x}, {path: "$.runs[*].v[*]", starts_with: y}]}',
        '{not: {path: "$.runs[*].v[*]", lt: x}}',
        "{path: '$.runs[*].s[\\b].c', exists: true}",
        "{path: '$.runs[*].t.`sub(/o/, x)`', eq: x}",
    ],
)
def test_paths_and_operators_are_stopped(condition: str) -> None:
    of = event(
        v=list(range(200_000)),
        w=[[[1] * 30] * 30] * 200,
        s=[{"b": place % 7} for place in range(50_000)],
        t="lorem ipsum dolor " * 50_000,
    )
    assert_stops(router(route(f"{{any: [{', '.join([condition] * 60)}]}}")), of)


def assert_stops(rules: Router, of: Event) -> None:
    """The whole would take long; stopped it takes little more than its limit."""
    began = time.thread_time()
    routing = within_limit(rules, 0.1, of)
    took = time.thread_time() - began
    assert routing.overdue.startswith("the evaluation took longer than 0.1 s")
    assert took < 1


@pytest.mark.parametrize(
    "condition",
    [
        '{path: "$.runs[*].v[*]", starts_with: x}',
        '{path: "$.runs[*].v", contains: "7.5"}',
        '{path: "$.runs[*].v..x", exists: true}',
        '{path: "$.runs[*].v[?(@.a > 3)]", exists: true}',
        '{path: "$.runs[*].v..*..*", eq: q}',
        "{path: '$.runs[*].v[\\a]', exists: true}",
        '{path: "$.runs[*].v[*]", type: string, quantifier: all}',
        '{path: "$.runs[*].v.`str()`", eq: x}',
        """{expr: "run.v | map('string') | list | unique | list | length > 1000000"}""",
        """{expr: "run.v | tojson == 'x'"}""",
    ],
)
def test_the_most_values_that_the_loop_takes_keep_it_for_a_moment_only(condition: str) -> None:
    """75,000 values in 225 KB, and thirty conditions that look at each of them."""
    rules, of = router(route(f"{{any: [{', '.join([condition] * 30)}]}}")), event(v=[[]] * 75_000)

    def seconds() -> float:
        began = time.thread_time()
        with pytest.raises(Deferred), within(Deadline(0.02, Deferred, work=20_000)):
            rules.decide(of, Fetched())
        return time.thread_time() - began

    assert min(seconds() for _ in range(3)) < 0.3, "what else the machine does only adds to it"


# --- the event loop meanwhile ---


async def largest_gap(during: list[asyncio.Future[Any]]) -> float:
    largest, last = 0.0, time.perf_counter()
    while not all(one.done() for one in during):
        await asyncio.sleep(0.002)
        largest, last = max(largest, time.perf_counter() - last), time.perf_counter()
    return largest


async def decided(rules: Router, *events: Event) -> tuple[list[Routing], float]:
    """What the events come to, each as the first of its rule, and the largest gap on the loop meanwhile."""
    off, size = Offload(), 1000
    tasks = [
        asyncio.ensure_future(off.run(place, lambda one=one: rules.decide(one, Fetched()), size=size))
        for place, one in enumerate(events)
    ]
    gap = await largest_gap(tasks)
    return [task.result() for task in tasks], gap


async def test_six_first_evaluations_of_slow_rules_leave_the_loop_alone() -> None:
    routings, gap = await decided(router(route(*slow(2))), *(event() for _ in range(6)))
    assert [one.matched for one in routings] == [1] * 6
    assert gap < 0.5


async def test_two_hundred_words_in_a_text_of_20_mb_do_not_stall_the_loop() -> None:
    words = ", ".join(f'{{path: "$.runs[*].text", contains: "word{place}"}}' for place in range(200))
    patterns = ", ".join(f'{{path: "$.runs[*].text", matches: "wo.?rd{place}"}}' for place in range(10))
    of = event(text="lorem ipsum dolor " * 1_100_000)
    routings, gap = await decided(router(route(f"{{any: [{words}]}}"), route(f"{{any: [{patterns}]}}")), of)
    assert [one.truth for one in routings[0].decisions] == [Truth.FALSE, Truth.FALSE]
    assert gap < 0.5


async def test_a_rendering_of_a_large_document_leaves_the_loop_alone() -> None:
    of = event(inputs={"rows": [{"a": place, "b": str(place)} for place in range(300_000)]})
    fields = 'log: {message: x, fields: {rows: "{{ run.inputs.rows }}"}}'
    [plan] = router(route(QUICK, action=fields)).decide(of, Fetched()).plans
    off = Offload()
    task = asyncio.ensure_future(off.run("log", lambda: plan.action.params(plan.document)))
    gap = await largest_gap([task])
    assert task.result().model_dump()["fields"] == {"rows": of.payload["runs"][0]["inputs"]["rows"]}
    assert off.offloaded == 1
    assert gap < 0.5


@pytest.mark.parametrize("depth", [10, 190])
def test_data_that_is_handed_on_whole_is_a_copy_of_any_depth(depth: int) -> None:
    text = '{"in":' * depth + '{"a":[1,2.5,null,true,"text"]}' + "}" * depth
    of = parse_event(event(inputs="here").body.replace(b'"here"', text.encode()), RECEIVED)
    fields = 'log: {message: x, fields: {all: "{{ run.inputs }}"}}'
    [plan] = router(route(QUICK, action=fields)).decide(of, Fetched()).plans
    made, original = plan.action.template.render(plan.document)["fields"]["all"], plan.document["run"]["inputs"]
    for _ in range(depth):
        assert made is not original
        made, original = made["in"], original["in"]
    assert made == {"a": [1, 2.5, None, True, "text"]}
    assert made["a"] is not original["a"]


def test_a_long_copy_is_stopped() -> None:
    fields = 'log: {message: x, fields: {all: "{{ run.inputs }}"}}'
    of = event(inputs={"rows": list(range(5000))})
    [plan] = router(route(QUICK, action=fields)).decide(of, Fetched()).plans
    with pytest.raises(Overdue), within(Deadline(0)):
        plan.action.params(plan.document)


# --- long texts ---


@pytest.mark.parametrize("place", [0, 1, 2**20 - 3, 2**20 - 2, 2**20 - 1, 2**20, 2**20 + 1, 2**21 - 2, 3_000_000 - 5])
def test_a_long_text_searched_in_parts_holds_what_it_holds(place: int) -> None:
    text = "." * place + "found" + "." * (3_000_000 - place - 5)
    assert holds(text, "found")
    assert not holds(text, "founds")
    assert holds(text, text)
    assert holds(text, "")


def test_a_text_longer_than_any_number_spells_none() -> None:
    rules = router(route('{path: "$.runs[*].text", eq: 7}'), route('{path: "$.runs[*].text", lt: 7}'))
    [same, less] = rules.decide(event(text="7" + " " * 5000), Fetched()).decisions
    assert (same.truth, less.truth) == (Truth.FALSE, Truth.UNDECIDED)
    assert rules.decide(event(text="7" + " " * 4000), Fetched()).decisions[0].truth is Truth.TRUE


def test_a_text_longer_than_any_time_is_none_and_not_quoted_whole() -> None:
    rules = router(route('{path: "$.runs[*].text", before: 2026-01-01}'))
    [decision] = rules.decide(event(text="2" * 100_000), Fetched()).decisions
    assert decision.truth is Truth.UNDECIDED
    assert len(decision.reason) < 300

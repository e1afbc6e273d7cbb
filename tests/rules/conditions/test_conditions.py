"""Conditions: what each operator, quantifier and group comes to, and that check and explain agree."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.document import Missing
from engine.core.positions import Source
from engine.core.truth import Truth
from engine.rules.conditions import Filter, compile_filter
from engine.rules.templates import Templates

TRUE, FALSE, UNDECIDED, WANTING = Truth.TRUE, Truth.FALSE, Truth.UNDECIDED, Truth.WANTING
RECEIVED = "2026-05-04T12:00:00+00:00"


def compiled(conditions: Any) -> Filter:
    source = Source("rules.yaml")
    result = compile_filter(conditions, ("filters",), source, Templates())
    assert source.problems == []
    return result


def document(**values: Any) -> dict[str, Any]:
    base = {"event": {"received_at": RECEIVED, "id": "e", "kind": "rule"}, "payload": {}, "vars": {}, "route": {}}
    return base | {"runs": [], "run": None, "feedback": {}, "feedbacks": [], "feedback_stats": None} | values


def verdict(condition: dict[str, Any], value: Any) -> Truth:
    """What a condition on ``$.v`` comes to, by both ways of evaluation."""
    filter_ = compiled([{"path": "$.v", **condition}])
    doc = document(v=value)
    truth = filter_.check(doc)
    assert filter_.explain(doc).truth is truth
    assert filter_.first_unmet(doc) == (truth, -1 if truth is TRUE else 0)
    return truth


@pytest.mark.parametrize(
    ("condition", "value", "truth"),
    [
        ({"eq": "a"}, "a", TRUE),
        ({"eq": "a"}, "b", FALSE),
        ({"eq": "a"}, 1, FALSE),
        ({"eq": "a"}, None, FALSE),
        ({"eq": 1}, 1, TRUE),
        ({"eq": 1}, 1.0, TRUE),
        ({"eq": 1}, "1", TRUE),
        ({"eq": 1}, "1.0", TRUE),
        ({"eq": 1}, "one", FALSE),
        ({"eq": 1}, True, FALSE),
        ({"eq": 0}, False, FALSE),
        ({"eq": "1"}, 1, TRUE),
        ({"eq": "1"}, "1.0", FALSE),
        ({"eq": "1"}, True, FALSE),
        ({"eq": 9007199254740993}, "9007199254740993", TRUE),
        ({"eq": 9007199254740993}, "9007199254740992", FALSE),
        ({"eq": True}, True, TRUE),
        ({"eq": True}, 1, FALSE),
        ({"eq": True}, "true", FALSE),
        ({"eq": None}, None, TRUE),
        ({"eq": None}, 0, FALSE),
        ({"eq": [1, {"a": True}]}, [1, {"a": True}], TRUE),
        ({"eq": [1, {"a": True}]}, [1, {"a": 1}], FALSE),
        ({"ne": "a"}, "b", TRUE),
        ({"ne": "a"}, None, TRUE),
        ({"ne": "a"}, "a", FALSE),
        ({"ne": 1}, "1", FALSE),
        ({"lt": 5}, 4, TRUE),
        ({"lt": 5}, "4.5", TRUE),
        ({"lt": 5}, "many", UNDECIDED),
        ({"lt": 5}, None, UNDECIDED),
        ({"lt": 5}, True, UNDECIDED),
        ({"lt": 5}, "nan", UNDECIDED),
        ({"lt": 5}, [1], UNDECIDED),
        ({"gt": "0.5"}, "10", TRUE),
        ({"gt": "9"}, "10", TRUE),
        ({"gt": "9"}, 10, TRUE),
        ({"gt": "b"}, "c", TRUE),
        ({"gt": "b"}, 3, UNDECIDED),
        ({"gte": 5}, 5, TRUE),
        ({"lte": 5}, 5.0001, FALSE),
        ({"gte": 0, "lt": 0.5}, 0.5, FALSE),
        ({"gte": 0, "lt": 0.5}, 0, TRUE),
        ({"gte": 0, "lt": 0.5}, None, UNDECIDED),
        ({"exists": True, "lt": 0.5}, None, FALSE),
        ({"between": [1, 2]}, 2, TRUE),
        ({"between": [1, 2]}, "1.5", TRUE),
        ({"between": [1, 2]}, 3, FALSE),
        ({"between": ["a", "c"]}, "b", TRUE),
        ({"in": ["a", "b"]}, "b", TRUE),
        ({"in": ["a", "b"]}, None, FALSE),
        ({"in": ["a", 1, None]}, "1", TRUE),
        ({"in": ["a", 1, None]}, None, TRUE),
        ({"in": [1]}, True, FALSE),
        ({"in": ["a"]}, ["a"], FALSE),
        ({"not_in": ["a"]}, "b", TRUE),
        ({"not_in": ["a"]}, "a", FALSE),
        ({"not_in": ["a"]}, None, TRUE),
        ({"contains": "b"}, "abc", TRUE),
        ({"contains": "b"}, ["a", "b"], TRUE),
        ({"contains": 1}, ["1"], TRUE),
        ({"contains": "k"}, {"k": 1}, TRUE),
        ({"contains": "b"}, 5, UNDECIDED),
        ({"contains": 5}, "12345", UNDECIDED),
        ({"contains": "b"}, None, UNDECIDED),
        ({"starts_with": "ab"}, "abc", TRUE),
        ({"starts_with": ["x", "ab"]}, "abc", TRUE),
        ({"starts_with": "b"}, "abc", FALSE),
        ({"ends_with": "bc"}, "abc", TRUE),
        ({"ends_with": "bc"}, 3, UNDECIDED),
        ({"matches": "b+"}, "abbc", TRUE),
        ({"matches": "^b+"}, "abbc", FALSE),
        ({"matches": "(?i)ERR"}, "an error", TRUE),
        ({"matches": "^.$"}, "é", TRUE),
        ({"matches": "time out"}, "a time out!", TRUE),
        ({"matches": "^time"}, "a time", FALSE),
        ({"matches": "time$"}, "a time", TRUE),
        ({"matches": "time$"}, "a time\n", FALSE),
        ({"matches": "^time$"}, "time", TRUE),
        ({"matches": "^time$"}, "a\ntime", FALSE),
        ({"matches": "5"}, 5, UNDECIDED),
        ({"matches": "x+"}, "\ud800", UNDECIDED),
        ({"exists": True}, 0, TRUE),
        ({"exists": True}, "", TRUE),
        ({"exists": True}, None, FALSE),
        ({"exists": False}, None, TRUE),
        ({"exists": False}, 0, FALSE),
        ({"empty": True}, "", TRUE),
        ({"empty": True}, [], TRUE),
        ({"empty": True}, {}, TRUE),
        ({"empty": True}, None, TRUE),
        ({"empty": True}, 0, FALSE),
        ({"empty": True}, " ", FALSE),
        ({"empty": False}, [1], TRUE),
        ({"length": 3}, "aéb", TRUE),
        ({"length": {"gte": 2, "lt": 4}}, [1, 2, 3], TRUE),
        ({"length": {"gte": 2}}, {"a": 1}, FALSE),
        ({"length": {"in": [1, 2]}}, "a", TRUE),
        ({"length": 3}, 3, UNDECIDED),
        ({"length": 0}, None, UNDECIDED),
        ({"count": 1}, [1, 2], TRUE),
        ({"count": {"gt": 1}}, [1, 2], FALSE),
        ({"type": "string"}, "a", TRUE),
        ({"type": "number"}, 1.5, TRUE),
        ({"type": "number"}, True, FALSE),
        ({"type": "integer"}, 2.0, TRUE),
        ({"type": "integer"}, 2.5, FALSE),
        ({"type": "boolean"}, False, TRUE),
        ({"type": "null"}, None, TRUE),
        ({"type": "array"}, [], TRUE),
        ({"type": "object"}, {}, TRUE),
        ({"type": ["array", "null"]}, None, TRUE),
        ({"before": "2026-05-04T00:00:00Z"}, "2026-05-03T23:59:59", TRUE),
        ({"before": "2026-05-04"}, "2026-05-04T00:00:00", FALSE),
        ({"before": "2026-05-04"}, "2026-05-04T01:00:00+02:00", TRUE),
        ({"after": "2026-05-04"}, "2026-05-04T00:00:00.000001Z", TRUE),
        ({"after": "2026-05-04"}, 1777852801, TRUE),
        ({"after": "2026-05-04"}, "2026-05-05 10:00:00 UTC", TRUE),
        ({"after": "2026-05-04"}, "soon", UNDECIDED),
        ({"after": "2026-05-04"}, None, UNDECIDED),
        ({"after": "2026-05-04"}, True, UNDECIDED),
        ({"after": "2026-05-04"}, 1e300, TRUE),
        ({"older_than": "1h"}, "2026-05-04T10:59:00", TRUE),
        ({"older_than": "1h"}, "2026-05-04T11:01:00", FALSE),
        ({"newer_than": "1h"}, "2026-05-04T11:01:00Z", TRUE),
        ({"newer_than": 3600}, "2026-05-04T10:00:00Z", FALSE),
        ({"newer_than": "1h"}, "yesterday", UNDECIDED),
    ],
    ids=repr,
)
def test_an_operator_on_a_value(condition, value, truth):
    assert verdict(condition, value) is truth


@pytest.mark.parametrize("condition", [{"exists": False}, {"count": 0}, {"count": {"lt": 1}}])
def test_questions_about_everything_found_can_be_answered_of_nothing(condition):
    assert compiled([{"path": "$.runs[*].nowhere", **condition}]).check(document()) is TRUE


@pytest.mark.parametrize(
    ("condition", "values", "truth"),
    [
        ({"eq": "a"}, ["a", "b"], TRUE),
        ({"eq": "a", "quantifier": "all"}, ["a", "b"], FALSE),
        ({"eq": "a", "quantifier": "all"}, ["a", "a"], TRUE),
        ({"eq": "a", "quantifier": "none"}, ["b", "c"], TRUE),
        ({"eq": "a", "quantifier": "none"}, ["a", "c"], FALSE),
        ({"ne": "a"}, ["a", "b"], FALSE),
        ({"ne": "a"}, ["b", "c"], TRUE),
        ({"ne": "a", "quantifier": "any"}, ["a", "b"], TRUE),
        ({"not_in": ["a", "x"]}, ["b", "x"], FALSE),
        ({"exists": True, "ne": "a"}, ["b", None], FALSE),
        ({"gt": 1}, [0, None], UNDECIDED),
        ({"gt": 1}, [2, None], TRUE),
        ({"gt": 1, "quantifier": "all"}, [2, None], UNDECIDED),
        ({"gt": 1, "quantifier": "all"}, [0, None], FALSE),
        ({"gt": 1, "quantifier": "none"}, [0, None], UNDECIDED),
        ({"gt": 1, "quantifier": "none"}, [2, None], FALSE),
        ({"gt": 1, "quantifier": {"at_least": 2}}, [2, 3, 0], TRUE),
        ({"gt": 1, "quantifier": {"at_least": 2}}, [2, 0, 0], FALSE),
        ({"gt": 1, "quantifier": {"at_least": 2}}, [2, None], UNDECIDED),
        ({"gt": 1, "quantifier": {"at_least": 2}}, [0, None], FALSE),
        ({"gt": 1, "quantifier": {"at_least": "50%"}}, [2, 0], TRUE),
        ({"gt": 1, "quantifier": {"more_than": "50%"}}, [2, 0], FALSE),
        ({"gt": 1, "quantifier": {"more_than": "30%"}}, [2, 0, 0], TRUE),
        ({"gt": 1, "quantifier": {"more_than": 1}}, [2, 0, 3], TRUE),
        ({"gte": 2, "lte": 3}, [1, 4], FALSE),
        ({"gte": 2, "lte": 3, "quantifier": "all"}, [2, 3], TRUE),
        ({"count": 2}, ["a", None], TRUE),
        ({"exists": False}, [None, None], TRUE),
        ({"exists": False}, [None, 1], FALSE),
    ],
    ids=repr,
)
def test_a_quantifier_over_many_values(condition, values, truth):
    filter_ = compiled([{"path": "$.v[*]", **condition}])
    assert filter_.check(document(v=values)) is truth
    assert filter_.explain(document(v=values)).truth is truth


@pytest.mark.parametrize("look", [{"path": "$.run.name"}, {"expr": "run.name"}])
@pytest.mark.parametrize(("name", "operand"), [("eq", "a"), ("ne", "a"), ("not_in", ["a"])])
def test_a_condition_is_shown_without_the_quantifier_that_it_has_anyway(look, name, operand):
    [text] = look.values()
    assert compiled([{**look, name: operand}]).conditions[0].text == f"{text} {name} {json.dumps(operand)}"


@pytest.mark.parametrize(
    ("quantifier", "of_one_that_holds", "of_one_that_does_not"),
    [
        ("any", TRUE, FALSE),
        ("all", TRUE, FALSE),
        ("none", FALSE, TRUE),
        ({"at_least": 1}, TRUE, FALSE),
        ({"at_least": 2}, FALSE, FALSE),
        ({"more_than": "50%"}, TRUE, FALSE),
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", ["$.v", "$.run.v", "$.list[0]"])
def test_a_quantifier_over_one_value(path, quantifier, of_one_that_holds, of_one_that_does_not):
    filter_ = compiled([{"path": path, "eq": "a", "quantifier": quantifier}])
    for value, truth in (("a", of_one_that_holds), ("b", of_one_that_does_not)):
        doc = {**document(v=value), "run": {"v": value}, "list": [value]}
        assert filter_.check(doc) is truth
        assert filter_.explain(doc).truth is truth


def test_all_operators_of_a_condition_must_hold_on_the_same_value():
    filter_ = compiled([{"path": "$.v[*]", "gt": 1, "lt": 3}])
    assert filter_.check(document(v=[0, 5])) is FALSE
    [child] = filter_.explain(document(v=[0, 5])).children
    assert [check.truth for check in child.checks] == [TRUE, TRUE]
    assert child.reason == "0 of 2 values hold (asked for: any)"


T, F, U = {"path": "$.v", "eq": 1}, {"path": "$.v", "eq": 2}, {"path": "$.v", "matches": "x"}
W = {"path": "$.run.inputs.q", "eq": 1}


@pytest.mark.parametrize(
    ("conditions", "truth"),
    [
        ([], TRUE),
        (None, TRUE),
        (T, TRUE),
        ([T, T], TRUE),
        ([T, F], FALSE),
        ([U, F], FALSE),
        ([W, F], FALSE),
        ([U, T], UNDECIDED),
        ([W, U, T], WANTING),
        ([{"any": [F, T]}], TRUE),
        ([{"any": [U, T]}], TRUE),
        ([{"any": [U, F]}], UNDECIDED),
        ([{"any": [W, U, F]}], WANTING),
        ([{"none": [F, F]}], TRUE),
        ([{"none": [F, T]}], FALSE),
        ([{"none": [U, F]}], UNDECIDED),
        ([{"not": T}], FALSE),
        ([{"not": U}], UNDECIDED),
        ([{"not": W}], WANTING),
        ([{"not": [T, F]}], TRUE),
        ([{"all": [T, {"any": [F, {"not": F}]}]}], TRUE),
        ([[T, F]], FALSE),
        ([{"any": [[T, F], [T, T]]}], TRUE),
    ],
    ids=repr,
)
def test_groups_carry_three_values_on(conditions, truth):
    doc = document(v=1, run={"inputs": Missing("inputs", "not sent")})
    filter_ = compiled(conditions)
    assert filter_.check(doc) is truth
    assert filter_.explain(doc).truth is truth


def test_first_unmet_names_the_condition_that_decided():
    doc = document(v=1, run={"inputs": Missing("inputs", "not sent")})
    assert compiled([T, T]).first_unmet(doc) == (TRUE, -1)
    assert compiled([T, U, F]).first_unmet(doc) == (FALSE, 2)
    assert compiled([T, U, W, T]).first_unmet(doc) == (WANTING, 2)
    assert compiled([T, U, T]).first_unmet(doc) == (UNDECIDED, 1)


# --- expressions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        ({"expr": "run.latency > 10 or run.cost > 0.5"}, TRUE),
        ({"expr": "run.latency > 100"}, FALSE),
        ({"expr": "run.latency"}, UNDECIDED),
        ({"expr": "run.nope"}, UNDECIDED),
        ({"expr": "run.name > 5"}, UNDECIDED),
        ({"expr": "run.latency / 0 > 1"}, UNDECIDED),
        ({"expr": "run.latency", "gt": 10}, TRUE),
        ({"expr": "run.name | upper", "eq": "BOT"}, TRUE),
        ({"expr": "run.nope", "eq": "x"}, UNDECIDED),
        ({"expr": "run.nope", "exists": True}, FALSE),
        ({"expr": "run.nope", "exists": False}, TRUE),
        ({"expr": "run.tags", "contains": "a"}, TRUE),
        ({"expr": "(1, 2)", "length": 2}, TRUE),
        ({"expr": "run.inputs.q == 1"}, WANTING),
        ({"expr": "run.inputs", "exists": True}, WANTING),
        ({"not": {"expr": "run.nope"}}, UNDECIDED),
    ],
    ids=repr,
)
def test_an_expression_is_a_left_side_too(condition, truth):
    run = {"latency": 12, "cost": None, "name": "bot", "tags": ["a"], "inputs": Missing("inputs", "not sent")}
    filter_ = compiled([condition])
    assert filter_.check(document(run=run)) is truth
    assert filter_.explain(document(run=run)).truth is truth


# --- never a crash ------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "condition",
    [
        {"path": "$.v.`sorted`", "exists": True},
        {"path": "$.v.`sub(/a/, b)`", "exists": True},
        {"path": "$.`parent`", "exists": True},
        {"path": "$..*..*..*..*..*", "eq": "x"},
    ],
    ids=repr,
)
def test_what_an_evaluation_raises_is_undecided_with_its_reason(condition):
    doc = document(v=5, w=nested(300))
    filter_ = compiled([condition])
    assert filter_.check(doc) is UNDECIDED
    [child] = filter_.explain(doc).children
    assert child.truth is UNDECIDED
    assert child.reason


def test_a_document_nested_beyond_all_measure_is_no_crash():
    doc = document(v=nested(50_000), w=nested(50_000))
    for condition in ({"path": "$.v", "eq": [[[1]]]}, {"path": "$.v", "length": 1}, {"path": "$.v", "contains": "a"}):
        filter_ = compiled([condition])
        verdict_ = filter_.explain(doc)
        assert verdict_.truth is filter_.check(doc)
        assert json.dumps(verdict_.to_json())


def test_older_than_without_a_time_of_receipt_is_undecided():
    filter_ = compiled([{"path": "$.v", "older_than": "1h"}])
    assert filter_.check({"v": "2026-01-01", "event": {}}) is UNDECIDED


# --- verdicts for people ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("$.runs[*].extra.metdata.env", "$.runs[*].extra has no 'metdata': did you mean 'metadata'? It has metadata"),
        ("$.runs[*].extra.metadata.zone", "$.runs[*].extra.metadata has no 'zone'; it has env"),
        ("$.runs[3].status", "$.runs has 1 element"),
        ("$.runs[*].tags[*]", "$.runs[*].tags is empty"),
        ("$.runs[*].error.kind", "$.runs[*].error is null"),
        ("$.feedback.correctness.score", "$.feedback has no 'correctness': it is empty"),
        ("$.runs[?(@.status == 'no')].id", "$.runs has 1 element, of which none fits [?@.status == 'no']"),
        ("$.runs[?@.error == null].nme", "$.runs[?@.error == null] has no 'nme'; it has status, extra, tags, error"),
        ("$..metadata.zone", "$..metadata has no 'zone'; it has env"),
        ("$.runs..zone", "nothing below $.runs fits ..zone"),
        ("$.runs[*]['nme', 0]", "$.runs[*] is an object with 4 keys, where ['nme', 0] finds nothing"),
        ("$.v.x", "$.v is an array, which has no 'x': write $.v[*].x"),
    ],
)
def test_nothing_found_says_how_far_the_path_got(path, reason):
    run = {"status": "success", "extra": {"metadata": {"env": "x"}}, "tags": [], "error": None}
    [child] = compiled([{"path": path, "eq": "a"}]).explain(document(runs=[run], v=[1])).children
    assert child.reason == reason
    assert child.checks[0].found == ()


def test_a_verdict_carries_every_clause_with_expected_and_found():
    doc = document(v=1, w="error")
    filter_ = compiled([{"any": [F, {"path": "$.w", "eq": "error"}]}, {"path": "$.v", "gt": 3}])
    whole = filter_.explain(doc)
    first, second = whole.children
    assert (whole.truth, first.truth, second.truth) == (FALSE, TRUE, FALSE)
    assert [child.truth for child in first.children] == [FALSE, TRUE]
    [check] = second.checks
    assert (check.operator, check.expected, check.found, check.truth) == ("gt", 3, (1,), FALSE)
    assert second.reason == "found the number 1"
    assert second.text == "$.v gt 3"


def test_a_reason_says_what_could_not_be_compared():
    [child] = compiled([{"path": "$.v", "lt": 0.5}]).explain(document(v=None)).children
    assert child.reason == "lt needs a number, found null"
    [child] = (
        compiled([{"path": "$.run.inputs.q", "eq": 1}])
        .explain(document(run={"inputs": Missing("inputs", "the link has expired")}))
        .children
    )
    assert child.reason == "not fetched: inputs: the link has expired"


def test_json_is_short_whatever_was_found():
    doc = document(v=["x" * 100_000] * 1000 + [{"k" * 10: nested(50)}], m=Missing("inputs", "not sent"))
    shown = json.dumps(compiled([{"path": "$.v", "eq": 1}, {"path": "$.m", "eq": 1}]).explain(doc).to_json())
    assert len(shown) < 20_000
    assert "more characters" in shown
    assert "inputs not available" in shown


@pytest.mark.parametrize(
    "value", [10**5000, -(10**30), float("inf"), float("nan"), 2**63], ids=lambda value: "a number"
)
def test_numbers_beyond_measure_are_shown_all_the_same(value):
    shown = compiled([{"path": "$.v", "eq": 1}, {"path": "$.v", "starts_with": "a"}]).explain(document(v=value))
    assert orjson.loads(orjson.dumps(shown.to_json()))["children"][1]["truth"] == "undecided"
    assert shown.children[0].reason.startswith("found the number")


def test_texts_of_conditions_read_like_the_file():
    conditions = [
        {"path": "$.v", "gte": 0, "lt": 0.5},
        {"path": "$.v[*]", "ne": "a"},
        {"path": "$.v[*]", "eq": "a", "quantifier": {"more_than": "30%"}},
        {"expr": "run.latency\n > 10"},
        {"not": T},
        {"any": [T, F]},
    ]
    assert [condition.text for condition in compiled(conditions).conditions] == [
        "$.v gte 0 and lt 0.5",
        '$.v[*] ne "a"',
        '$.v[*] eq "a" (more_than 30%)',
        "run.latency > 10",
        "not $.v eq 1",
        "any of 2 conditions",
    ]


def test_needs_are_those_of_all_conditions():
    assert compiled([T]).needs == frozenset()
    assert compiled([W, {"not": {"path": "$.feedback.x.score", "exists": True}}]).needs == {"inputs", "feedback"}
    assert compiled([{"path": "$.runs[*]", "exists": True}]).needs == frozenset()
    assert compiled([{"path": "$.runs[*]", "contains": "x"}]).needs == {"inputs", "outputs"}
    assert compiled([{"expr": "run.outputs.answer == 'x'"}]).needs == {"outputs"}


# --- check and explain agree --------------------------------------------------------------

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from(["", "a", "1", "0.5", "2026-05-04", "error"]),
    st.lists(st.sampled_from(["a", 1, None]), max_size=3),
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), max_size=2),
    st.builds(Missing, st.just("inputs"), st.just("not sent")),
)
operations = st.sampled_from(
    [
        ("eq", "a"), ("eq", 1), ("eq", None), ("eq", True), ("eq", []), ("ne", "a"), ("ne", 1), ("lt", 1), ("gt", "a"),
        ("gte", "0.5"), ("between", [0, 1]), ("in", ["a", 1]), ("in", ["a"]), ("not_in", ["a", None]),
        ("contains", "a"), ("contains", 1), ("starts_with", "a"), ("matches", "a|e"), ("exists", True),
        ("empty", True), ("empty", False), ("length", 1), ("length", {"gte": 1}), ("type", "string"), ("type", "null"),
        ("before", "2026-05-05"), ("older_than", "1h"),
    ]
)  # fmt: skip
quantifiers = st.sampled_from(["any", "all", "none", {"at_least": 2}, {"at_least": "50%"}, {"more_than": 1}])
path_texts = st.sampled_from(
    ["$.v", "$.v[*]", "$.v.a", "$.v[0]", "$..a", "$.w[*].v", "$.nowhere", "$.w[?(@.v == 'a')].v", "$.v.`len`", "$.w"]
)
expressions = st.sampled_from(["v == 'a'", "v", "w[0].v", "v > 0", "v is none", "nowhere.x", "v | length > 1"])


@st.composite
def leaves(draw: st.DrawFn) -> dict[str, Any]:
    chosen = dict(draw(st.lists(operations, min_size=1, max_size=3)))
    if draw(st.integers(0, 4)) == 0:
        return {"expr": "payload." + draw(expressions), **(chosen if draw(st.booleans()) else {})}
    special = draw(st.sampled_from([None, None, None, {"exists": False}, {"count": {"gte": 1}}]))
    if special:
        return {"path": draw(path_texts), **special}
    quantifier = {"quantifier": draw(quantifiers)} if draw(st.booleans()) else {}
    return {"path": draw(path_texts), **chosen, **quantifier}


trees = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds(
            lambda kind, parts: {kind: parts},
            st.sampled_from(["all", "any", "none", "not"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=5,
)


@settings(max_examples=120, deadline=None)
@given(conditions=st.lists(trees, max_size=4), v=values, w=st.lists(st.fixed_dictionaries({"v": values}), max_size=3))
def test_explain_and_check_agree_and_never_raise(conditions, v, w):
    filter_ = compiled(conditions)
    doc = document(v=v, w=w, payload={"v": v, "w": w})
    truth = filter_.check(doc)
    whole = filter_.explain(doc)
    assert whole.truth is truth
    assert filter_.first_unmet(doc)[0] is truth
    assert [child.truth for child in whole.children] == [condition.check(doc) for condition in filter_.conditions]
    assert json.dumps(whole.to_json())


@settings(max_examples=30, deadline=None)
@given(conditions=st.lists(trees, max_size=3), v=values)
def test_evaluation_leaves_the_document_as_it_was(conditions, v):
    doc = document(v=v, w=[{"v": v}], payload={"v": v, "w": []})
    before = repr(copy.copy(doc))
    filter_ = compiled(conditions)
    filter_.check(doc)
    filter_.explain(doc)
    assert repr(doc) == before


# --- why an expression cannot tell ---------------------------------------------------------


def test_what_was_null_is_named_and_nothing_is_said_to_be_found():
    """A run without a cost: it is not known whether it was dear."""
    filter_ = compiled([{"expr": "run.latency > 10 or run.cost > 0.5"}])
    doc = document(run={"latency": 3.0, "cost": None})
    assert filter_.check(doc) is UNDECIDED
    [child] = filter_.explain(doc).to_json()["children"]
    assert (child["truth"], child["checks"]) == ("undecided", [])
    assert child["reason"] == "run.cost is null: > cannot compare null with a number; write run.cost | default(0)"
    assert filter_.check(document(run={"latency": 30.0, "cost": None})) is TRUE


def test_an_expression_says_which_key_was_missing():
    [child] = compiled([{"expr": "run.extra.nope > 1"}]).explain(document(run={"extra": {}})).children
    assert child.reason.startswith("run.extra has no 'nope' (it is empty); where it may be absent")


# --- what an expression read ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "run", "reads"),
    [
        ("run.latency > 10", {"latency": 12.3}, {"run.latency": 12.3}),
        ("10 < run['latency']", {"latency": 3}, {"run.latency": 3}),
        ("run.latency > 10 or run.cost > 0.5", {"latency": 3.0, "cost": None}, {"run.latency": 3.0, "run.cost": None}),
        ("run.latency > 10 and run.nope > 1", {"latency": 12.3}, {"run.latency": 12.3}),
        ("run.name.startswith('chat')", {"name": "chat-1"}, {"run.name": "chat-1"}),
        ("'x' in run.tags", {"tags": ["x", "y"]}, {"run.tags": ["x", "y"]}),
        ("run.tags | length > 1", {"tags": []}, {"run.tags": []}),
        ("run.latency > vars.slow", {"latency": 5}, {"run.latency": 5, "vars.slow": 10}),
        ("run.outputs.a == 1", {"outputs": Missing("outputs", "not sent")}, {}),
        ("run.nope is defined", {}, {}),
        ("true", {}, {}),
    ],
)
def test_an_expression_without_operator_shows_the_values_that_it_read(expression, run, reads):
    [child] = compiled([{"expr": expression}]).explain(document(run=run, vars={"slow": 10})).to_json()["children"]
    assert child["reads"] == reads


def test_only_expressions_without_operators_show_what_they_read():
    conditions = [{"expr": "run.latency", "gt": 10}, {"path": "$.v", "eq": 1}, {"any": [T]}]
    for child in compiled(conditions).explain(document(run={"latency": 12.3}, v=1)).to_json()["children"]:
        assert child["reads"] == {}


def test_long_values_that_an_expression_read_are_cut():
    [child] = (
        compiled([{"expr": "run.name == 'x'"}]).explain(document(run={"name": "x" * 10_000})).to_json()["children"]
    )
    assert child["reads"]["run.name"].endswith("more characters)")

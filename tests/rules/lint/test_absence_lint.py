"""Conditions that answered otherwise before absence had one meaning: found, with a line that keeps the old answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.core.positions import Source
from engine.core.truth import Truth
from engine.rules.conditions import compile_filter
from engine.rules.conditions.operators import OPERATORS
from engine.rules.lint.absence import AbsenceLint
from engine.rules.templates import Templates
from engine.rules.templates.budget import Budget
from engine.rules.templates.compiled import compile_code
from engine.rules.templates.earlier_version import Asked
from engine.rules.templates.sandbox import Sandbox
from engine.rules.templates.syntax import Mistake, parse_expression
from engine.rules.templates.unparse import unparse

TEMPLATES = Templates()
EVENT = {"received_at": "2026-05-04T12:00:00+00:00", "id": "e", "kind": "rule"}


def lint(condition: Any, *, per_run: bool = True, of_rule: bool = True) -> list[str]:
    """The hints about a condition."""
    found = AbsenceLint(TEMPLATES, per_run, of_rule).changes([condition], ("filters",))
    return [each.hint for each in found]


def written(hint: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The condition that keeps the old answer, and the other one that is offered."""
    found = re.fullmatch(r"to keep the old answer write (\{.*?\})(?:; to [^{]*, (\{.*\}))?", hint)
    assert found is not None
    return yaml.safe_load(found[1]), yaml.safe_load(found[2]) if found[2] else None


def document(run: dict[str, Any]) -> dict[str, Any]:
    payload = {"runs": [run]}
    return {**payload, "payload": payload, "run": run, "feedback": {}, "event": EVENT, "vars": {}}


def truth(condition: Any, doc: dict[str, Any]) -> Truth:
    source = Source("rules.yaml")
    filter_ = compile_filter([condition], ("filters",), source, TEMPLATES)
    assert source.problems == []
    return filter_.check(doc)


# --- operators: nothing found was false -----------------------------------------------------

OPERANDS: dict[str, Any] = {
    "eq": "staging", "ne": "staging", "lt": 0.5, "lte": 3, "gt": "b", "gte": 0, "between": [0, 1], "in": ["a", None],
    "not_in": ["a", "b"], "contains": "x", "starts_with": "a", "ends_with": ["a", "b"], "matches": "^$", "exists": True,
    "empty": True, "length": {"lt": 3}, "type": ["string", "null"], "before": "2026-01-01", "after": "2026-01-01",
    "older_than": "1h", "newer_than": "1h",
}  # fmt: skip


def test_every_operator_is_tried():
    assert set(OPERANDS) == set(OPERATORS) - {"count"}


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("quantifier", [None, "any", "all", "none"])
@pytest.mark.parametrize("path", ["$.runs[*].extra.metadata.env", "$.runs[*].labels[*]"])
@pytest.mark.parametrize("name", OPERANDS)
def test_a_condition_has_a_warning_if_and_only_if_its_answer_changed(name, path, quantifier, negative):
    leaf = {"path": path, name: OPERANDS[name]} | ({"quantifier": quantifier} if quantifier else {})
    condition = {"not": leaf} if negative else leaf
    doc = document({"extra": {"metadata": {}}, "labels": []})
    matched_before, matches_now = negative, truth(condition, doc) is Truth.TRUE
    hints = lint(condition)
    assert len(hints) == (matched_before is not matches_now)
    for hint in hints:
        kept, other = written(hint)
        shown = {"not": kept} if negative else kept
        assert (truth(shown, doc) is Truth.TRUE) is matched_before
        assert lint(shown) == []
        if other is not None:
            shown = {"not": other} if negative else other
            assert (truth(shown, doc) is Truth.TRUE) is matches_now
            assert lint(shown) == []


def test_fields_that_every_run_has_give_no_warning():
    condition = {"not": {"path": "$.runs[*].status", "eq": "success"}}
    assert lint(condition) == []
    assert len(lint(condition, of_rule=False)) == 1
    assert lint({"expr": "run.status != 'success' and vars.x != 1 and event.kind != 'a'"}) == []
    assert len(lint({"expr": "run.status != 'success'"}, of_rule=False)) == 1


def test_the_runs_of_a_whole_event_are_a_set():
    condition = {"path": "$.runs[*].extra.metadata.env", "ne": "staging"}
    assert lint(condition) == []
    assert len(lint(condition, per_run=False)) == 1
    always_there = {"path": "$.runs[*].status", "ne": "error"}
    assert lint(always_there, per_run=False) == []
    assert len(lint(always_there, per_run=False, of_rule=False)) == 1


def test_what_another_condition_asks_for_is_there():
    changed = {"not": {"path": "$.run.x", "eq": 1}}
    assert len(lint(changed)) == 1
    assert lint({"all": [{"path": "$.run.x", "exists": True}, changed]}) == []
    assert lint({"any": [{"path": "$.run.x", "exists": False}, changed]}) == []
    assert len(lint({"any": [{"path": "$.run.x", "exists": True}, changed]})) == 1
    assert len(lint({"all": [{"path": "$.run.y", "exists": True}, changed]})) == 1


# --- expressions: as templates still answer -------------------------------------------------

SANDBOX = Sandbox()


def before(text: str, doc: dict[str, Any]) -> Any:
    """What a bare expression came to: conditions had the rules that templates have."""
    parsed = parse_expression(SANDBOX, text)
    assert not isinstance(parsed, Mistake)
    code = compile_code(SANDBOX, text, parsed, native=True)
    assert not isinstance(code, Mistake)
    return code.evaluate(doc, Budget())


looks = st.sampled_from(["run.a", "run.b", "run.extra.c", "run['d e']", "run.tags[0]", "run.name"])
literals = st.sampled_from(["1", "'a'", "none", "true"])
sides = st.one_of(looks, literals, st.just("run.tags | first"))
simple = st.one_of(
    looks,
    st.builds("{} {} {}".format, sides, st.sampled_from(["==", "!="]), sides),
    st.builds("{} {} [{}, {}]".format, sides, st.sampled_from(["in", "not in"]), sides, literals),
    st.builds("{} {} run.tags".format, looks, st.sampled_from(["in", "not in"])),
    st.builds("{} is {}".format, looks, st.sampled_from(["defined", "none", "not none", "string", "eq(1)", "ne('a')"])),
    st.builds("{} | default(1) == {}".format, looks, sides),
)
expressions = st.recursive(
    simple.map("({})".format),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        inner.map("(not {})".format),
        st.builds("({} if {} else {})".format, inner, inner, inner),
    ),
    max_leaves=5,
)
runs = st.fixed_dictionaries(
    {"name": st.just("bot"), "tags": st.sampled_from([[], ["a"], ["b", 1]])},
    optional={
        "a": st.sampled_from([1, None, "a", False]),
        "b": st.sampled_from([1, "a", True]),
        "extra": st.sampled_from([{}, {"c": 1}, {"c": "a"}]),
        "d e": st.sampled_from([0, "a"]),
    },
)


@settings(max_examples=200, deadline=None)
@given(text=expressions, run=runs, negative=st.booleans())
def test_the_expression_that_is_offered_answers_as_before(text, run, negative):
    doc = document(run)
    try:
        matched = before(text, doc) is (not negative)
    except Exception:  # noqa: BLE001 - it could not be evaluated: an error was and is no match
        assume(False)
    hints = lint({"not": {"expr": text}} if negative else {"expr": text})
    kept = written(hints[0])[0] if hints else {"expr": text}
    condition = {"not": kept} if negative else kept
    assert (truth(condition, doc) is Truth.TRUE) is matched, (text, condition)
    assert lint(condition) == []


@settings(max_examples=200, deadline=None)
@given(text=expressions)
def test_an_expression_is_written_as_it_is_read(text):
    def tree(source: str) -> Any:
        parsed = parse_expression(SANDBOX, source)
        assert not isinstance(parsed, Mistake)
        return parsed.expression

    again = unparse(tree(text))
    assert repr(tree(again)) == repr(tree(text))


@pytest.mark.parametrize(
    "text",
    [
        "run.a + 1 > -run.b * 2 ** 3",
        "(run.a ~ 'x') | upper == 'A'",
        "run.tags[1:][0] is in(['a'])",
        "run.name[:3] == 'bot'",
        "{'a': 1}['a'] == (1,)[0]",
        "run.name.startswith('b') and not run.a is none",
        "1 < run.a <= 3 and (run.b or run.a) == 1",
        'run.name == "it\'s"',
        "run.a if run.b else run.name",
        "runs | selectattr('a', 'eq', 1) | map(attribute='b') | list == []",
    ],
)
def test_all_that_expressions_have_is_written(text):
    parsed = parse_expression(SANDBOX, text)
    assert not isinstance(parsed, Mistake)
    again = parse_expression(SANDBOX, unparse(parsed.expression))
    assert not isinstance(again, Mistake)
    assert repr(again.expression) == repr(parsed.expression)


@pytest.mark.parametrize(
    ("text", "kept", "new"),
    [
        (
            "run.env != 'staging'",
            "run.env is undefined or run.env != 'staging'",
            "run.env is defined and run.env != 'staging'",
        ),
        ("not run.internal", "not run.internal | default(none)", "run.internal is defined and not run.internal"),
        (
            "run.env not in ['a']",
            "run.env is undefined or run.env not in ['a']",
            "run.env is defined and run.env not in ['a']",
        ),
        (
            "run.thread_id is not none",
            "not (run.thread_id is defined and run.thread_id is none)",
            "run.thread_id is defined and run.thread_id is not none",
        ),
        (
            "run.thread_id is none",
            "run.thread_id is defined and run.thread_id is none",
            "run.thread_id is undefined or run.thread_id is none",
        ),
    ],
)
def test_an_expression_has_a_warning_with_both_answers(text, kept, new):
    [hint] = lint({"expr": text})
    assert written(hint) == ({"expr": kept}, {"expr": new})
    for shown in (kept, new):
        assert lint({"expr": shown}) == []


def test_a_warning_stays_the_same_however_often_it_is_asked_for():
    condition = {"not": {"expr": "not (run.a == 1)"}}
    assert lint(condition) == lint(condition)


def test_two_absent_values_were_equal():
    [hint] = lint({"expr": "run.a == run.b"})
    kept, _ = written(hint)
    assert truth(kept, document({})) is Truth.TRUE
    assert truth(kept, document({"a": 1})) is Truth.FALSE
    assert truth(kept, document({"a": 1, "b": 1})) is Truth.TRUE
    assert TEMPLATES.inspector.former("run.a == run.b", Asked.FALSE, lambda steps: False) is not None

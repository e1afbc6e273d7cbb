"""What conditions answer where a value is absent, or a set of values is empty: docs/decisions/0036."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.document import Missing
from engine.core.positions import Source
from engine.core.truth import Truth
from engine.rules.conditions import Filter, compile_filter
from engine.rules.templates import Templates

TRUE, FALSE, UNDECIDED, WANTING = Truth.TRUE, Truth.FALSE, Truth.UNDECIDED, Truth.WANTING
EVENT = {"received_at": "2026-05-04T12:00:00+00:00", "id": "e", "kind": "rule"}


def compiled(condition: Any, *, per_run: bool = True) -> Filter:
    source = Source("rules.yaml")
    result = compile_filter([condition], ("filters",), source, Templates(), per_run=per_run)
    assert source.problems == []
    return result


def document(run: dict[str, Any] | None = None, *others: dict[str, Any], **words: Any) -> dict[str, Any]:
    run = {"extra": {"metadata": {}}, "tags": [], "scores": []} | (run or {})
    payload = {"runs": [run, *others]}
    return {**payload, "payload": payload, "run": run, "feedback": {}, "event": EVENT, "vars": {}} | words


def truth(condition: Any, doc: dict[str, Any] | None = None, *, per_run: bool = True) -> Truth:
    """What a condition comes to: by the quick answer, the full one, and under ``not``."""
    doc = document() if doc is None else doc
    filter_ = compiled(condition, per_run=per_run)
    answer = filter_.check(doc)
    verdict = filter_.explain(doc)
    assert verdict.truth is answer
    assert bool(verdict.absent) == bool(filter_.conditions[0].absent(doc))
    inverse = compiled({"not": condition}, per_run=per_run).check(doc)
    assert inverse is (answer if answer < 0 else Truth(1 - answer))
    return answer


ONE = [
    "$.nowhere", "$.run.nope", "$.runs[*].nope", "$.runs[0].nope", "$.payload.runs[*].a.b", "$.runs[*].tags[0]",
    "$.runs[:].nope", "$.runs[0:5].nope",
]  # fmt: skip
OPERATORS = {
    "eq": "a", "ne": "a", "lt": 1, "gte": "a", "between": [0, 1], "in": ["a"], "not_in": ["a"], "contains": "a",
    "starts_with": "a", "ends_with": "a", "matches": "a", "length": 0, "type": "null", "before": "2026-01-01",
    "older_than": "1h",
}  # fmt: skip


@pytest.mark.parametrize("path", ONE)
@pytest.mark.parametrize(("name", "operand"), OPERATORS.items())
def test_what_names_one_value_needs_it(path, name, operand):
    condition = {"path": path, name: operand}
    assert truth(condition) is UNDECIDED
    for quantifier in ("any", "all", "none", {"at_least": 1}):
        assert truth({**condition, "quantifier": quantifier}) is UNDECIDED
    assert truth({"none": [condition]}) is UNDECIDED
    assert truth({"any": [condition, {"path": "$.event.kind", "eq": "rule"}]}) is TRUE
    assert truth({"all": [condition, {"path": "$.event.kind", "eq": "alert"}]}) is FALSE


@pytest.mark.parametrize("path", ONE)
def test_what_says_what_absence_means_has_an_answer(path):
    assert truth({"path": path, "exists": True}) is FALSE
    assert truth({"path": path, "exists": False}) is TRUE
    assert truth({"path": path, "exists": True, "quantifier": "none"}) is TRUE
    assert truth({"path": path, "empty": True}) is TRUE
    assert truth({"path": path, "empty": False}) is FALSE
    assert truth({"path": path, "count": 0}) is TRUE
    assert truth({"path": path, "exists": True, "lt": 0.5}) is FALSE
    assert truth({"path": path, "empty": True, "ne": "x"}) is UNDECIDED


MANY = [
    "$.runs[*].tags[*]", "$.run.tags[*]", "$.runs[*].tags[0:2]", "$.runs[*].tags[?(@ == 'x')]", "$..nope",
    "$.runs[?(@.status == 'error')].id", "$.runs[*].a,b", "$.runs[*].extra.labels[*].name", "$.run.a | $.run.b",
]  # fmt: skip


@pytest.mark.parametrize("path", MANY)
def test_what_ranges_over_many_asks_about_a_set(path):
    assert truth({"path": path, "eq": "a"}) is FALSE
    assert truth({"path": path, "lt": 0.5, "quantifier": "all"}) is FALSE
    assert truth({"path": path, "eq": "a", "quantifier": "none"}) is TRUE
    assert truth({"path": path, "exists": True, "quantifier": "none"}) is TRUE
    assert truth({"path": path, "ne": "a"}) is TRUE
    assert truth({"path": path, "not_in": ["a"]}) is TRUE
    assert truth({"path": path, "ne": "a", "quantifier": "any"}) is FALSE
    assert truth({"path": path, "ne": "a", "starts_with": "team-"}) is FALSE
    assert truth({"path": path, "eq": "a", "quantifier": {"at_least": 1}}) is FALSE
    assert truth({"path": path, "eq": "a", "quantifier": {"more_than": "0%"}}) is FALSE
    assert truth({"path": path, "exists": False}) is TRUE
    assert truth({"path": path, "count": 0}) is TRUE


def test_not_tagged_internal_holds_without_tags_and_all_scores_low_does_not_without_scores():
    untagged = {"not": {"path": "$.runs[*].tags[*]", "eq": "internal"}}
    low = {"path": "$.runs[*].scores[*]", "lt": 0.5, "quantifier": "all"}
    for nothing in ([], None):
        doc = document({"tags": nothing, "scores": nothing})
        assert truth(untagged, doc) is TRUE
        assert truth(low, doc) is FALSE
    assert truth(low, document({"scores": [0.1, 0.2]})) is TRUE


def test_the_runs_of_a_whole_event_are_a_set():
    staging = {"path": "$.runs[*].extra.metadata.env", "eq": "staging"}
    doc = document({}, {"extra": None})
    assert truth({"not": staging}, doc, per_run=False) is TRUE
    assert truth({"path": "$.runs[*].extra.metadata.env", "ne": "staging"}, doc, per_run=False) is TRUE
    assert truth(staging, doc, per_run=False) is FALSE
    # One run of them is named, so it is needed.
    assert truth({"path": "$.runs[0].extra.metadata.env", "ne": "staging"}, doc, per_run=False) is UNDECIDED


def test_data_that_was_not_fetched_is_another_thing():
    doc = document({"inputs": Missing("inputs", "not sent")})
    assert truth({"path": "$.runs[*].inputs.q", "eq": "a"}, doc) is WANTING
    assert truth({"expr": "run.inputs.q == 'a'"}, doc) is WANTING
    assert truth({"expr": "run.nope == 1 or run.inputs.q == 1"}, doc) is WANTING
    assert truth({"expr": "run.inputs.q == 1 and run.nope == 1"}, doc) is WANTING
    assert truth({"expr": "run.inputs.q == 1 and 1 == 2"}, doc) is FALSE
    assert truth({"expr": "'a' in [run.nope, run.inputs.q]"}, doc) is WANTING
    assert truth({"expr": "'a' not in [run.inputs.q, run.nope]"}, doc) is WANTING
    assert truth({"expr": "'a' in [run.nope, run.inputs.q, 'a']"}, doc) is TRUE


# --- absent: VALUE --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"ne": "staging", "absent": "prod"}, TRUE),
        ({"ne": "staging", "absent": "staging"}, FALSE),
        ({"eq": "staging", "absent": None}, FALSE),
        ({"lt": 0.5, "absent": 0}, TRUE),
        ({"in": ["a", "b"], "absent": "a"}, TRUE),
        ({"matches": "^$", "absent": ""}, TRUE),
        ({"older_than": "1h", "absent": "2026-05-04T11:30:00Z"}, FALSE),
    ],
    ids=repr,
)
def test_a_value_can_stand_in_for_what_is_absent(condition, expected):
    for left in ({"path": "$.runs[*].extra.metadata.env"}, {"expr": "run.extra.metadata.env"}):
        assert truth({**left, **condition}) is expected
        [verdict] = compiled({**left, **condition}).explain(document()).children
        assert "stands in for it" in verdict.reason
        assert verdict.absent == ""


def test_a_value_stands_in_for_nothing_but_what_is_absent():
    doc = document({"extra": {"metadata": {"env": "staging", "n": None}}})
    assert truth({"path": "$.runs[*].extra.metadata.env", "ne": "staging", "absent": "prod"}, doc) is FALSE
    assert truth({"path": "$.runs[*].extra.metadata.n", "eq": None, "absent": 1}, doc) is TRUE
    assert truth({"path": "$.runs[*].tags[*]", "ne": "muted", "absent": "muted"}) is FALSE
    assert truth({"path": "$.runs[*].tags[*]", "eq": "a", "quantifier": "none", "absent": "a"}) is FALSE


@pytest.mark.parametrize(
    ("condition", "message", "hint"),
    [
        (
            {"path": "$.v", "absent": True},
            "a condition with a path has an operator",
            'write {path: "$.v", exists: false}',
        ),
        ({"path": "$.v", "exists": False, "absent": 1}, "exists already has an answer", "remove absent:"),
        ({"path": "$.v", "count": 0, "absent": 1}, "count already has an answer", "remove absent:"),
        (
            {"path": "$.v", "lt": 1, "absent": None},
            "absent: null cannot stand in: lt needs a number",
            "give lt a value",
        ),
        ({"expr": "run.x > 1", "absent": False}, "absent stands beside an operator", "default(…)"),
        ({"path": "$.v", "eq": "a", "absent": "{{ vars.x }}"}, "absent takes a value", "default(…)"),
        ({"path": "$.v", "eq": "a", "absent": "{% if x %}a{% endif %}"}, "absent takes a value", "default(…)"),
        ({"path": "$.v", "eq": "a", "default": "x"}, "unknown key 'default'", "did you mean 'absent'?"),
    ],
    ids=repr,
)
def test_a_stand_in_that_means_nothing_is_a_mistake(condition, message, hint):
    source = Source("rules.yaml")
    compile_filter([condition], ("filters",), source, Templates())
    [problem] = source.problems
    assert message in problem.message
    assert hint in problem.hint


def test_a_condition_shows_what_stands_in():
    assert compiled({"path": "$.v", "ne": "a", "absent": "b"}).conditions[0].text == '$.v ne "a" (absent "b")'


# --- expressions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("run.extra.metadata.env != 'staging'", UNDECIDED),
        ("run.extra.metadata.env == 'staging'", UNDECIDED),
        ("not run.extra.metadata.internal", UNDECIDED),
        ("not (run.nope == 1)", UNDECIDED),
        ("run.extra.metadata.env not in ['a']", UNDECIDED),
        ("run.extra.metadata.env in ['a']", UNDECIDED),
        ("'a' in run.nope", UNDECIDED),
        ("'a' not in run.nope", UNDECIDED),
        ("run.a == run.b", UNDECIDED),
        ("run.a != run.b", UNDECIDED),
        ("run.misspelt.name != 'x'", UNDECIDED),
        ("run.nope + 1 > 0", UNDECIDED),
        ("-run.nope < 0", UNDECIDED),
        ("run.nope ~ 'a' == 'a'", UNDECIDED),
        ("run.nope | length == 0", UNDECIDED),
        ("run.nope | upper != 'A'", UNDECIDED),
        ("run.nope is string", UNDECIDED),
        ("run.nope is not string", UNDECIDED),
        ("run.nope is not eq('a')", UNDECIDED),
        ("run.nope is not in(['a'])", UNDECIDED),
        ("true if run.nope else false", UNDECIDED),
        ("(1 if 1 == 2) != 3", UNDECIDED),
        ("run.tags | first != 'a'", UNDECIDED),
        ("run.tags[0] != 'a'", UNDECIDED),
        ("[run.nope] != [1]", UNDECIDED),
        ("{'a': run.nope} != {'a': 1}", UNDECIDED),
        ("'a' in ['b', run.nope]", UNDECIDED),
        ("'a' not in ['b', run.nope]", UNDECIDED),
        ("'a' in [run.nope, 'a']", TRUE),
        ("'a' not in [run.nope, 'a']", FALSE),
        ("'a' in [run.nope + 1, 'a']", TRUE),
        ("run.name.startswith(run.nope)", UNDECIDED),
        ("run.nope or run.name == 'bot'", TRUE),
        ("run.name == 'bot' or run.nope", TRUE),
        ("run.nope or run.name == 'x'", UNDECIDED),
        ("run.nope and run.name == 'x'", FALSE),
        ("run.nope == 1 and run.name == 'x'", FALSE),
        ("run.name == 'x' and run.nope == 1", FALSE),
        ("run.nope and run.name == 'bot'", UNDECIDED),
        ("run.cost > 1 or run.name == 'bot'", TRUE),
        ("run.cost > 1 and run.name == 'x'", FALSE),
        ("not (run.nope and run.name == 'x')", TRUE),
        ("1 < run.nope < 0", UNDECIDED),
        ("run.nope < 1 < 0", FALSE),
        ("2 < 1 < run.nope", FALSE),
        ("1 < 2 < 3 != 4", TRUE),
        ("run.nope is defined", FALSE),
        ("run.nope is undefined", TRUE),
        ("run.nope is none", TRUE),
        ("run.nope is not none", FALSE),
        ("run.error is none", TRUE),
        ("run.name is none", FALSE),
        ("run.nope | default('x') == 'x'", TRUE),
        ("run.nope | d('x') != 'x'", FALSE),
        ("run.nope is defined and run.nope != 'a'", FALSE),
        ("run.nope is undefined or run.nope != 'a'", TRUE),
        ("run.extra.metadata.get('env') == none", TRUE),
        ("runs | selectattr('nope') | list | length == 0", TRUE),
        ("'a' in (runs | map(attribute='nope') | list)", FALSE),
        ("threads is defined", FALSE),
        ("threads | length > 0", UNDECIDED),
    ],
)  # fmt: skip
def test_an_expression_needs_what_it_names(expression, expected):
    assert truth({"expr": expression}, document({"name": "bot", "error": None, "cost": None})) is expected


@pytest.mark.parametrize("question", [{"exists": True}, {"empty": False}, {"type": "object"}, {}])
def test_an_expression_that_is_data_which_was_not_fetched_wants_it_whatever_is_asked(question):
    doc = document(feedback=Missing("feedback", "not fetched"))
    assert truth({"expr": "feedback", **question}, doc) is WANTING


def test_an_expression_with_an_operator_needs_its_value():
    for name, operand in OPERATORS.items():
        assert truth({"expr": "run.nope", name: operand}) is UNDECIDED
    assert truth({"expr": "run.nope", "exists": True}) is FALSE
    assert truth({"expr": "run.nope", "exists": False}) is TRUE
    assert truth({"expr": "run.nope", "empty": True}) is TRUE
    assert truth({"expr": "run.nope == 1", "exists": False}) is UNDECIDED


@pytest.mark.parametrize("expression", ["rnu.status != 'a'", "not rnu", "'a' not in rnu.tags"])
def test_a_misspelt_name_is_a_mistake_at_load(expression):
    source = Source("rules.yaml")
    compile_filter([{"expr": expression}], ("filters",), source, Templates())
    [problem] = source.problems
    assert problem.message == "there is no 'rnu' here"
    assert "did you mean 'run'" in problem.hint


# --- the words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "part", "reason"),
    [
        (
            {"path": "$.runs[*].extra.metadata.env", "ne": "a"},
            "$.runs[*].extra.metadata.env",
            "$.runs[*].extra.metadata has no 'env': it is empty",
        ),
        (
            {"not": {"path": "$.runs[*].extra.metdata.env", "eq": "a"}},
            "$.runs[*].extra.metdata",
            "$.runs[*].extra has no 'metdata': did you mean 'metadata'?",
        ),
        ({"expr": "run.extra.metadata.env != 'a'"}, "run.extra.metadata.env", "run.extra.metadata has no 'env'"),
        ({"expr": "run.extra.metdata.env != 'a'"}, "run.extra.metdata", "run.extra has no 'metdata'"),
        ({"expr": "run.extra.metadata.env", "ne": "a"}, "run.extra.metadata.env", "run.extra.metadata has no 'env'"),
        ({"expr": "run.tags | first != 'a'"}, "an item", "No first item"),
        ({"expr": "run[vars.key].kind != 'a' and run.error < 1"}, "kind", "has no 'kind'"),
        ({"expr": "run.tags[:run.nope] == []"}, "run.nope", "run has no 'nope'"),
        ({"expr": "not run.extra.internal"}, "run.extra.internal", "run.extra has no 'internal'"),
        ({"any": [{"path": "$.run.x", "eq": 1}, {"path": "$.run.y", "eq": 1}]}, "$.run.x", "$.run has no 'x'"),
        ({"any": [{"path": "$.run.error", "eq": 1}, {"path": "$.run.y", "eq": 1}]}, "$.run.y", "$.run has no 'y'"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_verdict_names_the_part_that_is_absent(condition, part, reason):
    filter_ = compiled(condition)
    doc = document({"error": None}, vars={"key": "error"})
    assert filter_.conditions[0].absent(doc) == part
    [verdict] = filter_.explain(doc).children
    assert verdict.absent == part
    assert reason in verdict.reason
    assert json.loads(json.dumps(verdict.to_json()))["absent"] == part


def test_nothing_is_absent_where_something_else_leaves_it_open():
    doc = document({"cost": None})
    for condition in ({"path": "$.run.cost", "gt": 1}, {"expr": "run.cost > 1"}, {"path": "$.run.tags[*]", "eq": 1}):
        assert compiled(condition).conditions[0].absent(doc) == ""
        assert compiled(condition).explain(doc).absent == ""


# --- expressions against a model ------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """An expression: its text, and what Kleene's logic makes of it. ``value`` None: undecided."""

    text: str
    value: bool | None


class Absent:
    """What stands in the model for a value that is absent."""


VALUES: dict[str, Any] = {"run.one": 1, "run.two": 2, "run.text": "a", "run.list": ["a", "b"], "run.yes": True}
VALUES |= {"run.no": False, "run.gone": Absent, "run.extra.metadata.gone": Absent, "3": 3, "'a'": "a"}
names = st.sampled_from(sorted(VALUES))
numbers = st.sampled_from(["run.one", "run.two", "run.gone", "3"])


def needing(values: list[Any], answer: Any) -> bool | None:
    return None if any(value is Absent for value in values) else bool(answer())


def comparison(left: str, operator: str, right: str) -> Model:
    a, b = VALUES[left], VALUES[right]
    return Model(f"{left} {operator} {right}", needing([a, b], lambda: (a == b) is (operator == "==")))


def order(left: str, right: str) -> Model:
    a, b = VALUES[left], VALUES[right]
    return Model(f"{left} + 1 > {right}", needing([a, b], lambda: a + 1 > b))


def chain(first: str, second: str, third: str) -> Model:
    a, b, c = (VALUES[name] for name in (first, second, third))
    parts = [needing([a, b], lambda: a < b), needing([b, c], lambda: b <= c)]
    return Model(f"{first} < {second} <= {third}", both(*parts))


def membership(left: str, items: list[str], negated: bool) -> Model:
    found: bool | None = False
    for item in items:
        found = either(found, comparison(left, "==", item).value)
    found = None if VALUES[left] is Absent and items else found
    text = f"{left} {'not in' if negated else 'in'} [{', '.join(items)}]"
    return Model(text, inverse(found) if negated else found)


def asked(name: str, test: str) -> Model:
    absent = VALUES[name] is Absent
    answers = {"defined": not absent, "undefined": absent, "none": absent, "not none": not absent}
    return Model(f"{name} is {test}", answers[test])


def both(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def either(a: bool | None, b: bool | None) -> bool | None:
    return inverse(both(inverse(a), inverse(b)))


def inverse(a: bool | None) -> bool | None:
    return None if a is None else not a


def chosen(then: Model, test: Model, otherwise: Model) -> Model:
    value = None if test.value is None else then.value if test.value else otherwise.value
    return Model(f"({then.text} if {test.text} else {otherwise.text})", value)


booleans = st.sampled_from(["run.yes", "run.no", "run.gone"])
atoms = st.one_of(
    st.builds(comparison, names, st.sampled_from(["==", "!="]), names),
    st.builds(order, numbers, numbers),
    st.builds(chain, numbers, numbers, numbers),
    st.builds(membership, names, st.lists(names, min_size=1, max_size=3), st.booleans()),
    st.builds(asked, names, st.sampled_from(["defined", "undefined", "none", "not none"])),
    booleans.map(lambda name: Model(name, None if VALUES[name] is Absent else VALUES[name])),
    booleans.map(lambda name: Model(f"{name} | default(false)", VALUES[name] is True)),
)
models = st.recursive(
    atoms.map(lambda atom: Model(f"({atom.text})", atom.value)),
    lambda inner: st.one_of(
        st.builds(lambda a, b: Model(f"({a.text} and {b.text})", both(a.value, b.value)), inner, inner),
        st.builds(lambda a, b: Model(f"({a.text} or {b.text})", either(a.value, b.value)), inner, inner),
        inner.map(lambda a: Model(f"(not {a.text})", inverse(a.value))),
        st.builds(chosen, inner, inner, inner),
    ),
    max_leaves=8,
)
RUN = {"one": 1, "two": 2, "text": "a", "list": ["a", "b"], "yes": True, "no": False}


@settings(max_examples=300, deadline=None)
@given(model=models)
def test_expressions_are_kleenes(model):
    doc = document(RUN)
    expected = UNDECIDED if model.value is None else Truth(model.value)
    filter_ = compiled({"expr": model.text})
    assert filter_.check(doc) is expected, model.text
    assert filter_.explain(doc).truth is expected
    if expected is UNDECIDED:
        assert filter_.conditions[0].absent(doc) in ("run.gone", "run.extra.metadata.gone")

"""Conditions at load: every mistake reported at its place, with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from engine.core.positions import Mark, Source
from engine.core.vocabulary import Vocabulary
from engine.rules.conditions import MAX_DEPTH, compile_filter
from engine.rules.templates import Templates


def problems(condition: Any) -> list[tuple[str, str]]:
    source = Source("rules.yaml")
    compile_filter([condition], ("filters",), source, Templates())
    return [(problem.message, problem.hint) for problem in source.problems]


def only(condition: Any) -> tuple[str, str]:
    [problem] = problems(condition)
    return problem


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("regex", "matches"), ("prefix", "starts_with"), ("suffix", "ends_with"), ("==", "eq"),
        ("!=", "ne"), (">", "gt"), ("<", "lt"), (">=", "gte"), ("<=", "lte"), ("above", "gt"), ("below", "lt"),
        ("equals", "eq"), ("is", "eq"), ("includes", "contains"), ("startswith", "starts_with"), ("$gte", "gte"),
        ("Regex", "matches"), ("exist", "exists"), ("conatins", "contains"), ("newer", "newer_than"), ("len", "length"),
    ],
)  # fmt: skip
def test_another_dialects_operator_is_translated(key, meant):
    message, hint = only({"path": "$.v", key: "x"})
    assert message == f"unknown key {key!r} in a condition"
    assert hint == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ({"expr": "run.latency", "greater_than": 5}, "did you mean 'gt'?"),
        ({"expr": "run.name", "regex": "^chat"}, "did you mean 'matches'?"),
        ({"expr": "run.latency", "operator": ">", "value": 5}, 'write {expr: "run.latency", gt: 5}'),
        ({"path": "$.run.latency", "operator": ">", "value": 5}, 'write {path: "$.run.latency", gt: 5}'),
        ({"expr": "run.latency / 2", "greater_than": 5}, 'write {expr: "run.latency / 2 > 5"}'),
    ],
)
def test_advice_about_an_operator_keeps_the_expression_or_the_path_that_was_written(condition, hint):
    assert only(condition)[1] == hint


def test_a_path_with_a_number_of_another_notation_gets_the_whole_condition():
    message, hint = only({"path": "$.runs[01].status", "eq": "error"})
    assert message == "a number has no leading zero: 01"
    assert hint == 'write {path: "$.runs[1].status", eq: error}'


@pytest.mark.parametrize(
    ("path", "meant", "reason"),
    [
        ("$.runs[*].latency", "$.run.latency", "LangSmith's runs have no 'latency': the engine computes it, for run"),
        ("$.runs[*].cost", "$.run.cost", "LangSmith's runs have no 'cost': the engine computes it, for run"),
        ("$.runs[*].status", None, ""),
    ],
)
def test_a_path_that_is_changed_with_the_operator_is_explained(path, meant, reason):
    message, hint = only({"path": path, "above": 5})
    assert message == "unknown key 'above' in a condition"
    assert hint == (f'write {{path: "{meant}", gt: 5}} ({reason})' if meant else "did you mean 'gt'?")


@pytest.mark.parametrize("key", ["nuequal", "difers", "anything_btu"])
def test_a_misspelt_word_for_the_opposite_is_not_taken_for_the_operator(key):
    assert only({"path": "$.v", key: "x"})[1] == 'write {path: "$.v", ne: x}'
    assert only({"path": "$.v", key: "x", "absent": "y"})[1].startswith("a condition is ")


@pytest.mark.parametrize(("key", "meant"), [("and", "all"), ("or", "any"), ("nor", "none"), ("anyy", "any")])
def test_another_dialects_group_is_translated(key, meant):
    assert only({key: [{"path": "$.v", "eq": 1}]})[1] == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("condition", "advice"),
    [
        ({"path": "$.v", "operator": "eq"}, 'a condition is {path: "$.runs[*].status", eq: error}, '),
        ({"path": "$.v", "not_contains": "x"}, 'write {not: {path: "$.v", contains: x}}'),
        ({"path": "$.v", "nin": "x"}, 'write {path: "$.v", not_in: [x]}'),
        ({"path": "$.v", "is_null": True}, 'write {path: "$.v", exists: false}'),
        ({"path": "$.v", "is_not_null": True}, 'write {path: "$.v", exists: true}'),
        ({"jsonpath": "$.v", "eq": 1}, "did you mean 'path'?"),
    ],
)
def test_a_word_without_a_counterpart_gets_advice(condition, advice):
    assert only(condition)[1].startswith(advice)


@pytest.mark.parametrize(
    ("path", "fixed"),
    [
        ("$.runs.status", "write $.runs[*].status"),
        ("$.payload.runs.extra.metadata.env", "write $.payload.runs[*].extra.metadata.env"),
        ("$.runs.0.status", "write $.runs[0].status; for a key that is called '0' write ['0']"),
        ("$.runs.length()", "write $.runs.`len`, or use the operator `length`"),
        ("$.runs.length", "write $.runs.`len`"),
        ("$.runs[*].tags.internal", 'write $.runs[*].tags[*] with eq: "internal"'),
        ("$.feedbacks.score", "write $.feedbacks[*].score"),
        ("runs[*].status", "write $.runs[*].status"),
        (".runs[].status", "write $.runs[*].status"),
        ("/runs/0/status", "write $.runs[0].status"),
        ("#/runs/0/status", "write $.runs[0].status"),
        ("/custom/0/x", "write $.custom[0].x"),
        ("runs.0.status", "write $.runs[0].status"),
        ("runs.#.status", "write $.runs[*].status"),
        ("runs.$.status", "write $.runs[*].status"),
        ("$.runs.#.status", "write $.runs[*].status"),
        ("$.runs[0].inputs.messages.0.content", "write $.runs[0].inputs.messages[0].content"),
        ('$["runs"].0.status', 'write $["runs"][0].status'),
        ("status", "write $.runs[*].status"),
        ("run.metadata.env", "write $.runs[*].extra.metadata.env"),
        ("@.status", "write $.runs[*].status"),
        ("$runs[*].status", "write $.runs[*].status"),
        ("$.runs[].status", "write $.runs[*].status"),
        ("{{ run.status }}", "write expr: 'run.status'"),
        ("$.runs[*].status == 'error'", 'write {path: "$.runs[*].status", eq: error}'),
        ("$.runs[?(@.name =~ '\\d+')]", "write $.runs[?(@.name =~ '\\\\d+')]"),
        ("$.runs[?(@.name =~ /bot.*/)]", "write $.runs[?(@.name =~ 'bot.*')]"),
        ("$.runs[?(@.name =~ /bot.*/i)]", "write $.runs[?(@.name =~ '(?i)bot.*')]"),
        ("$.runs[?(@.name in ['a'])]", "write $.runs[?(@.name == 'a')]"),
        ("$.runs[?(@.name in ['a', 'b'])]", "write $.runs[?((@.name == 'a' || @.name == 'b'))]"),
        ("$.runs[*].outputs.messages[(@.length-1)].x", "write $.runs[*].outputs.messages[-1].x"),
        ("$.runs[*].extra.metadata.ls:model", "write $.runs[*].extra.metadata['ls:model']"),
        ("$.runs[*].inputs.user name", "write $.runs[*].inputs['user name']"),
        ("$.runs[*].inputs.2nd.try", "write $.runs[*].inputs['2nd'].try"),
        ("$.runs[*].inputs.-x", "write $.runs[*].inputs['-x']"),
        ("$.runs[*].inputs.it's", "a key with spaces, quotes, a colon or a digit in front needs brackets"),
        ("$.runs[?@.latency > 5].id", "write $.run.latency"),
        ("$.runs[?@.tags.internal].id", 'write $.runs[*].tags[*] with eq: "internal"'),
        ("$.runs[?@.name == $.vars.x].id", None),
        ("$.runs[?@.total_cost > $.event.cost].id", "known are: id, kind, received_at, unmatched_reason"),
        ("$..first name", "write $..['first name']"),
        ("$.runs[*].inputs['a\\d']", "write \\\\d for a backslash"),
        ("$.runs[?@.name.2nd == 'x']", "a key with spaces, quotes, a colon or a digit in front needs brackets"),
    ],
)
def test_a_known_mistake_in_a_path_gets_the_path_as_it_should_read(path, fixed):
    found = problems({"path": path, "eq": "x"})
    if fixed is None:
        assert found == []
    else:
        [(_message, hint)] = found
        assert hint.startswith(fixed)


def test_an_escaped_backslash_in_a_pattern_is_right():
    assert problems({"path": r"$.runs[?(@.name =~ '^\\d+$')].id", "exists": True}) == []


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        ({"between": 3}, "between takes two values, both included"),
        ({"between": [1, 2, 3]}, "between takes two values, both included"),
        ({"between": [2, 1]}, "between takes the lower value first"),
        ({"between": [1, "a"]}, "between takes two numbers or two texts"),
        ({"between": [1, None]}, "between takes two numbers or two texts"),
        ({"in": "prod"}, "in takes a list"),
        ({"in": []}, "in takes a list that is not empty"),
        ({"not_in": {"a": 1}}, "not_in takes a list"),
        ({"lt": None}, "lt takes a number or a text, not null"),
        ({"gt": True}, "gt takes a number or a text, not true"),
        ({"gte": [1]}, "gte takes a number or a text, not an array of 1"),
        ({"gt": float("nan")}, "gt takes a number or a text"),
        ({"eq": float("nan")}, "eq: nothing is equal to .nan"),
        ({"contains": ["a"]}, "contains takes one value"),
        ({"starts_with": 5}, "starts_with takes a text"),
        ({"ends_with": ""}, "ends_with takes a text"),
        ({"matches": 5}, "matches takes a regular expression, not the number 5"),
        ({"matches": "("}, "not a valid RE2 pattern: missing ): ("),
        ({"matches": "(?<!a)b"}, "not a valid RE2 pattern"),
        ({"matches": r"(a)\1"}, "not a valid RE2 pattern"),
        ({"exists": "yes"}, "exists takes true or false, not the text 'yes'"),
        ({"empty": 1}, "empty takes true or false"),
        ({"length": -1}, "length takes a whole number or operators on it"),
        ({"length": "3"}, "length takes a whole number or operators on it"),
        ({"length": {}}, "length takes a whole number or operators on it"),
        ({"length": {"above": 3}}, "length knows no operator 'above'"),
        ({"length": {"gt": "many"}}, "length is compared with numbers"),
        ({"count": True}, "count takes a whole number or operators on it"),
        ({"type": "str"}, "type takes the name of a JSON type, not the text 'str'"),
        ({"type": None}, "type takes the name of a JSON type, not null"),
        ({"type": []}, "type takes the name of a JSON type"),
        ({"type": [["string"]]}, "type takes the name of a JSON type"),
        ({"before": "tomorrow"}, "before: 'tomorrow' is not a time"),
        ({"after": "2h"}, "after: '2h' is not a time"),
        ({"after": None}, "after: None is not a time"),
        ({"older_than": "1 day"}, "older_than: '1 day' is not a duration"),
        ({"newer_than": -5}, "newer_than: -5 is not a duration"),
        ({"count": 1, "eq": 2}, "count is about everything the path finds"),
        ({"exists": False, "eq": 2}, "exists: false is about everything the path finds"),
        ({"exists": False, "quantifier": "all"}, "exists: false is about everything the path finds"),
        ({"eq": 1, "quantifier": "some"}, "there is no quantifier 'some'"),
        ({"eq": 1, "quantifier": 3}, "a quantifier is any, all, none"),
        ({"eq": 1, "quantifier": {"at_most": 3}}, "there is no quantifier 'at_most'"),
        ({"eq": 1, "quantifier": {"at_least": 0}}, "at_least: 0 asks for nothing"),
        ({"eq": 1, "quantifier": {"at_least": 1.5}}, "at_least: 1.5 is not a share"),
        ({"eq": 1, "quantifier": {"more_than": "100%"}}, "more_than: 100% never holds"),
        ({}, "a condition with a path has an operator, this one has none"),
    ],
    ids=repr,
)
def test_an_operand_that_cannot_be_used_is_an_error_at_load(operands, message):
    assert only({"path": "$.v", **operands})[0].startswith(message)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("(?=a)", "RE2 has no lookahead"),
        ("(?<=a)b", "RE2 has no lookbehind"),
        (r"(a)\1", "RE2 has no backreferences"),
        (r"a\Z", r"the end of the text is \z"),
        ("a{2000}", "RE2 repeats at most 1000 times"),
        ("[a", "put a backslash before it"),
        ("a*+", "RE2 has no possessive quantifiers"),
    ],
)
def test_what_re2_leaves_out_is_said_in_words(pattern, hint):
    assert hint in only({"path": "$.v", "matches": pattern})[1]


@pytest.mark.parametrize(
    ("condition", "message", "hint"),
    [
        ("run.latency > 10", "a condition is a mapping", 'write {expr: "run.latency > 10"}'),
        ("{{ run.latency > 10 }}", "a condition is a mapping", 'write {expr: "run.latency > 10"}'),
        ("$.runs[*].error", "a condition is a mapping", 'write {path: "$.runs[*].error", exists: true}'),
        (True, "a condition is a mapping, not true", "a condition is {path"),
        (None, "a condition is a mapping, not null", "a condition is {path"),
        ({}, "a condition is a mapping, not an empty mapping", "a condition is {path"),
        ([], "an empty list is no condition", "a condition is {path"),
        ({"eq": 1}, "the operator 'eq' has no value to test", 'write {path: "$.runs[*].status", eq: 1}'),
        ({"quantifier": "all"}, "this condition has neither path nor expr", "a condition is {path"),
        ({"path": "$.v", "expr": "true", "eq": 1}, "'path' and 'expr' cannot be", "two conditions"),
        ({"any": [{"path": "$.v", "eq": 1}], "eq": 2}, "'eq' cannot be beside 'any'", "put it in a list"),
        ({"any": []}, "any takes a list of conditions, not an empty list", "write - "),
        ({"any": {"path": "$.v", "eq": 1}}, "any takes a list of conditions", "write - "),
        ({"not": 3}, "not takes a condition or a list of them", ""),
        ({"path": 3, "eq": 1}, "path takes a JSONPath as text, not the number 3", ""),
        ({"path": " ", "eq": 1}, "path takes a JSONPath as text", ""),
        ({"expr": None}, "expr takes an expression as text, not null", ""),
        ({"expr": "run.x", "count": 1}, "count counts what a path finds", "length"),
        ({"expr": "run.x", "eq": 1, "quantifier": "all"}, "a quantifier is about the values a path finds", ""),
        ({1: 2}, "unknown key '1' in a condition", ""),
    ],
    ids=repr,
)
def test_a_condition_of_the_wrong_shape_says_what_to_write(condition, message, hint):
    found, advice = only(condition)
    assert found.startswith(message)
    assert hint in advice


def test_an_expression_that_cannot_be_read_is_reported():
    [(message, _hint)] = problems({"expr": "run.latency >"})
    assert message


def test_all_problems_come_out_at_once():
    condition = {"any": [{"path": "$.runs.status", "in": "x"}, {"not": {"path": "$.v", "regex": "x"}}]}
    assert problems(condition) == [
        ("$.runs is an array, which has no field 'status'", 'write {path: "$.runs[*].status", in: [x]}'),
        ("unknown key 'regex' in a condition", "did you mean 'matches'?"),
    ]


def test_groups_have_a_limit_of_depth():
    condition: dict[str, Any] = {"path": "$.v", "eq": 1}
    for _ in range(MAX_DEPTH - 1):
        condition = {"not": condition}
    assert problems(condition) == []
    for _ in range(2000):
        condition = {"not": condition}
    assert only(condition)[0] == f"conditions are nested more than {MAX_DEPTH} deep"


def marks(node: yaml.Node, where: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Mark]:
    """The marks of a small YAML text, as the configuration's reader makes them."""
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    found = {where: Mark(node.start_mark.line + 1, node.start_mark.column + 1, style=style)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found |= marks(value, (*where, key.value))
            at = found[(*where, key.value)]
            found[(*where, key.value)] = Mark(
                at.line, at.column, key.start_mark.line + 1, key.start_mark.column + 1, at.style
            )
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found |= marks(value, (*where, index))
    return found


def test_problems_point_at_the_character():
    text = 'filters:\n  - {path: "$.runs.status", eq: 1}\n  - {path: $.v, regex: x}\n  - {path: $.v, in: [.nan]}\n'
    root = yaml.compose(text)
    assert root is not None
    source = Source("rules.yaml", text, marks(root))
    compile_filter(yaml.safe_load(text)["filters"], ("filters",), source, Templates())
    assert [problem.place for problem in source.problems] == ["rules.yaml:2:19", "rules.yaml:3:17", "rules.yaml:4:21"]


# --- what is known not to be there --------------------------------------------------------


def path_problem(path: str) -> tuple[str, str]:
    source = Source("rules.yaml")
    templates = Templates(Vocabulary({"channel": "#q", "slack": {"room": "#r"}}))
    compile_filter([{"path": path, "eq": 1}], ("filters",), source, templates)
    [problem] = source.problems
    return problem.message, problem.hint


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("$.vars.chanel", "vars has no 'chanel'", "did you mean 'channel'?"),
        ("$.vars.slack.rom", "vars.slack has no 'rom'", "did you mean 'room'?"),
        ("$.event.recieved_at", "event has no 'recieved_at'", "did you mean 'received_at'?"),
        ("$.route.nme", "route has no 'nme'", "did you mean 'name'?"),
        (
            "$.runs[*].latency",
            "LangSmith's runs have no 'latency': the engine computes it, for run",
            "write $.run.latency",
        ),
        (
            "$.payload.runs[0].cost",
            "LangSmith's runs have no 'cost': the engine computes it, for run",
            "write $.run.cost",
        ),
    ],
)
def test_a_path_to_what_is_known_not_to_be_there_is_refused(path, message, hint):
    assert path_problem(path) == (message, hint)


@pytest.mark.parametrize(
    "path",
    [
        "$.vars.channel", "$.vars.slack.room", "$.run.latency", "$.runs[*].url", "$.payload.event.x", "$..latency",
        "$.runs[*].inputs['a.0.b']", '$.runs[*].inputs["x.#"].y', "$.runs[?(@.name == 'v.1')].id",
    ],
)  # fmt: skip
def test_other_paths_are_taken(path):
    assert problems({"path": path, "eq": 1}) == []


def test_a_known_mistake_in_an_expression_gets_the_expression_as_it_should_read():
    assert only({"expr": "{{ run.status }} == 'error'"}) == (
        "expr takes the expression bare, without braces",
        "write {expr: 'run.status == \"error\"'}",
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("$.runs[*].status == 'error'", 'write {path: "$.runs[*].status", eq: error}'),
        ("$.runs[*].status != 'not yet'", 'write {path: "$.runs[*].status", ne: "not yet"}'),
        ("$.runs[*].total_tokens >= 10", 'write {path: "$.runs[*].total_tokens", gte: 10}'),
        ("$.runs[*].error == null", 'write {path: "$.runs[*].error", exists: false}'),
        ("$.runs[*].error == 'null'", 'write {path: "$.runs[*].error", eq: "null"}'),
        ("$.runs[*].name =~ /^a/", 'write {path: "$.runs[*].name", matches: "^a"}'),
        ("$.runs[*].status", 'write {path: "$.runs[*].status", exists: true}'),
        ("{{ run.status }} == 'error'", "write {expr: \"run.status == 'error'\"}"),
    ],
)
def test_a_condition_written_as_text_is_shown_as_one(text, hint):
    assert only(text)[1] == hint


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("error", 'write {path: "$.runs[*].status", eq: error}'),
        (["error", "pending"], 'write {path: "$.runs[*].status", in: [error, pending]}'),
        ({"ne": "error"}, 'write {path: "$.runs[*].status", ne: error}'),
        (None, 'write {path: "$.runs[*].status", exists: false}'),
    ],
)
def test_a_path_written_as_a_key_is_one_mistake(value, hint):
    assert only({"$.runs[*].status": value}) == ("a path is not a key: write it after path:", hint)


@pytest.mark.parametrize("head", [{"path": "$.runs[*].status"}, {"expr": "run.name"}])
def test_a_dash_too_many_is_one_mistake(head):
    [key] = head
    written = '"$.runs[*].status"' if key == "path" else '"run.name"'
    expected = (
        "this and the item above it are one condition: remove the dash",
        f"write - {{{key}: {written}, eq: error}}",
    )
    assert problems_of([head, {"eq": "error"}]) == [expected]
    assert problems({"any": [head, {"eq": "error"}]}) == [expected]


def problems_of(conditions: list[Any]) -> list[tuple[str, str]]:
    source = Source("rules.yaml")
    compile_filter(conditions, ("filters",), source, Templates())
    return [(problem.message, problem.hint) for problem in source.problems]


def test_a_path_without_operator_before_a_whole_condition_is_no_dash_too_many():
    [problem] = problems_of([{"path": "$.a"}, {"path": "$.b", "eq": 1}])
    assert problem[0] == "a condition with a path has an operator, this one has none"

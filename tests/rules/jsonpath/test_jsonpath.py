"""JSONPath: the library's results, faster; guarded; and never blind to data that is wanting."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpath_ng.ext import parse

from engine.core.document import Missing
from engine.core.errors import DataMissing, PathError
from engine.core.positions import Source
from engine.core.truth import Truth
from engine.core.vocabulary import Vocabulary
from engine.rules.conditions import compile_filter
from engine.rules.jsonpath import MAX_LENGTH, NOTHING, compile_path
from engine.rules.templates import Templates

NAMES = ("a", "b", "c", "runs")

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -2.5]),
    st.sampled_from(["", "a", "b", "1", "a b", "x,y,z", "ünï"]),
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=16,
)

names = st.sampled_from(NAMES)
numbers = st.integers(-3, 3).map(str)
slices = st.builds(
    lambda start, end, step: f"[{start}:{end}{step}]",
    st.sampled_from(["", "0", "1", "-2"]),
    st.sampled_from(["", "1", "2", "-1"]),
    st.sampled_from(["", ":1", ":2", ":-1", ":0"]),
)
operators = st.sampled_from(["==", "=", "!=", "<", "<=", ">", ">="])
literals = st.sampled_from(
    ["1", "-2", "0.5", "'a'", '"b"', "true", "false", "null", "'1'", "@.b", "$.a", "$.c[0]", "@"]
)
targets = st.sampled_from(["@", "@.a", "@.b", "@.c[0]", "@[*]", "@..a", "@.`len`", "$.a", "@.a.b"])
comparisons = st.builds(lambda target, op, literal: f"{target} {op} {literal}", targets, operators, literals)
tests = st.recursive(
    st.one_of(targets, targets.map(lambda target: f"!{target}"), comparisons),
    lambda inner: st.builds(
        lambda one, op, other: f"({one} {op} {other})", inner, st.sampled_from(["&&", "||"]), inner
    ),
    max_leaves=3,
)
steps = st.one_of(
    names.map(lambda name: f".{name}"),
    names.map(lambda name: f".{name}"),
    names.map(lambda name: f"['{name}']"),
    st.just("['a','b']"),
    numbers.map(lambda number: f"[{number}]"),
    st.just("[0,2,-1]"),
    st.just("[*]"),
    st.just(".*"),
    slices,
    names.map(lambda name: f"..{name}"),
    st.just("..*"),
    st.just("..[0]"),
    tests.map(lambda test: f"[?({test})]"),
    st.sampled_from(
        [
            ".`len`",
            ".`keys`",
            ".`sorted`",
            ".`this`",
            ".`parent`",
            ".`path`",
            ".`str()`",
            ".`split(',', 0, -1)`",
            ".`split(',', *, 1)`",
            ".`split(x, -5, -1)`",
            ".`sub(/a/, b)`",
            ".$",
            r"[/a]",
            r"[\b,/a]",
            " where a",
            " wherenot b",
            ".(a|b)",
            ".(a.b)",
            " + 1",
            " * 2",
            "..[?(@.a)]",
        ]
    ),
)
paths = st.builds(
    lambda head, tail, other: head + "".join(tail) + other,
    st.sampled_from(["$", "$", "$", "@", "a", "*", "`this`"]),
    st.lists(steps, max_size=4),
    st.sampled_from(["", "", "", " | $.b", " + $.a"]),
)


def expected(text: str, document: Any) -> Any:
    """What the library says, or the type of what it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = parse(text)
    try:
        return [match.value for match in tree.find(document)]
    except Exception as error:  # noqa: BLE001 - compared, whatever it is
        return type(error)


def actual(text: str, document: Any) -> Any:
    path = compile_path(text)
    try:
        return path.find(document)
    except Exception as error:  # noqa: BLE001 - compared, whatever it is
        return type(error)


def parses(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parse(text)
        except Exception:  # noqa: BLE001 - the library raises many kinds
            return False
    return True


def same(one: Any, other: Any) -> bool:
    """Equal to the type: True is not 1."""
    return repr(one) == repr(other)


@settings(max_examples=150, deadline=None)
@given(text=paths.filter(parses), document=documents)
def test_results_are_the_librarys_for_any_path_and_document(text, document):
    wanted, got = expected(text, document), actual(text, document)
    if isinstance(wanted, type):
        assert isinstance(got, type), (text, wanted, got)
    else:
        assert same(got, wanted), (text, document)


@settings(max_examples=60, deadline=None)
@given(
    tail=st.lists(
        st.one_of(names.map(lambda name: f".{name}"), numbers.map(lambda n: f"[{n}]"), st.just("[*]")), max_size=5
    ),
    document=documents,
)
def test_straight_paths_agree_with_the_library(tail, document):
    text = "$" + "".join(tail)
    path = compile_path(text)
    wanted = expected(text, document)
    assert same(path.find(document), wanted)
    assert path.steps is not None
    assert path.singular is ("[*]" not in tail)
    if path.one is not None:
        found = path.one(document)
        assert same([] if found is NOTHING else [found], wanted)


ODD = [None, "text", "", 3, 0.5, True, [], {}, [[1, [2]], "ab", None], {"a": "text"}, {"a": None}, ({"a": 1}, 2)]


@pytest.mark.parametrize("document", ODD, ids=repr)
@pytest.mark.parametrize(
    "text",
    [
        "$",
        "$.a",
        "$[0]",
        "$[-1]",
        "$[*]",
        "$.*",
        "$[0][1]",
        "$[:]",
        "$[::-1]",
        "$..a",
        "$.a.b",
        "$.a[0]",
        "$.a.`len`",
        "$[?(@.a)]",
        "$[?(@==2)]",
        "$.`keys`",
        "$.`sorted`",
        "$.'*'",
        "$.a.1",
    ],
)
def test_odd_documents_give_what_the_library_gives(text, document):
    wanted, got = expected(text, document), actual(text, document)
    assert isinstance(got, type) if isinstance(wanted, type) else same(got, wanted)


def test_an_index_into_a_text_finds_nothing():
    assert compile_path("$.a[0]").find({"a": "text"}) == []


def test_a_nodes_own_missing_constructor_argument_is_not_a_wildcard():
    assert compile_path("$.'*'").find({"*": 1, "b": 2}) == [1]


def test_field_names_are_data_not_code():
    name = "a'] + __import__('os').system('false') + d['\\\n\"x"
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    assert compile_path(f"$['{escaped}']").find({name: 1}) == [1]


@pytest.mark.parametrize(
    ("text", "message", "column", "hint"),
    [
        ("", "the path is empty", 1, "$.runs"),
        ("$.a[", "ends too early", 4, ""),
        ("$.a b", "cannot be read from 'b'", 5, ""),
        ("$.`foo`", "unknown function", 3, "`len`"),
        ("$.a & $.b", "& between paths", 5, "&&"),
        ("$&null+null", "& between paths", 2, "&&"),
        ("$.`split(`", "not well formed", 3, "`split("),
        ("$.a.`sub(/(/, x)`", "not valid", 5, ""),
        ("$.a[?(@.b =~ '(?=a)')]", "not a valid RE2 pattern", 11, "lookahead"),
        ("$.a[?(@.b =~ 3)]", "pattern in quotes", 1, ""),
        ("$" + ".a" * MAX_LENGTH, f"longer than {MAX_LENGTH}", 1, ""),
        ("$" + "[?(@.a" * 600, "", 1, ""),
    ],
)
def test_a_path_that_cannot_be_compiled_says_where_and_what_to_do(text, message, column, hint):
    with pytest.raises(PathError) as caught:
        compile_path(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    if message:
        assert caught.value.column == column


def test_a_path_of_a_thousand_steps_compiles_and_finds():
    document: dict[str, Any] = {"a": 1}
    for _ in range(999):
        document = {"a": document}
    assert compile_path("$" + ".a" * 1000).find(document) == [1]


def test_filters_in_filters_work_as_deep_as_people_write_them():
    assert compile_path("$" + "[?(@.a" * 40 + ")]" * 40).find({"a": 1}) == []
    with pytest.raises(PathError, match="nested too deeply"):
        compile_path("$" + "[?(@.a" * 500 + ")]" * 500)


# --- regular expressions ------------------------------------------------------------------


def test_matches_inside_a_path_go_through_re2():
    path = compile_path("$[?(@.name =~ '^er+or$')].name")
    assert path.find([{"name": "error"}, {"name": "errors"}, {"name": 3}, {}]) == ["error"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["$[?(@ =~ '(a+)+$')]", "$[?(@ =~ '(a+)+$')].`parent`"])
def test_a_catastrophic_pattern_is_harmless(text):
    assert compile_path(text).find(["a" * 5000 + "b"]) == []


def test_sub_replaces_with_groups_through_re2():
    path = compile_path(r"$.a.`sub(/(\\w+)@(\\w+)/, \\2 at \\1)`")
    assert path.find({"a": "me@home"}) == ["home at me"]
    assert compile_path("$.a.`sub(/x/, y)`").find({"a": "abc"}) == []


# --- budget -------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    document: Any = {"a": 1}
    for _ in range(levels):
        document = {"a": document}
    return document


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["$..*..*..*..*", "$..*..*..*.`parent`"])
def test_a_path_that_multiplies_is_stopped(text):
    with pytest.raises(PathError, match="visits more than"):
        compile_path(text).find(deep(400))


@pytest.mark.timeout(20)
def test_a_path_that_doubles_is_stopped():
    with pytest.raises(PathError, match="visits more than"):
        compile_path("$" + ".(a|a)" * 40).find(deep(50))


def test_arithmetic_that_would_fill_memory_is_stopped():
    with pytest.raises(PathError, match="longer than"):
        compile_path("$.a * 1000000000").find({"a": "xy"})
    assert compile_path("$.a * 3").find({"a": "xy"}) == ["xyxyxy"]


def test_descending_a_document_of_any_depth_does_not_recurse():
    assert compile_path("$..b").find(deep(5000)) == []


# --- data that is wanting -----------------------------------------------------------------


def wanting() -> dict[str, Any]:
    run = {"id": "r", "inputs": Missing("inputs", "not sent"), "outputs": {"a": 1}, "tags": ["x"]}
    return {"runs": [run], "run": run, "feedback": Missing("feedback", "not fetched"), "payload": {"runs": [run]}}


@pytest.mark.parametrize(
    "text",
    [
        "$.runs[0].inputs.q",
        "$.runs[*].inputs.q",
        "$.run.inputs[0]",
        "$.run.inputs[*]",
        "$.run.inputs[0:1]",
        "$.run.inputs['a','b']",
        "$.run.inputs.`len`",
        "$.run.inputs.`keys`",
        "$.run.inputs.`sorted`",
        "$.run.inputs.`split(a, 0, -1)`",
        "$.run.inputs.`sub(/a/, b)`",
        "$.run.inputs[?(@.a)]",
        "$.runs[?(@.inputs.q == 1)].id",
        "$.runs[?(@.inputs == 1)].id",
        "$.runs[?(@.inputs == null)].id",
        "$.runs[?(@.inputs =~ 'x')].id",
        "$.runs[?(@.inputs != @.outputs)].id",
        "$.feedback.key.score",
        "$..q",
        "$.payload.runs[0].inputs.q",
        "$.run.inputs + 1",
        "$.run.inputs.q.`parent`",
        "$.run.inputs[0].`parent`",
    ],
)
def test_looking_into_wanting_data_raises(text):
    with pytest.raises(DataMissing):
        compile_path(text).find(wanting())


@pytest.mark.parametrize("text", ["$.run.inputs", "$.runs[*].inputs", "$.runs[0].inputs", "$.run['inputs']"])
def test_wanting_data_as_a_final_value_is_returned(text):
    document = wanting()
    [found] = compile_path(text).find(document)
    assert found is document["run"]["inputs"]


def test_paths_beside_wanting_data_find_what_is_there():
    assert compile_path("$.runs[*].tags[*]").find(wanting()) == ["x"]
    assert compile_path("$.runs[?(@.outputs.a == 1)].id").find(wanting()) == ["r"]


NONE, IN, OUT, FEEDBACK = frozenset(), frozenset({"inputs"}), frozenset({"outputs"}), frozenset({"feedback"})


@pytest.mark.parametrize(
    ("text", "needs", "shallow"),
    [
        ("$.runs[*].status", NONE, NONE),
        ("$.runs[*].inputs.question", IN, IN),
        ("$.runs[0].inputs", IN, IN),
        ("$.run.outputs.answer", OUT, OUT),
        ("$.payload.runs[*].inputs", IN, IN),
        ("$.payload.feedback", NONE, NONE),
        ("$.feedback.correctness.score", FEEDBACK, FEEDBACK),
        ("$.feedbacks[*].score", FEEDBACK, FEEDBACK),
        ("$.feedback_stats.user_score.avg", NONE, NONE),
        ("$.run", IN | OUT, NONE),
        ("$.runs[*]", IN | OUT, NONE),
        ("$.runs[*].*", IN | OUT, IN | OUT),
        ("$.runs[*]['inputs','outputs'].x", IN | OUT, IN | OUT),
        ("$", IN | OUT | FEEDBACK, NONE),
        ("$.*", IN | OUT | FEEDBACK, FEEDBACK),
        ("$..score", IN | OUT | FEEDBACK, IN | OUT | FEEDBACK),
        ("$.runs[?(@.inputs.a == 1)].status", IN, IN),
        ("$.runs[?(@.status == 'x')].outputs.a", OUT, OUT),
        ("$.runs[?(@.status == $.feedback.a)].status", FEEDBACK, FEEDBACK),
        ("$.run.`parent`", IN | OUT | FEEDBACK, IN | OUT | FEEDBACK),
        ("$.run.inputs | $.feedback", IN | FEEDBACK, IN | FEEDBACK),
        ("$.run where inputs", IN | OUT, IN),
        ("$.run.`str()`", IN | OUT, IN | OUT),
        ("$.vars.inputs", NONE, NONE),
    ],
)
def test_needs_are_worked_out_at_load(text, needs, shallow):
    path = compile_path(text)
    assert path.needs == needs
    assert path.shallow_needs == shallow


@settings(max_examples=60, deadline=None)
@given(text=paths.map(lambda text: text.replace("a", "run").replace("c", "inputs")).filter(parses))
def test_a_path_without_needs_never_meets_wanting_data(text):
    path = compile_path(text)
    if path.needs:
        return
    try:
        found = path.find(wanting())
    except DataMissing:
        pytest.fail(f"{text} met data it does not need")
    except Exception:  # noqa: BLE001 - odd data raises as the library does
        return
    assert not any(isinstance(value, Missing) for value in found)


def test_first_field_names_what_a_path_starts_from():
    assert compile_path("$.runs[0].x").first_field == "runs"
    assert compile_path("$['runs']").first_field == "runs"
    assert compile_path("$..x").first_field is None
    assert compile_path("$[0]").first_field is None


def test_repr_shows_the_source():
    assert "$.a" in repr(compile_path("$.a"))


@pytest.mark.parametrize("depth", [10, 11, 25])
def test_a_path_may_have_more_wildcards_than_python_nests_blocks(depth):
    value = "found"
    for _ in range(depth):
        value = [value, "other"] if value == "found" else [value]
    path = "$.v" + "[*]" * depth
    assert compile_path(path).find({"v": value}) == ["found", "other"]
    source = Source("rules.yaml")
    made = compile_filter([{"path": path, "eq": "other"}], ("filters",), source, Templates(Vocabulary({})))
    assert not source.problems
    assert made.check({"v": value}) is Truth.TRUE
    assert made.check({"v": []}) is Truth.FALSE

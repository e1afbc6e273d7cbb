"""YAML by the 1.2 core schema: what a scalar means, where things stand, what is refused."""

import json
import math
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import load_config
from engine.config.yaml import compose as yamlcompose
from engine.config.yaml import read as yaml12
from engine.config.yaml.compose import MAX_DEPTH
from engine.config.yaml.read import MAX_BYTES, read_yaml
from engine.config.yaml.scalars import resolve_plain
from engine.core.errors import ConfigError


@pytest.fixture(autouse=True, params=["libyaml", "pure"])
def parser(request, monkeypatch):
    """Both of PyYAML's parsers: libyaml's, where it reads a text, and the one in Python."""
    if request.param == "pure":
        monkeypatch.setattr(yamlcompose, "LIBYAML", None)


def tree_of(text):
    parsed = read_yaml(text, "c.yaml")
    assert parsed.source.problems == []
    return parsed.tree


def problems_of(text):
    try:
        return [str(problem) for problem in read_yaml(text, "c.yaml").source.problems]
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


# The table of YAML 1.2.2, section 10.3.2, and what 1.1 would have made something else of.
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("null", None), ("Null", None), ("NULL", None), ("~", None),
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False), ("FALSE", False),
        ("0", 0), ("-19", -19), ("+3", 3), ("010", 10), ("0o7", 7), ("0o17", 15), ("0x3A", 58), ("0xff", 255),
        ("0.", 0.0), ("-0.0", 0.0), (".5", 0.5), ("+12e03", 12000.0), ("-2E+05", -200000.0), ("1e3", 1000.0),
        (".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf),
    ],
)  # fmt: skip
def test_core_schema_resolves(written, value):
    found = tree_of(f"[{written}]")[0]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("written", [".nan", ".NaN", ".NAN"])
def test_core_schema_knows_not_a_number(written):
    assert math.isnan(tree_of(f"[{written}]")[0])


@pytest.mark.parametrize(
    "text",
    [
        "no", "No", "NO", "yes", "Yes", "on", "On", "off", "Off", "y", "n",
        "2024-04-05", "2024-04-05T01:28:54Z", "1:30", "190:20:30", "1_000", "0b11", "0o8", "-0x1F", "0X1F",
        "nULL", "tRUE", ".Nan", ".iNF", "1e", "1.2.3", "+", ".", "1.5.6.7", "=", "==",
    ],
)  # fmt: skip
def test_what_only_yaml_1_1_would_convert_stays_text(text):
    assert tree_of(f"a: {text}") == {"a": text}


def test_quoted_scalars_are_text_whatever_they_look_like():
    assert tree_of("""["1", 'true', "null", '', !!str 010]""") == ["1", "true", "null", "", "010"]


def test_keys_that_yaml_1_1_would_convert_are_text():
    assert tree_of("on: 1\nno: 2\ny: 3") == {"on": 1, "no": 2, "y": 3}


def test_json_is_yaml():
    value = {"a": [1, 2.5, None, True, 'x\n"y" ü \U0001f600'], "b": {}}
    assert tree_of(json.dumps(value)) == value
    assert tree_of(json.dumps(value, ensure_ascii=False)) == value


def test_positions_have_line_column_key_and_style():
    marks = read_yaml('a:\n  - b: "x"\n    c: |\n      text\n', "c.yaml").source.marks
    value, block = marks[("a", 0, "b")], marks[("a", 0, "c")]
    assert (value.line, value.column, value.key_line, value.key_column, value.style) == (2, 8, 2, 5, '"')
    assert (block.line, block.column, block.key_line, block.key_column, block.style) == (3, 8, 3, 5, "|")
    assert (marks[()].line, marks[("a", 0)].line, marks[("a", 0)].key_line) == (1, 2, 0)


def test_a_byte_order_mark_does_not_shift_the_first_line():
    parsed = read_yaml(b"\xef\xbb\xbfa: 1", "c.yaml")
    assert parsed.tree == {"a": 1}
    assert parsed.source.marks[("a",)].key_column == 1


def test_empty_places_differ_from_written_nulls():
    parsed = read_yaml("a:\nb: null\nc: ~\nd: [x, ]\ne:\n  -\n", "c.yaml")
    assert parsed.empty == {("a",), ("e", 0)}


def test_aliases_are_written_out_with_marks_of_their_own():
    parsed = read_yaml("a: &x {k: v}\nb: *x\n", "c.yaml")
    assert parsed.tree == {"a": {"k": "v"}, "b": {"k": "v"}}
    assert parsed.tree["a"] is not parsed.tree["b"]
    assert parsed.source.marks[("b", "k")].line == 1
    assert parsed.source.marks[("b",)].key_line == 2


def test_merging_keeps_what_is_written_and_prefers_the_first_merged():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd:\n  <<: *b\n  z: 4\n"
    tree = tree_of(text)
    assert tree["c"] == {"x": 3, "y": 1, "z": 2}
    assert tree["d"] == {"y": 2, "z": 4}


def test_a_quoted_merge_key_is_a_key():
    assert tree_of('a: {"<<": 1}') == {"a": {"<<": 1}}


def test_merges_nest():
    assert tree_of("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}")["c"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"b{i}: &b{i} [{','.join([f'*b{i - 1}' if i else '*a'] * 10)}]\n" for i in range(12)),
        "m: &m {x: 1}\n"
        + "".join(f"m{i}: &m{i} {{<<: [{','.join([f'*m{i - 1}' if i else '*m'] * 10)}]}}\n" for i in range(30)),
        "a: &a " + "x" * 200_000 + "\nb: [" + "*a," * 2000 + "]",
    ],
    ids=["lists", "merges", "long-text"],
)
def test_an_anchor_bomb_is_refused_in_good_time(text):
    begun = time.monotonic()
    (problem,) = problems_of(text)
    assert "anchors expand to more than " in problem
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: {c: *a}}", "a: &a {<<: *a}", "a: &a {b: &b {<<: *a}}"])
def test_an_alias_of_what_it_stands_in_is_refused(text):
    assert "contains itself" in problems_of(text)[0]


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "? " * 5000])
def test_deep_nesting_is_refused(text):
    assert "levels deep" in problems_of(text)[0]


def test_nesting_through_aliases_is_refused_too():
    chain = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" if i else "a0: &a0 [x]\n" for i in range(MAX_DEPTH + 5))
    assert "levels deep" in problems_of(chain)[0]


def test_nesting_up_to_the_limit_is_read():
    assert tree_of("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))


def test_a_file_too_large_is_refused(monkeypatch):
    assert problems_of("# " + "x" * MAX_BYTES) == ["c.yaml: the file is larger than 20 MB"]
    monkeypatch.setattr(yaml12, "MAX_BYTES", 1000)
    assert tree_of("a: 1 #" + "x" * 994) == {"a": 1}
    assert "larger than" in problems_of("a: 1 #" + "x" * 995)[0]


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "c.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file
    with pytest.raises(ConfigError, match=r"c\.yaml: the file is larger than 20 MB$"):
        load_config(path, environ={})


def test_of_a_pipe_without_end_no_more_is_read_than_a_file_may_have():
    with pytest.raises(ConfigError, match=r"^/dev/zero: the file is larger than 20 MB$"):
        load_config(Path("/dev/zero"), environ={})


def test_what_is_written_is_bounded_by_itself_and_names_no_anchor(monkeypatch):
    monkeypatch.setattr(yamlcompose, "MAX_VALUES", 1000)
    assert len(tree_of("[" + "x," * 999 + "]")) == 999
    assert problems_of("[" + "x," * 1000 + "]") == ["c.yaml:1:2000: the file has more than 1,000 values"]


def test_anchors_are_bounded_by_what_they_add_not_by_the_size_of_the_file(monkeypatch):
    monkeypatch.setattr(yaml12, "MAX_ADDED_VALUES", 100)
    plain = "".join(f"k{number}: [a, b, c]\n" for number in range(200))
    shared = "s: &s {" + ", ".join(f"v{number}: 1" for number in range(9)) + "}\n"
    assert len(tree_of(plain + shared + "a: *s\n" * 1 + "b: {<<: *s}\n")) == 203
    many = "".join(f"m{number}: *s\n" for number in range(60))
    assert "anchors expand to more than 100 values here" in problems_of(plain + shared + many)[0]


def test_every_duplicate_key_is_reported_with_the_line_of_the_first():
    problems = problems_of("a: 1\nb:\n  c: 1\n  c: 2\na: 3\na: 4\n")
    assert [problem.split(":")[1] for problem in problems] == ["4", "5", "6"]
    assert "first on line 3" in problems[0]
    assert "first on line 1" in problems[2]


def test_text_that_would_be_lost_to_a_sign_is_reported():
    assert '"! careful"' in problems_of("a: ! careful")[0]
    assert '"& then"' in problems_of("a: & then")[0]
    assert '"&now then"' in problems_of("a: &now then")[0]


def test_a_directive_and_document_marks_are_fine():
    assert tree_of("%YAML 1.2\n---\na: no\n...\n") == {"a": "no"}


def test_windows_line_ends_are_fine():
    assert tree_of("a: 1\r\nb:\r\n  - c\r\n") == {"a": 1, "b": ["c"]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a: \xff", "c.yaml:1:4: the byte 0xff is not UTF-8"),
        (b"# \xc3\xa9\nab: \xe9", "c.yaml:2:5: the byte 0xe9 is not UTF-8"),
        ("a: 1".encode("utf-16"), "c.yaml:1:1: the file is UTF-16"),
        (b"a: b\0", "c.yaml:1:5: the character U+0000"),
        (b"a: b\nc\x1b[31m: d", "c.yaml:2:2: the character U+001B"),
    ],
)
def test_what_is_not_text_is_refused_with_its_place(data, words):
    (problem,) = problems_of(data)
    assert problem.startswith(words)
    assert "\x1b" not in problem


def test_a_numeral_that_cannot_be_held_is_reported():
    assert "digits" in problems_of("a: " + "9" * 5000)[0]
    assert "larger than any number" in problems_of("a: 1e999")[0]


@given(st.text(max_size=30))
def test_resolving_a_scalar_never_fails_but_for_its_size(text):
    assert resolve_plain(text) is None or isinstance(resolve_plain(text), (str, bool, int, float))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)


@given(_JSON)
def test_any_json_reads_back_as_itself(value):
    """JSON is a part of YAML 1.2, but for keys of more than 1024 characters."""
    text = json.dumps(value)
    assert tree_of(f"a: {text}") == {"a": value}


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("ab01 :-\n\t[]{},\"'#&*!|>%@`\\$?.~<é\u2028"), max_size=60))
def test_reading_any_text_ends_in_data_or_in_a_report_with_a_place(text):
    try:
        parsed = read_yaml(text, "c.yaml")
        problems = parsed.source.problems
    except ConfigError as error:
        problems = error.problems
        assert problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)


@given(st.binary(max_size=80))
def test_reading_any_bytes_ends_in_data_or_in_a_report(data):
    assert isinstance(problems_of(data), list)


@given(st.text(alphabet=st.sampled_from("ab1 :-\n[]{},\"'#|>\\"), max_size=40))
def test_what_pyyaml_reads_as_texts_alone_reads_the_same_here(text):
    """Against PyYAML's own base loader, which makes text of every scalar."""
    try:
        expected = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, TypeError):
        return
    try:
        parsed = read_yaml(text, "c.yaml")
    except ConfigError:
        return
    if not parsed.source.problems:
        assert _as_text(parsed.tree) == _as_text(expected)


def _as_text(value):
    """Scalars that the core schema converts cannot be compared as written; the rest can."""
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, str):
        value = resolve_plain(value)
    return value if isinstance(value, str) else "" if value is None else repr(float(value))

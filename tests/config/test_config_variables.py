"""Variables and files in the values of a configuration."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.variables import MASK, interpolate
from engine.config.yaml.read import read_yaml
from engine.core.env_file import MAX_FILE_BYTES
from engine.core.positions import Source

ENVIRON = {"NAME": "value", "EMPTY": "", "JINJA": "p{%w{{x}}", "NESTED": "${NAME}", "QUOTE": "a: [b"}


def run(tree, environ=ENVIRON, base=None):
    source = Source("c.yaml")
    found = interpolate(tree, source, environ, base)
    unset = [one.problem for one in found.unset]
    return found, [problem.message for problem in (*source.problems, *unset)]


def value_of(text, environ=ENVIRON, base=None):
    found, problems = run({"x": text}, environ, base)
    assert problems == []
    return found.tree["x"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${NAME}", "value"),
        ("a-${NAME}-${NAME}", "a-value-value"),
        ("${NONE:-default}", "default"),
        ("${NAME:-default}", "value"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${NONE:-#llm-quality}", "#llm-quality"),
        ("${NONE:-https://a.b/c?d:-e}", "https://a.b/c?d:-e"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME $ {NAME} $.runs[*]", "$NAME $ {NAME} $.runs[*]"),
        ("${NESTED}", "${NAME}"),
        ("${QUOTE}", "a: [b"),
    ],
)
def test_references_are_replaced_once(text, value):
    """As in a shell, ``:-`` also stands in for a variable set to nothing; values are never looked at again."""
    assert value_of(text) == value


def test_only_texts_are_touched_and_only_in_values():
    tree = {"a": [1, None, True, "${NAME}"], "b": {"c": "${NAME}"}}
    assert run(tree)[0].tree == {"a": [1, None, True, "value"], "b": {"c": "value"}}


def test_a_reference_in_a_key_is_reported():
    assert "variables stand in values only" in run({"${NAME}": 1})[1][0]


def test_what_comes_from_a_variable_is_a_secret_but_under_rules_and_vars():
    tree = {"secrets": ["${NAME}"], "rules": {"a": "${JINJA}"}, "vars": {"b": "${NESTED}"}}
    found, _ = run(tree)
    assert found.masked == {"value"}
    assert found.shown == {"secrets": [MASK], "rules": {"a": "p{%w{{x}}"}, "vars": {"b": "${NAME}"}}


@pytest.mark.parametrize("section", ["langsmith", "slack"])
@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("${A}", "https://langsmith.example/api", "https://langsmith.example/api"),
        ("https://${A}/api", "langsmith.example", "https://langsmith.example/api"),
        ("${A}", "https://user:pass@langsmith.example", MASK),
        ("https://user:${A}@langsmith.example", "pass", f"https://user:{MASK}@langsmith.example"),
        ("${A}", "https://langsmith.example?token=x", MASK),
    ],
)
def test_the_engines_own_addresses_are_shown_unless_a_secret_may_be_in_them(section, text, address, shown):
    """Why: docs/decisions/0010."""
    found, _ = run({section: {"endpoint": text}}, {"A": address})
    assert found.shown == {section: {"endpoint": shown}}
    assert found.masked == (frozenset() if MASK not in shown else {address})


def test_other_addresses_are_masked():
    tree = {"routes": {"a": {"actions": [{"forward_webhook": {"url": "${NAME}"}}]}}}
    assert run(tree)[0].masked == {"value"}


def test_a_default_that_was_used_is_no_secret():
    found, _ = run({"a": "${NONE:-plain} and ${NAME}"})
    assert found.masked == {"value"}
    assert found.shown == {"a": f"plain and {MASK}"}


def test_an_empty_value_is_never_masked():
    found, _ = run({"a": "${EMPTY}"})
    assert found.masked == frozenset()
    assert found.shown == {"a": ""}


def test_every_missing_variable_is_reported_at_once():
    found, problems = run({"a": "${ONE} ${TWO}", "b": ["${THREE}"]})
    assert [problem.split()[3] for problem in problems] == ["ONE", "TWO", "THREE"]
    assert found.failed == {("a",), ("b", 0)}


def test_a_missing_variable_near_a_set_one_is_named():
    source = Source("c.yaml")
    [unset] = interpolate({"a": "${SLACK_TOKN}"}, source, {"SLACK_TOKEN": "x"}).unset
    assert "did you mean 'SLACK_TOKEN'?" in unset.problem.hint
    assert ":-" not in unset.problem.hint


@pytest.mark.parametrize(
    ("tree", "is_secret"),
    [
        ({"secrets": ["${A}"]}, True),
        ({"signing_secrets": "${A}"}, True),
        ({"langsmith": {"api_key": "${A}"}}, True),
        ({"slack": {"token": "${A}"}}, True),
        ({"vars": {"pagerduty": "${PAGERDUTY_ROUTING_KEY}"}}, True),
        ({"vars": {"password": "x${A}"}}, True),
        ({"routes": {"*": {"actions": [{"forward_webhook": {"headers": {"X-API-Key": "${A}"}}}]}}}, True),
        ({"routes": {"*": {"actions": [{"post_to_slack": {"webhook_url": "${A}"}}]}}}, True),
        ({"routes": {"*": {"actions": [{"post_to_slack": {"channel": "${CHANNEL}"}}]}}}, False),
        ({"routes": {"token-usage": {"actions": [{"log": {"message": "${A}"}}]}}}, False),
        ({"vars": {"max_tokens": "${A}", "keyword": "${A}"}}, False),
        ({"langsmith": {"endpoint": "${HOST}"}}, False),
    ],
)
def test_no_default_is_offered_for_a_secret(tree, is_secret):
    [unset] = interpolate(tree, Source("c.yaml"), {}).unset
    assert (":-" in unset.problem.hint) is not is_secret
    assert ("${file:/run/secrets/" in unset.problem.hint) is is_secret
    invalid = json.loads(json.dumps(tree).replace('}"', '-fallback}"'))
    source = Source("c.yaml")
    interpolate(invalid, source, {})
    assert all((":-" in problem.hint) is not is_secret for problem in source.problems)
    assert source.problems


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("LANGSMITH_WEBHOOK_SECRET", "LANGSMITH_ENDPOINT", ""),
        ("LANGSMITH_WEBHOOK_SECRET", "LANGSMITH_API_KEY", ""),
        ("LANGSMITH_WEBHOOK_SECRET", "LANGSMITH_WEBHOK_SECRET", "LANGSMITH_WEBHOK_SECRET"),
        ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY", "LANGCHAIN_API_KEY"),
        ("SLACK_TOKEN", "SLACK_BOT_TOKEN", "SLACK_BOT_TOKEN"),
        ("SLAK_BOT_TOKEN", "SLACK_BOT_TOKEN", "SLACK_BOT_TOKEN"),
        ("TOKEN", "TOKN", "TOKN"),
        ("SLACK_CHANNEL", "SLACK_ENDPOINT", ""),
    ],
)
def test_a_first_word_in_common_makes_no_names_alike(name, known, meant):
    [unset] = interpolate({"a": f"${{{name}}}"}, Source("c.yaml"), {known: "x"}).unset
    assert (f"did you mean {meant!r}?" in unset.problem.hint) == bool(meant)
    assert ("did you mean" in unset.problem.hint) == bool(meant)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${", "never closed"),
        ("a ${NAME", "never closed"),
        ("${}", "is not a variable"),
        ("${1A}", "is not a variable"),
        ("${NA ME}", "is not a variable"),
        ("${NAME-x}", "is not a variable"),
        ("${NAME:?x}", "is not a variable"),
        ("${A:-${B}}", "inside another's default"),
        ("${file:${A}}", "in the path of ${file:…}"),
        ("${file:/run/${A}}", "in the path of ${file:…}"),
    ],
)
def test_a_malformed_reference_is_reported(text, words):
    assert words in run({"a": text})[1][0]


def test_a_file_is_read_without_its_last_line_end(tmp_path):
    (tmp_path / "unix").write_bytes(b"s3cret\n")
    (tmp_path / "windows").write_bytes(b"s3cret\r\n")
    (tmp_path / "bare").write_bytes(b" two\nlines ")
    assert value_of("${file:unix}", base=tmp_path) == "s3cret"
    assert value_of(f"${{file:{tmp_path}/windows}}", base=tmp_path) == "s3cret"
    assert value_of("${file:bare}", base=tmp_path) == " two\nlines "


def test_what_comes_from_a_file_is_a_secret(tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    found, _ = run({"a": "Bearer ${file:token}"}, base=tmp_path)
    assert found.masked == {"s3cret"}
    assert found.shown == {"a": f"Bearer {MASK}"}


def test_a_file_that_cannot_be_read_is_reported_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    names = ["missing", "pipe", "large", "binary", ".", "with\0nul", "x" * 5000, "", "missing:-default"]
    _, problems = run([f"${{file:{name}}}" for name in names], base=tmp_path)
    assert len(problems) == len(names)
    assert all(problem.startswith("cannot read") for problem in problems)


def test_without_an_environment_placeholders_stand_for_values():
    found, problems = run({"a": "${TOKEN}", "b": "${NAME:-default}", "c": "${file:/etc/passwd}"}, environ=None)
    assert problems == []
    assert found.tree == {"a": "<TOKEN>", "b": "default", "c": "<file:/etc/passwd>"}
    assert found.masked == frozenset()


def test_without_a_folder_no_file_is_read():
    assert value_of("${file:/etc/hostname}") == "<file:/etc/hostname>"


def params(text):
    return {"routes": {"alert": {"actions": [{"log": {"message": text}, "when": [{"expr": text}]}]}}}


def test_below_routes_a_text_remembers_what_of_it_is_a_value():
    """A password may hold ``{%``; in a parameter it must not become a template."""
    found, problems = run(params("key ${JINJA} {{ run.id }}"))
    assert problems == []
    text = found.tree["routes"]["alert"]["actions"][0]["log"]["message"]
    assert text == "key p{%w{{x}} {{ run.id }}"
    assert text.written == "key ${JINJA} {{ run.id }}"
    assert "p{%w" not in text.source
    assert found.masked == {ENVIRON["JINJA"]}


def test_elsewhere_and_without_a_variable_a_text_is_nothing_but_one():
    found, _ = run({"vars": {"a": "${NAME}"}, "routes": {"alert": {"name": "$${NAME}"}}})
    assert type(found.tree["vars"]["a"]) is str
    assert type(found.tree["routes"]["alert"]["name"]) is str


def test_the_place_of_a_reference_in_a_block_of_text_is_its_line():
    parsed = read_yaml("a: |\n  one\n  two ${NONE}\nb: 'x ${NONE}'\n", "c.yaml")
    [unset] = interpolate(parsed.tree, parsed.source, {}).unset
    assert (unset.problem.line, unset.problem.column) == (3, 1)
    assert unset.places == (("a",), ("b",))
    assert "(also used in line 4)" in unset.problem.message


def test_a_flood_of_values_is_stopped():
    _, problems = run({"a": ["${BIG}" * 50] * 50}, {"BIG": "x" * 100_000})
    assert any("MiB" in problem for problem in problems)


@given(st.text(alphabet="${}:-ANfile/ .", max_size=40))
def test_any_text_is_replaced_or_reported(text):
    found, problems = run({"a": text}, {"A": "x", "N": "${A}"})
    assert problems or isinstance(found.tree["a"], str)


@given(st.text(max_size=40))
def test_a_text_escaped_comes_back_as_itself(text):
    """Whatever a dump writes with ``$${`` for ``${`` is read back unchanged."""
    assert value_of(text.replace("${", "$${")) == text


def test_the_files_it_reads_are_named_also_where_they_cannot_be_read(tmp_path):
    (tmp_path / "key").write_text("k")
    source = Source("c.yaml")
    tree = {"a": "${file:key}", "b": ["${file:sub/none} ${file:key}"], "c": "${N}"}
    found = interpolate(tree, source, {"N": "n"}, tmp_path)
    assert found.files == (tmp_path / "key", tmp_path / "sub" / "none")
    assert [one.reference for one in found.unset] == ["file:sub/none"]
    assert interpolate(tree, source, None, tmp_path).files == ()
    assert interpolate(tree, source, {"N": "n"}, None).files == ()

"""Conditions in the style of other tools: the message's first suggestion loads, and means what was meant.

The tables in ``dialects`` have where a condition comes from, the condition, and one of ours that means the same.
Each is put into a configuration; what the message says is done to it; what then loads is compared with
ours on runs of all sorts.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.document import Fetched, build_document
from engine.core.errors import ConfigError
from engine.core.event import parse_event
from engine.core.positions import Source
from engine.core.truth import Truth
from engine.core.vocabulary import Vocabulary
from engine.rules.conditions import Filter, compile_filter
from engine.rules.conditions.operators import OPERATORS
from engine.rules.dialects import misspelt, operator_of
from engine.rules.lint.configuration import lint
from engine.rules.reload import Loader
from engine.rules.templates import Templates

FOLDER = Path(__file__).parent / "dialects"
RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
VARS = "{names: [chat-bot, other], name: chat-bot, limit: 10, bot: bot, pattern: ^chat}"
HEAD = f"secrets: [s3cret-value]\nvars: {VARS}\nroutes:\n"


def rows() -> list[Any]:
    found = []
    for name in ("given.tsv", "more.tsv"):
        lines = (FOLDER / name).read_text().splitlines()
        cells = [line.split("\t") for line in lines if line and not line.startswith("#")]
        found += [pytest.param(*row, id=f"{row[0]}") for row in cells]
    return found


def configuration(item: str) -> str:
    return f"{HEAD}  {RULE}:\n    filters:\n      {item}\n    actions: [{{log: {{message: x}}}}]\n"


def messages(path: Path) -> list[Any]:
    """Everything that is said of a configuration."""
    try:
        return [remark for remark in lint(Loader(path, {}).load()) if "trying" not in remark.message]
    except ConfigError as error:
        return list(error.problems)


# --- doing what a message says ------------------------------------------------------------


def braces(text: str) -> str:
    """The mapping in braces at the beginning of a text."""
    depth, quote = 0, ""
    for place, mark in enumerate(text):
        if quote:
            quote = "" if mark == quote and text[place - 1] != "\\" else quote
        elif mark in "\"'":
            quote = mark
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(mark, 0) if not quote else 0
        if depth == 0:
            return text[: place + 1]
    raise AssertionError(text)


def followed(raw: Any, message: str, hint: str) -> Any:
    """A condition after the first suggestion of a hint."""
    if found := re.search(r"(?:write (?:- )?|a condition of this kind is )(?=\{)", hint):
        return yaml.safe_load(braces(hint[found.end() :]))
    if found := re.match(r"did you mean '([^']+)'\?", hint):
        [wrong] = re.findall(r"'([^']*)'", message)
        return {found[1] if str(key) == wrong else key: value for key, value in raw.items()}
    if found := re.match(r"write (\$\S+?)(?=[;,]? |[;,]?$)", hint):
        return {**raw, "path": found[1]}
    if found := re.search(r"write (\w+: .+)$", hint):
        return {**raw, **yaml.safe_load(f"{{{found[1]}}}")}
    raise AssertionError(f"nothing to do in {hint!r}")


def corrected(item: str, tmp_path: Path) -> Any:
    """A condition after what was said of it was done, if anything was."""
    path = tmp_path / "written.yaml"
    path.write_text(configuration(item))
    said = messages(path)
    assert len(said) <= 1, said
    try:
        [raw] = yaml.safe_load(item)
    except yaml.YAMLError:
        raw = None
    return followed(raw, said[0].message, said[0].hint) if said else raw


# --- what conditions come to --------------------------------------------------------------

BASE = {
    "id": "r0", "name": "chat-bot", "status": "error", "run_type": "llm", "error": "failed", "tags": ["a", "b", "prod"],
    "start_time": "2026-09-01T10:00:00", "end_time": "2026-09-01T10:00:05", "extra": {"metadata": {"env": "prod"}},
    "parent_run_id": None, "total_tokens": 50, "inputs": {"q": "x"}, "outputs": {"a": "y"},
    "feedback_stats": {"user_score": {"avg": 0.9, "n": 1}},
}  # fmt: skip
RUNS: list[dict[str, Any]] = [
    {},
    {"status": "success", "error": None},
    {"status": "pending", "error": None, "name": "other"},
    {"status": "ERROR", "name": "CHAT-x"},
    {"name": "chat"},
    {"name": "a chat x"},
    {"name": "other-bot", "run_type": "chain"},
    {"end_time": "2026-09-01T10:00:10"},
    {"end_time": "2026-09-01T10:00:30", "run_type": "tool"},
    {"end_time": "2026-09-01T10:00:30", "status": "success", "error": None, "tags": ["b"]},
    {"end_time": "2026-09-01T10:00:01.5", "tags": ["a"]},
    {"end_time": "2026-09-01T10:00:01", "tags": []},
    {"tags": ["a", "llm"], "total_tokens": 500},
    {"tags": ["ab", "ac"], "extra": {"metadata": {"env": "dev"}}},
    {"parent_run_id": "p", "feedback_stats": {"user_score": {"avg": 0.2, "n": 1}}},
    {"start_time": "2026-09-01T08:00:00", "end_time": "2026-09-01T08:00:20"},
    {"start_time": "2026-09-01T10:59:55", "end_time": "2026-09-01T11:00:00"},
]
RECEIVED = 1_788_260_400.0  # 2026-09-01T11:00:00Z


@cache
def documents() -> list[dict[str, Any]]:
    made = []
    for change in RUNS:
        payload = {"rule_id": RULE, "start_time": "2026-09-01T10:00:00+00:00", "end_time": "2026-09-01T11:00:00+00:00"}
        event = parse_event(orjson.dumps({**payload, "runs": [{**BASE, **change}]}), RECEIVED)
        variables = {"names": ["chat-bot", "other"], "name": "chat-bot", "limit": 10, "bot": "bot", "pattern": "^chat"}
        document = build_document(event, 0, Fetched(feedback={}), web_url=None, vars=variables)
        made.append({**document, "route": {"name": "x", "key": RULE}})
    return made


def loaded(condition: Any, tmp_path: Path, *, quiet: bool) -> Filter:
    """The filter of a condition, out of a whole configuration; ``quiet``: about which nothing is to be said."""
    path = tmp_path / "loaded.yaml"
    path.write_text(configuration("- " + yaml.safe_dump(condition, default_flow_style=True, width=10_000).strip()))
    said = messages(path)
    assert not quiet or said == [], (condition, said)
    [route] = Loader(path, {}).load().router.routes.values()
    return route.filter


def truths(condition: Any, tmp_path: Path, *, quiet: bool = True) -> list[Truth]:
    filter_ = loaded(condition, tmp_path, quiet=quiet)
    return [filter_.check(document) for document in documents()]


@pytest.mark.parametrize(("source", "item", "meant"), rows())
def test_the_first_suggestion_means_what_was_meant(source: str, item: str, meant: str, tmp_path: Path) -> None:
    wanted = truths(yaml.safe_load(meant), tmp_path, quiet=False)
    assert Truth.TRUE in wanted, "some run has to satisfy it"
    assert set(wanted) != {Truth.TRUE}, "and some not"
    condition = corrected(item, tmp_path)
    assert [truth is Truth.TRUE for truth in truths(condition, tmp_path)] == [
        truth is Truth.TRUE for truth in wanted
    ], condition


def test_the_tables_are_whole() -> None:
    found = rows()
    assert len(found) > 300
    assert len({row.id for row in found}) == len(found)


# --- slips of the pen, and what cannot be translated --------------------------------------


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("conatins", "contains"), ("exits", "exists"), ("lenght", "length"), ("befor", "before"),
        ("starts_wth", "starts_with"),
        ("nexists", ""), ("ncontains", ""), ("nin", ""), ("nempty", ""), ("not_in2", "not_in"),
        ("gtt", ""), ("lti", ""), ("greaterThan", ""), ("not_eq", ""), ("iin", ""), ("xx", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_slip_is_never_corrected_to_another_meaning(word: str, near: str) -> None:
    assert misspelt(word, OPERATORS) == near


@pytest.mark.parametrize("word", sorted(OPERATORS))
def test_our_own_operators_mean_themselves(word: str) -> None:
    found = operator_of(word)
    assert found is not None
    assert not found.fold
    expected = {"ne": ("eq", True), "not_in": ("in", True)}.get(word, (word, False))
    assert (found.name, found.negated) == expected


@pytest.mark.parametrize(
    "item",
    [
        "- search(\"foo\")", "- {path: \"$.runs[*].status\", nope: error}", "- {path: \"$.runs[*].status\", gtt: 5}",
        "- {foo: bar}", "- {attribute: message, match: contains, value: chat}", "- expr: re.sub('a', 'b', run.name)",
        "- trace_filter: eq(status, \"error\")", "- {status: {const: {deep: 1}}}", "- {name: {of_length: 9}}",
        '- "$.runs[*].name =~ ?"',
    ],
)  # fmt: skip
def test_what_has_no_translation_gets_an_example_that_loads(item: str, tmp_path: Path) -> None:
    path = tmp_path / "written.yaml"
    path.write_text(configuration(item))
    [said] = messages(path)
    assert "write" not in said.hint
    if "{" in said.hint:
        loaded(yaml.safe_load(braces(said.hint[said.hint.index("{") :])), tmp_path, quiet=True)


def test_nested_calls_are_read_once() -> None:
    source = Source("rules.yaml")
    nested = "any(" * 60 + "run.name" + ")" * 60 + " == 'chat'"
    compile_filter([{"expr": nested}], ("filters",), source, Templates(Vocabulary({}, of_rule=True)))
    assert len(source.problems) == 1


VALUES = ["error", "status", "> 10", "{{ vars.name }}", "a*", "", "$.runs[*].name"]
NAMES = [
    "path",
    "expr",
    "eq",
    "not",
    "$and",
    "field",
    "op",
    "value",
    "status",
    "runs",
    "a__in",
    "and",
    "bool",
    "quantifier",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(NAMES),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip
PIECES = (
    "status run.name == != = ( ) [ ] { } ' \" x and or not && || ! in is null none 10 10s . , : | ? // any( contains( "
    "true if startsWith for t => $ @ # `2` /a/ runs[0] runs[*] LIKE -status between * ~ =~ < >= select( else"
)
WORDS = st.lists(st.sampled_from(PIECES.split()), max_size=12)


@settings(max_examples=300, deadline=None)
@given(JSON | WORDS.map(" ".join) | st.text(max_size=30))
def test_whatever_is_written_is_translated_or_not_and_nothing_is_raised(raw: Any) -> None:
    source = Source("rules.yaml")
    compile_filter([raw], ("filters",), source, Templates(Vocabulary({"name": "x"}, of_rule=True)))
    for problem in source.problems:
        if found := re.match(r"write (?=\{)", problem.hint):
            trial = Source("rules.yaml")
            condition = yaml.safe_load(braces(problem.hint[found.end() :]))
            compile_filter([condition], ("filters",), trial, Templates(Vocabulary({"name": "x"}, of_rule=True)))
            assert trial.problems == [], (raw, problem.hint)

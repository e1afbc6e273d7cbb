"""A variable's value is a value, wherever in the file it stands: it is never read as a template, expression, path,
pattern or YAML."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from engine.action.registry import load_installed
from engine.config import Config, parse_config
from engine.core.document import Fetched
from engine.core.errors import ConfigError
from engine.core.event import parse_event
from engine.core.truth import Truth
from engine.core.variables import Filled, Variable, plain
from engine.rules.compile import compile_router
from engine.rules.router import Router
from engine.testing import payloads

RULE = payloads.RULE_ID
#: What templates, expressions, paths, patterns, YAML and this module itself could take for their own.
SIGNS = [
    *("{{", "}}", "{%", "%}", "{#", "#}", "{", "}", "6*7", "run.name", "vars.v", " or true", "not ", "none", "true"),
    *("'", '"', "\\", "`", "/", "*", ".", "..", "[", "]", "(", ")", "$", "${X}", "$${", "@", "|", "&&", "||", "?", "+"),
    *("^", "-", "\n", " ", "\t", ": ", "# ", "- ", "&a", "!b", "%", "endraw", "raw", "-%}", "{%-", "vzq0v", "vzzq0v"),
    *("\x00", "é", "\u2028", "😀", "\udcff", "a", "b", "1", "0", "~", "=="),
]
VALUES = st.lists(st.sampled_from(SIGNS), min_size=1, max_size=6).map("".join) | st.text(min_size=1, max_size=8)


def compiled(routes: str, value: str, head: str = "") -> Router:
    config = config_of(routes, value, head)
    return compile_router(config, REGISTRY)


def config_of(routes: str, value: str, head: str = "") -> Config:
    text = f"secrets: none\nlangsmith: {{api_key: k}}\nslack: {{token: t}}\n{head}routes:\n  {RULE}:\n{routes}"
    return parse_config(text, environ={"X": value, "N": "3"}, base_dir=Path("/nowhere"))


REGISTRY = load_installed()


def event(**of_run: Any) -> Any:
    run = payloads.run(1) | {"name": "the-name"} | of_run
    return parse_event(payloads.to_body(payloads.rule([run])), 1.0)


def sent(router: Router, of: Any = None) -> Any:
    """The first action's parameters, as they are sent."""
    [plan, *_] = router.decide(of or event(), Fetched()).plans
    return plan.action.params(plan.document).model_dump()


def truth(router: Router, of: Any) -> Truth:
    [decision] = router.decide(of, Fetched()).decisions
    return decision.truth


def test_texts_that_differ_in_a_variable_only_are_distinguished() -> None:
    message = "\"{{ '${%s}' ~ run.name }}\""
    routes = """
    filters: [{expr: "run.inputs.a == '${A}'"}, {expr: "run.inputs.a != '${B}'"}]
    actions:
      - {name: one, log: {message: %s}}
      - {name: other, log: {message: %s}}
""" % (message % "A", message % "B")  # noqa: UP031 - braces are the text's own
    config = parse_config(f"secrets: none\nroutes:\n  {RULE}:{routes}", environ={"A": "x", "B": "y"})
    plans = compile_router(config, REGISTRY).decide(event(inputs={"a": "x"}), Fetched()).plans
    assert [plan.action.params(plan.document).model_dump()["message"] for plan in plans] == ["xthe-name", "ythe-name"]


# --- templates ---

#: A parameter with a variable in it, and what comes out of it.
TEXTS = {
    '"${X}"': "{}",
    '"a${X}b"': "a{}b",
    '"${X}${X}"': "{0}{0}",
    '"${X} {{ run.name }}"': "{} the-name",
    '"{{ run.name }}${X}"': "the-name{}",
    '"{{ run.name -}} ${X}{%- if true %} y{% endif %}"': "the-name{} y",
    "\"{{ '${X}' }}\"": "{}",
    "\"<{{ 'a${X}b' ~ run.name }}>\"": "<a{}bthe-name>",
    "'{{ \"${X}\" }}'": "{}",
    "\"{% set x = '${X}' %}{{ x }}{# ${X} #}\"": "{}",
    "\"{% if '${X}' == '${X}' %}same{% endif %}\"": "same",
    '"{% raw %}{{ ${X} }}{% endraw %}"': "{{{{ {} }}}}",
    '"{${X}{ 6*7 }}"': "{{{}{{ 6*7 }}}}",
    "\"{{ {'${X}': 1}['${X}'] }}\"": "1",
    "|-\n                one ${X}\n                two {{ run.name }}": "one {}\ntwo the-name",
    '"$${X} ${X}"': "${{X}} {}",
    '"${UNSET:-{{ run.name }}"': "{{{{ run.name }}",
}


@pytest.mark.parametrize("written", TEXTS)
@settings(max_examples=40)
@given(value=VALUES)
@example(value="a{{ 6*7 }}b")
@example(value="{% endraw %}{{ 6*7 }}")
def test_in_a_template_a_variable_is_its_value(written: str, value: str) -> None:
    assume(value.strip(" ") != "" or written != "${X}")
    expected = TEXTS[written].format(value)
    router = compiled("    actions:\n      - log:\n          message: x\n          fields: {f: 1}\n", value)
    router = compiled(
        f"    actions:\n      - log:\n          message: x\n          fields:\n            f: {written}\n", value
    )
    found = sent(router)["fields"]["f"]
    assert (found if isinstance(found, str) else json.dumps(found)) == expected


#: Where parameters may stand in the file.
BLOCKS = {
    "actions": '    actions: [{log: {message: x, fields: {f: "${X}", l: ["{{ run.name }}${X}"]}}}]\n',
    "anchor": '    - name: a\n      actions: [{log: &p {message: x, fields: {f: "${X}", l: ["{{ run.name }}${X}"]}}}]\n'
    "    - name: b\n      actions: [{log: *p}]\n",
    "list of routes": '    - {actions: [{log: {message: x, fields: {f: "${X}", l: ["{{ run.name }}${X}"]}}}]}\n',
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@given(value=VALUES)
@example(value="a{{ 6*7 }}b")
def test_in_every_block_of_actions(block: str, value: str) -> None:
    assert sent(compiled(block, value))["fields"] == {"f": value, "l": [f"the-name{value}"]}


@given(value=VALUES)
@example(value="a{{ 6*7 }}b")
def test_in_on_dead_and_unmatched(value: str) -> None:
    routes = """    on_dead: [{log: {message: x, fields: {f: "${X}", d: "{{ delivery.id }}${X}"}}}]
    actions: [{log: {message: x}}]
  unmatched: {actions: [{log: {message: "{{ run.name }}${X}"}}]}
"""
    router = compiled(routes, value)
    [dead] = next(route for route in router.routes.values() if route.on_dead).on_dead
    rendered = dead.template.render({"delivery": {"id": "d"}})
    assert rendered["fields"] == {"f": value, "d": f"d{value}"}
    unmatched = next(route for route in router.routes.values() if "unmatched" in route.keys)
    assert unmatched.actions[0].template.render({"run": {"name": "n"}})["message"] == f"n{value}"


@given(value=VALUES)
@example(value="{{ run.id }}")
def test_in_the_key_of_a_throttle_or_digest(value: str) -> None:
    for gate in ("throttle", "digest"):
        router = compiled(
            f'    actions: [{{log: {{message: x}}, {gate}: {{every: 1h, by: "${{X}}{{{{ run.name }}}}"}}}}]\n', value
        )
        [plan, *_] = router.decide(event(), Fetched()).plans
        assert plan.action.gating.by.render({"run": {"name": "n"}}) == f"{value}n"
    with pytest.raises(ConfigError, match="'by' must be a template"):
        compiled('    actions: [{log: {message: x}, throttle: {every: 1h, by: "${X}"}}]\n', "{{ run.name }}")


@given(value=VALUES)
def test_under_vars_it_is_the_value_that_templates_and_expressions_see(value: str) -> None:
    head = 'vars: {v: "${X}", l: ["a${X}"]}\n'
    routes = """    filters: [{expr: "vars.v == run.name"}]
    actions: [{log: {message: x, fields: {f: "{{ vars.v }}", g: "<{{ vars.l[0] }}>"}}}]
"""
    assume(value.isprintable())
    router = compiled(routes, value, head)
    assert sent(router, event(name=value))["fields"] == {"f": value, "g": f"<a{value}>"}


# --- conditions ---


def conditioned(condition: str) -> str:
    return f"    filters: [{condition}]\n    actions: [{{log: {{message: x}}}}]\n"


#: Conditions that hold for a run whose name is the value, and for no other.
EQUAL = [
    "{expr: \"run.name == '${X}'\"}",
    "{expr: 'run.name == \"${X}\"'}",
    "{expr: \"run.name in ['${X}']\"}",
    "{expr: \"('<' ~ run.name ~ '>') == '<${X}>'\"}",
    "{expr: \"{'${X}': true}[run.name] is defined\"}",
    '{path: "$.runs[*].name", eq: "${X}"}',
    '{path: "$.runs[*].name", in: ["${X}"]}',
    "{path: \"$.runs[?(@.name == '${X}')]\", exists: true}",
    "{path: '$.runs[?(@.name == \"${X}\")]', exists: true}",
    '{path: "$.runs[*].name", matches: "^${X}\\\\z"}',
    '{any: [{not: {path: "$.runs[*].name", ne: "${X}"}}]}',
    '{all: [{path: "$.runs[*].name", starts_with: "${X}"}, {path: "$.runs[*].name", ends_with: "${X}"}]}',
]


@pytest.mark.parametrize("condition", EQUAL)
@settings(max_examples=60)
@given(value=VALUES, other=VALUES)
@example(value="x' or true or 'x", other="y")
@example(value=".*", other="y")
@example(value="a|b", other="b")
@example(value="a{{ 6*7 }}b", other="a42b")
def test_in_a_condition_a_variable_is_its_value(condition: str, value: str, other: str) -> None:
    assume(_is_sent(value) and _is_sent(other) and value not in other)
    assume(("in:" not in condition and "eq:" not in condition) or not value.strip()[:1].isdigit())
    router = compiled(conditioned(condition), value)
    assert truth(router, event(name=value)) is Truth.TRUE
    assert truth(router, event(name=other)) is not Truth.TRUE


def _is_sent(value: str) -> bool:
    """Whether a name arrives as it is: half a character is repaired."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


#: Conditions on the key of a run's inputs that the value names.
NAMED = [
    '{path: "$.runs[*].inputs.${X}", eq: here}',
    "{path: \"$.runs[*].inputs['${X}']\", eq: here}",
    "{path: '$.runs[0].inputs[\"${X}\"]', eq: here}",
    '{path: "$.runs[*].inputs.${X}.`this`", eq: here}',
    "{path: \"$.runs[*].inputs['a${X}']\", eq: there}",
    "{expr: \"run.inputs['${X}'] == 'here'\"}",
]


@pytest.mark.parametrize("condition", NAMED)
@settings(max_examples=60)
@given(value=VALUES)
@example(value="a.b")
@example(value="{{ x }}")
def test_in_a_path_a_variable_is_a_name(condition: str, value: str) -> None:
    assume(_is_sent(value) and value != "*")
    router = compiled(conditioned(condition), value)
    assert truth(router, event(inputs={value: "here", "a" + value: "there"})) is Truth.TRUE
    assert truth(router, event(inputs={"z": {"z": "here"}})) is not Truth.TRUE


@pytest.mark.parametrize(
    "condition",
    [
        '{expr: "run.inputs.n > ${N}"}',
        '{expr: "run.inputs.n > (${N})"}',
        '{path: "$.runs[*].inputs.n", gt: "${N}"}',
        '{path: "$.runs[?(@.inputs.n > ${N})]", exists: true}',
        '{path: "$.runs[*].inputs.l[${N}]", exists: true}',
    ],
)
def test_outside_of_quotes_a_variable_is_a_number(condition: str) -> None:
    router = compiled(conditioned(condition), "")
    assert truth(router, event(inputs={"n": 10, "l": [0, 1, 2, 3]})) is Truth.TRUE
    assert truth(router, event(inputs={"n": 2, "l": [0, 1, 2]})) is not Truth.TRUE


@pytest.mark.parametrize("value", ["1e999", "-1e999"])
@pytest.mark.parametrize(
    "condition",
    [
        '{expr: "run.inputs.n > ${X}"}',
        '{path: "$.runs[?(@.inputs.n > ${X})]", exists: true}',
    ],
)
def test_a_number_that_json_does_not_have_is_none_outside_of_quotes(condition: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(conditioned(condition), value)
    [problem] = caught.value.problems
    assert "${X}" in problem.message
    assert value not in problem.message + problem.hint


#: Where no value can stand, and a piece of the text of the error.
NO_VALUE = [
    '{expr: "${X}"}',
    '{expr: "run.${X} > 1"}',
    '{expr: "run.name == ${X}"}',
    '{expr: "run.name${X}"}',
    '{expr: "run.name | ${X}"}',
    '{expr: "run.name is ${X}"}',
    '{expr: "run.latency ${X} 1"}',
    '{path: "${X}", exists: true}',
    '{path: "$.${X}${X}", exists: true}',
    '{path: "$.runs[${X}]", exists: true}',
    '{path: "$.runs[?(@.name ${X})]", exists: true}',
    "{path: \"$.runs[?(@.name =~ '${X}')]\", exists: true}",
    '{path: "$.runs[*].name", matches: "${X}"}',
    '{path: "$.runs[*].name", matches: "a{${X}}"}',
    '{path: "$.runs[*].name", matches: "(?${X})a"}',
    '{path: "$.runs[*].name", matches: "\\\\${X}"}',
]
SOURCES = st.sampled_from(
    ["s3cr3t-value", "run.name == 'x'", "$.runs[*]", "(a|b)", "upper", "defined", "==", "i) or (", "d"]
)


@pytest.mark.parametrize("condition", NO_VALUE)
@given(value=SOURCES)
def test_where_no_value_can_stand_it_is_refused_with_the_form_that_works_and_without_the_value(
    condition: str, value: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(conditioned(condition), value)
    [problem] = caught.value.problems
    assert "${X}" in problem.message
    assert problem.hint or "expected" in problem.message
    if len(value) > 5 and value not in condition:
        assert value not in problem.message + problem.hint


@pytest.mark.parametrize(
    "written",
    [
        '"{{ ${X} }}"',
        '"{{ run.${X} }}"',
        '"{% ${X} %}"',
        '"{{ run.name | ${X} }}"',
        '"{% for ${X} in run.tags %}{% endfor %}"',
    ],
)
def test_in_a_template_too(written: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(f"    actions: [{{log: {{message: {written}}}}}]\n", "s3cr3t-value")
    assert "${X}" in str(caught.value)
    assert "s3cr3t-value" not in str(caught.value)


@pytest.mark.parametrize(
    "condition",
    [
        '{path: "$.runs[*].name", matches: "${X}"}',
        '{path: "$.runs[*].name", matches: ["${X}"]}',
        '{path: "$.runs[?(@.name =~ /${X}/)]", exists: true}',
    ],
)
def test_no_hint_says_to_write_what_is_refused(condition: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(conditioned(condition), "abc")
    [problem] = caught.value.problems
    assert 'matches: "${X}"' not in problem.hint


def test_what_the_hints_say_works() -> None:
    for condition in (
        "{expr: \"run.name == '${X}'\"}",
        "{expr: \"run['${X}'] == 'the-name'\"}",
        '{expr: "run.name == vars.v"}',
    ):
        value = "name" if "run['" in condition else "the-name"
        assert truth(compiled(conditioned(condition), value, 'vars: {v: "${X}"}\n'), event()) is Truth.TRUE


def test_a_condition_is_shown_as_it_is_written() -> None:
    """So that no piece of a secret, escaped in whatever way, is in an explanation."""
    for condition in EQUAL:
        if "eq:" in condition or "in:" in condition or "ne:" in condition or "_with:" in condition:
            continue
        router = compiled(conditioned(condition), "it's \"a\\ s3cret")
        [route] = router.routes.values()
        shown = json.dumps(route.filter.explain({"runs": [], "run": {"name": "n"}}).to_json())
        assert "s3cret" not in shown
        assert "${X}" in shown


# --- everything else ---


@given(value=VALUES)
def test_in_a_default_it_is_a_value_too(value: str) -> None:
    assume("}" not in value and value.strip() and "${" not in value and _is_sent(value) and value.isprintable())
    written = json.dumps("${NONE:-" + value + "}", ensure_ascii=False)
    assert (
        sent(compiled(f"    actions: [{{log: {{message: x, fields: {{f: {written}}}}}}}]\n", "x"))["fields"]["f"]
        == value
    )


def test_in_a_file_it_is_a_value_too(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("a{{ 6*7 }}b\n")
    text = f'secrets: none\nroutes:\n  {RULE}: {{actions: [{{log: {{message: "${{file:pw}} {{{{ run.name }}}}"}}}}]}}\n'
    router = compile_router(parse_config(text, environ={}, base_dir=tmp_path), REGISTRY)
    assert sent(router)["message"] == "a{{ 6*7 }}b the-name"


def test_a_placeholder_stands_wherever_a_variable_may() -> None:
    text = f"""
secrets: none
routes:
  {RULE}:
    filters: [{{expr: "run.latency > ${{N}}"}}, {{path: "$.runs[?(@.a > ${{N}})].${{K}}", exists: true}}]
    actions: [{{log: {{message: "${{X}} {{{{ '${{Y}}' }}}}"}}}}]
"""
    router = compile_router(parse_config(text), REGISTRY)
    [route] = router.routes.values()
    assert route.actions[0].template.render({}) == {"message": "<X> <Y>"}


@given(parts=st.lists(st.text(max_size=5) | st.builds(Variable, st.just("${X}"), VALUES), max_size=6))
@example(parts=["vzq", Variable("${X}", "vzq0v"), "0v vzzq"])
@example(parts=["vzq1v", Variable("${X}", "a"), "vzzq1v"])
def test_a_filled_text_is_what_it_is_made_of(parts: list[str | Variable]) -> None:
    text = Filled.of(parts)
    assert text == "".join(part if isinstance(part, str) else part.value for part in parts)
    assert text.written == "".join(part if isinstance(part, str) else part.reference for part in parts)
    assert text.with_values(text.source) == text
    for copied in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert (copied, copied.source, copied.variables) == (text, text.source, text.variables)
    assert type(plain({"a": [text]})["a"][0]) is str


@given(value=VALUES)
@example(value="{{ 6*7 }}")
def test_in_a_key_it_is_refused_and_what_the_hint_says_works(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled('    actions: [{log: {message: x, fields: {"${X}": 1}}}]\n', value)
    [problem] = caught.value.problems
    assert problem.hint.endswith('put the variable under vars, and write "{{ vars.NAME }}":')
    routes = '    actions: [{log: {message: x, fields: {"{{ vars.NAME }}": 1}}}]\n'
    assert sent(compiled(routes, value, 'vars: {NAME: "${X}"}\n'))["fields"] == {value: 1}

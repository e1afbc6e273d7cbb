"""Mistakes in templates are told at load, all at once, where they stand and with what to do."""

from __future__ import annotations

import pytest

from engine.core.errors import TemplateError
from engine.core.positions import Mark, Source
from engine.core.vocabulary import Vocabulary
from engine.rules.templates import Templates

TEMPLATES = Templates()


def load_error(text):
    with pytest.raises(TemplateError) as caught:
        TEMPLATES.compile({"p": text})
    assert caught.value.where == ("p",)
    return caught.value


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{{ rn.name }}", "no 'rn' here", "'run'"),
        ("{{ feedbak.x }}", "no 'feedbak' here", "'feedback'"),
        ("{{ customer }}", "no 'customer' here", "payload.customer"),
        ("{{ null }}", "no 'null' here", "'none'"),
        ("{{ len(run.tags) }}", "no 'len' here", "length"),
        ("{{ inputs.question }}", "no 'inputs' here", "write run.inputs"),
        ("{{ duration }}", "no 'duration' here", "write run.latency"),
        ("{{ metadata.env }}", "no 'metadata' here", "write run.extra.metadata"),
        ("{{ self }}", "no 'self' here", ""),
        ("{{ loop.index }}", "no 'loop' here", "for"),
        ("{{ lipsum() }}", "no 'lipsum' here", ""),
        ("{{ run.name | uper }}", "no filter 'uper'", "'upper'"),
        ("{{ run.name | json }}", "no filter 'json'", "'tojson'"),
        ("{{ run.name | random }}", "no filter 'random'", ""),
        ("{% if 0 %}{{ run.name | uper }}{% endif %}", "no filter 'uper'", "'upper'"),
        ("{{ run.tags | map('uper') }}", "no filter 'uper'", "'upper'"),
        ("{{ run.tags | select('evn') }}", "no test 'evn'", "'even'"),
        ("{{ run.tags | selectattr('x', 'definde') }}", "no test 'definde'", "'defined'"),
        ("{{ run.x is null }}", "no test 'null'", "'none'"),
        ("{{ run.x is definde }}", "no test 'definde'", "'defined'"),
        ("{{ run.name }", "unexpected '}'", "}}"),
        ("{{ run.name", "cannot be read", "}}"),
        ("{% if run.name %}x", "{% if %} is never closed", "endif"),
        ("{% for x in run.tags %}x", "{% for %} is never closed", "endfor"),
        ("{% if a %}x{% elseif b %}{% endif %}", "elseif", "elif"),
        ("{{ run.a && run.b }}", "'&'", "`and`"),
        ("{{ run.a || run.b }}", "cannot be read", "`or`"),
        ("{{ !run.a }}", "'!'", "`not`"),
        ("{{ run.name() }}", "no method 'name'", ""),
        ("{{ run.name.contains('x') }}", "no method 'contains'", 'write "…" in run.name'),
        ("{{ run.tags.includes('x') }}", "no method 'includes'", 'write "…" in run.tags'),
        ("{{ run.name.startsWith('x') }}", "no method 'startsWith'", 'write run.name.startswith("…")'),
        ("{{ run.name.has_prefix('x') }}", "no method 'has_prefix'", 'write run.name.startswith("…")'),
        ("{{ run.name.endsWith('x') }}", "no method 'endsWith'", 'write run.name.endswith("…")'),
        ("{{ run.name.matches('x') }}", "no method 'matches'", 'write run.name | regex_search("…") is not none'),
        ("{{ run.name.toLowerCase() }}", "no method 'toLowerCase'", "write run.name.lower()"),
        ("{{ run.name.toUpperCase() }}", "no method 'toUpperCase'", "write run.name.upper()"),
        ("{{ run.tags.size() }}", "no method 'size'", "write run.tags | length"),
        ("{{ run.name.strp() }}", "no method 'strp'", "did you mean 'strip'?"),
        ("{{ run.tags.length }}", "run.tags is a list, which has no 'length'", "write run.tags | length"),
        ("{{ run.name.length }}", "run.name is a text, which has no 'length'", "write run.name | length"),
        ("{{ run.error // '' }}", "// divides", "default"),
        ("{{ status }}", "no 'status' here", "write run.status"),
        ("{{ run.a ? 1 : 2 }}", "'?'", "if CONDITION else"),
        ("{% include 'x' %}", "include", "stands alone"),
        ("{% import 'x' as y %}", "import", "stands alone"),
        ("{% from 'x' import y %}", "import", "stands alone"),
        ("{% extends 'x' %}", "extends", "stands alone"),
        ("{% block x %}{% endblock %}", "block", "stands alone"),
        ("{% autoescape true %}{% endautoescape %}", "autoescape", "safe"),
        ("{{ range(1, stop=2, stop=3) }}", "compiled", ""),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deeply", ""),
        ("{% for a in [1] %}" * 25 + "{% endfor %}" * 25, "compiled", ""),
    ],
)
def test_mistakes_at_load(text, message, hint):
    error = load_error(text)
    assert message in str(error)
    assert hint in str(error) + error.hint


@pytest.mark.parametrize(
    "text",
    [
        "{% set a = 1 %}{{ a }}",
        "{% if run %}{% set a = 1 %}{% endif %}{{ a | default(2) }}",
        "{% for a, b in [[1, 2]] %}{{ a }}{{ b }}{{ loop.index }}{% endfor %}",
        "{% macro m(a, b=1) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}",
        "{% macro m() %}{{ caller(1) }}{% endmacro %}{% call(x) m() %}{{ x }}{% endcall %}",
        "{% with a = 1 %}{{ a }}{% endwith %}",
        "{{ prompt_name }}{{ alert_rule_name }}{{ threads }}{{ data }}{{ rule_id }}",
        "{% for a in [1] %}{% if a %}{% continue %}{% endif %}{% break %}{% endfor %}",
    ],
)
def test_names_that_exist_load(text):
    assert not TEMPLATES.compile({"p": text}).literal


def test_every_problem_is_reported_at_its_line_and_column():
    text = "\n".join(
        [
            "params:",
            "  text: |",
            "    first {{ rn.name }}",
            "    second {{ run.name | uper }}",
            "    third {{ fedback.x }}",
            '  title: "a {{ nme }}"',
            "  bad: x {% if %}",
            "  '{{ ky }}': 1",
        ]
    )
    marks = {
        ("params",): Mark(1, 1),
        ("params", "text"): Mark(2, 9, 2, 3, "|"),
        ("params", "title"): Mark(6, 10, 6, 3, '"'),
        ("params", "bad"): Mark(7, 8, 7, 3),
        ("params", "{{ ky }}"): Mark(8, 15, 8, 3, None),
    }
    tree = {
        "text": "first {{ rn.name }}\nsecond {{ run.name | upper }}\nthird {{ fedback.x }}\n",
        "title": "a {{ nme }}",
        "bad": "x {% if %}",
        "{{ ky }}": 1,
    }
    source = Source("c.yaml", text, marks)
    TEMPLATES.compile_into(tree, ("params",), source)
    found = {(problem.line, problem.column, problem.message.split(" here")[0]) for problem in source.problems}
    assert (3, 1, "there is no 'rn'") in found
    assert (5, 1, "there is no 'fedback'") in found
    assert (6, 10 + 6, "there is no 'nme'") in found
    assert (8, 3, "there is no 'ky'") in found
    assert any(line == 7 and "cannot be read" in message for line, _, message in found)


def test_a_sound_tree_reports_nothing():
    source = Source("c.yaml")
    template = TEMPLATES.compile_into({"a": "{{ run.name }}"}, ("x",), source, escape=frozenset({"a"}))
    assert source.problems == []
    assert template.render({"run": {"name": "&"}}) == {"a": "&amp;"}


@pytest.mark.parametrize(
    ("text", "hint"),
    [("{{ run.latency > 1 }}", "run.latency > 1"), ("run.latency >", ""), ("rn.x", "'run'"), ("1 2", ""), ("", "")],
)
def test_mistakes_in_an_expression(text, hint):
    with pytest.raises(TemplateError) as caught:
        TEMPLATES.expression(text)
    assert hint in caught.value.hint


DOCUMENT = {
    "run": {
        "name": "n",
        "metadata": {"region": "eu", "user": 1},
        "error": None,
        "tags": ["a", "b"],
        "empty": {},
        "empty2": {"n": None},
    },
    "runs": [{"status": "ok"}],
    "route": {"name": "r", "key": "k"},
    "vars": {},
}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{{ run.metadata.env }}", "run.metadata has no 'env' (it has 'region', 'user')", "default"),
        ("{{ run.metadata.env.deep }}", "run.metadata has no 'env'", "default"),
        ("{{ run['metadata']['regoin'] }}", "run.metadata has no 'regoin'", "'region'"),
        ("{{ run.error.message }}", "run.error is null, so it has no 'message'", "default"),
        ("{{ run.tags[5] }}", "run.tags has no item 5 (it has 2)", "default"),
        ("{{ runs[:1].status }}", "a list of 1, which has no 'status'", "[0].status"),
        ("{{ run.name.first }}", "run.name is text, which has no 'first'", "default"),
        ("{{ run.empty.x }}", "run.empty has no 'x' (it is empty)", "default"),
        ("{{ prompt_name }}", "there is no 'prompt_name' in this event", "default"),
        ("{% for a in run.tags %}{% set z = a %}{% endfor %}{{ z }}", "there is no 'z'", "loop"),
        ("{{ run.tags | first + 1 }}", "text + a number has no meaning", "~"),
        ("{{ run.error + 1 }}", "run.error is null: null + a number has no meaning", "write run.error | default(0)"),
        ("{{ run.error < 1 }}", "run.error is null: < cannot compare null with a number", "run.error | default(0)"),
        ("{{ 1 < run.error }}", "run.error is null: < cannot compare a number with null", "run.error | default(0)"),
        ("{{ run.error > run.x.y | default(none) }}", "run.error is null: > cannot compare null with null", "default"),
        ("{{ run.error - run['error'] }}", "run.error is null: null - null has no meaning", "run.error | default"),
        ("{{ run.error - run.empty2.n }}", "run.error or run.empty2.n is null: null - null", "write … | default"),
        ("{{ run.error | round }}", "run.error is null: round wants a number, not null", "run.error | default(0)"),
        ("{{ 'a' in run.error }}", "run.error is null: `in` looks through a list", "run.error | default([])"),
        ("{{ run.name > 1 }}", "> cannot compare a text with a number", ""),
        ("{{ run.error ~ 'x' }}", "run.error is null, and a text cannot hold it", "run.error | default(…)"),
        ("cost {{ run.error }}", "run.error is null, and a text cannot hold it", "write run.error | default(…)"),
        ("cost {{ run['error'] }}", "run.error is null, and a text cannot hold it", "write run.error | default(…)"),
        ("cost {{ run.error | upper }}", "run.error is null, and a text cannot hold it", "run.error | default(…)"),
        ("cost {{ run.get('error') }}", "a value is null, and a text cannot hold it", "`| default(…)`"),
        ("cost {{ [none] | join(',') }}", "a value is null, and a text cannot hold it", "`| default(…)`"),
        ("{{ run.error[0] }}", "run.error is null, so it has no 0", "default"),
        ("{{ 1 / 0 }}", "divides by zero", "divisor"),
        (
            "{{ run.error | join }}",
            "run.error is null: null has no items to go through",
            "write run.error | default([])",
        ),
        ("{{ 'a' | abs }}", "abs wants a number, not text", ""),
        ("{{ '%d' % 'x' }}", "wants a number, not text", "float"),
        ("{{ '%d %d' % 1 }}", "more values", ""),
        ("{{ 'x' | fromjson }}", "not JSON", ""),
        ("{{ 'x' | datetime }}", "ISO time", ""),
        ("{{ 'x' | regex_search('(') }}", "no regular expression", "RE2"),
        ("{{ 'x' | regex_search('x', 3) }}", "no group 3", ""),
        ("{{ 1 if run.error }}", "no `else`", "else omit"),
        ("{{ 'x'.split(1) }}", "text.split() does not take (a number)", ""),
        ("{{ 'x' | replace }}", "replace is called with the wrong arguments", ""),
        ("{{ run.get() }}", "get is called with the wrong arguments", ""),
        ("{{ 1e308 * 10 }}", "infinite", ""),
        ("{{ (-1) ** 0.5 }}", "complex", ""),
        ("{{ ('{' * 1001).format() }}", "the format '{{{", ""),
        ("{{ {[]: 1} }}", "cannot be rendered", ""),
        ("{{ run[[]] }}", "no key", ""),
    ],
)
def test_what_failed_at_rendering_has_a_message(text, message, hint):
    with pytest.raises(TemplateError) as caught:
        TEMPLATES.compile({"a": [{"b": text}]}).render(DOCUMENT)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.where == ("a", 0, "b")


def test_a_text_with_more_values_than_a_webhook_may_have_is_not_parsed():
    parsed = TEMPLATES.compile("{{ run.name | fromjson | length }}")
    assert parsed.render({"run": {"name": f"[{'0,' * 999_998}0]"}}) == 999_999
    with pytest.raises(TemplateError, match="fromjson: the text has more than 1,000,000 values"):
        parsed.render({"run": {"name": f"[{'0,' * 999_999}0]"}})


def test_a_failure_at_rendering_knows_its_line():
    with pytest.raises(TemplateError) as caught:
        TEMPLATES.compile({"a": "one\n{{ run.name }}\nthree {{ run.nope }}\n"}).render(DOCUMENT)
    assert caught.value.line == 3


@pytest.mark.parametrize("text", ["{{ run.error }}", "{{ {'a': run.error} }}", "{{ [run.error] }}"])
def test_null_is_kept_where_it_is_no_text(text):
    found = TEMPLATES.compile(text).render(DOCUMENT)
    assert found in (None, {"a": None}, [None])


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("cost {{ run.error | default('?') }}", "cost ?"),
        ("cost {{ run.error | tojson }}", "cost null"),
        ("cost {{ [run.error] }}", "cost [null]"),
        ("cost {{ run.error if run.error }}", "cost "),
        ("{% if run.error is not none %}{{ run.error }}{% endif %}x", "x"),
    ],
)
def test_null_in_a_text_is_no_fault_where_it_is_dealt_with(text, made):
    assert TEMPLATES.compile(text).render(DOCUMENT) == made


VARS = Templates(Vocabulary({"channel": "#q", "slack": {"room": "#r"}}))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{{ vars.chanel }}", "vars has no 'chanel'", "did you mean 'channel'?"),
        ("{{ vars['chanel'] }}", "vars has no 'chanel'", "did you mean 'channel'?"),
        ("{{ vars.slack.rom }}", "vars.slack has no 'rom'", "did you mean 'room'?"),
        ("{{ vars.nope | default('x') }}", "vars has no 'nope'", "add it to the configuration's vars"),
        ("{{ event.recieved_at }}", "event has no 'recieved_at'", "did you mean 'received_at'?"),
        ("a {{ route.nme }}", "route has no 'nme'", "did you mean 'name'?"),
        ("{{ runs.status }}", "runs is a list, which has no 'status'", "write run.status, or runs[0].status"),
        ("{{ runs[0].latency }}", "LangSmith's runs have no 'latency': the engine computes it, for run", "run.latency"),
        ("{{ payload.runs[0].cost }}", "LangSmith's runs have no 'cost': the engine computes it, for run", "run.cost"),
        ("{{ env.HOME }}", "there is no 'env' here", "written ${NAME}"),
    ],
)
def test_a_word_that_is_known_not_to_be_there_is_refused_at_load(text, message, hint):
    with pytest.raises(TemplateError) as caught:
        VARS.compile({"p": text})
    assert str(caught.value) == message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "{{ vars.channel }}{{ vars.slack.room }}{{ vars.get('x', 1) }}{{ vars.slack.items() }}{{ vars[run.x] }}",
        "{% for event in [{'a': 1}] %}{{ event.a }}{% endfor %}",
        "{% set route = {'x': 1} %}{{ route.x }}",
        "{{ payload.event.anything }}{{ run.event.x }}{{ run.latency }}{{ run.cost }}{{ run.url }}{{ runs.count }}",
        "{{ event.unmatched_reason }}{{ event.id }}{{ event.kind }}{{ route.key }}{{ run.anything }}",
    ],
)
def test_other_words_are_left_for_rendering(text):
    assert VARS.compile(text)


def test_without_a_configuration_its_variables_are_not_known():
    assert TEMPLATES.compile("{{ vars.anything }}")


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("{{ run.status }} == 'error'", "run.status == 'error'"),
        ("{{ run.latency > 10 }}", "run.latency > 10"),
        ("run.status == '{{ vars.channel }}'", "run.status == vars.channel"),
        ("{{ run.a }} and {{ run.b }}", "run.a and run.b"),
    ],
)
def test_an_expression_in_braces_is_shown_without_them(text, bare):
    with pytest.raises(TemplateError, match="takes the expression bare") as caught:
        VARS.expression(text)
    assert caught.value.hint == f"write expr: {bare}"


def test_a_comprehension_is_answered_with_the_filters_that_make_lists():
    with pytest.raises(TemplateError) as caught:
        Templates().compile({"p": "{{ [{'id': r.id} for r in runs] }}"})
    assert caught.value.hint.startswith("a list is made with pick or map: runs | pick('id', title='name')")

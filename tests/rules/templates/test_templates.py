"""What a template renders to: types, missing values, omit, and nothing shared or read twice."""

from __future__ import annotations

import threading

import pytest

from engine.core.document import Missing
from engine.core.errors import DataMissing, TemplateError
from engine.rules.templates import Templates

TEMPLATES = Templates()


def document():
    return {
        "run": {
            "name": "Search",
            "inputs": {"question": "why?", "deep": [1, {"a": None}]},
            "outputs": Missing("outputs", "not fetched yet"),
            "tags": ["x", "y"],
            "metadata": {"region": "eu", "items": 7, "keys": "k"},
            "items": "data",
            "error": None,
            "latency": 2.5,
        },
        "runs": [{"status": "success", "inputs": {"q": 1}}],
        "feedback": Missing("feedback", "not fetched yet"),
        "feedback_stats": {"user_score": {"avg": None, "n": 2}},
        "payload": {"custom": {"env": "prod"}},
        "vars": {"channel": "#quality"},
        "event": {"received_at": "2024-04-05T01:28:56+00:00"},
    }


def render(text, *, tree=None, doc=None):
    return TEMPLATES.compile({"p": text} if tree is None else tree).render(document() if doc is None else doc)


def value(text, doc=None):
    return render(text, doc=doc)["p"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ run.inputs }}", {"question": "why?", "deep": [1, {"a": None}]}),
        ("{{ run.tags }}", ["x", "y"]),
        ("{{ run.latency }}", 2.5),
        ("{{ run.latency > 2 }}", True),
        ("{{ run.error }}", None),
        ("{{ 7 }}", 7),
        ("{{ '7' }}", "7"),
        ("{{- run.latency -}}", 2.5),
        ("{{\n  run.latency\n}}\n", 2.5),
        ("{{ run.tags | map('upper') }}", ["X", "Y"]),
        ("{{ run.inputs.items() }}", [["question", "why?"], ["deep", [1, {"a": None}]]]),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ {1: 'a', 'b': (1, 2)} }}", {"1": "a", "b": [1, 2]}),
    ],
)
def test_a_lone_expression_keeps_its_type(text, expected):
    got = value(text)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" {{ run.latency }}", " 2.5"),
        ("{{ run.latency }}s", "2.5s"),
        ("{{ 1 }}{{ 2 }}", "12"),
        ("n: {{ run.inputs.deep }}", 'n: [1,{"a":null}]'),
        ("{{ true }}/{{ [none] }}", "true/[null]"),
        ("x{{ 'a' ~ true }}", "xatrue"),
        ("{{ true ~ {'a': 1} }}", 'true{"a":1}'),
        ("{% if run.error %}bad{% else %}good{% endif %}", "good"),
        ("a{{ 'b' if run.error }}", "a"),
        ("{% for t in run.tags %}{{ loop.index }}{{ t }}{% if not loop.last %},{% endif %}{% endfor %}", "1x,2y"),
        ("line\n", "line\n"),
        ("{# only a remark #}", ""),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("a\n{{ 1 }}\n", "a\n1\n"),
    ],
)
def test_every_other_text_stays_text_and_writes_values_as_json(text, expected):
    assert TEMPLATES.compile({"p": text}).render(document())["p"] == expected


def test_text_without_a_template_is_left_alone():
    tree = {"p": "}} 100% {x} $.runs[*] \n", "n": 1, "none": None}
    template = TEMPLATES.compile(tree)
    assert template.literal
    assert template.render({}) == tree


@pytest.mark.parametrize("hostile", ["{{ 7*7 }}", "[1, 2]", "{'a': 1}", "true", "{% for", "1e3", "null", "{{"])
def test_rendered_text_is_never_read_again(hostile):
    doc = {"run": {"name": hostile}}
    assert value("{{ run.name }}", doc) == hostile
    assert value("<{{ run.name }}>", doc) == f"<{hostile}>"
    assert value("{% set x = run.name %}{{ x }}", doc) == hostile


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ run.nope.deeper[3].x | default('d') }}", "d"),
        ("{{ run.error | default('none at all') }}", "none at all"),
        ("{{ run.error.message | d('d') }}", "d"),
        ("{{ '' | default('e', true) }}", "e"),
        ("{{ false | default('e') }}", False),
        ("{{ run.nope is defined }}", False),
        ("{{ run.nope is undefined }}", True),
        ("{{ run.error is none }}", True),
        ("{{ run.nope or 'other' }}", "other"),
        ("{{ 'yes' if run.nope.x else 'no' }}", "no"),
        ("{{ not run.nope }}", True),
        ("{{ run.nope == 'x' }}", False),
        ("{{ 'x' in (run.nope | default([])) }}", False),
        ("{{ run.get('nope') }}", None),
        ("{{ run.get('nope', 3) }}", 3),
        ("{{ id | default('no such key in this event') }}", "no such key in this event"),
    ],
)
def test_what_is_missing_can_be_tested_and_replaced(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ run.nope }}",
        "x{{ run.nope.deeper }}",
        "{{ run.nope + 1 }}",
        "{{ run.nope < 1 }}",
        "{{ run.nope ~ 'x' }}",
        "{% for x in run.nope %}{% endfor %}",
        "{{ run.nope | upper }}",
        "{{ run.nope | length }}",
        "{{ run.nope() }}",
        "{{ [run.nope] }}",
        "{{ {'a': run.nope} | tojson }}",
        "{{ run.nope | join(',') }}",
        "{{ [1, run.nope] | sum }}",
        "{{ run[run.nope] }}",
        "{{ 'x' in run.nope }}",
        "{{ '%s' % run.nope }}",
        "{{ '{}'.format(run.nope) }}",
        "{{ run.tags | map(attribute='nope') }}",
    ],
)
def test_what_is_missing_cannot_be_used(text):
    with pytest.raises(TemplateError) as caught:
        render(text)
    assert caught.value.where == ("p",)
    assert "nope" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ run.outputs }}",
        "{{ run.outputs.answer }}",
        "{{ run.outputs | default('x') }}",
        "{{ run.outputs or 'x' }}",
        "{{ run.outputs is defined }}",
        "{{ run }}",
        "{{ run | tojson }}",
        "x{{ run }}",
        "{{ [run.outputs] }}",
        "{{ feedback.correctness.score | default(0) }}",
        "{% for f in feedback %}{% endfor %}",
        "{% if feedback %}x{% endif %}",
        "{{ 1 in feedback }}",
        "{{ run.outputs == 1 }}",
        "{{ run.outputs | length }}",
        "{{ run.outputs | upper }}",
        "{{ run.outputs | items }}",
        "{{ run.outputs | int }}",
        "{{ run.outputs[0] }}",
        "{{ run.outputs[:1] }}",
        "{{ 'a' ~ run.outputs }}",
        "{{ '%d' % run.outputs }}",
    ],
)
def test_data_that_was_not_fetched_is_missing_and_never_a_default(text):
    with pytest.raises(DataMissing, match="not fetched yet"):
        render(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ run.items }}", "data"),
        ("{{ run.metadata.items }}", 7),
        ("{{ run.metadata['keys'] }}", "k"),
        ("{{ run.metadata.values() | list | length }}", 3),
        ("{{ run.inputs.keys() }}", ["question", "deep"]),
        ("{{ run['latency'] }}", 2.5),
        ("{{ runs[0].status }}", "success"),
        ("{{ runs.0.status }}", "success"),
        ("{{ run.tags[-1] }}", "y"),
        ("{{ run.name.upper() }}", "SEARCH"),
        ("{{ run.tags.index('y') }}", 1),
        ("{{ payload.custom.env }}", "prod"),
    ],
)
def test_data_is_read_before_any_method(text, expected):
    assert value(text) == expected


def test_omit_drops_the_key_or_the_item():
    tree = {
        "a": "{{ omit }}",
        "b": "{{ run.nope | default(omit) }}",
        "c": "{{ run.nope or omit }}",
        "d": ["{{ omit }}", 1, {"x": "{{ omit }}"}],
        "e": "{{ [1, omit, {'k': omit, 'l': 2}] }}",
        "f": "{{ run.error | default(omit) }}",
        "g": "{{ run.name or omit }}",
    }
    assert render("", tree=tree) == {"d": [1, {}], "e": [1, {"l": 2}], "g": "Search"}


@pytest.mark.parametrize(("tree", "where"), [({"p": "a{{ omit }}"}, ("p",)), ("{{ omit }}", ())])
def test_omit_elsewhere_is_an_error(tree, where):
    with pytest.raises(TemplateError, match="omit") as caught:
        render("", tree=tree)
    assert caught.value.where == where


def test_keys_may_hold_templates_and_become_text():
    assert render("", tree={"{{ run.name }}-{{ 1 }}": "{{ 2 }}", "{{ 3 }}": 4}) == {"Search-1": 2, "3": 4}


def test_two_keys_that_come_to_the_same_are_an_error():
    with pytest.raises(TemplateError, match="two keys come to 'Search'"):
        render("", tree={"{{ run.name }}": 1, "Search": 2})


def test_nothing_rendered_is_shared_with_tree_or_document():
    tree = {"literal": {"list": [1]}, "data": "{{ run.inputs }}", "whole": "{{ vars }}"}
    template, doc = TEMPLATES.compile(tree), document()
    first = template.render(doc)
    first["literal"]["list"].append(2)
    first["data"]["deep"].append(3)
    first["whole"]["channel"] = "#other"
    assert template.render(document()) == template.render(doc)
    assert tree["literal"] == {"list": [1]}
    assert doc["run"]["inputs"] == document()["run"]["inputs"]


def test_a_template_knows_its_leaves_and_its_tree():
    tree = {"a": "{{ run.name }}", "b": [1, "x{{ run.name }}"], "c": "plain", "{{ run.name }}": 1}
    template = TEMPLATES.compile(tree)
    assert template.templated == {("a",), ("b", 1), ("{{ run.name }}",)}
    assert not template.literal
    assert template.tree == tree


def test_large_data_passes_through_whole():
    big = {"vectors": [[float(n) for n in range(1000)] for _ in range(400)], "text": "x" * 12_000_000}
    assert value("{{ run.inputs }}", {"run": {"inputs": big}}) == big


def test_threads_may_share_everything():
    template = TEMPLATES.compile(
        {"p": "{% set n = namespace(s='') %}{% for t in runs %}{% set n.s = n.s ~ t %}{% endfor %}{{ n.s }}"}
    )
    wrong = []

    def work(mine):
        doc = {"runs": [mine] * 50}
        wrong.extend(got for _ in range(50) if (got := template.render(doc)["p"]) != mine * 50)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ 90061 | duration }}", "1d1h"),
        ("{{ 2.5 | duration }}", "2.5s"),
        ("{{ event.received_at | datetime('%d.%m.%Y %H:%M') }}", "05.04.2024 01:28"),
        ("{{ '2024-04-05T03:00:00+02:00' | datetime }}", "2024-04-05 01:00:00"),
        ("{{ 0 | datetime('%Y') }}", "1970"),
        ("{{ run.inputs | tojson }}", '{"question":"why?","deep":[1,{"a":null}]}'),
        ("{{ {'a': '<&\\'ü'} | tojson }}", '{"a":"<&\'ü"}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ 123456789012345678901234567890 | tojson }}", "123456789012345678901234567890"),
        ("{{ '{\"a\": [1]}' | fromjson }}", {"a": [1]}),
        ("{{ 'id=42;' | regex_search('id=(\\\\d+)', 1) }}", "42"),
        ("{{ 'id=42;' | regex_search('(?P<n>\\\\d+)', 'n') }}", "42"),
        ("{{ 'nothing' | regex_search('\\\\d') }}", None),
        ("{{ 'aXbX' | regex_replace('x', '-', ignorecase=true) }}", "a-b-"),
        ("{{ 'a1b2' | regex_replace('([a-z])(\\\\d)', '\\\\2\\\\1') }}", "1a2b"),
        ("{{ 'one two three' | truncate(9, leeway=0) }}", "one..."),
        ("{{ 'a b&c' | urlencode }}", "a%20b%26c"),
        ("{{ {'q': 'a b', 'r': 1} | urlencode }}", "q=a+b&r=1"),
        ("{{ 'a & b < c' | e }}", "a &amp; b &lt; c"),
        ("{{ [3, 1, 2] | sort | join('-') }}", "1-2-3"),
        ("{{ [1, 2, 3, 4, 5] | batch(2) }}", [[1, 2], [3, 4], [5]]),
        ("{{ [1, 2, 3] | slice(2) }}", [[1, 2], [3]]),
        ("{{ [1, 2, 3] | select('gt', 1) | list | last }}", 3),
        ("{{ [{'k': 1}, {'k': 2}] | map(attribute='k') | sum }}", 3),
        ("{{ [{'k': 1}, {'k': 2}] | selectattr('k', 'eq', 2) }}", [{"k": 2}]),
        ("{{ [{'k': 'a', 'v': 1}] | groupby('k') }}", [["a", [{"k": "a", "v": 1}]]]),
        ("{{ {'b': 1, 'a': 2} | dictsort }}", [["a", 2], ["b", 1]]),
        ("{{ '%s is %.1f%%' | format('x', 2.25) }}", "x is 2.2%"),
        ("{{ '%(n)05d' % {'n': 42} }}", "00042"),
        ("{{ '{0:>5}|{x[y]}'.format('a', x={'y': 1}) }}", "    a|1"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ 'aa bb cc' | wordwrap(5) }}", "aa bb\ncc"),
        ("{{ 2.567 | round(1) }}", 2.6),
        ("{{ 1500 | filesizeformat }}", "1.5 kB"),
        ("{{ 'x,y'.split(',') }}", ["x", "y"]),
        ("{{ '0.25' | float * 2 }}", 0.5),
        ("{{ [1, 2] | reverse }}", [2, 1]),
        ("{{ 'abc' | reverse }}", "cba"),
        ("{{ ['a', 'A', 'b'] | unique }}", ["a", "b"]),
        ("{{ [] | first | default('none') }}", "none"),
        ("{{ [2, 1] | min }}", 1),
        ("{{ 'x' | center(3) }}", " x "),
        ("{{ 'Hello world' | title | wordcount }}", 2),
    ],
)
def test_filters_and_methods(text, expected):
    assert value(text) == expected


def test_macros_sets_and_namespaces_work():
    text = (
        "{% macro m(x, y='d') %}[{{ x }}{{ y }}{{ caller() if caller else '' }}]{% endmacro %}"
        "{{ m(1) }}{% call m(2, y=3) %}!{% endcall %}{% set z %}{{ 1 }}{% endset %}{{ z }}"
        "{% filter upper %}abc{% endfilter %}{% with q=5 %}{{ q }}{% endwith %}"
    )
    assert value(text) == "[1d][23!]1ABC5"


def test_recursive_loops_work():
    text = "{% for n in payload.tree recursive %}{{ n.v }}{% if n.c %}({{ loop(n.c) }}){% endif %}{% endfor %}"
    assert value(text, {"payload": {"tree": [{"v": 1, "c": [{"v": 2}, {"v": 3}]}, {"v": 4}]}}) == "1(23)4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("run.latency > 2", True), ("run.tags | length", 2), ("run.name", "Search"), ("'y' in run.tags", True)],
)
def test_an_expression_comes_to_its_value(text, expected):
    assert TEMPLATES.expression(text).evaluate(document()) == expected


def test_an_expression_that_finds_nothing_comes_to_something_false_and_undefined():
    from jinja2 import Undefined

    got = TEMPLATES.expression("run.nope.x").evaluate(document())
    assert isinstance(got, Undefined)
    assert not got


@pytest.mark.parametrize("text", ["run.nope < 3", "run.error + 1", "run.name.upper", "omit", "1 / 0"])
def test_an_expression_that_fails_says_so(text):
    with pytest.raises(TemplateError):
        TEMPLATES.expression(text).evaluate(document())


def test_an_expression_wants_data_like_a_template():
    with pytest.raises(DataMissing):
        TEMPLATES.expression("run.outputs").evaluate(document())


@pytest.mark.parametrize("escape", [False, True])
def test_pick_makes_objects_of_fields(escape):
    document = {"runs": [{"id": 1, "name": "<a>", "x": {"y": None}}], "run": {"id": 2}, "vars": {}}

    def render(text: str):
        return Templates().compile({"p": text}, escape=frozenset({"p"} if escape else ())).render(document)["p"]

    name = "&lt;a&gt;" if escape else "<a>"
    assert render("{{ runs | pick('id', 'x.y', title='name') }}") == [{"id": 1, "y": None, "title": name}]
    assert render("{{ run | pick('id', name='name?', deep='name.a.b?') }}") == {"id": 2, "name": None, "deep": None}
    for wrong, words, hint in (
        ("pick('nope')", "pick: an item has no 'nope'", "write 'nope?', which gives null"),
        ("pick()", "pick wants names of fields, each once", "pick('id', title='run.name'"),
        ("pick('a.id', 'id')", "pick wants names of fields, each once", "pick('id', title='run.name'"),
        ("pick(5)", "pick wants names of fields, each once", "pick('id', title='run.name'"),
    ):
        with pytest.raises(TemplateError) as caught:
            render(f"{{{{ runs | {wrong} }}}}")
        assert words in str(caught.value)
        assert hint in caught.value.hint

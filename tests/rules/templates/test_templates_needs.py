"""Which parts of a run a template can touch is known before it runs."""

from __future__ import annotations

import pytest

from engine.core.vocabulary import PLACED, Vocabulary
from engine.rules.templates import Templates

TEMPLATES = Templates(Vocabulary(placed=frozenset(PLACED)))
RUN = {"inputs", "outputs"}
ALL = RUN | {"feedback"}


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("plain", set()),
        ("{{ run.name }}", set()),
        ("{{ run.feedback_stats.x.avg }}{{ feedback_stats.x }}", set()),
        ("{{ run.inputs.x }}", {"inputs"}),
        ("{{ run['inputs'] }}", {"inputs"}),
        ("{{ run.outputs }}", {"outputs"}),
        ("{{ run.inputs }}{{ run.outputs }}", RUN),
        ("{{ runs[0].outputs.a }}", {"outputs"}),
        ("{{ runs.0.inputs }}", {"inputs"}),
        ("{{ runs[0].name }}", set()),
        ("{{ runs[n].name }}{% set n = 1 %}", set()),
        ("{{ payload.runs[0].inputs }}", {"inputs"}),
        ("{{ payload.runs[0].name }}", set()),
        ("{{ payload.rule_id }}", set()),
        ("{{ payload['x' ~ 'y'] }}", RUN),
        ("{{ run['in' ~ 'puts'] }}", RUN),
        ("{{ payload.runs }}", RUN),
        ("{{ payload }}", RUN),
        ("{{ payload.items() }}", RUN),
        ("{{ run }}", RUN),
        ("{{ run | tojson }}", RUN),
        ("{{ run[vars.key] }}", RUN),
        ("{{ run.get('inputs') }}", RUN),
        ("{{ run.items() }}", RUN),
        ("{{ runs }}", RUN),
        ("{{ runs | length }}", set()),
        ("{{ runs[:1] }}", RUN),
        ("{{ runs | map(attribute='inputs') }}", {"inputs"}),
        ("{{ runs | map('upper') }}", RUN),
        ("{{ runs | pick('id', q='inputs.q?') }}", {"inputs"}),
        ("{% set r = run %}{{ r.inputs }}", RUN),
        ("{% for r in runs %}{{ r.name }}{% endfor %}", RUN),
        ("{% macro m(r) %}{{ r.inputs }}{% endmacro %}{{ m(run) }}", RUN),
        ("{% if run.inputs %}x{% endif %}", {"inputs"}),
        ("{{ run.inputs is defined }}", {"inputs"}),
        ("{{ run.outputs | default(run.inputs) }}", RUN),
        ("{{ feedback.correctness.score }}", {"feedback"}),
        ("{{ feedbacks | length }}", {"feedback"}),
        ("{{ vars[feedback.k.value] }}", {"feedback"}),
        ("{{ vars.m[run.inputs.x].y }}", {"inputs"}),
        ("{{ vars.inputs }}{{ route.name }}{{ event.id }}", set()),
        ("{{ items }}", ALL),
        ("{{ items | tojson }}", ALL),
        ("{{ items | length }}", set()),
        ("{{ items[0].run.name }}", set()),
        ("{{ items[0].run.inputs.x }}", {"inputs"}),
        ("{{ items[0].run }}", RUN),
        ("{{ items[0] }}", ALL),
        ("{{ items[n].payload.runs[0].outputs }}{% set n = 1 %}", {"outputs"}),
        ("{{ items | map(attribute='run.name') | join }}", set()),
        ("{{ items | map(attribute='run.inputs.q') | list }}", {"inputs"}),
        ("{{ items | map(attribute='feedback.k.score') | list }}", {"feedback"}),
        ("{{ items | map(attribute=vars.a) | list }}", ALL),
        ("{{ items | pick('run.name', a='run.url') }}", set()),
        ("{{ items | pick('run.name', a='run.outputs.x?', s='feedback.k.score?') }}", {"outputs", "feedback"}),
        ("{{ items | pick('run.name', vars.a) }}", ALL),
        ("{{ items | pick(**vars.a) }}", ALL),
        ("{{ items | map(attribute='run.name', default=items[0].run.inputs) | list }}", ALL),
        ("{{ items | sort(attribute='run.name') }}", ALL),
        ("{% for item in items %}{{ item.run.name }}{% endfor %}", set()),
        ("{% for item in items[:3] %}{{ item.run.name }}{% endfor %}", set()),
        ("{% for item in items[:3] %}{{ item.run.outputs }}{% endfor %}", {"outputs"}),
        ("{% for item in items if item.feedback.k %}{{ item.run.name }}{% endfor %}", {"feedback"}),
        ("{% for item in items %}{{ item.feedback_stats }}{{ item.event.id }}{{ item.vars }}{% endfor %}", set()),
        ("{% for item in items %}{{ item }}{% endfor %}", ALL),
        ("{% for item in items %}{{ item[vars.key] }}{% endfor %}", ALL),
        ("{% for item in items %}{{ item.get('run') }}{% endfor %}", ALL),
        ("{% for item in items %}{% set i = item %}{{ i.run.inputs }}{% endfor %}", ALL),
        ("{% for item in items %}{{ loop.index }}{{ item.run.name }}{% endfor %}", set()),
        ("{% for item in items %}{{ loop.previtem.run.inputs }}{% endfor %}", ALL),
        ("{% for item in items %}{% set l = loop %}{{ item.run.name }}{% endfor %}", ALL),
        ("{% set items = [run] %}{% for item in items %}{{ item.run.name }}{% endfor %}", ALL),
        ("{% for item in items recursive %}{{ item.run.name }}{% endfor %}", ALL),
        ("{% for run in items %}{{ run.name }}{% endfor %}", ALL),
        ("{% set item = items[0] %}{% for item in items %}{{ item.run.name }}{% endfor %}", ALL),
        ("{% for a in items %}{% for item in runs %}{{ item.inputs }}{% endfor %}{{ a.run.name }}{% endfor %}", RUN),
        ("{% macro m(item) %}{{ item.run.inputs }}{% endmacro %}{% for item in items %}x{% endfor %}", ALL),
    ],
)
def test_needs(text, needs):
    assert TEMPLATES.compile({"p": ["x", text]}).needs == needs
    assert TEMPLATES.compile({"p": "x " + text}, escape=frozenset({"p"})).needs == needs


def test_needs_of_a_tree_are_those_of_all_its_leaves_and_keys():
    tree = {"{{ run.inputs.k }}": 1, "b": [{"c": "{{ feedback.x.score }}"}]}
    assert TEMPLATES.compile(tree).needs == {"inputs", "feedback"}
    assert TEMPLATES.compile({"{{ run.inputs.k }}": "{{ run.outputs }}"}).needs == RUN


def test_an_expression_has_needs_too():
    assert TEMPLATES.expression("run.latency > 1 and run.outputs.ok").needs == {"outputs"}

"""Which parts of a run a template can touch is known before it runs."""

from __future__ import annotations

import pytest

from engine.templates import Templates

TEMPLATES = Templates()
RUN = {"inputs", "outputs"}


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
        ("{{ runs | map(attribute='inputs') }}", RUN),
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
    ],
)
def test_needs(text, needs):
    assert TEMPLATES.compile({"p": ["x", text]}).needs == needs
    assert TEMPLATES.compile({"p": "x " + text}, escape=frozenset({"p"})).needs == needs


def test_needs_of_a_tree_are_those_of_all_its_leaves_and_keys():
    tree = {"{{ run.inputs.k }}": 1, "b": [{"c": "{{ feedback.x.score }}"}]}
    assert TEMPLATES.compile(tree).needs == {"inputs", "feedback"}


def test_an_expression_has_needs_too():
    assert TEMPLATES.expression("run.latency > 1 and run.outputs.ok").needs == {"outputs"}

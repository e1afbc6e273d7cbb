"""Caps apply to what a template makes, not to the event data that it reads: large inputs can be cut down."""

from __future__ import annotations

import pytest

from engine.core.errors import TemplateError
from engine.rules.templates import Templates
from engine.rules.templates.budget import MAX_TEXT

TEMPLATES = Templates()
#: Longer than any text that a template may make.
LONG = "ab cd <e> " * (MAX_TEXT // 10 + 1000)
MANY = [{"n": number} for number in range(400_000)]
DOCUMENT = {
    "run": {"outputs": {"output": LONG, "answer": {"text": LONG, "id": 7}, "rows": MANY}, "error": None},
    "runs": MANY,
    "vars": {},
}

SHRINKING = {
    "run.outputs.output | truncate(20)": "ab cd <e> ab cd...",
    "run.outputs.output | truncate(20, true, '')": "ab cd <e> ab cd <e> ",
    "run.outputs.output[:5]": "ab cd",
    "run.outputs.output[-5:]": " <e> ",
    "run.outputs.output[6]": "<",
    "run.outputs.output | first": "a",
    "run.outputs.output | last": " ",
    "run.outputs.output | length": len(LONG),
    "run.outputs.output | count": len(LONG),
    "run.outputs.output | default('none') | truncate(9)": "ab cd...",
    "(run.error or run.outputs.output) | truncate(9)": "ab cd...",
    "run.outputs.output | upper | truncate(9)": "AB CD...",
    "run.outputs.output | trim | truncate(9)": "ab cd...",
    "run.outputs.output | string | truncate(9)": "ab cd...",
    "run.outputs.output | replace('ab', 'x') | truncate(9)": "x cd...",
    "run.outputs.output | regex_search('c(d) <', 1)": "d",
    "run.outputs.output | tojson | truncate(10)": '"ab cd...',
    "run.outputs.answer | tojson | truncate(15)": '{"text":"ab...',
    "run.outputs.answer | truncate(15)": '{"text":"ab...',
    "'%.5s' % run.outputs.output": "ab cd",
    "'{:.5}'.format(run.outputs.output)": "ab cd",
    "run.outputs.output.split(' ', 1)[0]": "ab",
    "run.outputs.output.partition(' ')[0]": "ab",
    "run.outputs.output.startswith('ab')": True,
    "run.outputs.output.find('cd')": 3,
    "'cd' in run.outputs.output": True,
    "run.outputs.output == 'x'": False,
    "run.outputs.answer == {'id': 7}": False,
    "run.outputs.output is string": True,
    "run.outputs.answer.id": 7,
    "(run.outputs.answer | tojson | fromjson).id": 7,
    "run.outputs.rows | first": {"n": 0},
    "(run.outputs.rows | last).n": 399_999,
    "run.outputs.rows | length": 400_000,
    "run.outputs.rows[:2] | map(attribute='n') | list": [0, 1],
}


def _escaped(value):
    return value.replace("<", "&lt;").replace(">", "&gt;") if isinstance(value, str) else value


@pytest.mark.parametrize("escape", [False, True])
@pytest.mark.parametrize("expression", SHRINKING)
def test_what_shrinks_takes_a_value_of_any_size(expression, escape):
    template = TEMPLATES.compile({"p": f"{{{{ {expression} }}}}"}, escape=frozenset({"p"} if escape else ()))
    expected = SHRINKING[expression]
    assert template.render(DOCUMENT)["p"] == (_escaped(expected) if escape else expected)


@pytest.mark.parametrize("escape", [False, True])
def test_many_parameters_may_each_cut_the_same_large_value(escape):
    tree = {"p": ["{{ run.outputs.output | truncate(9) }} {{ run.outputs.answer.text[:3] }}"] * 40}
    template = TEMPLATES.compile(tree, escape=frozenset({"p"} if escape else ()))
    assert template.render(DOCUMENT)["p"] == ["ab cd... ab "] * 40


@pytest.mark.parametrize(
    "text", ["{{ run.outputs.output }}!", "{{ run.outputs.output ~ '!' }}", "{{ run.outputs.output | indent }}"]
)
def test_what_makes_too_large_a_text_is_refused_with_the_way_out(text):
    with pytest.raises(TemplateError, match=r"makes a text of|more work") as caught:
        TEMPLATES.compile({"p": text}).render(DOCUMENT)
    assert "`| truncate(3000)`" in caught.value.hint


@pytest.mark.parametrize("escape", [False, True])
def test_a_text_of_ten_megabytes_may_come_out(escape):
    text = "ab <" * 2_500_000
    template = TEMPLATES.compile({"p": "It said: {{ run.name }}"}, escape=frozenset({"p"} if escape else ()))
    made = template.render({"run": {"name": text}, "vars": {}})["p"]
    assert made == "It said: " + (text.replace("<", "&lt;") if escape else text)


def test_wrapping_a_large_text_is_refused_with_the_way_out_and_wrapping_what_is_cut_works():
    with pytest.raises(TemplateError) as caught:
        TEMPLATES.compile({"p": "{{ run.outputs.output | wordwrap(9) }}"}).render(DOCUMENT)
    assert "truncate(3000)" in caught.value.hint
    wrapped = TEMPLATES.compile({"p": "{{ run.outputs.output | truncate(20) | wordwrap(9) }}"}).render(DOCUMENT)
    assert wrapped["p"] == "ab cd <e>\nab cd..."

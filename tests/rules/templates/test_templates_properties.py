"""What holds for any data and any text."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.document import Missing
from engine.core.errors import DataMissing, TemplateError
from engine.rules.templates import Templates

TEMPLATES = Templates()
TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
NATIVE = TEMPLATES.compile({"p": "{{ run.inputs }}"})
DERIVED = TEMPLATES.compile({"p": "{{ [run.inputs][0] }}"})
WRITTEN = TEMPLATES.compile({"p": "{{ run.inputs | tojson | fromjson }}"})
MIXED = TEMPLATES.compile({"p": "<{{ run.inputs }}>"})

WORDS = """
{{ }} {% %} {# #} run .inputs [0] ['k'] | upper join map( ) ( if else endif for in endfor set endset = == < ~ + * **
- 'text' 1 99 1000000 omit none true not and or is defined default( , { } : range( %} loop.index macro m() endmacro
namespace( call filter tojson format( center( '%s%d' % .items() .format( \\ feedback runs vars .x raw endraw
recursive loop( import include {{- -}} & ! ? @ ' " 한
"""
FRAGMENTS = st.sampled_from([*WORDS.split(), "\n", "\x00"])
SOUP = st.lists(FRAGMENTS, max_size=14).map(" ".join) | st.lists(FRAGMENTS, max_size=10).map(
    lambda parts: "{{ " + " ".join(parts) + " }}"
)
DOCUMENT = {
    "run": {"inputs": {"k": [1, "two", None]}, "x": "y"},
    "runs": [{"x": 1}],
    "feedback": Missing("feedback", "not fetched"),
    "vars": {"x": "v"},
}


@given(JSON)
def test_a_value_comes_through_as_it_is(value):
    document = {"run": {"inputs": value}}
    for template in (NATIVE, DERIVED):
        got = template.render(document)["p"]
        assert got == value
        assert repr(got) == repr(value)


@given(st.text(alphabet="{}%#'\"[]()<>| run.x1\n-", max_size=30))
def test_data_is_never_evaluated(data):
    assert NATIVE.render({"run": {"inputs": data}})["p"] == data
    assert MIXED.render({"run": {"inputs": data}})["p"] == f"<{data}>"


@given(JSON)
def test_json_written_and_read_again_is_the_same(value):
    if _fits_orjson(value):
        assert WRITTEN.render({"run": {"inputs": {"v": value}}})["p"] == {"v": value}


def _fits_orjson(value):
    if isinstance(value, dict):
        return all(_fits_orjson(item) and _fits_orjson(key) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_fits_orjson, value))
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@settings(max_examples=200, deadline=5000)
@given(SOUP | st.text(max_size=60), st.booleans())
def test_any_text_renders_or_is_a_template_error(text, escaping):
    with contextlib.suppress(TemplateError, DataMissing):
        escape = frozenset({"p"}) if escaping else frozenset()
        TEMPLATES.compile({"p": text}, escape=escape).render(DOCUMENT)


@settings(max_examples=100, deadline=5000)
@given(st.lists(FRAGMENTS, max_size=10).map(" ".join))
def test_any_expression_evaluates_or_is_a_template_error(text):
    with contextlib.suppress(TemplateError, DataMissing):
        TEMPLATES.expression(text).evaluate(DOCUMENT)

"""RE2, and the shortcut for patterns that are texts: both answer alike."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from engine.core.regex import RegexError, compile_search, compile_sub

texts = st.text(st.sampled_from("ab \n-^$é."), max_size=6)


@given(
    pattern=st.builds(
        lambda start, text, end: f"{start}{text}{end}",
        st.sampled_from(["", "^"]),
        st.text(st.sampled_from("ab -."), max_size=3),
        st.sampled_from(["", "$"]),
    ),
    text=texts,
)
def test_every_pattern_answers_as_re2_does(pattern, text):
    assert compile_search(pattern)(text) is (re2.search(pattern, text) is not None)


@pytest.mark.timeout(10)
def test_time_is_linear_in_the_text():
    assert compile_search(r"^(\w+\s?)*$")("a" * 200_000 + "!") is False


def test_replacement_knows_groups():
    assert compile_sub(r"(\w)-(?P<last>\w)", r"\g<last>\1")("a-b c-d") == "ba dc"


@pytest.mark.parametrize("pattern", ["(", "a**", r"\8", "(?=x)", "\ud800"])
def test_a_bad_pattern_is_refused_with_words(pattern):
    with pytest.raises(RegexError) as caught:
        compile_search(pattern)
    assert str(caught.value)

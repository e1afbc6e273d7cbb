"""Control characters are shown, and nothing else is changed."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.control_characters import CONTROLS, visible, visible_in_json

ANY = st.text(st.characters(exclude_categories=()))


@given(ANY)
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    shown = visible(text)
    assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in "\t\n" for one in shown)
    assert not any(unicodedata.bidirectional(one) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
                   for one in shown)  # fmt: skip
    shown.encode()


@given(ANY)
def test_text_is_as_python_would_write_it(text: str) -> None:
    assert visible(text) == "".join(repr(one)[1:-1] if CONTROLS.match(one) else one for one in text)


@given(st.recursive(ANY | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(ANY, inner)))
def test_json_stays_the_same_json(value: object) -> None:
    shown = visible_in_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(shown) == value
    assert not CONTROLS.search(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\rb\x07\x7f", r"a\rb\x07\x7f"),
        ("\u202etxt\u2069", r"\u202etxt\u2069"),
        ("\u2028", r"\u2028"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("日本 é ✓", "日本 é ✓"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert visible(text) == shown

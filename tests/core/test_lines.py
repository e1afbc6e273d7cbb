"""Lines break between words, and a caret stands below its character, whatever the line holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.core.control_characters import CONTROLS
from engine.core.errors import Problem
from engine.core.lines import indent_of, snippet, wrapped, wrapped_advice

WORDS = st.lists(st.text("ab/-日本", min_size=1, max_size=30), min_size=1, max_size=20)


@given(WORDS, st.integers(0, 8), st.integers(0, 4), st.integers(10, 60))
def test_lines_break_between_words(words: list[str], indent: int, hanging: int, width: int) -> None:
    lines = wrapped(" " * indent + " ".join(words), width, hanging)
    assert " ".join(lines).split() == words
    assert indent_of(lines[0]) == indent
    assert all(indent_of(line) == indent + hanging for line in lines[1:])
    longest = max(cell_len(word) for word in words)
    if longest + indent + hanging <= width:
        assert all(cell_len(line) <= width for line in lines)


def test_a_word_that_is_too_long_stays_whole() -> None:
    url = "https://example.com/" + "x" * 80
    assert wrapped(f"see {url} for more", 40) == ["see", url, "for more"]
    assert wrapped("short enough", 40) == ["short enough"]
    assert wrapped("    a line of words", 12) == ["    a line", "    of words"]


@pytest.mark.parametrize(
    ("advice", "lines"),
    [
        ("the line should read: - a: b c d e f g", ["the line should", "read:", "    - a: b c d e f g"]),
        ("  should read:\n    - a: b c d e f g h i j k l", ["  should read:", "    - a: b c d e f g h i j k l"]),
        ('write {path: "$.run.x", gt: 5} (why so)', ["write", '{path: "$.run.x", gt: 5}', "(why so)"]),
        ('add to it: slack: {token: "${A}", b: 1}', ["add to it:", 'slack: {token: "${A}", b: 1}']),
        ('- log: {message: "{{ a }} b"} it is', ['- log: {message: "{{ a }} b"}', "it is"]),
        ("the writers' own words of the engine's", ["the writers' own", "words of the", "engine's"]),
        ("a { that stays open and more", ["a { that stays", "open and more"]),
    ],
)
def test_what_is_to_be_written_is_never_wrapped(advice: str, lines: list[str]) -> None:
    assert wrapped_advice(advice, 17) == lines


@given(
    st.text(st.sampled_from("abc {}日本\t\x1b🙂é\u0301"), min_size=1, max_size=200),
    st.integers(1, 220),
    st.one_of(st.none(), st.integers(12, 100)),
)
def test_the_caret_stands_below_the_character(source: str, column: int, width: int | None) -> None:
    source = f"x{source}x"
    line, caret = snippet(source, column, width)
    assert not CONTROLS.search(line)
    assert "\t" not in line
    assert caret.strip() == "^"
    assert width is None or cell_len(line) <= width
    at = min(column - 1, len(source))
    behind = source[at : at + 1].replace("\t", " ").replace("\x1b", "\\")
    before = next(line[:end] for end in range(len(line) + 1) if cell_len(line[:end]) >= len(caret) - 1)
    rest = line[len(before) :].lstrip("\u0301")
    assert cell_len(before) == len(caret) - 1
    assert behind == "\u0301" or rest[:1] == behind


@pytest.mark.parametrize(
    ("source", "column", "caret"),
    [
        ("  - {path: x}", 6, "     ^"),
        ("日本: {path: x}", 6, "       ^"),
        ("\t- log: {}", 1, "    ^"),
        ("        text of a block", 1, "        ^"),
        ("short", 40, "     ^"),
    ],
)
def test_the_caret_of_some_lines(source: str, column: int, caret: str) -> None:
    assert snippet(source, column)[1] == caret
    assert str(Problem("a.yaml", 1, column, "wrong", "", source)).splitlines()[2] == f"    {caret}"


def test_a_long_line_is_cut_around_the_caret() -> None:
    source = "".join(f"word{number:03} " for number in range(40))
    line, caret = snippet(source, source.index("word020") + 1, 40)
    assert line[len(caret) - 1 :].startswith("word020")
    assert (line[0], line[-1], cell_len(line)) == ("…", "…", 40)
    assert snippet(source, 1, 40)[0].startswith("word000 word001")
    assert snippet(source, 319, 40)[0].endswith("word039")

"""Control characters are shown, lines break between words, and a caret stands below its character."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.core.errors import Problem
from engine.core.terminal_text import (
    CONTROLS,
    indent_of,
    snippet,
    visible,
    visible_in_json,
    wrapped,
    wrapped_advice,
    wrapped_problem,
)

WORDS = st.lists(st.text("ab/-日本", min_size=1, max_size=30), min_size=1, max_size=20)
ANY = st.text(st.characters(exclude_categories=()))


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


def test_a_problem_keeps_its_caret_below_its_character_and_its_advice_whole() -> None:
    source = "  - {path: $.runs[*].name, " + "x" * 60 + ", regex: ^chat}"
    message = "refused: unknown key 'regex' " + "and so on " * 8
    text = f"{message}\n    {source}\n    {' ' * source.index('regex')}^\n    did you mean 'matches'?"
    lines = wrapped_problem(text, 50)
    assert all(cell_len(line) <= 50 for line in lines)
    (at,) = [number for number, line in enumerate(lines) if line.strip() == "^"]
    assert lines[at - 1][lines[at].index("^") :].startswith("regex")
    assert lines[at - 1].strip().startswith("…")
    assert " ".join(" ".join(lines[: at - 1]).split()) == message.strip()
    assert lines[at + 1 :] == ["    did you mean 'matches'?"]


@pytest.mark.parametrize("text", ["^", "one line", "^\nbelow", "", "a\n\nb"])
def test_a_text_without_a_caret_below_a_line_is_only_wrapped(text: str) -> None:
    assert wrapped_problem(text, 40) == wrapped(text, 40)


def test_two_problems_each_have_their_line_and_caret() -> None:
    lines = wrapped_problem("first\n  日本 x\n       ^\nsecond\n  y\n  ^\nend", 40)
    assert lines == ["first", "  日本 x", "       ^", "second", "  y", "  ^", "end"]

"""Text as a terminal shows it: control characters made visible, lines wrapped, a caret below a character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

from rich.cells import cell_len

#: Control characters except tab and line feed, direction marks, line separators and surrogates. They could forge a
#: line, control a terminal or reverse text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_WORD = re.compile(r"\S+")
#: A word, or a mapping or a text of YAML with the keys and the dash before it, which is to be copied.
_WORD_OR_YAML = re.compile(
    r"""(?:-[ ])?(?:[\w.$*-]+:[ ])?(?:\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}|"[^"]*"|'[^']*')\S*|\S+"""
)
#: Behind this stands a line of a file.
_SHOULD_READ = "should read:"
_TAB = 4


def visible(text: str) -> str:
    r"""The text with control characters written as in Python: ``\x1b``."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def visible_in_json(text: str) -> str:
    r"""JSON text with control characters written as JSON escapes: ``\u001b``. It parses to the same value."""
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def breaks(line: str, width: int, hanging: int = 0, word: re.Pattern[str] = _WORD) -> list[int]:
    """Where further lines begin, as indexes, if each takes ``width`` cells at most. A longer word stays whole.

    Continuation lines have the indentation of the line and ``hanging`` more spaces.
    """
    if cell_len(line) <= width:
        return []
    found: list[int] = []
    begin, used, indent = 0, 0, indent_of(line) + hanging
    for each in word.finditer(line):
        longer = used + cell_len(line[begin : each.end()])
        if begin and longer > width:
            found.append(each.start())
            longer = indent + cell_len(each[0])
        begin, used = each.end(), longer
    return found


def indent_of(line: str) -> int:
    """The number of spaces at the start of a line."""
    return len(line) - len(line.lstrip(" "))


def wrapped(text: str, width: int, hanging: int = 0) -> list[str]:
    """The lines of a text, wrapped as in ``breaks``, with control characters visible and tabs expanded."""
    return [piece for line in visible(text).expandtabs(_TAB).split("\n") for piece in _pieces(line, width, hanging)]


def wrapped_advice(text: str, width: int, hanging: int = 0) -> list[str]:
    """As ``wrapped``, but what is to be written into a file stays whole, however long: it is there to be copied."""
    made: list[str] = []
    is_source = False
    for line in visible(text).expandtabs(_TAB).split("\n"):
        if is_source:
            made.append(line)
            continue
        before, is_there, source = line.partition(f"{_SHOULD_READ} ")
        if is_there and cell_len(line) > width:
            made += [*_pieces(before + _SHOULD_READ, width, hanging), " " * (indent_of(line) + _TAB) + source]
        else:
            made += _pieces(line, width, hanging, _WORD_OR_YAML)
        is_source = line.endswith(_SHOULD_READ)
    return made


def wrapped_problem(text: str, width: int, hanging: int = 0) -> list[str]:
    """A text with problems as ``str(problem)`` has them: a line above a caret is cut around it, advice stays whole."""
    lines, made = visible(text).expandtabs(_TAB).split("\n"), list[str]()
    begin = 0
    for number, line in enumerate(lines):
        if number and line.strip() == "^":
            made += wrapped_advice("\n".join(lines[begin : number - 1]), width, hanging) if begin < number - 1 else []
            made += snippet(lines[number - 1], _character_at(lines[number - 1], len(line) - 1) + 1, width)
            begin = number + 1
    return made + (wrapped_advice("\n".join(lines[begin:]), width, hanging) if begin < len(lines) else [])


def _character_at(line: str, cell: int) -> int:
    """The index of the character that stands in a cell."""
    ends = accumulate(map(cell_len, line))
    return next((index for index, end in enumerate(ends) if end > cell), len(line))


def _pieces(line: str, width: int, hanging: int, word: re.Pattern[str] = _WORD) -> list[str]:
    places = [0, *breaks(line, width, hanging, word), len(line)]
    indent = " " * (indent_of(line) + hanging)
    pieces = [line[begin:end].rstrip() for begin, end in pairwise(places)]
    return [pieces[0], *(indent + piece for piece in pieces[1:])]


def snippet(source: str, column: int, width: int | None = None) -> tuple[str, str]:
    """A line of a file for display, and the line below it with a caret.

    The caret is below the character at ``column`` (from 1), or below the first character that is not a space. A line
    that takes more than ``width`` cells is cut around the caret, with … at each cut.
    """
    shown = [" " * _TAB if character == "\t" else visible(character) for character in source.rstrip()]
    blank = len(source) - len(source.lstrip())
    at = min(max(column - 1, blank), len(shown))
    begin, end = 0, len(shown)
    if width is not None and cell_len("".join(shown)) > width:
        begin, end = _window([cell_len(one) for one in shown], at, width - 2)
    before, after = "…" if begin else "", "…" if end < len(shown) else ""
    return before + "".join(shown[begin:end]) + after, " " * cell_len(before + "".join(shown[begin:at])) + "^"


def _window(cells: Sequence[int], at: int, room: int) -> tuple[int, int]:
    """The range of characters around ``at`` that fits into ``room`` cells, with ``at`` in the middle if possible."""
    begin = end = at
    grows = True
    while grows:
        grows = False
        if end < len(cells) and sum(cells[begin : end + 1]) <= room:
            end, grows = end + 1, True
        if begin and sum(cells[begin - 1 : end]) <= room:
            begin, grows = begin - 1, True
    return begin, end

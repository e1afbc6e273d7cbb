"""Text on a terminal: lines broken between words, and a line of a file with a caret below one of its characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from rich.cells import cell_len

from engine.core.control_characters import visible

_WORD = re.compile(r"\S+")
_TAB = 4


def breaks(line: str, width: int, hanging: int = 0) -> list[int]:
    """Where further lines begin, as indexes, if each takes ``width`` cells at most. A longer word stays whole.

    Further lines are to be indented as the line is, and by ``hanging`` more.
    """
    if cell_len(line) <= width:
        return []
    found: list[int] = []
    begin, used, indent = 0, 0, indent_of(line) + hanging
    for word in _WORD.finditer(line):
        longer = used + cell_len(line[begin : word.end()])
        if begin and longer > width:
            found.append(word.start())
            longer = indent + cell_len(word[0])
        begin, used = word.end(), longer
    return found


def indent_of(line: str) -> int:
    """How many spaces a line begins with."""
    return len(line) - len(line.lstrip(" "))


def wrapped(text: str, width: int, hanging: int = 0) -> list[str]:
    """The lines of a text, as ``breaks`` has it. Control characters are shown, tabs expanded."""
    return [piece for line in visible(text).expandtabs(_TAB).split("\n") for piece in _pieces(line, width, hanging)]


def _pieces(line: str, width: int, hanging: int) -> list[str]:
    places = [0, *breaks(line, width, hanging), len(line)]
    indent = " " * (indent_of(line) + hanging)
    pieces = [line[begin:end].rstrip() for begin, end in pairwise(places)]
    return [pieces[0], *(indent + piece for piece in pieces[1:])]


def snippet(source: str, column: int, width: int | None = None) -> tuple[str, str]:
    """A line of a file as it is shown, and the line below it, with a caret.

    The caret stands below the character at ``column``, which counts characters from 1, or below the first that is no
    space. A line that takes more than ``width`` cells is cut around it, with … where something is missing.
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
    """The characters around one that fit into ``room`` cells, as many before it as behind it if there are so many."""
    begin = end = at
    grows = True
    while grows:
        grows = False
        if end < len(cells) and sum(cells[begin : end + 1]) <= room:
            end, grows = end + 1, True
        if begin and sum(cells[begin - 1 : end]) <= room:
            begin, grows = begin - 1, True
    return begin, end

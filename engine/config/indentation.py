"""Which indentation a line of YAML can have been meant to have, judged by the lines above it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: What stands before a line's first key or value: spaces, and the dashes of list items.
_DASHES = re.compile(r"(?:-\s+)*")
_OPENS = re.compile(r"(?:^|[\w\"'.*-])\s*:\s*(?:#.*)?$")


def indent_of(line: str) -> int:
    """The number of white space characters before a line's text."""
    return len(line) - len(line.lstrip())


def indented(line: str, spaces: int) -> str:
    """The line with so many spaces before its text, and no tabs in it."""
    return " " * spaces + line.lstrip().replace("\t", " ")


def likely_indents(lines: Sequence[str], number: int) -> list[int]:
    """How far the line with this number (from 1) may be indented, the deepest first.

    Below ``key:`` it is deeper than that; otherwise it stands below one of the blocks that are open above it.
    """
    above = [line for line in lines[: number - 1] if line.strip() and not line.lstrip().startswith(("#", "\t"))]
    if not above:
        return [0]
    if _OPENS.search(above[-1].split(" #")[0].rstrip()):
        is_item = lines[number - 1].lstrip().startswith("- ")
        start = _content(above[-1])
        return [start + 2, start + 4, *([start] if is_item else [])]
    return sorted(set(_open_blocks(above)), reverse=True)


def nearest_indents(lines: Sequence[str], number: int) -> list[int]:
    """The same, the nearest to what the line has first, without that."""
    own = indent_of(lines[number - 1])
    return sorted((each for each in likely_indents(lines, number) if each != own), key=lambda each: abs(each - own))


def _content(line: str) -> int:
    """Where a line's text begins, behind the dashes of list items."""
    match = _DASHES.match(line, indent_of(line))
    return match.end() if match else indent_of(line)


def _open_blocks(lines: Sequence[str]) -> Iterator[int]:
    """The indentations of the blocks that a following line may go on with, from the innermost outwards."""
    least = None
    for line in reversed(lines):
        if least is None or indent_of(line) < least:
            least = indent_of(line)
            yield from {least, _content(line)}

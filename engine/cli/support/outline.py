"""A tree of lines, broken between words where the terminal is too narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from engine.cli.support.terminal import lines_of

#: Lines are not broken shorter than this, however deep they stand.
_NARROWEST = 24
#: How far the further lines of one that is broken are indented.
_HANGING = 2


class Outline:
    """A line, or several, and what stands below it.

    ``tail`` follows on the same line where there is room.
    """

    def __init__(self, label: Text, tail: Text | None = None) -> None:
        self._label, self._tail = label, tail
        self._below: list[Outline] = []

    def add(self, label: Text, tail: Text | None = None) -> Outline:
        """One more below this one."""
        child = Outline(label, tail)
        self._below.append(child)
        return child

    def print(self, console: Console) -> None:
        """To people."""
        for line in self.lines(console, "", ""):
            console.print(line, soft_wrap=True)

    def lines(self, console: Console, first: str, rest: str) -> Iterator[Text]:
        """Each as it is printed; ``first`` stands before the first one, ``rest`` before the others."""
        for number, line in enumerate(self._own(console.width - len(rest))):
            yield Text.assemble((rest if number else first, "dim"), line)
        for child in self._below:
            last = child is self._below[-1]
            yield from child.lines(console, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))

    def _own(self, width: int) -> list[Text]:
        room = max(width, _NARROWEST)
        lines = lines_of(self._label, room, _HANGING)
        if self._tail is None:
            return lines
        if lines[-1].cell_len + self._tail.cell_len + _HANGING <= room:
            return [*lines[:-1], Text.assemble(lines[-1], " " * _HANGING, self._tail)]
        return [*lines, *lines_of(Text.assemble(" " * _HANGING, self._tail), room, _HANGING)]


def in_json(tree: Any) -> Text:
    """Coloured JSON."""
    coloured = Syntax("", "json", theme="ansi_dark", background_color="default").highlight(
        json.dumps(tree, ensure_ascii=False, indent=2)
    )
    coloured.rstrip()
    return coloured

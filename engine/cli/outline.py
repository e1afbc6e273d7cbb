"""A tree of lines. Words are wrapped, values never: what is copied or piped stays whole, and JSON stays JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

#: Lines are not broken shorter than this, however deep they stand.
_NARROWEST = 24


class Outline:
    """A line, or several, and what stands below it.

    A label with ``no_wrap`` is printed as it is, however long. ``tail`` follows on the same
    line where there is room, and is never wrapped.
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
        for number, line in enumerate(self._own(console, console.width - len(rest))):
            yield Text.assemble((rest if number else first, "dim"), line)
        for child in self._below:
            last = child is self._below[-1]
            yield from child.lines(console, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))

    def _own(self, console: Console, width: int) -> list[Text]:
        if not self._label.no_wrap:
            wrapped = list(self._label.wrap(console, max(width, _NARROWEST)))
            for line in wrapped:
                line.rstrip()
            return wrapped
        lines = list(self._label.split("\n", allow_blank=True))
        if self._tail is None:
            return lines
        if lines[-1].cell_len + self._tail.cell_len + 2 <= width:
            return [*lines[:-1], Text.assemble(lines[-1], "  ", self._tail)]
        return [*lines, Text.assemble("  ", self._tail)]


def value(*parts: str | Text | tuple[str, str]) -> Text:
    """A label that is never wrapped."""
    text = Text.assemble(*parts)
    text.no_wrap = True
    return text


def in_json(tree: Any) -> Text:
    """Coloured JSON that is never wrapped."""
    coloured = Syntax("", "json", theme="ansi_dark", background_color="default").highlight(
        json.dumps(tree, ensure_ascii=False, indent=2)
    )
    coloured.rstrip()
    return value(coloured)

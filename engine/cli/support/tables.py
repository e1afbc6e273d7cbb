"""Tables, pairs of names and values, and trees on terminals of any width. Nothing is cut, and no word is broken."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from engine.cli.support.terminal import lines_of, visible_text

#: Cells between two columns, and before what stands below a row.
_GAP = 2
#: A text is wrapped within its column where that is at least so wide; else it stands below the row.
_NARROWEST = 24


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    right: bool
    wraps: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a column stands: on which line of a row, behind how many cells, and how many it has."""

    line: int
    begins: int
    width: int


class Table:
    """Rows below a head, as wide as the terminal at most.

    ``name>`` is right-aligned. ``name*`` holds texts that may be long: it stands last, and they are wrapped. Of several
    such columns only the last takes what is left of a line.
    Columns for which a line has no room go on on the next one, indented, and so do their names in the head. Of a cell
    with several lines the first stands in the column, and the others below the row.
    """

    def __init__(self, *columns: str) -> None:
        made = [_Column(name.rstrip(">*"), ">" in name, "*" in name) for name in columns]
        self._order = sorted(range(len(made)), key=lambda place: made[place].wraps)
        self._columns = [made[place] for place in self._order]
        self._rows: list[list[Text]] = []
        self._below: list[list[Text]] = []

    def add_row(self, *cells: str | Text, below: Iterable[Text] = ()) -> None:
        """A row: a cell for each column, and lines below it; one with ``no_wrap`` is to be copied, and stays whole."""
        texts = [visible_text(Text(cell) if isinstance(cell, str) else cell) for cell in cells]
        self._rows.append([texts[place] for place in self._order])
        self._below.append(list(below))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """As lines, none of which rich wraps again."""
        width = options.max_width
        rows = [[cell.split("\n", allow_blank=True) or [Text()] for cell in row] for row in self._rows]
        places = self._places([[cell[0] for cell in row] for row in rows], width)
        head = self._lines([Text(column.name, style="bold") for column in self._columns], places, width)
        body = [self._lines([cell[0] for cell in row], places, width) for row in rows]
        longest = max(line.cell_len for lines in (head, *body) for line in lines)
        yield from map(_as_it_is, [*head, Text("─" * min(longest, width))])
        for row, lines, more in zip(rows, body, self._below, strict=True):
            texts = [text for cell in row for text in cell[1:]] + more
            below = [line for text in texts for line in _indented(text, width)]
            yield from map(_as_it_is, [*lines, *below])

    def _places(self, firsts: Sequence[Sequence[Text]], width: int) -> list[_Place]:
        """Columns fill lines. The last one that wraps takes what is left of a line, if its name fits."""
        naturals = [
            max([len(column.name), *(row[number].cell_len for row in firsts)])
            for number, column in enumerate(self._columns)
        ]
        narrow = sum(naturals) + _GAP * (len(naturals) - 1) > width
        places: list[_Place] = []
        line = begins = 0
        for number, (column, natural) in enumerate(zip(self._columns, naturals, strict=True)):
            last = number == len(naturals) - 1
            taken = min(natural, _NARROWEST) if column.wraps and narrow and not last else natural
            needed = len(column.name) if column.wraps and last else taken
            if places and begins + needed > width:
                line, begins = line + 1, _GAP
            if column.wraps and last:
                taken = min(natural, max(width - begins, needed))
            places.append(_Place(line, begins, taken))
            begins += taken + _GAP
        return places

    def _lines(self, cells: Sequence[Text], places: Sequence[_Place], width: int) -> list[Text]:
        blocks: list[list[Text]] = [[] for _ in range(places[-1].line + 1)]
        below: list[Text] = []
        for column, place, cell in zip(self._columns, places, cells, strict=True):
            pieces = _within(cell, place) if column.wraps else [cell]
            if pieces[0].cell_len > place.width:
                below += _indented(cell, width)
            else:
                _put(blocks[place.line], pieces, place, right=column.right)
        lines = [line for block in blocks for line in block]
        for line in lines:
            line.rstrip()
        return [*(line for line in lines if line.plain), *below]


def _put(block: list[Text], pieces: Sequence[Text], place: _Place, *, right: bool) -> None:
    """A cell's lines below each other, beside those that stand there."""
    block += [Text() for _ in range(len(pieces) - len(block))]
    for line, piece in zip(block, pieces, strict=False):
        missing = place.width - piece.cell_len if right else 0
        line.append(" " * (place.begins + missing - line.cell_len)).append_text(piece)


def _within(cell: Text, place: _Place) -> list[Text]:
    """A cell's lines in its column; one line, which may be too long, where it can't be wrapped there."""
    if cell.cell_len <= place.width or place.width < _NARROWEST:
        return [cell]
    lines = lines_of(cell, place.width)
    return lines if all(line.cell_len <= place.width for line in lines) else [cell]


def _indented(text: Text, width: int) -> list[Text]:
    whole = Text(" " * _GAP).append_text(text)
    return [visible_text(whole)] if text.no_wrap else lines_of(whole, width)


class Pairs:
    """Names and values, one pair a line; further lines of a value begin below its first one."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._pairs = [(name, value) for name, value in pairs if value is not None and value != ""]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """As lines, none of which rich wraps again."""
        column = max((len(name) for name, _ in self._pairs), default=0) + _GAP
        for name, value in self._pairs:
            text = visible_text(value if isinstance(value, Text) else Text(str(value)))
            lines = lines_of(text, max(options.max_width - column, _NARROWEST))
            heads = [Text(name.ljust(column), style="dim"), *(Text(" " * column) for _ in lines[1:])]
            yield from (_as_it_is(head.append_text(line)) for head, line in zip(heads, lines, strict=True))


def _as_it_is(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ignore"
    return line


#: Lines are not broken shorter than this, however deep they stand.
_NARROWEST_LINE = 24
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
        room = max(width, _NARROWEST_LINE)
        lines = lines_of(self._label, room, _HANGING)
        if self._tail is None:
            return lines
        if lines[-1].cell_len + self._tail.cell_len + _HANGING <= room:
            return [*lines[:-1], Text.assemble(lines[-1], " " * _HANGING, self._tail)]
        return [*lines, *lines_of(Text.assemble(" " * _HANGING, self._tail), room, _HANGING)]


def in_json(tree: Any) -> Text:
    """Coloured JSON."""
    from rich.syntax import Syntax  # takes long to import

    coloured = Syntax("", "json", theme="ansi_dark", background_color="default").highlight(
        json.dumps(tree, ensure_ascii=False, indent=2)
    )
    coloured.rstrip()
    return coloured

"""Where every value of a configuration file stands, and the problems found in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.core.errors import Problem

#: Nobody reads more problems than this of one file; past it they are not recorded.
MAX_PROBLEMS = 200

#: Longer lines are not shown with a problem: nobody would find the place in them.
_LONGEST_SHOWN = 300

#: An unquoted scalar without spaces, behind its anchor and tag.
_PLAIN_SCALAR = re.compile(r"(?:[&!]\S*\s+)*([^\s,\[\]{}#&!*|>'\"%@`]+)")

#: A place in the parsed tree: keys and indexes from the root.
Where = tuple[str | int, ...]


def in_condition(where: Where) -> bool:
    """Whether a place of a configuration is within a route's ``filters`` or an action's ``when``."""
    return where[:1] == ("routes",) and ("filters" in where[2:4] or "when" in where[4:6])


@dataclass(frozen=True, slots=True)
class Mark:
    """Line and column of a value, and of its key where it has one; all count from 1.

    ``style`` is how a scalar was written: None is plain, else one of ``' " | >``.
    """

    line: int
    column: int
    key_line: int = 0
    key_column: int = 0
    style: str | None = None


@dataclass(slots=True)
class Source:
    """One parsed file. Everything that checks it reports here, so that all problems come out at once."""

    file: str
    text: str = ""
    marks: Mapping[Where, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _lines: list[str] | None = field(default=None, init=False, repr=False, compare=False)
    _excused: set[Where] = field(default_factory=set, init=False, repr=False, compare=False)
    _places: set[Where] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def lines(self) -> list[str]:
        """The file's lines, without their ends."""
        if self._lines is None:
            self._lines = self.text.splitlines()
        return self._lines

    @property
    def full(self) -> bool:
        """Whether there are as many problems as anybody reads."""
        return len(self.problems) >= MAX_PROBLEMS

    def report(
        self,
        where: Where,
        message: str,
        hint: str = "",
        *,
        at_key: bool = False,
        line: int = 1,
        column: int = 1,
    ) -> None:
        """Record a problem at a place of the tree, or at the nearest parent whose place is known.

        ``line`` and ``column`` count from 1 within the value there: a block scalar's third
        line, the fifth character of a path. A column counts only for a value written on one line.
        """
        self._places.add(where)
        self.add(self.problem(where, message, hint, at_key=at_key, line=line, column=column))

    def problem(
        self, where: Where, message: str, hint: str = "", *, at_key: bool = False, line: int = 1, column: int = 1
    ) -> Problem:
        """A problem at such a place, not recorded."""
        mark = self.mark(where)
        if mark is None:
            return Problem(self.file, 0, 0, message, hint)
        if at_key and mark.key_line:
            return self._made(mark.key_line, mark.key_column, message, hint)
        if mark.style in ("|", ">"):
            return self._made(mark.line + line, 1, message, hint)
        quoted = 1 if mark.style in ("'", '"') and column > 1 else 0
        return self._made(mark.line, mark.column + column - 1 + quoted, message, hint)

    def at(self, line: int, column: int, message: str, hint: str = "") -> None:
        """Record a problem at a line and column of the file, both from 1."""
        self.add(self._made(line, column, message, hint))

    def _made(self, line: int, column: int, message: str, hint: str) -> Problem:
        shown = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return Problem(self.file, line, column, message, hint, shown if len(shown) <= _LONGEST_SHOWN else "")

    def add(self, problem: Problem) -> None:
        """Record a problem, once."""
        if not self.full and problem not in self.problems:
            self.problems.append(problem)

    def excuse(self, where: Where) -> None:
        """Have a place count as troubled, without a problem of its own."""
        self._places.add(where)
        self._excused.add(where)

    def excused(self, where: Where) -> bool:
        """Whether such a place is at, around or within this one."""
        return any(place[: len(where)] == where or where[: len(place)] == place for place in self._excused)

    def troubled(self, where: Where) -> bool:
        """Whether a problem was reported at a place or within it: what follows from it is not worth a message."""
        return any(place[: len(where)] == where for place in self._places)

    def troubled_at(self, where: Where) -> bool:
        """Whether a problem was reported at exactly this place."""
        return where in self._places

    def line_of(self, where: Where, line: int = 1) -> int:
        """The file's line on which a place stands, or of a block of text its ``line``-th; 0 if that is not known."""
        mark = self.mark(where)
        if mark is None:
            return 0
        if mark.style is None and mark.key_line and mark.key_line < mark.line:
            return mark.key_line  # of a mapping or list below its key, the key
        return mark.line + line if mark.style in ("|", ">") else mark.line

    def plain_scalar(self, where: Where) -> str:
        """A scalar without quotes or spaces as it stands in the file, its zeros and signs kept; empty if it is none."""
        mark = self.marks.get(where)
        if mark is None or mark.style is not None or not 0 < mark.line <= len(self.lines):
            return ""
        found = _PLAIN_SCALAR.match(self.lines[mark.line - 1], mark.column - 1)
        return found[1] if found else ""

    def rename(self, where: Where, key: str) -> None:
        """Let the places below a key that was misspelt be found under its right name as well."""
        size = len(where)
        below = {place: mark for place, mark in self.marks.items() if place[:size] == where}
        self.marks = {**self.marks, **{(*where[:-1], key, *place[size:]): mark for place, mark in below.items()}}

    def mark(self, where: Where) -> Mark | None:
        """The mark of a place, or of its nearest parent that has one."""
        for length in range(len(where), -1, -1):
            if (mark := self.marks.get(where[:length])) is not None:
                return mark
        return None

"""The positions of values in a configuration file, and the problems found in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.core.errors import Problem

#: The maximum number of problems recorded for one file.
MAX_PROBLEMS = 200

#: Longer lines are not shown with a problem.
_LONGEST_SHOWN = 300

#: An unquoted scalar without spaces, after its anchor and tag.
_PLAIN_SCALAR = re.compile(r"(?:[&!]\S*\s+)*([^\s,\[\]{}#&!*|>'\"%@`]+)")

#: A path in the parsed tree: keys and indexes from the root.
Where = tuple[str | int, ...]


def in_condition(where: Where) -> bool:
    """Whether a path is within a route's ``filters`` or an action's ``when``."""
    return where[:1] == ("routes",) and ("filters" in where[2:4] or "when" in where[4:6])


@dataclass(frozen=True, slots=True)
class Mark:
    """Line and column of a value and of its key, if any, all from 1.

    ``style`` is the style of a scalar: None is plain, else one of ``' " | >``.
    """

    line: int
    column: int
    key_line: int = 0
    key_column: int = 0
    style: str | None = None


@dataclass(slots=True)
class Source:
    """One parsed file. All checks report their problems here, so that they are shown together."""

    file: str
    text: str = ""
    marks: Mapping[Where, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _lines: list[str] | None = field(default=None, init=False, repr=False, compare=False)
    _suppressed: set[Where] = field(default_factory=set, init=False, repr=False, compare=False)
    _reported: set[Where] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def lines(self) -> list[str]:
        """The file's lines without line ends."""
        if self._lines is None:
            self._lines = self.text.splitlines()
        return self._lines

    @property
    def full(self) -> bool:
        """Whether the maximum number of problems is reached."""
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
        """Record a problem at a path of the tree, or at the nearest parent with a known position.

        ``line`` and ``column`` count from 1 within the value: the third line of a block scalar, the fifth character of
        a path. The column is used only for a value on one line.
        """
        self._reported.add(where)
        self.add(self.problem(where, message, hint, at_key=at_key, line=line, column=column))

    def problem(
        self, where: Where, message: str, hint: str = "", *, at_key: bool = False, line: int = 1, column: int = 1
    ) -> Problem:
        """Make a problem as ``report`` does, without recording it."""
        mark = self.mark(where)
        if mark is None:
            return Problem(self.file, 0, 0, message, hint)
        if at_key and mark.key_line:
            return self._problem_at(mark.key_line, mark.key_column, message, hint)
        if mark.style in ("|", ">"):
            return self._problem_at(mark.line + line, 1, message, hint)
        quoted = 1 if mark.style in ("'", '"') and column > 1 else 0
        return self._problem_at(mark.line, mark.column + column - 1 + quoted, message, hint)

    def at(self, line: int, column: int, message: str, hint: str = "") -> None:
        """Record a problem at a line and column of the file, both from 1."""
        self.add(self._problem_at(line, column, message, hint))

    def _problem_at(self, line: int, column: int, message: str, hint: str) -> Problem:
        shown = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return Problem(self.file, line, column, message, hint, shown if len(shown) <= _LONGEST_SHOWN else "")

    def add(self, problem: Problem) -> None:
        """Record a problem unless it is recorded already."""
        if not self.full and problem not in self.problems:
            self.problems.append(problem)

    def suppress(self, where: Where) -> None:
        """Suppress further problems at a path without recording one."""
        self._reported.add(where)
        self._suppressed.add(where)

    def suppressed(self, where: Where) -> bool:
        """Whether problems are suppressed at, around or within this path."""
        return any(place[: len(where)] == where or where[: len(place)] == place for place in self._suppressed)

    def has_problem(self, where: Where) -> bool:
        """Whether a problem was reported at or within a path. Problems that follow from it need no message."""
        return any(place[: len(where)] == where for place in self._reported)

    def has_problem_at(self, where: Where) -> bool:
        """Whether a problem was reported at exactly this path."""
        return where in self._reported

    def line_of(self, where: Where, line: int = 1) -> int:
        """The line of a path in the file, or the ``line``-th line of its block scalar; 0 if unknown."""
        mark = self.mark(where)
        if mark is None:
            return 0
        if mark.style is None and mark.key_line and mark.key_line < mark.line:
            return mark.key_line  # a mapping or list below its key: the line of the key
        return mark.line + line if mark.style in ("|", ">") else mark.line

    def plain_scalar(self, where: Where) -> str:
        """A plain scalar without spaces exactly as in the file, with its zeros and signs; empty for other values."""
        mark = self.marks.get(where)
        if mark is None or mark.style is not None or not 0 < mark.line <= len(self.lines):
            return ""
        found = _PLAIN_SCALAR.match(self.lines[mark.line - 1], mark.column - 1)
        return found[1] if found else ""

    def rename(self, where: Where, key: str) -> None:
        """Make the positions below a misspelt key available under its correct name too."""
        size = len(where)
        below = {place: mark for place, mark in self.marks.items() if place[:size] == where}
        self.marks = {**self.marks, **{(*where[:-1], key, *place[size:]): mark for place, mark in below.items()}}

    def mark(self, where: Where) -> Mark | None:
        """The mark of a path, or of its nearest parent that has one."""
        parents = (where[:length] for length in range(len(where), -1, -1))
        return next((self.marks[parent] for parent in parents if parent in self.marks), None)

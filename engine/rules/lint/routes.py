"""Warnings about what a route reads: data that its webhooks lack, and values whose absence makes a delivery dead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.config import ActionConfig, RouteConfig
from engine.core.errors import PathError
from engine.core.payload_schema import DECIMAL_TEXTS, OFTEN_NULL, Step, anchored, is_open, kind_at
from engine.core.positions import Where
from engine.core.vocabulary import KINDS_WITHOUT_RUNS
from engine.rules.jsonpath.write import write_look, write_steps
from engine.rules.lint.walk import conditions, templates
from engine.rules.lint.warning import LintWarning
from engine.rules.templates import Templates

_OF_RUNS: Final = frozenset({"run", "runs", "feedback", "feedbacks", "feedback_stats"})
#: A condition on a run's status also decides whether these exist.
_BY_STATUS: Final = frozenset({("error",), ("outputs",)})


@dataclass(frozen=True, slots=True)
class Read:
    """One value read from the document, its position, and whether a path reads it or an expression or template."""

    where: Where
    steps: tuple[Step, ...]
    path: bool = False
    line: int = 1
    column: int = 1

    @property
    def text(self) -> str:
        """The read as people write it."""
        return write_steps(self.steps) if self.path else write_look(self.steps)


def read_warnings(route: RouteConfig, compiled: Templates) -> Iterator[LintWarning]:
    """The warnings about what one route reads."""
    lint = _Lint(route, compiled)
    yield from lint.event_of_prompts()
    yield from lint.of_any_webhook()
    yield from lint.absent()


class _Lint:
    """Checks what one route reads."""

    def __init__(self, route: RouteConfig, compiled: Templates) -> None:
        self._route = route
        self._templates = compiled
        self._asked = list(self._conditions(route.filters, (*route.where, "filters")))

    def event_of_prompts(self) -> Iterator[LintWarning]:
        """A prompt's webhook has its own key ``event``, which the engine's ``event`` hides."""
        if "prompt" not in self._route.keys:
            return
        for read in self._all_reads():
            if read.steps == ("event",):
                message = f"{read.text} is the engine's own object (id, kind, received_at), not the webhook's event"
                yield _warning(read, message, f"write {'$.payload.event' if read.path else 'payload.event'}")

    def of_any_webhook(self) -> Iterator[LintWarning]:
        """Templates that need a run, in routes that also see webhooks without runs."""
        if not {"*", "unmatched"} & set(self._route.keys) or any(map(_tells_kinds_apart, self._asked)):
            return
        for action in self._route.actions:
            if any(map(_tells_kinds_apart, self._when(action))):
                continue
            read = next((read for read, _whole in self._needed(action) if read.steps[0] in _OF_RUNS), None)
            if read is not None:
                message = f"{self._route.key!r} also sees alerts, commits and issues, which have no {read.text}"
                hint = 'their deliveries would be dead; add filters: [{path: "$.run.id", exists: true}], or default(…)'
                yield _warning(read, message, hint)
                return

    def absent(self) -> Iterator[LintWarning]:
        """Values that many runs lack, used without ``default``."""
        if set(self._route.keys) <= KINDS_WITHOUT_RUNS:
            return  # another warning says that there are no runs
        for action in (*self._route.actions, *self._route.on_dead):
            asked = [*self._asked, *self._when(action)]
            seen: set[tuple[Where, tuple[Step, ...]]] = set()
            for read, whole in self._needed(action):
                part = is_open(read.steps)
                if part is None or (read.where, part) in seen or self._is_asked(part, asked):
                    continue
                if whole and part[0] in OFTEN_NULL and anchored(read.steps) == part:
                    continue  # a whole value that is null stays null
                seen.add((read.where, part))
                yield self._absent(read, part)

    def _absent(self, read: Read, part: tuple[Step, ...]) -> LintWarning:
        often = part[0] in OFTEN_NULL
        what = f"{part[0]} is null in many runs" if often else f"not every run has {read.text}"
        if self._route.wait_for is not None and part[0] == "feedback":
            what = f"{read.text} may never come"
        number = kind_at(read.steps) == "number" or part[0] in DECIMAL_TEXTS
        default_value = "0" if number else "'…'"
        hint = f"write {{{{ {read.text} | default({default_value}) }}}}, or add a condition on it"
        return _warning(read, f"{what}: a delivery that needs it would be dead", hint)

    def _is_asked(self, part: tuple[Step, ...], asked: Sequence[Read]) -> bool:
        """Whether a condition tests a part of the document, so that its absence is handled."""
        for read in asked:
            own = anchored(read.steps)
            if not read.steps or (own[: len(part)] and all(map(_same, own[: len(part)], part))):
                return True
            if (own == ("status",) and part in _BY_STATUS) or (own, part) == (("total_cost",), ("cost",)):
                return True
        return False

    # --- what is read ---

    def _all_reads(self) -> Iterator[Read]:
        yield from self._asked
        for action in (*self._route.actions, *self._route.on_dead):
            yield from self._when(action)
            for where, text in templates(action.params, action.params_where):
                for line, steps in self._templates.inspector.looks(text, bare=False):
                    yield Read(where, tuple(steps), line=line, column=_column(text, line, steps))

    def _when(self, action: ActionConfig) -> list[Read]:
        return list(self._conditions(action.when, (*action.where, "when")))

    def _needed(self, action: ActionConfig) -> Iterator[tuple[Read, bool]]:
        for where, text in templates(action.params, action.params_where):
            for each in self._templates.inspector.needed(text):
                column = _column(text, each.line, each.steps)
                yield Read(where, each.steps, line=each.line, column=column), each.whole

    def _conditions(self, value: Any, where: Where) -> Iterator[Read]:
        for place, each in conditions(value, where):
            if isinstance(path := each.get("path"), str):
                yield Read((*place, "path"), self._path(path), path=True)
            if isinstance(text := each.get("expr"), str):
                for line, steps in self._templates.inspector.looks(text, bare=True):
                    yield Read((*place, "expr"), tuple(steps), line=line)

    def _path(self, text: str) -> tuple[Step, ...]:
        """The steps of a straight path; else its first field, if it is known."""
        try:
            path = self._templates.paths.compile(text)
        except PathError:
            return ()
        return path.steps or ((path.first_field,) if path.first_field else ())


def _warning(read: Read, message: str, hint: str) -> LintWarning:
    return LintWarning(read.where, message, hint, read.line, read.column)


def _tells_kinds_apart(read: Read) -> bool:
    """Whether a condition can hold only for some kinds of webhooks."""
    return not read.steps or read.steps[0] in _OF_RUNS | {"rule_id"} or read.steps[:2] == ("event", "kind")


def _same(one: Step, other: Step) -> bool:
    return one == other or one is None


def _column(text: str, line: int, steps: Sequence[Step]) -> int:
    """The column of the last name of a read in its line."""
    names = [step for step in steps if isinstance(step, str)]
    lines = text.splitlines()
    found = re.search(rf"\b{re.escape(names[-1])}\b", lines[line - 1]) if 0 < line <= len(lines) else None
    return found.start() + 1 if found else 1

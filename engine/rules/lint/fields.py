"""Warnings about routes: undocumented fields, order comparisons of texts, and what the other modules find."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from engine.action.registry import Registry
from engine.config import ActionConfig, Config
from engine.core.error_text import named_error
from engine.core.errors import PathError
from engine.core.event import Kind
from engine.core.json_text import number_of
from engine.core.payload_schema import Step
from engine.core.positions import Source, Where
from engine.core.suggest import nearest
from engine.core.times import time_of
from engine.core.units import parse_duration, parse_share
from engine.core.variables import source_of
from engine.core.vocabulary import UNMATCHED, not_of_kind, undocumented
from engine.rules.jsonpath.filter_tests import filter_tests
from engine.rules.lint.absence import AbsenceLint
from engine.rules.lint.operands import JINJA, Asked, findings, number_slip
from engine.rules.lint.routes import read_warnings
from engine.rules.lint.walk import conditions, templates
from engine.rules.lint.warning import LintWarning
from engine.rules.router import ANY
from engine.rules.templates import Templates
from engine.rules.templates.sandbox import DOCUMENT_NAMES

_ORDERS: Final = frozenset({"lt", "lte", "gt", "gte", "between"})
#: Words that do not depend on the event: a digest that reads only these reads no item.
_OF_NO_ITEM: Final = frozenset({"vars", "route"})
#: An expression that reads one value of the document, and nothing more.
_ONE_LOOK: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+|\[\d+\]|\['[^']*'\])*")
#: Route keys that receive other webhooks than those of rules.
_OTHER_KEYS: Final = frozenset({ANY, UNMATCHED, *map(str, Kind)})
_DATE: Final = re.compile(r"\d{4}-\d\d")
_DECIMAL_COMMA: Final = re.compile(r"(-?\d+),(\d+)")
#: Letters followed by one asterisk: probably a wildcard, not a regular expression.
_GLOB: Final = re.compile(r"(?P<before>[\w -]*\w)\*")
_WITH_UNIT: Final = re.compile(r"\D*?(-?\d+(?:\.\d+)?)\D*")


def route_warnings(config: Config, registry: Registry) -> Iterator[LintWarning]:
    """The warnings about the routes of a valid configuration."""
    compiled = Templates()
    for route in config.routes:
        yield from read_warnings(route, compiled)
        checker = _Checker(compiled, config.source, route.keys)
        absence = AbsenceLint(compiled, route.for_each == "run", not _OTHER_KEYS & {*route.keys})
        yield from absence.changes(route.filters, (*route.where, "filters"))
        yield from checker.conditions(route.filters, (*route.where, "filters"))
        if route.wait_for is not None:
            yield from checker.stale(route.filters, (*route.where, "filters"), frozenset(route.wait_for.feedback))
        for action in (_by_name(action, registry) for action in (*route.actions, *route.on_dead)):
            yield from checker.conditions(action.when, (*action.where, "when"))
            yield from absence.changes(action.when, (*action.where, "when"))
            yield from checker.templates(action.params, action.params_where)
            if (gate := action.throttle or action.digest) is not None:
                yield from checker.templates(gate.by, (*gate.where, "by"))
            if action.digest is not None:
                yield from checker.digest(action)
            yield from _lacking(action, registry)
            yield from _of_action(action, registry)


def _by_name(action: ActionConfig, registry: Registry) -> ActionConfig:
    """The action with its parameters as a mapping."""
    registered = registry.get(action.type)
    return action if registered is None else replace(action, params=registered.parameters(action.params) or {})


def _lacking(action: ActionConfig, registry: Registry) -> Iterator[LintWarning]:
    """What must be installed before an action works. It is no error, because its deliveries wait for it."""
    registered = registry.get(action.type)
    if registered is None:
        return
    try:
        lacking = registered.action.lacks()
    except BaseException as error:  # noqa: BLE001 - a plug-in may raise anything
        yield LintWarning(action.params_where, f"{action.type}.lacks raised {named_error(error)}", "", at_key=True)
        return
    if lacking:
        message, _, command = lacking.partition(": ")
        yield LintWarning(action.params_where, message, command, at_key=True)


def _of_action(action: ActionConfig, registry: Registry) -> Iterator[LintWarning]:
    """The warnings of an action about its own parameters."""
    registered = registry.get(action.type)
    if registered is None:
        return
    try:
        found = [
            (str(name), str(message), str(hint)) for name, message, hint in registered.action.warnings(action.params)
        ]
    except BaseException as error:  # noqa: BLE001 - a plug-in may raise anything
        found = [("", f"{action.type}.warnings raised {named_error(error)}", "")]
    for name, message, hint in found:
        where = (*action.params_where, name) if name in action.params else action.params_where
        yield LintWarning(where, message, hint, at_key=True)


class _Checker:
    """Checks conditions and templates as written, for a route with these keys."""

    def __init__(self, templates: Templates, source: Source, keys: Collection[str]) -> None:
        self._templates, self._source, self._keys = templates, source, keys
        #: ``event`` of prompts has its own warning.
        self._covered: Collection[tuple[Step, ...]] = {("event",)} if "prompt" in keys else set()

    def _odd(self, steps: Sequence[Step]) -> tuple[str, str, str] | None:
        """The word that the documents probably do not have, a message and a hint; None if all are known."""
        if (foreign := not_of_kind(self._keys, steps)) is not None:
            return str(steps[0]), *foreign
        if (odd := undocumented(steps)) is None:
            return None
        owner, field, hint = odd
        return field, f"{owner} has no documented field {field!r}", hint

    def conditions(self, value: Any, where: Where) -> Iterator[LintWarning]:
        """The warnings about conditions: a list, one condition, or a group."""
        for place, each in conditions(value, where):
            yield from self._condition(each, place)

    def _condition(self, value: dict[str, Any], where: Where) -> Iterator[LintWarning]:
        if isinstance(path := value.get("path"), str):
            yield from self._path(path, (*where, "path"))
        if isinstance(text := value.get("expr"), str):
            yield from self._looks(text, (*where, "expr"), bare=True)
            yield from self._compared(text, (*where, "expr"), bare=True)
        yield from self._operands(value, where)
        for name, operand in value.items():
            if name == "matches" and isinstance(operand, str):
                yield from _glob(operand, (*where, name))
            for place, part in _parts(operand, (*where, name)) if name in _ORDERS else ():
                yield from _operand(name, part, place)

    def _operands(self, value: dict[str, Any], where: Where) -> Iterator[LintWarning]:
        """Operands that the value read by a condition probably never equals."""
        steps = self._subject(value)
        if steps is None or tuple(steps) in self._covered:
            return
        for name, operand in value.items():
            asked = Asked(steps, name, operand, bare="expr" in value)
            for message, hint, index in findings(asked):
                yield LintWarning((*where, name) if index is None else (*where, name, index), message, hint)
            for place, part in _parts(operand, (*where, name)):
                if (slip := number_slip(asked, self._source.plain_scalar(place), part)) is not None:
                    yield LintWarning(place, *slip)

    def _subject(self, value: dict[str, Any]) -> Sequence[Step] | None:
        """The steps of the value that a condition tests; None if it is more than one read."""
        if isinstance(path := value.get("path"), str):
            try:
                return self._templates.paths.compile(path).steps or ()
            except PathError:
                return None
        if isinstance(text := value.get("expr"), str) and _ONE_LOOK.fullmatch(text.strip()):
            return next((steps for _, steps in self._templates.inspector.looks(text, bare=True)), None)
        return None

    def _compared(self, text: str, where: Where, *, bare: bool) -> Iterator[LintWarning]:
        for each in self._templates.inspector.compared(text, bare=bare):
            if each.steps in self._covered:
                continue
            asked = Asked(each.steps, JINJA.get(each.operator, each.operator), each.operand, bare=True, inline=True)
            for message, hint, _index in findings(asked):
                yield LintWarning(where, message, hint, each.line)

    def templates(self, value: Any, where: Where) -> Iterator[LintWarning]:
        """The warnings about templates in a tree of parameters."""
        for place, text in templates(value, where):
            yield from self._looks(text, place, bare=False)
            yield from self._compared(text, place, bare=False)

    def digest(self, action: ActionConfig) -> Iterator[LintWarning]:
        """A digest whose parameters read only the first item."""
        texts = (text for _, text in templates(action.params))
        looks = {steps[0] for text in texts for _, steps in self._templates.inspector.looks(text, bare=False)}
        reads = looks - _OF_NO_ITEM
        if reads and not {"items", "digest"} & reads and not _sends_items(action):
            message = "this digest shows only its first item: no parameter reads items"
            hint = "write {% for item in items %}{{ item.run.name }} {% endfor %}"
            yield LintWarning((*action.where, "digest"), message, hint, at_key=True)

    def stale(self, value: Any, where: Where, keys: frozenset[str]) -> Iterator[LintWarning]:
        """Conditions that read awaited feedback from ``feedback_stats``, which never change after the webhook."""
        for place, steps in self._reads(value, where):
            found = next((key for owner, key in pairwise(steps) if owner == "feedback_stats" and key in keys), None)
            if found is not None:
                message = f"feedback_stats came with the webhook: a {found!r} that is waited for is not in them"
                yield LintWarning(
                    place,
                    message,
                    f"what comes later is in feedback: path: $.feedback.{found}.score, or expr: feedback.{found}.score",
                )

    def _reads(self, value: Any, where: Where) -> Iterator[tuple[Where, Sequence[Step]]]:
        """What valid conditions read, with positions."""
        for place, each in conditions(value, where):
            if isinstance(path := each.get("path"), str):
                yield (*place, "path"), self._templates.paths.compile(path).steps or ()
            if isinstance(text := each.get("expr"), str):
                yield from (((*place, "expr"), steps) for _, steps in self._templates.inspector.looks(text, bare=True))

    def _path(self, text: str, where: Where) -> Iterator[LintWarning]:
        try:
            path = self._templates.paths.compile(text)
        except PathError:  # reported as an error already
            return
        steps: tuple[Step, ...] = path.steps or ()
        if (odd := self._odd(steps)) is not None:
            word, message, hint = odd
            yield LintWarning(where, message, hint, column=_column(text, word))
        if path.steps is None:
            yield from self._tested(text, where)
        first = path.first_field
        if first is not None and first not in DOCUMENT_NAMES and (near := nearest(first, DOCUMENT_NAMES)):
            message = f"webhooks have no documented key {first!r}"
            yield LintWarning(where, message, f"did you mean {near!r}?", column=_column(text, first))

    def _tested(self, text: str, where: Where) -> Iterator[LintWarning]:
        """The warnings about the filters inside a path."""
        for each in filter_tests(text):
            if (odd := self._odd(each.steps)) is not None:
                word, message, hint = odd
                yield LintWarning(where, message, hint, column=_column(text, word))
            if each.operator:
                asked = Asked(each.steps, each.operator, each.operand, within=each.within)
                column = _column(text, str(each.steps[-1]) if each.steps else "@")
                for message, hint, _index in findings(asked):
                    yield LintWarning(where, message, hint, column=column)

    def _looks(self, text: str, where: Where, *, bare: bool) -> Iterator[LintWarning]:
        lines = source_of(text).splitlines()
        for line, steps in self._templates.inspector.looks(text, bare=bare):
            if (odd := self._odd(steps)) is None:
                continue
            word, message, hint = odd
            found = re.search(rf"\b{re.escape(word)}\b", lines[line - 1]) if line <= len(lines) else None
            column = found.start() + 1 if found else 1
            yield LintWarning(where, message, hint, line, column)


def _sends_items(action: ActionConfig) -> bool:
    """Whether an action sends all items of a digest by default."""
    if action.type == "annotate":
        return "feedback" not in action.params
    return action.type == "forward_webhook" and "body" not in action.params


def _parts(operand: Any, where: Where) -> list[tuple[Where, Any]]:
    """The values of an operand, with their places."""
    return (
        [((*where, index), each) for index, each in enumerate(operand)]
        if isinstance(operand, list)
        else [(where, operand)]
    )


def _column(text: str, word: str) -> int:
    return text.find(word) + 1 or 1


def _glob(pattern: str, where: Where) -> Iterator[LintWarning]:
    """Warn of ``chat*``: as a regular expression it is ``cha`` followed by any number of ``t``, anywhere."""
    if (found := _GLOB.fullmatch(pattern)) is None:
        return
    letter = found["before"][-1]
    message = f"* in a regular expression repeats the character before it: here any number of {letter!r}, even none"
    yield LintWarning(where, message, f'write matches: "^{found["before"]}"')


def _operand(name: str, operand: Any, where: Where) -> Iterator[LintWarning]:
    """Warn of texts that are compared by letters, such as ``gt: 5s``."""
    if not isinstance(operand, str) or number_of(operand) is not None:
        return
    if time_of(operand) is not None or _DATE.match(operand):
        return
    message = f"{name} compares by letters here, because {operand!r} is neither a number nor a time"
    yield LintWarning(where, message, _number_meant(name, operand))


def _number_meant(name: str, operand: str) -> str:
    """The number that a text was probably meant to be."""
    prefix = "write " if name == "between" else f"write {name}: "
    if comma := _DECIMAL_COMMA.fullmatch(operand):
        return f"a number has a point: {prefix}{comma[1]}.{comma[2]}"
    for parse, start in ((parse_duration, "times are seconds: "), (parse_share, "shares are numbers: ")):
        try:
            return f"{start}{prefix}{parse(operand):g}"
        except ValueError:
            continue
    if number := _WITH_UNIT.fullmatch(operand):
        return f"a number is written without its unit: {prefix}{number[1]}"
    return "to compare numbers write one, without quotes"

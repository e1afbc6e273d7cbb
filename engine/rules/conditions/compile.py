"""Conditions as written → compiled conditions. Every mistake is reported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from engine.core.errors import PathError, TemplateError
from engine.core.positions import Source, Where
from engine.core.shown_values import describe
from engine.core.truth import Truth
from engine.core.variables import as_written, plain, source_of, with_placeholders, written
from engine.core.vocabulary import Vocabulary
from engine.rules.conditions.absence import WhenAbsent, of_nothing, stand_in_problem
from engine.rules.conditions.checks import Operation
from engine.rules.conditions.evaluate import (
    Condition,
    Evaluable,
    expression_condition,
    group,
    group_title,
    path_condition,
)
from engine.rules.conditions.hints import GROUPS, KEYS, SHAPE, Fault, Hints, is_foreign, operators_of
from engine.rules.conditions.operands import OperandError, template_in
from engine.rules.conditions.operators import NEGATIVE, OPERATORS, compile_operator
from engine.rules.conditions.quantifiers import ALL, ANY, Quantifier, compile_quantifier
from engine.rules.conditions.verdict import Kind
from engine.rules.dialects import in_yaml
from engine.rules.jsonpath import Path, Paths
from engine.rules.jsonpath.mistakes import as_condition, compile_checked

#: How deep groups may be nested.
MAX_DEPTH = 32

_ADD_ONE = "add one, such as exists: true or eq: success"


class Expressions(Protocol):
    """The part of ``engine.rules.templates.Templates`` that conditions use."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What is known about the document when the configuration is loaded."""

    @property
    def paths(self) -> Paths:
        """The compiler of paths."""

    def expression(self, text: str) -> Evaluable:
        """Compile an expression; raises ``TemplateError``."""


class ConditionCompiler:
    """Compiles conditions as written. None stands for one with a problem, which is reported."""

    def __init__(self, source: Source, templates: Expressions, *, per_run: bool, trial: bool = False) -> None:
        self._source = source
        self._templates = templates
        self._per_run = per_run
        self._hints = Hints(None if trial else self._sound, templates.vocabulary, templates.paths)
        self._faults: list[Fault] = []  # of the condition being compiled

    def _sound(self, raw: Any) -> bool:
        """Whether a condition is valid. It is compiled without hints, because those would call this again."""
        trial = Source("")
        compiler = ConditionCompiler(trial, self._templates, per_run=self._per_run, trial=True)
        compiler.condition(with_placeholders(raw), (), 1)
        return not trial.problems

    def conditions(self, raw: list[Any], places: list[Where], depth: int) -> list[Condition | None]:
        """A list of conditions. One that a stray dash splits into two is reported as one mistake."""
        found: list[Condition | None] = []
        for index, each in enumerate(raw):
            if index and _is_rest_of(raw[index - 1], each):
                self._report_dash(raw[index - 1], each, places[index])
                found.append(None)
            elif index + 1 < len(raw) and _is_rest_of(each, raw[index + 1]):
                found.append(None)
            else:
                found.append(self.condition(each, places[index], depth))
        return found

    def _report_dash(self, head: Mapping[str, Any], rest: Mapping[str, Any], where: Where) -> None:
        whole = in_yaml(as_written({**head, **rest}))
        message = "this and the item above it are one condition: remove the dash"
        self._source.report(where, message, f"write - {whole}")

    def condition(self, raw: Any, where: Where, depth: int) -> Condition | None:
        """One condition or group, at this nesting depth."""
        if depth > MAX_DEPTH:
            self._source.report(where, f"conditions are nested more than {MAX_DEPTH} deep")
            return None
        if isinstance(raw, list):
            return self._group("all", raw, where, depth)
        if not isinstance(raw, dict) or not raw:
            self._source.report(where, f"a condition is a mapping, not {_word(raw)}", self._text_hint(raw))
            return None
        if not self._keys_known(raw, where):
            return None
        head = [key for key in raw if key in ("path", "expr", *GROUPS)]
        if len(head) != 1:
            message, meant = _head_problem(head, raw)
            otherwise = self._hints.written(as_written(meant)) if meant else _TWO if head else SHAPE
            hint = self._hints.condition(as_written(raw), otherwise)
            self._source.report(where, message, hint)
            return None
        if head[0] in GROUPS:
            return self._whole_group(head[0], raw, where, depth)
        return self._leaf(head[0], raw, where)

    def _keys_known(self, raw: Mapping[Any, Any], where: Where) -> bool:
        """Whether all keys are known. All unknown keys are reported as one mistake, with one condition to write."""
        unknown = [key for key in raw if key not in KEYS]
        if not unknown:
            return True
        key, raw = unknown[0], as_written(raw)
        if isinstance(key, str) and key.startswith(("$.", "$[")):
            hint = self._hints.written({"path": key, **operators_of(raw[key])})
            message, hint = "a path is not a key: write it after path:", self._hints.condition(raw, hint)
        else:
            named = ", ".join(repr(str(name)) for name in unknown)
            message = f"unknown key{'s' if len(unknown) > 1 else ''} {named} in a condition"
            hint = self._hints.unknown_key(key, raw) if len(unknown) == 1 else self._hints.condition(raw, SHAPE)
        self._source.report((*where, key), message, hint, at_key=True)
        return False

    def _text_hint(self, raw: Any) -> str:
        """The hint for a text where a condition is expected."""
        if not isinstance(raw, str):
            return SHAPE
        text = written(raw).strip()
        if text.startswith("$") and self._sound(made := {"path": text, "exists": True}):
            return f"write {in_yaml(made)}"
        if text.startswith("$") and (condition := as_condition(text)) is not None:
            return self._hints.condition(text, self._hints.written(condition))
        bare = " ".join(text.replace("{{", " ").replace("}}", " ").split())
        if self._sound(made := {"expr": bare}):
            return f"write {in_yaml(made)}"
        return self._hints.condition(text, SHAPE)

    # --- groups ---

    def _whole_group(self, kind: Kind, raw: Mapping[str, Any], where: Where, depth: int) -> Condition | None:
        for key in raw:
            if key != kind:
                message = f"{key!r} cannot be beside {kind!r}"
                hint = f"{kind} is a condition of its own: put it in a list beside the others"
                self._source.report((*where, key), message, hint, at_key=True)
        inner = raw[kind]
        if kind == "not" and isinstance(inner, dict):
            inner = [inner]
            places: list[Where] = [(*where, kind)]
        elif isinstance(inner, list) and inner:
            places = [(*where, kind, index) for index in range(len(inner))]
        else:
            wanted = "a condition or a list of them" if kind == "not" else "a list of conditions"
            self._source.report((*where, kind), f"{kind} takes {wanted}, not {_word(inner)}", "write - before each")
            return None
        # Under "not" and "none" the meaning is inverted: one condition in another notation makes the group unclear.
        alone = kind in ("not", "none") and not any(isinstance(each, dict) and "path" in each for each in inner)
        enough = 1 if alone else 2
        hint = self._hints.condition(as_written(raw)) if sum(map(is_foreign, inner)) >= enough else ""
        if hint.startswith("write "):
            message = f"the conditions under {kind!r} are not written as conditions are here"
            self._source.report((*where, kind), message, hint, at_key=True)
            return None
        return self._children(kind, list(zip(inner, places, strict=True)), depth)

    def _group(self, kind: Kind, raw: list[Any], where: Where, depth: int) -> Condition | None:
        if not raw:
            self._source.report(where, "an empty list is no condition", SHAPE)
            return None
        if sum(map(is_foreign, raw)) > 1 and (hint := self._hints.condition(as_written(raw))).startswith("write "):
            self._source.report(where, "these conditions are not written as conditions are here", hint)
            return None
        return self._children(kind, [(each, (*where, index)) for index, each in enumerate(raw)], depth)

    def _children(self, kind: Kind, parts: list[tuple[Any, Where]], depth: int) -> Condition | None:
        children = self.conditions([each for each, _ in parts], [place for _, place in parts], depth + 1)
        sound = [child for child in children if child is not None]
        if len(sound) < len(children):
            return None
        text = f"not {sound[0].text}" if kind == "not" and len(sound) == 1 else group_title(kind, len(sound))
        return group(kind, sound, text)

    # --- paths and expressions ---

    def _leaf(self, head: str, raw: Mapping[str, Any], where: Where) -> Condition | None:
        self._faults = []
        made = self._made(head, raw, where)
        if self._faults:
            self._report(self._faults, raw)
            return None
        return made

    def _report(self, faults: list[Fault], raw: Mapping[str, Any]) -> None:
        """Report the faults of one condition; if its meaning is known, one message with the whole condition."""
        first, raw = faults[0], as_written(raw)
        of_path = len(faults) == 1 and first.place[-1:] == ("path",)
        whole = self._hints.path(raw, first.hint) if of_path else self._hints.condition(raw)
        shown = [replace(first, hint=whole)] if whole.startswith("write ") else faults
        for fault in shown:
            hint = fault.hint or whole
            where = fault.place
            self._source.report(where, fault.message, hint, line=fault.line, column=fault.column, at_key=fault.at_key)

    def _fault(
        self, place: Where, message: str, hint: str = "", *, line: int = 1, column: int = 1, at_key: bool = False
    ) -> None:
        self._faults.append(Fault(place, message, hint, line, column, at_key))

    def _made(self, head: str, raw: Mapping[str, Any], where: Where) -> Condition | None:
        text = raw[head]
        if not isinstance(text, str) or not source_of(text).strip():
            what = "a JSONPath" if head == "path" else "an expression"
            self._fault((*where, head), f"{head} takes {what} as text, not {_word(text)}")
            return None
        if head == "path" and not set(raw) & set(OPERATORS):
            meant = {"path": written(text), "exists": raw.get("absent") is False}
            hint = f"write {in_yaml(meant)}" if "absent" in raw else _ADD_ONE
            self._fault((*where, head), "a condition with a path has an operator, this one has none", hint)
            return None
        look = self._path(text, (*where, head)) if head == "path" else self._expression(text, (*where, head))
        operations = self._operations(raw, where, head)
        quantifier = self._quantifier(raw, where, head)
        stand_in = self._stand_in(raw, where, operations)
        if self._faults or look is None or operations is None or quantifier is None or stand_in is None:
            return None
        many = isinstance(look, Path) and look.spread.many(per_run=self._per_run)
        truth = (
            of_nothing([(each.name, each.operand) for each in operations], quantifier, many=many)
            if operations
            else Truth.UNDECIDED
        )
        nothing, shown = WhenAbsent(truth, stand_in), _text(written(text), operations, quantifier, stand_in)
        if not isinstance(look, Path):
            return expression_condition(look, operations, nothing, shown)
        shallow = all(OPERATORS[operation.name].shallow for operation in operations)
        needs = look.shallow_needs if shallow else look.needs
        return path_condition(look, operations, quantifier, nothing, needs=needs, text=shown)

    def _stand_in(
        self, raw: Mapping[str, Any], where: Where, operations: tuple[Operation, ...] | None
    ) -> tuple[Any, ...] | None:
        """The value of ``absent:``, if there is one; None if it is a mistake."""
        if "absent" not in raw:
            return ()
        if operations is None:
            return None
        problem = stand_in_problem(raw["absent"], [(each.name, each.test) for each in operations])
        if problem is None:
            return (raw["absent"],)
        self._fault((*where, "absent"), *problem, at_key=True)
        return None

    def _path(self, text: str, where: Where) -> Path | None:
        try:
            return compile_checked(text, self._templates.vocabulary, self._templates.paths)
        except PathError as error:
            self._fault(where, str(error), error.hint, column=error.column)
            return None

    def _expression(self, text: str, where: Where) -> Evaluable | None:
        try:
            return self._templates.expression(text)
        except TemplateError as error:
            self._fault(where, str(error), error.hint, line=error.line)
            return None

    def _operations(self, raw: Mapping[str, Any], where: Where, head: str) -> tuple[Operation, ...] | None:
        names = [name for name in raw if name in OPERATORS]
        made = [self._operation(name, raw[name], where) for name in names]
        sound = tuple(operation for operation in made if operation is not None)
        if head == "expr" and "count" in raw:
            hint = "for the size of what the expression gives there is length"
            self._fault((*where, "count"), "count counts what a path finds", hint, at_key=True)
            return None
        if len(sound) < len(made) or not self._whole_alone(sound, raw, where):
            return None
        return sound

    def _operation(self, name: str, operand: Any, where: Where) -> Operation | None:
        if (place := template_in(operand)) is not None:
            message = "an operand is compared as it is written: it cannot be a template"
            self._fault((*where, name, *place), message, 'compare in an expression: {expr: "run.name == vars.name"}')
            return None
        try:
            test = compile_operator(name, operand if name == "matches" else plain(operand))
        except OperandError as error:
            self._report_operand((*where, name), error)
            return None
        operand = written(operand) if name == "matches" else plain(operand)
        if name == "count":
            return Operation(name, operand, lambda values, document: test(len(values), document), whole=True)
        if name == "exists" and operand is False:
            return Operation(
                name, operand, lambda values, document: all(test(each, document) for each in values), whole=True
            )
        return Operation(name, operand, test)

    def _report_operand(self, where: Where, error: OperandError) -> None:
        """Report a faulty operand, unless it holds a stand-in value. Stand-ins are valid in patterns."""
        if where[-1] == "matches" or not self._source.suppressed(where):
            self._fault((*where, *error.part), str(error), error.hint)

    def _whole_alone(self, operations: tuple[Operation, ...], raw: Mapping[str, Any], where: Where) -> bool:
        """An operator on all values together cannot share a condition with operators on each value."""
        whole = next((operation for operation in operations if operation.whole), None)
        if whole is None or (len(operations) == 1 and "quantifier" not in raw):
            return True
        shown = "exists: false" if whole.name == "exists" else "count"
        hint = "to count the values that satisfy the other operators write quantifier: {at_least: 2}"
        if whole.name == "exists":
            hint = "an absent value satisfies no other operator; write two conditions under `any`"
        message = f"{shown} is about everything the path finds, and must be alone in a condition"
        self._fault((*where, whole.name), message, hint, at_key=True)
        return False

    def _quantifier(self, raw: Mapping[str, Any], where: Where, head: str) -> Quantifier | None:
        if "quantifier" not in raw:
            return ALL if NEGATIVE & set(raw) else ANY
        if head == "expr":
            message = "a quantifier is about the values a path finds; an expression has one value"
            self._fault((*where, "quantifier"), message, at_key=True)
            return None
        try:
            return compile_quantifier(raw["quantifier"])
        except OperandError as error:
            self._report_operand((*where, "quantifier"), error)
            return None


_TWO = "make them two conditions of a list"


def _head_problem(head: list[Any], raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The message and hint for a condition with no value to test, or with two."""
    if len(head) > 1:
        return f"{head[0]!r} and {head[1]!r} cannot be in one condition", {}
    operators = [key for key in raw if key in OPERATORS]
    if operators:
        return (
            f"the operator {operators[0]!r} has no value to test: this condition has neither path nor expr",
            {"path": "$.runs[*].status", operators[0]: raw[operators[0]]},
        )
    return "this condition has neither path nor expr", {}


def _is_rest_of(head: Any, rest: Any) -> bool:
    """Whether an item has only a path or an expression, and the next item only operators."""
    if not isinstance(head, dict) or not isinstance(rest, dict) or not rest:
        return False
    return len(head) == 1 and head.keys() <= {"path", "expr"} and rest.keys() <= {*OPERATORS, "quantifier", "absent"}


def _word(raw: Any) -> str:
    return "an empty mapping" if raw == {} else "an empty list" if raw == [] else describe(raw)


def _text(head: str, operations: tuple[Operation, ...], quantifier: Quantifier, stand_in: tuple[Any, ...] = ()) -> str:
    """A condition on one line, as in YAML."""
    asked = " and ".join(f"{each.name} {_shown(each.operand)}" for each in operations)
    usual = quantifier is (ALL if NEGATIVE & {each.name for each in operations} else ANY)
    quantified = "" if usual else f"({quantifier.text})"
    absent = f"(absent {_shown(stand_in[0])})" if stand_in else ""
    return " ".join(filter(None, (" ".join(head.split()), asked, quantified, absent)))


def _shown(operand: Any) -> str:
    text = json.dumps(operand, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:120]}…"

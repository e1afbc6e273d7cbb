"""Conditions whose answer changed when absence got one meaning, each with the line that keeps the old answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.core.errors import PathError
from engine.core.payload_schema import SENT_FIELDS
from engine.core.positions import Where
from engine.core.truth import Truth, conjoin
from engine.core.vocabulary import COMPUTED
from engine.rules.conditions.absence import of_nothing, stand_in_problem
from engine.rules.conditions.operands import Test
from engine.rules.conditions.operators import ANSWERING, NEGATIVE, OPERATORS, compile_operator
from engine.rules.conditions.quantifiers import ALL, ANY, NONE, Quantifier, compile_quantifier
from engine.rules.dialects import in_yaml
from engine.rules.jsonpath.code_generator import Step
from engine.rules.lint.warning import LintWarning
from engine.rules.templates import Templates
from engine.rules.templates.earlier_version import Asked, Former

_FLIPS: Final = frozenset({"none", "not"})
_GROUPS: Final = ("all", "any", "none", "not")
#: Documents always have these, with all their fields.
_OWN: Final = frozenset({"event", "route", "vars"})
#: Every rule's webhook has these top-level keys.
_TOP: Final = frozenset({"run", "runs", "payload", "feedback", "feedbacks", "rule_id", "start_time", "end_time"})
_ANY_DOCUMENT: Final = {"event": {"received_at": "2020-01-01T00:00:00+00:00"}}
_PLAIN: Final[tuple[Any, ...]] = (None, "", 0, 1, False, True, "-", [], {}, "1970-01-01", "9999-12-31", -1, 1e9)


@dataclass(frozen=True, slots=True)
class AbsenceLint:
    """Checks the conditions of one route. ``of_rule``: all its events are webhooks of rules, with runs."""

    templates: Templates
    per_run: bool
    of_rule: bool

    def changes(
        self, value: Any, where: Where, asked: Asked = Asked.TRUE, sure: frozenset[str] = frozenset()
    ) -> Iterator[LintWarning]:
        """A warning for each condition whose answer changed.

        ``asked`` is the part of the answer that matters; other conditions ensure that ``sure`` paths and expressions
        exist.
        """
        if isinstance(value, (list, tuple)):
            yield from self._joined(value, where, asked, sure | _asked_for(value, there=True))
        elif isinstance(value, dict):
            for key in _GROUPS:
                if key in value:
                    inner = value[key]
                    known = sure | _asked_for(inner, there=key in ("all", "not"))
                    yield from self._joined(inner, (*where, key), asked.inverse if key in _FLIPS else asked, known)
            if _left(value) not in sure:
                yield from self._condition(value, where, asked)

    def _joined(self, value: Any, where: Where, asked: Asked, sure: frozenset[str]) -> Iterator[LintWarning]:
        if not isinstance(value, (list, tuple)):
            yield from self.changes(value, where, asked, sure)
            return
        for index, each in enumerate(value):
            yield from self.changes(each, (*where, index), asked, sure)

    def _condition(self, value: Mapping[str, Any], where: Where, asked: Asked) -> Iterator[LintWarning]:
        if isinstance(path := value.get("path"), str):
            yield from self._path(path, value, where, asked)
        if isinstance(text := value.get("expr"), str):
            yield from self._expression(text, value, where, asked)

    # --- paths ---

    def _path(self, text: str, value: Mapping[str, Any], where: Where, asked: Asked) -> Iterator[LintWarning]:
        try:
            path = self.templates.paths.compile(text)
        except PathError:
            return
        many = path.spread.many(per_run=self.per_run)
        if path.steps is not None and self._is_there(path.steps):
            return
        yield from self._operators(value, (*where, "path"), asked, many=many)

    def _operators(self, value: Mapping[str, Any], where: Where, asked: Asked, *, many: bool) -> Iterator[LintWarning]:
        """Operators that used to be false if nothing is found, and are not now."""
        names = [name for name in value if name in OPERATORS]
        if not names or "absent" in value or "count" in names or value.get("exists") is False:
            return
        quantifier = _quantifier(value, names)
        now = of_nothing([(name, value[name]) for name in names], quantifier, many=many)
        if now is Truth.FALSE or (now is Truth.UNDECIDED and asked is Asked.TRUE):
            return
        yield LintWarning(where, _message(now, _left(value), many=many), self._hint(value, names, quantifier, now))

    def _hint(self, value: Mapping[str, Any], names: Sequence[str], quantifier: Quantifier, now: Truth) -> str:
        """The line that keeps the old answer, and the one that states the new one."""
        tests = [(name, compile_operator(name, value[name])) for name in names]
        old = _with(value, _stand_in(value, tests, quantifier, Truth.FALSE))
        if old is None:
            left = "path" if "path" in value else "expr"
            found = f"{left}: {_quoted(value[left])}, " + ("count: {gte: 1}" if left == "path" else "exists: true")
            old = f"{{all: [{{{found}}}, {_flow(value)}]}}"
        new = _with(value, _stand_in(value, tests, quantifier, Truth.TRUE)) or _said_by_exists(value, names, quantifier)
        if new is None:
            return f"to keep the old answer write {old}"
        goal = "to keep the new one without this warning" if now is Truth.TRUE else "to make it hold there"
        return f"to keep the old answer write {old}; {goal}, {new}"

    # --- expressions ---

    def _expression(self, text: str, value: Mapping[str, Any], where: Where, asked: Asked) -> Iterator[LintWarning]:
        operators = any(name in OPERATORS for name in value)
        chain = self.templates.inspector.chain(text)
        if operators and chain is not None and not self._is_there(chain):
            yield from self._operators(value, (*where, "expr"), asked, many=False)
        changed = self.templates.inspector.former(text, Asked.VALUE if operators else asked, self._is_there)
        if changed is not None and not (operators and chain is not None):
            hint = _expression_hint(changed, text, value, asked)
            yield LintWarning((*where, "expr"), _expression_message(changed), hint)

    def _is_there(self, steps: Sequence[Step]) -> bool:
        """Whether a read always finds something."""
        own = steps[1:] if steps and steps[0] == "payload" else steps
        if not own or own[0] in _OWN:
            return True
        if not self.of_rule:
            return False
        if own[0] == "runs" and len(own) > 1 and own[1] in (None, 0):
            return len(own) == 2 or (len(own) == 3 and own[2] in SENT_FIELDS)
        if own[0] == "run" and len(own) == 2:
            return own[1] in SENT_FIELDS | COMPUTED
        return len(own) == 1 and own[0] in _TOP


def _asked_for(conditions: Any, *, there: bool) -> frozenset[str]:
    """The paths and expressions whose existence (or absence) is tested by conditions of one list."""
    listed = conditions if isinstance(conditions, (list, tuple)) else ()
    return frozenset(_left(each) for each in listed if isinstance(each, dict) and _asks(each, there=there))


def _asks(condition: Mapping[str, Any], *, there: bool) -> bool:
    if there:
        asked = condition.get("exists") is True and condition.get("quantifier") != "none"
        return asked or condition.get("count") == {"gte": 1}
    return condition.get("exists") is False or condition.get("count") == 0


def _quantifier(value: Mapping[str, Any], names: Sequence[str]) -> Quantifier:
    if "quantifier" in value:
        return compile_quantifier(value["quantifier"])
    return ALL if NEGATIVE & set(names) else ANY


def _left(value: Mapping[str, Any]) -> str:
    return str(value.get("path") or value.get("expr"))


def _message(now: Truth, left: str, *, many: bool) -> str:
    gone = f"where {left} finds nothing" if many else f"where {left} is absent"
    answer = "holds" if now is Truth.TRUE else "is undecided, also under not and none"
    return f"{gone} this now {answer}; it was false before"


def _expression_message(changed: Former) -> str:
    gone = " or ".join(changed.parts)
    return f"where {gone} is absent this is now undecided, or answers otherwise: an absent value is needed here"


def _expression_hint(changed: Former, text: str, value: Mapping[str, Any], asked: Asked) -> str:
    old = f"to keep the old answer write {_flow({**value, 'expr': changed.kept})}"
    text = " ".join(text.split())
    if not changed.decided or len(changed.parts) > 1 or asked is Asked.VALUE or " if " in text:
        return old
    [part] = changed.parts
    gone = asked is Asked.FALSE or text == f"{part} is none"
    new = f"{part} is undefined or {text}" if gone else f"{part} is defined and {text}"
    return f"{old}; to keep the new one without this warning, {_flow({**value, 'expr': new})}"


# --- stand-in values ---


def _stand_in(
    value: Mapping[str, Any], tests: Sequence[tuple[str, Test]], quantifier: Quantifier, wanted: Truth
) -> tuple[Any, ...]:
    """A value for ``absent:`` that makes the condition ``wanted``; empty if none is found."""
    if ANSWERING & {name for name, _ in tests}:
        return ()
    for candidate in _candidates([value[name] for name, _ in tests]):
        if stand_in_problem(candidate, tests) is None:
            held = conjoin(Truth(bool(test(candidate, _ANY_DOCUMENT))) for _, test in tests)
            if quantifier.of([held]) is wanted:
                return (candidate,)
    return ()


def _candidates(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _PLAIN[:2]
    for operand in operands:
        for each in operand if isinstance(operand, list) else [operand]:
            if isinstance(each, (str, int, float, bool)):
                yield each
            if isinstance(each, (int, float)) and not isinstance(each, bool):
                yield from (each + 1, each - 1)
    yield from _PLAIN[2:]


def _with(value: Mapping[str, Any], stand_in: tuple[Any, ...]) -> str | None:
    return _flow({**value, "absent": stand_in[0]}) if stand_in else None


def _said_by_exists(value: Mapping[str, Any], names: Sequence[str], quantifier: Quantifier) -> str | None:
    """The condition that states the new answer with ``exists: false``; None if it cannot."""
    left = "path" if "path" in value else "expr"
    nothing = f"{{{left}: {_quoted(value[left])}, exists: false}}"
    if list(names) == ["exists"] and quantifier is NONE:
        return nothing
    return f"{{any: [{nothing}, {_flow(value)}]}}" if list(names) == ["empty"] and quantifier is ANY else None


def _flow(value: Mapping[str, Any]) -> str:
    """A condition in YAML's braces, on one line."""
    return f"{{{', '.join(f'{key}: {_written(key, each)}' for key, each in value.items())}}}"


def _written(key: str, value: Any) -> str:
    if key in ("path", "expr"):
        return _quoted(" ".join(str(value).split()) if key == "expr" else value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {in_yaml(each)}' for name, each in value.items())}}}"
    return in_yaml(value)


def _quoted(text: Any) -> str:
    return json.dumps(text, ensure_ascii=False)

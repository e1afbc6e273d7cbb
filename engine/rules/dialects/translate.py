"""A refused condition → the condition that was probably meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.rules.dialects.fields import field_of, keys_of
from engine.rules.dialects.mappings import parse_any
from engine.rules.dialects.meaning import Node, Unclear
from engine.rules.dialects.operands import Known
from engine.rules.dialects.pieces import truth
from engine.rules.dialects.resolve import resolve
from engine.rules.dialects.write_condition import Condition, in_yaml, path_of, write_condition
from engine.rules.dialects.write_expr import write_expression


@dataclass(frozen=True, slots=True)
class Translation:
    """The translation. ``condition`` is valid; None if there is none. ``field``: the unknown field, if any."""

    condition: Condition | None
    field: str = ""

    @property
    def text(self) -> str:
        """The condition in YAML's braces; empty if there is none."""
        return "" if self.condition is None else in_yaml(self.condition)


def translate(
    raw: Any,
    sound: Callable[[Any], bool],
    path: Callable[[str], bool],
    variables: Mapping[str, Any] | None = None,
    *,
    example: bool = False,
) -> Translation:
    """Translate a refused condition.

    ``sound`` says whether a condition can be loaded, ``path`` whether a path can; ``variables`` are the
    configuration's. ``example``: replace an unknown field by an existing one.
    """
    as_text = (isinstance(raw, str) and not raw.startswith("$.")) or (isinstance(raw, dict) and set(raw) == {"expr"})
    try:
        node = truth(resolve(truth(parse_any(raw, Known(sound, path, variables or {}))), example=example))
        condition = _written(node, as_text=as_text)
    except Unclear as unclear:
        return Translation(None, unclear.field)
    except RecursionError:
        return Translation(None)
    return Translation(condition if sound(condition) else None)


def _written(node: Node, *, as_text: bool) -> Condition:
    """As an expression if it was one, else with paths; the other form if the first cannot express it."""
    first, second = (_expression, write_condition) if as_text else (write_condition, _expression)
    try:
        return first(node)
    except Unclear:
        return second(node)


def _expression(node: Node) -> Condition:
    return {"expr": write_expression(node)}


def translate_path(text: str) -> str:
    """The JSONPath of a field in another notation; empty if it is not known."""
    keys = keys_of(text)
    if keys is None:
        return ""
    try:
        return path_of(field_of(keys).keys)
    except Unclear:
        return ""

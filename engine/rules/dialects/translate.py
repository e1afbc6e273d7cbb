"""A refused condition → the condition that was probably meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.rules.dialects.fields import field_of, keys_of
from engine.rules.dialects.mappings import Mappings
from engine.rules.dialects.meaning import Node, Unclear, truth
from engine.rules.dialects.resolve import resolve
from engine.rules.dialects.write import Condition, in_yaml, path_of, write_condition, write_expression


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
        node = Mappings(sound, path, variables or {}).condition(raw)
        condition = _written(truth(resolve(node, example=example)), as_text=as_text)
    except Unclear as unclear:
        return Translation(None, unclear.field)
    except RecursionError:
        return Translation(None)
    return Translation(condition if sound(condition) else None)


def _written(node: Node, *, as_text: bool) -> Condition:
    """As an expression if it was one, else with paths; the other form if the first cannot express it."""
    try:
        return {"expr": write_expression(node)} if as_text else write_condition(node)
    except Unclear:
        return write_condition(node) if as_text else {"expr": write_expression(node)}


def translate_path(text: str) -> str:
    """The JSONPath of a field in another notation; empty if it is not known."""
    keys = keys_of(text)
    if keys is None:
        return ""
    try:
        return path_of(field_of(keys).keys)
    except Unclear:
        return ""

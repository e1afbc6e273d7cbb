"""How far a path got in a document before it found nothing, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import WantOfData
from engine.filters.verdict import describe
from engine.jsonpath.code import Step, generate_all
from engine.jsonpath.path import Path
from engine.suggest import did_you_mean

_PLAIN_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_SHOWN = 12


def where_it_ends(path: Path, document: Any) -> str:
    """Why a path finds nothing: the step that failed, and what is there instead."""
    if path.steps is None:
        return f"nothing found at {path.source}"
    for length in range(1, len(path.steps) + 1):
        try:
            found = generate_all(path.steps[:length])(document)
        except WantOfData as error:
            return f"not at hand: {error}"
        if not found:
            parents = generate_all(path.steps[: length - 1])(document)
            return _failed(path.steps[: length - 1], path.steps[length - 1], parents)
    return f"nothing found at {path.source}"


def write_steps(steps: tuple[Step, ...]) -> str:
    """Straight steps as a JSONPath."""
    return "$" + "".join(_write(step) for step in steps)


def _write(step: Step) -> str:
    if step is None:
        return "[*]"
    if isinstance(step, int):
        return f"[{step}]"
    plain = step and set(step) <= _PLAIN_NAME and not step[0].isdigit()
    return f".{step}" if plain else f"['{step}']"


def _failed(reached: tuple[Step, ...], step: Step, parents: list[Any]) -> str:
    place, parent = write_steps(reached), parents[0]
    if isinstance(parent, Mapping) and isinstance(step, str):
        return f"{place} has no {step!r}{_instead(step, parent)}"
    if isinstance(parent, list) and isinstance(step, str):
        return f"{place} is an array, which has no {step!r}: write {place}[*]{_write(step)}"
    if isinstance(parent, list) and isinstance(step, int):
        return f"{place} has {len(parent)} elements"
    if step is None and isinstance(parent, (list, Mapping)):
        return f"{place} is empty"
    return f"{place} is {describe(parent)}"


def _instead(step: str, parent: Mapping[str, Any]) -> str:
    names = [str(name) for name in list(parent)[:200]]
    if not names:
        return ": it is empty"
    hint = did_you_mean(step, names)
    if hint.startswith("did you mean"):
        return f": {hint}"
    rest = f", … ({len(parent)} keys)" if len(parent) > _SHOWN else ""
    return f"; it has {', '.join(names[:_SHOWN])}{rest}"

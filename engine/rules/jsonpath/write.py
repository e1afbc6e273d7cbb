"""Steps → the text of a path, or of the same read in an expression."""

from __future__ import annotations

from collections.abc import Sequence

from engine.core.payload_schema import Step

_PLAIN_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def write_steps(steps: Sequence[Step]) -> str:
    """Straight steps as a JSONPath."""
    return "$" + "".join(map(write_step, steps))


def write_step(step: Step) -> str:
    """One straight step of a JSONPath."""
    if step is None:
        return "[*]"
    if isinstance(step, int):
        return f"[{step}]"
    plain = step and set(step) <= _PLAIN_NAME and not step[0].isdigit()
    return f".{step}" if plain else f"[{quoted(step)}]"


def quoted(name: str) -> str:
    """A name as written in brackets."""
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


def write_look(steps: Sequence[Step]) -> str:
    """Steps as written in templates and expressions."""
    first, *rest = steps
    return str(first) + "".join("[…]" if step is None else write_step(step) for step in rest)

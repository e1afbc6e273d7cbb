"""The conditions and templates of a route as written, with their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.core.positions import Where
from engine.rules.templates import is_template

_GROUPS = ("all", "any", "none", "not")


def conditions(value: Any, where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
    """Every condition of a list, of one condition or of a group: inner ones first."""
    if isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from conditions(each, (*where, index))
    elif isinstance(value, dict):
        for key in _GROUPS:
            yield from conditions(value.get(key), (*where, key))
        yield where, value


def templates(value: Any, where: Where = ()) -> Iterator[tuple[Where, str]]:
    """Every template in a tree of parameters."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from templates(item, (*where, key))
    elif isinstance(value, str) and is_template(value):
        yield where, value

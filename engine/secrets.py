"""Keeps secret values out of everything that people or files get to see."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

#: What stands where a secret stood.
MASK = "***"
#: Shorter values are masked only where they stand alone: inside other text they would hit innocent words.
_SHORTEST_WITHIN_TEXT = 5


class Masker:
    """Replaces every known secret value, also percent-encoded, in text and in JSON-like trees."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = frozenset(value for value in values if value)
        self._pattern = self._compile()

    def _compile(self) -> re.Pattern[str] | None:
        forms = {form for value in self._values for form in _forms(value)}
        long = sorted((form for form in forms if len(form) >= _SHORTEST_WITHIN_TEXT), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, long))) if long else None

    def text(self, text: str) -> str:
        """The text with every secret in it replaced."""
        if text in self._values:
            return MASK
        return self._pattern.sub(MASK, text) if self._pattern else text

    def tree(self, value: Any) -> Any:
        """A copy of a JSON-like value with every secret in its texts and keys replaced."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.tree(key): self.tree(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.tree(item) for item in value]
        return value

    def __or__(self, other: Masker) -> Masker:
        """One that masks what either masks: around a reload, both configurations' secrets are at work."""
        return Masker(self._values | other._values)


def _forms(value: str) -> tuple[str, ...]:
    """How a value may look once it went through a URL or a JSON text."""
    return (
        value,
        quote(value, safe=""),
        quote(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    )

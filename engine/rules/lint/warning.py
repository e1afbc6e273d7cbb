"""One warning about a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.positions import Where


@dataclass(frozen=True, slots=True)
class LintWarning:
    """A warning at a position; ``line`` and ``column`` count from 1 within the value there."""

    where: Where
    message: str
    hint: str
    line: int = 1
    column: int = 1
    at_key: bool = False

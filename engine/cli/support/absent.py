"""A configuration that is not there: what to do."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from engine.core.errors import Problem


def absent(problems: Iterable[Problem]) -> bool:
    """Whether a configuration can't be used because there is no such file, or it may not be read."""
    return any(problem.line == 0 and not os.access(problem.file, os.R_OK) for problem in problems)


def how_to_have_one() -> str:
    """What to do then."""
    return f"write one, or name it with -c (an example: {_example()})"


def _example() -> Path:
    """The one with every feature, in a checkout; else the demo's."""
    import engine
    from engine.cli.demo.stage import PACKAGED

    every = Path(engine.__file__).parents[1] / "config.example.yaml"
    return every if every.exists() else PACKAGED

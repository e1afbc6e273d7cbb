"""Log lines on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from engine.core.masking import Masker
from engine.core.terminal_text import wrapped_problem
from engine.telemetry.log import LineFormatter, TextFormatter, formatter_of

_HANGING = 4


class TerminalFormatter(TextFormatter):
    """Lines broken between words, as wide as the terminal is now. Only a line of ours begins at the left."""

    def visible(self, text: str) -> str:
        """As ``TextFormatter`` shows it, wrapped."""
        width = _width()
        return "\n".join(wrapped_problem(text, width, _HANGING)) if width else super().visible(text)


def formatter_for_standard_error(style: str, masker: Callable[[], Masker]) -> LineFormatter:
    """The formatter of a style, ``text`` or ``json``. Only a terminal's text is wrapped: elsewhere a line is a line."""
    return TerminalFormatter(masker) if style == "text" and sys.stderr.isatty() else formatter_of(style, masker)


def _width() -> int:
    """How many columns standard error has; 0 if that is not known (any more)."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0

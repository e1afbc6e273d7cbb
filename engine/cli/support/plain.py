"""Output on terminals and pipes that know no Unicode: a plain character for each of ours, never a crash."""

from __future__ import annotations

import codecs
import io
import sys

#: The name under which Python's codecs know what stands in for a character that can't be written.
ERRORS = "engine.plain"
#: What the command writes beyond ASCII, and what says the same.
_PLAIN = {
    "✓": "+", "✗": "x", "↻": "~", "→": "->", "←": "<-", "…": "...", "·": "-",
    "▌": "|", "•": "*", "│": "|", "├": "|", "└": "`", "─": "-", "━": "-",
}  # fmt: skip


def write_plainly_where_needed() -> None:
    """Let standard output and error never fail for a character that their encoding has not."""
    codecs.register_error(ERRORS, stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def stand_in(error: UnicodeError) -> tuple[str, int]:
    """What codecs ask for: the text instead, and where to go on.

    Raises:
        UnicodeError: it is about reading.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


def knows_unicode(encoding: str | None) -> bool:
    """Whether an encoding has every character."""
    return (encoding or "").lower().replace("-", "").startswith("utf")

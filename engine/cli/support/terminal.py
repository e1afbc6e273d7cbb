"""What is written to people passes here: nothing that comes out of an event, a file or an answer steers a terminal."""

from __future__ import annotations

import codecs
import io
import logging
import sys
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from engine.core.terminal_text import CONTROLS, breaks, indent_of, visible


class SafeConsole(Console):
    """Shows control characters instead of sending them. Only its own styles reach the terminal.

    Texts are broken between words, as ``lines_of`` does it.
    """

    def print(self, *objects: Any, **how: Any) -> None:
        """As rich does it, but nothing is cut."""
        super().print(*objects, **({"crop": False} | how))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it."""
        options = options or self.options
        if isinstance(renderable, Text):
            renderable = visible_text(renderable)  # before it is measured and wrapped
            if not (renderable.no_wrap or options.no_wrap):
                renderable = _without_wrapping(Text("\n").join(lines_of(renderable, options.max_width)), renderable)
        for segment in super().render(renderable, options):
            if segment.control or not CONTROLS.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def _without_wrapping(text: Text, original: Text) -> Text:
    text.no_wrap, text.overflow, text.end = True, "ignore", original.end
    return text


def lines_of(text: Text, width: int, hanging: int = 0) -> list[Text]:
    """The lines of a text, broken between words where they take more than ``width`` cells. A longer word stays whole.

    Further lines begin below the first one, ``hanging`` cells to the right.
    """
    text = visible_text(text)
    if "\t" in text.plain:
        text = text.copy()
        text.expand_tabs(4)
    made: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        indent = indent_of(line.plain) + hanging
        first, *more = line.divide(breaks(line.plain, width, hanging))
        made += [first, *(Text(" " * indent).append_text(piece) for piece in more)]
        for piece in made[-len(more) - 1 :]:
            piece.rstrip()
    return made


def visible_text(text: Text) -> Text:
    """``visible`` of a text with styles."""
    if not CONTROLS.search(text.plain):
        return text
    places, growth = [], [0]
    for found in CONTROLS.finditer(text.plain):
        places.append(found.start())
        growth.append(growth[-1] + len(visible(found[0])) - 1)

    def moved(place: int) -> int:
        return place + growth[bisect_left(places, place)]

    made = text.blank_copy(visible(text.plain))
    made.spans = [Span(moved(span.start), moved(span.end), span.style) for span in text.spans]
    return made


def visible_error(error: click.ClickException) -> click.ClickException:
    """The same error; what a person typed, such as a file's name, is shown in it and not sent."""
    message = error.format_message
    error.format_message = lambda: visible(message())  # type: ignore[method-assign]
    return error


class VisibleFormatter(logging.Formatter):
    """For what is logged where no log is set up, as in short commands."""

    def format(self, record: logging.LogRecord) -> str:
        """As Python does it."""
        return visible(super().format(record))


def show_logs_visibly() -> None:
    """Let Python's handler of last resort send no control characters either."""
    handler: Any = logging.lastResort
    if handler is not None:
        handler.setFormatter(VisibleFormatter())


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

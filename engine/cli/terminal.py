"""What is written to people passes here: nothing that comes out of an event, a file or an answer steers a terminal."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from engine.controls import CONTROLS, visible


class SafeConsole(Console):
    """Shows control characters instead of sending them. Only its own styles reach the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it."""
        if isinstance(renderable, Text):
            renderable = visible_text(renderable)  # before it is measured and wrapped
        for segment in super().render(renderable, options):
            if segment.control or not CONTROLS.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


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

"""How the command speaks: tables and colours to people, JSON to programs, words on standard error."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.cli.absent import absent, how_to_have_one
from engine.cli.plain import knows_unicode
from engine.cli.terminal import SafeConsole
from engine.controls import visible_in_json
from engine.errors import ConfigError, EngineError, Problem
from engine.times import clock

#: How wide output is where no terminal tells: lines for ``grep``, not for eyes.
_WIDTH_WITHOUT_TERMINAL = 160
#: How much of an id is shown. An event's is unique from here on (a quarter of a microsecond); a
#: delivery's begins with its event's millisecond and goes on with a hash.
_SHOWN = 18
_STATE_STYLES = {
    "succeeded": "green",
    "routed": "green",
    "due": "yellow",
    "again": "yellow",
    "pending": "yellow",
    "running": "cyan",
    "dead": "red",
    "discarded": "dim",
}


def out() -> Console:
    """Standard output."""
    return _console(sys.stdout.isatty(), stderr=False)


def err() -> Console:
    """Standard error."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(terminal: bool, *, stderr: bool) -> Console:  # noqa: FBT001
    width = None if terminal or os.environ.get("COLUMNS") else _WIDTH_WITHOUT_TERMINAL
    return SafeConsole(stderr=stderr, highlight=False, emoji=False, markup=False, width=width)


def emit(data: Any) -> None:
    """JSON to standard output, indented; in ASCII where standard output knows nothing else."""
    text = _json(data, orjson.OPT_INDENT_2)
    plain = not knows_unicode(getattr(sys.stdout, "encoding", None))
    click.echo(json.dumps(orjson.loads(text), indent=2) if plain else text)


def emit_line(data: Any) -> None:
    """JSON to standard output, on one line."""
    click.echo(_json(data, 0))


def _json(data: Any, layout: int) -> str:
    try:
        text = orjson.dumps(data, default=str, option=layout | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a character, as in the name of a file that is not UTF-8
        text = json.dumps(data, default=str, indent=2 if layout else None)
    return visible_in_json(text)


def print_error(error: EngineError) -> None:
    """An error as words; a configuration's as its problems, each with its place."""
    console = err()
    if isinstance(error, ConfigError):
        print_problems(console, error.problems)
        if absent(error.problems):
            say(how_to_have_one(), "cyan")
        return
    console.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
    if hint := getattr(error, "hint", ""):
        console.print(Text(f"       {hint}", style="cyan"), soft_wrap=True)


def print_problems(console: Console, problems: Sequence[Problem], *, style: str = "red", word: str = "problem") -> None:
    """Problems as ``file:line:column: message``, the line, a caret and the hint; then how many."""
    for problem in problems:
        console.print(problem_text(problem, style=style), soft_wrap=True)
    if len(problems) > 1:
        console.print(Text(f"{len(problems)} {word}s", style=f"bold {style}"))


def problem_text(problem: Problem, *, style: str = "red") -> Text:
    """``str(problem)``, coloured."""
    first, *rest = str(problem).split("\n")
    text = Text.assemble((f"{problem.place}: ", "bold"), (first[len(problem.place) + 2 :], style))
    for line in rest:
        if line.strip() == "^":
            text.append(f"\n{line}", style=f"bold {style}")
        elif problem.hint and line.strip() == problem.hint.strip():
            text.append(f"\n{line}", style="cyan")
        else:
            text.append(f"\n{line}", style="dim")
    return text


def say(words: str, style: str = "dim") -> None:
    """A remark to the person at the terminal, on standard error."""
    err().print(Text(words, style=style), soft_wrap=True)


def next_page(words: Mapping[str, Any], before: str) -> str:
    """The command at work, with its options, that lists what comes after ``before``."""
    options = [f"--{word}" if value is True else f"--{word} {shlex.quote(str(value))}" for word, value in words.items()]
    kept = [option for option in options if not option.startswith("--before ")]
    return " ".join([click.get_current_context().command_path, *kept, f"--before {before}"])


def plural(count: int, word: str, many: str = "") -> str:
    """``1 route``, ``2 routes``; ``many`` where it takes more than an s."""
    return f"{count} {word}" if count == 1 else f"{count} {many or word + 's'}"


def table(*columns: str) -> Table:
    """A table in the house's style: a head, no frame. ``name>`` is right-aligned, ``name*`` gives way, both may be."""
    made = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1), collapse_padding=True
    )
    for column in columns:
        name = column.rstrip(">*")
        made.add_column(
            name,
            justify="right" if ">" in column else "left",
            no_wrap=not column.endswith("*"),
            overflow="fold",
        )
    return made


def one_line(text: str, style: str = "") -> Text:
    """A cell that is cut rather than wrapped, for long lists."""
    return Text(" ".join(text.split()), style=style, no_wrap=True, overflow="ellipsis")


def state(word: str) -> Text:
    """A state, coloured."""
    return Text(word, style=_STATE_STYLES.get(word, ""))


def short_event(event_id: str) -> str:
    """As much of an event's id as tells it from every other."""
    return event_id[:_SHOWN]


def short_delivery(delivery_id: str) -> str:
    """As much of a delivery's id as tells it from every other."""
    return delivery_id[:_SHOWN]


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago a time in ISO 8601 was, in one unit: ``5s``, ``3m``, ``2h``, ``9d``; ``in 5s`` for the future."""
    if moment is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    words = _in_one_unit(abs(seconds))
    return words if seconds >= 0 or words == "0s" else f"in {words}"


def ago(moment: str | None, now: datetime | None = None) -> str:
    """As ``age``, for the middle of a sentence: ``5s ago``, ``in 5s``."""
    words = age(moment, now)
    return words if not words or words.startswith("in ") else f"{words} ago"


def at(moment: str) -> str:
    """A time in ISO 8601 as people read it, in UTC, without the date where it is today."""
    return clock(datetime.fromisoformat(moment).timestamp(), datetime.now(UTC).timestamp())


def _in_one_unit(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one pair a line; those whose value is None or empty are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            made.add_row(name, value if isinstance(value, Text) else str(value))
    return made


def who(otherwise: str) -> str:
    """Who sits here, for those who see what was done; ``otherwise`` for a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return otherwise

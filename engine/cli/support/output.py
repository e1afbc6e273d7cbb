"""How the command speaks: tables and colours to people, JSON to programs, words on standard error."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from engine.cli.support.terminal import SafeConsole, knows_unicode, lines_of
from engine.core.errors import ConfigError, EngineError, Problem
from engine.core.terminal_text import snippet, visible_in_json, wrapped_advice
from engine.core.times import clock

#: How wide output is where there is no terminal: nothing is wrapped, as it is for ``grep`` and for files.
_UNLIMITED = 1_000_000
#: How wide continuous text is at most, and how wide it is where there is no terminal: longer lines are hard to follow.
_PAGE, _PAGE_WITHOUT_TERMINAL = 100, 80
#: How far what belongs to a problem is indented.
_INDENT = 4
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
#: What people read for a state or an outcome that JSON calls by another word.
_STATE_NAMES = {"due": "waiting", "again": "failed"}


def out() -> Console:
    """Standard output."""
    return _console(sys.stdout.isatty(), stderr=False)


def err() -> Console:
    """Standard error."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(terminal: bool, *, stderr: bool) -> Console:  # noqa: FBT001
    width = None if terminal or os.environ.get("COLUMNS") else _UNLIMITED
    return SafeConsole(stderr=stderr, highlight=False, emoji=False, markup=False, width=width)


def page_width(console: Console) -> int:
    """How wide continuous text is on a console."""
    return min(console.width, _PAGE) if console.width < _UNLIMITED else _PAGE_WITHOUT_TERMINAL


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
        print_problems(console, error.problems, word="error", mark="error")
        if absent(error.problems):
            say(how_to_have_one(), "cyan")
        return
    for line in lines_of(Text.assemble(("error: ", "bold red"), str(error)), console.width, len("error: ")):
        console.print(line, soft_wrap=True)
    for candidate in _candidate_lines(getattr(error, "candidates", ())):
        console.print(Text(f"       {candidate}"))
    if hint := getattr(error, "hint", ""):
        for advice in wrapped_advice(_indented(hint, len("error: ")), console.width):
            console.print(Text(advice, style="cyan"), soft_wrap=True)


def print_usage_error(error: click.ClickException) -> None:
    """An error of click's in the same form: what is wrong, then how the command is used."""
    console = err()
    message = Text.assemble(("error: ", "bold red"), error.format_message())
    for line in lines_of(message, console.width, len("error: ")):
        console.print(line, soft_wrap=True)
    context = getattr(error, "ctx", None)
    if context is not None:
        usage = context.command.collect_usage_pieces(context)
        hint = f"       usage: {' '.join([context.command_path, *usage])}; --help says more"
        console.print(Text(hint, style="cyan"), soft_wrap=True)


def _candidate_lines(candidates: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """What an ambiguous id may stand for, with as much of each id as tells it from the others."""
    ids = [one["id"] for one in candidates]
    size = next((size for size in range(_SHOWN, 40) if len({one[:size] for one in ids}) == len(ids)), 40)
    for one in candidates:
        yield f"{one['id'][:size]:<{size}}  {one['kind']:<8}  {one['about']}".rstrip()


def _indented(text: str, by: int) -> str:
    """Every line of a text."""
    return "\n".join(" " * by + line for line in text.split("\n"))


def print_problems(
    console: Console, problems: Sequence[Problem], *, style: str = "red", word: str = "problem", mark: str = ""
) -> None:
    """Problems as ``file:line:column: message``, the line, a caret and the hint. ``word``: then how many.

    ``mark`` stands before each message: ``error`` or ``warning``.
    """
    for problem in problems:
        marked = replace(problem, message=f"{mark}: {problem.message}") if mark else problem
        for line in _problem_lines(marked, console.width, style):
            console.print(line, soft_wrap=True)
    if word and len(problems) > 1:
        console.print(Text(f"{len(problems)} {word}s", style=f"bold {style}"))


def _problem_lines(problem: Problem, width: int, style: str) -> Iterator[Text]:
    """``str(problem)``, coloured, and as wide as the terminal."""
    place = replace(problem, file=_from_here(problem.file)).place
    yield from lines_of(Text.assemble((f"{place}: ", "bold"), (problem.message, style)), width, _INDENT)
    if problem.source.strip():
        line, caret = snippet(problem.source, problem.column, width - _INDENT)
        yield Text(" " * _INDENT + line, style="dim")
        yield Text(" " * _INDENT + caret, style=f"bold {style}")
    if problem.hint:
        for advice in wrapped_advice(_indented(problem.hint, _INDENT), width):
            yield Text(advice, style="cyan")


def _from_here(file: str) -> str:
    """A file's path from the working directory, if it is in there."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (OSError, ValueError):
        return file


def say(words: str, style: str = "dim") -> None:
    """A note for the person at the terminal, on standard error."""
    err().print(Text(words, style=style))


def tell_next_page(words: Mapping[str, Any], before: str) -> None:
    """That there are more, and on a line to paste the command that lists them."""
    say("there are more:")
    err().print(Text(f"  {next_page(words, before)}", style="dim"), soft_wrap=True)


def next_page(words: Mapping[str, Any], before: str) -> str:
    """The current command, with its options, that lists what comes after ``before``."""
    options = [f"--{word}" if value is True else f"--{word} {shlex.quote(str(value))}" for word, value in words.items()]
    kept = [option for option in options if not option.startswith("--before ")]
    return " ".join([click.get_current_context().command_path, *kept, f"--before {before[:_SHOWN]}"])


def plural(count: int, word: str, many: str = "") -> str:
    """``1 route``, ``2 routes``; ``many`` where it takes more than an s."""
    return f"{count} {word}" if count == 1 else f"{count} {many or word + 's'}"


def one_line(text: str, style: str = "") -> Text:
    """A text of several lines as one, for a cell."""
    return Text(" ".join(text.split()), style=style)


def state(word: str) -> Text:
    """A state, or an attempt's outcome, as people call it, coloured."""
    return Text(_STATE_NAMES.get(word, word), style=_STATE_STYLES.get(word, ""))


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


def who(otherwise: str) -> str:
    """Who sits here, for those who see what was done; ``otherwise`` for a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return otherwise


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

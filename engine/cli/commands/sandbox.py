"""``engine sandbox``: the stand-ins alone, for rules of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.text import Text

from engine.cli.demo.stage import PORTS, Stage, usual_ports
from engine.cli.support.output import emit_line, out, page_width
from engine.cli.support.show_request import Received, print_request
from engine.core.errors import EngineError
from engine.testing import Recorded

_LAST_PORT = 65535 - len(PORTS) + 1


@click.command("sandbox")
@click.option(
    "--port",
    type=click.IntRange(0, _LAST_PORT),
    help=f"The first of three ports in a row; 0 takes free ones.  [default: {PORTS[0]} to {PORTS[-1]}, or free ones]",
)
@click.option("-v", "--verbose", is_flag=True, help="Show Slack's requests whole, too, and not only their messages.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line, for programs.")
def command(port: int | None, verbose: bool, as_json: bool) -> None:  # noqa: FBT001
    """Try your own rules: no account, no network.

    Starts stand-ins for LangSmith, Slack and a webhook's receiver on this machine, prints
    the variables that lead the engine to them, and shows everything that they receive: of
    Slack the messages (-v: the requests, too), of the others the whole requests. Tokens and
    keys are masked. Ctrl-C ends it.
    """
    viewer: Viewer = ForPrograms() if as_json else ForPeople(out(), verbose=verbose)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_ports(port), viewer, usual=port is None))


class Viewer(Protocol):
    """What shows the sandbox to somebody."""

    def begins(self, variables: Mapping[str, str], moved: Mapping[int, int]) -> None:
        """It listens; these variables lead to it. ``moved``: usual ports that are in use, and those used instead."""

    def receives(self, service: str, recorded: Recorded) -> None:
        """A request was answered."""


class ForPeople:
    """Text on a console."""

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console, self._received, self._verbose = console, Received(), verbose
        self._width = page_width(console)

    def begins(self, variables: Mapping[str, str], moved: Mapping[int, int]) -> None:
        """What this is, and lines to paste, each whole."""
        self._console.print(Text("engine sandbox", style="bold green"))
        self._words("Stand-ins for LangSmith, Slack and a webhook's receiver, on this machine only.")
        if moved:
            ports = ", ".join(f"{usual} is in use: using {port}" for usual, port in moved.items())
            self._words(f"{ports}. The lines below differ from those in the README.", "yellow")
        self._words("Paste these lines into the terminal where you run the engine:")
        self._console.print()
        for names in _LINES:
            pairs = " ".join(f"{name}={variables[name]}" for name in names)
            self._console.print(Text(f"export {pairs}", style="cyan"), soft_wrap=True)
        self._console.print()
        self._words(_ADVICE)
        more = "" if self._verbose else " (engine sandbox -v shows Slack's requests whole)"
        self._words(f"What they receive is shown below{more}. Ctrl-C ends it.")
        self._console.print()
        self._console.file.flush()  # a reader behind a pipe waits for these lines

    def receives(self, service: str, recorded: Recorded) -> None:
        """One block of lines."""
        print_request(self._console, self._received(service, recorded), self._width, whole=self._verbose)
        self._console.file.flush()

    def _words(self, words: str, style: str = "") -> None:
        self._console.print(Text(words, style=style), width=self._width)


class ForPrograms:
    """One JSON object a line, each with its ``type``."""

    def __init__(self) -> None:
        self._received = Received()

    def begins(self, variables: Mapping[str, str], _moved: Mapping[int, int]) -> None:
        """``serving``: the variables."""
        emit_line({"type": "serving", "variables": variables})

    def receives(self, service: str, recorded: Recorded) -> None:
        """``request``."""
        emit_line({"type": "request", **self._received(service, recorded)})


#: The variables, a line for each service.
_LINES = (
    ("LANGSMITH_ENDPOINT", "LANGSMITH_API_KEY"),
    ("SLACK_ENDPOINT", "SLACK_BOT_TOKEN"),
    ("INBOX_URL",),
)

_ADVICE = (
    "The endpoints count wherever your file writes none. ${INBOX_URL} can be the url of forward_webhook and the "
    "webhook_url of post_to_slack; addresses that your file writes out are called as they are."
)


async def _serve(ports: tuple[int, int, int], viewer: Viewer, *, usual: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # loops on Windows have no signal handlers
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def show(service: str, recorded: Recorded) -> None:
        try:
            viewer.receives(service, recorded)
        except BrokenPipeError:  # the reader has gone
            stop.set()

    try:
        async with Stage(ports, creates_missing=True, on_request=show) as stage:
            viewer.begins(stage.environ, _moved(stage.environ) if usual else {})
            await stop.wait()
    except OSError as error:
        last = ports[-1]
        raise PortsTakenError(f"cannot listen on 127.0.0.1:{ports[0]} to {last}: {error.strerror or error}") from None


def _moved(variables: Mapping[str, str]) -> dict[int, int]:
    """The usual ports that are not those of the variables, and those."""
    ports = (urlsplit(variables[name]).port or 0 for name in ("LANGSMITH_ENDPOINT", "SLACK_ENDPOINT", "INBOX_URL"))
    return {usual: port for usual, port in zip(PORTS, ports, strict=True) if usual != port}


class PortsTakenError(EngineError):
    """The stand-ins cannot listen at the given ports."""

    hint = "choose other ports with --port, or let it take free ones with --port 0"


def _ports(first: int | None) -> tuple[int, int, int]:
    """The given ports; otherwise the usual ones, so that exported variables stay valid, or free ones."""
    if first is None:
        return usual_ports()
    return (first, first + 1, first + 2) if first else (0, 0, 0)

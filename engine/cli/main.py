"""``engine``: finds the command, and turns every foreseen error into words and an exit code."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from engine.cli.support.output import print_error, print_usage_error
from engine.cli.support.terminal import show_logs_visibly, visible_error, write_plainly_where_needed
from engine.core.error_text import traceback_text
from engine.core.errors import EngineError
from engine.core.terminal_text import visible

#: Exit codes: good; there are findings (or nothing matched, or it failed); it could not run.
GOOD, FINDINGS, COULD_NOT_RUN = 0, 1, 2
#: How long threads that plug-ins have started may go on when a command's work is done, in seconds.
_PATIENCE = 1.0
#: How long output may take at the end, in seconds, where it has to be hurried.
_LONGEST_FLUSH = 3.0
#: Threads of the engine that may be running code of plug-ins, or writing to a pipe without a reader.
_OWN_THREADS = frozenset({"offload", "loading"})


class Entry(NamedTuple):
    """A command that is imported when it is used: its module, its line of help, and its name in the module."""

    module: str
    help: str
    name: str = "command"


COMMANDS: Mapping[str, Entry] = {
    "serve": Entry("engine.cli.commands.serve", "Receive webhooks and run the actions."),
    "check": Entry("engine.cli.commands.check", "Check configuration files."),
    "explain": Entry("engine.cli.commands.explain", "Tell why routes match a webhook or don't."),
    "send": Entry("engine.cli.commands.send", "Send a webhook as LangSmith does."),
    "demo": Entry("engine.cli.commands.demo", "See it work, without any account."),
    "sandbox": Entry("engine.cli.commands.sandbox", "Try your own rules without any account."),
    "events": Entry("engine.cli.commands.events", "List events, show one."),
    "deliveries": Entry("engine.cli.commands.deliveries", "List deliveries, show one."),
    "replay": Entry("engine.cli.commands.replay", "Make deliveries or events due again."),
    "discard": Entry("engine.cli.commands.discard", "Give up deliveries or events that are dead."),
    "destinations": Entry("engine.cli.commands.destinations", "Show where deliveries go; resume one."),
    "mute": Entry("engine.cli.commands.mutes", "Mute a route for a while.", "mute"),
    "unmute": Entry("engine.cli.commands.mutes", "Let a muted route act again.", "unmute"),
    "mutes": Entry("engine.cli.commands.mutes", "List the routes that are muted.", "mutes"),
    "routes": Entry("engine.cli.commands.routes", "Show the routes of the configuration."),
    "actions": Entry("engine.cli.commands.actions", "Show the actions routes can use."),
    "reload": Entry("engine.cli.commands.reload", "Have a running engine load its configuration."),
    "config": Entry("engine.cli.commands.config", "Show the effective configuration."),
    "store": Entry("engine.cli.commands.store", "Back up the store."),
    "keygen": Entry("engine.cli.commands.keygen", "Make a key for ENGINE_STORE_KEY."),
}


#: What other tools call a command that has another name here.
_FOREIGN: Mapping[str, str] = {
    "test": "explain",
    "try": "explain",
    "why": "explain",
    "run": "serve",
    "start": "serve",
    "server": "serve",
    "validate": "check",
    "lint": "check",
    "verify": "check",
    "retry": "replay",
    "redrive": "replay",
    "resend": "replay",
    "drop": "discard",
    "delete": "discard",
    "purge": "discard",
    "silence": "mute",
    "pause": "mute",
    "status": "destinations",
    "logs": "events",
    "backup": "store",
    "plugins": "actions",
}
#: How alike a word and a command's name must be: "test" and "mutes" are alike by two thirds.
_ALIKE = 0.7


def _nearest(word: str) -> str:
    """The command that was probably meant; empty if none is near."""
    near = difflib.get_close_matches(word.lower(), COMMANDS, n=1, cutoff=_ALIKE)
    return _FOREIGN.get(word.lower(), "") or (near[0] if near else "")


class LazyGroup(click.Group):
    """Imports a command when it is called, so that ``engine --help`` and small commands start at once."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order of the table: as a newcomer would use them."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a name it does not know."""
        if args and args[0] not in COMMANDS and (near := _nearest(args[0])):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near!r}?")
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click does, with errors that may be shown."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            raise _shown_our_way(error) from None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and end with words and 2 where the engine refuses."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            raise _shown_our_way(error) from None
        except EngineError as error:
            print_error(error)
            ctx.exit(COULD_NOT_RUN)


@click.group(
    "engine",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 good, 1 findings, 2 could not run.",
)
@click.version_option(None, "--version", "-V", package_name="langsmith-rules-engine", prog_name="engine")
def cli() -> None:
    """Route LangSmith's webhooks to actions by rules in one YAML file."""


def _shown_our_way(error: click.ClickException) -> click.ClickException:
    """The same error, which click will show as every other error is shown."""
    shown = visible_error(error)
    shown.show = lambda file=None: print_usage_error(shown)  # type: ignore[method-assign]
    return shown


def main() -> None:
    """The console script."""
    write_plainly_where_needed()
    show_logs_visibly()
    code: object = GOOD
    try:
        cli(prog_name="engine")
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001 - the interpreter would wait for plug-ins' threads after showing it
        click.echo(visible(traceback_text(error)), err=True)
        code = FINDINGS
    _end(code)


def _end(code: object) -> None:
    """End the process with an exit code, also while threads of plug-ins are running."""
    if _lasting_threads():
        watch = threading.Thread(target=_flush, daemon=True)  # what reads the output may have stopped
        watch.start()
        watch.join(_LONGEST_FLUSH)
        os._exit(code if isinstance(code, int) else int(code is not None))
    sys.exit(code)  # type: ignore[arg-type]


def _lasting_threads() -> bool:
    """Whether threads are running that would keep the interpreter from ending: not even after a moment they end."""
    deadline = time.monotonic() + _PATIENCE
    for thread in threading.enumerate():
        if thread is threading.main_thread() or (thread.daemon and thread.name not in _OWN_THREADS):
            continue
        thread.join(max(deadline - time.monotonic(), 0))
        if thread.is_alive():
            return True
    return False


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()

"""Options that several commands share, each with its ``ENGINE_*`` variable."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.core.env_file import EnvFile
from engine.core.serve_settings import Address
from engine.core.units import parse_duration, parse_size

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """What a function makes of a text; its ValueError is click's error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or click's error."""
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _seconds(text: str) -> float:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else parse_duration(text)


#: ``host:port``.
ADDRESS = Parsed("host:port", Address.parse)
#: ``10s``, ``5m`` or a number: seconds.
DURATION = Parsed("duration", _seconds)
#: ``64MiB``: bytes.
SIZE = Parsed("size", parse_size)

#: Which deliveries a command is about.
_SELECTING = (
    click.option("--route", metavar="NAME", help="Only of this route, by its id or name."),
    click.option("--action", metavar="NAME", help="Only of this action."),
    click.option("--event", metavar="ID", help="Only of this event: its id, 8 characters or more of it, or last."),
    click.option("--error", metavar="TEXT", help="Only those whose reason has this text in it."),
    click.option("--since", metavar="WHEN", help="Of events not before: 30m, 2h, 7d (ago) or a time."),
    click.option("--until", metavar="WHEN", help="Of events not after: the same."),
)


def selecting_options(command: F) -> F:
    """Options that say which deliveries a command is about, by what they have in common."""
    for option in reversed(_SELECTING):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def config_option(function: F) -> F:
    """The configuration, and where its variables are: ``config``, ``env_file`` and ``no_env_file``."""
    for option in (
        click.option(
            "--no-env-file",
            is_flag=True,
            envvar="ENGINE_NO_ENV_FILE",
            show_envvar=True,
            help="Take variables from the environment only.",
        ),
        click.option(
            "--env-file",
            type=click.Path(path_type=Path),
            envvar="ENGINE_ENV_FILE",
            show_envvar=True,
            help="Variables that the environment does not have.  [default: .env beside the configuration]",
        ),
        click.option(
            "-c",
            "--config",
            "config",
            type=click.Path(path_type=Path, dir_okay=False),
            default=Path("config.yaml"),
            envvar="ENGINE_CONFIG",
            show_default=True,
            show_envvar=True,
            help="The configuration file.",
        ),
    ):
        function = option(function)
    return function


def env_file_of(config: Path, named: Path | None, *, without: bool) -> EnvFile | None:
    """The file of a configuration's variables: as named, else ``.env`` beside it; None: there shall be none."""
    if without:
        return None
    return EnvFile.beside(config) if named is None else EnvFile(named.absolute())


def store_options(function: F) -> F:
    """Where a store is: ``data`` and ``store``."""
    for option in (
        click.option(
            "--store",
            envvar="ENGINE_STORE",
            show_envvar=True,
            metavar="URL",
            help="The store, such as sqlite:////var/lib/engine/engine.db.  [default: engine.db in --data]",
        ),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            envvar="ENGINE_DATA",
            show_envvar=True,
            help="The data directory.  [default: engine-data beside the configuration]",
        ),
    ):
        function = option(function)
    return function


def data_of(config: Path, data: Path | None) -> Path:
    """The data directory: as given, or ``engine-data`` beside the configuration."""
    return data if data is not None else config.parent / "engine-data"


#: An id of an event or a delivery, or its start, and the word for the newest one. No command is called so.
_ID = re.compile(r"last|(?=.*[0-9])[0-9a-f-]+", re.IGNORECASE)


class DefaultGroup(click.Group):
    """A group with a default command: ``engine events --kind alert`` is ``engine events list …``."""

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._default = default

    @property
    def _shows(self) -> bool:
        """Whether an id alone is shown."""
        return "show" in self.commands and self._default != "show"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with the default command put before options that stand alone, and ``show`` before an id."""
        asks_for_help = bool(args) and args[0] in ctx.help_option_names
        if not asks_for_help and (not args or args[0].startswith("-")):
            args = [self._default, *args]
        elif self._shows and _ID.fullmatch(args[0]):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; what is no command but reads as an id is shown, and for other names there is advice."""
        if args and args[0] not in self.commands and "show" in self.commands and _ID.fullmatch(args[0]):
            args = ["show", *args]
        if args and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.commands, n=1, cutoff=0.7)
            show = f" To show one: {ctx.command_path} show {args[0]}" if "show" in self.commands else ""
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else show))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the default command, which are the group's where no command is named; then the commands."""
        default = self.commands[self._default]
        inner = click.Context(default, info_name=self._default, parent=ctx)
        records = [record for option in default.get_params(inner) if (record := option.get_help_record(inner))]
        with formatter.section(f"Options (of {self._default}, which is meant where no command is named)"):
            formatter.write_dl(records)
        self.format_commands(ctx, formatter)

"""Options that several commands share, each with its ``ENGINE_*`` variable."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.core.env_file import EnvFile
from engine.core.serve_settings import Address
from engine.core.units import parse_duration, parse_size

F = TypeVar("F", bound=Callable[..., Any])


class AddressType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """``host:port``."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """The address, or click's error."""
        try:
            return value if isinstance(value, Address) else Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """``10s``, ``5m``: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or click's error."""
        try:
            return float(value) if re.fullmatch(r"\d+(\.\d+)?", str(value)) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """``64MiB``: bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, or click's error."""
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


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

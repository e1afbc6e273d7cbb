"""``engine config show``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click
from rich.syntax import Syntax
from rich.text import Text

from engine.cli.commands.reload import problems_of
from engine.cli.support.access import Place, access_options, connected, in_use, place_from, tell_unset
from engine.cli.support.loaded_rules import RulesInUse
from engine.cli.support.options import DefaultGroup, json_option
from engine.cli.support.output import age, at, emit, out, print_problems
from engine.cli.support.tables import Pairs
from engine.cli.support.terminal import lines_of
from engine.config import dump_masked, load_config
from engine.core.errors import ConfigError
from engine.core.masking import Masker

#: How far lines that are continued are indented.
_HANGING = 4


@click.group("config", cls=DefaultGroup, default="show")
def command() -> None:
    """Look at the configuration."""


@command.command("show", short_help="Show the effective configuration.")
@click.option("--live", is_flag=True, help="The one in use in a running engine, and how its latest reload went.")
@access_options
@json_option
def show(live: bool, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Show the effective configuration: variables filled in, defaults too, secrets masked.

    Where a running engine has loaded the file as it is now, the engine answers: it has the variables. Where it has not,
    it is said what is in use there.
    """
    place = place_from(options)
    working = None if live or not place.config.exists() else in_use(place)
    if live:
        _show_live(asyncio.run(_ask(place)), as_json=as_json)
    elif working is not None and working.file_is == "in_use":
        _show_served(asyncio.run(_ask(place)), working, as_json=as_json)
    else:
        _show_file(place, working, as_json=as_json)


def _show_served(answer: dict[str, Any], working: RulesInUse, *, as_json: bool) -> None:
    """The file as the engine has loaded it."""
    if as_json:
        known = {word: answer[word] for word in ("file", "hash", "config", "yaml")}
        in_use = {"hash": working.hash, "since": working.since, "same": True, "file_is": working.file_is}
        emit(known | {"in_use": in_use})
        return
    _print_yaml(answer["yaml"])
    working.tell(None)


def _show_file(place: Place, working: RulesInUse | None, *, as_json: bool) -> None:
    try:
        loaded = load_config(place.config, env_file=place.env_file, stand_ins=True)
    except ConfigError as error:
        if working is not None:
            working.tell(None, len(error.problems))
        raise
    tell_unset(loaded)
    masker = Masker(loaded.masked)
    text = masker.text(dump_masked(loaded))
    if as_json:
        known = {"in_use": working.to_json(loaded) if working else None}
        emit({"file": loaded.file, "hash": loaded.hash, "config": masker.tree(loaded.shown), "yaml": text} | known)
        return
    _print_yaml(text)
    if working is not None:
        working.tell(loaded)


async def _ask(place: Place) -> dict[str, Any]:
    async with connected(place) as client:
        return await client.call("GET", "/api/v1/config")


def _show_live(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    _print_yaml(answer["yaml"])
    console, last = out(), answer["last_reload"]
    how = Text("good", style="green") if last["good"] else Text("failed; the rules above stay in use", style="red")
    console.print(
        Pairs(
            [
                ("# loaded", f"{at(answer['loaded_at'])} ({age(answer['loaded_at'])} ago)"),
                ("# last reload", Text.assemble(f"{at(last['at'])} ({age(last['at'])} ago): ", how)),
            ]
        )
    )
    print_problems(console, problems_of([*last["problems"], *answer["broken_plugins"]]), word="error", mark="error")


def _print_yaml(text: str) -> None:
    """Coloured for a terminal; elsewhere to the letter, so that it can be piped."""
    if sys.stdout.isatty():
        console = out()
        coloured = Syntax("", "yaml", theme="ansi_dark", background_color="default").highlight(text)
        for line in lines_of(coloured, console.width, _HANGING):
            console.print(line, soft_wrap=True)
    else:
        click.echo(text, nl=False)

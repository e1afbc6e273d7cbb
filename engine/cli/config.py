"""``engine config show``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
from rich.syntax import Syntax
from rich.text import Text

from engine.cli.access import DEFAULT_ADMIN_URL, Place, connected
from engine.cli.group import DefaultGroup
from engine.cli.options import config_option, json_option
from engine.cli.output import age, emit, facts, out
from engine.config import dump_masked, load_config
from engine.secrets import Masker


@click.group("config", cls=DefaultGroup, default="show")
def command() -> None:
    """Look at the configuration."""


@command.command("show")
@config_option
@click.option("--live", is_flag=True, help="The one at work in a running engine, and how its latest reload went.")
@click.option(
    "--admin",
    envvar="ENGINE_ADMIN_URL",
    show_envvar=True,
    metavar="URL",
    help=f"A running engine's admin listener, for --live.  [default: {DEFAULT_ADMIN_URL}]",
)
@json_option
def show(config: Path, live: bool, admin: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show the effective configuration: variables filled in, defaults too, secrets masked."""
    if live:
        _show_live(asyncio.run(_ask(Place(config, admin))), as_json=as_json)
        return
    loaded = load_config(config)
    masker = Masker(loaded.masked)
    text = masker.text(dump_masked(loaded))
    if as_json:
        emit({"file": loaded.file, "hash": loaded.hash, "config": masker.tree(loaded.shown), "yaml": text})
    else:
        _print_yaml(text)


async def _ask(place: Place) -> dict[str, Any]:
    async with connected(place) as client:
        return await client.get("/api/v1/config")


def _show_live(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    _print_yaml(answer["yaml"])
    console, last = out(), answer["last_reload"]
    how = Text("good", style="green") if last["good"] else Text("failed; the rules above stay at work", style="red")
    console.print(
        facts(
            [
                ("# loaded", f"{answer['loaded_at']} ({age(answer['loaded_at'])} ago)"),
                ("# last reload", Text.assemble(f"{last['at']} ({age(last['at'])} ago): ", how)),
            ]
        )
    )
    for problem in (*last["problems"], *answer["broken_plugins"]):
        console.print(Text(problem["text"], style="red"), soft_wrap=True)


def _print_yaml(text: str) -> None:
    """Coloured for a terminal; elsewhere to the letter, so that it can be piped."""
    if sys.stdout.isatty():
        out().print(Syntax(text, "yaml", theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        click.echo(text, nl=False)

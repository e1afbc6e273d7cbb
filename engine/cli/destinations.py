"""``engine destinations``."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from rich.text import Text

from engine.cli.access import Place, access_options, opened, place_from
from engine.cli.group import DefaultGroup
from engine.cli.options import json_option
from engine.cli.output import age, emit, out, say, table

_STYLES = {"open": "green", "paused": "yellow", "probing": "yellow", "circuit": "red", "refused": "red", "gone": "red"}
_WORDS = {"circuit": "circuit open", "refused": "key refused"}


@click.group("destinations", cls=DefaultGroup, default="list")
def command() -> None:
    """Show where deliveries go, and which destinations take none for now."""


@command.command("list")
@access_options
@json_option
def list_(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """List destinations: those that are shut first, with the reason."""
    answer = asyncio.run(_list(place_from(options)))
    if as_json:
        emit(answer)
        return
    if not answer["destinations"]:
        say("no destination is known: nothing was delivered lately, and nothing waits")
        return
    made = table("DESTINATION*", "STATE*", "UNDER WAY>", "WAITING>", "LIMITS")
    for row in answer["destinations"]:
        made.add_row(row["name"], _state(row), str(row["under_way"]), str(row["waiting"]), _limits(row["limits"]))
    out().print(made)
    if answer["left_out"]:
        say(f"and {answer['left_out']} more")


@command.command("resume")
@click.argument("name")
@access_options
@json_option
def resume(name: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Let deliveries go to a destination again: NAME as the list shows it."""
    answer = asyncio.run(_resume(place_from(options), name))
    if as_json:
        emit(answer)
    else:
        out().print(Text.assemble(("resumed: ", "green"), name), soft_wrap=True)


async def _list(place: Place) -> dict[str, Any]:
    async with opened(place) as asked:
        return await asked.destinations()


async def _resume(place: Place, name: str) -> dict[str, Any]:
    async with opened(place) as asked:
        return await asked.resume(name)


def _state(row: dict[str, Any]) -> Text:
    """The state, how long it lasts, and below it why."""
    word = row["state"]
    text = Text(_WORDS.get(word, word), style=_STYLES.get(word, ""))
    if row["since"]:
        text.append(f" for {age(row['since'])}", style="dim")
    if row["until"] and word != "probing":
        text.append(f", {'until' if word == 'paused' else 'next probe'} {row['until'][11:19]} UTC", style="dim")
    if word == "gone":
        text.append(", until the configuration changes", style="dim")
    return text.append(f"\n{row['reason']}", style="dim") if row["reason"] else text


def _limits(limits: dict[str, Any] | None) -> str:
    if limits is None:
        return ""
    rate = f", {limits['rate']} (burst {limits['burst']})" if limits["rate"] else ""
    return f"{limits['concurrency']} at once{rate}"

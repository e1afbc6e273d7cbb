"""``engine mutes``, and what is muted in the engine that runs, for commands that show routes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import click

from engine.admin.views import iso
from engine.cli.support.access import Place, access_options, neighbour, opened, place_from
from engine.cli.support.admin_client import AccessError
from engine.cli.support.options import json_option
from engine.cli.support.output import age, at, emit, one_line, out, plural, say
from engine.cli.support.tables import Table
from engine.core.times import time_of
from engine.store.records import Control

#: How long an engine may take to tell, in seconds: this is beside the point of those who ask.
_PATIENCE = 3.0
#: So many muted routes are named in one line.
_MOST_NAMED = 5


@click.command("mutes")
@access_options
@json_option
def command(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """List the routes that are muted."""
    show(place_from(options), as_json=as_json)


def show(place: Place, *, as_json: bool) -> None:
    """Print what is muted."""
    answer = asyncio.run(_mutes(place))
    if as_json:
        emit(answer)
    elif not answer["mutes"]:
        say("no route is muted")
    else:
        made = Table("ROUTE", "UNTIL", "BY", "SINCE>", "REASON*")
        for mute in answer["mutes"]:
            until = at(mute["until"]) if mute["until"] else "unmuted"
            made.add_row(mute["route"], until, mute["by"], age(mute["since"]), one_line(mute["reason"]))
        out().print(made)


def muted_message(mutes: Mapping[str, Control]) -> str:
    """Which routes are muted, and until when, in one line; empty if none is."""
    if not mutes:
        return ""
    named = [f"{route} {_until(mute)}" for route, mute in sorted(mutes.items())]
    shown = ", ".join([*named[:_MOST_NAMED], *(["…"] if len(named) > _MOST_NAMED else [])])
    verb = "is" if len(named) == 1 else "are"
    return f"{plural(len(named), 'route')} {verb} muted: {shown}"


def _until(mute: Control) -> str:
    return "until it is unmuted" if mute.until_at is None else f"until {at(iso(mute.until_at))}"


async def _mutes(place: Place) -> dict[str, Any]:
    async with opened(place) as asked:
        return await asked.mutes()


def muted_at(place: Place) -> Mapping[str, Control]:
    """The mutes of the engine that runs with this configuration, by route; none where none runs."""
    try:
        answer = asyncio.run(_ask(place))
    except (AccessError, TimeoutError):
        return {}
    return controls_of(answer)


async def _ask(place: Place) -> Mapping[str, Any]:
    async with asyncio.timeout(_PATIENCE), neighbour(place) as client:
        return {"mutes": []} if client is None else await client.mutes()


def controls_of(answer: Mapping[str, Any]) -> Mapping[str, Control]:
    """The mutes that an engine tells of, by route."""
    return {mute["route"]: _control(mute) for mute in answer["mutes"]}


def _control(mute: Mapping[str, Any]) -> Control:
    since, until = time_of(mute["since"]), time_of(mute["until"])
    return Control(
        kind="mute",
        subject=mute["route"],
        reason=mute["reason"],
        set_by=mute["by"],
        set_at=since.timestamp() if since else 0.0,
        until_at=until.timestamp() if until else None,
    )

"""``engine unmute``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.text import Text

from engine.cli.main import FINDINGS
from engine.cli.support.access import Place, access_options, opened, place_from
from engine.cli.support.options import json_option
from engine.cli.support.output import emit, err, say, short_event

#: So many events are named.
_MOST_NAMED = 10


@click.command("unmute")
@click.argument("route")
@access_options
@json_option
def command(route: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Let a muted ROUTE act again, and say which events it held back. Exits with 1 if it was not muted."""
    answer = asyncio.run(_unmute(place_from(options), route))
    if as_json:
        emit(answer)
    else:
        was = answer["muted"]
        say(f"{answer['route']} {'acts again' if was else 'was not muted'}", "green" if was else "yellow")
        _tell_held(answer["route"], answer.get("held_back", ()))  # an engine of an earlier version does not say
    if not answer["muted"]:
        sys.exit(FINDINGS)


def _tell_held(route: str, events: Sequence[str]) -> None:
    """How many events it held back, and the command that does what was not done."""
    if not events:
        return
    words, them = ("1 event", "it") if len(events) == 1 else (f"{len(events)} events", "them")
    more = f" (the newest {_MOST_NAMED}; --json names all)" if len(events) > _MOST_NAMED else ""
    say(f"{words} matched {route} while it was muted. To act on {them} now{more}:")
    err().print(
        Text(f"  engine replay {' '.join(map(short_event, events[:_MOST_NAMED]))}", style="cyan"), soft_wrap=True
    )
    say("  All routes are evaluated again, so others that fired fire again; --dry-run shows what would be sent.")


async def _unmute(place: Place, route: str) -> dict[str, Any]:
    async with opened(place, changes=True) as asked:
        return await asked.call("DELETE", "/api/v1/mutes/{id}", id_=route)

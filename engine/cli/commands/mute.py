"""``engine mute``."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from engine.cli.commands.mutes import show
from engine.cli.support.access import Place, access_options, opened, place_from
from engine.cli.support.options import json_option
from engine.cli.support.output import at, emit, say, who
from engine.core.units import parse_duration


class Lasting(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A duration, as it is written."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, or click's error."""
        try:
            parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@click.command("mute")
@click.argument("route", required=False)
@click.option("--for", "lasting", type=Lasting(), metavar="DURATION", help="How long: 30m, 2h, 7d.")
@click.option("--forever", is_flag=True, help="Until somebody unmutes it.")
@click.option("--reason", metavar="TEXT", help="Why, for those who wonder.")
@click.option("--list", "listed", is_flag=True, help="Show what is muted; as engine mutes.")
@access_options
@json_option
def command(
    route: str | None,
    lasting: str | None,
    forever: bool,  # noqa: FBT001
    reason: str | None,
    listed: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    """Mute a ROUTE, by its id or name, for a while: what matches it counts as matched, and nothing is done.

    Deliveries that were decided on before go on. In a running engine it holds at once.
    """
    place = place_from(options)
    if listed and route is None:
        show(place, as_json=as_json)
        return
    if route is None or listed:
        raise click.UsageError("Name a route, or write --list alone.")
    if (lasting is None) is not forever:
        raise click.UsageError("Say how long: --for 2h, or --forever.")
    body = {"route": route, "for": lasting, "reason": reason, "by": who("engine mute")}
    answer = asyncio.run(_mute(place, {word: value for word, value in body.items() if value is not None}))
    if as_json:
        emit(answer)
        return
    say(f"{answer['mute']['route']} is muted {_for(lasting, answer['mute'])}", "green")
    if before := answer["replaced"]:
        why = f": {before['reason']}" if before["reason"] else ""
        say(f"in place of a mute {_until(before)} by {before['by']}{why}", "yellow")


def _until(mute: dict[str, Any]) -> str:
    return f"until {at(mute['until'])}" if mute["until"] else "until it is unmuted"


def _for(lasting: str | None, mute: dict[str, Any]) -> str:
    return f"for {lasting} ({_until(mute)})" if lasting else _until(mute)


async def _mute(place: Place, body: dict[str, Any]) -> dict[str, Any]:
    async with opened(place, changes=True) as asked:
        return await asked.do("mutes", body)

"""``engine mute``, ``engine unmute`` and ``engine mutes``, and what is muted, for commands that show routes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from engine.admin.views import iso
from engine.cli.main import FINDINGS
from engine.cli.support.access import Place, access_options, ask, neighbour, place_from
from engine.cli.support.admin_client import AccessError
from engine.cli.support.options import Parsed, json_option
from engine.cli.support.output import age, at, emit, err, one_line, out, plural, say, short_event, who
from engine.cli.support.tables import Table
from engine.core.times import time_of
from engine.core.units import parse_duration
from engine.store.records import Control

#: How long an engine may take to say what is muted, in seconds, for commands that show it besides.
_PATIENCE = 3.0
#: The most muted routes, and the most events held back, that are named.
_MOST_ROUTES, _MOST_EVENTS = 5, 10


def _as_written(text: str) -> str:
    """A duration that can be read, as it is written."""
    parse_duration(text)
    return text


_DURATION = Parsed("duration", _as_written)


@click.command("mutes")
@access_options
@json_option
def mutes(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """List the routes that are muted."""
    _list(place_from(options), as_json=as_json)


@click.command("mute")
@click.argument("route", required=False)
@click.option(
    "--for", "lasting", type=Parsed("duration", _as_written), metavar="DURATION", help="How long: 30m, 2h, 7d."
)
@click.option("--forever", is_flag=True, help="Until somebody unmutes it.")
@click.option("--reason", metavar="TEXT", help="Why, for those who wonder.")
@click.option("--list", "listed", is_flag=True, help="Show what is muted; as engine mutes.")
@access_options
@json_option
def mute(
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
        _list(place, as_json=as_json)
        return
    if route is None or listed:
        raise click.UsageError("Name a route, or write --list alone.")
    if (lasting is None) is not forever:
        raise click.UsageError("Say how long: --for 2h, or --forever.")
    body = {"route": route, "for": lasting, "by": who("engine mute")} | ({"reason": reason} if reason else {})
    answer = ask(place, lambda asked: asked.do("mutes", body), changes=True)
    if as_json:
        emit(answer)
        return
    until = _until(answer["mute"]["until"])
    say(f"{answer['mute']['route']} is muted {f'for {lasting} ({until})' if lasting else until}", "green")
    if before := answer["replaced"]:
        why = f": {before['reason']}" if before["reason"] else ""
        say(f"in place of a mute {_until(before['until'])} by {before['by']}{why}", "yellow")


@click.command("unmute")
@click.argument("route")
@access_options
@json_option
def unmute(route: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Let a muted ROUTE act again, and say which events it held back. Exits with 1 if it was not muted."""
    path = "/api/v1/mutes/{id}"
    answer = ask(place_from(options), lambda asked: asked.call("DELETE", path, id_=route), changes=True)
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
    them = "it" if len(events) == 1 else "them"
    more = f" (the newest {_MOST_EVENTS}; --json names all)" if len(events) > _MOST_EVENTS else ""
    say(f"{plural(len(events), 'event')} matched {route} while it was muted. To act on {them} now{more}:")
    replay = f"  engine replay {' '.join(map(short_event, events[:_MOST_EVENTS]))}"
    err().print(Text(replay, style="cyan"), soft_wrap=True)
    say("  All routes are evaluated again, so others that fired fire again; --dry-run shows what would be sent.")


def _list(place: Place, *, as_json: bool) -> None:
    answer = ask(place, lambda asked: asked.mutes())
    if as_json:
        emit(answer)
    elif not answer["mutes"]:
        say("no route is muted")
    else:
        made = Table("ROUTE", "UNTIL", "BY", "SINCE>", "REASON*")
        for one in answer["mutes"]:
            until = at(one["until"]) if one["until"] else "unmuted"
            made.add_row(one["route"], until, one["by"], age(one["since"]), one_line(one["reason"]))
        out().print(made)


def _until(moment: str | None) -> str:
    return f"until {at(moment)}" if moment else "until it is unmuted"


def muted_message(muted: Mapping[str, Control]) -> str:
    """Which routes are muted, and until when, in one line; empty if none is."""
    if not muted:
        return ""
    untils = {route: None if one.until_at is None else iso(one.until_at) for route, one in sorted(muted.items())}
    named = [f"{route} {_until(until)}" for route, until in untils.items()]
    shown = ", ".join([*named[:_MOST_ROUTES], *(["…"] if len(named) > _MOST_ROUTES else [])])
    verb = "is" if len(named) == 1 else "are"
    return f"{plural(len(named), 'route')} {verb} muted: {shown}"


def muted_at(place: Place) -> Mapping[str, Control]:
    """The mutes of the engine that runs with this configuration, by route; none where none runs."""

    async def muted() -> Mapping[str, Control]:
        async with asyncio.timeout(_PATIENCE), neighbour(place) as client:
            return {one["route"]: _control(one) for one in (await client.mutes())["mutes"]} if client else {}

    try:
        return asyncio.run(muted())
    except (AccessError, TimeoutError):
        return {}


def _control(one: Mapping[str, Any]) -> Control:
    since, until = time_of(one["since"]), time_of(one["until"])
    return Control(
        kind="mute",
        subject=one["route"],
        reason=one["reason"],
        set_by=one["by"],
        set_at=since.timestamp() if since else 0.0,
        until_at=until.timestamp() if until else None,
    )

"""``engine destinations``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import click
from rich.text import Text

from engine.admin.query import NotFound
from engine.cli.support.access import access_options, ask, place_from
from engine.cli.support.admin_client import Asked
from engine.cli.support.options import DefaultGroup, json_option
from engine.cli.support.output import emit, out, plural, say
from engine.cli.support.show_deliveries import detail_lines, state_of
from engine.cli.support.tables import Table

#: So many destinations are named where a part of a name stands for several.
_MOST_NAMED = 5


@click.group("destinations", cls=DefaultGroup, default="list")
def command() -> None:
    """Show where deliveries go, and which destinations are failing or paused."""


@command.command("list")
@access_options
@json_option
def list_(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """List destinations, failing and paused ones first."""
    answer = ask(place_from(options), lambda asked: asked.destinations())
    if as_json:
        emit(answer)
        return
    if rows := answer["destinations"]:
        out().print(_table(rows))
    elif not answer["unassigned"]:
        say("no destination is known: nothing was attempted in the last 24h, and nothing waits")
    if answer["left_out"]:
        say(f"and {answer['left_out']} more")
    if count := answer["unassigned"]:
        verb = "waits" if count == 1 else "wait"
        say(f"{plural(count, 'delivery', 'deliveries')} {verb} whose destination shows when it is their turn")


@command.command("resume", short_help="Send to a failing or paused destination again.")
@click.argument("name")
@access_options
@json_option
def resume(name: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Send to a failing or paused destination again, at once.

    NAME is the destination's name as the list shows it, or a part of it that no other name has.
    Write it in quotes: 'slack #ops'. Deliveries that wait for a retry are due now, too.
    """
    answer = ask(place_from(options), lambda asked: _resume(asked, name), changes=True)
    if as_json:
        emit(answer)
    else:
        out().print(_resumed(answer), soft_wrap=True)


def _resumed(answer: dict[str, Any]) -> Text:
    if not answer["resumed"] and not answer["due"]:
        return Text(f"already open: {answer['name']}")
    word = "resumed: " if answer["resumed"] else ""
    return Text.assemble((word, "green"), answer["name"], _due_now(answer["due"]))


def _due_now(count: int) -> str:
    if not count:
        return ""
    verb = "was waiting for a retry and is" if count == 1 else "were waiting for a retry and are"
    return f"; {plural(count, 'delivery', 'deliveries')} {verb} due now"


async def _resume(asked: Asked, name: str) -> dict[str, Any]:
    known = [row["name"] for row in (await asked.destinations())["destinations"]]
    return await asked.do("destinations/resume", {"name": _named(name, known)})


def _named(typed: str, known: Sequence[str]) -> str:
    """The destination that a name, or a part of one, stands for; what is not known is passed on as it was typed.

    Raises:
        NotFound: several names have that part.
    """
    if typed in known or not typed:
        return typed
    found = [name for name in known if typed.casefold() in name.casefold()]
    if len(found) > 1:
        named = ", ".join(map(shlex.quote, found[:_MOST_NAMED]))
        raise NotFound(f"{typed!r} is in the names of {len(found)} destinations", f"write one of them whole: {named}")
    return found[0] if found else typed


def _table(rows: list[dict[str, Any]]) -> Table:
    """Limits are those of a running engine: without one there is nothing to show of them."""
    columns = ("DESTINATION", "STATE", "UNDER WAY>", "WAITING>")
    live = any(row["limits"] for row in rows)
    made = Table(*columns, "LIMITS") if live else Table(*columns)
    for row in rows:
        cells = [row["name"], state_of(row), str(row["under_way"]), str(row["waiting"])]
        limits = [_limits(row["limits"])] if live else []
        made.add_row(*cells, *limits, below=detail_lines(row, live=live))
    return made


def _limits(limits: dict[str, Any] | None) -> str:
    if limits is None:
        return ""
    rate = f", {limits['rate']} (burst {limits['burst']})" if limits["rate"] else ""
    return f"{limits['concurrency']} at once{rate}"

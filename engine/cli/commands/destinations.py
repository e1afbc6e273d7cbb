"""``engine destinations``."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from rich.text import Text

from engine.cli.support.access import Place, access_options, opened, place_from
from engine.cli.support.group import DefaultGroup
from engine.cli.support.options import json_option
from engine.cli.support.output import age, ago, at, emit, out, plural, say
from engine.cli.support.tables import Table

_STYLES = {
    "healthy": "green",
    "erring": "yellow",
    "paused": "yellow",
    "probing": "yellow",
    "failing": "red",
    "unauthorized": "red",
    "gone": "red",
}
_WORDS = {"unknown": "unknown: no engine runs"}


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
    if rows := answer["destinations"]:
        out().print(_table(rows))
    elif not answer["unassigned"]:
        say("no destination is known: nothing was attempted in the last 24h, and nothing waits")
    if answer["left_out"]:
        say(f"and {answer['left_out']} more")
    if count := answer["unassigned"]:
        verb = "waits" if count == 1 else "wait"
        say(f"{plural(count, 'delivery', 'deliveries')} {verb} whose destination shows when it is their turn")


@command.command("resume", short_help="Let deliveries go to a destination again.")
@click.argument("name")
@access_options
@json_option
def resume(name: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Let deliveries go to a destination again, at once: NAME as the list shows it.

    Deliveries that wait for a retry are due now, too.
    """
    answer = asyncio.run(_resume(place_from(options), name))
    if as_json:
        emit(answer)
    else:
        word = "resumed: " if answer["resumed"] else ""
        out().print(Text.assemble((word, "green"), name, _due_now(answer["due"])))


def _due_now(count: int) -> str:
    if not count:
        return ""
    verb = "was waiting for a retry and is" if count == 1 else "were waiting for a retry and are"
    return f"; {plural(count, 'delivery', 'deliveries')} {verb} due now"


async def _list(place: Place) -> dict[str, Any]:
    async with opened(place) as asked:
        return await asked.destinations()


async def _resume(place: Place, name: str) -> dict[str, Any]:
    async with opened(place, changes=True) as asked:
        return await asked.resume(name)


def _table(rows: list[dict[str, Any]]) -> Table:
    """Limits are those of a running engine: without one there is nothing to show of them."""
    columns = ("DESTINATION", "STATE", "UNDER WAY>", "WAITING>")
    limited = any(row["limits"] for row in rows)
    made = Table(*columns, "LIMITS") if limited else Table(*columns)
    for row in rows:
        cells = [row["name"], _state(row), str(row["under_way"]), str(row["waiting"])]
        made.add_row(*cells, *([_limits(row["limits"])] if limited else []))
    return made


def _state(row: dict[str, Any]) -> Text:
    """The state, since when or how long it lasts, and below it why."""
    word = row["state"]
    text = Text(_WORDS.get(word, word), style=_STYLES.get(word, ""))
    text.append(_times(row), style="dim")
    for line in filter(None, (row["reason"], _last(row))):
        text.append(f"\n{line}", style="dim")
    return text


def _last(row: dict[str, Any]) -> str:
    """Why the latest attempt failed, unless the reason says so, and when the next one is due that waits for a retry."""
    if not row.get("last_error"):  # an engine of an earlier version has none
        return ""
    parts = [] if row["last_error"] in row["reason"] else [f"last error: {row['last_error']}"]
    if row["state"] == "erring" and row["next_at"]:
        parts.append(f"next attempt at {at(row['next_at'])}")
    return "; ".join(parts)


def _times(row: dict[str, Any]) -> str:
    until = at(row["until"]) if row["until"] else ""
    if row["state"] == "paused" and until:
        return f" until {until} ({age(row['until']).removeprefix('in ')} more)"
    if row["state"] == "unknown" and row.get("last_attempt_at"):
        return f"; last attempt {ago(row['last_attempt_at'])}"
    since = f" since {age(row['since'])} ago" if row["since"] else ""
    if row["state"] == "gone":
        return f"{since}; until the configuration changes"
    return f"{since}; next probe at {until}" if until and row["state"] != "probing" else since


def _limits(limits: dict[str, Any] | None) -> str:
    if limits is None:
        return ""
    rate = f", {limits['rate']} (burst {limits['burst']})" if limits["rate"] else ""
    return f"{limits['concurrency']} at once{rate}"

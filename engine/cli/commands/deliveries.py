"""``engine deliveries``: list them, show one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.text import Text

from engine.admin.query import DELIVERY_STATES
from engine.cli.support.access import Place, access_options, opened, place_from
from engine.cli.support.group import DefaultGroup
from engine.cli.support.names import resolved
from engine.cli.support.options import json_option
from engine.cli.support.output import age, ago, at, emit, out, plural, say, short_delivery, state, tell_next_page
from engine.cli.support.tables import Pairs, Table
from engine.core.schedule import HELD
from engine.core.units import format_duration
from engine.worker.destinations.messages import WAITS

#: How many items of a digest are named.
_NAMED = 5


@click.group("deliveries", cls=DefaultGroup, default="list")
def command() -> None:
    """List deliveries (one action of one route for one run), or show one."""


@command.command("list")
@click.option("--state", type=click.Choice(DELIVERY_STATES), help="Only those in this state.")
@click.option("--dead", is_flag=True, help="Only those that gave up: --state dead.")
@click.option("--route", metavar="NAME", help="Only of this route, by its id or name.")
@click.option("--action", metavar="NAME", help="Only of this action.")
@click.option("--event", metavar="ID", help="Only of this event: its id, 8 characters or more of it, or last.")
@click.option("--error", metavar="TEXT", help="Only those whose reason has this text in it.")
@click.option("--since", metavar="WHEN", help="Of events not before: 30m, 2h, 7d (ago) or a time.")
@click.option("--until", metavar="WHEN", help="Of events not after: the same.")
@click.option("--before", metavar="ID", help="The page after the one that ended with this delivery.")
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True, help="How many at most.")
@access_options
@json_option
def list_(as_json: bool, dead: bool, **options: Any) -> None:  # noqa: FBT001
    """List deliveries, those of the newest events first."""
    place = place_from(options)
    words = {word: value for word, value in options.items() if value is not None}
    answer = asyncio.run(_deliveries(place, words | ({"state": "dead"} if dead else {})))
    if as_json:
        emit(answer)
        return
    if not answer["deliveries"]:
        say("no deliveries")
        return
    out().print(deliveries_table(answer["deliveries"]))
    if answer["next"]:
        tell_next_page(words | ({"dead": True} if dead else {}), answer["next"])


@command.command("show")
@click.argument("delivery_id", metavar="ID")
@access_options
@json_option
def show(delivery_id: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Show one delivery and every attempt at it.

    A start of ID that no other has is enough, from 8 characters on; last is the newest.
    """
    place = place_from(options)
    delivery = asyncio.run(_delivery(place, delivery_id))
    if as_json:
        emit(delivery)
        return
    console = out()
    console.print(_delivery_facts(delivery))
    if delivery["history"]:
        console.print()
        console.print(attempts_table(delivery["history"]))


async def _deliveries(place: Place, words: dict[str, Any]) -> dict[str, Any]:
    async with opened(place) as asked:
        return await asked.deliveries(await resolved(asked, words))


async def _delivery(place: Place, delivery_id: str) -> dict[str, Any]:
    async with opened(place) as asked:
        return await asked.delivery(delivery_id)


def deliveries_table(deliveries: list[dict[str, Any]], *, of_one_event: bool = False) -> Table:
    """Deliveries for people; within one event its id and age need not be said again."""
    columns = ("WHAT*", "STATE", "TRIES>")
    made = Table("DELIVERY", *columns) if of_one_event else Table("DELIVERY", "AGE>", *columns)
    for row in deliveries:
        cells = [_what(row, whole=of_one_event), state(row["state"]), _tries(row)]
        made.add_row(short_delivery(row["id"]), *([] if of_one_event else [age(row["created_at"])]), *cells)
    return made


def _tries(row: dict[str, Any]) -> Text:
    """How many attempts there were in all, and how often it was replayed: log lines count from each replay on."""
    text = Text(str(row["attempts"]))
    return text.append(f" ({plural(row['replays'], 'replay')})", style="dim") if row["replays"] else text


def _what(row: dict[str, Any], *, whole: bool) -> Text:
    """Route and action, and below them why it waits or is dead."""
    run = f"  run {row['run_index']}" if whole and row["run_index"] >= 0 else ""
    text = Text.assemble(row["route"], (" → ", "dim"), row["action"], (run, "dim"))
    if why := _why(row):
        text.append("\n").append(" ".join(why.split()), style="dim")
    return text


def _why(row: dict[str, Any]) -> str:
    return ": ".join(part for part in (_wait(row), row["reason"]) if part)


def _wait(row: dict[str, Any]) -> str:
    """Until when one that is due waits, or for how long it is overdue; nothing where its reason says so."""
    if not row["due_at"] or row["reason"].startswith(HELD):
        return ""
    when = age(row["due_at"])
    if not when.startswith("in "):
        return f"due for {when}" if row["attempts"] or row["reason"] else ""
    if row["item_count"] and not row["attempts"]:
        return f"collecting ({plural(row['item_count'], 'item')}) until {at(row['due_at'])}"
    # One that waits for a destination is not made when it is due.
    return "" if WAITS in row["reason"] else f"next {when}"


def _delivery_facts(row: dict[str, Any]) -> Pairs:
    replays = f", replayed {plural(row['replays'], 'time')}" if row["replays"] else ""
    return Pairs(
        [
            ("delivery", row["id"]),
            ("event", row["event_id"]),
            ("route", row["route"]),
            ("action", row["action"]),
            ("run", f"{row['run_index']} {row['run_id'] or ''}".strip() if row["run_index"] >= 0 else "whole event"),
            ("state", Text.assemble(state(row["state"]), f" after {plural(row['attempts'], 'attempt')}{replays}")),
            *_due(row),
            ("because", row["reason"]),
            ("items", _items(row["items"])),
            *_words(row["words"] or {}),
        ]
    )


def _due(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """When one that waits is made, and how it is made now, where nothing but its own time keeps it."""
    if not row["due_at"]:
        return
    when = f"{at(row['due_at'])} ({ago(row['due_at'])})"
    if not row["attempts"] or WAITS in row["reason"] or row["reason"].startswith(HELD):
        yield "due", when
    else:
        yield "next attempt", f"{when}; engine replay {short_delivery(row['id'])} tries now"


def _items(items: list[dict[str, Any]]) -> Text | None:
    """How many runs a digest tells of, and the first of them."""
    if not items:
        return None
    runs = sum(item["run_index"] >= 0 for item in items)
    what = plural(runs, "run") if runs == len(items) else plural(len(items), "item")
    text = Text(f"{what} of {plural(len({item['event_id'] for item in items}), 'event')}")
    for item in items[:_NAMED]:
        run = f"  run {item['run_index']}  {item['run_id'] or ''}".rstrip() if item["run_index"] >= 0 else ""
        text.append(f"\n{item['event_id']}{run}", style="dim")
    if (more := len(items) - _NAMED) > 0:
        text.append(f"\nand {more} more: --json has all", style="dim")
    return text


def _words(words: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What its templates see beside the event: whose death it tells, how many a throttle held back."""
    if isinstance(died := words.get("delivery"), Mapping):
        text = Text.assemble(f"{died.get('id')} {died.get('action')}", (f"\n{died.get('reason')}", "dim"))
        yield "tells of", text
    if isinstance(throttle := words.get("throttle"), Mapping) and throttle.get("suppressed"):
        yield "throttled", f"{plural(throttle['suppressed'], 'other')} since {at(throttle['since'])}"


def attempts_table(attempts: list[dict[str, Any]]) -> Table:
    """Attempts, oldest first: where each went, and below what came of it."""
    made = Table("#>", "AT", "TOOK>", "OUTCOME", "WHAT CAME OF IT*")
    for attempt in attempts:
        number = f"{attempt['replay']}.{attempt['number']}" if attempt["replay"] else str(attempt["number"])
        made.add_row(
            "" if attempt["outcome"] == "discarded" else number,
            at(attempt["started_at"]),
            format_duration(attempt["seconds"]),
            state(attempt["outcome"]),
            _came(attempt),
        )
    return made


def _came(attempt: dict[str, Any]) -> Text:
    status = f"HTTP {attempt['status']}" if attempt["status"] else ""
    head = " · ".join(part for part in (attempt["destination"], status) if part)
    detail = ", ".join(f"{key}={value}" for key, value in (attempt["detail"] or {}).items())
    return Text("\n").join(Text(line) for line in (head, attempt["reason"] or detail) if line)

"""``engine deliveries``: list them, show one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from engine.cli.support.access import access_options, ask, place_from
from engine.cli.support.admin_client import Asked
from engine.cli.support.names import resolved
from engine.cli.support.options import DefaultGroup, json_option
from engine.cli.support.output import ago, at, emit, out, plural, say, short_delivery, state, tell_next_page
from engine.cli.support.show_deliveries import (
    DeliveryState,
    Present,
    print_deliveries,
    print_what_they_wait_for,
    waits_for,
)
from engine.cli.support.tables import Pairs, Table
from engine.core.schedule import HELD
from engine.core.units import format_duration

#: How many items of a digest are named.
_NAMED = 5


@click.group("deliveries", cls=DefaultGroup, default="list")
def command() -> None:
    """List deliveries (one action of one route for one run), or show one."""


@command.command("list")
@click.option("--state", type=DeliveryState(), help="Only those in this state.")
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
    asks = words | ({"state": "dead"} if dead else {})
    answer, present = ask(place, lambda asked: _deliveries(asked, asks, as_json=as_json))
    if as_json:
        emit(answer)
        return
    if not answer["deliveries"]:
        all_ = set(words) <= {"limit"} and not dead
        say(_no_deliveries(ask(place, _last_event, telling=False) if all_ else None))
        return
    print_deliveries(out(), answer["deliveries"], present)
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
    delivery, present = ask(place_from(options), lambda asked: _delivery(asked, delivery_id))
    if as_json:
        emit(delivery)
        return
    print_delivery(out(), delivery, present)


def print_delivery(console: Console, delivery: dict[str, Any], present: Present) -> None:
    """A delivery, its attempts, and how the destination is that it waits for."""
    console.print(_delivery_facts(delivery, present))
    if delivery["history"]:
        console.print()
        console.print(attempts_table(delivery["history"]))
    print_what_they_wait_for(console, [delivery], present)


async def _deliveries(asked: Asked, words: dict[str, Any], *, as_json: bool) -> tuple[dict[str, Any], Present]:
    answer = await asked.deliveries(await resolved(asked, words))
    return answer, Present() if as_json else await Present.of(asked, answer["deliveries"])


async def _last_event(asked: Asked) -> dict[str, Any] | None:
    events: list[dict[str, Any]] = (await asked.events({"limit": 1}))["events"]
    return events[0] if events else None


def _no_deliveries(event: dict[str, Any] | None) -> str:
    """That there are none, and why none follows from the last event."""
    if event is None or event["matched"]:
        return "no deliveries"
    if event["state"] == "pending":
        return "no deliveries yet: the last event is still evaluated (engine events last)"
    return "no deliveries; the last event matched nothing: engine explain --event last"


async def _delivery(asked: Asked, delivery_id: str) -> tuple[dict[str, Any], Present]:
    delivery = await asked.delivery(delivery_id)
    return delivery, await Present.of(asked, [delivery])


def _delivery_facts(row: dict[str, Any], present: Present) -> Pairs:
    replays = f", replayed {plural(row['replays'], 'time')}" if row["replays"] else ""
    return Pairs(
        [
            ("delivery", row["id"]),
            ("event", row["event_id"]),
            ("route", row["route"]),
            ("action", row["action"]),
            ("run", f"{row['run_index']} {row['run_id'] or ''}".strip() if row["run_index"] >= 0 else "whole event"),
            ("state", Text.assemble(state(row["state"]), f" after {plural(row['attempts'], 'attempt')}{replays}")),
            *_due(row, present),
            ("because", _because(row, present)),
            ("items", _items(row["items"])),
            *_words(row["words"] or {}),
        ]
    )


def _because(row: dict[str, Any], present: Present) -> str:
    """The reason, as it is now, unless it is the last attempt's, which stands below."""
    if present.waits_for_destination(row):
        return waits_for(row)
    last = row["history"][-1]["reason"] if row["history"] else ""
    return "" if row["reason"] == last else row["reason"]


def _due(row: dict[str, Any], present: Present) -> Iterator[tuple[str, Any]]:
    """When one that waits is made, and how it is made now, where nothing but its own time keeps it."""
    if not row["due_at"] or present.waits_for_destination(row):
        return
    when = f"{at(row['due_at'])} ({ago(row['due_at'])})"
    if not present.live or not row["attempts"] or row["reason"].startswith(HELD):
        yield "due", when
    else:
        yield "next attempt", f"{when}; engine replay {short_delivery(row['id'])} tries now"


def _items(items: list[dict[str, Any]]) -> Text | None:
    """How many runs a digest reports, and the first of them."""
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
    made = Table("ATTEMPT", "AT", "TOOK>", "OUTCOME", "WHAT CAME OF IT*")
    for attempt in attempts:
        replay = f" (replay {attempt['replay']})" if attempt["replay"] else ""
        made.add_row(
            "" if attempt["outcome"] == "discarded" else f"{attempt['number']}{replay}",
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

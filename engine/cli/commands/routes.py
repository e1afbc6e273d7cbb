"""``engine routes``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from engine.admin.describe import describe_routes
from engine.cli.support.access import Place, access_options, place_from, ruling, tell_unset
from engine.cli.support.options import json_option
from engine.cli.support.output import at, emit, out, plural, say
from engine.cli.support.tables import Outline
from engine.core.units import format_duration


@click.command("routes")
@access_options
@json_option
def command(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Show the routes of the configuration: keys, conditions, actions.

    Where an engine runs, these are the routes in use. Those that are muted or mostly undecided are marked.
    """
    place = place_from(options)
    routes = asyncio.run(_at_work(place))
    if routes is None:
        loaded = place.loader().load_bounded()
        tell_unset(loaded.config)
        routes = describe_routes(loaded, {}, time.time())
    if as_json:
        emit({"routes": routes})
    elif not routes:
        say(f"{place.config} has no routes")
    else:
        _print(out(), routes)


async def _at_work(place: Place) -> list[dict[str, Any]] | None:
    async with ruling(place) as client:
        return None if client is None else await client.routes()


def _print(console: Console, routes: list[dict[str, Any]]) -> None:
    by_key: dict[str, list[dict[str, Any]]] = {}
    for route in routes:
        by_key.setdefault(route["key"], []).append(route)
    for key, those in by_key.items():
        alone = len(those) == 1 and not those[0]["name"]
        tree = Outline(Text.assemble(_key(key, those[0]), (_marks(those[0]) if alone else "", "yellow")))
        for route in those:
            _add_what_it_does(tree if alone else tree.add(_route_line(route)), route)
        tree.print(console)


def _key(key: str, route: dict[str, Any]) -> Text:
    ids = [one for one in route["keys"] if one != key]
    return Text.assemble((key, "bold cyan"), (f"  {', '.join(ids)}" if ids else "", "dim"))


def _route_line(route: dict[str, Any]) -> Text:
    style = "bold" if route["enabled"] else "dim strike"
    return Text.assemble((route["name"] or "(no name)", style), (_marks(route), "yellow"))


def mostly_undecided(view: dict[str, Any]) -> str:
    """Which value of a route's conditions is absent, and how often."""
    return f"mostly undecided: {view['part']} is absent ({view['absent']} of {view['verdicts']} verdicts)"


def _add_what_it_does(branch: Outline, route: dict[str, Any]) -> None:
    if (undecided := route.get("undecided")) and undecided["mostly"]:
        branch.add(Text(f"! {mostly_undecided(undecided)}", style="yellow"))
    for condition in route["conditions"] or ["everything"]:
        branch.add(Text.assemble(("if ", "dim"), condition))
    for action in route["actions"]:
        _add_action(branch, action, "→ ")
    for action in route["on_dead"]:
        _add_action(branch, action, "on death → ")


def _add_action(branch: Outline, action: dict[str, Any], mark: str) -> None:
    named = "" if action["name"] == action["type"] else f" {action['name']}"
    leaf = branch.add(Text.assemble((mark, "green"), (action["type"], "green"), named, (_tries(action), "dim")))
    for condition in action["when"]:
        leaf.add(Text.assemble(("when ", "dim"), condition))
    for words in _timing(action):
        leaf.add(Text(words, style="dim"))


def _timing(action: dict[str, Any]) -> Iterator[str]:
    """What holds an action's deliveries back."""
    if throttle := action["throttle"]:
        yield f"throttle: one in {format_duration(throttle['every'])}{_by(throttle)}"
    if digest := action["digest"]:
        yield f"digest: up to {digest['max']} in {format_duration(digest['every'])}{_by(digest)}"
    if active := action["active"]:
        yield _active(active)


def _by(gate: dict[str, Any]) -> str:
    return f" by {gate['by']}" if gate["by"] else ""


def _active(active: dict[str, Any]) -> str:
    return f"active {active['hours']}, otherwise {active['otherwise']}"


def _marks(route: dict[str, Any]) -> str:
    marks = [
        "" if route["enabled"] else "disabled",
        _muted(route["muted"]) if route["muted"] else "",
        "for each event" if route["for_each"] == "event" else "",
        "stop" if route["stop"] else "",
        "" if route["sample"] is None else f"sample {route['sample']:.3g}",
        f"fetches {', '.join(route['needs'])}" if route["needs"] else "",
        _active(route["active"]) if route["active"] else "",
        _wait(route["wait_for"]) if route["wait_for"] else "",
    ]
    words = " · ".join(mark for mark in marks if mark)
    return f"  {words}" if words else ""


def _muted(mute: dict[str, Any]) -> str:
    until = mute["until"]
    return f"muted until {at(until)} by {mute['by']}" if until else f"muted by {mute['by']}"


def _wait(wait: dict[str, Any]) -> str:
    return f"waits for feedback {', '.join(wait['feedback'])} up to {format_duration(wait['up_to'])}"


def _tries(action: dict[str, Any]) -> str:
    retry = action["retry"]
    if retry is None:
        return ""
    how = (
        "LangSmith's policy" if retry["policy"] == "langsmith" else f"up to {plural(retry['attempts'], 'try', 'tries')}"
    )
    return f"  {how} within {format_duration(retry['within'])}"

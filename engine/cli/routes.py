"""``engine routes``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from engine.cli.options import config_option, json_option
from engine.cli.output import emit, out, plural, say
from engine.describe import describe_routes
from engine.reload import Loader
from engine.units import format_duration


@click.command("routes")
@config_option
@json_option
def command(config: Path, as_json: bool) -> None:  # noqa: FBT001
    """Show the routes of the configuration: keys, conditions, actions."""
    routes = describe_routes(Loader(config, os.environ).load())
    if as_json:
        emit({"routes": routes})
    elif not routes:
        say(f"{config} has no routes")
    else:
        _print(out(), routes)


def _print(console: Console, routes: list[dict[str, Any]]) -> None:
    by_key: dict[str, list[dict[str, Any]]] = {}
    for route in routes:
        by_key.setdefault(route["key"], []).append(route)
    for key, those in by_key.items():
        tree = Tree(_key(key, those[0]), guide_style="dim")
        for route in those:
            _add_route(tree, route)
        console.print(tree)


def _key(key: str, route: dict[str, Any]) -> Text:
    ids = [one for one in route["keys"] if one != key]
    return Text.assemble((key, "bold cyan"), (f"  {', '.join(ids)}" if ids else "", "dim"))


def _add_route(tree: Tree, route: dict[str, Any]) -> None:
    style = "bold" if route["enabled"] else "dim strike"
    branch = tree.add(Text.assemble((route["name"] or "(no name)", style), (_marks(route), "yellow")))
    for condition in route["conditions"] or ["everything"]:
        branch.add(Text.assemble(("if ", "dim"), condition))
    for action in route["actions"]:
        named = "" if action["name"] == action["type"] else f" {action['name']}"
        leaf = branch.add(Text.assemble(("→ ", "green"), (action["type"], "green"), named, (_tries(action), "dim")))
        for condition in action["when"]:
            leaf.add(Text.assemble(("when ", "dim"), condition))


def _marks(route: dict[str, Any]) -> str:
    marks = [
        "" if route["enabled"] else "disabled",
        "for each event" if route["for_each"] == "event" else "",
        "stop" if route["stop"] else "",
        "" if route["sample"] is None else f"sample {route['sample']:.3g}",
        f"fetches {', '.join(route['needs'])}" if route["needs"] else "",
    ]
    words = " · ".join(mark for mark in marks if mark)
    return f"  {words}" if words else ""


def _tries(action: dict[str, Any]) -> str:
    retry = action["retry"]
    if retry is None:
        return ""
    how = (
        "LangSmith's policy" if retry["policy"] == "langsmith" else f"up to {plural(retry['attempts'], 'try', 'tries')}"
    )
    return f"  {how} within {format_duration(retry['within'])}"

"""``engine actions [NAME]``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from engine.action.plugin_files import PluginLoader
from engine.action.registry import Registry, load_installed
from engine.admin.describe import describe_action, describe_actions
from engine.admin.query import NotFound
from engine.admin.views import problem_views
from engine.cli.commands.reload import problems_of
from engine.cli.support.access import Place, access_options, place_from, ruling
from engine.cli.support.options import json_option
from engine.cli.support.output import emit, err, out, print_problems, say
from engine.cli.support.tables import Table
from engine.config import read_config
from engine.core.errors import ConfigError, Problem
from engine.core.suggest import did_you_mean
from engine.rules.load_limit import run_bounded


@click.command("actions")
@click.argument("name", required=False)
@access_options
@json_option
def command(name: str | None, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """List the actions that routes can use; with a NAME, show its parameters and an example.

    Where an engine runs, these are the actions that it has loaded.
    """
    place = place_from(options)
    answer = asyncio.run(_at_work(place))
    if answer is not None and (name is None or name in _names(answer)):
        _tell_those_at_work(answer, name, as_json=as_json)
        return
    config, folders = place.config, _folders(place)
    if name is not None:
        known = None if answer is None else _names(answer)
        action = run_bounded(lambda: _described(_registry(folders), name, known), config, lambda: folders)
        if as_json:
            emit(action)
        else:
            _print(out(), action)
        return
    actions, broken = run_bounded(lambda: _all_described(_registry(folders)), config, lambda: folders)
    if as_json:
        emit({"actions": actions, "broken": problem_views(broken)})
        return
    out().print(_actions_table(actions))
    print_problems(err(), broken)


async def _at_work(place: Place) -> dict[str, Any] | None:
    async with ruling(place) as client:
        return None if client is None else await client.call("GET", "/api/v1/actions")


def _tell_those_at_work(answer: dict[str, Any], name: str | None, *, as_json: bool) -> None:
    if name is None:
        emit(answer) if as_json else out().print(_actions_table(answer["actions"]))
        print_problems(err(), () if as_json else problems_of(answer["broken"]))
        return
    action = next(action for action in answer["actions"] if action["name"] == name)
    emit(action) if as_json else _print(out(), action)


def _names(answer: dict[str, Any]) -> frozenset[str]:
    return frozenset(action["name"] for action in answer["actions"])


def _folders(place: Place) -> Sequence[Path]:
    """The configuration's plug-in folders, where it can be read."""
    if place.config.exists():
        try:
            return read_config(place.config, env_file=place.env_file, stand_ins=True).plugins
        except ConfigError:
            words = "is not valid YAML, so its plug-in folders are not known (engine check shows the mistake)"
            say(f"{place.config} {words}", "yellow")
    return ()


def _registry(folders: Sequence[Path]) -> Registry:
    """What is installed, and what is in the plug-in folders."""
    return PluginLoader().load(folders, load_installed())


def _all_described(registry: Registry) -> tuple[list[dict[str, Any]], list[Problem]]:
    return describe_actions(registry), list(registry.broken.values())


def _described(registry: Registry, name: str, in_use: frozenset[str] | None) -> dict[str, Any]:
    """An action from its file or package. ``in_use`` are those of the engine that runs: it has not loaded this one."""
    if (broken := registry.broken.get(name)) is not None:
        raise ConfigError([broken])
    if (registered := registry.get(name)) is None:
        raise NotFound(f"unknown action {name!r}", did_you_mean(name, (in_use or frozenset()) | set(registry.actions)))
    if in_use is not None:
        say(f"the engine that runs has not loaded {name}; this is from {registered.origin}", "yellow")
    return describe_action(registered)


def _actions_table(actions: list[dict[str, Any]]) -> Table:
    made = Table("ACTION", "WHAT IT DOES*", "FROM")
    for action in actions:
        origin = "built in" if action["builtin"] else Path(action["origin"]).name
        what = Text(action["summary"])
        if action["lacks"]:
            what.append(f"\n{action['lacks']}", style="yellow")
        made.add_row(Text(action["name"], style="bold"), what, Text(origin, style="dim"))
    return made


def _print(console: Console, action: dict[str, Any]) -> None:
    origin = "built in" if action["builtin"] else action["origin"]
    console.print(Text.assemble((action["name"], "bold green"), (f"  {origin}", "dim")))
    console.print(Text(action["doc"]))
    if action["lacks"]:
        console.print(Text(action["lacks"], style="yellow"))
    console.print()
    if action["parameters"]:
        console.print(_parameters_table(action["parameters"]))
        console.print()
    if action["needs"]:
        console.print(Text(f"reads {', '.join(action['needs'])} of the run; fetched where not sent along\n"))
    console.print(Text("in a route's actions:", style="dim"))
    console.print(Text(action["example"], style="cyan"))
    if action["short"]:
        console.print(Text("or, for short:", style="dim"))
        console.print(Text(action["short"], style="cyan"))


def _parameters_table(parameters: list[dict[str, Any]]) -> Table:
    described = any(parameter["description"] for parameter in parameters)
    made = Table("PARAMETER", "TYPE*", "DEFAULT", *(["WHAT IT IS*"] if described else []))
    for parameter in parameters:
        default = Text("required", style="yellow") if parameter["required"] else Text(_written(parameter["default"]))
        cells = [Text(parameter["name"], style="bold"), Text(parameter["type"]), default]
        made.add_row(*cells, *([Text(parameter["description"])] if described else []))
    return made


def _written(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)

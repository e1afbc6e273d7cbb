"""``engine check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from engine.admin.views import problem_views
from engine.cli.main import COULD_NOT_RUN, FINDINGS
from engine.cli.support.absent import absent, how_to_have_one
from engine.cli.support.access import Place, access_options, place_from
from engine.cli.support.loaded_rules import RulesAtWork
from engine.cli.support.options import json_option
from engine.cli.support.output import emit, err, out, plural, print_problems, say
from engine.cli.support.recorded_events import recorded_events, undecided_routes
from engine.cli.support.running_config import at_work
from engine.config import Config
from engine.core.errors import ConfigError, Problem
from engine.rules.lint.configuration import advise, warn_of_variables
from engine.rules.reload import Loaded, Loader


@dataclass(frozen=True, slots=True)
class _Checked:
    """One file: what it came to, or its problems. ``unset`` are variables that the running engine has."""

    path: Path
    loaded: Loaded | None
    problems: Sequence[Problem]
    warnings: Sequence[Problem]
    working: RulesAtWork | None
    unset: Sequence[str] = ()

    @property
    def config(self) -> Config | None:
        """The configuration, if it can be used."""
        return self.loaded.config if self.loaded else None


@click.command("check")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path, dir_okay=False))
@access_options
@click.option("--strict", is_flag=True, help="Warnings count as findings, too.")
@json_option
def command(files: tuple[Path, ...], strict: bool, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Check configuration files whole: YAML, variables, routes, conditions, templates, actions, plug-ins.

    All problems are told at once, each with its place and what to do. Exits with 1 if there
    are any. Warnings are about what is legal but hardly meant, and about variables that are not set here:
    they are checked with stand-ins for their values. Where an engine serves the file, it has them: they are
    only named, and it is told what is at work. Where there are recorded events, routes that are mostly
    undecided for them because a value is absent are named.
    """
    place = place_from(options)
    results = [_check(path, place) for path in files or (place.config,)]
    if as_json:
        emit({"good": not _failed(results, strict=strict), "files": [_as_json(result) for result in results]})
    else:
        for result in results:
            _print(result)
    if any(absent(result.problems) for result in results):
        say(how_to_have_one(), "cyan")
        sys.exit(COULD_NOT_RUN)
    if _failed(results, strict=strict):
        sys.exit(FINDINGS)


def _failed(results: Sequence[_Checked], *, strict: bool) -> bool:
    return any(result.problems or (strict and result.warnings) for result in results)


def _check(path: Path, place: Place) -> _Checked:
    place = replace(place, config=path)
    working = at_work(place) if path.exists() else None
    loader = place.loader()
    try:
        loaded, warnings = loader.bounded(lambda: _look(loader))
    except ConfigError as error:
        return _Checked(path, None, error.problems, *_of_variables(loader, working))
    of_variables, working, unset = _of_variables(loader, working)
    warnings = sorted([*warnings, *_of_recorded(loader, loaded, place)])
    return _Checked(path, loaded, (), [*of_variables, *warnings], working, unset)


def _of_variables(
    loader: Loader, working: RulesAtWork | None
) -> tuple[list[Problem], RulesAtWork | None, Sequence[str]]:
    """Warnings; the engine that serves the file; and the variables that are not set here, but there."""
    config = loader.config
    if config is None:
        return [], working, ()
    if working is None or working.file_is != "at_work":
        return warn_of_variables(config), working, ()
    return warn_of_variables(replace(config, unset=())), working, [one.reference for one in config.unset]


def _of_recorded(loader: Loader, loaded: Loaded, place: Place) -> Sequence[Problem]:
    """Warnings from recorded events, if there are any and they do not take too long."""
    events = recorded_events(place)
    try:
        return loader.bounded(lambda: undecided_routes(loaded, events)) if events else ()
    except ConfigError:
        return ()


def _look(loader: Loader) -> tuple[Loaded, Sequence[Problem]]:
    loaded = loader.load()
    return loaded, advise(loaded)


def _as_json(result: _Checked) -> dict[str, Any]:
    return {
        "file": str(result.path),
        "good": not result.problems,
        "problems": problem_views(result.problems),
        "warnings": problem_views(result.warnings),
        "not_set_here": list(result.unset),
        "checked": _counts(result.loaded) if result.loaded else None,
        "at_work": result.working.to_json(result.config) if result.working else None,
    }


def _counts(loaded: Loaded) -> dict[str, Any]:
    routes = loaded.config.routes
    return {
        "hash": loaded.config.hash,
        "routes": len(routes),
        "enabled": sum(route.enabled for route in routes),
        "actions": sum(len(route.actions) + len(route.on_dead) for route in routes),
        "plugins": sorted(registered.name for registered in loaded.registry if not registered.builtin),
    }


def _print(result: _Checked) -> None:
    console = err()
    print_problems(console, _marked(result.problems, "error"), word="error")
    print_problems(console, _marked(result.warnings, "warning"), style="yellow", word="warning")
    if result.unset:
        say(f"not set here, but where the engine runs: {', '.join(result.unset)}")
    if result.loaded is not None:
        out().print(_good(result.path, result.loaded, len(result.warnings)))
    if result.working is not None:
        result.working.tell(result.config, len(result.problems))


def _marked(problems: Sequence[Problem], word: str) -> list[Problem]:
    """With what each of them is before its message."""
    return [replace(problem, message=f"{word}: {problem.message}") for problem in problems]


def _good(path: Path, loaded: Loaded, warnings: int) -> Text:
    counts = _counts(loaded)
    words = [plural(counts["routes"], "route"), plural(counts["actions"], "action")]
    if counts["enabled"] < counts["routes"]:
        words[0] += f" ({counts['routes'] - counts['enabled']} disabled)"
    if counts["plugins"]:
        words.append(f"{plural(len(counts['plugins']), 'plug-in')}: {', '.join(counts['plugins'])}")
    warned = (f", with {plural(warnings, 'warning')}" if warnings else "", "yellow")
    return Text.assemble((f"{path}: ", "bold"), ("good", "green"), warned, f" · {' · '.join(words)}")

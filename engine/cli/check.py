"""``engine check``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from engine.admin.views import problem_views
from engine.advice import advise
from engine.cli.main import FINDINGS
from engine.cli.options import config_option, json_option
from engine.cli.output import emit, err, out, plural, print_problems
from engine.errors import ConfigError, Problem
from engine.reload import Loaded, Loader


@dataclass(frozen=True, slots=True)
class _Checked:
    """One file: what it came to, or its problems."""

    path: Path
    loaded: Loaded | None
    problems: Sequence[Problem]
    remarks: Sequence[Problem]


@click.command("check")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@click.option("--strict", is_flag=True, help="Remarks count as findings, too.")
@json_option
def command(files: tuple[Path, ...], config: Path, strict: bool, as_json: bool) -> None:  # noqa: FBT001
    """Check configuration files whole: YAML, variables, routes, conditions, templates, actions, plug-ins.

    All problems are told at once, each with its place and what to do. Exits with 1 if there
    are any. Remarks are about what is legal but hardly meant.
    """
    results = [_check(path) for path in files or (config,)]
    if as_json:
        emit({"good": not _failed(results, strict=strict), "files": [_as_json(result) for result in results]})
    else:
        for result in results:
            _print(result)
    if _failed(results, strict=strict):
        sys.exit(FINDINGS)


def _failed(results: Sequence[_Checked], *, strict: bool) -> bool:
    return any(result.problems or (strict and result.remarks) for result in results)


def _check(path: Path) -> _Checked:
    try:
        loaded = Loader(path, os.environ).load()
    except ConfigError as error:
        return _Checked(path, None, error.problems, ())
    return _Checked(path, loaded, (), advise(loaded))


def _as_json(result: _Checked) -> dict[str, Any]:
    return {
        "file": str(result.path),
        "good": not result.problems,
        "problems": problem_views(result.problems),
        "remarks": problem_views(result.remarks),
        "checked": _counts(result.loaded) if result.loaded else None,
    }


def _counts(loaded: Loaded) -> dict[str, Any]:
    routes = loaded.config.routes
    return {
        "hash": loaded.config.hash,
        "routes": len(routes),
        "enabled": sum(route.enabled for route in routes),
        "actions": sum(len(route.actions) for route in routes),
        "plugins": sorted(registered.name for registered in loaded.registry if not registered.builtin),
    }


def _print(result: _Checked) -> None:
    console = err()
    print_problems(console, result.problems)
    print_problems(console, result.remarks, style="yellow", word="remark")
    if result.loaded is None:
        return
    counts = _counts(result.loaded)
    words = [plural(counts["routes"], "route"), plural(counts["actions"], "action")]
    if counts["enabled"] < counts["routes"]:
        words[0] += f" ({counts['routes'] - counts['enabled']} disabled)"
    if counts["plugins"]:
        words.append(f"{plural(len(counts['plugins']), 'plug-in')}: {', '.join(counts['plugins'])}")
    good = Text.assemble((f"{result.path}: ", "bold"), ("good", "green"), f" · {' · '.join(words)}")
    out().print(good, soft_wrap=True)

"""``engine check``."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from engine.admin.views import problem_views
from engine.cli.commands.mutes import muted_at, muted_message
from engine.cli.main import COULD_NOT_RUN, FINDINGS
from engine.cli.support.access import Place, access_options, in_use, place_from, recorded
from engine.cli.support.admin_client import AccessError
from engine.cli.support.loaded_rules import RulesInUse
from engine.cli.support.options import json_option
from engine.cli.support.output import absent, emit, err, how_to_have_one, out, plural, print_problems, say
from engine.cli.support.samples import stored_event
from engine.config import Config, RouteConfig
from engine.core.document import Fetched
from engine.core.errors import ConfigError, Problem, StoreError
from engine.core.event import Event
from engine.core.positions import Source
from engine.rules.decision import Circumstances
from engine.rules.lint.configuration import lint, warn_of_env_file, warn_of_unset
from engine.rules.reload import Loaded, Loader
from engine.store.records import Control

if TYPE_CHECKING:
    from engine.telemetry.metrics import Undecided


@dataclass(frozen=True, slots=True)
class _Checked:
    """One file: what it came to, or its problems.

    ``not_set`` warns of variables that are set nowhere that is known, ``set_there`` are those that the running engine
    has. ``mutes`` are the muted routes of that engine.
    """

    path: Path
    loaded: Loaded | None
    problems: Sequence[Problem]
    other_warnings: Sequence[Problem]
    working: RulesInUse | None
    not_set: Sequence[Problem] = ()
    set_there: Sequence[str] = ()
    mutes: Mapping[str, Control] = field(default_factory=dict)

    @property
    def warnings(self) -> list[Problem]:
        """All of them."""
        return [*self.not_set, *self.other_warnings]

    @property
    def config(self) -> Config | None:
        """The configuration, if it can be used."""
        return self.loaded.config if self.loaded else None


@click.command("check")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path, dir_okay=False))
@access_options
@click.option("--strict", is_flag=True, help="Exit with 1 if there are warnings, too.")
@json_option
def command(files: tuple[Path, ...], strict: bool, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Check configuration files whole: YAML, variables, routes, conditions, templates, actions, plug-ins.

    All errors are shown at once, each with its place and what to do. Exits with 1 if there are
    any; with --strict if there are warnings, too. Warnings are about what is legal but probably not meant, and
    about variables that are not set here: they are checked with stand-ins for their values. If an
    engine serves the file, it has them: they are only named, and one line says what is in use. If there are
    recorded events, routes that are mostly undecided for them because a value is absent are named.
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
    working = in_use(place) if path.exists() else None
    loader = place.loader()
    problems: Sequence[Problem] = ()
    loaded, warnings = None, []
    try:
        loaded, found = loader.bounded(lambda: _look(loader))
        warnings = sorted([*found, *_of_recorded(loader, loaded, place)])
    except ConfigError as error:
        problems = error.problems
    of_file, not_set, set_there = _of_variables(loader.config, working)
    mutes = {} if working is None else muted_at(place)
    return _Checked(path, loaded, problems, [*of_file, *warnings], working, not_set, set_there, mutes)


def _of_variables(
    config: Config | None, working: RulesInUse | None
) -> tuple[list[Problem], list[Problem], Sequence[str]]:
    """Warnings about their file, and about those that are not set; and those that are not set here, but there."""
    if config is None:
        return [], [], ()
    of_file = warn_of_env_file(config)
    if working is None:
        return of_file, warn_of_unset(config), ()
    nowhere = [one for one in config.unset if one.problem.message in working.refused_for]
    set_there = [one.reference for one in config.unset if one not in nowhere]
    return of_file, warn_of_unset(replace(config, unset=tuple(nowhere))), set_there


def _of_recorded(loader: Loader, loaded: Loaded, place: Place) -> Sequence[Problem]:
    """Warnings from recorded events, if there are any and they do not take too long."""
    events = recorded_events(place)
    try:
        return loader.bounded(lambda: undecided_routes(loaded, events)) if events else ()
    except ConfigError:
        return ()


def _look(loader: Loader) -> tuple[Loaded, Sequence[Problem]]:
    loaded = loader.load()
    return loaded, lint(loaded)


def _as_json(result: _Checked) -> dict[str, Any]:
    return {
        "file": str(result.path),
        "good": not result.problems,
        "problems": problem_views(result.problems),
        "warnings": problem_views(result.warnings),
        "not_set_here": list(result.set_there),
        "checked": _counts(result.loaded) if result.loaded else None,
        "in_use": result.working.to_json(result.config) if result.working else None,
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
    """Warnings, then errors, and how many there are in the last line."""
    console = err()
    print_problems(console, [*map(_in_one_line, result.not_set)], style="yellow", word="", mark="warning")
    if result.not_set:
        say("  checked with stand-ins for their values; engine serve needs them: export them, or write them into .env")
    if result.set_there:
        say(f"not set here, but where the engine runs: {', '.join(result.set_there)}")
    print_problems(console, result.other_warnings, style="yellow", word="", mark="warning")
    print_problems(console, result.problems, word="", mark="error")
    if result.loaded is not None:
        out().print(_good(result.path, result.loaded, len(result.warnings)))
    if result.working is not None:
        result.working.tell(result.config, len(result.problems))
    if result.mutes:
        say(muted_message(result.mutes), "yellow")
    if result.problems:
        console.print(_bad(result))


def _in_one_line(problem: Problem) -> Problem:
    return replace(problem, hint="", source="")


def _bad(result: _Checked) -> Text:
    text = Text.assemble((f"{result.path}: ", "bold"), (plural(len(result.problems), "error"), "bold red"))
    if result.warnings:
        text.append(f", {plural(len(result.warnings), 'warning')}", "yellow")
    return text


def _good(path: Path, loaded: Loaded, warnings: int) -> Text:
    counts = _counts(loaded)
    words = [plural(counts["routes"], "route"), plural(counts["actions"], "action")]
    if counts["enabled"] < counts["routes"]:
        words[0] += f" ({counts['routes'] - counts['enabled']} disabled)"
    if counts["plugins"]:
        words.append(f"{plural(len(counts['plugins']), 'plug-in')}: {', '.join(counts['plugins'])}")
    warned = (f", with {plural(warnings, 'warning')}" if warnings else "", "yellow")
    return Text.assemble((f"{path}: ", "bold"), ("good", "green"), warned, f" · {' · '.join(words)}")


#: The latest so many events are asked for, and no more after so many seconds.
_MOST_EVENTS, _PATIENCE = 100, 10.0
_HINT = "engine explain --event ID shows why; exists, is defined, default(…) and absent: VALUE say what absence means"

Recorded = Sequence[tuple[Event, Fetched]]


def recorded_events(place: Place) -> Recorded:
    """The latest events of the engine or store of this configuration; none where there is neither."""
    found: list[tuple[Event, Fetched]] = []
    # The check of a file does not fail because its events cannot be read.
    with suppress(AccessError, StoreError, TimeoutError):
        asyncio.run(_collect(place, found))
    return found


async def _collect(place: Place, found: list[tuple[Event, Fetched]]) -> None:
    async with asyncio.timeout(_PATIENCE), recorded(place) as asked:
        if asked is None:
            return
        for row in (await asked.events({"limit": _MOST_EVENTS}))["events"]:
            event = await asked.event(row["id"])
            if event["payload"] is not None:
                found.append(stored_event(event))


def undecided_routes(loaded: Loaded, events: Recorded) -> list[Problem]:
    """A warning for each route that is mostly undecided for absence, in file order."""
    from engine.telemetry.metrics import Undecided, count_verdicts

    found = defaultdict[str, Undecided](Undecided)
    for event, fetched in events:
        routing = loaded.router.decide(event, fetched, Circumstances(event.received_at, looked=True))
        count_verdicts(routing.decisions, found)
    written = loaded.config.source
    warnings = Source(written.file, written.text, written.marks)
    for route, undecided in _mostly(loaded.config.routes, found):
        part = loaded.masker.text(undecided.part)
        times = f"{undecided.absent} of {undecided.verdicts} recorded verdicts"
        message = (
            f"route {route.id!r} is undecided in {times}, so it or an action of it does not fire: {part} is absent"
        )
        warnings.report(route.where, message, _HINT, at_key=True)
    return sorted(warnings.problems)


def _mostly(routes: Sequence[RouteConfig], found: Mapping[str, Undecided]) -> Iterator[tuple[RouteConfig, Undecided]]:
    for route in routes:
        if (undecided := found.get(route.id)) is not None and undecided.mostly:
            yield route, undecided

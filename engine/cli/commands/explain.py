"""``engine explain``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import click

from engine.admin.explain import Focus, explain, needs_of
from engine.admin.query import BadQuery
from engine.admin.rules import supplied
from engine.cli.commands.mutes import muted_at
from engine.cli.main import FINDINGS
from engine.cli.support.access import Place, access_options, in_use, opened, place_from, tell_unset, tell_whose
from engine.cli.support.admin_client import AdminClient
from engine.cli.support.options import json_option
from engine.cli.support.output import emit, out, say
from engine.cli.support.samples import kind_option, sample_body, stored_event
from engine.cli.support.show_explanation import actions_of, dies, print_report
from engine.cli.support.stopped_store import fetch as fetch_from_langsmith
from engine.core.document import Fetched
from engine.core.errors import BadBody, ConfigError
from engine.core.event import Event, parse_event, parse_json
from engine.rules.reload import Loaded
from engine.rules.requirements import needs_what_decides


@click.command("explain")
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE]")
@kind_option
@click.option(
    "--event",
    "event_id",
    metavar="ID",
    help="A stored event instead of a file: its id, 8 characters or more of it, or last.",
)
@click.option("--route", metavar="NAME", help="Only this route, by its id or name, even if the webhook isn't its own.")
@click.option("--run", type=click.IntRange(0), metavar="N", help="Only this run, counted from 0.")
@click.option("--render", is_flag=True, help="Also show the parameters of each action, exactly as they would be sent.")
@click.option("--fetch", is_flag=True, help="Fetch from LangSmith what the routes read and the webhook lacks.")
@click.option(
    "--feedback", type=click.File("rb"), metavar="FILE", help="JSON: feedback rows, or lists of them by run id."
)
@click.option(
    "--fetched", type=click.File("rb"), metavar="FILE", help="JSON: {inputs, outputs, feedback}, each by run id."
)
@access_options
@json_option
def command(
    file: BinaryIO | None,
    kind: str | None,
    event_id: str | None,
    route: str | None,
    run: int | None,
    render: bool,  # noqa: FBT001
    fetch: bool,  # noqa: FBT001
    feedback: BinaryIO | None,
    fetched: BinaryIO | None,
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    """Tell, for a webhook's payload in FILE (- is standard input), what every route makes of it and why.

    For each run and route: every condition, what it expected, what it found, and whether it
    held. Nothing is sent, nothing is stored, and without --fetch LangSmith is not asked. With --event a
    running engine answers, by the rules in use; a FILE, and an event where --config names another file
    than the engine's, is explained by that file's rules.
    Exits with 1 if nothing matched and no fallback route fires, or if --render shows that a delivery would be dead
    at once.
    """
    place = place_from(options)
    if [file, kind, event_id].count(None) != 2:
        raise BadQuery("give a FILE, --kind or --event ID", "engine send --kind rule --print writes a sample payload")
    beside = {"feedback": _json_of(feedback), "fetched": _json_of(fetched)}
    focus = Focus(route, run, render)
    if event_id is not None:
        asked = {"event": event_id, "route": route, "run": run, "render": render, "fetch": fetch} | beside
        found = asyncio.run(_stored(place, asked))
    else:
        found = (_from_file(file) if file else parse_event(sample_body(str(kind)), time.time())), Fetched()
    report = found if isinstance(found, dict) else _by_file(place, *found, beside, focus, fetch=fetch)
    if as_json:
        emit(report)
    else:
        print_report(out(), report, offer=True)
    fires = report["matched"] or report.get("counts", {}).get("fallback")
    if not fires or any(map(dies, actions_of(report))):
        sys.exit(FINDINGS)


def _from_file(file: BinaryIO) -> Event:
    try:
        return parse_event(file.read(), time.time())
    except BadBody as error:
        raise BadQuery(f"{file.name}: {error}", "it would be answered with 400") from error


async def _stored(place: Place, body: dict[str, Any]) -> dict[str, Any] | tuple[Event, Fetched]:
    """The report by the rules in use; where --config names another file than the engine's, the event for that one."""
    async with opened(place, telling=False) as asked:
        rules, named = asked.rules, place.config_named and place.config.exists()
        if rules is not None and not rules.are_of(place.config) and named:
            say(f"by the rules of {place.config}; in use are those of {rules.path}", "yellow")
            return stored_event(await asked.event(body["event"]))
        if isinstance(asked, AdminClient):
            tell_whose(asked, place)
        return await asked.do("explain", {word: value for word, value in body.items() if value is not None})


def _by_file(
    place: Place, event: Event, known: Fetched, beside: Mapping[str, Any], focus: Focus, *, fetch: bool
) -> dict[str, Any]:
    """The report by the rules of the file, whether they are in use or not."""
    loader, working = place.loader(needs_what_decides), in_use(place)
    try:
        loaded = loader.load_bounded()
    except ConfigError as error:
        if working is not None:
            working.tell(None, len(error.problems))
        raise
    tell_unset(loaded.config)
    known = _supplied(event, known, beside)
    if fetch:
        known = asyncio.run(_fetch(loaded, event, known))
    if working is not None and not working.same(loaded.config):
        working.tell(loaded.config)
    whole = replace(focus, now=time.time(), mutes=muted_at(place))
    return loader.bounded(lambda: explain(loaded, event, known, whole))


def _supplied(event: Event, known: Fetched, beside: Mapping[str, Any]) -> Fetched:
    """What the person says LangSmith would have answered."""
    try:
        return supplied(event, known, **beside)
    except ValueError as error:
        raise BadQuery(str(error)) from error


def _json_of(file: BinaryIO | None) -> Any:
    if file is None:
        return None
    try:
        return parse_json(file.read())[0]
    except BadBody as error:
        raise BadQuery(f"{file.name}: {str(error).replace('the body', 'it')}") from error


async def _fetch(loaded: Loaded, event: Event, known: Fetched) -> Fetched:
    needs = needs_of(loaded, event)
    if needs:
        return await fetch_from_langsmith(loaded, event, needs, known)
    say("no route reads anything that would have to be fetched")
    return known

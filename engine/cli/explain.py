"""``engine explain``."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, BinaryIO

import click

from engine.admin.query import BadQuery
from engine.cli.access import Place, access_options, opened, place_from, tell_unset
from engine.cli.explanation import actions_of, dies, print_report
from engine.cli.main import FINDINGS
from engine.cli.mutes import muted_at
from engine.cli.options import json_option
from engine.cli.output import emit, out, say
from engine.cli.samples import kind_option, sample_body
from engine.cli.stored import stored_event
from engine.clients import Clients
from engine.document import Fetched
from engine.errors import BadBody
from engine.event import Event, parse_event, parse_json
from engine.explain import Focus, explain, feedback_from, needs_of
from engine.hydrate import Hydrator
from engine.reload import Loaded, needs_what_decides


@click.command("explain")
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE]")
@kind_option
@click.option(
    "--event", "event_id", metavar="ID", help="A stored event instead of a file; the start of its id will do."
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
    held. Nothing is sent, nothing is stored, and without --fetch no network is touched.
    Exits with 1 if nothing matched, or if --render shows that a delivery would be dead at once.
    """
    place = place_from(options)
    loader = place.loader(needs_what_decides)
    loaded = loader.load_bounded()
    tell_unset(loaded.config)
    if [file, kind, event_id].count(None) != 2:
        raise BadQuery("give a FILE, --kind or --event ID", "engine send --kind rule --print writes a sample payload")
    if event_id is not None:
        event, known = asyncio.run(_stored(place, event_id))
    else:
        event, known = _from_file(file) if file else parse_event(sample_body(str(kind)), time.time()), Fetched()
    known = _supplied(event, known, feedback, fetched)
    if fetch:
        known = asyncio.run(_fetch(loaded, event, known))
    focus = Focus(route, run, render, time.time(), muted_at(place))
    report = loader.bounded(lambda: explain(loaded, event, known, focus))
    if as_json:
        emit(report)
    else:
        print_report(out(), report, offer=True)
    if not report["matched"] or any(map(dies, actions_of(report))):
        sys.exit(FINDINGS)


def _from_file(file: BinaryIO) -> Event:
    try:
        return parse_event(file.read(), time.time())
    except BadBody as error:
        raise BadQuery(f"{file.name}: {error}", "it would be answered with 400") from error


async def _stored(place: Place, event_id: str) -> tuple[Event, Fetched]:
    async with opened(place) as asked:
        return stored_event(await asked.event(event_id))


def _supplied(event: Event, known: Fetched, feedback: BinaryIO | None, fetched: BinaryIO | None) -> Fetched:
    """What the person says LangSmith would have answered."""
    if fetched is not None:
        data = _json_of(fetched)
        if not isinstance(data, dict) or not set(data) <= {"inputs", "outputs", "feedback"}:
            raise BadQuery(f"{fetched.name}: not an object of inputs, outputs and feedback, each by run id")
        known = known.merge(Fetched.from_json(data))
    if feedback is not None:
        try:
            rows = feedback_from(event, _json_of(feedback))
        except ValueError as error:
            raise BadQuery(f"{feedback.name}: {error}") from error
        known = known.merge(Fetched(feedback=rows))
    return known


def _json_of(file: BinaryIO) -> Any:
    try:
        return parse_json(file.read())[0]
    except BadBody as error:
        raise BadQuery(f"{file.name}: {str(error).replace('the body', 'it')}") from error


async def _fetch(loaded: Loaded, event: Event, known: Fetched) -> Fetched:
    needs = needs_of(loaded, event)
    if not needs:
        say("no route reads anything that would have to be fetched")
        return known
    clients = Clients(lambda: loaded.router)
    try:
        return await Hydrator(lambda: clients.langsmith, clients.http).fetch(event, needs, None, known)
    finally:
        await clients.close()

"""What the routes of a configuration make of recorded events: which are mostly undecided because a value is absent."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.cli.support.access import Place, recorded
from engine.cli.support.admin_client import AccessError
from engine.cli.support.stored_event import stored_event
from engine.config import RouteConfig
from engine.core.document import Fetched
from engine.core.errors import Problem, StoreError
from engine.core.event import Event
from engine.core.positions import Source
from engine.rules.decision import Circumstances
from engine.rules.reload import Loaded

if TYPE_CHECKING:
    from engine.telemetry.metrics import Undecided

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

"""The operations of people: what they ask of the store, and what they replay or discard in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Concatenate

from engine.core.batches import batches
from engine.store.encryption import Keyring
from engine.store.queries import Backlog, DeliveryDetail, DeliveryQuery, DeliveryRow, EventDetail, EventQuery, EventRow
from engine.store.sqlite import query_deliveries, query_events, replay
from engine.store.sqlite.connection import Database
from engine.store.sqlite.reader import Reader
from engine.store.sqlite.writer import P, T, Writer, operation

#: Large replays read this many deliveries in one step, and this many rows are changed in one.
_PAGE, AT_ONCE = 1000, 200


class PeoplesOperations:
    """That part of ``SqliteStore``. It has a reader of its own, so that the worker never waits for a query."""

    def __init__(self, path: Path, keyring: Keyring | None, clock: Callable[[], float]) -> None:
        self._writer, self._people, self._clock = Writer(path, keyring), Reader(path, "people", keyring), clock

    async def _do(self, verb: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the less frequent operations on the writer's thread."""
        return await self._writer.do(operation(verb, *args, **kwargs), None)

    async def replay_deliveries(self, query: DeliveryQuery, *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make deliveries due again."""
        done: list[str] = []
        remaining, before = max(query.limit, 0), query.before
        while remaining > 0:  # page by page, so that neither the writer nor other queries wait for a large replay
            page = replace(query, limit=min(remaining, _PAGE), before=before)
            found, before = await self._people.ask(replay.replayable, page)
            if dry_run:
                done += found
            for batch in batches(found, AT_ONCE) if not dry_run else ():
                these = replace(query, ids=batch, limit=len(batch), before=None)
                done += await self._do(replay.replay_deliveries, query=these, now=now)
            remaining = remaining - _PAGE if before else 0
        return done

    async def replay_events(self, ids: Sequence[str], *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make events due for evaluation again."""
        return await self._do(replay.replay_events, ids=ids, now=now, dry_run=dry_run)

    async def discard(self, ids: Sequence[str], *, now: float, by: str, reason: str = "") -> Sequence[str]:
        """Discard dead work."""
        batched = batches(ids, AT_ONCE)
        done = [await self._do(replay.discard, ids=some, now=now, by=by, reason=reason) for some in batched]
        return [one for some in done for one in some]

    async def events(self, query: EventQuery) -> Sequence[EventRow]:
        """Events, newest first."""
        return await self._people.ask(query_events.list_events, query)

    async def event(self, event_id: str) -> EventDetail | None:
        """One event with all details."""
        return await self._people.ask(query_events.one_event, event_id)

    async def deliveries(self, query: DeliveryQuery) -> Sequence[DeliveryRow]:
        """Deliveries, newest first."""
        return await self._people.ask(query_deliveries.list_deliveries, query)

    async def delivery(self, delivery_id: str) -> DeliveryDetail | None:
        """One delivery with all details."""
        return await self._people.ask(query_deliveries.one_delivery, delivery_id)

    async def backlog(self) -> Backlog:
        """How much work waits."""
        return await self._people.ask(query_events.backlog, now=self._clock())

    async def muted_events(self, route: str, *, since: float) -> Sequence[str]:
        """Events of which a mute of this route held back matches."""
        return await self._people.ask(query_events.muted_events, route, since=since)

    async def last_attempts(self, *, since: float) -> Mapping[str, tuple[float, str]]:
        """By destination, when the last attempt at it began, and why it failed."""
        return await self._people.ask(query_events.last_attempts, since=since)

"""Events and deliveries of a store: lists, details, replay and discard."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from engine.admin.query import (
    DELIVERY_FIELDS,
    MOST_ROWS,
    BadQuery,
    Candidate,
    NotFound,
    ambiguous,
    boolean,
    check_fields,
    delivery_candidate,
    delivery_query,
    event_candidate,
    event_query,
    limit_of,
    start_of,
    text,
    texts,
)
from engine.admin.responses import Renderer
from engine.admin.views import delivery_detail_view, delivery_view, event_detail_view, event_view, iso
from engine.core.batches import batches
from engine.core.document import Fetched
from engine.core.errors import AmbiguousId, BadBody, BadQuestion
from engine.core.event import Event, restored_event
from engine.core.masking import Masker
from engine.core.suggest import did_you_mean
from engine.store.protocol import Store
from engine.store.queries import DeliveryDetail, DeliveryQuery, DeliveryRow, EventDetail, EventQuery, EventRow

T = TypeVar("T")
Q = TypeVar("Q", EventQuery, DeliveryQuery)

#: Names the newest event or delivery.
LAST: Final = "last"
#: The most deliveries that one replay by query makes due.
MOST_REPLAYED = 100_000
#: How many of the ids that have an ambiguous start are named.
_CANDIDATES = 5
#: What tells some ids apart.
_Candidates = Callable[[Sequence[str]], Awaitable[list[Candidate]]]
#: Options of replay and discard that do not select anything.
_OPTIONS = ("dry_run", "by", "reason")
_REPLAY_FIELDS = ("deliveries", "events", "dry_run", *DELIVERY_FIELDS)
_DISCARD_FIELDS = ("deliveries", "events", *(word for word in DELIVERY_FIELDS if word != "state"), *_OPTIONS)


class Queries:
    """Answers as JSON, with secrets masked. They are made in a thread (see ``Renderer``).

    ``rules`` gives the names that the configuration has for rule ids; ``woken`` is called
    after a replay made work due.
    """

    def __init__(
        self,
        store: Store,
        masker: Callable[[], Masker],
        rules: Callable[[], Mapping[str, Sequence[str]]],
        *,
        woken: Callable[[], None] = lambda: None,
        renderer: Renderer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._renderer = renderer or Renderer()
        self._store, self._masker, self._rules = store, masker, rules
        self._woken, self._clock = woken, clock

    async def events(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Events, newest first; ``next`` is the id to go on from with ``before``, null at the end.

        Raises:
            BadQuery: the fields make no sense.
        """
        query = event_query(fields, self._clock())
        if query.before is not None:
            query = replace(query, before=await self._event_id(query.before))
        rows = await self._event_rows(replace(query, limit=query.limit + 1), fields.get("rule"))
        names = self._names()
        return await self._page("events", rows, query.limit, lambda row: event_view(row, names))

    async def _page(
        self, name: str, rows: Sequence[Any], limit: int, view: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """A page of rows, of which one more than ``limit`` was read if there is one."""
        last = rows[limit - 1].id if len(rows) > limit else None
        return await self._masked(lambda: {name: [view(row) for row in rows[:limit]], "next": last})

    def _names(self) -> dict[str, str]:
        """What the configuration calls its rules, by id."""
        return {rule_id: name for name, ids in self._rules().items() for rule_id in ids}

    async def _event_rows(self, query: EventQuery, rule: str | None) -> Sequence[EventRow]:
        if rule is None:
            return await _asked(self._store.events(query))
        rows: list[EventRow] = []
        for rule_id in self._rules().get(rule, (rule,)):
            rows.extend(await _asked(self._store.events(replace(query, rule_id=rule_id))))
        if not rows:
            await self._check_rule(rule)
        return sorted(rows, key=lambda row: (row.received_at, row.id), reverse=True)[: query.limit]

    async def _check_rule(self, rule: str) -> None:
        """A name that neither the configuration nor an event has is a mistake. An id may still get its first event."""
        names = self._rules()
        if rule not in names and not _is_id(rule) and not await self._store.events(EventQuery(rule_id=rule, limit=1)):
            raise BadQuery(f"no rule is called {rule!r}", did_you_mean(rule, names))

    async def event(self, event_id: str) -> dict[str, Any]:
        """One event whole, by its id, a unique start of it, or ``last``.

        Raises:
            BadQuery: it is too short, or the start of several ids.
            NotFound: there is none.
        """
        detail, names, max_values = await self._event(event_id), self._names(), self._store.max_values
        return await self._masked(lambda: event_detail_view(detail, names, max_values))

    async def stored(self, event_id: str) -> tuple[Event, Fetched]:
        """One event as it is evaluated, named as in ``event``, and what was fetched for it: not masked.

        Raises:
            BadQuery: it is too short, or the start of several ids.
            NotFound: there is none, or its payload was deleted.
        """
        return (await self.stored_and_decided(event_id))[:2]

    async def stored_and_decided(self, event_id: str) -> tuple[Event, Fetched, Sequence[Mapping[str, Any]]]:
        """The same, and its evaluations: not masked.

        Raises:
            NotFound: as above.
        """
        detail, max_values = await self._event(event_id), self._store.max_values
        event, fetched = await self._renderer.make(lambda: _event_of(detail, max_values))
        return event, fetched, detail.evaluations

    async def deliveries(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Deliveries, newest event first; ``next`` is the id to go on from with ``before``, null at the end.

        Raises:
            BadQuery: the fields make no sense.
        """
        query = delivery_query(fields, self._clock())
        query = await self._with_whole_ids(replace(query, limit=query.limit + 1))
        rows = await _asked(self._store.deliveries(query))
        return await self._page("deliveries", rows, query.limit - 1, delivery_view)

    async def _with_whole_ids(self, query: DeliveryQuery) -> DeliveryQuery:
        event_id = None if query.event_id is None else await self._event_id(query.event_id)
        before = None if query.before is None else (await self._whole([query.before]))[0]
        return replace(query, event_id=event_id, before=before)

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery with its attempts, by its id, a unique start of it, or ``last``.

        Raises:
            BadQuery: it is too short, or the start of several ids.
            NotFound: there is none.
        """
        detail = await self._delivery(delivery_id)
        return await self._masked(lambda: delivery_detail_view(detail))

    async def replay(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make deliveries or events due again: those named, or those a query finds (dead ones, unless it says so).

        A query for what is dead finds evaluations, too, unless it is for one route or action. ``hurried`` are those of
        the deliveries that waited, with when they were due.

        Raises:
            BadQuery: it doesn't say what, or says it in fields that make no sense.
            NotFound: an id is of nothing.
        """
        fields, dry_run = _chosen("replay", body, _REPLAY_FIELDS)
        waited = {} if dry_run else await self._waiting(fields)
        deliveries, events = await self._replayed(fields, dry_run=dry_run)
        if (deliveries or events) and not dry_run:
            self._woken()
        hurried = [{"id": one, "was_due": iso(waited[one])} for one in deliveries if one in waited]
        return _done(deliveries, events, dry_run=dry_run) | {"hurried": hurried}

    async def _waiting(self, fields: Mapping[str, Any]) -> dict[str, float]:
        """When deliveries that a replay makes due now were due, by id, as far as that was later."""
        query = DeliveryQuery(state="dead") if "events" in fields else await self._replay_query(fields)
        if query.state not in (None, "due"):
            return {}
        now, rows = self._clock(), await _all(self._store.deliveries, replace(query, state="due"))
        return {row.id: row.due_at for row in rows if row.due_at is not None and row.due_at > now}

    async def discard(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Give up what is dead: deliveries and events that are named, or those a query finds.

        Of an event its evaluation and its deliveries, as far as they are dead; a query finds evaluations as in
        ``replay``. What is named and is not dead is left out. ``by`` and ``reason`` are kept in the history.

        Raises:
            BadQuery: it doesn't say what, or says it in fields that make no sense.
            NotFound: an id is of nothing.
        """
        fields, dry_run = _chosen("discard", body, _DISCARD_FIELDS)
        by, reason = (text(word, body.get(word)) or "" for word in ("by", "reason"))
        deliveries, events = await self._dead(fields)
        gone = {*deliveries, *events}
        if not dry_run:
            ids = [*deliveries, *events]
            gone = set(await self._store.discard(ids, now=self._clock(), by=by or "the admin API", reason=reason))
        kept = ([one for one in ids if one in gone] for ids in (deliveries, events))
        return _done(*kept, dry_run=dry_run)

    async def _dead(self, fields: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
        """What is dead of deliveries, and of evaluations, that are named or found by a query."""
        if "events" in fields:
            whole = [await self._event_id(start) for start in texts("events", fields["events"])]
            queries = [DeliveryQuery(event_id=one, state="dead", limit=MOST_REPLAYED) for one in whole]
        else:
            queries = [replace(await self._replay_query(fields), state="dead")]
        deliveries = [row.id for query in queries for row in await _all(self._store.deliveries, query)]
        named = "deliveries" in fields
        events = [] if named else [one for query in queries for one in await self._dead_evaluations(query)]
        return deliveries, events

    async def _replayed(self, fields: Mapping[str, Any], *, dry_run: bool) -> tuple[Sequence[str], Sequence[str]]:
        """The ids of deliveries, and those of events, that are evaluated again."""
        if "events" in fields:
            whole = [await self._event_id(start) for start in texts("events", fields["events"])]
            return (), await self._replay_events(whole, dry_run=dry_run)
        query = await self._replay_query(fields)
        deliveries = await self._store.replay_deliveries(query, now=self._clock(), dry_run=dry_run)
        dead = () if "deliveries" in fields else await self._dead_evaluations(query)
        return deliveries, await self._replay_events(dead, dry_run=dry_run)

    async def _replay_events(self, ids: Sequence[str], *, dry_run: bool) -> Sequence[str]:
        done: list[str] = []
        for some in batches(ids, MOST_ROWS):
            done += await self._store.replay_events(some, now=self._clock(), dry_run=dry_run)
        return done

    async def _dead_evaluations(self, query: DeliveryQuery) -> Sequence[str]:
        """The events whose evaluation is dead; their routes and actions are not known."""
        if query.state != "dead" or query.route or query.action or query.before:
            return ()
        asked = EventQuery(
            state="dead",
            event_id=query.event_id,
            error=query.error,
            since=query.since,
            until=query.until,
            limit=query.limit,
        )
        return [row.id for row in await _all(self._store.events, asked)]

    async def _replay_query(self, fields: Mapping[str, Any]) -> DeliveryQuery:
        if "deliveries" in fields:
            ids = await self._whole(texts("deliveries", fields["deliveries"]))
            return DeliveryQuery(ids=ids, limit=len(ids))
        limit = limit_of(fields.get("limit"), default=MOST_REPLAYED, most=MOST_REPLAYED)
        query = delivery_query({word: value for word, value in fields.items() if word != "limit"}, self._clock())
        query = await self._with_whole_ids(query)
        return replace(query, state=query.state or "dead", limit=limit)

    async def _whole(self, starts: Sequence[str]) -> list[str]:
        """Deliveries' ids, of which those that are whole already are looked up together: there may be very many."""
        rows = await self._store.deliveries(DeliveryQuery(ids=starts, limit=len(starts)))
        known = {row.id for row in rows}
        return [one if one in known else (await self._delivery(one)).row.id for one in starts]

    async def _event_id(self, start: str) -> str:
        """An event's id, by itself or a unique start of it. Only for a start its body is read."""
        whole = await _asked(self._store.events(EventQuery(event_id=start, limit=1)))
        return whole[0].id if whole else (await self._event(start)).row.id

    async def _event(self, start: str) -> EventDetail:
        newest = partial(self._store.events, EventQuery(limit=1))
        return await self._find(("event", "events"), start, self._store.event, newest, self._event_candidates)

    async def _delivery(self, start: str) -> DeliveryDetail:
        newest = partial(self._store.deliveries, DeliveryQuery(limit=1))
        kind = ("delivery", "deliveries")
        return await self._find(kind, start, self._store.delivery, newest, self._delivery_candidates)

    async def _find(
        self,
        kind: tuple[str, str],
        start: str,
        read: Callable[[str], Awaitable[T | None]],
        newest: Callable[[], Awaitable[Sequence[EventRow] | Sequence[DeliveryRow]]],
        candidates: _Candidates,
    ) -> T:
        """What has an id or the only start of one, or is the newest. ``kind`` is its name, and the plural."""
        one, several = kind
        if start == LAST:
            if not (rows := await newest()):
                raise NotFound(f"there is no {one} yet", "engine send --kind rule --to URL sends a sample webhook")
            start = rows[0].id
        try:
            detail = await read(start_of(start))
        except AmbiguousId as error:
            shown = error.ids[:_CANDIDATES]
            masked: list[Candidate] = self._masker().tree(await candidates(shown))
            raise ambiguous(start, masked, more=len(error.ids) > len(shown)) from None
        if detail is None:
            raise NotFound(f"no {one} starts with {start!r}", f"engine {several} list shows their ids")
        return detail

    async def _event_candidates(self, ids: Sequence[str]) -> list[Candidate]:
        names = self._names()
        rows = [row for one in ids for row in await self._store.events(EventQuery(event_id=one, limit=1))]
        return [event_candidate(event_view(row, names)) for row in rows]

    async def _delivery_candidates(self, ids: Sequence[str]) -> list[Candidate]:
        rows = await self._store.deliveries(DeliveryQuery(ids=ids, limit=len(ids)))
        return [delivery_candidate(delivery_view(row)) for row in rows]

    async def _masked(self, view: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        masker = self._masker()
        masked: dict[str, Any] = await self._renderer.make(lambda: masker.tree(view()))
        return masked


def _event_of(detail: EventDetail, max_values: int) -> tuple[Event, Fetched]:
    """The event, and what was fetched for it. One with more than ``max_values`` values is not parsed.

    Raises:
        NotFound: its payload was deleted, or cannot be read.
    """
    row, body = detail.row, detail.body
    if body is None:
        raise NotFound(f"the payload of event {row.id} is no longer kept")
    about = (row.id, row.kind, row.rule_id, "", row.received_at, body)
    try:
        event = restored_event(*about, repaired=row.repaired, trace="", max_values=max_values)
    except BadBody as error:
        raise NotFound(f"the payload of event {row.id} cannot be read: {error}") from error
    return event, Fetched.from_json(detail.fetched)


def _chosen(verb: str, body: Mapping[str, Any], known: tuple[str, ...]) -> tuple[dict[str, Any], bool]:
    """What to replay or discard, and whether it is a dry run.

    Raises:
        BadQuery: the body doesn't say what, or has fields that make no sense.
    """
    check_fields(body, known)
    fields = {word: value for word, value in body.items() if word not in _OPTIONS and value is not None}
    if not fields:
        raise BadQuery(f"nothing says what to {verb}", 'write {"deliveries": [ids]}, {"events": [ids]} or a query')
    if len(fields) > 1 and ("events" in fields or "deliveries" in fields):
        raise BadQuery("ids and a query do not go together", "write one of them")
    return fields, boolean("dry_run", body.get("dry_run", False))


def _done(deliveries: Sequence[str], events: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    ids = {"deliveries": list(deliveries), "events": list(events)}
    return ids | {"count": len(deliveries) + len(events), "dry_run": dry_run}


async def _all(read: Callable[[Q], Awaitable[Sequence[Any]]], query: Q) -> list[Any]:
    """The rows of a query, page by page."""
    found: list[Any] = []
    while (remaining := query.limit - len(found)) > 0:
        before = found[-1].id if found else query.before
        page = replace(query, before=before, limit=min(remaining, MOST_ROWS))
        rows = await read(page)
        found += rows
        if len(rows) < page.limit:
            break
    return found


def _is_id(rule: str) -> bool:
    try:
        UUID(rule)
    except ValueError:
        return False
    return True


async def _asked(answer: Awaitable[T]) -> T:
    """The store's answer; a question that it refuses (an ambiguous id) is a BadQuery."""
    try:
        return await answer
    except BadQuestion as error:
        raise BadQuery(str(error)) from None

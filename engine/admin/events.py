"""The questions people ask of the store, and replay: the same for the admin listener and for a stopped engine."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID

from engine.admin.ids import Candidate, ambiguous, delivery_candidate, event_candidate, start_of
from engine.admin.query import (
    DELIVERY_WORDS,
    MOST_ROWS,
    BadQuery,
    NotFound,
    boolean,
    check_words,
    delivery_query,
    event_query,
    limit_of,
    texts,
)
from engine.admin.responses import Renderer
from engine.admin.stored import event_of
from engine.admin.views import delivery_detail_view, delivery_view, event_detail_view, event_view, iso
from engine.core.document import Fetched
from engine.core.errors import AmbiguousId, BadQuestion
from engine.core.event import Event
from engine.core.masking import Masker
from engine.core.suggest import did_you_mean
from engine.store.protocol import Store
from engine.store.queries import DeliveryDetail, DeliveryQuery, DeliveryRow, EventDetail, EventQuery, EventRow

T = TypeVar("T")

#: Stands for the id of the newest event or delivery.
LAST: Final = "last"
#: The most deliveries that one replay by query takes up.
MOST_REPLAYED = 100_000
#: How many of the ids that an ambiguous start may stand for are told.
_CANDIDATES = 5
#: Tells some ids apart.
_Candidates = Callable[[Sequence[str]], Awaitable[list[Candidate]]]
_ABOUT_DISCARD = ("dry_run", "by", "reason")
_DISCARD_WORDS = ("deliveries", "events", *(word for word in DELIVERY_WORDS if word != "state"), *_ABOUT_DISCARD)
_REPLAY_WORDS = ("deliveries", "events", "dry_run", *DELIVERY_WORDS)


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

    async def events(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Events, newest first; ``next`` is the id to go on from with ``before``, null at the end.

        Raises:
            BadQuery: the words make no sense.
        """
        query = event_query(words, self._clock())
        if query.before is not None:
            query = replace(query, before=await self._event_id(query.before))
        rows = await self._event_rows(replace(query, limit=query.limit + 1), words.get("rule"))
        page = rows[: query.limit]
        names = self._names()
        last = page[-1].id if len(rows) > len(page) else None
        return await self._masked(lambda: {"events": [event_view(row, names) for row in page], "next": last})

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
        """A name that the configuration has not, and no event either, is a slip; an id may come yet."""
        names = self._rules()
        if rule in names or _is_id(rule):
            return
        if await self._store.events(EventQuery(rule_id=rule, limit=1)):
            return
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
        event, fetched = await self._renderer.make(lambda: event_of(detail, max_values))
        return event, fetched, detail.evaluations

    async def deliveries(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Deliveries, newest event first; ``next`` is the id to go on from with ``before``, null at the end.

        Raises:
            BadQuery: the words make no sense.
        """
        query = delivery_query(words, self._clock())
        rows = await self._delivery_rows(replace(query, limit=query.limit + 1))
        page = rows[: query.limit]
        last = page[-1].id if len(rows) > len(page) else None
        return await self._masked(lambda: {"deliveries": [delivery_view(row) for row in page], "next": last})

    async def _delivery_rows(self, query: DeliveryQuery) -> Sequence[DeliveryRow]:
        return await _asked(self._store.deliveries(await self._with_whole_ids(query)))

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
            BadQuery: it doesn't say what, or says it in words that make no sense.
            NotFound: an id is of nothing.
        """
        check_words(body, _REPLAY_WORDS)
        dry_run = boolean("dry_run", body.get("dry_run", False))
        words = {word: value for word, value in body.items() if word != "dry_run" and value is not None}
        if not words:
            raise BadQuery("nothing says what to replay", 'write {"deliveries": [ids]}, {"events": [ids]} or a query')
        if len(words) > 1 and ("events" in words or "deliveries" in words):
            raise BadQuery("ids and a query do not go together", "write one of them")
        waited = {} if dry_run else await self._waiting(words)
        deliveries, events = await self._replayed(words, dry_run=dry_run)
        if (deliveries or events) and not dry_run:
            self._woken()
        count = len(deliveries) + len(events)
        hurried = [{"id": one, "was_due": iso(waited[one])} for one in deliveries if one in waited]
        made = {"deliveries": list(deliveries), "events": list(events), "hurried": hurried}
        return made | {"count": count, "dry_run": dry_run}

    async def _waiting(self, words: Mapping[str, Any]) -> dict[str, float]:
        """When those of the deliveries are due, by id, that a replay takes up and that wait until then."""
        query = DeliveryQuery(state="dead") if "events" in words else await self._replay_query(words)
        if query.state not in (None, "due"):
            return {}
        now, rows = self._clock(), await self._all(replace(query, state="due"))
        return {row.id: row.due_at for row in rows if row.due_at is not None and row.due_at > now}

    async def discard(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Give up what is dead: deliveries and events that are named, or those a query finds.

        Of an event its evaluation and its deliveries, as far as they are dead; a query finds evaluations as in
        ``replay``. What is named and is not dead is left out. ``by`` and ``reason`` are kept in the history.

        Raises:
            BadQuery: it doesn't say what, or says it in words that make no sense.
            NotFound: an id is of nothing.
        """
        check_words(body, _DISCARD_WORDS)
        dry_run = boolean("dry_run", body.get("dry_run", False))
        beside = {word: _text(word, body.get(word)) for word in ("by", "reason")}
        words = {word: value for word, value in body.items() if word not in _ABOUT_DISCARD and value is not None}
        if not words:
            raise BadQuery("nothing says what to discard", 'write {"deliveries": [ids]}, {"events": [ids]} or a query')
        if len(words) > 1 and ("events" in words or "deliveries" in words):
            raise BadQuery("ids and a query do not go together", "write one of them")
        deliveries, events = await self._dead(words)
        ids = [*deliveries, *events]
        if not dry_run:
            by = beside["by"] or "the admin API"
            ids = list(await self._store.discard(ids, now=self._clock(), by=by, reason=beside["reason"] or ""))
        gone = set(ids)
        kept = {
            "deliveries": [one for one in deliveries if one in gone],
            "events": [one for one in events if one in gone],
        }
        return kept | {"count": len(gone), "dry_run": dry_run}

    async def _dead(self, words: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
        """What is dead of deliveries, and of evaluations, that are named or found by a query."""
        if "events" in words:
            whole = [await self._event_id(start) for start in texts("events", words["events"])]
            queries = [DeliveryQuery(event_id=one, state="dead", limit=MOST_REPLAYED) for one in whole]
        else:
            queries = [replace(await self._replay_query(words), state="dead")]
        deliveries = [row.id for query in queries for row in await self._all(query)]
        named = "deliveries" in words
        events = [] if named else [one for query in queries for one in await self._dead_evaluations(query)]
        return deliveries, events

    async def _all(self, query: DeliveryQuery) -> list[DeliveryRow]:
        """The deliveries of a query, page by page."""
        found: list[DeliveryRow] = []
        while (room := query.limit - len(found)) > 0:
            page = replace(query, before=found[-1].id if found else query.before, limit=min(room, MOST_ROWS))
            rows = await self._store.deliveries(page)
            found += rows
            if len(rows) < page.limit:
                break
        return found

    async def _replayed(self, words: Mapping[str, Any], *, dry_run: bool) -> tuple[Sequence[str], Sequence[str]]:
        """The ids of deliveries, and those of events, that are evaluated again."""
        if "events" in words:
            whole = [await self._event_id(start) for start in texts("events", words["events"])]
            return (), await self._replay_events(whole, dry_run=dry_run)
        query = await self._replay_query(words)
        deliveries = await self._replay_deliveries(query, dry_run=dry_run)
        dead = () if "deliveries" in words else await self._dead_evaluations(query)
        return deliveries, await self._replay_events(dead, dry_run=dry_run)

    async def _replay_events(self, ids: Sequence[str], *, dry_run: bool) -> Sequence[str]:
        done: list[str] = []
        for start in range(0, len(ids), MOST_ROWS):
            some = ids[start : start + MOST_ROWS]
            done += await self._store.replay_events(some, now=self._clock(), dry_run=dry_run)
        return done

    async def _dead_evaluations(self, query: DeliveryQuery) -> Sequence[str]:
        """The events of which it is undecided what they come to: nobody knows for which route or action."""
        if query.state != "dead" or query.route or query.action or query.before:
            return ()
        asked = EventQuery(
            state="dead", event_id=query.event_id, error=query.error, since=query.since, until=query.until
        )
        ids: list[str] = []
        while (room := query.limit - len(ids)) > 0:
            before = ids[-1] if ids else None
            rows = await self._store.events(replace(asked, before=before, limit=min(room, MOST_ROWS)))
            if not rows:
                break
            ids += [row.id for row in rows]
        return ids

    async def _replay_query(self, words: Mapping[str, Any]) -> DeliveryQuery:
        if "deliveries" in words:
            ids = await self._whole(texts("deliveries", words["deliveries"]))
            return DeliveryQuery(ids=ids, limit=len(ids))
        limit = limit_of(words.get("limit"), default=MOST_REPLAYED, most=MOST_REPLAYED)
        query = delivery_query({word: value for word, value in words.items() if word != "limit"}, self._clock())
        query = await self._with_whole_ids(query)
        return replace(query, state=query.state or "dead", limit=limit)

    async def _whole(self, starts: Sequence[str]) -> list[str]:
        """Deliveries' ids, of which those that are whole already are looked up together: there may be very many."""
        rows = await self._store.deliveries(DeliveryQuery(ids=starts, limit=len(starts)))
        known = {row.id for row in rows}
        return [one if one in known else (await self._delivery(one)).row.id for one in starts]

    async def _replay_deliveries(self, query: DeliveryQuery, *, dry_run: bool) -> Sequence[str]:
        return await self._store.replay_deliveries(query, now=self._clock(), dry_run=dry_run)

    async def _event_id(self, start: str) -> str:
        """An event's id, by itself or a unique start of it. Only for a start its body is read."""
        whole = await _asked(self._store.events(EventQuery(event_id=start, limit=1)))
        return whole[0].id if whole else (await self._event(start)).row.id

    async def _event(self, start: str) -> EventDetail:
        if start == LAST:
            newest = await self._store.events(EventQuery(limit=1))
            start = newest[0].id if newest else _none_yet("event")
        try:
            detail = await self._store.event(start_of(start))
        except AmbiguousId as error:
            raise await self._several(start, error.ids, self._event_candidates) from None
        if detail is None:
            raise NotFound(f"no event starts with {start!r}", "engine events list shows their ids")
        return detail

    async def _delivery(self, start: str) -> DeliveryDetail:
        if start == LAST:
            newest = await self._store.deliveries(DeliveryQuery(limit=1))
            start = newest[0].id if newest else _none_yet("delivery")
        try:
            detail = await self._store.delivery(start_of(start))
        except AmbiguousId as error:
            raise await self._several(start, error.ids, self._delivery_candidates) from None
        if detail is None:
            raise NotFound(f"no delivery starts with {start!r}", "engine deliveries list shows their ids")
        return detail

    async def _several(self, start: str, ids: Sequence[str], candidates: _Candidates) -> BadQuery:
        """The answer to an ambiguous start, with what tells the ids apart."""
        shown = ids[:_CANDIDATES]
        masked: list[Candidate] = self._masker().tree(await candidates(shown))
        return ambiguous(start, masked, more=len(ids) > len(shown))

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


def _text(word: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadQuery(f"{word} must be a text")


def _none_yet(what: str) -> NoReturn:
    raise NotFound(f"there is no {what} yet", "engine send --kind rule --to URL sends a sample webhook")


def _is_id(rule: str) -> bool:
    try:
        UUID(rule)
    except ValueError:
        return False
    return True


async def _asked(answer: Awaitable[T]) -> T:
    """The store's answer; where it says that the question makes no sense (an ambiguous id), the asker is told."""
    try:
        return await answer
    except BadQuestion as error:
        raise BadQuery(str(error)) from None

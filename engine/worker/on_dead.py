"""Deliveries that follow a delivery: the ``on_dead`` actions of its route, and the items of a split digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from engine.core.document import run_id_at
from engine.core.schedule import holding_until, skipping
from engine.core.times import iso_second
from engine.core.truth import Truth
from engine.core.vocabulary import ON_DEAD
from engine.rules.route import Route, RoutedAction
from engine.rules.router import NOTHING_THROTTLED
from engine.store.records import Attempt, Dead, Work
from engine.worker.context import Context, Place


class OnDead:
    """Makes the deliveries that follow a dead one, by the current rules. The store inserts them as it settles it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def deliveries(self, work: Work, attempt: Attempt, dead: Dead, items: int) -> list[Work]:
        """The ``on_dead`` actions of its route; none if it was one of these itself.

        ``items`` is the number of its documents.
        """
        route = self._context.rules.router.routes.get(work.route)
        if route is None or work.action.startswith(ON_DEAD):
            return []
        delivery = {
            "id": work.id,
            "action": work.action,
            "reason": dead.reason,
            "attempts": attempt.number,
            "destination": attempt.destination,
            "died_at": iso_second(self._context.clock()),
            "items": items,
        }
        variables = {"throttle": NOTHING_THROTTLED, **(work.variables or {}), "delivery": delivery}
        return [
            self._delivery(work, action, variables)
            for action in route.on_dead
            if skipping(action.active, self._context.clock()) is None
            and await self._holds(work, route, action, variables)
        ]

    def _delivery(self, work: Work, action: RoutedAction, variables: Mapping[str, Any]) -> Work:
        now = self._context.clock()
        until = holding_until(action.active, now)
        due_at = now if until is None else until
        return Work(
            id=_derived_id(work, action.name),  # also after replays: one delivery is reported dead once
            kind="deliver",
            event_id=work.event_id,
            first_at=due_at,
            due_at=due_at,
            route=work.route,
            action=action.name,
            index=work.index,
            run_id=work.run_id,
            variables=variables,
        )

    async def _holds(self, work: Work, route: Route, action: RoutedAction, variables: Mapping[str, Any]) -> bool:
        """Whether the action's ``when`` is true, or undecided because data is missing.

        The data may be missing for the same reason that the delivery is dead; a false alarm is better than none.
        """
        loaded = self._context.events.get(work.event_id)
        if action.when is None or loaded is None:
            return True
        await self._context.events.fetch(loaded, action.when.needs, work.index)
        document = self._context.rules.router.document(loaded.event, work.index, loaded.fetched, route)
        verdict = action.when.check({**document, **variables})
        if verdict is Truth.WANTING:
            facts = {"delivery": work.id, "action": action.name}
            self._context.logger.warning("on_dead follows, because the data of its `when` is missing", extra=facts)
        return verdict in (Truth.TRUE, Truth.WANTING)


def split_digest(work: Work, places: Sequence[Place], now: float) -> list[Work]:
    """All but the first item of a digest, as deliveries of their own.

    For a digest whose action no longer digests: the digest's delivery is about its first item.
    """
    return [
        Work(
            id=_derived_id(work, f"{work.replays}\0{loaded.event.id}\0{index}"),
            kind="deliver",
            event_id=loaded.event.id,
            first_at=now,
            due_at=now,
            route=work.route,
            action=work.action,
            index=index,
            run_id=run_id_at(loaded.event, index),
        )
        for loaded, index in places[1:]
    ]


def _derived_id(work: Work, what: str) -> str:
    """An id that is the same every time, so that the delivery is stored once."""
    name = f"{work.id}\0{what}".encode(errors="surrogatepass")
    return work.id[:12] + hashlib.blake2b(name, digest_size=10).hexdigest()

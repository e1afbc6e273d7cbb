"""What follows a delivery besides its next attempt: a route's ``on_dead``, and items that are on their own again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from engine.core.document import run_id_at
from engine.core.schedule import holding_until, skipping
from engine.core.times import iso_second
from engine.core.truth import Truth
from engine.core.vocabulary import ON_DEAD
from engine.rules.route import NOTHING_THROTTLED, Route, RoutedAction
from engine.store.records import Again, Attempt, Dead, Work
from engine.worker.context import Context
from engine.worker.in_memory import Held, Place


class Followers:
    """Works out what follows, against the rules of now. It is inserted by the transaction that settles the delivery."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def of(self, work: Work, attempt: Attempt, then: Again | Dead | None, items: int) -> list[Work]:
        """The ``on_dead`` of its route, where this attempt was a delivery's last. Theirs have none of their own.

        ``items`` is of how many documents the delivery was made.
        """
        route = self._context.rules.router.routes.get(work.route)
        if not isinstance(then, Dead) or route is None or work.action.startswith(ON_DEAD):
            return []
        delivery = _delivery_words(work, attempt, then, self._context.clock()) | {"items": items}
        words = {"throttle": NOTHING_THROTTLED, **(work.variables or {}), "delivery": delivery}
        found = [await self._follower(work, route, action, words) for action in route.on_dead]
        return [follower for follower in found if follower is not None]

    async def _follower(self, work: Work, route: Route, action: RoutedAction, words: Mapping[str, Any]) -> Work | None:
        now = self._context.clock()
        if skipping(action.active, now) is not None or not await self._wanted(work, route, action, words):
            return None
        until = holding_until(action.active, now)
        due_at = now if until is None else until
        return Work(
            id=_follower_id(work, action.name),  # whatever its replays: who asks for a thousand hears of none twice
            kind="deliver",
            event_id=work.event_id,
            first_at=due_at,
            due_at=due_at,
            route=work.route,
            action=action.name,
            index=work.index,
            run_id=work.run_id,
            variables=words,
        )

    async def _wanted(self, work: Work, route: Route, action: RoutedAction, words: Mapping[str, Any]) -> bool:
        """Whether its ``when`` holds, or can't be told for want of data.

        What kills deliveries may keep that data away, too; an alarm too many is better than none.
        """
        if action.when is None:
            return True
        held = self._context.holdings.at_hand(work.event_id)
        if held is None:
            return True
        await self._context.holdings.hydrate(held, action.when.needs, work.index)
        verdict = action.when.check(self._document(work, route, held, words))
        if verdict is Truth.WANTING:
            told = {"delivery": work.id, "action": action.name}
            self._context.logger.warning("on_dead follows, as the data its `when` reads can't be had", extra=told)
        return verdict in (Truth.TRUE, Truth.WANTING)

    def _document(self, work: Work, route: Route, held: Held, words: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._context.rules.router.document(held.event, work.index, held.fetched, route), **words}


def _delivery_words(work: Work, attempt: Attempt, then: Dead, now: float) -> dict[str, Any]:
    """What templates see as ``delivery``: the one that died."""
    return {
        "id": work.id,
        "action": work.action,
        "reason": then.reason,
        "attempts": attempt.number,
        "destination": attempt.destination,
        "died_at": iso_second(now),
    }


def _follower_id(work: Work, what: str) -> str:
    """The same however often it follows: it is made once."""
    name = f"{work.id}\0{what}".encode(errors="surrogatepass")
    return work.id[:12] + hashlib.blake2b(name, digest_size=10).hexdigest()


def on_their_own(work: Work, places: Sequence[Place], now: float) -> list[Work]:
    """All but the first item of a digest, each as a delivery of its own.

    For a digest whose action has become an ordinary one since: it tells of one run, and the others are not to be lost.
    """
    return [
        Work(
            id=_follower_id(work, f"{work.replays}\0{held.event.id}\0{index}"),
            kind="deliver",
            event_id=held.event.id,
            first_at=now,
            due_at=now,
            route=work.route,
            action=work.action,
            index=index,
            run_id=run_id_at(held.event, index),
        )
        for held, index in places[1:]
    ]

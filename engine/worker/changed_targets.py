"""After a change of the configuration, makes due what waits for a destination that was fixed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from engine.action.target import service_target
from engine.rules.router import Router
from engine.worker.context import Context
from engine.worker.destinations.messages import WAITS
from engine.worker.hydrate import READ_FROM

#: Evaluations have no route and action; they wait for LangSmith's data.
_EVALUATIONS = ("", "")


class ChangedTargets:
    """Compares what waits in the store with the configuration.

    It does so at the start, after each reload, and after work was stored by earlier rules, so that nothing is missed
    when the process dies between two of these. ``opened`` is called with the destinations whose URL or credential
    changed: they may take deliveries again, one attempt at a time finds out.
    """

    def __init__(self, context: Context, opened: Callable[[Collection[str]], None]) -> None:
        self._context, self._opened = context, opened
        self._asked = asyncio.Event()
        self._asked.set()
        #: Whether LangSmith can be read again, so that what waits for its data is due.
        self._reads = True
        self._seen: Mapping[tuple[str, str], str] = {}

    def reloaded(self) -> None:
        """The configuration was loaded again."""
        if _targets(self._context.rules.router) != self._seen:
            self._asked.set()

    def stored(self, router: Router) -> None:
        """Work was stored by these rules. If they are no longer in use, the last comparison may have missed it."""
        if self._context.rules.router.private_hash != router.private_hash:
            self._asked.set()

    def resumed(self, destination: str) -> None:
        """A destination was unblocked."""
        if destination == READ_FROM:
            self._reads = True
            self._asked.set()

    async def step(self) -> None:
        """Wait until there is something to compare, then make what it concerns due.

        Raises:
            StoreError: the store cannot do it now. The next step tries again.
        """
        await self._asked.wait()
        self._asked.clear()
        try:
            await self._make_due()
        except BaseException:
            self._reads = True
            self._asked.set()
            raise

    async def _make_due(self) -> None:
        targets, now, store = _targets(self._context.rules.router), self._context.clock(), self._context.store
        if self._reads:
            self._reads = False
            await store.make_due(f"{WAITS}{READ_FROM}:", now=now)
        found = await store.make_changed_due(targets, now=now)
        destinations = {name for name in found if name}
        if self._seen and self._seen[_EVALUATIONS] != targets[_EVALUATIONS]:
            destinations.add(READ_FROM)
        self._seen = targets
        if found:
            facts = {"work": sum(found.values())}
            self._context.logger.info("what waited for a changed destination is due now", extra=facts)
        self._opened(destinations)


def _targets(router: Router) -> Mapping[tuple[str, str], str]:
    """The targets of deliveries by route and action."""
    actions = ((route, action) for route in router.routes.values() for action in (*route.actions, *route.on_dead))
    found = {(route.id, action.name): action.target for route, action in actions if action.target}
    return {**found, _EVALUATIONS: service_target(router.langsmith)}

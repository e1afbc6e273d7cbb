"""After a change of the configuration: what waits for a destination that was fixed is due at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from engine.action.target import service_target
from engine.rules.router import Router
from engine.worker.context import Context
from engine.worker.hydrate import READ_FROM

#: Evaluations are of no route and action; what they wait for is LangSmith's data.
_EVALUATIONS = ("", "")


class ChangedTargets:
    """Compares what waits in the store with the configuration: at the start, after each reload, and where work was
    stored by rules that were replaced meanwhile. So nothing is lost when the process dies between two of these.

    ``opened`` is called with the destinations that may take deliveries again, because their URL or credential is
    another. An attempt at a time finds out.
    """

    def __init__(self, context: Context, opened: Callable[[Collection[str]], None]) -> None:
        self._context, self._opened = context, opened
        self._asked = asyncio.Event()
        self._asked.set()
        self._seen: Mapping[tuple[str, str], str] = {}

    def reloaded(self) -> None:
        """The configuration was loaded anew."""
        if _targets(self._context.rules.router) != self._seen:
            self._asked.set()

    def stored(self, router: Router) -> None:
        """Work was stored by these rules. Where others hold by now, the last look may have been too early for it."""
        if self._context.rules.router.private_hash != router.private_hash:
            self._asked.set()

    async def step(self) -> None:
        """Wait until there is something to look for; make it due.

        Raises:
            StoreError: the store cannot do it now. The next step tries again.
        """
        await self._asked.wait()
        self._asked.clear()
        try:
            await self._hasten()
        except BaseException:
            self._asked.set()
            raise

    async def _hasten(self) -> None:
        targets, now = _targets(self._context.rules.router), self._context.clock()
        found = await self._context.store.make_changed_due(targets, now=now)
        lanes = {lane for lane in found if lane}
        if self._seen and self._seen[_EVALUATIONS] != targets[_EVALUATIONS]:
            lanes.add(READ_FROM)
        self._seen = targets
        if found:
            told = {"work": sum(found.values())}
            self._context.logger.info("what waited for a destination that was changed is due now", extra=told)
        self._opened(lanes)


def _targets(router: Router) -> Mapping[tuple[str, str], str]:
    """Where deliveries go now, by route and action."""
    actions = ((route, action) for route in router.routes.values() for action in (*route.actions, *route.on_dead))
    found = {(route.id, action.name): action.target for route, action in actions if action.target}
    return {**found, _EVALUATIONS: service_target(router.langsmith)}

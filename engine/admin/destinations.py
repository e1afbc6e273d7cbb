"""Where deliveries go: which destinations take them, what waits for them, and opening one by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from heapq import nsmallest
from typing import Any

from engine.admin.query import BadQuery, NotFound, check_fields
from engine.admin.views import iso
from engine.core.suggest import nearest
from engine.core.units import format_rate
from engine.store.protocol import Store
from engine.store.records import Control
from engine.worker.destinations.circuit import is_kind
from engine.worker.destinations.destination import STATE_OF, Destination
from engine.worker.destinations.gateway import Gateway
from engine.worker.destinations.messages import cause

#: How many one answer shows: paused ones first, then those with most waiting deliveries.
MOST_DESTINATIONS = 500
#: Where something was attempted in so many seconds is shown, also after a restart.
_RECENT = 86400.0
#: States in which nothing is known to keep deliveries from a destination. It is unknown while no engine runs.
OPEN_STATES = frozenset({"healthy", "erring", "unknown"})


class Destinations:
    """Answers as JSON. Without a ``gateway`` (the engine is stopped) they are what its store tells.

    Names and reasons hold no secrets: they were masked when they were made.
    """

    def __init__(self, store: Store, gateway: Gateway | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._gateway, self._clock = store, gateway, clock

    async def list(self) -> dict[str, Any]:
        """Every destination that is known or waited for, or where something was attempted in the last 24 hours.

        ``left_out`` counts those that are not shown.
        ``unassigned`` counts the deliveries that wait and whose destination shows when it is their turn.
        """
        backlog, now = await self._store.backlog(), self._clock()
        recent = await self._store.last_attempts(since=now - _RECENT)  # read first, as destinations in memory know more
        waiting = backlog.by_lane
        paused = await self._paused()
        in_memory = self._in_memory()
        usual = "unknown" if self._gateway is None else "healthy"

        def order(name: str) -> tuple[bool, int, str]:
            state = (
                in_memory[name].state(now) if name in in_memory else paused[name]["state"] if name in paused else usual
            )
            return state in OPEN_STATES, -waiting.get(name, 0), name

        def row(name: str) -> dict[str, Any]:
            known = (
                _of_destination(in_memory[name], now) if name in in_memory else paused.get(name) or _idle(name, usual)
            )
            upcoming = backlog.next_by_lane.get(name)
            at, error = recent.get(name, (None, ""))
            return known | {
                "waiting": waiting.get(name, 0),
                "next_at": None if upcoming is None else iso(upcoming),
                "last_attempt_at": None if at is None else iso(at),
                "last_error": known["last_error"] if name in in_memory else error,
            }

        names = {*waiting, *paused, *in_memory, *recent}
        return {
            "destinations": [row(name) for name in nsmallest(MOST_DESTINATIONS, names, key=order)],
            "left_out": max(len(names) - MOST_DESTINATIONS, 0),
            "unassigned": backlog.unassigned,
        }

    async def resume(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Let deliveries go to a destination again, whatever kept them; those that wait for a retry are due at once.

        ``due`` counts these; ``resumed`` is false where the destination itself took deliveries already.

        Raises:
            BadQuery: it doesn't say to which.
            NotFound: no destination of that name is known.
        """
        check_fields(body, ("name",))
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise BadQuery("nothing says which destination", 'write {"name": "slack #ops"}')
        due = await self._store.make_lane_due(name, now=self._clock())
        # Without a gateway the row is all there is; with one it writes for itself.
        opened = self._gateway.resume(name) if self._gateway else await self._store.remove_control("pause", name)
        if not opened and not due:
            await self._check_name(name)
        return {"name": name, "resumed": opened, "due": due}

    async def _check_name(self, name: str) -> None:
        recent = await self._store.last_attempts(since=self._clock() - _RECENT)
        known = {*(await self._store.backlog()).by_lane, *await self._paused(), *self._in_memory(), *recent}
        if name not in known:
            near = nearest(name, sorted(known))
            hint = f"did you mean {near!r}?" if near else "engine destinations lists them"
            raise NotFound(f"no destination is called {name!r}", hint)

    def _in_memory(self) -> dict[str, Destination]:
        return {} if self._gateway is None else {each.name: each for each in self._gateway.destinations()}

    async def _paused(self) -> dict[str, dict[str, Any]]:
        """The paused destinations of a stopped engine's store; a running engine has them in memory."""
        if self._gateway is not None:
            return {}
        return {each.subject: _of_control(each) for each in await self._store.controls() if each.kind == "pause"}


def _idle(name: str, state: str) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "reason": "",
        "last_error": "",
        "since": None,
        "until": None,
        "under_way": 0,
        "waiting": 0,
        "limits": None,
    }


def _of_destination(lane: Destination, now: float) -> dict[str, Any]:
    state, limits = lane.state(now), lane.limits
    block = lane.last_block if state != "healthy" else None
    failures = lane.circuit.failures_in_a_row
    erring = f"attempts failed in a row: {failures}" if state == "healthy" and failures else ""
    return {
        "name": lane.name,
        "state": "erring" if erring else state,
        "reason": cause(block) if block else erring,
        "last_error": lane.last_failure,
        "since": iso(block.since) if block else None,
        "until": iso(block.until) if block and block.until is not None else None,
        "under_way": lane.in_flight,
        "waiting": lane.waiting,
        "limits": {
            "concurrency": limits.concurrency,
            "rate": format_rate(limits.rate) if limits.rate else None,
            "burst": limits.burst if limits.rate else None,
        },
    }


def _of_control(control: Control) -> dict[str, Any]:
    until = None if control.until_at is None else iso(control.until_at)
    kind = (control.state or {}).get("kind", "paused")
    state = STATE_OF[kind] if is_kind(kind) else "paused"
    return _idle(control.subject, state) | {
        "reason": control.reason,
        "since": iso(control.set_at),
        "until": until,
    }

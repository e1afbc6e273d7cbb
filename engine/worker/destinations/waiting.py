"""Deliveries that wait in memory for a slot of their destination."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.action.failures import Scope
from engine.worker.destinations.destination import PACE_INTERVAL, Admitted, Destination, NotAdmitted
from engine.worker.destinations.table import DestinationTable


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """One delivery that waits, with the sizes of its events in bytes."""

    answer: asyncio.Future[Admitted | NotAdmitted]
    events: Mapping[str, int]
    scope: Scope


class WaitingQueues:
    """One queue for each destination. What would wait too long is not admitted, and returns to the store.

    ``abandon`` frees the slot of an attempt that was cancelled after its admission. ``wake`` is called when more can be
    claimed for a destination.
    """

    def __init__(
        self,
        table: DestinationTable,
        clock: Callable[[], float],
        abandon: Callable[[Admitted], None],
        wake: Callable[[], None],
    ) -> None:
        self._table, self._clock, self._abandon, self._wake = table, clock, abandon, wake
        self._queues: dict[str, deque[_Waiter]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closing = False
        #: How many deliveries wait in all queues.
        self.count = 0

    def can_wait(self, destination: Destination, events: Mapping[str, int] | None = None) -> bool:
        """Whether one more delivery with these events may wait."""
        return not self._closing and destination.may_wait(self._clock(), events)

    async def wait(self, destination: Destination, events: Mapping[str, int], scope: Scope) -> Admitted | NotAdmitted:
        """Wait for a slot."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), events, scope)
        queue = self._queues.setdefault(destination.name, deque())
        queue.append(waiter)
        destination.start_waiting(events)
        self.count += 1
        if destination.waiting == 1:
            destination.surplus()
            asyncio.get_running_loop().call_later(PACE_INTERVAL, self._check_pace, destination, queue)
        self._set_timer(destination)
        try:
            return await asyncio.shield(waiter.answer)
        except asyncio.CancelledError:
            if waiter.answer.done() and isinstance(admitted := waiter.answer.result(), Admitted):
                self._abandon(admitted)
            raise
        finally:
            if not waiter.answer.done():
                waiter.answer.cancel()
                queue.remove(waiter)
                self._removed(destination, waiter)

    def _removed(self, destination: Destination, waiter: _Waiter) -> None:
        destination.stop_waiting(waiter.events)
        self.count -= 1
        if not destination.waiting:
            del self._queues[destination.name]

    def _answer(self, destination: Destination, waiter: _Waiter, answer: Admitted | NotAdmitted) -> None:
        waiter.answer.set_result(answer)
        self._removed(destination, waiter)

    def _check_pace(self, destination: Destination, queue: deque[_Waiter]) -> None:
        """Return to the store what would wait too long, from the end of the queue."""
        if self._queues.get(destination.name) is not queue:
            return
        for _ in range(destination.surplus()):
            self._answer(destination, queue.pop(), NotAdmitted(destination, None))
        if queue:
            asyncio.get_running_loop().call_later(PACE_INTERVAL, self._check_pace, destination, queue)

    def advance(self, destination: Destination) -> None:
        """Admit as many as there are slots; admit none of them if the destination is blocked for longer."""
        now = self._clock()
        block = None if destination.is_brief(now) else destination.block(now)
        while queue := self._queues.get(destination.name):
            answer: Admitted | NotAdmitted = NotAdmitted(destination, block)
            if not self._closing and block is None:
                answer = destination.admit(now, queue[0].events, queue[0].scope)
                if isinstance(answer, NotAdmitted):
                    self._set_timer(destination)
                    break
            self._answer(destination, queue.popleft(), answer)
        if destination.needs_claim(now):
            self._wake()

    def advance_others(self) -> None:
        """A shared slot is free: admit deliveries of other destinations that found none before."""
        self._table.shared.fair_share.has_waiters = False
        for name in tuple(self._queues):
            if (destination := self._table.get(name)) is not None:
                self.advance(destination)
        self._wake()

    def _set_timer(self, destination: Destination) -> None:
        """Advance the queue when time alone admits the next one."""
        now, loop = self._clock(), asyncio.get_running_loop()
        at, timer = destination.ready_at(now), self._timers.get(destination.name)
        if at is None or (timer is not None and timer.when() <= loop.time() + at - now):
            return
        if timer is not None:
            timer.cancel()
        self._timers[destination.name] = loop.call_at(loop.time() + at - now, self._on_timer, destination)

    def _on_timer(self, destination: Destination) -> None:
        self._timers.pop(destination.name, None)
        self.advance(destination)

    def counts(self) -> Mapping[str, int]:
        """How many wait, by the name of their destination."""
        return {name: len(queue) for name, queue in self._queues.items()}

    def close(self) -> None:
        """Stop queueing; what waits returns to the store."""
        self._closing = True
        for destination in tuple(self._table):
            self.advance(destination)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

"""Admission to destinations: a delivery starts its attempt, waits in memory for a moment, or returns to the store."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from engine.action.failures import Failure, Says, Scope, classify
from engine.core.errors import NotNow
from engine.store.records import ClaimResult
from engine.worker.context import Desk
from engine.worker.destinations import Admitted, Block, ClaimRequest, Destination, DestinationTable, NotAdmitted
from engine.worker.destinations.messages import waiting
from engine.worker.destinations.names import Names, name_of
from engine.worker.destinations.pauses import Pauses, block_of
from engine.worker.destinations.scoped_blocks import ScopedBlocks
from engine.worker.destinations.waiting import WaitingQueues


class Gateway:
    """Admits the attempts of one process, of which at most ``total`` are in flight.

    ``wake`` is called when more can be claimed from the store. A destination whose events take ``max_bytes`` bytes
    admits no more; all deliveries that wait in memory take at most ``max_waiting`` bytes. ``on_resumed`` is called with
    the name of a destination that a person or a changed configuration unblocks.
    """

    def __init__(
        self,
        desk: Desk,
        total: int,
        wake: Callable[[], None],
        max_bytes: float = math.inf,
        max_waiting: float = math.inf,
        on_resumed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._desk, self._wake, self._on_resumed = desk, wake, on_resumed
        self._table = DestinationTable(desk.rng, total, self._forget, max_bytes, max_waiting)
        self._queues = WaitingQueues(self._table, desk.clock, self.abandon, wake)
        self._scoped = ScopedBlocks(self._table, desk.store.fingerprint)
        self._pauses = Pauses(desk, self._scoped, self._forget, self._queues.advance)
        self._names = Names()
        #: The route and action of removed routes, by the destination in whose queue their deliveries wait.
        self._removed: dict[str, tuple[str, str]] = {}
        #: The private hash of the configuration that was applied last.
        self._config = desk.rules().router.private_hash

    @property
    def waiting(self) -> int:
        """How many deliveries wait in memory."""
        return self._queues.count

    # Attempts

    async def admit(
        self, raw_name: str, queue: str = "", events: Mapping[str, int] | None = None, scope: Scope | None = None
    ) -> Admitted | NotAdmitted:
        """Start an attempt at a destination, at once or after a moment in memory; or say why it may not start.

        ``queue`` is the queue that the delivery was claimed from; others do not overtake what waits there. ``events``
        are what the delivery keeps in memory until ``finish`` or ``abandon``, with their sizes in bytes. ``scope`` is
        what the answer will be about.
        """
        destination, now = self._destination(raw_name), self._desk.clock()
        scope, events = scope or Scope(), events or {}
        if self._scoped.any:
            denied = self._scoped.check(self._scoped_names(destination, scope), now)
            if isinstance(denied, NotAdmitted):
                return denied
        if destination.is_memory_full or (destination.has_stored and queue != destination.name):
            return NotAdmitted(destination, destination.block(now))
        destination.event_bytes.add(events)
        answer: Admitted | NotAdmitted | None = None
        try:
            answer = await self._admit(destination, now, events)
        finally:
            if not isinstance(answer, Admitted):
                destination.event_bytes.remove(events)
        if isinstance(answer, NotAdmitted):
            return answer
        return self._with_scoped(replace(answer, events=events, scope=scope))

    def _scoped_names(self, destination: Destination, scope: Scope) -> tuple[str, str]:
        return self._scoped.names(destination, scope, self._desk.rules().masker)

    def _with_scoped(self, admitted: Admitted) -> Admitted | NotAdmitted:
        """Check the scoped blocks again, as one may be new after the wait; the attempt probes the others."""
        if not self._scoped.any:
            return admitted
        names = self._scoped_names(admitted.destination, admitted.scope)
        found = self._scoped.check(names, self._desk.clock())
        if isinstance(found, NotAdmitted):
            self.abandon(admitted)
            return found
        for probed in found:
            probed.in_flight += 1
        return replace(admitted, probed=found)

    async def _admit(self, destination: Destination, now: float, events: Mapping[str, int]) -> Admitted | NotAdmitted:
        if not destination.waiting:
            answer = self._table.admit(destination, now)
            if isinstance(answer, Admitted) or (answer.block is not None and not destination.is_brief(now)):
                return answer
        if not self._queues.can_wait(destination, events):
            return NotAdmitted(destination, destination.block(now))
        return await self._queues.wait(destination, events)

    @asynccontextmanager
    async def turn(self, raw_name: str) -> AsyncIterator[None]:
        """Admit one request that is no delivery. It counts like an attempt; what is raised inside is its outcome.

        It overtakes the deliveries that wait in the store, as these may wait for it.

        Raises:
            NotNow: the destination admits nothing now.
        """
        destination, config = self._destination(raw_name), self._desk.rules().router.private_hash
        admitted = await self._admit(destination, self._desk.clock(), {})
        if isinstance(admitted, NotAdmitted):
            block = admitted.block
            raise NotNow(waiting(admitted), until=None if block is None else block.until, blocked=block is not None)
        try:
            yield
        except Exception as error:
            self.finish(admitted, classify(error), config)
            raise
        except BaseException:
            self.abandon(admitted)
            raise
        self.finish(admitted, None, config)

    def check(self, raw_name: str) -> NotAdmitted | None:
        """Why a new delivery to a destination could neither start nor wait in memory now; None if it could."""
        destination, now = self._destination(raw_name), self._desk.clock()
        if not destination.is_memory_full and not destination.has_stored:
            free = not destination.waiting and destination.free_slots(now) > 0
            if free or self._queues.can_wait(destination):
                return None
        return NotAdmitted(destination, destination.block(now))

    def finish(self, admitted: Admitted, failure: Failure | None, config: str = "") -> Destination:
        """Record the end of an attempt; a failure of None is success.

        ``config`` is the private hash of the rules that the attempt used, if known. A refused key or a gone URL says
        nothing of other rules, which may have fixed it.

        Returns:
            The destination in whose queue the next attempt of the delivery waits.
        """
        destination, now, rules = admitted.destination, self._desk.clock(), self._desk.rules()
        before, next_queue = destination.last_block, destination
        destination.event_bytes.remove(admitted.events)
        if failure is not None:
            old = config not in ("", rules.router.private_hash) and failure.says in ("refused", "gone")
            reason = " ".join(rules.masker.text(failure.reason).split())[:300]
            failure = replace(failure, reason=reason, cause="action" if old else failure.cause)
        self._finish_scoped(admitted, "healthy" if failure is None else failure.says)
        name = self._blocked_scope(admitted, failure)
        if failure is not None and name:
            next_queue, failure = self._block_scope(name, failure.says, failure.reason, now), None
        self._table.finish(admitted, failure, now)
        self._pauses.report(destination, before, now)
        self._queues.advance(destination)
        self._queues.advance_others()
        return next_queue

    def _block_scope(self, name: str, says: Says, reason: str, now: float) -> Destination:
        before = None if (known := self._table.get(name)) is None else known.last_block
        blocked = self._scoped.block(name, says, reason, self._desk.rules().router.limits, now)
        self._pauses.report(blocked, before, now)
        return blocked

    def _blocked_scope(self, admitted: Admitted, failure: Failure | None) -> str:
        """The name of the URL or credential that a failure blocks; empty if that is the destination, or nothing."""
        if failure is None or failure.says not in ("gone", "refused"):
            return ""
        gone, refused = self._scoped_names(admitted.destination, admitted.scope)
        name = gone if failure.says == "gone" else refused
        return "" if name == admitted.destination.name else name

    def _finish_scoped(self, admitted: Admitted, says: Says) -> None:
        """After an attempt, free the scoped blocks that it probed; a success removes them.

        A success also removes the block of its credential, if that came while the attempt was in flight.
        """
        for probed in admitted.probed:
            probed.in_flight -= 1
        if not self._scoped.any:
            return
        _, name = self._scoped_names(admitted.destination, admitted.scope)
        found = set(admitted.probed)
        if (refused := self._table.get(name)) is not None and self._scoped.has(refused):
            found.add(refused)
        for one in found:
            if says == "healthy" and self._table.get(one.name) is one:
                self._pauses.report_reopened(one)
                self._scoped.forget(one.name)
                self._table.forget(one)
                self._wake()

    def abandon(self, admitted: Admitted) -> None:
        """Free the slot of an attempt that this process broke off, which says nothing of the destination."""
        self._finish_scoped(admitted, "nothing")
        admitted.destination.abandon(self._desk.clock())
        admitted.destination.event_bytes.remove(admitted.events)
        self._queues.advance(admitted.destination)
        self._queues.advance_others()

    def note_stored(self, destination: Destination) -> None:
        """Note that a delivery waits in the store for a destination, or will in a moment, and is due."""
        self._table.note_stored(destination)
        if destination.needs_claim(self._desk.clock()):
            self._wake()

    def removed_queue(self, route: str, action: str) -> str:
        """The queue in which deliveries of a removed route or action wait: blocked until a reload brings it back."""
        rules, now = self._desk.rules(), self._desk.clock()
        name = name_of(f"removed route {route}, action {action}", rules.masker)
        if rules.router.find(route, action) is None:
            destination = self._table.get_or_add(name, name, rules.router.limits, now)
            reason = f"route {route!r} with action {action!r} is not in the configuration"
            self._table.restore(destination, Block("gone", reason, now, None), now)
            self._removed[name] = route, action
        return name

    def _destination(self, raw_name: str) -> Destination:
        rules = self._desk.rules()
        name = self._names.of(raw_name, rules.masker)
        return self._table.get_or_add(name, raw_name, rules.router.limits, self._desk.clock())

    # Claims

    def claim_request(self) -> ClaimRequest:
        """What the next claim may take."""
        return self._table.claim_request(self._desk.clock())

    def without_capacity(self) -> Collection[str]:
        """The names of the destinations for which nothing can be claimed now."""
        now = self._desk.clock()
        capacity = self._table.capacity(now)
        return {*self._table.blocked(now), *(name for name, count in capacity.items() if not count)}

    def ready_at(self) -> float | None:
        """When the first destination without capacity takes stored deliveries again by time alone, or None."""
        return self._table.ready_at(self._desk.clock())

    def apply_claim(self, request: ClaimRequest, found: ClaimResult) -> None:
        """Apply the result of a claim."""
        self._table.apply_claim(request, found.remaining, found.skipped, found.emptied)

    # Blocks

    def _forget(self, name: str) -> None:
        """A destination takes deliveries again, or was evicted."""
        self._removed.pop(name, None)
        if self._table.get(name) is None:
            self._scoped.forget(name)
        self._pauses.forget(name)

    async def restore(self) -> None:
        """Restore the stored blocks after a restart, except those that a changed configuration may have fixed.

        Raises:
            StoreError: the store cannot be read.
        """
        now, rules = self._desk.clock(), self._desk.rules()
        for control in await self._desk.store.controls():
            if control.kind != "pause":
                continue
            self._pauses.note_stored(control.subject)
            block = block_of(control, self._pauses.fingerprint(), now)
            if block is None:
                self._pauses.unstore(control.subject)
                continue
            destination = self._table.get_or_add(control.subject, control.subject, rules.router.limits, now)
            self._table.restore(destination, block, now)
            if (control.state or {}).get("scope"):
                self._scoped.add(destination.name)
            self._pauses.report(destination, None, now)

    def reloaded(self) -> None:
        """Apply a changed configuration: its limits, and a new attempt at what it may have fixed."""
        router, now = self._desk.rules().router, self._desk.clock()
        if router.private_hash == self._config:
            return
        self._config = router.private_hash
        for destination in tuple(self._table):
            if destination.name in self._removed:
                self._bring_back(destination)
                continue
            destination.set_limits(self._table.limits_of(destination.raw_name, router.limits), now)
            self._queues.advance(destination)
            if destination.last_block is not None and destination.last_block.kind in ("refused", "gone"):
                self._reset(destination)

    def _bring_back(self, destination: Destination) -> None:
        """Unblock the deliveries of a removed route that is in the configuration again."""
        if self._desk.rules().router.find(*self._removed[destination.name]) is not None:
            self._table.forget(destination)
            del self._removed[destination.name]

    def resume(self, name: str) -> bool:
        """Unblock a destination. Returns whether it was blocked."""
        destination = self._table.get(name)
        if destination is None or destination.state(self._desk.clock()) == "healthy":
            return False
        self._reset(destination)
        return True

    def _reset(self, destination: Destination) -> None:
        if self._scoped.has(destination):
            self._table.start_probing(destination, self._desk.clock())
        else:
            self._table.reset(destination, self._desk.clock())
        self._pauses.report_reopened(destination)
        self._queues.advance(destination)
        self._wake()
        self._on_resumed(destination.name)

    def waiting_counts(self) -> Mapping[str, int]:
        """How many deliveries wait in memory, by the name of their destination."""
        return self._queues.counts()

    def destinations(self) -> Iterable[Destination]:
        """All destinations in memory."""
        return tuple(self._table)

    # The end

    def close(self) -> None:
        """Stop queueing in memory; queued deliveries return to the store. What finds a free slot still starts."""
        self._queues.close()

    async def flush(self) -> None:
        """Wait until all blocks are stored, for at most 2 seconds."""
        await self._pauses.flush()

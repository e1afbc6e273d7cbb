"""Admission to destinations: a delivery starts its attempt, waits in memory for a moment, or returns to the store."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from engine.action.failures import Failure, Scope, classify
from engine.core.errors import NotNow
from engine.store.records import ClaimResult
from engine.worker.context import Context
from engine.worker.destinations.blocks import Pauses, ScopedBlocks, name_of
from engine.worker.destinations.circuit import Block
from engine.worker.destinations.destination import Admitted, Destination, NotAdmitted
from engine.worker.destinations.messages import waiting_message
from engine.worker.destinations.table import ClaimRequest, DestinationTable
from engine.worker.destinations.waiting import WaitingQueues

_WHOLE = Scope()


class Gateway:
    """Admits the attempts of one process, of which at most ``total`` are in flight.

    ``wake`` is called when more can be claimed from the store. A destination whose events take ``max_bytes`` bytes
    admits no more; all deliveries that wait in memory take at most ``max_waiting`` bytes. ``on_resumed`` is called with
    the name of a destination that a person or a changed configuration unblocks.
    """

    def __init__(
        self,
        context: Context,
        total: int,
        wake: Callable[[], None],
        max_bytes: float = math.inf,
        max_waiting: float = math.inf,
        on_resumed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._context, self._wake, self._on_resumed = context, wake, on_resumed
        self._clock = context.clock
        self._table = DestinationTable(context.rng, total, self._forget, max_bytes, max_waiting)
        self._queues = WaitingQueues(self._table, context.clock, self.abandon, wake)
        self._scoped = ScopedBlocks(self._table, context.store.fingerprint)
        self._pauses = Pauses(context, self._scoped.blocked.__contains__, self._queues.advance)
        #: The destinations by their raw names, under these rules.
        self._known: dict[str, Destination] = {}
        self._rules = context.rules
        #: The route and action of removed routes, by the destination in whose queue their deliveries wait.
        self._removed: dict[str, tuple[str, str]] = {}
        #: The private hash of the configuration that was applied last.
        self._config = context.rules.router.private_hash

    @property
    def waiting(self) -> int:
        """How many deliveries wait in memory."""
        return self._queues.count

    def _destination(self, raw_name: str) -> Destination:
        if self._rules is not self._context.rules:
            self._rules, self._known = self._context.rules, {}
        found = self._known.get(raw_name)
        if found is None:
            name, limits = name_of(raw_name, self._rules.masker), self._rules.router.limits
            found = self._known[raw_name] = self._table.get_or_add(name, raw_name, limits, self._clock())
        return found

    # Attempts

    async def admit(
        self, raw_name: str, queue: str = "", events: Mapping[str, int] | None = None, scope: Scope = _WHOLE
    ) -> Admitted | NotAdmitted:
        """Start an attempt at a destination, at once or after a moment in memory; or say why it may not start.

        ``queue`` is the queue that the delivery was claimed from; others do not overtake what waits there. ``events``
        are what the delivery keeps in memory until ``finish`` or ``abandon``, with their sizes in bytes. ``scope`` is
        what the answer will be about.
        """
        destination, events = self._destination(raw_name), events or {}
        if self._scoped.blocked and isinstance(denied := self._check_scoped(destination, scope), NotAdmitted):
            return denied
        if destination.is_memory_full or (destination.has_stored and queue != destination.name):
            return NotAdmitted(destination, destination.block(self._clock()))
        destination.event_bytes.add(events)
        answer: Admitted | NotAdmitted | None = None
        try:
            answer = await self._admit(destination, events, scope)
        finally:
            if not isinstance(answer, Admitted):
                destination.event_bytes.remove(events)
        return self._probe_scoped(answer) if self._scoped.blocked and isinstance(answer, Admitted) else answer

    async def _admit(self, destination: Destination, events: Mapping[str, int], scope: Scope) -> Admitted | NotAdmitted:
        now = self._clock()
        if not destination.waiting:
            answer = destination.admit(now, events, scope)
            if isinstance(answer, Admitted) or (answer.block is not None and not destination.is_brief(now)):
                return answer
        if not self._queues.can_wait(destination, events):
            return NotAdmitted(destination, destination.block(now))
        return await self._queues.wait(destination, events, scope)

    @asynccontextmanager
    async def turn(self, raw_name: str) -> AsyncIterator[None]:
        """Admit one request that is no delivery. It counts like an attempt; what is raised inside is its outcome.

        It overtakes the deliveries that wait in the store, as these may wait for it.

        Raises:
            NotNow: the destination admits nothing now.
        """
        config = self._context.rules.router.private_hash
        admitted = await self._admit(self._destination(raw_name), {}, _WHOLE)
        if isinstance(admitted, NotAdmitted):
            until = None if admitted.block is None else admitted.block.until
            raise NotNow(waiting_message(admitted), until=until, blocked=admitted.block is not None)
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
        destination, now = self._destination(raw_name), self._clock()
        if not destination.is_memory_full and not destination.has_stored:
            free = not destination.waiting and destination.free_slots(now) > 0
            if free or self._queues.can_wait(destination):
                return None
        return NotAdmitted(destination, destination.block(now))

    def finish(self, admitted: Admitted, failure: Failure | None, config: str = "") -> Destination:
        """Record the end of an attempt; a failure of None is success.

        ``config`` is the private hash of the rules that the attempt used, if known. A refused key or a gone URL says
        nothing about other rules, which may have fixed it.

        Returns:
            The destination in whose queue the next attempt of the delivery waits.
        """
        destination = next_queue = admitted.destination
        now, before = self._clock(), destination.last_block
        destination.event_bytes.remove(admitted.events)
        if failure is not None:
            failure = self._apply_rules(failure, config)
        if self._scoped.blocked:
            self._finish_scoped(admitted, healthy=failure is None or failure.health == "healthy")
        if failure is not None and failure.health in ("gone", "refused"):
            next_queue = self._block_scope(admitted, failure, now)
            failure = failure if next_queue is destination else None
        destination.finish(admitted, failure, now)
        if before is not None or destination.last_block is not None:
            self._pauses.report(destination, before, now)
        self._advance(destination)
        return next_queue

    def _apply_rules(self, failure: Failure, config: str) -> Failure:
        """A failure without secrets in its reason, which blocks nothing that other rules may have fixed."""
        rules = self._context.rules
        reason = " ".join(rules.masker.text(failure.reason).split())[:300]
        is_old = config not in ("", rules.router.private_hash) and failure.health in ("refused", "gone")
        return replace(failure, reason=reason, cause="action" if is_old else failure.cause)

    def abandon(self, admitted: Admitted) -> None:
        """Free the slot of an attempt that was cancelled; that says nothing about the destination."""
        self._finish_scoped(admitted, healthy=False)
        admitted.destination.abandon(self._clock())
        admitted.destination.event_bytes.remove(admitted.events)
        self._advance(admitted.destination)

    def _advance(self, destination: Destination) -> None:
        """A slot of a destination is free."""
        if destination.waiting or destination.has_stored:
            self._queues.advance(destination)
        if self._table.shared.fair_share.has_waiters:
            self._queues.advance_others()

    def note_stored(self, destination: Destination) -> None:
        """Note that a delivery waits in the store for a destination, or will in a moment, and is due."""
        self._table.note_stored(destination)
        if destination.needs_claim(self._clock()):
            self._wake()

    def removed_queue(self, route: str, action: str) -> str:
        """The queue in which deliveries of a removed route or action wait: blocked until a reload brings it back."""
        rules, now = self._context.rules, self._clock()
        name = name_of(f"removed route {route}, action {action}", rules.masker)
        if rules.router.find(route, action) is None:
            destination = self._table.get_or_add(name, name, rules.router.limits, now)
            reason = f"route {route!r} with action {action!r} is not in the configuration"
            destination.restore(Block("gone", reason, now, None))
            self._removed[name] = route, action
        return name

    # Blocks of a URL or a credential

    def _scoped_names(self, destination: Destination, scope: Scope) -> tuple[str, str]:
        return self._scoped.names(destination, scope, self._context.rules.masker)

    def _check_scoped(self, destination: Destination, scope: Scope) -> NotAdmitted | tuple[Destination, ...]:
        return self._scoped.check(self._scoped_names(destination, scope), self._clock())

    def _probe_scoped(self, admitted: Admitted) -> Admitted | NotAdmitted:
        """Check the scoped blocks again, as one may be new after the wait; the attempt probes the others."""
        found = self._check_scoped(admitted.destination, admitted.scope)
        if isinstance(found, NotAdmitted):
            self.abandon(admitted)
            return found
        for probed in found:
            probed.in_flight += 1
        return replace(admitted, probed=found)

    def _block_scope(self, admitted: Admitted, failure: Failure, now: float) -> Destination:
        """Block the URL or the credential of an attempt. Returns it, or the destination if that is to be blocked."""
        gone, refused = self._scoped_names(admitted.destination, admitted.scope)
        name = gone if failure.health == "gone" else refused
        if name == admitted.destination.name:
            return admitted.destination
        before = None if (known := self._table.get(name)) is None else known.last_block
        blocked = self._scoped.block(name, failure.health, failure.reason, self._context.rules.router.limits, now)
        self._pauses.report(blocked, before, now)
        return blocked

    def _finish_scoped(self, admitted: Admitted, *, healthy: bool) -> None:
        """After an attempt, free the scoped blocks that it probed; a success removes them.

        A success also removes the block of its credential, if it was blocked while the attempt was in flight.
        """
        for probed in admitted.probed:
            probed.in_flight -= 1
        if not healthy:
            return
        _, refused = self._scoped_names(admitted.destination, admitted.scope)
        found = {*admitted.probed, self._table.get(refused) if refused in self._scoped.blocked else None}
        for one in found:
            if one is not None and self._table.get(one.name) is one:
                self._pauses.report_reopened(one)
                self._table.forget(one)
                self._wake()

    # Claims

    def claim_request(self) -> ClaimRequest:
        """What the next claim may take."""
        return self._table.claim_request(self._clock())

    def without_capacity(self) -> Collection[str]:
        """The names of the destinations for which nothing can be claimed now."""
        now = self._clock()
        capacity = self._table.capacity(now)
        return {*self._table.blocked(now), *(name for name, count in capacity.items() if not count)}

    def ready_at(self) -> float | None:
        """When the first destination without capacity takes stored deliveries again by time alone, or None."""
        return self._table.ready_at(self._clock())

    def apply_claim(self, request: ClaimRequest, found: ClaimResult) -> None:
        """Apply the result of a claim."""
        self._table.apply_claim(request, found.remaining, found.skipped, found.emptied)

    # Blocks

    async def restore(self) -> None:
        """Restore the stored blocks after a restart, except those that a changed configuration may have fixed.

        Raises:
            StoreError: the store cannot be read.
        """
        now, limits = self._clock(), self._context.rules.router.limits
        for control in await self._context.store.controls():
            if control.kind != "pause" or (block := self._pauses.restored(control, now)) is None:
                continue
            destination = self._table.get_or_add(control.subject, control.subject, limits, now)
            destination.restore(block)
            if (control.state or {}).get("scope"):
                self._scoped.blocked.add(destination.name)
            self._pauses.report(destination, None, now)

    def reloaded(self) -> None:
        """Apply a changed configuration: its limits, and a new attempt at what it may have fixed."""
        router, now = self._context.rules.router, self._clock()
        if router.private_hash == self._config:
            return
        self._config = router.private_hash
        for destination in tuple(self._table):
            if destination.name in self._removed:
                if router.find(*self._removed[destination.name]) is not None:
                    self._table.forget(destination)
                continue
            self._table.get_or_add(destination.name, destination.raw_name, router.limits, now)
            self._queues.advance(destination)
            if destination.last_block is not None and destination.last_block.kind in ("refused", "gone"):
                self._reset(destination)

    def resume(self, name: str) -> bool:
        """Unblock a destination. Returns whether it was blocked."""
        destination = self._table.get(name)
        if destination is None or destination.state(self._clock()) == "healthy":
            return False
        self._reset(destination)
        return True

    def _reset(self, destination: Destination) -> None:
        if destination.name in self._scoped.blocked:
            destination.start_probing(self._clock())
        else:
            destination.reset()
        self._removed.pop(destination.name, None)
        self._pauses.report_reopened(destination)
        self._queues.advance(destination)
        self._wake()
        self._on_resumed(destination.name)

    def _forget(self, destination: Destination) -> None:
        """A destination was removed from the table."""
        self._known.pop(destination.raw_name, None)
        self._removed.pop(destination.name, None)
        self._scoped.blocked.discard(destination.name)
        self._pauses.forget(destination.name)

    # For people

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

"""The operations of a store. Their arguments and results are in ``records`` and ``queries``.

Every implementation passes the same contract tests (``tests/store/contract*.py``). All times are Unix seconds, UTC.
Every operation may raise ``StoreError``; queries with invalid arguments raise ``BadQuestion`` or ``AmbiguousId``.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.core.counters import Distribution
from engine.core.event import Event
from engine.store.queries import (
    Backlog,
    DeliveryDetail,
    DeliveryQuery,
    DeliveryRow,
    EventDetail,
    EventQuery,
    EventRow,
    Prunable,
    Pruned,
    Size,
)
from engine.store.records import Again, Appended, Attempt, ClaimResult, Control, Dead, Routed, Settled, Work, WorkKind

#: How much one claim loads into memory at most, in bytes of bodies and fetched data.
CLAIM_BYTES = 64 * 2**20
#: For how many seconds claims skip a lane that is paused or has no capacity, unless a claim names it as reopened.
PAUSED_RECHECK, BUSY_RECHECK = 300.0, 5.0
#: How much one step of pruning deletes at most, in rows and in bytes of bodies. An append may have to wait for it.
PRUNED_ROWS = 500
PRUNED_BYTES = 4 * 2**20
#: How many threads are kept: the most recently used ones.
MOST_THREADS = 10_000
#: Work that this process owns but does not hold in memory is made due again after this many seconds.
ORPHANED_AFTER = 30.0


_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_VERBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Commits:
    """Duration of every transaction, including failed ones, and how many operations it had."""

    seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    verbs: Distribution = field(default_factory=lambda: Distribution(_VERBS))


class Store(Protocol):
    """Stores events, work and history. One instance is one replica, identified by its owner name."""

    @property
    def owner(self) -> str:
        """This replica's name, recorded with the work it has claimed."""

    @property
    def max_values(self) -> int:
        """Events whose body has more JSON values than this are loaded unparsed."""

    @property
    def commits(self) -> Commits:
        """Statistics of the transactions: duration and number of operations."""

    async def open(self) -> None:
        """Lock the store, create or check its schema, and release the work of replicas that no longer run.

        Raises:
            StoreError: it is locked by another engine, is no store, or was written by a newer version.
        """

    async def close(self) -> None:
        """Commit what was submitted, unregister this replica, and unlock the store."""

    def append(self, event: Event, *, leased: bool) -> Awaitable[Appended]:
        """Store an event and its evaluation durably. The result is available after the commit.

        With ``leased`` this process owns the evaluation; otherwise it is due at once. A second event with the same
        dedup key changes nothing, and the result has the first event's id. A store may return a plain future instead
        of a coroutine, which is cheaper: this is the most frequent operation.

        Raises:
            StoreBusy: the disk is full or read-only; nothing was stored.
        """

    async def settle_routed(self, routed: Routed) -> Settled:
        """Record the result of routing in one transaction, and apply throttles and digests to its deliveries.

        A delivery that exists already (waiting, dead, or succeeded) is inserted again only if its ``replays`` is
        greater than the stored number. Then it starts again if it waits, is dead or succeeded. If it is being
        attempted now, it is not among the returned ids; it starts again as soon as that attempt is settled or the
        work is released.

        If this process no longer owns the evaluation, or it is at another attempt or replay (see ``Routed.work``),
        nothing changes and no ids are returned.
        """

    async def settle_attempt(
        self, work: Work, attempt: Attempt, then: Again | Dead | None, *, on_dead: Sequence[Work] = ()
    ) -> bool:
        """Record an attempt and its consequence ``then``; None means success, which removes the work.

        If a replay was requested during the attempt, the work is due at once instead and its attempts count from 0.
        Otherwise the deliveries ``on_dead`` are inserted as due, unless they exist already.

        Returns False and changes nothing if this process no longer owns the work.
        """

    async def claim(
        self,
        *,
        now: float,
        limit: int,
        max_bytes: int = CLAIM_BYTES,
        kind: WorkKind | None = None,
        capacity: Mapping[str, int] | None = None,
        paused: Collection[str] = (),
        reopened: Collection[str] = (),
        max_fetched: int = sys.maxsize,
    ) -> ClaimResult:
        """Take up to ``limit`` pieces of due work; this process owns them from now on.

        ``kind`` limits the claim to one kind; waiting work of the other kind adds no cost.

        Lanes (the queues of destinations) take turns, the longest-waiting lane first, and in each lane the oldest
        work first. ``capacity`` is the most that may be taken from a lane; lanes it does not name have no limit. From
        a ``paused`` lane only work past its ``until`` is taken. A lane from which nothing may be taken is skipped by
        the next claims for ``PAUSED_RECHECK`` or ``BUSY_RECHECK`` seconds, or until a claim names it in ``reopened``.
        So the cost of a claim depends on what it takes and on what was stored since, not on how many lanes wait.

        The bodies and fetched data of the events, each event counted once, have at most ``max_bytes`` in total, unless
        the first event alone has more; the rest stays due. An event is loaded without its fetched data if that has
        more than ``max_fetched`` bytes. A claim that fails or is cancelled takes nothing.
        """

    async def release(
        self,
        ids: Sequence[str],
        *,
        due_at: float,
        lane: str | None = None,
        reason: str = "",
        uncounted: float = 0.0,
        until: float | None = None,
        target: str | None = None,
    ) -> None:
        """Release claimed work without counting an attempt, into the queue of ``lane`` (None: the lane it was in).

        ``reason`` tells people why it waits; an empty one keeps the stored reason. ``uncounted`` is how many seconds
        it waits on purpose: ``first_at`` moves by them, so that they do not count towards ``within``.
        ``until`` is the time after which it is claimed even if its lane is paused, and ``target`` where it goes; None
        keeps the stored value. Work that is not due at once has no target: it does not wait for its destination.
        """

    async def make_due(self, waits_for: str, *, now: float) -> int:
        """Make postponed work due whose reason begins with ``waits_for``. Returns how many pieces of work.

        Large numbers are processed in steps, so that an append waits for one step at most.
        """

    async def make_lane_due(self, lane: str, *, now: float) -> int:
        """Make due what waits in a lane for another attempt. Returns the number. In steps, like ``make_due``."""

    async def make_changed_due(self, targets: Mapping[tuple[str, str], str], *, now: float) -> Mapping[str, int]:
        """Make waiting deliveries due whose action has another destination now, and take them out of their lanes.

        ``targets`` maps route and action to the current target, the text whose fingerprint is ``Work.target``.
        Deliveries of other routes and actions do not change. Returns the number of deliveries by the lane they were in.
        Processed in steps, like ``make_due``.
        """

    async def next_due(self, *, kind: WorkKind | None = None, paused: Collection[str] = ()) -> float | None:
        """When to claim next: the time at which unowned work of ``kind`` outside the ``paused`` lanes becomes due.

        The time may be a little early. For lanes that a claim skipped it is when claims look at them again. Evaluations
        are in no lane. None if no such work waits.
        """

    async def save_fetched(self, event_id: str, fetched: Mapping[str, Any]) -> None:
        """Store with the event what hydration fetched, so that a retry or replay need not fetch it again.

        The maps ``inputs``, ``outputs`` and ``feedback`` are merged with the stored ones by run; newer values replace
        older ones. Reading returns all three maps: empty where nothing was fetched, and None for ``feedback``.
        """

    async def decisions(self, event_id: str, replays: int) -> Sequence[Mapping[str, Any]]:
        """The evaluations of one replay of an event, newest last, as in ``EventDetail.evaluations``.

        For the worker: it does not wait for queries of people.
        """

    async def progress(self, delivery_id: str) -> Mapping[str, Any]:
        """``Attempt.detail`` of the delivery's last attempt that recorded one since its last success; else empty.

        For the worker: it does not wait for queries of people.
        """

    async def heartbeat(self, *, now: float, holding: Collection[str] | None = None) -> None:
        """Record that this replica is alive, and make its orphaned work due again.

        ``holding`` are the ids of all work that this process holds in memory. Work that it has owned for more than
        ``ORPHANED_AFTER`` seconds without holding it becomes due, without counting an attempt. So does work claimed
        that far in the future, which happens if the clock was set back. None skips this check, for example right after
        a clock change.
        """

    async def replay_deliveries(self, query: DeliveryQuery, *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make the deliveries of a query due again, with their attempts counted from 0. Returns their ids.

        Deliveries that are being attempted now do not change and are not among the ids. Large numbers are processed in
        steps, so that an append waits for one step at most.
        """

    async def replay_events(self, ids: Sequence[str], *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make events due for evaluation again, with the current rules.

        Returns the ids of the events that still have a body and are not being evaluated now.
        """

    async def discard(self, ids: Sequence[str], *, now: float, by: str, reason: str = "") -> Sequence[str]:
        """Discard dead deliveries, and dead evaluations by the ids of their events. Returns the ids that were dead.

        They no longer count as dead and trigger no further actions. Their history is kept, and they can be replayed.
        """

    async def events(self, query: EventQuery) -> Sequence[EventRow]:
        """Events, newest first."""

    async def event(self, event_id: str) -> EventDetail | None:
        """One event with all details, by its id or a unique prefix of it."""

    async def deliveries(self, query: DeliveryQuery) -> Sequence[DeliveryRow]:
        """Deliveries, newest first."""

    async def delivery(self, delivery_id: str) -> DeliveryDetail | None:
        """One delivery with all details, by its id or a unique prefix of it."""

    async def backlog(self) -> Backlog:
        """How much work waits."""

    async def muted_events(self, route: str, *, since: float) -> Sequence[str]:
        """Ids of events, newest first, of which a mute of this route held back matches and that were not replayed.

        ``since`` is when the first was received, in Unix seconds. Only so many of the newest events are looked at.
        """

    async def last_attempts(self, *, since: float) -> Mapping[str, tuple[float, str]]:
        """By destination, when the last attempt at it began, and why it failed (empty: it succeeded).

        ``since`` and the times are Unix seconds. Only so many of the newest attempts are read.
        """

    async def controls(self) -> Sequence[Control]:
        """All mutes and pauses in force, by kind and subject. Does not wait for queries of people."""

    def fingerprint(self, text: str) -> str:
        """A keyed hash of a text: equal texts have equal hashes, and precomputed tables cannot reverse it.

        The key is created when the store is first opened. Another store gives the same text another hash.
        """

    async def thread(self, subject: str) -> str | None:
        """The first message of a thread, as passed to ``save_thread``; None if there is none."""

    async def save_thread(self, subject: str, first: str | None) -> None:
        """Store the first message of a thread and mark the thread as used now. None forgets the thread.

        ``subject`` may contain event data: it is stored as a keyed hash, and ``first`` is encrypted. The 10,000 most
        recently used threads are kept; ``prune`` deletes unused ones together with other marks.
        """

    async def note(self, name: str) -> str | None:
        """The text stored under a name by ``save_note``; None if there is none."""

    async def save_note(self, name: str, text: str) -> None:
        """Store a short text about this store under a name, replacing the earlier one."""

    async def set_control(self, control: Control) -> None:
        """Store a mute or pause, replacing an earlier one of the same subject."""

    async def remove_control(self, kind: str, subject: str) -> bool:
        """Remove a mute or pause. Returns whether there was one."""

    async def prune(
        self,
        what: Prunable,
        *,
        before: float,
        after: str = "",
        limit: int = PRUNED_ROWS,
        max_bytes: int = PRUNED_BYTES,
    ) -> Pruned:
        """Delete one step of what is older than ``before``, the oldest events first, starting ``after`` an event id.

        The age of an event counts from its last activity: received, evaluated or attempted. The age of dead work
        counts from its death, that of a mark from its expiry. A throttle window with suppressed deliveries that were
        not reported yet is kept a month longer. Events with waiting or dead work, and items of digests that wait or
        are dead, are never deleted. A step deletes up to ``limit`` rows (bodies count separately) with at most
        ``max_bytes`` in total, unless the first alone has more. Other writes wait for one step at most.
        """

    async def size(self) -> Size:
        """How large the store is. Cheap, and does not wait for queries of people."""

    async def shrink(self, *, max_bytes: int = PRUNED_BYTES) -> int:
        """Return up to ``max_bytes`` of unused space to the file system. Returns how many bytes, perhaps 0."""

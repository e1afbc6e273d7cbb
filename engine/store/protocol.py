"""The verbs a store understands. What it is handed and answers stands in ``work`` and ``rows``.

Two engines stand behind one protocol (SQLite here, PostgreSQL later), held to one contract suite.
All times are Unix seconds, UTC. Every verb may raise ``StoreError``; people's questions that make
no sense ``BadQuestion``, among them ``AmbiguousId``.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, Protocol

from engine.core.event import Event
from engine.store.commits import Commits
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

#: What one claim brings into memory at most, in bytes of bodies and fetched data.
CLAIM_BYTES = 64 * 2**20
#: How long a claim passes over a lane that is paused, or busy, unless it is said to have reopened, in seconds.
PAUSED_RECHECK, BUSY_RECHECK = 300.0, 5.0
#: How much one step of pruning deletes at most, in rows and in bytes of bodies: an append may have to wait for it.
PRUNED_ROWS = 500
PRUNED_BYTES = 4 * 2**20
#: Owned work that nobody has in hand this many seconds after it was taken is lost to them, and made due again.
ORPHANED_AFTER = 30.0


class Store(Protocol):
    """Where events, work and history are kept. One instance is one replica, with an owner's name."""

    @property
    def owner(self) -> str:
        """This replica's name; work it holds bears it."""

    @property
    def max_values(self) -> int:
        """How many values a body may have to be parsed; events with more are loaded unparsed."""

    @property
    def commits(self) -> Commits:
        """How long its transactions take, and how much each does."""

    async def open(self) -> None:
        """Take hold of the store, make or check its schema, and free the work of replicas that are gone.

        Raises:
            StoreError: locked by another engine, not ours, or written by a newer version.
        """

    async def close(self) -> None:
        """Commit what was handed in, unregister the table of replicas, let go."""

    def append(self, event: Event, *, leased: bool) -> Awaitable[Appended]:
        """Keep an event and the evaluation it is due, durably, before answering.

        ``leased``: the evaluation is born owned by this process; else it is due at once for
        whoever claims. A second event of one dedup key changes nothing and answers the first's id.
        A store that has no need of a coroutine answers with a bare future: it is the busiest verb.

        Raises:
            StoreBusy: the disk is full or read-only; nothing was kept.
        """

    async def settle_routed(self, routed: Routed) -> Settled:
        """Record what routing came to, in one transaction, and pass the deliveries through their gates.

        A delivery that exists (waiting, dead, or succeeded before) is not inserted again,
        unless its ``replays`` is greater than what is there. With greater ``replays``, what waits,
        is dead or succeeded starts afresh; what is being attempted right now is not taken over and
        not among the ids returned: it becomes due at once, afresh, when that attempt is settled or
        the work given back.

        An evaluation that is no longer this process's (or not at that attempt and replay, see
        ``Routed.work``) is fenced off: nothing changes, and no ids are returned.
        """

    async def settle_attempt(
        self, work: Work, attempt: Attempt, then: Again | Dead | None, *, on_dead: Sequence[Work] = ()
    ) -> bool:
        """Record an attempt and what follows; None is success, which removes the work.

        Where a replay was asked for meanwhile, the work is due at once instead, attempts counted afresh.
        Otherwise ``on_dead`` are deliveries that come of it, inserted as due unless they are there already.

        Returns False, having changed nothing, when the work is no longer this process's (fenced).
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
        """Take up to ``limit`` pieces of due work; they are this process's from now on.

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
        """Give work back without spending an attempt, to the queue of ``lane`` (None: where it was).

        ``reason`` says to people why it waits; empty leaves what was said before. ``uncounted`` is for how many
        seconds it waits on purpose: ``first_at`` moves on by them, so that they don't count towards ``within``.
        ``until`` is the time after which it is claimed even if its lane is paused, and ``target`` where it goes; None
        keeps the stored value. Work that is not due at once has no target: it does not wait for its destination.
        """

    async def make_due(self, waits_for: str, *, now: float) -> int:
        """Make due what is put off and whose reason begins with ``waits_for``. How many pieces of work.

        Very many are taken in steps, so that an append has to wait for one at most.
        """

    async def make_lane_due(self, lane: str, *, now: float) -> int:
        """Make due what waits in a lane for another attempt. How many deliveries; in steps, as in ``make_due``."""

    async def make_changed_due(self, targets: Mapping[tuple[str, str], str], *, now: float) -> Mapping[str, int]:
        """Make due what waits, for another attempt or for its turn, and was to go elsewhere than its action goes now.

        ``targets`` says where that is, by route and action: the text of which ``Work.target`` is the fingerprint.
        What is of none of these is left alone. The work is then in no lane. Returns the lanes in which it was, with how
        many pieces each. In steps, as in ``make_due``.
        """

    async def next_due(self, *, kind: WorkKind | None = None, paused: Collection[str] = ()) -> float | None:
        """When to look for unowned work (of a ``kind``) that waits in none of the ``paused`` lanes, or None.

        That is when the next of it falls due, or a little before; of lanes that a claim passed over, when claims look
        at them again. Evaluations are in no lane.
        """

    async def save_fetched(self, event_id: str, fetched: Mapping[str, Any]) -> None:
        """Store with the event what hydration fetched, so that a retry or replay has it.

        Joined with what is there: each of its maps (``inputs``, ``outputs``, ``feedback``) by run, newer ones count.
        It writes what it is given and nothing else. What is read back has all three maps, empty where nothing was
        fetched; ``feedback`` is None there.
        """

    async def decisions(self, event_id: str, replays: int) -> Sequence[Mapping[str, Any]]:
        """The evaluations of one round of an event, newest last, as in ``EventDetail.evaluations``.

        For the worker: it does not wait behind people's questions.
        """

    async def progress(self, delivery_id: str) -> Mapping[str, Any]:
        """What the last attempts at a delivery noted in ``Attempt.detail`` since it last succeeded; empty for nothing.

        For the worker: it does not wait behind people's questions.
        """

    async def heartbeat(self, *, now: float, holding: Collection[str] | None = None) -> None:
        """Tell that this replica lives, and free the work of those that don't.

        ``holding`` are the ids of all work that this process has in hand. What it owns for more
        than ``ORPHANED_AFTER`` seconds (or from so far in the future, by a clock that was set back since) and is not
        among them goes back to due, no attempt spent. None: nothing is known about that, as when the
        clock was just set.
        """

    async def replay_deliveries(self, query: DeliveryQuery, *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make the deliveries of a query due again, attempts counted afresh. Returns their ids.

        Those that are being attempted right now are left alone and not among the ids: what becomes
        of them is what was asked for. Very many are taken in steps, so that an append has to wait for one at most.
        """

    async def replay_events(self, ids: Sequence[str], *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make events due for evaluation again, against today's rules.

        Returns the ids of those that have a body and are not being evaluated right now.
        """

    async def discard(self, ids: Sequence[str], *, now: float, by: str, reason: str = "") -> Sequence[str]:
        """Give up dead deliveries, and dead evaluations by their events' ids. Returns the ids of those that were dead.

        They are no longer dead, nothing follows, and their history keeps what happened. A replay takes them up again.
        """

    async def events(self, query: EventQuery) -> Sequence[EventRow]:
        """Events, newest first."""

    async def event(self, event_id: str) -> EventDetail | None:
        """One event whole; a unique start of its id will do."""

    async def deliveries(self, query: DeliveryQuery) -> Sequence[DeliveryRow]:
        """Deliveries, newest first."""

    async def delivery(self, delivery_id: str) -> DeliveryDetail | None:
        """One delivery whole; a unique start of its id will do."""

    async def backlog(self) -> Backlog:
        """How much waits."""

    async def muted_events(self, route: str, *, since: float) -> Sequence[str]:
        """Ids of events, newest first, of which a mute of this route held back matches and that were not replayed.

        ``since`` is when the first was received, in Unix seconds. Only so many of the newest events are looked at.
        """

    async def last_attempts(self, *, since: float) -> Mapping[str, tuple[float, str]]:
        """By destination, when the last attempt at it began, and why it failed (empty: it succeeded).

        ``since`` and the times are Unix seconds. Only so many of the newest attempts are read.
        """

    async def controls(self) -> Sequence[Control]:
        """All that is held back and whose time is not over, by kind and subject. It does not wait behind people."""

    def fingerprint(self, text: str) -> str:
        """A hash of a text by a key of this store: equal texts have equal ones, and nothing can be looked up in tables.

        The key is made when the store is first reopened. Without it (in another store) the same text has another.
        """

    async def thread(self, subject: str) -> str | None:
        """The first message of a thread, as ``save_thread`` was given it; None where none is known."""

    async def save_thread(self, subject: str, first: str | None) -> None:
        """Keep the first message of a thread, as one used now; None forgets the thread.

        ``subject`` may come out of an event: it is kept as a keyed hash, and ``first`` sealed. The 10,000 used last are
        kept, until ``prune`` deletes those not used since a time together with other marks.
        """

    async def note(self, name: str) -> str | None:
        """What was kept under a name by ``save_note``."""

    async def save_note(self, name: str, text: str) -> None:
        """Keep a small fact about this store, in place of the one before."""

    async def set_control(self, control: Control) -> None:
        """Hold something back, in place of what was said of its subject before."""

    async def remove_control(self, kind: str, subject: str) -> bool:
        """Let something go again. Whether it was held back."""

    async def prune(
        self,
        what: Prunable,
        *,
        before: float,
        after: str = "",
        limit: int = PRUNED_ROWS,
        max_bytes: int = PRUNED_BYTES,
    ) -> Pruned:
        """One step of deleting what is older than a time, the oldest events first, from those ``after`` an id.

        An event's age counts from the last that happened to it: received, decided on, attempted; a dead letter's
        from its death; a mark's from when its time was over, a throttle's that held some back and has not told of
        them from a month later. An event that has waiting or dead work, or is an item of a digest that waits or is
        dead, keeps everything. A step deletes up to ``limit`` rows (once more for bodies) that have ``max_bytes``
        together, unless the first alone has more: what is handed in meanwhile has to wait for no more than that.
        """

    async def size(self) -> Size:
        """How large the store is. Cheap, and it does not wait behind people."""

    async def shrink(self, *, max_bytes: int = PRUNED_BYTES) -> int:
        """Give the disk back up to so many bytes of what is spare. How many; 0 where there is nothing to give back."""

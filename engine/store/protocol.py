"""The verbs a store understands, and the rows that people and the worker get from it.

Two engines stand behind one protocol (SQLite here, PostgreSQL later), held to one contract suite.
All times are Unix seconds, UTC. Every verb may raise ``StoreError``; people's questions that make
no sense ``BadQuestion``, among them ``AmbiguousId``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from engine.event import Event
from engine.store.commits import Commits

WorkKind = Literal["evaluate", "deliver"]
Outcome = Literal["succeeded", "again", "dead"]
#: What can be pruned: dead letters; events that no route matched; bodies with what was fetched; events with their
#: history; and marks, which are closed windows and controls whose time is over.
Prunable = Literal["dead", "unmatched", "bodies", "events", "marks"]

#: What one claim brings into memory at most, in bytes of bodies and fetched data.
CLAIM_BYTES = 64 * 2**20
#: How much one step of pruning deletes at most, in rows and in bytes of bodies: an append may have to wait for it.
PRUNED_ROWS = 500
PRUNED_BYTES = 4 * 2**20
#: Owned work that nobody has in hand this many seconds after it was taken is lost to them, and made due again.
ORPHANED_AFTER = 30.0


@dataclass(frozen=True, slots=True)
class Work:
    """One thing still to be done: evaluate an event, or make a delivery. Gone from the store on success.

    ``id`` is the delivery id; an evaluation's is its event's. ``index`` is the run's place in
    the event's ``runs``, -1 for the whole event. ``attempts`` counts those already made since
    ``first_at``, from which ``within`` counts too. ``replays`` counts how often a person asked again.
    ``lane`` is the destination in whose queue it waits, empty while that is not known. ``words`` is
    what its templates see beside the event.
    """

    id: str
    kind: WorkKind
    event_id: str
    first_at: float
    due_at: float
    route: str = ""
    action: str = ""
    index: int = -1
    run_id: str | None = None
    attempts: int = 0
    replays: int = 0
    error: str | None = None
    lane: str = ""
    words: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One document of a digest: a run of an event (``index`` -1: the whole event), with what hydration stored."""

    event: Event
    index: int
    fetched: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """Work that is now this process's to do, with what it needs; ``fetched`` is what hydration stored.

    Pieces of one claim that are about one event share its ``event`` and ``fetched``, the very same objects.
    ``items`` are those of a digest, in the order they were collected; others have none.
    """

    work: Work
    event: Event
    fetched: Mapping[str, Any] | None
    items: Sequence[Item] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to an append: the event's id, which is the earlier event's for a duplicate."""

    event_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a piece of work, for the history. ``detail`` is JSON-able and holds no secret.

    ``number`` counts from 1 within ``replay``; ``seconds`` is how long it took; ``status`` is an
    HTTP status where there was one; ``reason`` is empty on success.
    """

    number: int
    replay: int
    started_at: float
    seconds: float
    outcome: Outcome
    reason: str = ""
    status: int | None = None
    destination: str = ""
    detail: Mapping[str, Any] | None = None
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """Work goes back and is due again at ``due_at``, in the queue of ``lane``."""

    due_at: float
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """An evaluation is put off until ``due_at`` for a reason that is no failure: no attempt is spent."""

    due_at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Work is over without success; it stays to be looked at and replayed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """One delivery of a ``key`` in ``every`` seconds; the others are counted, and not made.

    Windows are those of a delivery's route and action. A delivery that dies gives its slot back.
    """

    key: str
    every: float


@dataclass(frozen=True, slots=True)
class Digest:
    """Deliveries of a ``key`` become items of one, made ``every`` seconds after the first, or when it has ``most``.

    The one has the id that its first item would have had alone.
    """

    key: str
    every: float
    most: int


Gate = Throttle | Digest


@dataclass(frozen=True, slots=True)
class Routed:
    """What routing an event came to, settled in one transaction.

    ``decisions`` is JSON-able, one entry a document and route. ``deliveries`` are inserted unless
    there already; those whose ids stand in ``leased`` are born owned by this process, the others
    are due. ``matched`` counts the decisions that matched. ``pending`` is None when the evaluation
    is done, else what becomes of it, with ``attempt`` saying why. ``work`` is the evaluation as it
    was begun: given, its ``attempts`` and ``replays`` must be those in the store, else it is fenced off.
    ``gates`` are what stands before some of the deliveries, by their ids.
    """

    event_id: str
    decisions: Sequence[Mapping[str, Any]]
    deliveries: Sequence[Work]
    leased: frozenset[str]
    config_hash: str
    decided_at: float
    unmatched_reason: str | None = None
    pending: Again | Wait | Dead | None = None
    attempt: Attempt | None = None
    matched: int = 0
    work: Work | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the deliveries of a ``Routed``, by their ids.

    ``inserted`` are those that are to be made (of a digest the one that its first item opened),
    ``leased`` those of them that are born this process's. ``words`` is what the store adds for the
    templates of some of them. ``throttled`` were held back, with the reason; ``collected`` became
    items of a digest, with that delivery's id. The decisions that were kept say so, too.
    """

    inserted: frozenset[str] = frozenset()
    leased: frozenset[str] = frozenset()
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    throttled: Mapping[str, str] = field(default_factory=dict)
    collected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Control:
    """What people or the engine hold back for a while: a muted route, a paused destination.

    ``until_at`` None is for ever. ``set_by`` is who did it. ``state`` is the engine's own, JSON-able.
    """

    kind: Literal["mute", "pause"]
    subject: str
    reason: str
    set_by: str
    set_at: float
    until_at: float | None = None
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as lists show it. ``state`` is pending, routed or dead; ``open`` and ``dead`` count deliveries.

    ``matched`` and ``unmatched_reason`` are those of the last evaluation; ``reason`` says why it
    is still pending, or dead.
    """

    id: str
    kind: str
    rule_id: str | None
    received_at: float
    size: int
    repaired: bool
    state: Literal["pending", "routed", "dead"]
    unmatched_reason: str | None
    matched: int
    open: int
    dead: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EventDetail:
    """An event with its body, what hydration stored, and every evaluation's decisions (newest last).

    An evaluation has ``replays``, ``decided_at``, ``config_hash``, ``matched``,
    ``unmatched_reason`` and ``decisions`` (as they stood in ``Routed``). ``attempts`` are those
    evaluations that could not be finished.
    """

    row: EventRow
    body: bytes | None
    fetched: Mapping[str, Any] | None
    evaluations: Sequence[Mapping[str, Any]]
    deliveries: Sequence[DeliveryRow]
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as lists show it; ``attempts`` counts all ever made, ``due_at`` is set while it waits.

    ``created_at`` is when it was first decided on, ``updated_at`` when something last became of it.
    """

    id: str
    event_id: str
    route: str
    action: str
    index: int
    run_id: str | None
    state: Literal["due", "running", "succeeded", "dead"]
    attempts: int
    replays: int
    created_at: float
    updated_at: float
    due_at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryDetail:
    """A delivery with every attempt, oldest first."""

    row: DeliveryRow
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events to list, newest first. ``before`` is an event id to page on from."""

    kind: str | None = None
    rule_id: str | None = None
    state: str | None = None
    unmatched: bool | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries to list, newest first, or to replay.

    ``error`` is a part of the reason, in any case of letters. ``since`` and ``until`` are about
    when the event was received, by which (through its id) deliveries are ordered, too.
    ``before`` is a delivery id to page on from.
    """

    state: str | None = None
    route: str | None = None
    action: str | None = None
    event_id: str | None = None
    ids: Sequence[str] = ()
    error: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits: counts by kind and state, and since when the oldest has been due (None: nothing is).

    ``by_lane`` counts the deliveries that wait in the queue of a known destination.
    """

    evaluations: int = 0
    deliveries: int = 0
    dead: int = 0
    oldest_due_at: float | None = None
    by_route: Mapping[str, int] = field(default_factory=dict)
    by_lane: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one step of pruning came to: how many went, the event it got to, and whether there may be more after it."""

    count: int
    last: str
    more: bool


@dataclass(frozen=True, slots=True)
class Size:
    """How large the store is, in bytes.

    ``used`` is what is in use, with a log that has become longer than it should be; ``spare`` what was
    deleted and will be used again. ``free`` is what the disk has left beside it, and ``disk`` how large it is;
    None where that is not known, as with a server's.
    """

    used: int
    spare: int = 0
    free: int | None = None
    disk: int | None = None


class Store(Protocol):
    """Where events, work and history are kept. One instance is one replica, with an owner's name."""

    @property
    def owner(self) -> str:
        """This replica's name; work it holds bears it."""

    @property
    def commits(self) -> Commits:
        """How long its transactions take, and how much each does."""

    async def open(self) -> None:
        """Take hold of the store, make or check its schema, and free the work of replicas that are gone.

        Raises:
            StoreError: locked by another engine, not ours, or written by a newer version.
        """

    async def close(self) -> None:
        """Commit what was handed in, leave the table of replicas, let go."""

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
        self, work: Work, attempt: Attempt, then: Again | Dead | None, *, follow: Sequence[Work] = ()
    ) -> bool:
        """Record an attempt and what follows; None is success, which removes the work.

        Where a replay was asked for meanwhile, the work is due at once instead, attempts counted afresh.
        Otherwise ``follow`` are deliveries that come of it, inserted as due unless they are there already.

        Returns False, having changed nothing, when the work is no longer this process's (fenced).
        """

    async def claim(
        self,
        *,
        now: float,
        limit: int,
        max_bytes: int = CLAIM_BYTES,
        rooms: Mapping[str, int] | None = None,
        stale_before: float | None = None,
    ) -> Sequence[Claimed]:
        """Take up to ``limit`` pieces of due work; they are this process's from now on.

        Lanes take turns, the oldest of each first. ``rooms`` says how much may be taken of some lanes;
        of one without room only what was first due before ``stale_before``, and one piece of that.
        Their events' bodies and fetched data, each event counted once, have at most ``max_bytes``
        together, unless the first alone has more; the rest stays due. Whoever gets an error
        or is cancelled has taken nothing.
        """

    async def release(self, ids: Sequence[str], *, due_at: float, lane: str | None = None, reason: str = "") -> None:
        """Give work back without spending an attempt, to the queue of ``lane`` (None: where it was).

        ``reason`` says to people why it waits; empty leaves what was said before.
        """

    async def next_due(self, *, shut: Collection[str] = ()) -> float | None:
        """When the next unowned work falls due that waits in none of the ``shut`` lanes, or None."""

    async def save_fetched(self, event_id: str, fetched: Mapping[str, Any]) -> None:
        """Store with the event what hydration fetched, so that a retry or replay has it.

        Joined with what is there: each of its maps (``inputs``, ``outputs``, ``feedback``) by run, newer ones count.
        """

    async def decisions(self, event_id: str, replays: int) -> Sequence[Mapping[str, Any]]:
        """The evaluations of one round of an event, newest last, as in ``EventDetail.evaluations``.

        For the worker: it does not wait behind people's questions.
        """

    async def beat(self, *, now: float, holding: Collection[str] | None = None) -> None:
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

    async def controls(self) -> Sequence[Control]:
        """All that is held back and whose time is not over, by kind and subject. It does not wait behind people."""

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
        from its death; a mark's from when its time was over. An event that has waiting or dead work, or
        is an item of a digest that waits or is dead, keeps everything. A step deletes
        up to ``limit`` rows (once more for bodies) that have ``max_bytes`` together, unless the first alone has more:
        what is handed in meanwhile has to wait for no more than that.
        """

    async def size(self) -> Size:
        """How large the store is. Cheap, and it does not wait behind people."""

    async def shrink(self, *, max_bytes: int = PRUNED_BYTES) -> int:
        """Give the disk back up to so many bytes of what is spare. How many; 0 where there is nothing to give back."""

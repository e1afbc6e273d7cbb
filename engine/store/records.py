"""What the worker and the store exchange: work, attempts, their consequences, throttles and digests, pauses.

All times are Unix seconds, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.event import Event

WorkKind = Literal["evaluate", "deliver"]
#: ``discarded`` is not an attempt: people discarded dead work.
Outcome = Literal["succeeded", "again", "dead", "discarded"]


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work: an evaluation of an event, or a delivery. It is removed from the store on success.

    ``id`` is the delivery id; an evaluation has the id of its event. ``index`` is the run's position in the event's
    ``runs``, -1 for the whole event. ``attempts`` counts attempts since ``first_at``, from which ``within`` counts
    too. ``replays`` counts how often people replayed it. ``lane`` is the destination in whose queue it waits, empty
    while it is unknown. ``variables`` are what templates see besides the event. ``until`` is the time after which it is
    claimed even if its lane is paused. ``target`` is a keyed hash of the destination (``Store.make_changed_due``).
    ``until`` and ``target`` are written and not read back.
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
    variables: Mapping[str, Any] | None = None
    until: float | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One document of a digest: a run of an event (``index`` -1: the whole event), with its fetched data.

    ``fetched_size`` is the approximate memory of the fetched data, in bytes.
    """

    event: Event
    index: int
    fetched: Mapping[str, Any] | None
    fetched_size: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """Claimed work with its event and its fetched data, which takes about ``fetched_size`` bytes of memory.

    Pieces of one claim that belong to the same event share the same ``event`` and ``fetched`` objects. ``items`` are
    the items of a digest in the order they were collected; other work has none. A digest's ``event`` is that of its
    first readable item. ``broken`` says why the delivery is impossible although its event was loaded; the worker
    settles it as dead, with its ``on_dead`` actions.
    """

    work: Work
    event: Event
    fetched: Mapping[str, Any] | None
    items: Sequence[Item] = ()
    broken: str = ""
    fetched_size: int = 0


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The work that one claim took, and what it found out about lanes.

    ``remaining`` are lanes in which due work remains. ``skipped`` are those of them that were paused or had no
    capacity; the next claims skip them too. ``emptied`` are lanes in which nothing is due any more. The claim did not
    look at any other lane.
    """

    pieces: Sequence[Claimed] = ()
    remaining: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Claimed]:
        return iter(self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of an append. ``event_id`` is the earlier event's id for a duplicate."""

    event_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a piece of work, for the history.

    ``number`` counts from 1 within ``replay``. ``seconds`` is the duration. ``status`` is the HTTP status, if there was
    one. ``reason`` is empty on success. ``detail`` is what the action returned, or for a failed attempt the progress it
    recorded; it can be encoded as JSON and contains no secrets.
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
    """The work is due again at ``due_at``, in the queue of ``lane``. For ``until`` and ``target`` see ``Work``.

    Without ``spent`` the attempt does not count; the history has it anyway. ``reason`` tells people why the work waits;
    empty means the reason of the attempt.
    """

    due_at: float
    lane: str = ""
    spent: bool = True
    reason: str = ""
    until: float | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """An evaluation is postponed until ``due_at`` for a reason that is not a failure.

    No attempt is counted, and ``first_at`` becomes ``due_at``, so that the wait does not count towards ``within``.
    With ``counted`` it does.
    """

    due_at: float
    reason: str
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Dead:
    """The work failed for good. It stays in the store to be inspected and replayed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """At most one delivery of a ``key`` in ``every`` seconds. Others are suppressed and counted.

    Each route and action has its own windows. If the delivery dies, the next one may be made at once.
    """

    key: str
    every: float


@dataclass(frozen=True, slots=True)
class Digest:
    """Deliveries of a ``key`` are collected into one, sent ``every`` seconds after the first or at ``most`` items.

    The digest has the delivery id of its first item.
    """

    key: str
    every: float
    most: int


Gate = Throttle | Digest


@dataclass(frozen=True, slots=True)
class Routed:
    """The result of routing an event, settled in one transaction.

    ``decisions`` can be encoded as JSON and has one entry for each document and route. ``deliveries`` are inserted
    unless they exist already; this process owns those in ``leased``, the others are due. ``matched`` and ``fallback``
    count runs, see ``Routing``. ``pending`` is None if the evaluation is finished, else its consequence, explained by
    ``attempt``. ``work`` is the evaluation as it was claimed: if given, its ``attempts`` and ``replays`` must equal the
    stored ones, or nothing is settled. ``gates`` are the throttles and digests of deliveries, by delivery id.
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
    fallback: int = 0
    work: Work | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What happened to the deliveries of a ``Routed``, by delivery id.

    ``inserted`` are new deliveries, including digests opened by their first item; this process owns those in
    ``leased``. ``variables`` are template variables that the store adds to some of them. ``throttled`` were suppressed,
    with the reason. ``collected`` became items of a digest, with the digest's id. The stored decisions have the last
    two as well.
    """

    inserted: frozenset[str] = frozenset()
    leased: frozenset[str] = frozenset()
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    throttled: Mapping[str, str] = field(default_factory=dict)
    collected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Control:
    """A muted route or a paused destination, set by people or by the engine.

    ``until_at`` None means without end. ``set_by`` names the person or the engine. ``state`` is internal to the engine
    and can be encoded as JSON.
    """

    kind: Literal["mute", "pause"]
    subject: str
    reason: str
    set_by: str
    set_at: float
    until_at: float | None = None
    state: Mapping[str, Any] | None = None

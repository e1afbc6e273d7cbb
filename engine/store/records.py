"""What the worker hands to the store and gets from it: work, attempts, what follows, what is held back.

All times are Unix seconds, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from engine.core.event import Event

WorkKind = Literal["evaluate", "deliver"]
#: ``discarded`` is no attempt: people gave up what was dead.
Outcome = Literal["succeeded", "again", "dead", "discarded"]


@dataclass(frozen=True, slots=True)
class Work:
    """One thing still to be done: evaluate an event, or make a delivery. Gone from the store on success.

    ``id`` is the delivery id; an evaluation's is its event's. ``index`` is the run's place in
    the event's ``runs``, -1 for the whole event. ``attempts`` counts those already made since
    ``first_at``, from which ``within`` counts too. ``replays`` counts how often a person asked again.
    ``lane`` is the destination in whose queue it waits, empty while that is not known. ``variables`` is
    what its templates see beside the event. ``until`` is when its time is over should that lane be paused then, and
    ``target`` a keyed hash of where it goes (``Store.make_changed_due``); they are written, and not read back.
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
    """One document of a digest: a run of an event (``index`` -1: the whole event), with what hydration stored.

    ``fetched_size`` is about how many bytes of memory that takes.
    """

    event: Event
    index: int
    fetched: Mapping[str, Any] | None
    fetched_size: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """Work that is now this process's to do, with what it needs; ``fetched`` is what hydration stored, and takes about
    ``fetched_size`` bytes of memory.

    Pieces of one claim that are about one event share its ``event`` and ``fetched``, the very same objects.
    ``items`` are those of a digest, in the order they were collected; others have none. A digest's ``event`` is
    that of its first item which can be read. ``broken`` says why it can't be made though its event is at hand:
    whoever took it settles it as dead, with all that follows from that.
    """

    work: Work
    event: Event
    fetched: Mapping[str, Any] | None
    items: Sequence[Item] = ()
    broken: str = ""
    fetched_size: int = 0


@dataclass(frozen=True, slots=True)
class ClaimResult(Sequence[Claimed]):
    """What one claim brought.

    Of the lanes it met, something due was ``left`` in some; of those it ``passed`` over some that had no room, which
    the next claims do, too. In those it ``emptied`` nothing is due any more. Of others it knows nothing.
    """

    pieces: Sequence[Claimed] = ()
    remaining: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.pieces)

    @overload
    def __getitem__(self, index: int) -> Claimed: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Claimed]: ...

    def __getitem__(self, index: int | slice) -> Claimed | Sequence[Claimed]:
        return self.pieces[index]


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to an append: the event's id, which is the earlier event's for a duplicate."""

    event_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a piece of work, for the history. ``detail`` is JSON-able and holds no secret.

    It is what the action returned, or of an attempt that failed what it noted in its progress.

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
    """Work goes back and is due again at ``due_at``, in the queue of ``lane``; for ``until``, ``target`` see ``Work``.

    Unless ``spent``, the attempt does not count among its attempts; in the history it stands all the same.
    ``reason`` says to people why it waits; empty is what the attempt came to.
    """

    due_at: float
    lane: str = ""
    spent: bool = True
    reason: str = ""
    until: float | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """An evaluation is put off until ``due_at`` for a reason that is no failure.

    No attempt is spent, and its ``first_at`` is then: ``within`` is for failing. With ``counted`` the time until
    ``due_at`` does count towards ``within``.
    """

    due_at: float
    reason: str
    counted: bool = False


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
    are due. ``matched`` and ``fallback`` count runs, see ``Routing``. ``pending`` is None when the evaluation
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
    fallback: int = 0
    work: Work | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the deliveries of a ``Routed``, by their ids.

    ``inserted`` are those that are to be made (of a digest the one that its first item opened),
    ``leased`` those of them that are born this process's. ``variables`` is what the store adds for the
    templates of some of them. ``throttled`` were held back, with the reason; ``collected`` became
    items of a digest, with that delivery's id. The decisions that were kept say so, too.
    """

    inserted: frozenset[str] = frozenset()
    leased: frozenset[str] = frozenset()
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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

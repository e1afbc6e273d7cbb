"""Queries of people and of retention, and their results. All times are Unix seconds, UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.store.records import Attempt

#: What can be pruned: dead work; events that no route matched; bodies with fetched data; events with their history;
#: and marks, which are closed windows, expired mutes and pauses, and unused threads.
Prunable = Literal["dead", "unmatched", "bodies", "events", "marks"]


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event in a list.

    ``state`` discarded means that people discarded its dead evaluation. ``open`` and ``dead`` count deliveries.
    ``matched`` and ``unmatched_reason`` are those of the last evaluation; a dead evaluation has no unmatched reason.
    ``reason`` says why the event is pending or dead. ``copies`` counts further copies of the webhook, which were
    ignored. ``held`` counts its matches that were held back, by cause (see ``held_back``).
    """

    id: str
    kind: str
    rule_id: str | None
    received_at: float
    size: int
    repaired: bool
    state: Literal["pending", "routed", "dead", "discarded"]
    unmatched_reason: str | None
    matched: int
    open: int
    dead: int
    reason: str = ""
    copies: int = 0
    fallback: int | None = None
    held: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventDetail:
    """An event with its body, its fetched data, and the decisions of every evaluation (newest last).

    An evaluation has ``replays``, ``decided_at``, ``config_hash``, ``matched``, ``fallback``, ``unmatched_reason``
    and ``decisions`` (as in ``Routed``). ``attempts`` are evaluations that failed.
    """

    row: EventRow
    body: bytes | None
    fetched: Mapping[str, Any] | None
    evaluations: Sequence[Mapping[str, Any]]
    deliveries: Sequence[DeliveryRow]
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery in a list.

    ``attempts`` counts all attempts ever made. ``due_at`` is set while it waits. ``created_at`` is when it was first
    decided on, ``updated_at`` when its state last changed. ``items`` is the number of items of a digest.
    ``destination`` is the one that it waits for or was last sent to, empty if neither is known.
    """

    id: str
    event_id: str
    route: str
    action: str
    index: int
    run_id: str | None
    state: Literal["due", "running", "succeeded", "dead", "discarded"]
    attempts: int
    replays: int
    created_at: float
    updated_at: float
    due_at: float | None
    reason: str
    items: int = 0
    destination: str = ""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item of a digest: a run of an event (``index`` -1: the whole event)."""

    event_id: str
    index: int
    run_id: str | None


@dataclass(frozen=True, slots=True)
class DeliveryDetail:
    """A delivery with every attempt, oldest first.

    ``items`` are those of a digest, in the order in which they are sent. ``variables`` are the variables that its
    templates see besides the event; None if there are none or they are damaged.
    """

    row: DeliveryRow
    attempts: Sequence[Attempt]
    items: Sequence[ItemRow] = ()
    variables: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events to list, newest first. ``before`` is the event id at which the next page begins.

    ``error`` matches part of the reason why an evaluation is pending or dead, ignoring case.
    """

    kind: str | None = None
    rule_id: str | None = None
    state: str | None = None
    unmatched: bool | None = None
    event_id: str | None = None
    error: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries to list, newest first, or to replay.

    ``error`` matches part of the reason, ignoring case. ``since`` and ``until`` limit when the event was received;
    deliveries are ordered by that time, through the event's id. ``before`` is the delivery id at which the next page
    begins.
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
    """How much work waits: counts by kind and state, and since when the oldest is due (None: nothing is due).

    ``by_lane`` counts the deliveries waiting in each destination's queue, ``unassigned`` those in no queue. Neither
    counts claimed work. ``next_by_lane`` is when the first delivery of each queue is due.
    """

    evaluations: int = 0
    deliveries: int = 0
    dead: int = 0
    oldest_due_at: float | None = None
    by_route: Mapping[str, int] = field(default_factory=dict)
    by_lane: Mapping[str, int] = field(default_factory=dict)
    unassigned: int = 0
    next_by_lane: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Pruned:
    """The result of one step of pruning: how many were deleted, the last event looked at, and whether to go on."""

    count: int
    last: str
    more: bool


@dataclass(frozen=True, slots=True)
class Size:
    """How large the store is, in bytes.

    ``used`` is space in use, including the part of the write-ahead log beyond its usual size. ``spare`` is space inside
    the store that will be reused. ``free`` is the free space of the disk and ``disk`` its size; None if unknown.
    """

    used: int
    spare: int = 0
    free: int | None = None
    disk: int | None = None

"""What people and the retention ask the store for, and what they get. All times are Unix seconds, UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.store.records import Attempt

#: What can be pruned: dead letters; events that no route matched; bodies with what was fetched; events with their
#: history; and marks, which are closed windows, controls whose time is over and threads no longer used.
Prunable = Literal["dead", "unmatched", "bodies", "events", "marks"]


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as lists show it. ``state`` is pending, routed, dead, or discarded: its dead evaluation was given up.

    ``open`` and ``dead`` count deliveries.
    ``matched`` and ``unmatched_reason`` are those of the last evaluation; of one that is dead nobody
    knows that nothing matches. ``reason`` says why it is still pending, or dead. ``copies`` counts
    how many more times the webhook came, and was not acted on. ``held`` says what held back how many of its
    matches (see ``held.held_back``).
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
    """An event with its body, what hydration stored, and every evaluation's decisions (newest last).

    An evaluation has ``replays``, ``decided_at``, ``config_hash``, ``matched``, ``fallback``,
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
    ``items`` counts those of a digest. ``destination`` is the one that it waits for or was last sent to, empty where
    neither is known.
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
    """A digest's item as people see it: a run of an event (``index`` -1: the whole event)."""

    event_id: str
    index: int
    run_id: str | None


@dataclass(frozen=True, slots=True)
class DeliveryDetail:
    """A delivery with every attempt, oldest first.

    ``items`` are a digest's, in the order in which they are sent. ``variables`` is what its templates see beside the
    event, None where that is nothing, or damaged.
    """

    row: DeliveryRow
    attempts: Sequence[Attempt]
    items: Sequence[ItemRow] = ()
    variables: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events to list, newest first. ``before`` is an event id to page on from.

    ``error`` is a part of the reason why an evaluation is pending or dead, in any case of letters.
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

    ``by_lane`` counts the deliveries that wait in the queue of a known destination, ``unassigned`` those that wait
    in none. Neither counts what somebody has in hand. ``next_by_lane`` is when the first of such a queue is due.
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

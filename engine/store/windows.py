"""What stands before a delivery: one in so much time, or many in one. Pure; each store loads and writes the windows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, assert_never

from engine.store.packing import clean
from engine.store.records import Digest, Gate, Throttle, Work

Purpose = Literal["throttle", "digest"]
#: The events of one digest have at most so many bytes together, or there is but one: all are in memory at once.
DIGEST_BYTES = 16 * 2**20
#: By so many seconds a window may seem to have opened in the future: clocks of two writes differ, and are corrected.
_CLOCK_SLACK = 1.0


class WindowKey(NamedTuple):
    """What a window groups."""

    purpose: Purpose
    route: str
    action: str
    key: str


@dataclass(slots=True)
class Window:
    """A throttle's or a digest's open time. Times are Unix seconds.

    ``count`` is of those held back (throttle), or of the items (digest). ``holder`` is the delivery that took the
    throttle's slot, None once that died; or the one that a digest's items are collected for. ``bytes`` is how large
    the events of these items are together.
    """

    opened_at: float
    closes_at: float
    count: int
    holder: str | None
    bytes: int = 0

    def is_open(self, now: float) -> bool:
        """Whether it is not over yet. A clock that was set back must not make it last longer."""
        return self.opened_at - _CLOCK_SLACK <= now < self.closes_at


@dataclass(frozen=True, slots=True)
class Passed:
    """What a throttle lets through: ``deliver`` is to be made, and tells that ``told`` of its ``key`` were held back.

    ``variables`` is what its templates get to see.
    """

    deliver: Work
    variables: Mapping[str, Any]
    key: str
    told: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """Held back, and counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Collected:
    """An item of a digest; ``opened`` is that delivery where this is its first item."""

    delivery_id: str
    opened: Work | None


class Gates:
    """The windows that a batch of deliveries meets, and what becomes of them. Load, pass each through, write.

    ``collecting`` are the digests whose items may still be added to: waiting, and not begun. ``sizes`` are those of
    the events, in bytes.
    """

    def __init__(
        self,
        now: float,
        windows: Mapping[WindowKey, Window],
        collecting: Iterable[str],
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self._now = now
        self._windows = dict(windows)
        self._collecting = set(collecting)
        self._sizes = sizes or {}
        #: The events, by digest, whose bytes are counted already: many items may be of one.
        self._weighed: set[tuple[str, str]] = set()
        #: The windows to write; None: to delete.
        self.changed: dict[WindowKey, Window | None] = {}
        #: Items to keep: the digest's delivery, and the delivery each would have been alone.
        self.items: list[tuple[str, Work]] = []
        #: Digests that are full, and due at once.
        self.full: list[str] = []

    def meet(self, work: Work, gate: Gate) -> Passed | Throttled | Collected:
        """Pass one delivery through its gate."""
        if isinstance(gate, Throttle):
            return self._throttle(work, gate)
        if isinstance(gate, Digest):
            return self._collect(work, gate)
        assert_never(gate)

    def _throttle(self, work: Work, gate: Throttle) -> Passed | Throttled:
        key = window_key(work, gate)
        window = self._windows.get(key)
        if window is not None and window.is_open(self._now) and window.holder != work.id:
            if not work.replays:  # a replay was counted, or made, the first time
                window.count += 1
                self.changed[key] = window
            return Throttled(
                f"throttled: one was made at {_clock(window.opened_at)}, the next may be at {_clock(window.closes_at)}"
            )
        self._open(key, Window(self._now, self._now + gate.every, 0, work.id))
        since = None if window is None else datetime.fromtimestamp(window.opened_at, UTC).isoformat()
        told = window.count if window else 0
        return Passed(work, {"throttle": {"suppressed": told, "since": since}}, key.key, told)

    def _collect(self, work: Work, gate: Digest) -> Collected:
        key = window_key(work, gate)
        window, opened = self._with_room(key, work), None
        if window is None:
            opened = _digest_of(work, max(work.due_at, self._now + gate.every))
            window = Window(self._now, opened.due_at, 0, opened.id)
            self._collecting.add(opened.id)
        holder = window.holder or ""
        window.count += 1
        window.bytes += self._size(window, work)
        self._weighed.add((holder, work.event_id))
        self.items.append((holder, work))
        if window.count < gate.most:
            self._open(key, window)
        else:
            self._close(key, window)
        return Collected(holder, opened)

    def _with_room(self, key: WindowKey, work: Work) -> Window | None:
        """The digest that collects, if one does; one that would become too large is closed."""
        window = self._windows.get(key)
        if window is None or not window.is_open(self._now) or window.holder not in self._collecting:
            return None
        if window.bytes and window.bytes + self._size(window, work) > DIGEST_BYTES:
            self._close(key, window)
            return None
        return window

    def _size(self, window: Window, work: Work) -> int:
        """What a digest would grow by."""
        known = (window.holder or "", work.event_id) in self._weighed
        return 0 if known else self._sizes.get(work.event_id, 0)

    def _close(self, key: WindowKey, window: Window) -> None:
        self.changed[key] = None
        self._windows.pop(key, None)
        self.full.append(window.holder or "")

    def _open(self, key: WindowKey, window: Window) -> None:
        self._windows[key] = self.changed[key] = window


def window_key(work: Work, gate: Gate) -> WindowKey:
    """The window that a delivery's gate looks at, in text that every engine's columns take."""
    purpose: Purpose = "throttle" if isinstance(gate, Throttle) else "digest"
    return WindowKey(purpose, clean(work.route), clean(work.action), clean(gate.key))


def _digest_of(first: Work, due_at: float) -> Work:
    """The delivery that a first item opens. Its id is fixed by the item; a replay's is its own."""
    delivery_id = first.id
    if first.replays:
        digest = hashlib.blake2b(f"{first.id}\0{first.replays}".encode(), digest_size=10).hexdigest()
        delivery_id = first.id[:12] + digest
    return Work(
        delivery_id, first.kind, first.event_id, due_at, due_at, first.route, first.action, first.index, first.run_id
    )


@dataclass(frozen=True, slots=True)
class Amendments:
    """What a store adds to the decisions it keeps: which actions' deliveries did not follow after all, and why."""

    throttled: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    collected: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)

    def note(self, work: Work, met: Throttled | Collected) -> None:
        """Remember what became of one delivery."""
        place = (work.route, work.index)
        if isinstance(met, Throttled):
            self.throttled.setdefault(place, {})[work.action] = met.reason
        else:
            self.collected.setdefault(place, {})[work.action] = met.delivery_id

    def of(self, decisions: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The decisions with that added: ``skipped`` says why, ``collected`` names the digest's delivery."""
        if not (self.throttled or self.collected):
            return decisions
        return [self._amended(decision) for decision in decisions]

    def _amended(self, decision: Mapping[str, Any]) -> Mapping[str, Any]:
        place = (decision["route"], decision["index"])
        throttled, collected = self.throttled.get(place, {}), self.collected.get(place, {})
        if not (throttled or collected):
            return decision
        fires = [action for action in decision.get("fires", ()) if action not in throttled]
        skipped = {**decision.get("skipped", {}), **throttled}
        extra = {"fires": fires, "skipped": skipped, "collected": collected}
        return {**decision, **{key: value for key, value in extra.items() if value or key in decision}}


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")

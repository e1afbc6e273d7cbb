"""Throttles and digests of deliveries. Pure functions; the store loads and writes the windows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, assert_never

from engine.core.decisions import THROTTLED
from engine.store.packing import clean
from engine.store.records import Digest, Gate, Throttle, Work

Purpose = Literal["throttle", "digest"]
#: The events of one digest have at most this many bytes in total, because all are in memory at once. A digest of one
#: event may have more.
DIGEST_BYTES = 16 * 2**20
#: By how many seconds the opening of a window may lie in the future, because clocks are corrected between writes.
_CLOCK_SLACK = 1.0


class WindowKey(NamedTuple):
    """What identifies a window: the deliveries it covers."""

    purpose: Purpose
    route: str
    action: str
    key: str


@dataclass(slots=True)
class Window:
    """The time window of a throttle or a digest. Times are Unix seconds.

    ``count`` is the number of suppressed deliveries (throttle) or of items (digest). ``holder`` is the delivery
    that a throttle let through, None once it died; or the delivery of a digest. ``bytes`` is the total size of the
    events in the digest.
    """

    opened_at: float
    closes_at: float
    count: int
    holder: str | None
    bytes: int = 0

    def is_open(self, now: float) -> bool:
        """Whether the window is open at ``now``. A clock that was set back does not extend it."""
        return self.opened_at - _CLOCK_SLACK <= now < self.closes_at


@dataclass(frozen=True, slots=True)
class Passed:
    """A throttle let the delivery ``deliver`` through. It reports ``reported`` suppressed deliveries of its ``key``.

    ``variables`` are the template variables that say so.
    """

    deliver: Work
    variables: Mapping[str, Any]
    key: str
    reported: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """The delivery was suppressed and counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Collected:
    """The delivery became an item of the digest ``delivery_id``. ``opened`` is the digest if this is its first item."""

    delivery_id: str
    opened: Work | None


class Gates:
    """The windows that a batch of deliveries needs: the store loads them, applies each delivery, and writes them.

    ``collecting`` are the digests that still accept items: they wait, and no attempt has begun. ``sizes`` are the sizes
    of the events in bytes.
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
        #: Digest and event for which the size is counted already: several items may belong to one event.
        self._counted: set[tuple[str, str]] = set()
        #: The windows to write; None deletes the window.
        self.changed: dict[WindowKey, Window | None] = {}
        #: Items to store: the digest's delivery id, and the delivery that became the item.
        self.items: list[tuple[str, Work]] = []
        #: Full digests, which become due at once.
        self.full: list[str] = []

    def meet(self, work: Work, gate: Gate) -> Passed | Throttled | Collected:
        """Apply a throttle or digest to one delivery."""
        if isinstance(gate, Throttle):
            return self._throttle(work, gate)
        if isinstance(gate, Digest):
            return self._collect(work, gate)
        assert_never(gate)

    def _throttle(self, work: Work, gate: Throttle) -> Passed | Throttled:
        key = window_key(work, gate)
        window = self._windows.get(key)
        if window is not None and window.is_open(self._now) and window.holder != work.id:
            if not work.replays:  # a replayed delivery was counted the first time
                window.count += 1
                self.changed[key] = window
            return Throttled(
                f"{THROTTLED}one was made at {_clock(window.opened_at)}, the next may be at {_clock(window.closes_at)}"
            )
        self._open(key, Window(self._now, self._now + gate.every, 0, work.id))
        since = None if window is None else datetime.fromtimestamp(window.opened_at, UTC).isoformat()
        suppressed = window.count if window else 0
        return Passed(work, {"throttle": {"suppressed": suppressed, "since": since}}, key.key, suppressed)

    def _collect(self, work: Work, gate: Digest) -> Collected:
        key = window_key(work, gate)
        window, opened = self._open_digest(key, work), None
        if window is None:
            opened = _new_digest(work, max(work.due_at, self._now + gate.every))
            window = Window(self._now, opened.due_at, 0, opened.id)
            self._collecting.add(opened.id)
        holder = window.holder or ""
        window.count += 1
        window.bytes += self._size(window, work)
        self._counted.add((holder, work.event_id))
        self.items.append((holder, work))
        if window.count < gate.most:
            self._open(key, window)
        else:
            self._close(key, window)
        return Collected(holder, opened)

    def _open_digest(self, key: WindowKey, work: Work) -> Window | None:
        """The window of the open digest, if there is one. A digest that would become too large is closed."""
        window = self._windows.get(key)
        if window is None or not window.is_open(self._now) or window.holder not in self._collecting:
            return None
        if window.bytes and window.bytes + self._size(window, work) > DIGEST_BYTES:
            self._close(key, window)
            return None
        return window

    def _size(self, window: Window, work: Work) -> int:
        """By how many bytes the item adds to a digest."""
        known = (window.holder or "", work.event_id) in self._counted
        return 0 if known else self._sizes.get(work.event_id, 0)

    def _close(self, key: WindowKey, window: Window) -> None:
        self.changed[key] = None
        self._windows.pop(key, None)
        self.full.append(window.holder or "")

    def _open(self, key: WindowKey, window: Window) -> None:
        self._windows[key] = self.changed[key] = window


def window_key(work: Work, gate: Gate) -> WindowKey:
    """The key of the window of a delivery's throttle or digest, cleaned for text columns."""
    purpose: Purpose = "throttle" if isinstance(gate, Throttle) else "digest"
    return WindowKey(purpose, clean(work.route), clean(work.action), clean(gate.key))


def _new_digest(first: Work, due_at: float) -> Work:
    """The digest that a first item opens. Its id is derived from the item; a replay gets another id."""
    delivery_id = first.id
    if first.replays:
        digest = hashlib.blake2b(f"{first.id}\0{first.replays}".encode(), digest_size=10).hexdigest()
        delivery_id = first.id[:12] + digest
    return Work(
        delivery_id, first.kind, first.event_id, due_at, due_at, first.route, first.action, first.index, first.run_id
    )


@dataclass(frozen=True, slots=True)
class Amendments:
    """What the store adds to decisions: which actions were throttled or collected, and why."""

    throttled: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    collected: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)

    def note(self, work: Work, met: Throttled | Collected) -> None:
        """Record what happened to one delivery."""
        place = (work.route, work.index)
        if isinstance(met, Throttled):
            self.throttled.setdefault(place, {})[work.action] = met.reason
        else:
            self.collected.setdefault(place, {})[work.action] = met.delivery_id

    def of(self, decisions: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The amended decisions: ``skipped`` has the reason, ``collected`` the digest's delivery id."""
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

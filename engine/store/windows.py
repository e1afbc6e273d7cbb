"""Throttles and digests of deliveries. Pure functions; the store loads and writes the windows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from engine.core.decisions import THROTTLED
from engine.store.packing import clean
from engine.store.records import Digest, Gate, Routed, Throttle, Work

#: The events of one digest have at most this many bytes in total, because all are in memory at once. A digest of one
#: event may have more.
DIGEST_BYTES = 16 * 2**20
#: By how many seconds the opening of a window may lie in the future, because clocks are corrected between writes.
_CLOCK_SLACK = 1.0


class WindowKey(NamedTuple):
    """What identifies a window: the deliveries it covers."""

    purpose: Literal["throttle", "digest"]
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


class Met(NamedTuple):
    """What becomes of a delivery.

    ``insert`` is the new work, if any: the delivery itself, or the digest that it opened. ``throttled`` says why it was
    suppressed. ``collected`` is the digest of which it became an item. A delivery that a throttle let through reports
    ``reported`` suppressed deliveries of its ``key``.
    """

    insert: Work | None = None
    throttled: str = ""
    collected: str = ""
    key: str | None = None
    reported: int = 0


class Gates:
    """The windows that a batch of deliveries needs: the store loads them, applies each delivery, and writes them.

    ``collecting`` are the digests that still accept items: they wait, and no attempt has begun. ``sizes`` are the sizes
    of the events in bytes.
    """

    def __init__(
        self, now: float, windows: Mapping[WindowKey, Window], collecting: Iterable[str], sizes: Mapping[str, int]
    ) -> None:
        self._now, self._windows, self._collecting, self._sizes = now, dict(windows), set(collecting), sizes
        #: Digest and event for which the size is counted already: several items may belong to one event.
        self._counted: set[tuple[str, str]] = set()
        #: The windows to write; None deletes the window.
        self.changed: dict[WindowKey, Window | None] = {}
        #: Items to store: the digest's delivery id, and the delivery that became the item.
        self.items: list[tuple[str, Work]] = []
        #: Full digests, which become due at once.
        self.full: list[str] = []

    def meet(self, work: Work, gate: Gate) -> Met:
        """Apply a throttle or digest to one delivery."""
        return self._throttle(work, gate) if isinstance(gate, Throttle) else self._collect(work, gate)

    def _throttle(self, work: Work, gate: Throttle) -> Met:
        key = window_key(work, gate)
        window = self._windows.get(key)
        if window is not None and window.is_open(self._now) and window.holder != work.id:
            if not work.replays:  # a replayed delivery was counted the first time
                window.count += 1
                self.changed[key] = window
            opened, closes = (
                f"{datetime.fromtimestamp(at, UTC):%H:%M:%S UTC}" for at in (window.opened_at, window.closes_at)
            )
            return Met(throttled=f"{THROTTLED}one was made at {opened}, the next may be at {closes}")
        self._windows[key] = self.changed[key] = Window(self._now, self._now + gate.every, 0, work.id)
        since = None if window is None else datetime.fromtimestamp(window.opened_at, UTC).isoformat()
        suppressed = window.count if window else 0
        variables = {"throttle": {"suppressed": suppressed, "since": since}}
        return Met(replace(work, variables=variables), key=key.key, reported=suppressed)

    def _collect(self, work: Work, gate: Digest) -> Met:
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
            self._windows[key] = self.changed[key] = window
        else:
            self._close(key, window)
        return Met(opened, collected=holder)

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


def window_key(work: Work, gate: Gate) -> WindowKey:
    """The key of the window of a delivery's throttle or digest, cleaned for text columns."""
    purpose: Literal["throttle", "digest"] = "throttle" if isinstance(gate, Throttle) else "digest"
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


def amended(routed: Routed, met: Mapping[str, Met]) -> Sequence[Mapping[str, Any]]:
    """The decisions with what throttles and digests did.

    ``skipped`` gets the reason why an action was throttled, ``collected`` the digest's delivery id.
    """
    changes: dict[tuple[str, int], list[tuple[str, Met]]] = {}
    for work in routed.deliveries:
        changes.setdefault((work.route, work.index), []).append((work.action, met[work.id]))
    return [_amended(one, changes.get((one["route"], one["index"]), ())) for one in routed.decisions]


def _amended(decision: Mapping[str, Any], changes: Sequence[tuple[str, Met]]) -> Mapping[str, Any]:
    throttled = {action: met.throttled for action, met in changes if met.throttled}
    collected = {action: met.collected for action, met in changes if met.collected}
    if not (throttled or collected):
        return decision
    fires = [action for action in decision.get("fires", ()) if action not in throttled]
    extra = {"fires": fires, "skipped": {**decision.get("skipped", {}), **throttled}, "collected": collected}
    return {**decision, **{key: value for key, value in extra.items() if value or key in decision}}

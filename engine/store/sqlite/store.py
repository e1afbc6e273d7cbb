"""The store in one SQLite file. Each operation runs on the writer's or a reader's thread."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.core.batches import batches
from engine.core.errors import StoreError
from engine.core.event import Event
from engine.store.encryption import Keyring, fingerprints
from engine.store.packing import clean
from engine.store.protocol import CLAIM_BYTES, PRUNED_BYTES, PRUNED_ROWS
from engine.store.queries import Prunable, Pruned, Size
from engine.store.records import (
    Again,
    Appended,
    Attempt,
    Claimed,
    ClaimResult,
    Control,
    Dead,
    Routed,
    Settled,
    Work,
    WorkKind,
)
from engine.store.sqlite import claim, leases, load, named_values, prune, query_deliveries, query_events, settle
from engine.store.sqlite.append import Append, append
from engine.store.sqlite.connection import make_directory, prepare
from engine.store.sqlite.fetched import pieces_of, save_fetched
from engine.store.sqlite.lock import FileLock
from engine.store.sqlite.manual_changes import AT_ONCE, PeoplesOperations
from engine.store.sqlite.reader import Reader
from engine.store.sqlite.writer import Operation, operation

#: For how many seconds work is postponed if its event is encrypted with a missing key.
_KEY_PAUSE = 300.0


class SqliteStore(PeoplesOperations):
    """A ``Store`` (see ``protocol``) in one file, for one process at a time.

    One thread writes, in group commits. One thread reads for the worker and another one for people, so that none
    waits for another. Operations may be called from any event loop. An instance can be opened only once.
    """

    def __init__(
        self, path: Path, *, owner: str | None, clock: Callable[[], float], keyring: Keyring | None, max_values: int
    ) -> None:
        super().__init__(path, keyring, clock)
        self._path, self._keyring, self.max_values = path, keyring, max_values
        self.owner = owner or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.commits = self._writer.commits
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._work = Reader(path, "work", keyring)
        self._logger = logging.getLogger(__name__)
        self._loading: set[str] = set()
        self._fingerprint_keys: tuple[bytes, ...] = ()
        self._append = Operation(partial(append, clock), mergeable=True, abandon=self._abandon_append)
        self._save_fetched = Operation(save_fetched, mergeable=True)
        self._claim = Operation(
            partial(claim.claim, self.owner, clock), abandon=lambda _claim, taken: self._give_back(taken.ids)
        )
        self._settle_attempts = Operation(partial(settle.settle_attempts, self.owner, clock), mergeable=True)
        self._settle_routed = Operation(
            partial(settle.settle_routed, self.owner, clock),
            mergeable=True,
            abandon=lambda _routed, settled: self._give_back(sorted(settled.leased)),
        )

    async def open(self) -> None:
        """Lock the file, create or check the schema, and make the work due that the last process had claimed."""
        await asyncio.to_thread(self._open)
        try:
            await self._do(leases.register, self.owner, now=self._clock())
            seed = await self._do(named_values.fingerprint_key)
            self._fingerprint_keys = (*(self._keyring.derive(seed) if self._keyring else ()), seed)
        except BaseException:
            await asyncio.to_thread(self._close)
            raise

    async def close(self) -> None:
        """Commit what was submitted, release claimed work, and unlock the file. A second call does nothing."""
        try:
            if self._writer.is_open:
                await self._do(leases.unregister, now=self._clock())
        except StoreError as error:
            self._logger.warning("the store was not closed cleanly; the next start recovers it: %s", error)
        finally:
            await asyncio.to_thread(self._close)

    # Events and work

    def append(self, event: Event, *, leased: bool) -> asyncio.Future[Appended]:
        """Store an event and its evaluation."""
        request = Append(event, self.owner if leased else None)
        return self._writer.submit(self._append, request, len(event.body))

    async def settle_routed(self, routed: Routed) -> Settled:
        """Record the result of routing."""
        return await self._writer.do(self._settle_routed, routed)

    async def settle_attempt(
        self, work: Work, attempt: Attempt, then: Again | Dead | None, *, on_dead: Sequence[Work] = ()
    ) -> bool:
        """Record an attempt and its consequence."""
        return await self._writer.do(self._settle_attempts, settle.Settle(work, attempt, then, on_dead))

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
        """Claim due work, oldest first. If anything fails or is cancelled, the claimed work is released."""
        request = claim.Claim(now, limit, max_bytes, kind, capacity or {}, paused, reopened)
        taken = await self._writer.do(self._claim, request)
        self._loading.update(taken.ids)
        try:
            pieces = await self._load(taken.ids, now, max_fetched) if taken.ids else ()
            return ClaimResult(pieces, taken.remaining, taken.skipped, taken.emptied)
        except BaseException:
            self._give_back(taken.ids)
            raise
        finally:
            self._loading.difference_update(taken.ids)

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
        """Release work without counting an attempt."""
        await self._do(
            leases.release,
            self.owner,
            ids,
            due_at=due_at,
            now=self._clock(),
            lane=lane,
            reason=reason,
            uncounted=uncounted,
            until=until,
            target=target,
        )

    async def make_due(self, waits_for: str, *, now: float) -> int:
        """Make due what is postponed for a reason."""
        return await self._make_due(await self._work.ask(leases.put_off, waits_for, now), now)

    async def make_lane_due(self, lane: str, *, now: float) -> int:
        """Make due what waits for another attempt at a destination."""
        return await self._make_due(await self._work.ask(leases.retried, lane, now), now)

    async def _make_due(self, ids: Sequence[str], now: float) -> int:
        for batch in batches(ids, AT_ONCE):
            await self._do(leases.make_due, ids=batch, now=now)
        return len(ids)

    async def make_changed_due(self, targets: Mapping[tuple[str, str], str], *, now: float) -> Mapping[str, int]:
        """Make due what waits for a destination that the configuration no longer names."""
        known = [
            (clean(route), clean(action), fingerprints(self._fingerprint_keys, target))
            for (route, action), target in targets.items()
        ]
        found = await self._work.ask(leases.changed, known)
        lanes: Counter[str] = Counter()
        for batch in batches(found, AT_ONCE):
            lanes.update(await self._do(leases.make_changed_due, found=batch, now=now))
        return lanes

    async def next_due(self, *, kind: WorkKind | None = None, paused: Collection[str] = ()) -> float | None:
        """When unowned work outside the paused lanes is due next."""
        return await self._work.ask(claim.next_due, kind=kind, paused=paused)

    async def save_fetched(self, event_id: str, fetched: Mapping[str, Any]) -> None:
        """Store the data that hydration fetched for an event."""
        for pieces in pieces_of(event_id, fetched):
            await self._writer.do(self._save_fetched, pieces, sum(len(piece.data) for piece in pieces))

    async def decisions(self, event_id: str, replays: int) -> Sequence[Mapping[str, Any]]:
        """The evaluations of one replay of an event."""
        return await self._work.ask(query_events.evaluations, event_id, replays)

    async def progress(self, delivery_id: str) -> Mapping[str, Any]:
        """What the last attempts at a delivery recorded."""
        return await self._work.ask(query_deliveries.progress_of, delivery_id)

    async def heartbeat(self, *, now: float, holding: Collection[str] | None = None) -> None:
        """Record that this replica is alive, and release what it owns but does not hold in memory."""
        known = None if holding is None else [*holding, *self._loading]
        orphans = await self._do(leases.heartbeat, self.owner, now=now, holding=known)
        if orphans:
            self._logger.warning("work that was claimed but not held in memory is due again", extra={"work": orphans})

    async def controls(self) -> Sequence[Control]:
        """The mutes and pauses in force."""
        return await self._work.ask(named_values.controls, now=self._clock())

    def fingerprint(self, text: str) -> str:
        """A keyed hash of a text."""
        return fingerprints(self._fingerprint_keys, text)[0]

    async def thread(self, subject: str) -> str | None:
        """The first message of a thread."""
        return await self._work.ask(named_values.thread, fingerprints(self._fingerprint_keys, subject))

    async def save_thread(self, subject: str, first: str | None) -> None:
        """Store the first message, or forget the thread."""
        names = fingerprints(self._fingerprint_keys, subject)
        await self._do(named_values.save_thread, names=names, first=first, now=self._clock())

    async def note(self, name: str) -> str | None:
        """A note's text."""
        return await self._work.ask(named_values.note, name)

    async def save_note(self, name: str, text: str) -> None:
        """Store a note."""
        await self._do(named_values.save_note, name=name, text=text)

    async def set_control(self, control: Control) -> None:
        """Store a mute or pause."""
        await self._do(named_values.set_control, control=control)

    async def remove_control(self, kind: str, subject: str) -> bool:
        """Remove a mute or pause."""
        return await self._do(named_values.remove_control, kind=kind, subject=subject)

    # Retention

    async def prune(
        self,
        what: Prunable,
        *,
        before: float,
        after: str = "",
        limit: int = PRUNED_ROWS,
        max_bytes: int = PRUNED_BYTES,
    ) -> Pruned:
        """One step of deleting what is old."""
        if what == "marks":
            windows = await self._work.ask(prune.find_windows, before=before, limit=limit)
            count, whole = await self._do(prune.remove_marks, before=before, windows=windows, limit=limit)
            return Pruned(count, after, more=not whole)
        ids, last, more = await self._work.ask(
            prune.find, what=what, before=before, after=after, limit=limit, max_bytes=max_bytes
        )
        if not ids:
            return Pruned(0, last, more)
        count, whole = await self._do(prune.remove, what=what, ids=ids, before=before, limit=limit)
        return Pruned(count, last, more) if whole else Pruned(count, after, more=True)

    async def size(self) -> Size:
        """The size of the file and its log, and the free space of the disk."""
        return await self._work.ask(prune.size, self._path)

    async def shrink(self, *, max_bytes: int = PRUNED_BYTES) -> int:
        """Shorten the file by part of its unused space."""
        return await self._do(prune.shrink, max_bytes=max_bytes)

    # Internals

    def _open(self) -> None:
        make_directory(self._path)
        try:
            self._lock.acquire()
        except OSError as error:
            raise StoreError(f"{self._path} cannot be locked: {error.strerror}") from error
        try:
            prepare(self._path, self._keyring)
        except BaseException:
            self._lock.release()
            raise
        for thread in (self._writer, self._work, self._people):
            thread.start()

    def _close(self) -> None:
        self._work.stop()
        self._people.stop()
        self._writer.stop()
        self._lock.release()

    async def _load(self, ids: Sequence[str], now: float, max_fetched: int) -> Sequence[Claimed]:
        loaded = await self._work.ask(load.load_claimed, self.owner, ids, self.max_values, max_fetched)
        if loaded.unreadable:
            await self._do(leases.mark_dead, self.owner, reasons=loaded.unreadable, now=now)
            for work_id, reason in loaded.unreadable.items():
                self._logger.error(
                    "work is dead because its event cannot be read", extra={"work": work_id, "reason": reason}
                )
        if loaded.missing_key:
            reason = next(iter(loaded.missing_key.values()))
            self._logger.error("work waits for a key", extra={"work": len(loaded.missing_key), "reason": reason})
            later = now + _KEY_PAUSE
            await self.release(list(loaded.missing_key), due_at=later, reason=reason, uncounted=_KEY_PAUSE)
        return loaded.claimed

    def _abandon_append(self, request: Append, appended: Appended) -> None:
        """Release the evaluation of an event whose caller was cancelled, so that it can be claimed."""
        if request.owner is not None and not appended.duplicate:
            self._give_back([appended.event_id])

    def _give_back(self, ids: Sequence[str]) -> None:
        """Make work of this process due whose caller was cancelled."""
        now = self._clock()
        self._writer.post(operation(leases.release, self.owner, ids, due_at=now, now=now), None)

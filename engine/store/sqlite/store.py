"""The store in one SQLite file: the verbs, each of which the writer or a reader carries out."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.core.errors import BadQuestion, StoreError
from engine.core.event import Event
from engine.store.commits import Commits
from engine.store.encryption import Keyring, fingerprints
from engine.store.packing import clean
from engine.store.protocol import CLAIM_BYTES, PRUNED_BYTES, PRUNED_ROWS
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
from engine.store.sqlite import append as appends
from engine.store.sqlite import claim as claims
from engine.store.sqlite import controls, leases, prune, replay, settle, threads
from engine.store.sqlite.connection import disk_of, make_directory, prepare
from engine.store.sqlite.fetched import pieces_of, save_fetched
from engine.store.sqlite.lock import FileLock
from engine.store.sqlite.query_deliveries import list_deliveries, one_delivery, progress_of
from engine.store.sqlite.query_events import backlog, decisions, last_attempts, list_events, muted_events, one_event
from engine.store.sqlite.reader import Reader
from engine.store.sqlite.writer import Operation, Writer

#: How long work waits whose event is sealed with a key that is not there, in seconds.
_KEY_PAUSE = 300.0
#: Deliveries of very many to be replayed are read, and made due, in pieces of so many.
_PAGE, _REPLAYED_AT_ONCE = 1000, 200
_EVENT_STATES = ("pending", "routed", "dead", "discarded")
_DELIVERY_STATES = ("due", "running", "succeeded", "dead", "discarded")


class SqliteStore:
    """A ``Store`` (see ``protocol``) in one file, for one process at a time.

    One thread writes, in group commits; one reads for the worker, one for people, so that none
    waits for another. Verbs may be called from any event loop. It is opened once.
    """

    def __init__(
        self, path: Path, *, owner: str | None, clock: Callable[[], float], keyring: Keyring, max_values: int
    ) -> None:
        self._path, self._keyring = path, keyring
        self._owner = owner or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._clock, self._max_values = clock, max_values
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._writer = Writer(path, keyring)
        self._work = Reader(path, "work", keyring)
        self._people = Reader(path, "people", keyring)
        self._logger = logging.getLogger(__name__)
        self._loading: set[str] = set()
        self._fingerprint_keys: tuple[bytes, ...] = ()
        self._append = Operation(partial(appends.append, clock), mergeable=True, compensate=self._compensate_append)
        self._save_fetched = Operation(save_fetched, mergeable=True)
        self._claim = Operation(
            partial(claims.claim, self._owner, clock),
            compensate=lambda _claim, taken: self._release_operation(taken.ids),
        )
        self._settle_attempts = Operation(partial(settle.settle_attempts, self._owner, clock), mergeable=True)
        self._settle_routed = Operation(
            partial(settle.settle_routed, self._owner, clock), mergeable=True, compensate=self._compensate_routed
        )

    @property
    def owner(self) -> str:
        """This replica's name."""
        return self._owner

    @property
    def max_values(self) -> int:
        """How many values a body may have to be parsed."""
        return self._max_values

    @property
    def commits(self) -> Commits:
        """How long its transactions take."""
        return self._writer.commits

    async def open(self) -> None:
        """Lock the file, make or check the schema, make due what was in flight when the last process ended."""
        await asyncio.to_thread(self._open)
        try:
            await self._do(partial(leases.register, self._owner), now=self._clock())
            self._fingerprint_keys = self._keyring.derive(await self._do(controls.fingerprint_key))
        except BaseException:
            await asyncio.to_thread(self._close)
            raise

    async def close(self) -> None:
        """Commit what was handed in, give back what is held, let go of the file. A second time does nothing."""
        try:
            if self._writer.is_open:
                await self._do(partial(leases.unregister, self._owner), now=self._clock())
        except StoreError as error:
            self._logger.warning("the store was left as after a crash, which the next start puts right: %s", error)
        finally:
            await asyncio.to_thread(self._close)

    # Events come in and go through

    def append(self, event: Event, *, leased: bool) -> asyncio.Future[Appended]:
        """Keep an event and the evaluation it is due."""
        request = appends.Append(event, self._owner if leased else None)
        return self._writer.submit(self._append, request, len(event.body))

    async def settle_routed(self, routed: Routed) -> Settled:
        """Record what routing came to."""
        settled: Settled = await self._writer.do(self._settle_routed, routed)
        return settled

    async def settle_attempt(
        self, work: Work, attempt: Attempt, then: Again | Dead | None, *, on_dead: Sequence[Work] = ()
    ) -> bool:
        """Record an attempt and what follows."""
        mine: bool = await self._writer.do(self._settle_attempts, settle.Settle(work, attempt, then, on_dead))
        return mine

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
        """Take due work, oldest first. Whatever comes between, what can't be handed out goes back."""
        request = claims.Claim(now, limit, max_bytes, kind, capacity or {}, paused, reopened)
        taken: claims.Taken = await self._writer.do(self._claim, request)
        self._loading.update(taken.ids)
        try:
            pieces = await self._load(taken.ids, now, max_fetched) if taken.ids else ()
            return ClaimResult(pieces, taken.remaining, taken.skipped, taken.emptied)
        except BaseException:
            self._writer.post(*self._release_operation(taken.ids))
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
        """Give work back without spending an attempt."""
        where = {"lane": lane, "reason": reason, "uncounted": uncounted, "until": until, "target": target}
        await self._writer.do(*self._release_operation(ids, due_at, **where))

    async def make_due(self, waits_for: str, *, now: float) -> int:
        """Make due what is put off for a reason."""
        return await self._make_due(await self._work.ask(leases.put_off, waits_for, now), now)

    async def make_lane_due(self, lane: str, *, now: float) -> int:
        """Make due what waits for another attempt at a destination."""
        return await self._make_due(await self._work.ask(leases.retried, lane, now), now)

    async def _make_due(self, ids: Sequence[str], now: float) -> int:
        for batch in _batches(ids, _REPLAYED_AT_ONCE):
            await self._do(leases.make_due, ids=batch, now=now)
        return len(ids)

    async def make_changed_due(self, targets: Mapping[tuple[str, str], str], *, now: float) -> Mapping[str, int]:
        """Make due what waits for a destination that the configuration names no more."""
        known = [
            (clean(route), clean(action), fingerprints(self._fingerprint_keys, target))
            for (route, action), target in targets.items()
        ]
        found = await self._work.ask(leases.changed, known)
        lanes: Counter[str] = Counter()
        for start in range(0, len(found), _REPLAYED_AT_ONCE):
            batch = found[start : start + _REPLAYED_AT_ONCE]
            lanes.update(await self._do(leases.make_changed_due, found=batch, now=now))
        return lanes

    async def next_due(self, *, kind: WorkKind | None = None, paused: Collection[str] = ()) -> float | None:
        """When the next unowned work falls due that waits in no paused lane."""
        return await self._work.ask(claims.next_due, kind=kind, paused=paused)

    async def save_fetched(self, event_id: str, fetched: Mapping[str, Any]) -> None:
        """Store with the event what hydration fetched."""
        for pieces in pieces_of(event_id, fetched):
            await self._writer.do(self._save_fetched, pieces, sum(len(piece.data) for piece in pieces))

    async def decisions(self, event_id: str, replays: int) -> Sequence[Mapping[str, Any]]:
        """The evaluations of one round of an event."""
        return await self._work.ask(decisions, event_id, replays)

    async def progress(self, delivery_id: str) -> Mapping[str, Any]:
        """What the last attempts at a delivery noted."""
        return await self._work.ask(progress_of, delivery_id)

    async def heartbeat(self, *, now: float, holding: Collection[str] | None = None) -> None:
        """Tell that this replica lives, and free what it owns but does not hold."""
        known = None if holding is None else [*holding, *self._loading]
        orphans: list[str] = await self._do(partial(leases.heartbeat, self._owner), now=now, holding=known)
        if orphans:
            self._logger.warning("work that nobody had in hand is due again", extra={"work": orphans})

    async def controls(self) -> Sequence[Control]:
        """What is held back at the moment."""
        return await self._work.ask(controls.alive, now=self._clock())

    def fingerprint(self, text: str) -> str:
        """A keyed hash of a text."""
        return fingerprints(self._fingerprint_keys, text)[0]

    async def thread(self, subject: str) -> str | None:
        """A thread's first message."""
        return await self._work.ask(threads.find, fingerprints(self._fingerprint_keys, subject))

    async def save_thread(self, subject: str, first: str | None) -> None:
        """Keep it, or forget the thread."""
        names = fingerprints(self._fingerprint_keys, subject)
        await self._do(threads.put, names=names, first=first, now=self._clock())

    async def note(self, name: str) -> str | None:
        """A small fact."""
        return await self._work.ask(controls.note, name)

    async def save_note(self, name: str, text: str) -> None:
        """Keep one."""
        await self._do(controls.save_note, name=name, text=text)

    async def set_control(self, control: Control) -> None:
        """Hold something back."""
        await self._do(controls.put, control=control)

    async def remove_control(self, kind: str, subject: str) -> bool:
        """Let something go again."""
        removed: bool = await self._do(controls.remove, kind=kind, subject=subject)
        return removed

    # People

    async def replay_deliveries(self, query: DeliveryQuery, *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make deliveries due again."""
        _check_state(query.state, _DELIVERY_STATES)
        ids = await self._replayable(query)
        if dry_run:
            return ids
        done: list[str] = []
        for batch in _batches(ids, _REPLAYED_AT_ONCE):
            page = replace(query, ids=batch, limit=len(batch), before=None)
            done += await self._do(replay.replay_deliveries, query=page, now=now)
        return done

    async def _replayable(self, query: DeliveryQuery) -> list[str]:
        """Page by page, so that neither the writer nor other people wait for all of very many."""
        ids: list[str] = []
        left, before = max(query.limit, 0), query.before
        while left > 0:
            page = replace(query, limit=min(left, _PAGE), before=before)
            found, last = await self._people.ask(replay.replayable, page)
            ids += found
            left, before = (left - _PAGE, last) if last else (0, None)
        return ids

    async def replay_events(self, ids: Sequence[str], *, now: float, dry_run: bool = False) -> Sequence[str]:
        """Make events due for evaluation again."""
        found: list[str] = await self._do(replay.replay_events, ids=ids, now=now, dry_run=dry_run)
        return found

    async def discard(self, ids: Sequence[str], *, now: float, by: str, reason: str = "") -> Sequence[str]:
        """Give up what is dead."""
        told = {"now": now, "by": by, "reason": reason}
        done = [await self._do(replay.discard, ids=some, **told) for some in _batches(ids, _REPLAYED_AT_ONCE)]
        return [one for some in done for one in some]

    async def events(self, query: EventQuery) -> Sequence[EventRow]:
        """Events, newest first."""
        _check_state(query.state, _EVENT_STATES)
        return await self._people.ask(list_events, query)

    async def event(self, event_id: str) -> EventDetail | None:
        """One event whole."""
        return await self._people.ask(one_event, event_id)

    async def deliveries(self, query: DeliveryQuery) -> Sequence[DeliveryRow]:
        """Deliveries, newest first."""
        _check_state(query.state, _DELIVERY_STATES)
        return await self._people.ask(list_deliveries, query)

    async def delivery(self, delivery_id: str) -> DeliveryDetail | None:
        """One delivery whole."""
        return await self._people.ask(one_delivery, delivery_id)

    async def backlog(self) -> Backlog:
        """How much waits."""
        return await self._people.ask(backlog, now=self._clock())

    async def muted_events(self, route: str, *, since: float) -> Sequence[str]:
        """Events of which a mute of this route held back matches."""
        return await self._people.ask(muted_events, route, since=since)

    async def last_attempts(self, *, since: float) -> Mapping[str, tuple[float, str]]:
        """By destination, when the last attempt at it began, and why it failed."""
        return await self._people.ask(last_attempts, since=since)

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
        find = partial(prune.find, what=what, before=before, after=after, limit=limit, max_bytes=max_bytes)
        found = await self._work.ask(find)
        remove = partial(prune.remove, what=what, ids=found.ids, before=before, limit=limit)
        count, whole = await self._do(remove) if found.ids else (0, True)
        return Pruned(count, found.last, found.more) if whole else Pruned(count, after, more=True)

    async def size(self) -> Size:
        """How large the file is, with its log, and what the disk has left."""
        used, spare = await self._work.ask(prune.page_sizes)
        try:
            log, free, disk = await asyncio.to_thread(disk_of, self._path)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be looked at: {error.strerror}") from error
        return Size(used + log, spare, free, disk)

    async def shrink(self, *, max_bytes: int = PRUNED_BYTES) -> int:
        """Make the file shorter by a piece of what is spare."""
        given_back: int = await self._do(prune.shrink, max_bytes=max_bytes)
        return given_back

    # Below the verbs

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

    async def _do(self, verb: Callable[..., Any], **arguments: Any) -> Any:
        """One of the quieter verbs, in its turn on the writer's thread."""
        return await self._writer.do(_operation(verb, arguments), None)

    async def _load(self, ids: Sequence[str], now: float, max_fetched: int) -> Sequence[Claimed]:
        bounds = leases.LoadLimits(self._max_values, max_fetched)
        loaded = await self._work.ask(leases.load_claimed, owner=self._owner, ids=ids, bounds=bounds)
        if loaded.unreadable:
            await self._do(partial(leases.mark_dead, self._owner), reasons=loaded.unreadable, now=now)
            for work_id, reason in loaded.unreadable.items():
                self._logger.error("work is dead, as its event is lost", extra={"work": work_id, "reason": reason})
        if loaded.sealed:
            await self._put_off(loaded.sealed, now)
        return loaded.claimed

    async def _put_off(self, sealed: Mapping[str, str], now: float) -> None:
        """Put off work whose event needs a missing key."""
        reason = next(iter(sealed.values()))
        self._logger.error("work waits for a key", extra={"work": len(sealed), "reason": reason})
        await self.release(list(sealed), due_at=now + _KEY_PAUSE, reason=reason, uncounted=_KEY_PAUSE)

    def _release_operation(
        self, ids: Sequence[str], due_at: float | None = None, **where: Any
    ) -> tuple[Operation, None]:
        """What makes work of ours due, at once or later."""
        now = self._clock()
        arguments = {"ids": ids, "due_at": now if due_at is None else due_at, "now": now, **where}
        return _operation(partial(leases.release, self._owner), arguments), None

    def _compensate_append(self, request: appends.Append, appended: Appended) -> tuple[Operation, None] | None:
        """An event that was kept for nobody to route: whoever claims shall have it."""
        if request.owner is None or appended.duplicate:
            return None
        return self._release_operation([appended.event_id])

    def _compensate_routed(self, _routed: Routed, settled: Settled) -> tuple[Operation, None] | None:
        """Deliveries born in the hands of somebody who is gone."""
        return self._release_operation(sorted(settled.leased)) if settled.leased else None


def _operation(verb: Callable[..., Any], arguments: Mapping[str, Any]) -> Operation:
    return Operation(lambda db, _requests: [verb(db, **arguments)])


def _batches(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _check_state(state: str | None, known: Sequence[str]) -> None:
    if state is not None and state not in known:
        raise BadQuestion(f"{state!r} is not a state; known are: {', '.join(known)}")

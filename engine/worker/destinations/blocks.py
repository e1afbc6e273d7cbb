"""Blocks of destinations: of a single URL or credential, and what is reported and stored of any block."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import urlsplit

from engine.action.failures import Health, Scope
from engine.clients.limits import LimitTable
from engine.core.masking import Masker
from engine.store.records import Control
from engine.worker.context import Context
from engine.worker.destinations.circuit import Block, is_kind
from engine.worker.destinations.destination import Destination, NotAdmitted
from engine.worker.destinations.messages import cause
from engine.worker.destinations.table import DestinationTable

#: The longest name, and the longest part of a URL that a name shows, in characters.
_MAX_NAME, _MAX_SHOWN = 200, 160
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
#: How long a stop waits for pending writes, in seconds.
_FLUSH_TIMEOUT = 2.0
#: A pause longer than this many seconds survives a restart.
LONG_PAUSE = 30.0
#: A pause that ends at most this many seconds later than the reported one is not reported again.
_SAME_PAUSE = 1.0


class ScopedBlocks:
    """Each is a blocked destination of its own, in whose queue the deliveries wait. It has no attempts of its own.

    When the block ends, or on request, one attempt at a time finds out whether it still holds.
    """

    def __init__(self, table: DestinationTable, fingerprint: Callable[[str], str]) -> None:
        """``fingerprint`` is a keyed hash, so that the name of a credential does not help to guess it."""
        self._table, self._fingerprint = table, fingerprint
        #: Their names. Making the names of an attempt is too expensive if there are none.
        self.blocked: set[str] = set()

    def names(self, destination: Destination, scope: Scope, masker: Masker) -> tuple[str, str]:
        """The names of what a 410 blocks and of what a 401 blocks: a URL, a credential, or else the destination."""
        gone = refused = destination.name
        if scope.url:
            gone = _name_of_url(scope.url, destination, masker)
        if scope.credential:
            digest = self._fingerprint(scope.credential.encode(errors="replace").decode())[:8]
            refused = f"{scope.service or destination.name} (key {digest})"
        return gone, refused

    def check(self, names: Iterable[str], now: float) -> NotAdmitted | tuple[Destination, ...]:
        """Why an attempt may not start; else the scoped blocks that it probes."""
        found = tuple(one for name in names if name in self.blocked and (one := self._table.get(name)) is not None)
        for one in found:
            if (block := one.block(now)) is not None or one.in_flight:
                return NotAdmitted(one, block)
        return found

    def block(self, name: str, health: Health, reason: str, limits: LimitTable, now: float) -> Destination:
        """Block a URL that is gone, or a credential that is refused."""
        destination = self._table.get_or_add(name, name, limits, now)
        self.blocked.add(name)
        destination.record_block(health, reason, now)
        return destination


class Pauses:
    """``is_scoped`` tells whether a destination is a scoped block. ``on_over`` is called when a pause has ended."""

    def __init__(
        self, context: Context, is_scoped: Callable[[str], bool], on_over: Callable[[Destination], None]
    ) -> None:
        self._context, self._is_scoped, self._on_over = context, is_scoped, on_over
        #: The blocks that were reported, with their latest end, and the names whose blocks are in the store.
        self._reported: dict[str, float] = {}
        self._stored: set[str] = set()
        #: What has to be written, by name: None removes a block.
        self._unwritten: dict[str, Control | None] = {}
        self._writing: asyncio.Task[None] | None = None

    def forget(self, name: str) -> None:
        """Remove what is known of a destination's block."""
        self._reported.pop(name, None)
        self._unstore(name)

    def report(self, destination: Destination, before: Block | None, now: float) -> None:
        """Report and store a destination's block if it is news; ``before`` is its block before the last change."""
        block = destination.last_block
        if block is None:
            if before is not None:
                self.report_reopened(destination)
            return
        changed = block is not before
        if self._is_news(destination, before, block, now) or (changed and self._is_longer(destination, block, now)):
            self._reported[destination.name] = block.until or math.inf
            self._context.observer.paused(destination.name, block.until, cause(block))
            self._store(destination, block, now)
        if changed and block.kind == "paused" and block.until is not None:
            asyncio.get_running_loop().call_later(block.until - now, self._pause_over, destination, block)

    def _is_news(self, destination: Destination, before: Block | None, block: Block, now: float) -> bool:
        """Whether to report a block. A soft pause is reported only when no attempt in flight may end it."""
        if block.soft:
            return not destination.in_flight and destination.name not in self._reported and block.is_closed(now)
        known = before is not None and before.kind == block.kind and (before.is_closed(now) or before.probes(now))
        return block is not before and not (known and destination.name in self._reported)

    def _is_longer(self, destination: Destination, block: Block, now: float) -> bool:
        """Whether a pause is longer than reported, and long enough to be stored. Many answers differ by a moment."""
        if block.until is None or not _is_long_pause(block, now):
            return False
        return block.until > self._reported.get(destination.name, 0.0) + _SAME_PAUSE

    def _pause_over(self, destination: Destination, block: Block) -> None:
        if destination.last_block is block:
            self.report_reopened(destination)
            self._on_over(destination)

    def report_reopened(self, destination: Destination) -> None:
        """Report that a destination takes deliveries again."""
        if destination.name in self._reported:
            self._context.observer.reopened(destination.name)
        self.forget(destination.name)

    # What survives a restart

    def _store(self, destination: Destination, block: Block, now: float) -> None:
        """Store a block that survives a restart.

        After a restart a refused key is tried once, and a failing destination at once.
        """
        name, lasts = destination.name, block.kind in ("refused", "gone")
        if not lasts and not _is_long_pause(block, now):
            self._unstore(name)
            return
        self._stored.add(name)
        state = {"kind": block.kind, "config": self._fingerprint()}
        if self._is_scoped(name):
            state["scope"] = "url" if block.kind == "gone" else "credential"
        until = None if lasts else block.until
        self._write(name, Control("pause", name, block.reason, "engine", block.since, until, state))

    def _unstore(self, name: str) -> None:
        if name in self._stored:
            self._stored.discard(name)
            self._write(name, None)

    def restored(self, control: Control, now: float) -> Block | None:
        """The block in a row of the store; None, and it is removed, if a changed configuration may have fixed it."""
        state = control.state or {}
        kind, changed = state.get("kind", "paused"), state.get("config") != self._fingerprint()
        self._stored.add(control.subject)
        if not is_kind(kind) or (changed and kind in ("refused", "gone")):
            self.forget(control.subject)
            return None
        return Block(kind, control.reason, control.set_at, now if kind == "refused" else control.until_at)

    def _fingerprint(self) -> str:
        """What is stored to distinguish this configuration, with its secrets, from others."""
        return self._context.store.fingerprint(self._context.rules.router.private_hash)

    def _write(self, name: str, control: Control | None) -> None:
        """Write to the store, after all earlier writes."""
        self._unwritten.pop(name, None)
        self._unwritten[name] = control
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        store = self._context.store
        while self._unwritten:
            name = next(iter(self._unwritten))
            control = self._unwritten.pop(name)
            write = partial(store.set_control, control) if control else partial(store.remove_control, "pause", name)
            try:
                await self._context.persist(write)
            except Exception as error:
                self._context.logger.error("a pause could not be stored", exc_info=error)

    async def flush(self) -> None:
        """Wait until all blocks are stored, for at most 2 seconds: the store may be stuck."""
        if self._writing is None:
            return
        await asyncio.wait([self._writing], timeout=_FLUSH_TIMEOUT)
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)


def name_of(raw_name: str, masker: Masker) -> str:
    """A destination's name without secrets, on one line, of bounded length.

    Two destinations never share a name: where something is masked or cut, a digest distinguishes them.
    """
    shown = _CONTROLS.sub(" ", masker.text(raw_name)).strip()[:_MAX_NAME]
    return shown if shown == raw_name and shown else f"{shown} ({_digest(raw_name)})".strip()


def _name_of_url(url: str, destination: Destination, masker: Masker) -> str:
    """A URL without user, query and secrets; a digest distinguishes URLs that look the same then.

    Secrets of the query are not in the digest: they may be short enough to be guessed.
    """
    parts = urlsplit(url)
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.path in ("", "/") and not parts.query:
        return destination.name
    if masker.text(url) == plain and len(plain) <= _MAX_SHOWN and plain.isprintable():
        return plain
    shown = masker.text(plain)
    shown = shown if shown.startswith(f"{parts.scheme}://") else destination.name
    printable = "".join(char if char.isprintable() else " " for char in shown[:_MAX_SHOWN])
    return f"{printable} (url {_digest(f'{plain}?{masker.text(parts.query)}')})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def _is_long_pause(block: Block, now: float) -> bool:
    return block.kind == "paused" and block.until is not None and block.until - now > LONG_PAUSE

"""Reports blocks of destinations, and stores those that survive a restart."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from engine.store.records import Control
from engine.worker.context import Desk
from engine.worker.destinations import Block, Destination
from engine.worker.destinations.circuit import is_kind
from engine.worker.destinations.messages import cause
from engine.worker.destinations.scoped_blocks import ScopedBlocks

#: How long a stop waits for pending writes, in seconds.
_FLUSH_TIMEOUT = 2.0
#: A pause longer than this many seconds survives a restart.
LONG_PAUSE = 30.0
#: A pause that ends at most this many seconds later than the reported one is not reported again.
_SAME_PAUSE = 1.0


class Pauses:
    """``on_reopened`` is called with the name of a destination that takes deliveries again.

    ``on_pause_over`` is called with the destination whose pause has ended.
    """

    def __init__(
        self,
        desk: Desk,
        scoped: ScopedBlocks,
        on_reopened: Callable[[str], None],
        on_pause_over: Callable[[Destination], None],
    ) -> None:
        self._desk, self._scoped = desk, scoped
        self._on_reopened, self._on_pause_over = on_reopened, on_pause_over
        self._writing: set[asyncio.Task[None]] = set()
        #: The blocks that were reported, with their latest end, and the names whose blocks are in the store.
        self._reported: dict[str, float] = {}
        self._stored: set[str] = set()

    def note_stored(self, name: str) -> None:
        """Note that a destination's block is in the store."""
        self._stored.add(name)

    def forget(self, name: str) -> None:
        """Remove what is known of a destination's block."""
        self._reported.pop(name, None)
        self.unstore(name)

    def fingerprint(self) -> str:
        """What is stored to distinguish this configuration, with its secrets, from others."""
        return self._desk.store.fingerprint(self._desk.rules().router.private_hash)

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
            self._desk.observer.paused(destination.name, block.until, cause(block))
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
        if block.kind != "paused" or block.until is None or block.until - now <= LONG_PAUSE:
            return False
        return block.until > self._reported.get(destination.name, 0.0) + _SAME_PAUSE

    def _pause_over(self, destination: Destination, block: Block) -> None:
        if destination.last_block is block:
            self.report_reopened(destination)
            self._on_pause_over(destination)

    def report_reopened(self, destination: Destination) -> None:
        """Report that a destination takes deliveries again."""
        if destination.name in self._reported:
            self._desk.observer.reopened(destination.name)
        self._on_reopened(destination.name)

    def _store(self, destination: Destination, block: Block, now: float) -> None:
        """Store a block that survives a restart.

        After a restart a refused key is tried once, and a failing destination at once.
        """
        lasts = block.kind in ("refused", "gone")
        if not lasts and (block.kind != "paused" or block.until is None or block.until - now <= LONG_PAUSE):
            self.unstore(destination.name)
            return
        self._stored.add(destination.name)
        state = {"kind": block.kind, "config": self.fingerprint()}
        if self._scoped.has(destination):
            state["scope"] = "url" if block.kind == "gone" else "credential"
        until = None if lasts else block.until
        control = Control("pause", destination.name, block.reason, "engine", block.since, until, state)
        self._write(lambda: self._desk.store.set_control(control))

    def unstore(self, name: str) -> None:
        """Remove a block from the store."""
        if name in self._stored:
            self._stored.discard(name)
            self._write(lambda: self._desk.store.remove_control("pause", name))

    def _write(self, verb: Callable[[], Awaitable[object]]) -> None:
        """Write to the store after all earlier writes, so that the latest one wins."""
        earlier = tuple(self._writing)

        async def write() -> None:
            if earlier:
                await asyncio.wait(earlier)
            try:
                await self._desk.persist(verb)
            except Exception as error:
                self._desk.logger.error("a pause could not be stored", exc_info=error)

        task = asyncio.create_task(write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def flush(self) -> None:
        """Wait until all blocks are stored, for at most 2 seconds: the store may be stuck."""
        if not self._writing:
            return
        _, unwritten = await asyncio.wait(tuple(self._writing), timeout=_FLUSH_TIMEOUT)
        for task in unwritten:
            task.cancel()
        await asyncio.gather(*unwritten, return_exceptions=True)


def block_of(control: Control, config: str, now: float) -> Block | None:
    """The block in a row of the store; None if it does not apply to this configuration."""
    state = control.state or {}
    kind = state.get("kind", "paused")
    if not is_kind(kind):
        return None
    if kind in ("refused", "gone") and state.get("config") != config:
        return None
    return Block(kind, control.reason, control.set_at, now if kind == "refused" else control.until_at)

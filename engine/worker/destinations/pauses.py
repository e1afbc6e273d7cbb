"""Why nothing goes to a destination: told to people once, kept over a restart where it lasts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from engine.store.records import Control
from engine.worker.context import Desk
from engine.worker.destinations import Block, Lane
from engine.worker.destinations.circuit import is_kind
from engine.worker.destinations.messages import cause
from engine.worker.destinations.stops import Stops

#: How long a stop waits for what is to outlast it to be written, in seconds.
_WRITTEN_WITHIN = 2.0
#: A pause that lasts longer survives a restart, in seconds.
LONG_PAUSE = 30.0
#: A pause that is longer by no more than this is the same, in seconds.
_A_MOMENT = 1.0


class Pauses:
    """``forgotten`` is told the name of a lane that takes deliveries again, ``over`` the lane whose pause has ended."""

    def __init__(
        self, desk: Desk, stops: Stops, forgotten: Callable[[str], None], over: Callable[[Lane], None]
    ) -> None:
        self._desk, self._stops, self._forgotten, self._over = desk, stops, forgotten, over
        self._writing: set[asyncio.Task[None]] = set()
        #: Lanes that were told to be paused, with until when at most, and those whose pauses are in the store.
        self._told: dict[str, float] = {}
        self._kept: set[str] = set()

    def kept(self, name: str) -> None:
        """A lane's pause is in the store."""
        self._kept.add(name)

    def forget(self, name: str) -> None:
        """A lane takes deliveries again, or nothing is known of it any more."""
        self._told.pop(name, None)
        self.unkeep(name)

    def fingerprint(self) -> str:
        """What is stored to tell this configuration, its secrets included, from another."""
        return self._desk.store.fingerprint(self._desk.rules().router.private_hash)

    def tell(self, lane: Lane, before: Block | None, now: float) -> None:
        """Tell people of what blocks a lane now, if it is news; ``before`` is what did."""
        block = lane.last_block
        if block is None:
            if before is not None:
                self.reopened(lane)
            return
        if self._is_news(lane, before, block, now) or (block is not before and self._is_longer(lane, block, now)):
            self._told[lane.name] = block.until or math.inf
            self._desk.observer.paused(lane.name, block.until, cause(block))
            self._keep(lane, block, now)
        if block is not before and block.kind == "paused" and block.until is not None:
            asyncio.get_running_loop().call_later(block.until - now, self._pause_over, lane, block)

    def _is_news(self, lane: Lane, before: Block | None, block: Block, now: float) -> bool:
        """Whether people are to be told. A soft pause is none as long as attempts are under way that may end it."""
        if block.soft:
            return not lane.under_way and lane.name not in self._told and block.is_closed(now)
        known = before is not None and before.kind == block.kind and (before.is_closed(now) or before.probes(now))
        return block is not before and not (known and lane.name in self._told)

    def _is_longer(self, lane: Lane, block: Block, now: float) -> bool:
        """Whether a pause lasts longer than was told, and long enough to be kept. Many say the same a moment apart."""
        if block.kind != "paused" or block.until is None or block.until - now <= LONG_PAUSE:
            return False
        return block.until > self._told.get(lane.name, 0.0) + _A_MOMENT

    def _pause_over(self, lane: Lane, block: Block) -> None:
        if lane.last_block is block:
            self.reopened(lane)
            self._over(lane)

    def reopened(self, lane: Lane) -> None:
        """Tell people that a lane takes deliveries again."""
        if lane.name in self._told:
            self._desk.observer.reopened(lane.name)
        self._forgotten(lane.name)

    def _keep(self, lane: Lane, block: Block, now: float) -> None:
        """What outlasts a restart. A refused key is tried once after one, a failing destination at once."""
        lasts = block.kind in ("refused", "gone")
        if not lasts and (block.kind != "paused" or block.until is None or block.until - now <= LONG_PAUSE):
            self.unkeep(lane.name)
            return
        self._kept.add(lane.name)
        state = {"kind": block.kind, "config": self.fingerprint()}
        if self._stops.knows(lane):
            state["scope"] = "url" if block.kind == "gone" else "credential"
        until = None if lasts else block.until
        control = Control("pause", lane.name, block.reason, "engine", block.since, until, state)
        self._write(lambda: self._desk.store.set_control(control))

    def unkeep(self, name: str) -> None:
        """Remove a pause from the store."""
        if name in self._kept:
            self._kept.discard(name)
            self._write(lambda: self._desk.store.remove_control("pause", name))

    def _write(self, verb: Callable[[], Awaitable[object]]) -> None:
        """One after another: what was decided last is to be kept last."""
        earlier = tuple(self._writing)

        async def write() -> None:
            if earlier:
                await asyncio.wait(earlier)
            try:
                await self._desk.persist(verb)
            except Exception as error:
                self._desk.logger.error("a pause could not be kept in the store", exc_info=error)

        task = asyncio.create_task(write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def written(self) -> None:
        """Until what is to outlast a restart is in the store; not for ever, as it may be stuck."""
        if not self._writing:
            return
        _, unwritten = await asyncio.wait(tuple(self._writing), timeout=_WRITTEN_WITHIN)
        for task in unwritten:
            task.cancel()
        await asyncio.gather(*unwritten, return_exceptions=True)


def block_of(control: Control, config: str, now: float) -> Block | None:
    """The block that a row stands for; None where it is over."""
    state = control.state or {}
    kind = state.get("kind", "paused")
    if not is_kind(kind):
        return None
    if kind in ("refused", "gone") and state.get("config") != config:
        return None
    return Block(kind, control.reason, control.set_at, now if kind == "refused" else control.until_at)

"""Whether an event could be kept right now: tried out, not guessed. One word says why not."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from engine.core.errors import StoreError
from engine.core.offload import in_thread

#: Every word that ``/readyz`` may answer with. The receiver adds the first two by itself.
REASONS = ("stopping", "overloaded", "store", "disk", "full")
#: Where less is free than the smaller of so many bytes and such a part of the disk, it counts as full.
DISK_FLOOR_BYTES, DISK_FLOOR_PART = 64 * 2**20, 0.01
#: How long an answer holds, in seconds: who asks often writes no more often.
_HOLDS = 1.0
#: How long the store may take for a small write, in seconds.
_STORE_ANSWERS = 2.0


class Readiness:
    """Tries the store with a small durable write. One at a time: a stuck store is not given more.

    ``write`` is that write; ``folder`` is where the store's files are, None where it has none here.
    ``checks`` are quick looks of other parts, each a word or empty.
    """

    def __init__(
        self,
        write: Callable[[], Awaitable[object]],
        folder: Path | None,
        *,
        checks: Sequence[Callable[[], str]] = (),
        timeout: float = _STORE_ANSWERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._folder, self._checks = write, folder, checks
        self._timeout, self._clock = timeout, clock
        self._trial: asyncio.Task[str] | None = None
        self._known, self._known_at = "", float("-inf")

    async def obstacle(self) -> str:
        """Empty where an event would be kept, else a word: ``store``, ``disk``, or one of ``checks``."""
        for look in self._checks:
            if word := look():
                return word
        if self._trial is None and self._clock() - self._known_at < _HOLDS:
            return self._known
        return await self._tried()

    def read_free(self) -> Mapping[tuple[str, ...], float]:
        """Bytes that are free where the store's files are, for a gauge; nothing where there is no such folder."""
        try:
            return {} if self._folder is None else {(): float(shutil.disk_usage(self._folder).free)}
        except OSError:
            return {}

    async def _tried(self) -> str:
        """What the trial under way comes to, or a new one; whoever asks meanwhile waits for the same."""
        trial = self._trial
        if trial is None:
            trial = self._trial = asyncio.create_task(self._try())
            trial.add_done_callback(self._learn)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(trial)
        except TimeoutError:
            return "store"

    def _learn(self, trial: asyncio.Task[str]) -> None:
        self._trial = None
        if not trial.cancelled():
            self._known, self._known_at = trial.result(), self._clock()

    async def _try(self) -> str:
        """The disk first: a store with little room left may still write what is small."""
        if self._folder is not None and await in_thread(partial(_is_full, self._folder)):
            return "disk"
        try:
            await self._write()
        except StoreError:
            return "store"
        return ""

    async def close(self) -> None:
        """Wait for no store any more."""
        if self._trial is not None:
            self._trial.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._trial


def _is_full(folder: Path) -> bool:
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return False  # what is wrong with it, the store finds out
    return disk.free < min(DISK_FLOOR_BYTES, disk.total * DISK_FLOOR_PART)

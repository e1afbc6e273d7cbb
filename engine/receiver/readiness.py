"""Readiness: whether an event could be stored now, tested by a small write. One word says why not."""

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

#: Every reason that ``/readyz`` may return. The receiver itself adds the first two.
REASONS = ("stopping", "overloaded", "store", "disk", "full")
#: A disk counts as full if less is free than this many bytes, and than this part of the disk if that is smaller.
DISK_FLOOR_BYTES, DISK_FLOOR_PART = 64 * 2**20, 0.01
#: For how many seconds a result is reused, so that frequent probes do not write more often.
_VALID_FOR = 1.0
#: How long the store may take for a small write, in seconds.
_STORE_TIMEOUT = 2.0


class Readiness:
    """Tests the store with a small durable write. Concurrent callers share one, to put no more load on a stuck store.

    ``write`` is that write. ``folder`` has the store's files; None if there are no local files. ``checks`` are quick
    checks of other parts; each returns a reason or an empty text.
    """

    def __init__(
        self,
        write: Callable[[], Awaitable[object]],
        folder: Path | None,
        *,
        checks: Sequence[Callable[[], str]] = (),
        timeout: float = _STORE_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._folder, self._checks = write, folder, checks
        self._timeout, self._clock = timeout, clock
        self._trial: asyncio.Task[str] | None = None
        self._known, self._known_at = "", float("-inf")

    async def obstacle(self) -> str:
        """Why an event would not be stored: ``store``, ``disk``, or a reason of ``checks``. Empty if it would be."""
        for check in self._checks:
            if reason := check():
                return reason
        if self._trial is None:
            if self._clock() - self._known_at < _VALID_FOR:
                return self._known
            self._trial = asyncio.create_task(self._try())
            self._trial.add_done_callback(self._finish)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(self._trial)
        except TimeoutError:
            return "store"

    def read_free(self) -> Mapping[tuple[str, ...], float]:
        """Free bytes in the store's folder, for a gauge; empty if there is no such folder."""
        try:
            return {} if self._folder is None else {(): float(shutil.disk_usage(self._folder).free)}
        except OSError:
            return {}

    def _finish(self, trial: asyncio.Task[str]) -> None:
        self._trial = None
        if not trial.cancelled():
            self._known, self._known_at = trial.result(), self._clock()

    async def _try(self) -> str:
        """Check the disk first: on a nearly full disk a small write may still succeed."""
        if self._folder is not None and await in_thread(partial(_is_full, self._folder)):
            return "disk"
        try:
            await self._write()
        except StoreError:
            return "store"
        return ""

    async def close(self) -> None:
        """Cancel a running test."""
        if self._trial is not None:
            self._trial.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._trial


def _is_full(folder: Path) -> bool:
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return False  # the store's write reports the problem
    return disk.free < min(DISK_FLOOR_BYTES, disk.total * DISK_FLOOR_PART)

"""Whether the system's clock is plausible, so that what seems old may be deleted."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable

from engine.core.errors import StoreError
from engine.store.protocol import Store
from engine.store.queries import EventQuery

#: After a jump of more than this many seconds the clock is not trusted for as long: it may be set back again, but what
#: was deleted would be lost.
JUMP = 3600.0
_NOTE = "clock"


class ClockCheck:
    """Compares the clock with a monotonic one, and at the start with the last time in the store.

    The result is stored, so that a restart within the hour does not make a wrong clock trusted.
    """

    def __init__(
        self, store: Store, logger: logging.Logger, *, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._store, self._logger, self._clock, self._monotonic = store, logger, clock, monotonic
        self._offset = clock() - monotonic()
        self._trusted_at = -math.inf
        self._unchecked = False

    async def begin(self) -> None:
        """Check the clock at the start. It may be wrong if it is far ahead of the last time in the store.

        Raises:
            StoreError: the store cannot be read; ``is_plausible`` tries again.
        """
        self._unchecked = True
        now = self._clock()
        seen, doubted_until = await self._last()
        if 0 < doubted_until - now <= JUMP:
            self._trusted_at = self._monotonic() + doubted_until - now
        elif seen is not None and now - seen > JUMP:
            self._trusted_at = self._monotonic() + JUMP
            message = (
                "the clock is %.0f s ahead of the last time in the store: the engine was stopped for so long, or the "
                "clock is wrong; nothing old is deleted for an hour"
            )
            self._logger.warning(message, now - seen)
        self._unchecked = False
        await self._save()

    async def is_plausible(self) -> bool:
        """Whether the clock has not jumped for an hour.

        Raises:
            StoreError: the store could not be read at the start, and cannot be read now.
        """
        if self._unchecked:
            await self.begin()
        offset = self._clock() - self._monotonic()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) > JUMP:
            self._trusted_at = self._monotonic() + JUMP
            self._logger.warning("the clock jumped by %+.0f s: nothing old is deleted for an hour", jump)
        await self._save()
        return self._monotonic() >= self._trusted_at

    async def _last(self) -> tuple[float | None, float]:
        """The last time in the store, and until when its clock is not trusted, both in Unix seconds."""
        note = await self._store.note(_NOTE)
        if note is not None:
            known = json.loads(note)
            return known["seen"], known["doubted_until"]
        newest = await self._store.events(EventQuery(limit=1))  # a store of an earlier version
        return (newest[0].received_at if newest else None), 0.0

    async def _save(self) -> None:
        now, remaining = self._clock(), self._trusted_at - self._monotonic()
        known = {"seen": now, "doubted_until": now + remaining if remaining > 0 else 0.0}
        try:
            await self._store.save_note(_NOTE, json.dumps(known))
        except StoreError as error:
            self._logger.warning("the time could not be stored", extra={"reason": str(error)})

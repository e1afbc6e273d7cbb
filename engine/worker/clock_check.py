"""Whether the system's clock can be believed when it says that something is old."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable

from engine.core.errors import StoreError
from engine.store.protocol import Store
from engine.store.queries import EventQuery

#: A clock that jumped by more than so many seconds is not believed for as long: it may be put right, but what it had
#: deleted would be gone.
JUMP = 3600.0
_NOTE = "clock"


class ClockCheck:
    """Compares the clock with the time that passes, and at a start with the last time that the store knows.

    What it found is kept in the store: a restart within the hour does not make a wrong clock a right one.
    """

    def __init__(
        self, store: Store, logger: logging.Logger, *, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._store, self._logger, self._clock, self._monotonic = store, logger, clock, monotonic
        self._offset = clock() - monotonic()
        self._believed_at = -math.inf
        self._unknown = False

    async def begin(self) -> None:
        """Look at the clock at the start. One that is far ahead of what the store knows may be wrong.

        Raises:
            StoreError: the store cannot be read; ``believes`` tries again.
        """
        self._unknown = True
        now = self._clock()
        seen, doubted_until = await self._known()
        if 0 < doubted_until - now <= JUMP:
            self._believed_at = self._monotonic() + doubted_until - now
        elif seen is not None and now - seen > JUMP:
            self._doubt()
            words = (
                "the clock is %.0f s ahead of the last time in the store: the engine was stopped for so long, or the "
                "clock is wrong; nothing old is deleted for an hour"
            )
            self._logger.warning(words, now - seen)
        self._unknown = False
        await self._keep()

    async def believes(self) -> bool:
        """Whether the time has gone on as it should for long enough.

        Raises:
            StoreError: the store could not be read at the start, and cannot be read now.
        """
        if self._unknown:
            await self.begin()
        offset = self._clock() - self._monotonic()
        if abs(offset - self._offset) > JUMP:
            self._doubt()
            self._logger.warning(
                "the clock jumped by %+.0f s: nothing old is deleted for an hour", offset - self._offset
            )
        self._offset = offset
        await self._keep()
        return self._monotonic() >= self._believed_at

    def _doubt(self) -> None:
        self._believed_at = self._monotonic() + JUMP

    async def _known(self) -> tuple[float | None, float]:
        """The last time that the store knows, and until when its clock is not believed, both in Unix seconds."""
        note = await self._store.note(_NOTE)
        if note is not None:
            known = json.loads(note)
            return known["seen"], known["doubted_until"]
        newest = await self._store.events(EventQuery(limit=1))  # a store of an earlier version
        return (newest[0].received_at if newest else None), 0.0

    async def _keep(self) -> None:
        now, left = self._clock(), self._believed_at - self._monotonic()
        known = {"seen": now, "doubted_until": now + left if left > 0 else 0.0}
        try:
            await self._store.save_note(_NOTE, json.dumps(known))
        except StoreError as error:
            self._logger.warning("the time could not be noted in the store", extra={"reason": str(error)})

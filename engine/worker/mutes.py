"""The muted routes, kept in memory. A document that matches a muted route counts as matched; its actions do not run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from engine.core.errors import StoreError
from engine.store.protocol import Store
from engine.store.records import Control

#: How often the store is read, in seconds: another process on the same store may mute a route as well.
_REFRESH_EVERY = 2.0


class Mutes:
    """The current mutes, in memory: routing reads them for every event and must not wait for the store."""

    def __init__(self, store: Store, logger: logging.Logger) -> None:
        self._store, self._logger = store, logger
        #: The mutes by route id. Expired ones may still be among them; check with ``is_muting``.
        self.muted: Mapping[str, Control] = {}

    async def refresh(self) -> None:
        """Read the mutes from the store.

        Raises:
            StoreError: the store cannot be read.
        """
        found = await self._store.controls()
        self.muted = {control.subject: control for control in found if control.kind == "mute"}

    async def keep_fresh(self) -> None:
        """Refresh periodically until cancelled. While the store cannot be read, the last known mutes apply."""
        while True:
            await asyncio.sleep(_REFRESH_EVERY)
            try:
                await self.refresh()
            except StoreError as error:
                self._logger.error("cannot read the muted routes; trying again", extra={"reason": str(error)})

"""Muted routes: what matches them counts as matched, and nothing is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from engine.core.errors import StoreError
from engine.core.times import clock
from engine.store.protocol import Store
from engine.store.records import Control

#: Between two looks at what other engines on the same store, or people without one, have muted, in seconds.
_LOOK = 2.0


class Mutes:
    """The mutes of now, in memory: routing asks for them with every event, and must not wait for the store."""

    def __init__(self, store: Store, logger: logging.Logger) -> None:
        self._store, self._logger = store, logger
        self._muted: Mapping[str, Control] = {}

    def muted(self) -> Mapping[str, Control]:
        """By route id. Whose time is over by now may still be among them."""
        return self._muted

    async def refresh(self) -> None:
        """Take up what the store says.

        Raises:
            StoreError: it cannot say.
        """
        found = await self._store.controls()
        self._muted = {control.subject: control for control in found if control.kind == "mute"}

    async def keep_fresh(self) -> None:
        """Look again and again, until cancelled. While the store cannot answer, what was known counts."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self.refresh()
            except StoreError as error:
                self._logger.error("cannot look for muted routes; trying again", extra={"reason": str(error)})


def is_muting(control: Control, now: float) -> bool:
    """Whether a mute's time is not over."""
    return control.until_at is None or control.until_at > now


def muted_words(control: Control) -> str:
    """Until when a route is muted, by whom and why."""
    until = "until it is unmuted" if control.until_at is None else f"until {clock(control.until_at)}"
    return f"muted {until} by {control.set_by}" + (f": {control.reason}" if control.reason else "")

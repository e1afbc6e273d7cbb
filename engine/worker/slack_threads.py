"""Slack threads by key, kept in the store."""

from __future__ import annotations

import json
import logging

from engine.core.errors import Retry, StoreError
from engine.store.protocol import Store

#: Threads that the store did not take, and this process remembers.
_MOST_UNSAVED = 1000


class StoredThreads:
    """``Threads`` in the store. What cannot be stored is remembered until the process ends."""

    def __init__(self, store: Store, logger: logging.Logger) -> None:
        self._store, self._logger = store, logger
        self._unsaved: dict[str, str | None] = {}

    async def first(self, channel: str, key: str) -> str | None:
        """The ``ts`` of the thread's first message; None where there is none yet.

        Raises:
            Retry: the store cannot be read at the moment.
        """
        subject = json.dumps([channel, key])
        if subject in self._unsaved:
            return self._unsaved[subject]
        try:
            return await self._store.thread(subject)
        except StoreError as error:
            raise Retry(f"the thread cannot be looked up: {error}") from error

    async def keep(self, channel: str, key: str, ts: str | None) -> None:
        """Keep it, or forget the thread."""
        subject = json.dumps([channel, key])
        try:
            await self._store.save_thread(subject, ts)
        except StoreError as error:
            self._logger.warning("a thread could not be stored", extra={"channel": channel, "reason": str(error)})
            if len(self._unsaved) >= _MOST_UNSAVED:
                self._unsaved.pop(next(iter(self._unsaved)))
            self._unsaved[subject] = ts
        else:
            self._unsaved.pop(subject, None)

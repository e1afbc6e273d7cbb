"""The outgoing clients of one event loop, created at first use and again when the settings change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from weakref import WeakValueDictionary

import aiohttp

from engine.clients.langsmith import LangSmith, LangSmithSettings, Sunsets
from engine.clients.network import Network
from engine.clients.own_listeners import OwnListeners
from engine.clients.session import open_session
from engine.clients.slack import SlackSettings, Threads, ThreadsInMemory


class ClientSettings(Protocol):
    """The settings of the clients. ``Router`` implements it."""

    @property
    def langsmith(self) -> LangSmithSettings:
        """How to reach LangSmith."""

    @property
    def slack(self) -> SlackSettings:
        """How to reach Slack."""

    @property
    def network(self) -> Network:
        """Which addresses besides public ones may be reached."""


class Clients:
    """The HTTP session, the LangSmith client and the Slack settings. One instance per event loop.

    ``settings`` is called every time, so that a reload takes effect at once. A client with earlier settings stays open
    while something refers to it. Event data is never sent to ``own_listeners``. ``sunsets`` counts the endpoints that
    LangSmith will remove.
    """

    def __init__(
        self,
        settings: Callable[[], ClientSettings],
        own_listeners: OwnListeners | None = None,
        *,
        sunsets: Sunsets | None = None,
        threads: Threads | None = None,
    ) -> None:
        self._settings, self._own_listeners, self._sunsets = settings, own_listeners, sunsets or Sunsets()
        #: Slack threads by key; without a store they end with the process.
        self.threads: Threads = threads or ThreadsInMemory()
        self._http: aiohttp.ClientSession | None = None
        self._current: LangSmith | None = None
        self._langsmith: WeakValueDictionary[LangSmithSettings, LangSmith] = WeakValueDictionary()

    async def http(self) -> aiohttp.ClientSession:
        """The session; a new one if a plug-in closed it. A coroutine, because a session is created on its loop."""
        if self._http is None or self._http.closed:
            self._http = open_session(lambda: self._settings().network, self._own_listeners)
        return self._http

    @property
    def langsmith(self) -> LangSmith:
        """The LangSmith client with the current settings."""
        settings = self._settings().langsmith
        if self._current is None or self._current.settings != settings:
            self._current = self._langsmith.get(settings) or LangSmith(settings, sunsets=self._sunsets)
            self._langsmith[settings] = self._current
        return self._current

    @property
    def slack(self) -> SlackSettings:
        """The current Slack settings."""
        return self._settings().slack

    async def close(self) -> None:
        """Close everything that was opened."""
        if self._http is not None:
            await self._http.close()
        for client in list(self._langsmith.values()):
            await client.aclose()
        self._http = self._current = None
        self._langsmith.clear()

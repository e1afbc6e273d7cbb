"""The outgoing clients of one event loop, made when first used and remade when the settings change."""

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
    """What clients have to know of the world outside; a router is one."""

    @property
    def langsmith(self) -> LangSmithSettings:
        """How to reach LangSmith."""

    @property
    def slack(self) -> SlackSettings:
        """How to reach Slack."""

    @property
    def network(self) -> Network:
        """What may be reached beside public addresses."""


class Clients:
    """HTTP session, LangSmith and Slack settings. Each event loop has its own: connections belong to a loop.

    ``outside`` is asked every time, so that a reload's new key or address counts at once.
    A client of earlier settings stays open as long as something refers to it. No event leads to ``doors``.
    ``sunsets`` counts the endpoints that LangSmith will remove.
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
        """The session; a coroutine because it has to be made on its loop. A new one where a plug-in closed it."""
        if self._http is None or self._http.closed:
            self._http = open_session(lambda: self._settings().network, self._own_listeners)
        return self._http

    @property
    def langsmith(self) -> LangSmith:
        """The door to LangSmith under the settings of now."""
        settings = self._settings().langsmith
        if self._current is None or self._current.settings != settings:
            self._current = self._langsmith.get(settings) or LangSmith(settings, sunsets=self._sunsets)
            self._langsmith[settings] = self._current
        return self._current

    @property
    def slack(self) -> SlackSettings:
        """How to reach Slack under the settings of now."""
        return self._settings().slack

    async def close(self) -> None:
        """Close everything that was opened."""
        if self._http is not None:
            await self._http.close()
        for client in list(self._langsmith.values()):
            await client.aclose()
        self._http = self._current = None
        self._langsmith.clear()

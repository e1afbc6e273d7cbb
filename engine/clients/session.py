"""The outgoing clients of one event loop: the HTTP session that actions and hydration share, LangSmith and Slack."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import aiohttp
from multidict import CIMultiDict

from engine.clients.guard import GuardedConnector, OwnListeners
from engine.clients.langsmith import LangSmith, LangSmithSettings, Sunsets
from engine.clients.network import Network
from engine.clients.slack import SlackSettings, Threads, ThreadsInMemory
from engine.core.trace import TRACEPARENT, carried

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

_DISTRIBUTION = "langsmith-rules-engine"
#: Seconds until an address is looked up again.
_DNS_TTL = 30
#: Seconds to wait for a connection; the attempt's own timeout is the usual limit.
_CONNECT_TIMEOUT = 30.0


with warnings.catch_warnings():
    # aiohttp discourages subclasses, and offers no other way to turn redirects off for a whole session.
    warnings.simplefilter("ignore", DeprecationWarning)

    class _Session(aiohttp.ClientSession):
        """Never follows redirects, because their targets are not checked by anyone.

        Requests of an attempt have its trace context.
        """

        async def _request(self, method: str, str_or_url: Any, **options: Any) -> aiohttp.ClientResponse:
            options["allow_redirects"] = False
            if trace := carried():
                headers = CIMultiDict(options.get("headers") or ())
                headers.setdefault(TRACEPARENT, trace)
                options["headers"] = headers
            return await super()._request(method, str_or_url, **options)


def open_session(
    network: Callable[[], Network] = Network,
    own_listeners: OwnListeners | None = None,
    *,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """Create a session. Call it on the event loop that will use it, and close it there.

    The address guard checks every connection, and calls ``network`` each time for the permitted addresses (default:
    public addresses and the author's own origins). Event data is never sent to ``own_listeners``. The session follows
    no redirects, ignores proxy variables and ``.netrc``, and keeps no cookies. It has no total timeout, because
    attempts have their own. The number of connections is unlimited here, because the limits of destinations apply and
    a healthy destination must not wait for slow ones.
    """
    options = {"limit": 0, "ttl_dns_cache": _DNS_TTL, "resolver": resolver}
    return _Session(
        connector=GuardedConnector(network, own_listeners or OwnListeners(), **options),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": user_agent()},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
        trust_env=False,
    )


def user_agent() -> str:
    """How the engine presents itself: ``langsmith-rules-engine/1.2.3``."""
    return f"{_DISTRIBUTION}/{version(_DISTRIBUTION)}"


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

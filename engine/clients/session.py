"""How the session that actions and hydration share is built."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import aiohttp
from multidict import CIMultiDict

from engine.clients.guard import GuardedConnector
from engine.clients.network import Network
from engine.clients.own_listeners import OwnListeners
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
        """Follows no redirect, whatever a request says: where it leads, nobody wrote and nobody checked.

        A request that an attempt makes carries its trace on.
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
    """A session for requests that the engine makes. Call it on the loop that will use it, and close it there.

    Every connection passes the address guard, which asks ``network`` each time for what is
    permitted (left out: public addresses, and the author's own origins). No event leads to
    ``doors``, whatever is permitted. It follows no redirects, reads no proxy variables and no
    ``.netrc``, keeps no cookies and has no total timeout, since attempts have their own. It
    opens any number of connections: lanes and hands are the limit, and a healthy destination's
    attempt must not wait for those that slow ones have.
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
    try:
        return f"{_DISTRIBUTION}/{version(_DISTRIBUTION)}"
    except PackageNotFoundError:
        return _DISTRIBUTION

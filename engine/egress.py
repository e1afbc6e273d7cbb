"""Outgoing HTTP: how the session that actions and hydration share is built."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

_DISTRIBUTION = "langsmith-rules-engine"
#: Connections at once, over all destinations; beyond it requests wait within their attempt's timeout.
_MOST_CONNECTIONS = 256
#: Seconds until an address is looked up again.
_DNS_TTL = 30
#: Seconds to wait for a connection; the attempt's own timeout is the usual limit.
_CONNECT_TIMEOUT = 30.0


def open_session(*, resolver: AbstractResolver | None = None) -> aiohttp.ClientSession:
    """A session for requests that the engine makes. Call it on the loop that will use it, and close it there.

    It reads no proxy variables and no ``.netrc``, keeps no cookies and has no total timeout,
    since attempts have their own. Redirects are up to each request: ``allow_redirects=False``.
    ``resolver`` decides which addresses a name may lead to: this is where an address guard goes.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, ttl_dns_cache=_DNS_TTL, resolver=resolver),
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

"""Who may ask the admin listener: not every page that is open in somebody's browser."""

from __future__ import annotations

import hmac
import shlex
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from engine.admin.responses import error_response
from engine.core.serve_settings import is_loopback

#: Whatever else there is or will be counts as unsafe.
_SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
#: What browsers say of a request that the listener's own pages made, or that a person typed (W3C, Fetch Metadata).
_OWN_SITES = frozenset({"same-origin", "none"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Who may ask. A page in somebody's browser may not, whatever name it gave this address.

    ``Host`` must be a loopback name or address with the listener's own port, or the address
    it was reached at: a page that rebinds its DNS name sends its own name. Browsers say which
    site a request comes from: another's may lead here by a link and no other way, and so learns
    nothing from what loads and what does not. Unsafe methods need ``application/json``, which
    makes a browser ask first, and no foreign ``Origin``.

    Where a token is set it is demanded of everything but ``/``. No browser sends it by itself, so
    who has it may come by any name: through a proxy, by a port that is forwarded.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token.encode("utf-8", "surrogateescape") if token else None

    @property
    def check(self) -> Any:
        """The middleware."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._refusal(request)
            return await handler(request) if refusal is None else refusal

        return check

    def _refusal(self, request: web.Request) -> web.Response | None:
        trusted = self._token is not None and self._has_token(request)
        if self._token is not None and not trusted and request.path != "/":
            hint = "send Authorization: Bearer with the value of ENGINE_ADMIN_TOKEN"
            return error_response(401, "the token is missing or wrong", hint, {hdrs.WWW_AUTHENTICATE: "Bearer"})
        if not trusted and not _is_ours(request):
            hint = "use 127.0.0.1 or localhost, with the port it listens on (the same one at both ends of a tunnel)"
            return error_response(403, "this Host is not an address of the admin listener", hint)
        if not trusted and _is_anothers_page(request):
            return error_response(403, "a page of another site may not ask this", "open it in a tab of its own")
        return None if request.method in _SAFE else _unsafe_refusal(request, trusted=trusted)

    def _has_token(self, request: web.Request) -> bool:
        values = request.headers.getall(hdrs.AUTHORIZATION, [])
        scheme, _, given = (values[0] if len(values) == 1 else "").partition(" ")
        candidate = given.strip().encode("utf-8", "surrogateescape")
        same = hmac.compare_digest(candidate, self._token or b"")
        return scheme.lower() == "bearer" and same


def _is_anothers_page(request: web.Request) -> bool:
    """Whether a browser fetches this for a page that is not the listener's. To follow a link is no such thing."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    leads_here = request.method in _SAFE and request.headers.get("Sec-Fetch-Mode") == "navigate"
    return site not in _OWN_SITES and not (leads_here and request.headers.get("Sec-Fetch-Dest") == "document")


def _unsafe_refusal(request: web.Request, *, trusted: bool) -> web.Response | None:
    host = request.headers.get(hdrs.HOST, "")
    # Only who has the token may come through a proxy that ends TLS: the page's scheme is then not ours.
    schemes = ("http", "https") if trusted else (request.scheme,)
    ours = {f"{scheme}://{host}".lower() for scheme in schemes}
    if any(origin.lower() not in ours for origin in request.headers.getall(hdrs.ORIGIN, [])):
        return error_response(403, "a page of another origin may not do this", "use the engine command or curl")
    if request.content_type != "application/json":
        return error_response(415, "unsafe methods take application/json only", _how_to_ask(request))
    return None


def _how_to_ask(request: web.Request) -> str:
    """The line to paste instead."""
    token = ' -H "Authorization: Bearer $ENGINE_ADMIN_TOKEN"' if hdrs.AUTHORIZATION in request.headers else ""
    body = '{"deliveries": ["ID"]}' if request.path.endswith("/replay") else "{}"
    kind = f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    return f"curl -X {request.method}{token} {kind} {shlex.quote(str(request.url.with_query(None)))}"


def _is_ours(request: web.Request) -> bool:
    """Whether the Host header, of which there must be one, names the address that this connection came to."""
    hosts = request.headers.getall(hdrs.HOST, [])
    name, port = _split_host(hosts[0] if len(hosts) == 1 else "", request.scheme)
    bound = request.transport.get_extra_info("sockname") if request.transport else None
    if not name or not bound or port != bound[1]:
        return False
    return is_loopback(name) or name == bound[0]


def _split_host(host: str, scheme: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return "", None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return "", None
    return parts.hostname or "", port or (443 if scheme == "https" else 80)

"""Who may post: the secret a request carries, in whichever way it was sent."""

from __future__ import annotations

import hmac
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web


def check_secret(request: web.BaseRequest, secrets: tuple[str, ...]) -> str:
    """Empty when a request carries a secret that is good, else what is wrong.

    Each way of sending one counts on its own, so that a gateway may use Authorization for
    itself; a way used twice doesn't count. Every comparison is made, in constant time, on bytes.
    """
    ways = _presented(request)
    known = [_bytes(secret) for secret in secrets if secret]
    good = False
    for candidates in ways:
        for candidate in candidates:
            for secret in known:
                good |= hmac.compare_digest(candidate, secret)
    if good:
        return ""
    return "the secret is wrong, or was sent twice" if ways else "the secret is missing"


def _presented(request: web.BaseRequest) -> list[tuple[bytes, ...]]:
    """Per way of sending a secret that was used: its possible readings; none if it was used more than once."""
    ways: list[tuple[bytes, ...]] = []
    if query := request.rel_url.raw_query_string:
        values = [value for pair in query.split("&") if (value := _secret_of(pair)) is not None]
        if values:
            ways.append(_readings(values[0]) if len(values) == 1 else ())
    headers = request.headers
    if "X-Webhook-Secret" in headers:
        values = headers.getall("X-Webhook-Secret")
        ways.append((_bytes(values[0]),) if len(values) == 1 else ())
    if hdrs.AUTHORIZATION in headers:
        values = [token for value in headers.getall(hdrs.AUTHORIZATION) if (token := _bearer(value)) is not None]
        if values:
            ways.append((_bytes(values[0]),) if len(values) == 1 else ())
    return ways


def _secret_of(pair: str) -> str | None:
    name, _, value = pair.partition("=")
    return value if name == "secret" or ("%" in name and unquote_to_bytes(name) == b"secret") else None


def _readings(value: str) -> tuple[bytes, ...]:
    """A plus in a query is a space by HTML's rules and itself by RFC 3986; people paste secrets with both in mind."""
    raw = _bytes(value)
    plain = unquote_to_bytes(raw)
    return (plain, unquote_to_bytes(raw.replace(b"+", b" "))) if b"+" in raw else (plain,)


def _bearer(value: str) -> str | None:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _bytes(text: str) -> bytes:
    """The bytes that were on the wire: aiohttp decodes them as UTF-8 with escapes."""
    return text.encode("utf-8", "surrogateescape")

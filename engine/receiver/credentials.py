"""Who may post: the secret a request carries, in whichever way it was sent, or the signature over its body."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web

from engine.core.signatures import Claim, read_claims


@dataclass(frozen=True, slots=True)
class Auth:
    """What a request's headers say of its sender, before the body is read.

    ``error`` says why it may not post. Without one it is ``trusted``, or will be if one of its
    ``claims`` turns out good. One that is trusted may make claims, too: what they cover counts for more.
    """

    trusted: bool = False
    claims: tuple[Claim, ...] = ()
    error: str = ""


#: Of everybody who showed a good secret, where nothing is signed.
_TRUSTED = Auth(trusted=True)


def authenticate(
    request: web.BaseRequest, secrets: tuple[str, ...] | None, signing: tuple[str, ...], now: float
) -> Auth:
    """Judge a request's headers. ``secrets`` None lets everybody in; ``now`` is in Unix seconds."""
    error = "" if secrets is None else check_secret(request, secrets)
    if not signing:
        return Auth(error=error) if error else _TRUSTED
    claims, wrong = read_claims(request.headers, now)
    if error and not claims:
        without = "it has no signature" if secrets else "the signature is missing"
        return Auth(error=wrong or (f"{error}, and {without}" if secrets else without))
    return Auth(not error, claims)


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

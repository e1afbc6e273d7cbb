"""Authentication of senders: by a secret in the URL or a header, or by a signature of the body."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web

from engine.core.signatures import Claim, read_claims


@dataclass(frozen=True, slots=True)
class Auth:
    """What the headers say about the sender, before the body is read.

    ``error`` says why the sender may not post. Without an error the sender is ``trusted`` (it has a secret), or is
    authenticated later if one of its ``claims`` (signatures) is valid. A trusted sender may sign too: a
    valid signature also authenticates the event's id.
    """

    trusted: bool = False
    claims: tuple[Claim, ...] = ()
    error: str = ""


#: A sender with a valid secret, if signatures are not configured.
_TRUSTED = Auth(trusted=True)


def authenticate(
    request: web.BaseRequest, secrets: tuple[str, ...] | None, signing: tuple[str, ...], now: float
) -> Auth:
    """Check a request's headers. With ``secrets`` None every sender is trusted. ``now`` is in Unix seconds."""
    error = "" if secrets is None else check_secret(request, secrets)
    if not signing:
        return Auth(error=error) if error else _TRUSTED
    claims, wrong = read_claims(request.headers, now)
    if error and not claims:
        without = "it has no signature" if secrets else "the signature is missing"
        return Auth(error=wrong or (f"{error}, and {without}" if secrets else without))
    return Auth(not error, claims)


def check_secret(request: web.BaseRequest, secrets: tuple[str, ...]) -> str:
    """Check the secret of a request. Returns what is wrong; empty if a secret is valid.

    The ways of sending a secret are checked independently, so that a gateway may use Authorization for itself. A way
    that was used twice does not count. All comparisons are made, in constant time, on bytes.
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
    """For each way of sending a secret that was used: its possible values; empty if it was used more than once."""
    ways: list[list[tuple[bytes, ...]]] = []
    headers = request.headers
    if query := request.rel_url.raw_query_string:
        ways.append([_readings(value) for pair in query.split("&") if (value := _secret_of(pair)) is not None])
    if "X-Webhook-Secret" in headers:
        ways.append([(_bytes(value),) for value in headers.getall("X-Webhook-Secret")])
    if hdrs.AUTHORIZATION in headers:
        tokens = map(_bearer, headers.getall(hdrs.AUTHORIZATION))
        ways.append([(_bytes(token),) for token in tokens if token is not None])
    return [values[0] if len(values) == 1 else () for values in ways if values]


def _secret_of(pair: str) -> str | None:
    name, _, value = pair.partition("=")
    return value if name == "secret" or ("%" in name and unquote_to_bytes(name) == b"secret") else None


def _readings(value: str) -> tuple[bytes, ...]:
    """The possible values. A plus is a space in HTML forms and a plus in RFC 3986; both encodings are in use."""
    raw = _bytes(value)
    plain = unquote_to_bytes(raw)
    return (plain, unquote_to_bytes(raw.replace(b"+", b" "))) if b"+" in raw else (plain,)


def _bearer(value: str) -> str | None:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _bytes(text: str) -> bytes:
    """The bytes as they were sent: aiohttp decodes headers as UTF-8 with surrogate escapes."""
    return text.encode("utf-8", "surrogateescape")

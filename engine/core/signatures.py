"""Webhook signatures with a shared secret: reading, checking and creating them.

All are HMAC-SHA-256 over the bytes as sent, before Content-Encoding is decoded: senders sign these bytes, and the body
of an unknown sender is never decompressed.

- ``langsmith``: ``X-LangSmith-Signature: sha256=<hex>`` over the body (LangSmith's issue and Context Hub webhooks).
- ``github``: ``X-Hub-Signature-256: sha256=<hex>`` over the body, as GitHub and many others do.
- ``standard``: Standard Webhooks 1.0: ``webhook-id``, ``webhook-timestamp`` and
  ``webhook-signature: v1,<base64> v1,<base64>`` over ``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, assert_never

from engine.core.errors import EngineError
from engine.core.event import Signed
from engine.core.units import format_duration

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

Form = Literal["standard", "langsmith", "github"]
#: The signature headers, by form.
HEADERS: Final[Mapping[Form, str]] = {
    "standard": "webhook-signature",
    "langsmith": "X-LangSmith-Signature",
    "github": "X-Hub-Signature-256",
}
#: The maximum difference of a Standard Webhooks timestamp from this machine's clock, in seconds (as in the
#: specification's libraries). It limits replays of recorded requests.
TOLERANCE = 300
_HEX = re.compile("sha256=([0-9a-fA-F]{64})")
_SECONDS = re.compile("[0-9]{1,12}")
#: The prefix of a Standard Webhooks secret. Base64 follows, with or without padding.
PREFIX: Final = "whsec_"
#: Common mistakes in secrets, with a message for each.
_MISTAKES: Final = (
    (re.compile(r"v\d+[a-z]?,", re.IGNORECASE), "'v1,' is not part of the secret: it precedes signatures"),
    (re.compile("whsk_|whpk_"), "it is a key for asymmetric signatures (v1a), which the engine does not support"),
    (re.compile("(?-i:(?!whsec_))whsec_", re.IGNORECASE), "whsec_ is written in lower case"),
    (re.compile("(?!whsec_).*whsec_", re.DOTALL), "there is text before whsec_"),
)


class BadSignature(EngineError):  # noqa: N818 - named after the response
    """A request has no valid signature."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One signature header that is not verified yet.

    ``signed`` is the signed prefix before the body. ``id`` is the sender's id of the message, if the signature covers
    it.
    """

    form: Form
    digests: tuple[bytes, ...]
    signed: bytes = b""
    id: str = ""


def read_claims(headers: CIMultiDictProxy[str], now: float) -> tuple[tuple[Claim, ...], str]:
    """The signatures in a request's headers, and what is wrong with invalid ones. ``now`` is in Unix seconds.

    A header that was sent twice is invalid: it is not known which of the two a gateway checked.
    """
    claims, wrong = [], []
    for form, name in HEADERS.items():
        if name in headers:
            try:
                claims.append(_claim(form, headers, now))
            except BadSignature as error:
                wrong.append(str(error))
    return tuple(claims), "; ".join(wrong)


def check_claims(claims: Iterable[Claim], secrets: Sequence[str], body: bytes) -> Signed:
    """The signer, and the sender's id of the message if the signature covers it.

    Of several valid signatures the one with an id is used; of several matching secrets the first.

    Raises:
        BadSignature: no signature is valid.
    """
    signers = [(claim, _signer(claim, secrets, body)) for claim in claims]
    good = [Signed(_fingerprint(secret), claim.id) for claim, secret in signers if secret is not None]
    if not good:
        raise BadSignature("the signature is wrong: it was not made from these bytes with a configured secret")
    return next((signed for signed in good if signed.id), good[0])


def sign(form: Form, secret: str, body: bytes, message_id: str, at: float) -> dict[str, str]:
    """The headers that sign a body. Only ``standard`` signs ``message_id`` and ``at`` (Unix seconds)."""
    match form:
        case "langsmith" | "github":
            return {HEADERS[form]: f"sha256={_digest(secret.encode(), b'', body).hex()}"}
        case "standard":
            timestamp = str(int(at))
            digest = _digest(_keys(form, secret)[0], f"{message_id}.{timestamp}.".encode(), body)
            signature = f"v1,{base64.b64encode(digest).decode()}"
            return {"webhook-id": message_id, "webhook-timestamp": timestamp, HEADERS[form]: signature}
    assert_never(form)


def _claim(form: Form, headers: CIMultiDictProxy[str], now: float) -> Claim:
    text = _only(headers, HEADERS[form])
    match form:
        case "langsmith" | "github":
            found = _HEX.fullmatch(text.strip())
            if found is None:
                raise BadSignature(f"{HEADERS[form]} is not sha256= and 64 hexadecimal digits")
            return Claim(form, (bytes.fromhex(found[1]),))
        case "standard":
            message_id, timestamp = _only(headers, "webhook-id"), _only(headers, "webhook-timestamp")
            _check_time(timestamp, now)
            digests = tuple(_standard_digests(text))
            if not digests or not message_id:
                raise BadSignature("webhook-signature has no v1,<base64>, or webhook-id is empty")
            return Claim(form, digests, _bytes(f"{message_id}.{timestamp}."), message_id)
    assert_never(form)


def _only(headers: CIMultiDictProxy[str], name: str) -> str:
    values = headers.getall(name, [])
    if len(values) != 1:
        raise BadSignature(f"{name} is {'missing' if not values else 'sent more than once'}")
    return values[0]


def _check_time(timestamp: str, now: float) -> None:
    if not _SECONDS.fullmatch(timestamp):
        raise BadSignature("webhook-timestamp is not a time in Unix seconds")
    away = int(timestamp) - now
    if abs(away) > TOLERANCE:
        far = f"{format_duration(round(abs(away)))} {'behind' if away < 0 else 'ahead of'} this machine's clock"
        raise BadSignature(f"webhook-timestamp is {far}, more than {format_duration(TOLERANCE)}; check both clocks")


def _standard_digests(text: str) -> Iterator[bytes]:
    """The symmetric signatures in a list of any versions."""
    for item in text.split():
        version, _, signature = item.partition(",")
        if version == "v1" and (digest := _decoded(signature)):
            yield digest


def _signer(claim: Claim, secrets: Sequence[str], body: bytes) -> str | None:
    """The first secret that matches, or None. All secrets are compared, in constant time."""
    good = []
    for secret in secrets:
        matches = False
        for key in _keys(claim.form, secret):
            made = _digest(key, claim.signed, body)
            for digest in claim.digests:
                matches |= hmac.compare_digest(made, digest)
        if matches:
            good.append(secret)
    return good[0] if good else None


def _fingerprint(secret: str) -> str:
    """A 32-bit one-way digest: enough to distinguish senders, without revealing the secret."""
    return hmac.digest(_bytes(secret), b"whose messages these are", "sha256")[:4].hex()


def _keys(form: Form, secret: str) -> tuple[bytes, ...]:
    """The keys that a secret may mean.

    A Standard Webhooks secret is ``whsec_`` and base64. Some senders omit the prefix, some do not use base64.
    """
    if form != "standard":
        return (_bytes(secret),)
    decoded = _decoded(secret.removeprefix(PREFIX))
    if secret.startswith(PREFIX):
        return (decoded,) if decoded else ()
    return (decoded, _bytes(secret)) if decoded else (_bytes(secret),)


def _digest(key: bytes, before: bytes, body: bytes) -> bytes:
    """The HMAC of both. ``update`` does not copy a large body and releases the interpreter lock."""
    mac: Any = hmac.new(key, before, "sha256")
    mac.update(body)
    digest: bytes = mac.digest()
    return digest


def _decoded(text: str) -> bytes:
    """The decoded bytes; empty if the text is not base64."""
    try:
        return webhook_key(text)
    except ValueError:
        return b""


def _bytes(text: str) -> bytes:
    """The original bytes of a header or an environment variable."""
    return text.encode("utf-8", "surrogateescape")


def webhook_key(secret: str) -> bytes:
    """The key bytes of a Standard Webhooks secret. The prefix ``whsec_`` may be omitted.

    Raises:
        ValueError: it is not base64, or empty.
    """
    text = secret.removeprefix(PREFIX).rstrip("=")
    key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if not key:
        raise ValueError("no bytes")
    return key


def secret_problem(secret: str) -> str:
    """Why a signing secret cannot be used; empty if it can. Without ``whsec_`` any text is allowed."""
    for pattern, problem in _MISTAKES:
        if pattern.match(secret):
            return problem
    if not secret.startswith(PREFIX):
        return ""
    try:
        webhook_key(secret)
    except ValueError:
        return f"the part after {PREFIX} is not base64"
    return ""

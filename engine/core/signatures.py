"""Signatures over a request's body: those that webhooks' senders make with a shared secret, read, checked and made.

All are HMAC with SHA-256 over the bytes as they were sent, before any Content-Encoding is
undone: that is what a sender signs, and so nothing is unpacked for a stranger.

- ``langsmith``: ``X-LangSmith-Signature: sha256=<hex>`` over the body (LangSmith's issue and Context Hub webhooks).
- ``github``: ``X-Hub-Signature-256: sha256=<hex>`` over the body, as GitHub and many after it do.
- ``standard``: Standard Webhooks 1.0: ``webhook-id``, ``webhook-timestamp`` and
  ``webhook-signature: v1,<base64> v1,<base64>`` over ``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, assert_never

from engine.core.errors import EngineError
from engine.core.event import Signed
from engine.core.units import format_duration

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

Form = Literal["standard", "langsmith", "github"]
#: The headers that hold a signature, by form.
HEADERS: Final[Mapping[Form, str]] = {
    "standard": "webhook-signature",
    "langsmith": "X-LangSmith-Signature",
    "github": "X-Hub-Signature-256",
}
#: How far a Standard Webhooks timestamp may be from this machine's clock, in seconds (the specification's libraries
#: take as much). A request that somebody recorded is good for no longer.
TOLERANCE = 300
_HEX = re.compile("sha256=([0-9a-fA-F]{64})")
_SECONDS = re.compile("[0-9]{1,12}")
#: What a Standard Webhooks secret begins with; base64 follows, with or without its padding.
PREFIX: Final = "whsec_"
#: What people paste instead of the secret, and what it is.
_MISTAKES: Final = (
    (re.compile(r"v\d+[a-z]?,", re.IGNORECASE), "'v1,' is not part of the secret: it stands before signatures"),
    (re.compile("whsk_|whpk_"), "it is a key for asymmetric signatures (v1a), which are not checked here"),
    (re.compile("(?-i:(?!whsec_))whsec_", re.IGNORECASE), "whsec_ is written in lower case"),
    (re.compile("(?!whsec_).*whsec_", re.DOTALL), "something stands before whsec_"),
)


class BadSignature(EngineError):  # noqa: N818 - reads as the answer it causes
    """No signature of a request is good."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One signature header, not checked yet.

    ``signed`` is what is signed before the body; ``id`` is the sender's own id of the message,
    where the signature covers one.
    """

    form: Form
    digests: tuple[bytes, ...]
    signed: bytes = b""
    id: str = ""


def read_claims(headers: CIMultiDictProxy[str], now: float) -> tuple[tuple[Claim, ...], str]:
    """The signatures a request's headers hold, and what is wrong with those that cannot be good. ``now``: Unix seconds.

    A header that was sent twice counts as none: which of the two a gateway looked at is not known.
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
    """Who made a good signature, and the sender's own id of the message where it covers one.

    Of several good ones that with an id counts; of several secrets that fit, the first.

    Raises:
        BadSignature: none is good.
    """
    signers = [(claim, _signer(claim, secrets, body)) for claim in claims]
    good = [Signed(_fingerprint(secret), claim.id) for claim, secret in signers if secret is not None]
    if not good:
        raise BadSignature("the signature is wrong: it was not made of these bytes with a secret that is known here")
    return next((signed for signed in good if signed.id), good[0])


def sign(form: Form, secret: str, body: bytes, message_id: str, at: float) -> dict[str, str]:
    """The headers that sign a body. ``message_id`` and ``at`` (Unix seconds) are signed by ``standard`` only."""
    match form:
        case "langsmith" | "github":
            return {HEADERS[form]: f"sha256={_digest(secret.encode(), b'', body).hex()}"}
        case "standard":
            timestamp = str(int(at))
            digest = _digest(_standard_keys(secret)[0], f"{message_id}.{timestamp}.".encode(), body)
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
                raise BadSignature("webhook-signature holds no v1,<base64>, or webhook-id is empty")
            return Claim(form, digests, _bytes(f"{message_id}.{timestamp}."), message_id)
    assert_never(form)


def _only(headers: CIMultiDictProxy[str], name: str) -> str:
    values = headers.getall(name, [])
    if len(values) != 1:
        raise BadSignature(f"{name} is {'missing' if not values else 'there more than once'}")
    return values[0]


def _check_time(timestamp: str, now: float) -> None:
    if not _SECONDS.fullmatch(timestamp):
        raise BadSignature("webhook-timestamp is not a time in Unix seconds")
    away = int(timestamp) - now
    if abs(away) > TOLERANCE:
        far = f"{format_duration(round(abs(away)))} {'behind' if away < 0 else 'ahead of'} this machine's clock"
        raise BadSignature(
            f"webhook-timestamp is {far}, more than {format_duration(TOLERANCE)}; see that both are right"
        )


def _standard_digests(text: str) -> Iterator[bytes]:
    """The symmetric signatures of a list of any versions."""
    for item in text.split():
        version, _, signature = item.partition(",")
        if version == "v1" and (digest := _decoded(signature)):
            yield digest


def _signer(claim: Claim, secrets: Sequence[str], body: bytes) -> str | None:
    """The first secret that made it, or None. Every comparison is made, in constant time, on bytes."""
    good = [secret for secret in secrets if _is_good(claim, secret, body)]
    return good[0] if good else None


def _is_good(claim: Claim, secret: str, body: bytes) -> bool:
    good = False
    for key in _keys(claim.form)(secret):
        made = _digest(key, claim.signed, body)
        for digest in claim.digests:
            good |= hmac.compare_digest(made, digest)
    return good


def _fingerprint(secret: str) -> str:
    """32 bits of it, one way: enough to tell senders apart, and it says nothing of the secret."""
    return hmac.digest(_bytes(secret), b"whose messages these are", "sha256")[:4].hex()


def _keys(form: Form) -> Callable[[str], tuple[bytes, ...]]:
    return _standard_keys if form == "standard" else _plain_keys


def _plain_keys(secret: str) -> tuple[bytes, ...]:
    return (_bytes(secret),)


def _standard_keys(secret: str) -> tuple[bytes, ...]:
    """A Standard Webhooks secret is base64 behind ``whsec_``. Some leave that prefix out, and some the base64."""
    decoded = _decoded(secret.removeprefix(PREFIX))
    if secret.startswith(PREFIX):
        return (decoded,) if decoded else ()
    return (decoded, _bytes(secret)) if decoded else (_bytes(secret),)


def _digest(key: bytes, before: bytes, body: bytes) -> bytes:
    """Piece by piece: a body of many megabytes is not copied, and the interpreter's lock is given up meanwhile."""
    mac: Any = hmac.new(key, before, "sha256")
    mac.update(body)
    digest: bytes = mac.digest()
    return digest


def _decoded(text: str) -> bytes:
    """Base64's bytes; none where it is not base64."""
    try:
        return webhook_key(text)
    except ValueError:
        return b""


def _bytes(text: str) -> bytes:
    """The bytes that were on the wire or in the environment."""
    return text.encode("utf-8", "surrogateescape")


def webhook_key(secret: str) -> bytes:
    """The key that a Standard Webhooks secret stands for; its prefix ``whsec_`` may be left out.

    Raises:
        ValueError: it is not base64, or stands for no bytes.
    """
    text = secret.removeprefix(PREFIX).rstrip("=")
    key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if not key:
        raise ValueError("no bytes")
    return key


def secret_problem(secret: str) -> str:
    """Why no signature can be good with a signing secret; empty if one can. It may be any text without ``whsec_``."""
    for pattern, problem in _MISTAKES:
        if pattern.match(secret):
            return problem
    if not secret.startswith(PREFIX):
        return ""
    try:
        webhook_key(secret)
    except ValueError:
        return f"what stands behind {PREFIX} is not base64"
    return ""

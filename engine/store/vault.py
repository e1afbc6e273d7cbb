"""Encryption at rest: what rows hold of payloads, sealed with keys that are kept outside the store.

A sealed value is ``key's id (4) · salt (16) · AES-256-GCM's ciphertext and tag``. Its key is
HMAC-SHA256(store key, salt): a key of its own for every value, so that no number of them wears
the store key out, as random nonces of 12 bytes under one key would after some billions. What it
belongs to (column and row) is authenticated with it: a sealed value moved elsewhere does not open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import StoreError

#: Where the keys come from: one or several, with commas between them.
VARIABLE = "ENGINE_STORE_KEY"
#: Added to a data encoding: what it says is sealed.
SEALED = 2
_KEY_BYTES, _ID_BYTES, _SALT_BYTES = 32, 4, 16
#: Each value has a key of its own, which is used once.
_NONCE = bytes(12)


class MissingKey(StoreError):  # noqa: N818 - reads as what is the matter
    """A value is sealed with a key that is not at hand."""


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals with the first of its keys, opens with any. Without keys it lets everything be."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)
    _by_id: dict[bytes, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._by_id.update((_id_of(key), key) for key in self.keys)

    @property
    def seals(self) -> bool:
        """Whether it has a key."""
        return bool(self.keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """What its keys are known by in a store, the one that seals first. They give nothing away."""
        return tuple(_id_of(key).hex() for key in self.keys)

    def seal(self, data: bytes, place: str) -> bytes:
        """Data that only the key's owner can read. ``place`` names the column and the row it stands in."""
        key, salt = self.keys[0], os.urandom(_SALT_BYTES)
        sealed = AESGCM(hmac.digest(key, salt, "sha256")).encrypt(_NONCE, data, place.encode())
        return _id_of(key) + salt + sealed

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed.

        Raises:
            MissingKey: with a key that is not here.
            ValueError: the data is damaged, or was sealed for another place.
        """
        key = self._by_id.get(sealed[:_ID_BYTES])
        if key is None:
            raise MissingKey(f"it is sealed with the key {sealed[:_ID_BYTES].hex()}, which {VARIABLE} does not hold")
        salt, rest = sealed[_ID_BYTES : _ID_BYTES + _SALT_BYTES], sealed[_ID_BYTES + _SALT_BYTES :]
        try:
            return AESGCM(hmac.digest(key, salt, "sha256")).decrypt(_NONCE, rest, place.encode())
        except InvalidTag:
            raise ValueError("sealed data is damaged, or stands where it does not belong") from None


def vault_of(keys: str) -> Vault:
    """A vault with the keys of a text such as ``ENGINE_STORE_KEY`` holds; none if it is empty.

    Raises:
        StoreError: one of them is no key.
    """
    texts = [part.strip() for part in keys.split(",")] if keys.strip() else []
    return Vault(tuple(_key(text, number) for number, text in enumerate(texts, 1)))


def new_key() -> str:
    """A key made of the kernel's randomness, as ``ENGINE_STORE_KEY`` takes it."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


def _key(text: str, number: int) -> bytes:
    try:
        key = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        which = "the key" if number == 1 else f"key {number}"
        raise StoreError(f"{VARIABLE}: {which} is not {_KEY_BYTES} bytes in base64; make one with: engine keygen")
    return key


def _id_of(key: bytes) -> bytes:
    return sha256(b"langsmith-rules-engine store key" + key).digest()[:_ID_BYTES]

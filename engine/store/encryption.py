"""Encryption at rest: what rows hold of payloads, sealed with keys that are kept outside the store.

A sealed value is ``key's id (4) · salt (16) · nonce (12) · AES-256-GCM's ciphertext and tag``. It
is encrypted with HMAC-SHA256(store key, salt), and each process draws a salt of its own: so no
number of values wears the store key out, as random nonces under one key would after some
billions. What it belongs to (column and row) is authenticated with it: a sealed value moved
elsewhere does not open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.core.errors import StoreError

#: Where the keys come from: one or several, with commas between them.
VARIABLE = "ENGINE_STORE_KEY"
#: Added to a data encoding: what it says is sealed.
ENCRYPTED = 2
_KEY_BYTES = 32
_ID, _SALT, _NONCE = slice(0, 4), slice(4, 20), slice(20, 32)
_HEAD = _NONCE.stop
#: How many values are sealed with one salt. The chance that two of their nonces are equal is then one in 2^41.
_MOST_ENCRYPTED = 2**28
#: How many derived keys are kept at hand, to open with.
_MOST_DERIVED = 32


class MissingKey(StoreError):  # noqa: N818 - reads as what is the matter
    """A value is sealed with a key that is not at hand."""


class Keyring:
    """Seals with the first of its keys, opens with any. Without keys it lets everything be."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = {_id_of(key): key for key in keys}
        self._derived: dict[bytes, AESGCM] = {}
        self._salt, self._left = b"", 0

    @property
    def encrypts(self) -> bool:
        """Whether it has a key."""
        return bool(self._keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """What its keys are known by in a store, the one that seals first. They give nothing away."""
        return tuple(key_id.hex() for key_id in self._keys)

    def encrypt(self, data: bytes, place: str) -> bytes:
        """Data that only the key's owner can read. ``place`` names the column and the row it stands in."""
        if self._left <= 0:
            self._salt, self._left = os.urandom(16), _MOST_ENCRYPTED
        self._left -= 1
        head, nonce = next(iter(self._keys)) + self._salt, os.urandom(12)
        return head + nonce + self._cipher(head).encrypt(nonce, data, place.encode())

    def decrypt(self, sealed: bytes, place: str) -> bytes:
        """What was sealed.

        Raises:
            MissingKey: with a key that is not here.
            ValueError: the data is damaged, or was sealed for another place.
        """
        if sealed[_ID] not in self._keys:
            raise MissingKey(f"it is sealed with the key {sealed[_ID].hex()}, which {VARIABLE} does not hold")
        try:
            cipher = self._cipher(sealed[: _SALT.stop])
            return cipher.decrypt(sealed[_NONCE], sealed[_HEAD:], place.encode())
        except (InvalidTag, ValueError):  # the second where it is cut off
            raise ValueError("sealed data is damaged, or stands where it does not belong") from None

    def derive(self, seed: bytes) -> tuple[bytes, ...]:
        """The keys that a seed and each of its keys make together, the one that seals first; the seed itself last."""
        return (*(hmac.digest(key, seed, "sha256") for key in self._keys.values()), seed)

    def _cipher(self, head: bytes) -> AESGCM:
        """The cipher of a key's id and a salt."""
        cipher = self._derived.get(head)
        if cipher is None:
            if len(self._derived) >= _MOST_DERIVED:
                self._derived.clear()
            cipher = AESGCM(hmac.digest(self._keys[head[_ID]], head[_SALT], "sha256"))
            self._derived[head] = cipher
        return cipher


def fingerprints(keys: Sequence[bytes], text: str) -> list[str]:
    """A keyed hash of a text by each of the keys that a keyring derived: the one of now, then those of before.

    Raises:
        StoreError: there is no key yet.
    """
    if not keys:
        raise StoreError("the store is not open")
    return [hmac.digest(key, text.encode(errors="replace"), "sha256").hex() for key in keys]


def keyring_from(keys: str) -> Keyring:
    """A keyring with the keys of a text such as ``ENGINE_STORE_KEY`` holds; none if it is empty.

    Raises:
        StoreError: one of them is no key.
    """
    texts = [part.strip() for part in keys.split(",")] if keys.strip() else []
    return Keyring(tuple(_key(text, number) for number, text in enumerate(texts, 1)))


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
    return sha256(b"langsmith-rules-engine store key" + key).digest()[_ID]

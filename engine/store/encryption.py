"""Encryption at rest: payload data in rows is encrypted with keys that are stored outside the store.

An encrypted value is ``key id (4) · salt (16) · nonce (12) · AES-256-GCM ciphertext and tag``. The encryption key
is HMAC-SHA256(store key, salt), and each process draws its own salt. This keeps the number of random nonces under one
key far below the limit of AES-GCM. The column and row of a value are its associated data: a value moved to another
place does not decrypt.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.core.errors import StoreError

#: The environment variable with the keys, separated by commas.
VARIABLE = "ENGINE_STORE_KEY"
#: Added to the number of a data encoding when the data is encrypted.
ENCRYPTED = 2
_KEY_BYTES = 32
_ID_PREFIX = b"langsmith-rules-engine store key"
_ID, _SALT, _NONCE = slice(0, 4), slice(4, 20), slice(20, 32)
_HEAD = _NONCE.stop
#: How many values are encrypted with one salt. The chance that two of their nonces are equal is then one in 2^41.
_MOST_ENCRYPTED = 2**28
#: How many derived keys are cached for decryption.
_MOST_DERIVED = 32


class MissingKey(StoreError):  # noqa: N818 - names the condition
    """A value is encrypted with a key that is not configured."""


class Keyring:
    """Encrypts with the first of its keys, decrypts with any."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = {sha256(_ID_PREFIX + key).digest()[_ID]: key for key in keys}
        self._cipher = lru_cache(_MOST_DERIVED)(self._new_cipher)
        self._salt, self._left = b"", 0

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys as recorded in a store, the encrypting key first. An id reveals nothing about its key."""
        return tuple(key_id.hex() for key_id in self._keys)

    def encrypt(self, data: bytes, place: str) -> bytes:
        """Encrypt data. ``place`` names the column and row that will hold it."""
        if self._left <= 0:
            self._salt, self._left = os.urandom(16), _MOST_ENCRYPTED
        self._left -= 1
        head, nonce = next(iter(self._keys)) + self._salt, os.urandom(12)
        return head + nonce + self._cipher(head).encrypt(nonce, data, place.encode())

    def decrypt(self, sealed: bytes, place: str) -> bytes:
        """Decrypt what ``encrypt`` returned for the same place.

        Raises:
            MissingKey: the data was encrypted with a key that is not in this keyring.
            ValueError: the data is damaged, or was encrypted for another place.
        """
        if sealed[_ID] not in self._keys:
            raise MissingKey(f"it is encrypted with the key {sealed[_ID].hex()}, which is not in {VARIABLE}")
        try:
            cipher = self._cipher(sealed[: _SALT.stop])
            return cipher.decrypt(sealed[_NONCE], sealed[_HEAD:], place.encode())
        except (InvalidTag, ValueError):  # ValueError: the data is cut off
            raise ValueError("encrypted data is damaged, or was moved from another row") from None

    def derive(self, seed: bytes) -> tuple[bytes, ...]:
        """Derive a key from the seed and each key, the encrypting key first."""
        return tuple(hmac.digest(key, seed, "sha256") for key in self._keys.values())

    def _new_cipher(self, head: bytes) -> AESGCM:
        """The cipher for ``head``, a key id and a salt."""
        return AESGCM(hmac.digest(self._keys[head[_ID]], head[_SALT], "sha256"))


def fingerprints(keys: Sequence[bytes], text: str) -> list[str]:
    """Keyed hashes of a text, one for each key: the current key first, then earlier ones.

    Raises:
        StoreError: there are no keys, because the store is not open.
    """
    if not keys:
        raise StoreError("the store is not open")
    return [hmac.digest(key, text.encode(errors="replace"), "sha256").hex() for key in keys]


def keyring_from(keys: str) -> Keyring | None:
    """Parse keys as in ``ENGINE_STORE_KEY``. None for an empty text: values are not encrypted.

    Raises:
        StoreError: a key is invalid.
    """
    if not keys.strip():
        return None
    return Keyring([_key(part.strip(), number) for number, part in enumerate(keys.split(","), 1)])


def new_key() -> str:
    """Make a random key in the format of ``ENGINE_STORE_KEY``."""
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

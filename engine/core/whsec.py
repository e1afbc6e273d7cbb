"""The secrets of Standard Webhooks: ``whsec_`` and base64, with or without its padding."""

from __future__ import annotations

import base64
import re
from typing import Final

PREFIX: Final = "whsec_"
#: What people paste instead of the secret, and what it is.
_MISTAKES: Final = (
    (re.compile(r"v\d+[a-z]?,", re.IGNORECASE), "'v1,' is not part of the secret: it stands before signatures"),
    (re.compile("whsk_|whpk_"), "it is a key for asymmetric signatures (v1a), which are not checked here"),
    (re.compile("(?-i:(?!whsec_))whsec_", re.IGNORECASE), "whsec_ is written in lower case"),
    (re.compile("(?!whsec_).*whsec_", re.DOTALL), "something stands before whsec_"),
)


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

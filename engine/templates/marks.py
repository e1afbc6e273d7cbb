"""Characters of event data that must be escaped for Slack, marked one by one until the text is finished.

While a template renders, every ``&``, ``<`` and ``>`` that came out of event data stands as
one character that Unicode sets aside for a program's own use. A mark travels with its character
through slicing, joining, formatting, upper-casing, truncating and JSON, so escaping can neither be
lost on the way nor be applied twice, and no cut can halve an entity. At the very end marks become
``&amp;``, ``&lt;`` and ``&gt;``; what the author wrote was never marked. Text and marked text have
the same length, so that places found in one are places in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_AMP, _LT, _GT = "\ufdd0", "\ufdd1", "\ufdd2"


def mark(text: str) -> str:
    """The text with every special character marked as event data."""
    if "&" in text or "<" in text or ">" in text:
        return text.replace("&", _AMP).replace("<", _LT).replace(">", _GT)
    return text


def plain(text: str) -> str:
    """The text as it was before marking; of the same length."""
    if text.isascii():
        return text
    return text.replace(_AMP, "&").replace(_LT, "<").replace(_GT, ">")


def entities(text: str) -> str:
    """The finished text: marks turned into Slack's three entities."""
    if text.isascii():
        return text
    return text.replace(_AMP, "&amp;").replace(_LT, "&lt;").replace(_GT, "&gt;")


def escaped(text: str) -> str:
    """A text with every special character turned into its entity at once."""
    return entities(mark(text))


def throughout(change: Callable[[str], str], value: Any) -> Any:
    """A JSON value with every text in it changed, keys too. What is neither text nor container stays as it is."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {throughout(change, key): throughout(change, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [throughout(change, item) for item in value]
    return value


def pieces(text: str, lengths: Sequence[str], gap: int = 0) -> list[str]:
    """Cut a text as its plain form was cut; ``gap`` is the length of what stood between the pieces."""
    found, at = [], 0
    for piece in lengths:
        found.append(text[at : at + len(piece)])
        at += len(piece) + gap
    return found

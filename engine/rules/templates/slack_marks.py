"""Characters of event data that mean something to Slack, marked one by one until the text is finished.

While a template renders, each such character that came out of event data stands as one character
that Unicode sets aside for a program's own use. A mark travels with its character through
slicing, joining, formatting, upper-casing, truncating and JSON, so escaping can neither be lost on
the way nor be applied twice, and no cut can halve an entity. At the very end ``slack_escape`` turns
marks into what Slack shows as these characters; what the author wrote was never marked. Text and
marked text have the same length, so that places found in one are places in the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

#: The characters that are marked, in the order of their marks.
SPECIAL: Final = "&<>|!@#:[]()*_`~\\"
#: The mark of each.
MARKS: Final = {character: chr(0xFDD0 + number) for number, character in enumerate(SPECIAL)}
#: What each mark stands for.
UNMARKED: Final = {mark: character for character, mark in MARKS.items()}
#: Stands for an opening that the author wrote right before event data: ``<`` of a link, ``(`` of a Markdown link.
OPENING, OPENING_PAREN = "\ufdee", "\ufdef"
_OWN = {OPENING: "<", OPENING_PAREN: "("}
_SPECIAL = re.compile(f"[{re.escape(SPECIAL)}]")
_MARK = re.compile(f"[{''.join(UNMARKED)}{OPENING}{OPENING_PAREN}]")
_FORGED = re.compile(f"[{OPENING}{OPENING_PAREN}]")


def mark(text: str) -> str:
    """The text with every special character marked as event data."""
    if not text.isascii():
        text = _FORGED.sub("\ufffd", text)
    if _SPECIAL.search(text):
        for character, sign in MARKS.items():
            text = text.replace(character, sign)
    return text


def plain(text: str) -> str:
    """The text as it was before marking; of the same length."""
    if not text.isascii() and _MARK.search(text):
        for sign, character in (UNMARKED | _OWN).items():
            text = text.replace(sign, character)
    return text


def opened(text: str) -> str:
    """A piece of the author's text that event data follows: a link that begins at its end is marked."""
    if text.endswith("<"):
        return text[:-1] + OPENING
    return text[:-1] + OPENING_PAREN if text.endswith("](") else text


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

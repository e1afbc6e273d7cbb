"""Texts and blocks within Slack's limits (docs.slack.dev: chat.postMessage, Block Kit reference)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

#: Slack's limits, in characters and pieces.
TEXT = 4000
_FALLBACK, _SECTION, _FIELD, _HEADER, _MARKDOWN, _BUTTON = 1000, 3000, 2000, 150, 12000, 75
_BLOCKS, _FIELDS, _ELEMENTS = 50, 10, 10

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
#: Characters of the longest entity.
_LONGEST_ENTITY = 33
#: ``<address>`` or ``<address|label>``.
_LINK = re.compile(r"<[^<>\s][^<>\n]*>")
_FENCE = "```"
_JOINER = "\u200d"
#: The most characters that are kept together because they are shown as one.
_LONGEST_GRAPHEME = 32


def cut(text: str, limit: int, tail: str = "…", *, markup: bool = True) -> str:
    """Shorten a text to ``limit`` characters, ``tail`` included.

    The cut is never inside an entity such as ``&amp;``, or inside what is shown as one character. In ``markup``
    (mrkdwn) it is never inside a link either: the link's label is shortened, or the link left out; and a code block
    that was begun is ended.
    """
    if len(text) <= limit:
        return text
    tail = tail if len(tail) < limit // 2 else "…"
    room = limit - len(tail)
    if not markup:
        return text[: _boundary(text, room)] + tail
    head = _whole_links(text, room)
    if head.count(_FENCE) % 2:
        head = _whole_links(text, room - len(_FENCE) - 1)
        head += f"\n{_FENCE}" if head.count(_FENCE) % 2 else ""
    return head + tail


def _whole_links(text: str, end: int) -> str:
    """The text before ``end``, its last link with a shorter label, or left out where no label fits."""
    opening = text.rfind("<", 0, end)
    link = _LINK.match(text, opening) if opening >= 0 else None
    if link is None or link.end() <= end:
        return text[: _boundary(text, end)]
    label = link[0].find("|") + opening + 1
    last = _boundary(text, end - 2)
    return f"{text[:last]}…>" if opening < label < last else text[:opening]


def _boundary(text: str, end: int) -> int:
    """The last place up to ``end`` that is inside neither an entity nor what is shown as one character."""
    ampersand = text.rfind("&", max(0, end - _LONGEST_ENTITY), end)
    entity = _ENTITY.match(text, ampersand) if ampersand >= 0 else None
    if entity is not None and entity.end() > end:
        end = ampersand
    for place in range(end, max(0, end - _LONGEST_GRAPHEME), -1):
        if not _joined(text, place):
            return place
    return end


def _joined(text: str, place: int) -> bool:
    """Whether the characters before and behind a place are shown as one: marks, joined emoji, flags."""
    before, behind = text[place - 1], text[place]
    if _JOINER in (before, behind) or unicodedata.category(behind).startswith("M"):
        return True
    if "\U0001f3fb" <= behind <= "\U0001f3ff" or "\U000e0020" <= behind <= "\U000e007f":
        return True  # the tone of a skin; the letters of a flag's region
    start = place
    while start and place - start <= _LONGEST_GRAPHEME and _is_half_flag(text[start - 1]):
        start -= 1
    return _is_half_flag(behind) and (place - start) % 2 == 1


def _is_half_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def fit_blocks(blocks: list[dict[str, Any]], tail: str) -> list[dict[str, Any]]:
    """Blocks with their texts and numbers within Slack's limits; whatever else stands there is left to Slack."""
    kept = [_fit_block(block, tail) for block in blocks[:_BLOCKS]]
    if len(blocks) > _BLOCKS:
        left_out = len(blocks) - _BLOCKS + 1
        words = f"{left_out} more blocks {tail}"
        kept[-1] = {"type": "context", "elements": [{"type": "mrkdwn", "text": words}]}
    return kept


def _fit_block(block: dict[str, Any], tail: str) -> dict[str, Any]:
    fitted, kind = dict(block), block.get("type")
    if kind == "markdown" and isinstance(block.get("text"), str):
        fitted["text"] = cut(block["text"], _MARKDOWN, markup=False)
    elif "text" in block:
        fitted["text"] = _fit_text(block["text"], _HEADER if kind == "header" else _SECTION, tail)
    if isinstance(block.get("fields"), list):
        fitted["fields"] = [_fit_text(text, _FIELD, tail) for text in block["fields"][:_FIELDS]]
    if kind == "context" and isinstance(block.get("elements"), list):
        fitted["elements"] = [_fit_text(element, _SECTION, tail) for element in block["elements"][:_ELEMENTS]]
    if kind == "actions" and isinstance(block.get("elements"), list):
        fitted["elements"] = [_fit_button(element, tail) for element in block["elements"]]
    if isinstance(block.get("accessory"), dict):
        fitted["accessory"] = _fit_button(block["accessory"], tail)
    return fitted


def _fit_button(element: Any, tail: str) -> Any:
    if not isinstance(element, dict) or "text" not in element:
        return element
    return {**element, "text": _fit_text(element["text"], _BUTTON, tail)}


def _fit_text(text: Any, limit: int, tail: str) -> Any:
    """A Block Kit text object within a limit."""
    if not isinstance(text, dict) or not isinstance(text.get("text"), str):
        return text
    markup = text.get("type") == "mrkdwn"
    return {**text, "text": cut(text["text"], limit, tail if markup else "…", markup=markup)}


def fallback_of(blocks: list[dict[str, Any]]) -> str:
    """The blocks' own texts, for notifications and screen readers; empty where they have none."""
    return cut(" ".join(text for block in blocks for text in _texts(block)).strip(), _FALLBACK)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        text = value.get("text")
        if isinstance(text, str):
            yield text
        else:
            yield from _texts(text)
        for name in ("fields", "elements"):
            yield from _texts(value.get(name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)

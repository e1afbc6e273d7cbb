"""Cuts and splits texts to Slack's limits without breaking a link, an entity or a character."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

#: How Slack reads a text: as mrkdwn, as the Markdown of a ``markdown`` block, or literally.
Markup = Literal["mrkdwn", "markdown", "plain_text"]

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
#: The maximum length of an entity, in characters.
_LONGEST_ENTITY = 33
#: A link in three parts: opening, label, closing. Without a label the opening is the whole link.
_LINKS: dict[Markup, re.Pattern[str]] = {
    "mrkdwn": re.compile(r"(<[^<>|\s][^<>|\n]*)(\|[^<>\n]*)?(>)"),
    "markdown": re.compile(r"(!?\[)((?:\\.|[^\[\]\\])*)(\]\((?:\\.|[^()\\\n])*\))|(<[^<>\s][^<>\n]*>)()()", re.DOTALL),
}
_FENCE = "```"
_JOINER = "\u200d"
#: The maximum number of code points that are kept together because they are displayed as one character.
_LONGEST_GRAPHEME = 32


def cut(text: str, limit: int, tail: str = "…", markup: Markup = "mrkdwn") -> str:
    """Shorten a text to ``limit`` characters, ``tail`` included.

    The cut is never inside an entity such as ``&amp;``, inside a displayed character, or inside a link: a link's label
    is shortened, or the link omitted. An open code block is closed.
    """
    if len(text) <= limit:
        return text
    tail = tail if len(tail) < limit // 2 else "…"
    return _head(text, limit - len(tail), markup)[0] + tail


@dataclass(frozen=True, slots=True)
class Pieces:
    """The parts of a split text. ``whole``: nothing is omitted."""

    texts: Sequence[str]
    whole: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """The start of a text, and the rest. ``between``: cut between two lines; ``whole``: nothing was shortened."""

    head: str
    rest: str
    between: bool
    whole: bool


def split(text: str, limit: int, most: int, tail: Callable[[int], str]) -> Pieces:
    """Split a mrkdwn text into at most ``most`` pieces of ``limit`` characters, between lines if possible.

    If the text does not fit, the last piece ends with ``tail``, which gets the number of omitted lines.
    """
    pieces: list[str] = []
    whole = True
    while len(text) > limit and len(pieces) < most - 1:
        part = _first_lines(text, limit)
        pieces.append(part.head)
        text, whole = part.rest, whole and part.whole
    last = _fewer_lines(text, limit, tail)
    if not whole and len(text) + len(tail(0)) <= limit:  # a label was shortened, and nothing says so yet
        last += tail(0)
    return Pieces([*pieces, last], whole and len(text) <= limit)


def _fewer_lines(text: str, limit: int, tail: Callable[[int], str]) -> str:
    """The whole lines that fit, and the number of omitted ones."""
    if len(text) <= limit:
        return text
    lines_after = text.count("\n")
    reserved = len(tail(lines_after)) + (1 if lines_after else 0)
    if reserved >= limit // 2:
        return cut(text, limit)
    part = _first_lines(text, limit - reserved)
    lines = part.rest.split("\n")[0 if part.between else 1 :]
    ending = tail(sum(1 for line in lines if line.strip(" `")))
    return f"{part.head}\n{ending}" if part.between else part.head + ending


def _first_lines(text: str, limit: int) -> _Part:
    """As many whole lines as fit, or else a part of one. A code block that is cut continues in the rest."""
    line_end = text.rfind("\n", limit // 2, limit - len(_FENCE))
    if line_end >= 0:
        head, rest = text[:line_end], text[line_end + 1 :]
        if _fences(head):
            head, rest = f"{head}\n{_FENCE}", f"{_FENCE}\n{rest}"
        return _Part(head, rest, between=True, whole=True)
    head, end = _head(text, limit, "mrkdwn")
    whole = head.removesuffix(f"\n{_FENCE}") == text[:end].removesuffix(f"\n{_FENCE}")
    rest = f"{_FENCE}\n{text[end:]}" if _fences(text[:end]) else text[end:]
    return _Part(head, rest, between=False, whole=whole)


def _fences(text: str) -> bool:
    """Whether a text ends within a code block."""
    return text.count(_FENCE) % 2 == 1


def _head(text: str, room: int, markup: Markup) -> tuple[str, int]:
    """The start of a text in at most ``room`` characters, and where in the text it ends."""
    if markup == "plain_text":
        end = _boundary(text, room)
        return text[:end], end
    head, end = _whole_links(text, room, markup)
    if _fences(head):
        head, end = _whole_links(text, room - len(_FENCE) - 1, markup)
        head += f"\n{_FENCE}" if _fences(head) else ""
    return head, end


def _whole_links(text: str, room: int, markup: Markup) -> tuple[str, int]:
    """The same without a partial link: its label is shortened, or the link is omitted if no label fits."""
    for link in _LINKS[markup].finditer(text):
        if link.start() >= room:
            break
        if link.end() > room:
            return _short_link(text, link, room, markup)
    end = _boundary(text, room, markup)
    return text[:end], end


def _short_link(text: str, link: re.Match[str], room: int, markup: Markup) -> tuple[str, int]:
    opening, label, closing = link[1] or "", link[2] or "", link[3] or ""
    if label.startswith("|"):
        opening, label = opening + "|", label[1:]
    space = room - link.start() - len(opening) - len(closing) - 1
    if label and space > 0:
        shown = label if len(label) <= space else label[: _boundary(label, space, markup)] + "…"
        return text[: link.start()] + opening + shown + closing, link.end()
    if link.start() > room // 2 or len(opening) + len(closing) < room // 2:
        return text[: link.start()], link.start()
    # The address alone fills the text: the text around it is more important.
    before, after = text[: link.start()], text[link.end() :]
    head, end = _head(before + label + after, room, markup)
    moved = len(link[0]) - len(label)
    return head, end if end <= link.start() else min(end + moved, len(text))


def _boundary(text: str, end: int, markup: Markup = "plain_text") -> int:
    """The last place up to ``end`` that is inside neither an entity nor a displayed character."""
    if end >= len(text):
        return len(text)
    ampersand = text.rfind("&", max(0, end - _LONGEST_ENTITY), end)
    entity = _ENTITY.match(text, ampersand) if ampersand >= 0 else None
    if entity is not None and entity.end() > end:
        end = ampersand
    if markup == "markdown":  # a backslash stays with what it escapes
        end -= (end - len(text[:end].rstrip("\\"))) % 2
    for place in range(end, max(0, end - _LONGEST_GRAPHEME), -1):
        if not _joined(text, place):
            return place
    return end


def _joined(text: str, place: int) -> bool:
    """Whether the code points before and after a place are displayed as one: marks, joined emoji, flags."""
    before, behind = text[place - 1], text[place]
    if _JOINER in (before, behind) or unicodedata.category(behind).startswith("M"):
        return True
    if "\U0001f3fb" <= behind <= "\U0001f3ff" or "\U000e0020" <= behind <= "\U000e007f":
        return True  # skin tones; letters of a region's flag
    start = place
    while start and place - start <= _LONGEST_GRAPHEME and _is_half_flag(text[start - 1]):
        start -= 1
    return _is_half_flag(behind) and (place - start) % 2 == 1


def _is_half_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"

"""Fits blocks into Slack's limits, for each block and for all together (docs.slack.dev: Block Kit reference)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from actions._slack_text import Markup, cut, split

Json = dict[str, Any]
#: The end of a text that was cut. The argument is the number of omitted lines, 0 for a part of one.
Tail = Callable[[int], str]

_BLOCKS, _FIELDS, _ELEMENTS, _ACTIONS = 50, 10, 10, 25
_FALLBACK, _URL = 1000, 3000
#: The target of a button, without schemes that a browser would execute.
_ADDRESS = re.compile(r"(?!(?:javascript|vbscript|data|file):)[a-z][a-z0-9+.-]*:\S+", re.IGNORECASE)
_IMAGE = re.compile(r"https?://\S+", re.IGNORECASE)
#: The maximum characters of all blocks together, and what each block except the first adds. Slack documents 12,000 for
#: ``markdown`` blocks; for other blocks its limit is slightly higher.
TOGETHER, BLOCK_COST = 12_000, 125
#: The maximum length of each text of a block, by the block's type, in characters.
_BLOCK_TEXTS: Mapping[Any, Mapping[str, int]] = {
    "section": {"text": 3000},
    "header": {"text": 150},
    "markdown": {"text": 12_000},
    "image": {"title": 2000, "alt_text": 2000},
    "video": {"title": 200, "author_name": 50, "alt_text": 2000, "description": 200},
    "input": {"label": 2000, "hint": 2000},
}
_ELEMENT_TEXTS: Mapping[str, int] = {"text": 75, "value": 2000, "placeholder": 150, "alt_text": 2000}
_FIELD, _CONTEXT, _OPTION = 2000, 3000, 75


@dataclass(slots=True)
class Fitted:
    """Blocks within Slack's limits. ``cuts`` names what was shortened or omitted: ``blocks[1].text``."""

    blocks: list[Json]
    cuts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Slot:
    """A text within a block: ``holder[key]``, with its maximum length."""

    where: str
    holder: Json
    key: str
    limit: int
    markup: Markup

    @property
    def text(self) -> str:
        return str(self.holder[self.key])

    def cut(self, limit: int, tail: Tail) -> str:
        if self.markup == "mrkdwn":
            return split(self.text, limit, 1, tail).texts[0]
        return cut(self.text, limit, markup=self.markup)


def fit_blocks(blocks: Sequence[Json], tail: Tail) -> Fitted:
    """Remove empty blocks, and shorten texts and lists to Slack's limits. Slack checks everything else.

    If only the total of the texts is too long, the longest are cut to the same length.
    """
    cuts: list[str] = []
    given = [(f"blocks[{number}]", deepcopy(block)) for number, block in enumerate(blocks)]
    for where, block in given:
        _drop_bad_urls(where, block, cuts)
    kept = [(where, block) for where, block in given if _fill(block)]
    fitted = Fitted([block for _, block in kept[:_BLOCKS]], cuts)
    if len(kept) > _BLOCKS:
        omitted = len(kept) - _BLOCKS + 1
        cuts.append(f"{omitted} blocks")
        fitted.blocks[-1] = {
            "type": "context",
            "elements": [{"type": "mrkdwn", "text": f"{omitted} more blocks {tail(0)}"}],
        }
    for (where, _), block in zip(kept, fitted.blocks, strict=False):
        _fit_counts(where, block, cuts)
    _fit_texts([where for where, _ in kept], fitted, tail)
    return fitted


def _fit_texts(places: Sequence[str], fitted: Fitted, tail: Tail) -> None:
    slots = [slot for where, block in zip(places, fitted.blocks, strict=False) for slot in _slots(where, block)]
    shown = [slot for slot in slots if slot.key == "text"]
    others = _text_length(fitted.blocks) - sum(len(slot.text) for slot in shown)
    room = TOGETHER - BLOCK_COST * (len(fitted.blocks) - 1) - others
    longest = _fair_length([min(len(slot.text), slot.limit) for slot in shown], room)
    for slot in slots:
        limit = min(slot.limit, longest) if slot.key == "text" else slot.limit
        if len(slot.text) > limit:
            slot.holder[slot.key] = slot.cut(limit, tail)
            fitted.cuts.append(slot.where)


def _fair_length(lengths: Sequence[int], room: int) -> int:
    """The length to which the longest texts are cut so that all fit. Short texts leave their room to the others."""
    remaining = sorted(lengths)
    while remaining and remaining[0] * len(remaining) <= room:
        room -= remaining.pop(0)
    return max(room // len(remaining), 1) if remaining else max(lengths, default=0)


def _slots(where: str, block: Json) -> Iterator[_Slot]:
    """The texts of a block with individual limits."""
    kind = block.get("type")
    yield from _texts_at(where, block, _BLOCK_TEXTS.get(kind, {}), "markdown" if kind == "markdown" else "plain_text")
    if kind in ("rich_text", "table"):
        yield from _literal_texts(where, block)
    for number, one in enumerate(_list(block, "fields")):
        yield from _text_of(f"{where}.fields[{number}]", one, _FIELD)
    for place, element in _elements(where, block):
        if element.get("type") in ("mrkdwn", "plain_text"):
            yield from _text_of(place, element, _CONTEXT)
        else:
            yield from _of_element(place, element)


def _literal_texts(where: str, tree: Any) -> Iterator[_Slot]:
    """Every text of a ``rich_text`` or ``table`` block: Slack limits only their total."""
    if isinstance(tree, list):
        for number, one in enumerate(tree):
            yield from _literal_texts(f"{where}[{number}]", one)
    elif isinstance(tree, dict):
        if isinstance(tree.get("text"), str):
            yield _Slot(where, tree, "text", TOGETHER, "plain_text")
        for name in ("elements", "rows"):
            yield from _literal_texts(f"{where}.{name}", tree.get(name))


def _of_element(where: str, element: Json) -> Iterator[_Slot]:
    yield from _texts_at(where, element, _ELEMENT_TEXTS)
    for number, option in enumerate(_list(element, "options")):
        yield from _texts_at(f"{where}.options[{number}]", option, {"text": _OPTION, "description": _OPTION})


def _texts_at(where: str, holder: Any, limits: Mapping[str, int], markup: Markup = "plain_text") -> Iterator[_Slot]:
    """Strings and text objects under the keys of ``limits``."""
    if not isinstance(holder, dict):
        return
    for key, limit in limits.items():
        if isinstance(holder.get(key), str):
            yield _Slot(f"{where}.{key}", holder, key, limit, markup)
        else:
            yield from _text_of(f"{where}.{key}", holder.get(key), limit)


def _text_of(where: str, value: Any, limit: int) -> Iterator[_Slot]:
    """A text object."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        markup: Markup = "mrkdwn" if value.get("type") == "mrkdwn" else "plain_text"
        yield _Slot(where, value, "text", limit, markup)


def _elements(where: str, block: Json) -> Iterator[tuple[str, Json]]:
    """The elements of a block, with their places."""
    if block.get("type") in ("context", "actions"):
        for number, element in enumerate(_list(block, "elements")):
            if isinstance(element, dict):
                yield f"{where}.elements[{number}]", element
    for name in ("accessory", "element"):
        if isinstance(block.get(name), dict):
            yield f"{where}.{name}", block[name]


def _fit_counts(where: str, block: Json, cuts: list[str]) -> None:
    most = {"context": _ELEMENTS, "actions": _ACTIONS}.get(str(block.get("type")))
    for name, limit in (("fields", _FIELDS), ("elements", most)):
        if limit is not None and len(_list(block, name)) > limit:
            cuts.append(f"{where}.{name}")
            del block[name][limit:]


def _drop_bad_urls(where: str, block: Json, cuts: list[str]) -> None:
    """Remove invalid and too long URLs: Slack would refuse the whole message, and a shortened URL leads elsewhere.

    A button is sent without its URL; an image is omitted.
    """
    for place, element in [(where, block), *_elements(where, block)]:
        for name, form in (("url", _ADDRESS), ("image_url", _IMAGE)):
            url = element.get(name)
            if isinstance(url, str) and not (len(url) <= _URL and form.fullmatch(url)):
                cuts += [f"{place}.{name}"] if url.strip() else []
                del element[name]


def _fill(block: Any) -> bool:
    """Remove empty parts of a block, because Slack would refuse the whole message. Return whether any part remains."""
    if not isinstance(block, dict):
        return True
    if "accessory" in block and not _is_filled(block["accessory"]):
        del block["accessory"]
    if _list(block, "fields"):
        block["fields"] = [one for one in block["fields"] if _is_filled(one)]
        if block["fields"]:
            if not _has_text(block.get("text")):
                block.pop("text", None)
            return True
        del block["fields"]
        return _has_text(block.get("text"))
    return _is_filled(block)


def _is_filled(one: Any) -> bool:
    """Whether a block, an element or a text object shows anything. Slack checks texts of a wrong type."""
    if not isinstance(one, dict):
        return True
    for name in ("title", "placeholder", "hint", "description"):
        if name in one and not _has_text(one[name]):
            del one[name]
    if options := _list(one, "options"):
        one["options"] = [option for option in options if _is_filled(option)]
        return bool(one["options"])
    if elements := _list(one, "elements"):
        one["elements"] = [element for element in elements if _is_filled(element)]
        return bool(one["elements"])
    if one.get("type") == "image":
        one["alt_text"] = one.get("alt_text") or "image"
        return "slack_file" in one or bool(one.get("image_url"))
    if one.get("type") == "link" and not _has_text(one.get("text")):
        one.pop("text", None)
    if one.get("type") == "text":  # in rich_text a space is visible
        return one.get("text") != ""
    return "text" not in one or _has_text(one["text"])


def _has_text(text: Any) -> bool:
    if isinstance(text, dict):
        text = text.get("text")
    return bool(text.strip()) if isinstance(text, str) else text is not None


def _list(holder: Any, name: str) -> list[Any]:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []


def _text_length(tree: Any) -> int:
    """The characters of all texts, counted as Slack does."""
    if isinstance(tree, dict):
        own = len(tree["text"]) if isinstance(tree.get("text"), str) else 0
        return own + sum(_text_length(value) for value in tree.values())
    return sum(map(_text_length, tree)) if isinstance(tree, list) else 0


def fallback_of(blocks: Sequence[Json]) -> str:
    """The texts of the blocks, for notifications and screen readers; empty if there are none."""
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

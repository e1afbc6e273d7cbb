"""A Slack message as Slack shows it: its blocks, or else its text, with links, mentions and formatting resolved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.style import Style
from rich.text import Text

from engine.cli.support.terminal import lines_of
from engine.core.terminal_text import visible

#: A message has 50 blocks at most; of what nests deeper than Slack allows nothing is shown.
_DEEPEST = 8
#: ``<…>`` is a link, a mention or a special word; between the other signs stands formatted text.
_MARKUP = re.compile(
    r"<(?P<ref>[^<>\n]+)>"
    r"|```(?P<block>.+?)```"
    r"|`(?P<code>[^`\n]+)`"
    r"|(?<![\w*])\*(?P<bold>[^\s*](?:[^*\n]*[^\s*])?)\*(?![\w*])"
    r"|(?<![\w_])_(?P<italic>[^\s_](?:[^_\n]*[^\s_])?)_(?![\w_])"
    r"|(?<![\w~])~(?P<strike>[^\s~](?:[^~\n]*[^\s~])?)~(?![\w~])",
    re.DOTALL,
)
_STYLES = {"bold": "bold", "italic": "italic", "strike": "strike", "code": "cyan", "block": "cyan"}


def message_lines(body: Any, width: int) -> list[Text]:
    """The lines of a message, broken between words; none where a request holds none."""
    if not isinstance(body, Mapping):
        return []
    shown = list(_blocks(body.get("blocks"), 0))
    if not shown and isinstance(body.get("text"), str):
        shown = [_mrkdwn(body["text"]) if body.get("mrkdwn") is not False else _plain(body["text"])]
    shown += _attachments(body.get("attachments"))
    return [line for text in shown for line in lines_of(text, width)]


# --- blocks ----------------------------------------------------------------------------------------------------------


def _blocks(blocks: Any, depth: int) -> Iterator[Text]:
    for block in blocks if isinstance(blocks, list) and depth < _DEEPEST else ():
        if isinstance(block, Mapping):
            yield from _block(block, depth)


def _block(block: Mapping[str, Any], depth: int) -> Iterator[Text]:
    match block.get("type"):
        case "header":
            yield _styled(_object(block.get("text")), "bold")
        case "section":
            yield from _section(block)
        case "context":
            yield _styled(_joined(map(_element, _list(block.get("elements")))), "dim")
        case "actions":
            yield _joined(map(_element, _list(block.get("elements"))))
        case "divider":
            yield Text("─" * 20, style="dim")
        case "image" | "video":
            yield from (_object(block["title"]) for _ in "." if block.get("title"))
            yield _element(block)
        case "markdown":
            yield _plain(str(block.get("text") or ""))
        case "rich_text":
            yield from _rich_text(block.get("elements"), depth)
        case other:
            yield Text(f"[{other}]", style="dim")


def _section(block: Mapping[str, Any]) -> Iterator[Text]:
    if block.get("text"):
        yield _object(block["text"])
    yield from map(_object, _list(block.get("fields")))
    if isinstance(accessory := block.get("accessory"), Mapping):
        yield _element(accessory)


def _element(element: Any) -> Text:
    """A button, a picture, or a text."""
    if not isinstance(element, Mapping):
        return Text()
    kind = element.get("type")
    if kind in ("plain_text", "mrkdwn"):
        return _object(element)
    if kind in ("image", "video"):
        return Text.assemble((f"[{element.get('alt_text') or kind}]", "dim"))
    label = _object(element.get("text")) if element.get("text") else Text(str(kind))
    return Text.assemble("[", label, "]")


def _rich_text(elements: Any, depth: int) -> Iterator[Text]:
    if depth >= _DEEPEST:
        return
    for element in filter(_is_object, _list(elements)):
        inner = _list(element.get("elements"))
        if element.get("type") == "rich_text_list":
            yield from (Text.assemble("• ", part) for part in _rich_text(inner, depth + 1))
        elif any(_is_object(each) and str(each.get("type")).startswith("rich_text") for each in inner):
            yield from _rich_text(inner, depth + 1)
        else:
            yield _joined(map(_rich_piece, filter(_is_object, inner)), "")


def _rich_piece(piece: Mapping[str, Any]) -> Text:
    match piece.get("type"):
        case "text":
            given = piece.get("style")
            words = given if isinstance(given, Mapping) else {}
            style = " ".join(word for word in ("bold", "italic", "strike") if words.get(word))
            return Text(visible(str(piece.get("text") or "")), style=style)
        case "link":
            return _link(str(piece.get("url") or ""), str(piece.get("text") or ""))
        case "emoji":
            return Text(f":{piece.get('name')}:")
        case "user" | "usergroup" | "channel" | "broadcast" as kind:
            named = next((piece[key] for key in ("user_id", "usergroup_id", "channel_id", "range") if key in piece), "")
            return Text(f"{'#' if kind == 'channel' else '@'}{named}", style="cyan")
        case other:
            return Text(f"[{other}]", style="dim")


def _attachments(attachments: Any) -> Iterator[Text]:
    for one in filter(_is_object, _list(attachments)):
        parts = list(_blocks(one.get("blocks"), 1)) or [
            _mrkdwn(one[key]) for key in ("pretext", "title", "text", "fallback") if isinstance(one.get(key), str)
        ]
        yield from (Text.assemble(("│ ", "dim"), line) for part in parts for line in part.split("\n"))


# --- texts -----------------------------------------------------------------------------------------------------------


def _object(value: Any) -> Text:
    """A text object."""
    if not isinstance(value, Mapping):
        return _plain(value) if isinstance(value, str) else Text()
    text = str(value.get("text") or "")
    return _mrkdwn(text) if value.get("type") == "mrkdwn" else _plain(text)


def _plain(text: str) -> Text:
    return Text(visible(_decoded(text)))


def _mrkdwn(text: str) -> Text:
    made, last = Text(), 0
    for match in _MARKUP.finditer(text):
        made.append_text(_plain(text[last : match.start()]))
        made.append_text(_marked(match))
        last = match.end()
    return made.append_text(_plain(text[last:]))


def _marked(match: re.Match[str]) -> Text:
    kind, inner = str(match.lastgroup), str(match[str(match.lastgroup)])
    if kind == "ref":
        return _reference(inner)
    if kind in ("code", "block"):
        return Text(visible(_decoded(inner)), style=_STYLES[kind])
    return _styled(_mrkdwn(inner), _STYLES[kind])


def _reference(inner: str) -> Text:
    """What stands between < and >: a link, or somebody or something that is mentioned."""
    target, _, label = inner.partition("|")
    if target[:1] == "#":
        return Text(visible(f"#{label or target[1:]}"), style="cyan")
    if target[:1] == "@":
        return Text(visible(f"@{label or target[1:]}"), style="cyan")
    if target[:1] == "!":
        named = label.removeprefix("@") or target[1:].partition("^")[0]
        return Text(visible(named if target.startswith("!date") else f"@{named}"), style="cyan")
    return _link(_decoded(target), _decoded(label))


def _link(url: str, label: str) -> Text:
    """What Slack shows of a link: its label, else its address."""
    return Text(visible(label or url), style="underline")


def _decoded(text: str) -> str:
    """Slack's three entities as characters, each once."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _styled(text: Text, style: str) -> Text:
    text.stylize_before(Style.parse(style))
    return text


def _joined(parts: Iterable[Text], between: str = "  ") -> Text:
    return Text(between).join(part for part in parts if part.plain)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)

"""A request that a stand-in received: to people in rows, to programs as JSON. Secrets are masked."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from engine.cli.demo.stage import SERVICES
from engine.cli.support.terminal import lines_of
from engine.core.masking import MASK, Masker
from engine.core.terminal_text import visible, wrapped
from engine.testing import Recorded

#: Lines are not broken shorter than this, however far to the right they begin.
_NARROWEST = 24
#: The further lines of a line of JSON that is too long are indented by so much more.
_HANGING = 4
#: Headers that HTTP clients send with every request.
_USUAL = frozenset({"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"})
#: What a webhook's signature consists of: no secrets.
_SIGNATURE = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})
_SECRET_NAME = re.compile(r"auth|token|key|secret|passw|cookie|credential|signature", re.IGNORECASE)
#: A link in Slack's notation, whose label may have spaces in it, and what stands for these meanwhile.
_LINK = re.compile(r"<[a-z]+:[^\s<>|]*\|[^<>\n]*>")
_SPACE = "\ue000"
_CREDENTIALS = ("Authorization", "X-API-Key")


class Received:
    """Makes JSON of requests. What must not be shown are secrets of the environment and credentials that came along."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._masker = Masker(value for name, value in environ.items() if _SECRET_NAME.search(name))

    def __call__(self, service: str, recorded: Recorded) -> dict[str, Any]:
        """The request, what came back, and when (Unix seconds)."""
        self._masker = self._masker | Masker(_credentials(recorded))
        headers = {name: value for name, value in recorded.headers.items() if name.lower() not in _USUAL}
        shown: dict[str, Any] = self._masker.tree(
            {
                "service": service,
                "at": recorded.at,
                "method": recorded.method,
                "path": recorded.path,
                "query": _without_secrets(recorded.query),
                "headers": _without_secrets(headers),
                "body": _as_json(recorded.body if recorded.body is not None else recorded.raw or None),
                "status": recorded.status,
                "answer": _as_json(recorded.answer),
                "note": recorded.note,
            }
        )
        return shown


def _credentials(recorded: Recorded) -> Iterator[str]:
    for name in _CREDENTIALS:
        yield recorded.headers.get(name, "").rpartition(" ")[2]


def _without_secrets(pairs: Mapping[str, str]) -> dict[str, str]:
    """Values of headers or of a query, masked where the name says that one is a secret."""
    return {
        name: MASK if _SECRET_NAME.search(name) and name.lower() not in _SIGNATURE else value
        for name, value in pairs.items()
    }


def _as_json(value: Any) -> Any:
    """Bytes, as of a body that is not JSON or of a part of a form, as text where they are text."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


# --- to people -------------------------------------------------------------------------------------------------------


def print_request(console: Console, request: Mapping[str, Any], width: int, *, whole: bool = False) -> None:
    """Where to and what was answered, what was sent, and why it was refused, if it was.

    What was sent for a message of Slack is only named, unless ``whole``; of anything else it is shown in full.
    """
    refusal, looks = _refusal(request), request["method"] == "GET"
    style = "red" if refusal else "dim" if looks else "bold"
    for number, line in enumerate(wrapped(_headline(request), width - 2)):
        console.print(Text(f"  {line}" if number else line, style=style), soft_wrap=True)
    message = print_message(console, request["service"], request["body"], width, indent=2)
    short = message and not whole
    for line in wrapped(_named(request["body"]), width - 2) if short else ():
        console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
    sent = [] if short else [*_headers(request), *body_rows(request["body"])]
    rows = [*sent, *([("refused", refusal)] if refusal else [])]
    for row in hanging(rows, width, indent=2, style="dim" if message else "cyan"):
        console.print(row, soft_wrap=True)
    if rows or short:
        console.print()


def _named(body: Any) -> str:
    """What a message consists of, and where it goes."""
    parts = [f"{key} {value}" if key == "channel" else str(key) for key, value in body.items()]
    return f"request: {', '.join(parts)}; -v shows it whole"


def print_message(console: Console, service: str, body: Any, width: int, *, indent: int) -> bool:
    """A Slack message as Slack shows it, where a request holds one; what was sent for it may then be shown dimly."""
    lines = message_lines(body, width - indent - 2) if service == "Slack" else []
    for line in lines:
        line.stylize_before("bold")
        console.print(Text.assemble(" " * indent, ("▌ ", "green"), line), soft_wrap=True)
    return bool(lines)


def _headline(request: Mapping[str, Any]) -> str:
    clock = datetime.fromtimestamp(request["at"], UTC).strftime("%H:%M:%S UTC")
    query = "&".join(f"{name}={value}" for name, value in request["query"].items())
    address = request["path"] + (f"?{query}" if query else "")
    outcome = str(request["status"] or "no answer")
    note = f"  {request['note']}" if request["note"].endswith(" created") else ""
    return f"{clock}  {request['service']}  {request['method']} {address}  → {outcome}{note}"


def _headers(request: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Those that a configuration may have set. To LangSmith and Slack it sets none."""
    shown = request["service"] == SERVICES[-1]
    return [(f"{name}:", value) for name, value in request["headers"].items()] if shown else []


def _refusal(request: Mapping[str, Any]) -> str:
    """What the service said where it said no; empty where it did not."""
    answer = request["answer"]
    said_no = isinstance(answer, Mapping) and answer.get("ok") is False
    if not said_no and 200 <= request["status"] < 400:
        return ""
    if said_no and answer.get("error"):
        return str(answer["error"])
    return _on_one_line(answer) if answer is not None else "no answer"


def body_rows(body: Any) -> list[tuple[str, Any]]:
    """An object's keys and values; anything else is one value without a name, and None nothing."""
    if body is None:
        return []
    return [(visible(str(key)), value) for key, value in body.items()] if isinstance(body, Mapping) else [("", body)]


def hanging(rows: Sequence[tuple[str, Any]], width: int, *, indent: int, style: str = "cyan") -> Iterator[Text]:
    """Names, padded to one width, and their values. Texts stand as they are, other values as JSON.

    The further lines of a value begin below its first one; JSON of several lines begins below its name.
    """
    column = max((cell_len(name) + 2 for name, _ in rows if name), default=0)
    for name, value in rows:
        room = max(width - indent - column, _NARROWEST)
        text = value if isinstance(value, str) else _on_one_line(value)
        if isinstance(value, str) or cell_len(text) <= room:
            yield from _row(name.ljust(column), wrapped_around_links(text, room), indent, style)
            continue
        lines = wrapped(json.dumps(value, ensure_ascii=False, default=str, indent=2), width - indent - 2, _HANGING)
        if name:
            yield Text(" " * indent + name, style="dim")
        yield from _row("", lines, indent + 2, style)


def _row(head: str, lines: Sequence[str], indent: int, style: str) -> Iterator[Text]:
    for number, line in enumerate(lines):
        yield Text.assemble(" " * indent, (" " * len(head) if number else head, "dim"), (line, style))


def _on_one_line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def wrapped_around_links(text: str, width: int) -> list[str]:
    """The lines of a text, broken between words where they are too long. Links stay whole, with their labels."""
    whole = _LINK.sub(lambda link: link[0].replace(" ", _SPACE), text)
    return [line.replace(_SPACE, " ") for line in wrapped(whole, width)]


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

"""A request that a stand-in received: to people in rows, to programs as JSON. Secrets are masked."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from engine.cli.demo.stage import SERVICES
from engine.cli.support.show_slack import message_lines
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

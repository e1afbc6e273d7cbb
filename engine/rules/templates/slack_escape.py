"""Escape event data for Slack, so that it is shown as it is; the author's texts stay as they are.

In a template whose result is escaped, the author's texts (literals and ``vars``) are ``Markup``, and data is
plain ``str``: string methods, filters and comparisons need no care as long as they see data only. Where data enters a
text of the author's, or the output, each of its characters that means something to Slack is replaced by one character
that Unicode sets aside for a program's own use, its mark. ``finished`` turns marks into what Slack shows as these
characters, when the text is finished and it is known where each stands. So nothing is escaped twice, and no cut can
halve an entity. A text and its marked form have the same length.

In running text ``& < >`` are escaped. At a link's target data is URL-encoded; where the target is data's alone, it must
be http, https or mailto, or there is no link.
"""

# ruff: noqa: S704 - Markup tells here whose a text is, and is no HTML

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal
from urllib.parse import quote

from markupsafe import Markup

#: The format of a text: mrkdwn, Markdown (in a ``markdown`` block), or literal (in a block that shows it as it is).
Format = Literal["mrkdwn", "markdown", "literal"]

#: Blocks whose texts Slack shows as they are: no entity, link or mention is read in them.
LITERAL_BLOCKS = ("rich_text", "table")

#: The characters that are marked, in the order of their marks.
SPECIAL: Final = "&<>|!@#:[]()*_`~\\"
#: The mark of each.
MARKS: Final = {character: chr(0xFDD0 + number) for number, character in enumerate(SPECIAL)}
#: What each mark stands for.
UNMARKED: Final = {mark: character for character, mark in MARKS.items()}
#: These replace the beginning of a link that the author wrote directly before event data: ``<``, or ``(`` in Markdown.
OPENING, OPENING_PAREN = "\ufdee", "\ufdef"
_PLAIN = UNMARKED | {OPENING: "<", OPENING_PAREN: "("}
_ANY = "".join(UNMARKED)
_MARK = re.compile(f"[{_ANY}]")
_MARKED = re.compile(f"[{''.join(_PLAIN)}]")
_SPECIAL = re.compile(f"[{re.escape(SPECIAL)}]")
_MEANING = re.compile(f"[{re.escape(SPECIAL)}{''.join(_PLAIN)}]")
_FORGED = re.compile(f"[{OPENING}{OPENING_PAREN}]")
_SCHEMES = frozenset({"http", "https", "mailto"})
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_COLON, _BAR = MARKS[":"], MARKS["|"]
_SIGILS = frozenset("!@#")
_ANGLES = re.compile(f"([<{OPENING}])([^<>{OPENING}]*)>")
_SCHEME = re.compile(f"([A-Za-z][A-Za-z0-9+.-]*)([:{_COLON}])")
#: Begins where white space begins, so that its time grows with the length of the text.
_BREAK = re.compile(r"(?<!\s)\s*[\r\n\u2028\u2029]\s*")
#: Invisible characters, and those that change the direction of text.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
#: Characters to encode in a URL. ``& < >`` of data are among the marks.
_NO_URL = {
    "mrkdwn": re.compile(rf'[\s{_UNSEEN}"\\^`{{}}{_ANY}]'),
    "markdown": re.compile(rf'[\s{_UNSEEN}"\\^`{{}}()\[\]{_ANY}]'),
}
_RAW_IN_URL = {"mrkdwn": frozenset("!@#:[]()*_~"), "markdown": frozenset("&!@#:*_~")}
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", re.DOTALL)
_MARKDOWN_LINK = re.compile(rf"\[([^\[\]]*)\]([({OPENING_PAREN}])([^(){OPENING_PAREN}]*)\)")
_TITLED = re.compile(r'(\S*)(\s+"[^"\n]*")\s*')
_ENTITY = re.compile(r"#?\w+;")
#: What may precede a list item on its line: quotes and other items.
_BEFORE_ITEM = re.compile(rf"(?:\A|[\r\n])(?:[ \t>*+{MARKS['>']}{MARKS['*']}-]|[0-9]+[.){MARKS[')']}])*\Z")
#: The most characters before an item that are looked at.
_FURTHEST = 64


def mark(text: str) -> Markup:
    """Mark every special character of data. The author's text is returned as it is."""
    if isinstance(text, Markup):
        return text
    if not text.isascii():
        text = _FORGED.sub("\ufffd", text)
    if _SPECIAL.search(text):
        for character, sign in MARKS.items():
            text = text.replace(character, sign)
    return str.__new__(Markup, text)


def plain(text: str) -> str:
    """The text without marks."""
    if not isinstance(text, Markup):
        return text
    return _resolved(str(text))


def _resolved(text: str) -> str:
    if not text.isascii() and _MARKED.search(text):
        for sign, character in _PLAIN.items():
            text = text.replace(sign, character)
    return text


def authors(text: str) -> Markup:
    """A text of the author in which data is marked already."""
    return Markup(text)


def own(text: str) -> Markup:
    """Treat a text as the author's."""
    return Markup(plain(text))


def opened(text: str) -> str:
    """A piece of the author's text with event data behind it: mark a link that begins at its end."""
    if text.endswith("<"):
        return text[:-1] + OPENING
    return text[:-1] + OPENING_PAREN if text.endswith("](") else text


def throughout(change: Callable[[str], str], value: Any) -> Any:
    """Apply ``change`` to every text in a JSON value, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {throughout(change, key): throughout(change, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        made = [throughout(change, item) for item in value]
        return tuple(made) if isinstance(value, tuple) else made
    return value


def alike(values: Iterable[Any]) -> list[Any]:
    """Make all texts among the values data, or mark all of them if the author's have special characters."""
    values = list(values)
    if not (authored := [value for value in values if isinstance(value, Markup)]):
        return values
    change = mark if any(map(_MEANING.search, authored)) else plain
    return [change(value) if isinstance(value, str) else value for value in values]


def like(text: str, made: Any) -> Any:
    """Give what was made of ``text`` the type of ``text``."""
    if isinstance(made, (list, tuple)):
        return [like(text, part) for part in made]
    return Markup(made) if isinstance(text, Markup) else made


def joined(texts: Iterable[str], separator: str = "") -> str:
    """Join texts; data is marked where that is necessary."""
    separator, *parts = alike([separator, *texts])
    text: str = like(separator, str.join(separator, parts))
    return text


def finished(value: Any, markup: Format = "mrkdwn") -> Any:
    """Escape a rendered value: resolve all marks. The ``text`` of a block of type ``markdown`` is Markdown."""
    if markup == "literal":
        return throughout(plain, value)
    if isinstance(value, str):
        text = str(mark(value))
        return markdown(text) if markup == "markdown" else mrkdwn(text)
    if isinstance(value, dict):
        if value.get("type") in LITERAL_BLOCKS:
            return throughout(plain, value)
        inner: Format = "markdown" if value.get("type") == "markdown" else "mrkdwn"
        return {finished(key): finished(item, inner if key == "text" else "mrkdwn") for key, item in value.items()}
    return [finished(item) for item in value] if isinstance(value, list) else value


def escaped(text: str) -> str:
    """Turn ``& < >`` into entities."""
    return _entities(str(mark(text)))


def mrkdwn(text: str) -> str:
    """A finished text as Slack's mrkdwn."""
    if "<" in text or OPENING in text:
        text = _ANGLES.sub(_angles, text)
    return _entities(text)


def _entities(text: str) -> str:
    if text.isascii():
        return text
    for character, entity in _ENTITIES.items():
        text = text.replace(MARKS[character], entity)
    return _resolved(text)


def _angles(found: re.Match[str]) -> str:
    """A link, a mention, or whatever else the author put in angle brackets."""
    opening, (target, bar, label) = found[1], found[2].partition("|")
    label = _entities(_BREAK.sub(" ", label)) if bar else ""
    behind = f"|{label}" if label.strip() else ""
    if target[:1] in _SIGILS:
        return f"<{_MARK.sub(_percent, target)}{bar}{label}>"
    if _is_link(target):
        return f"<{_url(target, 'mrkdwn')}{behind}>"
    scheme = _SCHEME.match(target)
    if scheme and scheme[2] == ":" and not re.search(r"\s", target):
        return f"<{_MARK.sub(_percent, target)}{bar}{label}>"
    shown = _entities(target)
    no_link = opening == OPENING or not shown.strip() or _leads(target.strip()) or _BAR in target
    if bar and no_link:
        return f"{label} ({shown})" if shown.strip() else label
    return f"&lt;{shown}&gt;" if no_link and found[2] else f"<{shown}{bar}{label}>"


def _leads(target: str) -> bool:
    """Whether data would become a mention or a forbidden link."""
    scheme = _SCHEME.match(target)
    return UNMARKED.get(target[:1]) in _SIGILS or (scheme is not None and scheme[2] == _COLON)


def _is_link(target: str) -> bool:
    scheme = _SCHEME.match(target)
    return scheme is not None and scheme[1].lower() in _SCHEMES


def _url(target: str, markup: Literal["mrkdwn", "markdown"]) -> str:
    """A link's target. Behind a scheme of the author's, data cannot name another host by ``@``."""
    scheme = _SCHEME.match(target)
    if scheme is not None and scheme[2] == ":" and scheme[1].lower() != "mailto":
        authority = re.match(r"[^/?]*/{0,2}[^/?]*", target)
        end = authority.end() if authority else 0
        target = target[:end].replace(MARKS["@"], "%40") + target[end:]
    raw = _RAW_IN_URL[markup]

    def encode(found: re.Match[str]) -> str:
        character = UNMARKED.get(found[0], found[0])
        if found[0] in UNMARKED and character in raw:
            return character
        return "&amp;" if character == "&" else quote(character, safe="", errors="replace")

    return _NO_URL[markup].sub(encode, target)


def _percent(found: re.Match[str]) -> str:
    return quote(UNMARKED[found[0]], safe="")


def markdown(text: str) -> str:
    """A finished text as the Markdown of a ``markdown`` block: data is no formatting, no link and no mention."""
    out, at = [], 0
    for code in _CODE.finditer(text):
        out += [_prose(text[at : code.start()]), code[1], _in_code(code[2]), code[1]]
        at = code.end()
    return "".join([*out, _prose(text[at:])])


def _in_code(text: str) -> str:
    """Data in the author's code. No escape works there, so similar characters replace those with a meaning."""
    text = re.sub(f"{MARKS['<']}(?=[!@#{MARKS['!']}{MARKS['@']}{MARKS['#']}])", "<\u2060", text)
    return _resolved(text.replace(MARKS["`"], "\u02cb"))


def _prose(text: str) -> str:
    text = _MARKDOWN_LINK.sub(_markdown_link, text)
    text = _ANGLES.sub(_autolink, text)
    text = _MARK.sub(_backslash, text)
    return text.replace(OPENING, "<").replace(OPENING_PAREN, "(")


def _markdown_link(found: re.Match[str]) -> str:
    label, opening, target = found[1], found[2], found[3].strip()
    title = _TITLED.fullmatch(target)
    target, behind = (title[1], title[2]) if title else (target, "")
    scheme = _SCHEME.match(target)
    if _is_link(target) and not label.strip():
        return f"<{_url(target, 'markdown')}>"
    if _is_link(target):
        return f"[{_BREAK.sub(' ', label)}]({_url(target, 'markdown')}{behind})"
    if (scheme is not None and scheme[2] == _COLON) or (opening == OPENING_PAREN and (scheme is None)):
        return f"{label} ({target})" if target else label
    return f"[{label}]({_url(target, 'markdown')}{behind})"


def _autolink(found: re.Match[str]) -> str:
    target = found[2]
    if target[:1] in _SIGILS:
        return f"<{_MARK.sub(_percent, target)}>"
    if _is_link(target):
        return f"<{_url(target, 'markdown')}>"
    return f"&lt;{target}&gt;" if _leads(target) else found[0]


def _backslash(found: re.Match[str]) -> str:
    """Escape a character of data in Markdown, if it has a meaning at its place."""
    character, text = UNMARKED[found[0]], found.string
    before, after = text[found.start() - 1 : found.start()] or "\n", text[found.end() : found.end() + 1] or "\n"
    match character:
        case "&":
            return "&amp;" if _ENTITY.match(_resolved(text[found.end() : found.end() + 34])) else "&"
        case "<" | ">":
            return _ENTITIES[character]
        case "_":
            needed = not (before.isalnum() and after.isalnum())
        case "*":
            needed = not (before.isspace() and after.isspace()) or _begins_line(text, found.start())
        case "#":
            needed = before.isspace()
        case "(":
            needed = before == "]"
        case "\\":
            needed = not (after.isalnum() or after in " \t")
        case _:
            needed = character in "[]`~|"
    return f"\\{character}" if needed else character


def _begins_line(text: str, at: int) -> bool:
    """Whether a list item can begin at a position of a text."""
    start = max(0, at - _FURTHEST)
    return _BEFORE_ITEM.search(("x" if start else "") + text[start:at]) is not None

"""Detects bodies that are written as JSON text, and suggests how to write them in YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_STATEMENT = re.compile(r"\{[%#].*?[%#]\}", re.DOTALL)
_LOOP = re.compile(r"\{%-?\s*for\b")
#: A mapping or list literal in an expression, or added to a list.
_DISPLAY = re.compile(r"\{\{-?\s*[\[{]|[+~]\s*\[")
#: Placeholders for the expressions while the text is parsed: private characters.
_STAND_IN = "\ue000{}\ue001"
_STANDS_IN = re.compile("\ue000(\\d+)\ue001")
_TO_JSON = re.compile(r"\s*\|\s*tojson\s*$")
#: The maximum characters of a hint; a longer one is replaced by a general one.
_LONGEST_HINT = 400
_ANY_MAPPING = 'write a mapping or a list, whose values are templates: body: {name: "{{ run.name }}"}'
#: How to make a list of objects.
MAKE_A_LIST = "make a list with pick: body: \"{{ runs | pick('id', title='name') }}\""


def is_json_type(content_type: str) -> bool:
    """Whether a media type is JSON (MIME Sniffing Standard, "JSON MIME type")."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")


def looks_like_json(text: str) -> bool:
    """Whether a text, which may contain templates, is meant as a JSON object or array."""
    bare = _STATEMENT.sub("", text).strip()
    if bare.startswith("{") and not bare.startswith("{{"):
        return bare.endswith("}") and '"' in bare
    return bool(re.match(r"\[\s*[\[{\"]", bare)) and bare.endswith("]") and not re.match(r"\[\s*\{\{", bare)


def loops_for_objects(text: str) -> bool:
    """Whether a loop makes mappings or lists, which are rendered as text."""
    return bool(_LOOP.search(text) and _DISPLAY.search(text))


def breaks_as_json(text: str) -> str:
    """The first expression whose value can end a JSON string early, as written; empty if there is none."""
    return next((whole for whole, expression, quoted in _expressions(text) if quoted and not _is_safe(expression)), "")


def as_parameter(text: str) -> str:
    """A hint with the same body as a YAML value."""
    if _LOOP.search(text):
        return MAKE_A_LIST
    found: list[tuple[str, bool]] = []
    out, at = [], 0
    for whole, expression, quoted in _expressions(text):
        start = text.index(whole, at)
        stand_in = _STAND_IN.format(len(found))
        out += [text[at:start], stand_in if quoted else f'"{stand_in}"']
        found.append((expression.strip(), quoted))
        at = start + len(whole)
    try:
        value = json.loads("".join([*out, text[at:]]))
    except ValueError:
        return _ANY_MAPPING
    written = yaml.safe_dump(
        _put_back(value, found), default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False
    )
    hint = f"write it as YAML, without quotes around the whole: body: {written.strip()}"
    return hint if len(hint) <= _LONGEST_HINT else _ANY_MAPPING


def _put_back(value: Any, found: list[tuple[str, bool]]) -> Any:
    if isinstance(value, dict):
        return {_put_back(key, found): _put_back(item, found) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, found) for item in value]
    if not isinstance(value, str):
        return value
    return _STANDS_IN.sub(lambda one: f"{{{{ {_native(*found[int(one[1])])} }}}}", value)


def _native(expression: str, quoted: bool) -> str:  # noqa: FBT001 - a pair from a list
    return expression if quoted else _TO_JSON.sub("", expression)


def _is_safe(expression: str) -> bool:
    """Whether a value in quotes is escaped or never needs escaping."""
    return bool(re.search(r"\|\s*(urlencode|int|float|length|count|round|tojson\b.*\[1:-1\])", expression))


def _expressions(text: str) -> Iterator[tuple[str, str, bool]]:
    """The expressions in a text: with braces, without braces, and whether each is within a JSON string."""
    quoted, at = False, 0
    for found in _EXPRESSION.finditer(text):
        between = _STATEMENT.sub("", text[at : found.start()])
        quoted ^= len(re.findall(r'(?<!\\)(?:\\\\)*"', between)) % 2 == 1
        yield found[0], found[1], quoted
        at = found.end()

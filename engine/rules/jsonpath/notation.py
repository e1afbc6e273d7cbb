"""Paths in other notations: JSON Pointer, jq, JMESPath, gjson, Lodash, dotted indexes."""

from __future__ import annotations

import re
from typing import Final

from engine.core.errors import PathError
from engine.rules.dialects import translate_path
from engine.rules.jsonpath.path import compile_path

_QUOTED: Final = re.compile(r"""\[\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\]|`[^`]*`|\[\?.*?\)\]""", re.DOTALL)
_DOTTED_INDEX: Final = re.compile(r"\.(\d+|#)(?=[.\[]|$)")
_EMPTY_BRACKETS: Final = re.compile(r"\[\]")


def check_notation(text: str) -> None:
    """Refuse a path that is not JSONPath, even if it would parse as something else.

    Raises:
        PathError: with the corrected path.
    """
    bare = text.strip()
    if bare and not bare.lstrip(" (").startswith("$"):
        raise PathError("a path starts at the document, with $", hint=_hint(translate_path(bare) or _with_root(bare)))
    if (found := _DOTTED_INDEX.search(_without_quotes(text))) is not None:
        key = found[1]
        message = f"a dot is followed by a name, and {key!r} is not one: write an array index in brackets"
        raise PathError(message, column=found.start() + 2, hint=f"write {_bracketed(text)}{_or_key(key)}")


def _hint(path: str) -> str:
    """The hint with the corrected path, if there is one."""
    try:
        compile_path(path)
    except PathError:
        return ""
    return f"write {path}"


def _or_key(key: str) -> str:
    return "" if key == "#" else f"; for a key that is called {key!r} write ['{key}']"


def _without_quotes(text: str) -> str:
    """The path with quoted text and filters replaced by filler of the same length."""
    return _QUOTED.sub(lambda found: " " * len(found[0]), text)


def _bracketed(text: str) -> str:
    """``$.runs.0.status`` → ``$.runs[0].status``; ``#`` stands for every element."""
    spans = list(_DOTTED_INDEX.finditer(_without_quotes(text)))
    for found in reversed(spans):
        index = "*" if found[1] == "#" else str(int(found[1]))
        text = f"{text[: found.start()]}[{index}]{text[found.end() :]}"
    return text


def _with_root(text: str) -> str:
    """A path to a field that is not known, from the root."""
    rest = _EMPTY_BRACKETS.sub("[*]", text.lstrip("@").removeprefix("#"))
    if rest.startswith("/"):
        rest = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in rest.strip("/").split("/"))
    elif not rest.startswith((".", "[")):
        rest = f".{rest}"
    return _bracketed(f"${rest}")

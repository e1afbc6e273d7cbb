"""Characters that could forge a line, steer a terminal or reverse what is read; shown as they are written in code."""

from __future__ import annotations

import re

#: Control characters without tab and line feed, marks that change the direction of text, separators of lines, and
#: surrogates, which no encoding has.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with each of them as Python writes it: ``\x1b``."""
    return CONTROLS.sub(_in_python, text)


def visible_in_json(text: str) -> str:
    r"""The same for text that is JSON, and stays the same JSON: ``\u001b``."""
    return CONTROLS.sub(_in_json, text)


def _in_python(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def _in_json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"

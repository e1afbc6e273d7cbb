"""The origins that the author wrote, in the configuration or in a plug-in, as opposed to those from an event."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engine.clients.network import Origin, origin_of
from engine.core.errors import EngineError
from engine.core.payload_schema import Step
from engine.core.positions import Where
from engine.core.variables import Filled, Variable, piece_of, source_of, written
from engine.rules.address_parts import Inserted, divided
from engine.rules.templates import Templates, is_template

_TAG: Final = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)
#: Placeholder for a value that an event decides. It cannot be part of a host name.
_UNKNOWN: Final = "\ufffc"
_ADDRESS: Final = re.compile(
    r"\s*([a-zA-Z][a-zA-Z0-9+.-]*)://(?:[^/?#\\]*@)?(\[[^]/?#]*\]|[^/?#@:\\]*)(?::([^/?#@\\]*))?([/?#]?)"
)
#: One value, maybe with filters, the last of which is urlencode. Not ``a ~ b | urlencode``: it encodes only ``b``.
_ENCODED: Final = re.compile(
    r"\{\{[-+]?\s*(?:[\w.\[\]'\"]+|\([^(){}]*\))(?:\s*\|\s*\w+(?:\([^(){}]*\))?)*\s*\|\s*urlencode\s*[-+]?\}\}"
)
_LITERAL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


class AuthorOrigins:
    """Finds the author's origins in one configuration, with its templates and ``vars``."""

    def __init__(self, templates: Templates, author: Mapping[str, Any]) -> None:
        self._templates, self._vars = templates, author

    def of(self, params: Any) -> frozenset[Origin]:
        """The origins of every URL in an action's parameters, and in the ``vars`` that they use.

        An origin counts if the event has no part in it: ``https://example.com/{{ run.id }}`` counts,
        ``https://example.com{{ run.id }}`` does not.
        """
        found = (self._in_text(text) for written in _texts(params) for text in (written, *self._named(written)))
        return frozenset(origin for origins in found for origin in origins)

    def foreign_in(self, text: str) -> str:
        """The template by which an event decides the scheme or host, or adds unencoded text; empty if there is none."""
        parts = [piece_of(text, tag) for tag in _TAG.findall(source_of(text)) if not tag.startswith("{#")]
        tags = [written(tag) for tag in parts if self._settled(tag) is None]
        if not tags:
            return ""
        known = self._known(text)
        head = _LITERAL.match(known.lstrip())
        statement = next((tag for tag in tags if tag.startswith("{%")), "")
        if statement or head is None:
            return statement or tags[0]
        authority = re.split(r"[/?#\\]", known.lstrip()[head.end() :], maxsplit=1)[0]
        if _UNKNOWN in authority:
            return tags[0]
        return next((tag for tag in tags if not _ENCODED.fullmatch(tag)), "")

    def divided(self, text: str) -> tuple[str, str] | None:
        """The message and hint for a value of the author's that changes the parts of a URL; None if there is none."""
        return divided(list(self._parts(text)))

    def _parts(self, text: str) -> Iterator[str | Inserted]:
        """The text split into literal text, variables and templates; comments are left out."""
        for piece in _TAG.split(source_of(text)):
            if _TAG.fullmatch(piece):
                if not piece.startswith("{#"):
                    part = piece_of(text, piece)
                    yield Inserted(written(part), self._settled(part) if piece.startswith("{{") else None)
            elif isinstance(text, Filled):
                parts = text.parts(piece)
                yield from (part if isinstance(part, str) else _inserted(part) for part in parts)
            else:
                yield piece

    def _named(self, text: str) -> Iterator[str]:
        """The texts of the ``vars`` that a template uses; of all ``vars`` it may use if only rendering decides."""
        looks = self._templates.inspector.looks(text, bare=False) if is_template(text) and "vars" in text else ()
        for _line, steps in looks:
            if steps[0] == "vars":
                yield from _texts(_beneath(self._vars, steps[1:]))

    def _in_text(self, text: str) -> Iterator[Origin]:
        """The origins of a text: one, or one in each branch of a template's ``if``."""
        parts = re.split(r"\{%.*?%\}", self._known(text), flags=re.DOTALL)
        for number, part in enumerate(parts, 1):
            if origin := _origin_in(part, whole=number == len(parts)):
                yield origin

    def _known(self, text: str) -> str:
        """The text with templates that read only ``vars`` rendered, and a placeholder for the others."""
        pieces = _TAG.split(source_of(text))
        return "".join(self._rendered(piece_of(text, piece)) for piece in pieces)

    def _rendered(self, piece: str) -> str:
        if piece.startswith("{#"):
            return ""
        if piece.startswith("{%") or not is_template(piece):
            return str(piece)
        value = self._settled(piece)
        return _UNKNOWN if value is None else value

    def _settled(self, tag: str) -> str | None:
        """The value of a tag that reads only ``vars``; None for others."""
        where: Where = ()
        try:
            template = self._templates.compile(tag)
            if where not in template.settled:
                return None
            value = template.settle(where, self._vars)
        except EngineError:  # reported where templates are compiled
            return None
        return None if isinstance(value, (dict, list)) else str(value)


def _inserted(variable: Variable) -> Inserted:
    return Inserted(variable.reference, variable.value if variable.known else None)


def origins_in_code(kind: type) -> frozenset[Origin]:
    """The origins of the URLs in the source file of a class; none if it cannot be read."""
    try:
        module = inspect.getmodule(kind)
        code = ast.parse(inspect.getsource(module)) if module is not None else None
    except (OSError, TypeError, SyntaxError, ValueError):
        return frozenset()
    return frozenset(filter(None, map(_origin_in, _texts_in_code(code)))) if code is not None else frozenset()


def _texts_in_code(code: ast.AST) -> Iterator[str]:
    """The string literals; an f-string's with placeholders for its expressions."""
    if isinstance(code, ast.JoinedStr):
        yield "".join(str(one.value) if isinstance(one, ast.Constant) else _UNKNOWN for one in code.values)
    elif isinstance(code, ast.Constant) and isinstance(code.value, str):
        yield code.value
    else:
        for inner in ast.iter_child_nodes(code):
            yield from _texts_in_code(inner)


def _origin_in(text: str, *, whole: bool = True) -> Origin | None:
    """The origin of a URL; None if a part of it is unknown. ``whole``: no text follows."""
    found = _ADDRESS.match(text)
    if found is None or re.search(r"\s", text.strip()):
        return None
    scheme, host, port, ending = found.groups()
    ended = bool(ending) or (whole and found.end() == len(text.rstrip()))
    return origin_of(scheme, host, port or "") if ended and _UNKNOWN not in host else None


def _beneath(tree: Any, steps: Sequence[Step]) -> Any:
    """The value at these steps, or at the last one that is known and exists. A method counts as no step."""
    for step in steps:
        if step is None or isinstance(tree, str):
            break
        try:
            tree = tree[step]
        except (LookupError, TypeError):
            break
    return tree


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from _texts(item)

"""Which origins are the author's: those that stand in the configuration or a plug-in, not in what an event brings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engine.clients.origin import Origin, origin_of
from engine.core.errors import EngineError
from engine.core.payload_schema import Step
from engine.core.positions import Where
from engine.core.variables import Filled, Variable, piece_of, source_of, written
from engine.rules.address_parts import Put, divided
from engine.rules.templates import Templates, is_template

_TAG: Final = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)
#: Stands for what only an event tells. It can be no part of a host's name.
_UNKNOWN: Final = "\ufffc"
_ADDRESS: Final = re.compile(
    r"\s*([a-zA-Z][a-zA-Z0-9+.-]*)://(?:[^/?#\\]*@)?(\[[^]/?#]*\]|[^/?#@:\\]*)(?::([^/?#@\\]*))?([/?#]?)"
)
#: One value, maybe through filters, and encoded at last. Not ``a ~ b | urlencode``: that encodes ``b`` alone.
_ENCODED: Final = re.compile(
    r"\{\{[-+]?\s*(?:[\w.\[\]'\"]+|\([^(){}]*\))(?:\s*\|\s*\w+(?:\([^(){}]*\))?)*\s*\|\s*urlencode\s*[-+]?\}\}"
)
_LITERAL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


class AuthorOrigins:
    """Tells them for one configuration, with its templates and ``vars``."""

    def __init__(self, templates: Templates, author: Mapping[str, Any]) -> None:
        self._templates, self._vars = templates, author

    def of(self, params: Any) -> frozenset[Origin]:
        """The origins of every address among an action's parameters, and of those ``vars`` that they name.

        One counts where nothing but the author's own words makes it: with
        ``https://example.com/{{ run.id }}`` it does, with ``https://example.com{{ run.id }}`` it does not.
        """
        found = (self._in_text(text) for written in _texts(params) for text in (written, *self._named(written)))
        return frozenset(origin for origins in found for origin in origins)

    def foreign_in(self, text: str) -> str:
        """What of an address an event would decide before or in its host, or beyond it unencoded; empty if nothing."""
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
        """What is wrong where a value of the author's divides an address, and how to write it; None if none does."""
        return divided(list(self._parts(text)))

    def _parts(self, text: str) -> Iterator[str | Put]:
        """The text with each variable and template apart; comments are left out."""
        for piece in _TAG.split(source_of(text)):
            if _TAG.fullmatch(piece):
                if not piece.startswith("{#"):
                    part = piece_of(text, piece)
                    yield Put(written(part), self._settled(part) if piece.startswith("{{") else None)
            elif isinstance(text, Filled):
                parts = text.parts(piece)
                yield from (part if isinstance(part, str) else _put(part) for part in parts)
            else:
                yield piece

    def _named(self, text: str) -> Iterator[str]:
        """The texts of the ``vars`` that a template names; of all that it may be where only running it tells."""
        looks = self._templates.inspector.looks(text, bare=False) if is_template(text) and "vars" in text else ()
        for _line, steps in looks:
            if steps[0] == "vars":
                yield from _texts(_beneath(self._vars, steps[1:]))

    def _in_text(self, text: str) -> Iterator[Origin]:
        """The origins that a text leads to: one, or one in each branch of a template's ``if``."""
        parts = re.split(r"\{%.*?%\}", self._known(text), flags=re.DOTALL)
        for number, part in enumerate(parts, 1):
            if origin := _origin_in(part, whole=number == len(parts)):
                yield origin

    def _known(self, text: str) -> str:
        """The text with what ``vars`` alone decide written out, and a mark for what they do not."""
        pieces = _TAG.split(source_of(text))
        return "".join(self._written_out(piece_of(text, piece)) for piece in pieces)

    def _written_out(self, piece: str) -> str:
        if piece.startswith("{#"):
            return ""
        if piece.startswith("{%") or not is_template(piece):
            return str(piece)
        value = self._settled(piece)
        return _UNKNOWN if value is None else value

    def _settled(self, tag: str) -> str | None:
        """What a tag comes to if only ``vars`` decide it."""
        where: Where = ()
        try:
            template = self._templates.compile(tag)
            if where not in template.settled:
                return None
            value = template.settle(where, self._vars)
        except EngineError:  # reported where templates are compiled
            return None
        return None if isinstance(value, (dict, list)) else str(value)


def _put(variable: Variable) -> Put:
    return Put(variable.reference, variable.value if variable.known else None)


def origins_in_code(kind: type) -> frozenset[Origin]:
    """The origins of addresses that stand in the file in which a class is written; none where it can't be read."""
    try:
        module = inspect.getmodule(kind)
        code = ast.parse(inspect.getsource(module)) if module is not None else None
    except (OSError, TypeError, SyntaxError, ValueError):
        return frozenset()
    return frozenset(filter(None, map(_origin_in, _texts_in_code(code)))) if code is not None else frozenset()


def _texts_in_code(code: ast.AST) -> Iterator[str]:
    """Its texts; an f-string's with a mark for what it takes in."""
    if isinstance(code, ast.JoinedStr):
        yield "".join(str(one.value) if isinstance(one, ast.Constant) else _UNKNOWN for one in code.values)
    elif isinstance(code, ast.Constant) and isinstance(code.value, str):
        yield code.value
    else:
        for inner in ast.iter_child_nodes(code):
            yield from _texts_in_code(inner)


def _origin_in(text: str, *, whole: bool = True) -> Origin | None:
    """The origin of an address, if all of it is known; ``whole`` tells that nothing follows. Else none."""
    found = _ADDRESS.match(text)
    if found is None or re.search(r"\s", text.strip()):
        return None
    scheme, host, port, ending = found.groups()
    ended = bool(ending) or (whole and found.end() == len(text.rstrip()))
    return origin_of(scheme, host, port or "") if ended and _UNKNOWN not in host else None


def _beneath(tree: Any, steps: Sequence[Step]) -> Any:
    """What some steps lead to, as far as they are known and there; a method of what is found is no step."""
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

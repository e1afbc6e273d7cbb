"""Large JSON, read and written in pieces: one call of orjson holds the interpreter, and with it the event loop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import uuid4

import orjson

#: How large a piece of JSON text is at least, in bytes, before it is parsed on its own.
PIECE: Final = 256 * 1024
#: So many levels of a value are written child by child; what lies deeper is written in one call each.
_LEVELS = 5
_QUOTE, _BACKSLASH = b'"\\'
_BETWEEN: Final = b" \t\r\n,"
#: Text without brackets outside of strings, as far as its strings are short. Possessive: no byte is looked at twice.
_PLAIN: Final = re.compile(
    rb'[^"\[\]{}]*+(?:"[^"\\]{0,500}+(?:\\.[^"\\]{0,500}+){0,4}+"[^"\[\]{}]*+){0,100}+', re.DOTALL
)


def load_in_pieces(text: bytes, piece: int = PIECE) -> Any:
    """What ``orjson.loads`` makes of a JSON text, in calls for about ``piece`` bytes each.

    A text is cut behind arrays and objects; a long run of numbers or strings without any is one piece.

    Raises:
        ValueError: it is not JSON.
    """
    around: list[_Container] = []
    for at in _brackets(text) if len(text) > piece else ():
        if text[at] in b"[{":
            around.append(_Container(text, at))
            continue
        if not around:
            break
        closed = around.pop()
        if not around:
            return closed.close(at) if closed.is_cut and not text[at + 1 :].strip() else orjson.loads(text)
        if closed.is_cut:
            around[-1].put(closed.start, closed.close(at), at + 1)
        elif at + 1 - around[-1].read_to >= piece:
            around[-1].read(at + 1)
    return orjson.loads(text)


def _brackets(text: bytes) -> Iterator[int]:
    """Where the brackets are that stand in no string."""
    at = 0
    while (found := _PLAIN.match(text, at)) is not None and (at := found.end()) < len(text):
        if text[at] == _QUOTE:
            at = _end_of_string(text, at)
        else:
            yield at
            at += 1


def _end_of_string(text: bytes, start: int) -> int:
    """The place behind the string that begins somewhere; the text's end where it has none."""
    at = start
    while (at := text.find(b'"', at + 1)) >= 0:
        escape = at - 1
        while text[escape] == _BACKSLASH:
            escape -= 1
        if (at - escape) % 2:
            return at + 1
    return len(text)


class _Container:
    """An array or object of a text, as far as it was read."""

    def __init__(self, text: bytes, start: int) -> None:
        self._text, self.start = text, start
        self._is_object = text[start] == ord("{")
        #: Everything before this place was read.
        self.read_to = start + 1
        self._items: list[Any] = []
        self._fields: dict[str, Any] = {}
        #: Whether part of it was read on its own.
        self.is_cut = False

    def read(self, end: int) -> None:
        """Parse what stands before ``end``, which is the end of an item."""
        piece = self._text[self.read_to : end].strip(_BETWEEN)
        self.read_to, self.is_cut = end, True
        if self._is_object:
            self._fields.update(orjson.loads(b"{" + piece + b"}"))
        elif piece:
            self._items += orjson.loads(b"[" + piece + b"]")

    def put(self, start: int, item: Any, end: int) -> None:
        """Take an item between two places that was read already."""
        if not self._is_object:
            self.read(start)
            self._items.append(item)
        else:
            mark = uuid4().hex  # by which the item's key is found, even where that key stands there twice
            piece = self._text[self.read_to : start].strip(_BETWEEN)
            fields = orjson.loads(b"{" + piece + orjson.dumps(mark) + b"}")
            key = next(key for key, value in fields.items() if value == mark)
            self._fields |= fields | {key: item}
        self.read_to, self.is_cut = end, True

    def close(self, end: int) -> Any:
        """The whole of it, ``end`` being the place of its closing bracket."""
        self.read(end)
        return self._fields if self._is_object else self._items


def dump_in_pieces(value: Any) -> list[bytes]:
    """What ``orjson.dumps`` makes of a value, in parts. What JSON has no words for is written as text."""
    writer = _Writer()
    writer.write(value, _LEVELS)
    return writer.parts()


class _Writer:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._part = bytearray()

    def parts(self) -> list[bytes]:
        return [*self._parts, bytes(self._part)] if self._part else self._parts

    def write(self, value: Any, levels: int) -> None:
        if levels and isinstance(value, dict) and value:
            children = ((_dump({key: 0})[1:-2], item) for key, item in value.items())
            self._write_children(b"{", children, b"}", levels)
        elif levels and isinstance(value, list) and value:
            self._write_children(b"[", ((b"", item) for item in value), b"]", levels)
        else:
            self._add(_dump(value))

    def _write_children(
        self, opening: bytes, children: Iterable[tuple[bytes, Any]], closing: bytes, levels: int
    ) -> None:
        for key, item in children:
            self._part += opening + key
            self.write(item, levels - 1)
            opening = b","
        self._part += closing

    def _add(self, text: bytes) -> None:
        self._part += text
        if len(self._part) >= PIECE:
            self._parts.append(bytes(self._part))
            self._part = bytearray()


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)

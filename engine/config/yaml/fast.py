"""From YAML text to PyYAML's nodes through libyaml, which is several times faster than PyYAML's own parser.

Only for texts that both read alike; every other text, and every mistake, is left to PyYAML's parser, whose errors
``engine.config.yaml.mistakes`` knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.error import YAMLError
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from engine.config.yaml.scalars import kind_of_plain

#: A loader on libyaml, of which the events are used; None where PyYAML was built without it.
LIBYAML: Final[Any] = getattr(yaml, "CSafeLoader", None)
#: Levels of nesting.
MAX_DEPTH: Final = 64
#: Values that may be written in a file: 10,000 routes with a hundred each. One takes about half a kilobyte of memory.
MAX_VALUES: Final = 1_000_000
#: What the core schema's tags begin with.
TAG: Final = "tag:yaml.org,2002:"
#: What the two parsers do not read alike, in any text: tabs, rare line breaks, a byte order mark, directives, keys
#: after ``?``, and a ``#`` right behind ``|``. A search holds the interpreter, and with it the event loop, from its
#: beginning to its end: it is 14 times faster where the first part is a set of characters.
_DIFFERS: Final = re.compile(
    r"[\t\x85\u2028\u2029\ufeff%?|>](?:"
    r"(?<=[\t\x85\u2028\u2029\ufeff])"
    r"|(?<=%)(?<!.%)"
    r"|(?<=\?)(?<![^\s,\[{-]\?)(?=[\s,}\]]|$)"
    r"|(?<=[|>])(?<!\S.)[-+0-9]*#)",
    re.MULTILINE,
)


@dataclass(slots=True)
class Noted:
    """What is not to be seen in the nodes: how many there are, anchors of scalars, which were used, lone ``!`` tags."""

    nodes: int = 0
    aliased: set[str] = field(default_factory=set)
    anchored: dict[str, ScalarEvent] = field(default_factory=dict)
    lone_tags: list[Any] = field(default_factory=list)

    def add(self, event: Any) -> None:
        """Note an event that begins a node."""
        self.nodes += 1
        if isinstance(event, AliasEvent) and event.anchor:
            self.aliased.add(event.anchor)
        elif isinstance(event, ScalarEvent) and event.anchor:
            self.anchored[event.anchor] = event
        if getattr(event, "tag", None) == "!":
            self.lone_tags.append(event.start_mark)


class _Left(Exception):  # noqa: N818 - not an error
    """The text is left to PyYAML's parser."""


def compose_fast(text: str) -> tuple[Node | None, Noted] | None:
    """The nodes of a text and what was noted on the way; None where PyYAML's own parser has to read it."""
    if LIBYAML is None or _DIFFERS.search(text):
        return None
    try:
        composer = _Composer(text)
        return composer.document(), composer.noted
    except (YAMLError, ValueError, _Left):
        return None


class _Composer:
    """What PyYAML's ``Composer`` does, on libyaml's events."""

    def __init__(self, text: str) -> None:
        self._next, self._length = LIBYAML(text).get_event, len(text)
        self._anchors: dict[str, Node] = {}
        self.noted = Noted()

    def document(self) -> Node | None:
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, StreamEndEvent):
            return None
        node = self._node(self._next(), 0)
        self._next()  # the document's end
        if not isinstance(self._next(), StreamEndEvent):
            raise _Left
        return node

    def _node(self, event: Any, depth: int, *, flow: bool = False) -> Node:
        kind = type(event)
        self.noted.add(event)
        if depth >= MAX_DEPTH or self.noted.nodes > MAX_VALUES:
            raise _Left
        if kind is AliasEvent:
            if event.anchor not in self._anchors:
                raise _Left
            return self._anchors[event.anchor]
        if event.anchor in self._anchors or not (event.tag is None or event.tag.startswith(TAG)):
            raise _Left
        if kind is ScalarEvent:
            return self._kept(event.anchor, self._scalar(event, flow=flow))
        return self._collection(event, depth + 1)

    def _scalar(self, event: Any, *, flow: bool) -> ScalarNode:
        if not event.style and (
            (flow and (not event.value or "?" in event.value)) or event.start_mark.index == self._length
        ):
            raise _Left  # they place an empty value differently, and only one of them ends a plain one at a ?
        tag = event.tag or TAG + (kind_of_plain(event.value) if event.implicit[0] else "str")
        return ScalarNode(tag, event.value, event.start_mark, event.end_mark, style=event.style or None)

    def _collection(self, event: Any, depth: int) -> Node:
        node: Node
        flow, is_sequence = event.flow_style, type(event) is SequenceStartEvent
        if is_sequence:
            node = SequenceNode(event.tag or TAG + "seq", [], event.start_mark, None, flow_style=flow)
            self._kept(event.anchor, node)
            while type(event := self._next()) is not SequenceEndEvent:
                node.value.append(self._node(event, depth, flow=flow))
        else:
            node = MappingNode(event.tag or TAG + "map", [], event.start_mark, None, flow_style=flow)
            self._kept(event.anchor, node)
            while type(event := self._next()) is not MappingEndEvent:
                key = self._node(event, depth, flow=flow)
                node.value.append((key, self._node(self._next(), depth, flow=flow)))
        node.end_mark = event.end_mark
        return node

    def _kept(self, anchor: str | None, node: Node) -> Node:
        if anchor is not None:
            self._anchors[anchor] = node
        return node

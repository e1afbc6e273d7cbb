"""From YAML text to PyYAML's nodes: the scalars of the core schema, and a composer with limits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from yaml.composer import Composer
from yaml.error import MarkedYAMLError
from yaml.events import AliasEvent, ScalarEvent
from yaml.nodes import Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from engine.config.mistakes import Mistake, diagnose
from engine.errors import ConfigError
from engine.source import Source

#: Levels of nesting.
MAX_DEPTH: Final = 64
#: What the core schema's tags begin with.
TAG: Final = "tag:yaml.org,2002:"

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_INT: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN: Final = frozenset({".nan", ".NaN", ".NAN"})


def resolve_plain(text: str) -> str | bool | int | float | None:
    """What an unquoted scalar means by the core schema.

    Raises:
        ValueError: a number that cannot be held.
    """
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        return _integer(text)
    if _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    if match := _INFINITE.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    return math.nan if text in _NAN else text


def _integer(text: str) -> int:
    if len(text) > 400:
        raise ValueError(f"a number of {len(text)} digits cannot be held; quote it if it is a text")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is larger than any number that can be held; quote it if it is a text")
    return number


class Halt(MarkedYAMLError):  # noqa: N818 - a stop, not a fault
    """A limit of ours was met while reading. ``problem`` is for people as it stands."""


class _CoreResolver:
    """What PyYAML's composer asks of a resolver, by the core schema."""

    def descend_resolver(self, _parent: Node | None, _index: Any) -> None:
        """Nothing: the schema does not depend on the place."""

    def ascend_resolver(self) -> None:
        """Nothing: the schema does not depend on the place."""

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        """The tag of a node that has none written."""
        if kind is not ScalarNode:
            return TAG + ("seq" if kind is SequenceNode else "map")
        return TAG + (kind_of_plain(value) if implicit[0] else "str")


def kind_of_plain(text: str) -> str:
    """The core schema's name for what an unquoted scalar is: null, bool, int, float or str."""
    try:
        value = resolve_plain(text)
    except ValueError:
        return "float" if _FLOAT.fullmatch(text) and not _INT.fullmatch(text) else "int"
    names = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}
    return names[type(value)]


class NodeLoader(Reader, Scanner, Parser, Composer, _CoreResolver):
    """PyYAML from characters to nodes, bounded in depth, remembering which anchors were used."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        self.depth = 0
        self.aliased: set[str] = set()
        self.anchored: dict[str, ScalarEvent] = {}
        self.lone_tags: list[Any] = []

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """As in PyYAML, counting levels and noting anchors."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent) and event.anchor:
            self.aliased.add(event.anchor)
        elif isinstance(event, ScalarEvent) and event.anchor:
            self.anchored[event.anchor] = event
        if getattr(event, "tag", None) == "!":
            self.lone_tags.append(event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise Halt(None, None, f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def compose(source: Source) -> tuple[Node | None, NodeLoader]:
    """The nodes of a text (None: there are none), and the loader with what it noted on the way.

    Raises:
        ConfigError: the text is not one YAML document; with the line as it should read where that is known.
    """
    loader: NodeLoader | None = None
    try:
        loader = NodeLoader(source.text)
        return loader.get_single_node(), loader
    except Halt as halt:
        raise _stop_at(source, halt) from None
    except MarkedYAMLError as error:
        mistake = diagnose(source.text, error, _failure)
    except (ValueError, OverflowError, IndexError):
        # PyYAML computes with what it read (chr, int) before it checks it: "\U00110000".
        mistake = _uncomputable(loader)
    raise stop(source, mistake.line, mistake.column, mistake.message, mistake.hint)


def _uncomputable(loader: NodeLoader | None) -> Mistake:
    mark = loader.get_mark() if loader else None
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Mistake(line, column, "what stands here names no character or number that there is")


def _failure(text: str) -> int | None:
    """The line, from 1, at which a text stops being YAML; None if it does not."""
    try:
        NodeLoader(text).get_single_node()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return mark.line + 1 if mark else 1
    except (ValueError, OverflowError, IndexError):
        return 1
    return None


def _stop_at(source: Source, halt: Halt) -> ConfigError:
    mark = halt.problem_mark
    return stop(source, mark.line + 1, mark.column + 1, str(halt.problem)) if mark else stop(source, 1, 1, str(halt))


@contextmanager
def stopping(source: Source) -> Iterator[None]:
    """Where a limit is met inside, report it and raise ``ConfigError``."""
    try:
        yield
    except Halt as halt:
        raise _stop_at(source, halt) from None


def stop(source: Source, line: int, column: int, message: str, hint: str = "") -> ConfigError:
    """The error to raise where reading cannot go on, with what was found before it."""
    if line:
        source.at(line, column, message, hint)
    else:
        source.report(("",), message, hint)
    return ConfigError(source.problems)

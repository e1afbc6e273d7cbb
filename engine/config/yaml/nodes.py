"""From YAML text to PyYAML's nodes, within limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from yaml.composer import Composer
from yaml.error import MarkedYAMLError
from yaml.nodes import Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from engine.config.yaml.fast import MAX_DEPTH, MAX_VALUES, TAG, Noted, compose_fast
from engine.config.yaml.mistakes import Mistake, diagnose
from engine.config.yaml.scalars import kind_of_plain
from engine.core.errors import ConfigError
from engine.core.positions import Source


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


class NodeLoader(Reader, Scanner, Parser, Composer, _CoreResolver):
    """PyYAML from characters to nodes, bounded in depth, remembering which anchors were used."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        self.depth = 0
        self.noted = Noted()

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """As in PyYAML, counting levels and noting anchors."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self.noted.add(event)
        if self.depth >= MAX_DEPTH:
            raise Halt(None, None, f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        if self.noted.nodes > MAX_VALUES:
            raise Halt(None, None, f"the file has more than {MAX_VALUES:,} values", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def compose(source: Source) -> tuple[Node | None, Noted]:
    """The nodes of a text (None: there are none), and what was noted on the way.

    Raises:
        ConfigError: the text is not one YAML document; with the line as it should read where that is known.
    """
    if (fast := compose_fast(source.text)) is not None:
        return fast
    loader: NodeLoader | None = None
    try:
        loader = NodeLoader(source.text)
        return loader.get_single_node(), loader.noted
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

"""From YAML text to PyYAML's nodes, by the core schema and within limits.

libyaml is several times faster than PyYAML's own parser. It reads the texts that both read alike; every other text,
and every mistake, is read by PyYAML's parser, whose errors ``engine.config.yaml.mistakes`` knows.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from yaml.error import MarkedYAMLError, YAMLError
from yaml.nodes import CollectionNode, Node, ScalarNode, SequenceNode

from engine.config.yaml.mistakes import Mistake, diagnose
from engine.config.yaml.scalars import kind_of_plain
from engine.core.errors import ConfigError
from engine.core.positions import Source

#: Levels of nesting.
MAX_DEPTH: Final = 64
#: Values that may be written in a file: 10,000 routes with a hundred each. One takes about half a kilobyte of memory.
MAX_VALUES: Final = 1_000_000
#: What the core schema's tags begin with.
TAG: Final = "tag:yaml.org,2002:"
#: What the two parsers do not read alike, in any text: tabs, rare line breaks, a byte order mark, directives, keys
#: after ``?``, tags, and a ``#`` right behind ``|``. A search holds the interpreter, and with it the event loop, from
#: its beginning to its end: it is 14 times faster where the first part is a set of characters.
_DIFFERS: Final = re.compile(
    r"[\t\x85\u2028\u2029\ufeff%?!|>](?:"
    r"(?<=[\t\x85\u2028\u2029\ufeff])"
    r"|(?<=%)(?<!.%)"
    r"|(?<=\?)(?<![^\s,\[{-]\?)(?=[\s,}\]]|$)"
    r"|(?<=!)(?<![^\s,\[{:-]!)(?!=)"
    r"|(?<=[|>])(?<!\S.)[-+0-9]*#)",
    re.MULTILINE,
)


class Halt(MarkedYAMLError):  # noqa: N818 - a stop, not a fault
    """Reading cannot go on. ``problem`` is for people as it stands."""


class CoreComposer:
    """What PyYAML's composers ask of a resolver, by the core schema. ``nodes`` is the number of nodes so far."""

    nodes = 0
    _depth = 0

    def descend_resolver(self, _parent: Node | None, _index: Any) -> None:
        """Check the limits where a node begins."""
        if self._depth >= MAX_DEPTH:
            raise self._halt(f"nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        self.nodes += 1
        if self.nodes > MAX_VALUES:
            raise self._halt(f"the file has more than {MAX_VALUES:,} values")

    def ascend_resolver(self) -> None:
        """Note that a node ends."""
        self._depth -= 1

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        """The tag of a node that has none written."""
        if kind is not ScalarNode:
            return TAG + ("seq" if kind is SequenceNode else "map")
        return TAG + (kind_of_plain(value) if implicit[0] else "str")

    def _halt(self, message: str) -> Halt:
        return Halt(None, None, message, self.peek_event().start_mark)  # type: ignore[attr-defined]


class _Pure(CoreComposer, yaml.SafeLoader):
    """PyYAML's own parser."""

    def get_single_node(self) -> Node | None:
        """The document's node. PyYAML computes with what it read (chr, int) before it checks it: ``\\U00110000``."""
        try:
            return super().get_single_node()
        except (ValueError, OverflowError, IndexError):
            message = "what stands here names no character or number that there is"
            raise Halt(None, None, message, self.get_mark()) from None


_CLoader: Any = getattr(yaml, "CSafeLoader", object)


class _Libyaml(CoreComposer, _CLoader):  # type: ignore[misc]
    """libyaml's parser, for what it reads as PyYAML's does."""

    _flow = False

    def descend_resolver(self, parent: Node | None, index: Any) -> None:
        """Remember in which kind of collection a node is."""
        self._flow = isinstance(parent, CollectionNode) and bool(parent.flow_style)
        super().descend_resolver(parent, index)

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        """As above. In braces the two place an empty value differently, and only one ends a plain one at a ``?``."""
        if self._flow and kind is ScalarNode and implicit[0] and (not value or "?" in value):
            raise YAMLError
        return super().resolve(kind, value, implicit)


#: The faster parser; None where PyYAML was built without it.
LIBYAML: Final = _Libyaml if yaml.__with_libyaml__ else None


def compose(source: Source) -> tuple[Node | None, Any]:
    """The node of a text (None: there is none), and the ``CoreComposer`` that made it.

    Raises:
        ConfigError: the text is not one YAML document; with the line as it should read where that is known.
    """
    if (fast := compose_fast(source.text)) is not None:
        return fast
    loader = _Pure(source.text)
    try:
        return loader.get_single_node(), loader
    except Halt as halt:
        raise stop_at(source, halt) from None
    except MarkedYAMLError as error:
        mistake = diagnose(source.text, error, _failing_line)
    raise stop(source, mistake)


def compose_fast(text: str) -> tuple[Node | None, Any] | None:
    """What libyaml reads; None where PyYAML's own parser has to."""
    if LIBYAML is None or _DIFFERS.search(text):
        return None
    loader = LIBYAML(text)
    try:
        node = loader.get_single_node()
    except (YAMLError, ValueError):
        return None
    return None if _ends_empty(node, len(text)) else (node, loader)


def _ends_empty(node: Node | None, length: int) -> bool:
    """Whether an empty value ends a text: the two place it differently."""
    for _ in range(MAX_DEPTH):
        if not isinstance(node, CollectionNode) or not node.value:
            break
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return isinstance(node, ScalarNode) and node.start_mark.index == length


def _failing_line(text: str) -> int | None:
    """The line, from 1, at which a text stops being YAML; None if it does not."""
    if compose_fast(text) is not None:
        return None
    try:
        _Pure(text).get_single_node()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return mark.line + 1 if mark else 1
    return None


def stop_at(source: Source, halt: Halt) -> ConfigError:
    """The error to raise where reading was halted."""
    mark = halt.problem_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return stop(source, Mistake(line, column, str(halt.problem)))


def stop(source: Source, mistake: Mistake) -> ConfigError:
    """The error to raise where reading cannot go on, with what was found before it. Line 0: the file as a whole."""
    if mistake.line:
        source.at(mistake.line, mistake.column, mistake.message, mistake.hint)
    else:
        source.report(("",), mistake.message, mistake.hint)
    return ConfigError(source.problems)

"""YAML by the 1.2 core schema: plain data, and where each piece of it stands.

PyYAML scans, parses and composes; what a plain scalar means is decided here, by the core
schema of YAML 1.2.2 (section 10.3). So ``no``, ``on`` and ``2024-04-05`` are texts,
``010`` is ten, ``0o17`` is fifteen and ``1:30`` is no number. Beyond the schema, ``<<``
merges mappings, as in YAML 1.1, because people share blocks with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.error import Mark as YamlMark
from yaml.events import AliasEvent, ScalarEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import Reader

from engine.config.yaml.compose import MAX_DEPTH, MAX_VALUES, TAG, Halt, compose, stop, stop_at
from engine.config.yaml.mistakes import Mistake, quoted, requote, should_read
from engine.config.yaml.scalars import kind_of_plain, resolve_plain
from engine.core.errors import ConfigError
from engine.core.positions import Mark, Source, Where, in_condition

#: Larger files are not read at all.
MAX_BYTES: Final = 20_000_000
#: Values that aliases and merges may add to those that are written (10,000 routes with thirty each), so that anchors
#: cannot be made into a bomb.
MAX_ADDED_VALUES: Final = 300_000
#: Characters that they may add.
MAX_ADDED_CHARACTERS: Final = 8 << 20

_TEXT: Final = f"{TAG}str"
#: Where an anchor or a tag may begin.
_SIGNS: Final = re.compile(r"[&!](?<![^\s,\[{:-].)(?![&=])")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file as data. ``empty`` are the places where nothing at all is written (``key:``); their value is None."""

    tree: Any
    source: Source
    empty: frozenset[Where]


def read_yaml(data: bytes | str, file: str) -> Parsed:
    """Read one YAML document.

    What can be passed over (a duplicate key, an unknown tag, an unquoted template) is
    reported to the result's ``source``, and reading goes on.

    Raises:
        ConfigError: the text is not YAML, or not to be read in full: encoding, size, depth, aliases.
    """
    source = Source(file, _decode(data, file))
    _refuse_unprintable(source)
    node, loader = compose(source)
    written = loader.nodes + min(source.text.count("*"), MAX_VALUES)  # an alias is no node of its own
    builder = _Builder(source, written + MAX_ADDED_VALUES, len(source.text) + MAX_ADDED_CHARACTERS)
    try:
        tree = None if node is None else builder.build(node, ())
    except Halt as halt:
        raise stop_at(source, halt) from None
    source.marks = builder.marks
    _report_lost(source, type(loader))
    return Parsed(tree, source, frozenset(builder.empty))


# --- text ------------------------------------------------------------------------------------------------------------


def _decode(data: bytes | str, file: str) -> str:
    if len(data) > MAX_BYTES:
        raise too_large(file)
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise stop(Source(file), Mistake(1, 1, "the file is UTF-16", "save it as UTF-8"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace").removeprefix("\ufeff")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        shown = Source(file, data.decode("utf-8", "replace").removeprefix("\ufeff"))
        message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise stop(shown, Mistake(line, column, message, "save the file as UTF-8")) from None


def too_large(file: str) -> ConfigError:
    """The error for a file of more than ``MAX_BYTES``."""
    return stop(Source(file), Mistake(0, 0, f"the file is larger than {MAX_BYTES // 1_000_000} MB"))


def _refuse_unprintable(source: Source) -> None:
    match = Reader.NON_PRINTABLE.search(source.text)
    if match is None:
        return
    before = source.text[: match.start()]
    message = f"the character U+{ord(match[0]):04X} is not allowed in YAML"
    hint = "write it as an escape in double quotes" if ord(match[0]) else "the file is not text"
    lines = before.splitlines(keepends=True) or [""]
    fresh = lines[-1].endswith(("\n", "\r"))
    line, column = (len(lines) + 1, 1) if fresh else (len(lines), len(lines[-1]) + 1)
    shown = Source(source.file, Reader.NON_PRINTABLE.sub("\ufffd", source.text))  # terminals obey control characters
    raise stop(shown, Mistake(line, column, message, hint))


def _report_lost(source: Source, parser: Any) -> None:
    """``text: &now then`` is the text ``then``; what was meant as text would be lost in silence. So with ``!``."""
    if not _SIGNS.search(source.text):
        return
    anchored, aliased, lone_tags = {}, set(), []
    for event in yaml.parse(source.text, Loader=parser):
        if isinstance(event, AliasEvent):
            aliased.add(event.anchor)
        elif isinstance(event, ScalarEvent) and event.anchor:
            anchored[event.anchor] = event.start_mark
        if getattr(event, "tag", None) == "!":
            lone_tags.append(event.start_mark)
    for name in anchored.keys() - aliased:
        _report_unquoted(source, anchored[name], f"the anchor &{name} is used nowhere", "&")
    for mark in lone_tags:
        _report_unquoted(source, mark, "a lone ! means nothing here", "!")


def _report_unquoted(source: Source, mark: Any, message: str, sign: str) -> None:
    line = source.lines[mark.line]
    fixed = line[: mark.column] + quoted(line[mark.column :].rstrip())
    hint = f"text that begins with {sign} needs quotes; {should_read(fixed)}"
    source.at(mark.line + 1, mark.column + 1, message, hint)


# --- building --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Builder:
    """Nodes to data, marks kept. Aliases are written out, within limits."""

    source: Source
    most_values: int
    most_characters: int
    marks: dict[Where, Mark] = field(default_factory=dict)
    empty: set[Where] = field(default_factory=set)
    values: int = 0
    characters: int = 0
    open: set[int] = field(default_factory=set)

    def build(self, node: Node, where: Where, key: YamlMark | None = None) -> Any:
        """The data of a node, whose key (if it has one) stands at ``key``."""
        self._spend(node)
        self._note(node, where, key)
        if isinstance(node, ScalarNode):
            return self._text(node) if node.tag == _TEXT else self._scalar(node, where)
        self._enter(node)
        built = self._sequence(node, where) if isinstance(node, SequenceNode) else self._mapping(node, where)
        self.open.discard(id(node))
        return built

    def _sequence(self, node: SequenceNode, where: Where) -> list[Any]:
        self._check_tag(node, where, "seq")
        return [self.build(item, (*where, index)) for index, item in enumerate(node.value)]

    def _note(self, node: Node, where: Where, key: YamlMark | None) -> None:
        mark, style = node.start_mark, (node.style or None) if isinstance(node, ScalarNode) else None
        key_line, key_column = (key.line + 1, key.column + 1) if key else (0, 0)
        self.marks[where] = Mark(mark.line + 1, mark.column + 1, key_line, key_column, style)

    def _spend(self, node: Node) -> None:
        self.values += 1
        self.characters += len(node.value) if isinstance(node, ScalarNode) else 0
        if self.values > self.most_values or self.characters > self.most_characters:
            added = f"{MAX_ADDED_CHARACTERS >> 20} MiB of text"
            what = f"{MAX_ADDED_VALUES:,} values" if self.values > self.most_values else added
            raise Halt(None, None, f"anchors expand to more than {what} here", node.start_mark)

    def _enter(self, node: Node) -> None:
        if id(node) in self.open:
            raise Halt(None, None, "this block contains itself through its own anchor", node.start_mark)
        if len(self.open) >= MAX_DEPTH:
            raise Halt(None, None, f"nested more than {MAX_DEPTH} levels deep", node.start_mark)
        self.open.add(id(node))

    def _scalar(self, node: ScalarNode, where: Where) -> Any:
        kind = self._check_tag(node, where, "str", "null", "bool", "int", "float")
        if kind == "str":
            return self._text(node)
        if kind == "null" and not node.value and not node.style:
            self.empty.add(where)
            return None
        try:
            value = resolve_plain(node.value)
        except ValueError as error:
            self._at(node, str(error))
            return node.value
        if kind_of_plain(node.value) != kind:
            self._at(node, f"{node.value!r} is not what its tag !!{kind} says")
        return value

    def _text(self, node: ScalarNode) -> str:
        text: str = node.value
        if text.isascii() or not _SURROGATE.search(text):
            return text
        try:  # JSON writes characters beyond U+FFFF as two escapes, and JSON is YAML
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._at(node, "an escape here is half a character (a lone surrogate)")
            return _SURROGATE.sub("\ufffd", text)

    def _check_tag(self, node: Node, where: Where, *allowed: str) -> str:
        kind = str(node.tag).removeprefix(TAG)
        if kind in allowed and kind != node.tag:
            return kind
        written = f"!!{kind}" if kind != node.tag else str(node.tag)
        written = written if written.isprintable() else repr(written)
        line = self.source.lines[node.start_mark.line]
        fixed = requote(line)
        hint = should_read(fixed) if fixed != line else ""
        self._at(node, f"the tag {written} means nothing here: text that begins with ! needs quotes", hint)
        return allowed[0]

    def _mapping(self, node: Node, where: Where) -> Any:
        if (template := self._unquoted_template(node)) is not None:
            return template
        self._check_tag(node, where, "map")
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        merges = False
        for key_node, value in node.value:
            if _is_merge(key_node):
                merges = True
                continue
            if (key := self._key(key_node, where)) is None:
                continue
            if key in result:
                self._at(key_node, f"the key {key!r} is written twice", f"first on line {first[key]}; keep one of them")
                continue
            first[key] = key_node.start_mark.line + 1
            result[key] = self.build(value, (*where, key), key_node.start_mark)
        if merges:
            self._add_merged(node, result, where)
        return result

    def _own_pairs(self, node: Node) -> list[tuple[Node, Node]]:
        return [(key, value) for key, value in node.value if not _is_merge(key)]

    def _add_merged(self, node: Node, result: dict[str, Any], where: Where) -> None:
        """What the mapping itself says wins over what it merges; an earlier merge wins over a later."""
        for key_node, value in self._merged_pairs(node):
            key = self._key(key_node, where)
            if key is not None and key not in result:
                result[key] = self.build(value, (*where, key), key_node.start_mark)

    def _merged_pairs(self, node: Node) -> Iterator[tuple[Node, Node]]:
        merges = [(key, value) for key, value in node.value if _is_merge(key)]
        for key, _ in merges[1:]:
            self._at(key, "the key '<<' is written twice", "merge several with a list: <<: [*one, *two]")
        for key, value in merges[:1]:
            for block in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(block, MappingNode):
                    self._at(key, "'<<' merges mappings: write <<: *name, or <<: [*one, *two]")
                    continue
                self._spend(block)
                self._enter(block)
                yield from self._own_pairs(block)
                yield from self._merged_pairs(block)
                self.open.discard(id(block))

    def _key(self, node: Node, where: Where) -> str | None:
        if not isinstance(node, ScalarNode):
            self._at(node, "a key must be text, not a list or mapping", "text that begins with [ or { needs quotes")
            return None
        if node.tag == _TEXT:
            return self._text(node)
        if node.value == "null" and in_condition(where):
            return "null"  # another tool's operator: compiling the condition reports which of ours is meant
        if not node.value:
            self._at(node, "a value without a key")
        else:
            self._at(node, f"a key must be text, and {node.value} is not", f'write "{node.value}":')
        return None

    def _unquoted_template(self, node: Node) -> str | None:
        """``{{ x }}`` without quotes is, to YAML, a mapping whose key is a mapping."""
        key = node.value[0][0] if len(node.value) == 1 else None
        if not isinstance(key, MappingNode) or not key.flow_style:
            return None
        written = self.source.text[node.start_mark.index : node.end_mark.index]
        if not written.startswith("{{"):
            return None
        line = self.source.lines[node.start_mark.line]
        fixed = requote(line)
        hint = should_read(fixed) if fixed != line and node.end_mark.line == node.start_mark.line else ""
        self._at(node, "a template must be quoted: to YAML, braces are a mapping", hint)
        return written

    def _at(self, node: Node, message: str, hint: str = "") -> None:
        self.source.at(node.start_mark.line + 1, node.start_mark.column + 1, message, hint)


def _is_merge(key: Node) -> bool:
    return key.value == "<<" and isinstance(key, ScalarNode) and not key.style

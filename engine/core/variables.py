"""Texts with variables. The value of a variable is data: it is never parsed as a template, expression, path or pattern.

A parser reads ``source``, which has a placeholder for each variable. The values are inserted after parsing, where a
value is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isfinite
from typing import Any, Final

#: A variable's value outside of quotes that is not a text: a JSON number or a boolean.
_SCALAR: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,300})(?:\.[0-9]{1,300})?(?:[eE][-+]?[0-9]{1,4})?|true|false")

#: The syntax of a variable.
_REFERENCE: Final = re.compile(r"(\$\{[^{}\n]+\})")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a text: its reference (``${NAME}``) and its value. ``known`` is false for a stand-in."""

    reference: str
    value: str
    known: bool = True

    @property
    def scalar(self) -> int | float | bool | str | None:
        """Its value as a number or boolean, for use outside of quotes; None if it is neither.

        A stand-in gives its text.
        """
        if not self.known:
            return self.value
        found: int | float | bool | None = json.loads(self.value) if _SCALAR.fullmatch(self.value) else None
        return None if isinstance(found, float) and not isfinite(found) else found


class Filled(str):
    """A text with variables. As a ``str`` it has the values inserted.

    ``written`` is the text as the author wrote it. ``source`` has a placeholder for each variable, an identifier that
    does not occur elsewhere in the text. ``variables`` has the variables by placeholder.
    """

    __slots__ = ("source", "variables")

    source: str
    variables: Mapping[str, Variable]

    @classmethod
    def of(cls, parts: Sequence[str | Variable]) -> Filled:
        """Make a text from literal parts and variables."""
        authored = "".join(part for part in parts if isinstance(part, str))
        mark = next(mark for length in count(1) if (mark := f"v{'z' * length}q") not in authored)
        words = {f"{mark}{index}v": part for index, part in enumerate(parts) if isinstance(part, Variable)}
        names = iter(words)
        return cls._made("".join(part if isinstance(part, str) else next(names) for part in parts), words)

    @classmethod
    def _made(cls, source: str, variables: Mapping[str, Variable]) -> Filled:
        made = cls(_replaced(source, {word: each.value for word, each in variables.items()}))
        made.source, made.variables = source, variables
        return made

    @property
    def written(self) -> str:
        """The text as its author wrote it."""
        return self.with_references(self.source)

    def with_references(self, text: str) -> str:
        """A text that quotes the source, such as a message, with the placeholders replaced by references."""
        return _replaced(text, {word: each.reference for word, each in self.variables.items()})

    def with_values(self, text: str) -> str:
        """A piece of the source with the placeholders replaced by values."""
        return _replaced(text, {word: each.value for word, each in self.variables.items()})

    def holds(self, text: str) -> bool:
        """Whether a piece of the source contains a variable."""
        return any(word in text for word in self.variables)

    def piece(self, source: str) -> str:
        """A piece of the source as a separate text."""
        return Filled._made(source, self.variables) if self.holds(source) else source

    def parts(self, source: str) -> list[str | Variable]:
        """A piece of the source, split into literal parts and variables."""
        pieces = re.split(f"({'|'.join(self.variables)})", source)
        return [self.variables.get(piece, piece) for piece in pieces if piece]

    @property
    def identity(self) -> tuple[object, ...]:
        """The cache key of the compiled text: equal strings may differ in their variables."""
        return (self.source, *((word, self.variables[word]) for word in self.variables))

    def __reduce__(self) -> tuple[Any, ...]:
        return Filled._made, (self.source, dict(self.variables))


def source_of(text: str) -> str:
    """The text that a parser reads."""
    return text.source if isinstance(text, Filled) else text


def written(text: str) -> str:
    """A text as its author wrote it."""
    return text.written if isinstance(text, Filled) else text


def identity(text: str) -> object:
    """The cache key of a compiled text."""
    return text.identity if isinstance(text, Filled) else text


def piece_of(text: str, source: str) -> str:
    """A piece of a text's source, with its variables if it contains any."""
    return text.piece(source) if isinstance(text, Filled) else source


def _mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a tree with each value in it changed."""
    if isinstance(tree, dict):
        return {key: _mapped(item, change) for key, item in tree.items()}
    return [_mapped(item, change) for item in tree] if isinstance(tree, list) else change(tree)


def plain(tree: Any) -> Any:
    """A tree with plain strings: values inserted, variables forgotten."""
    return _mapped(tree, lambda value: str(value) if isinstance(value, Filled) else value)


def as_written(tree: Any) -> Any:
    """A tree as its author wrote it, with references instead of values."""
    return _mapped(tree, lambda value: value.written if isinstance(value, Filled) else value)


def with_placeholders(tree: Any) -> Any:
    """A tree in which each ``${…}`` is a variable with unknown value."""
    return _mapped(tree, _with_placeholders)


def _with_placeholders(value: Any) -> Any:
    if not isinstance(value, str) or isinstance(value, Filled) or not _REFERENCE.search(value):
        return value
    pieces = _REFERENCE.split(value)
    return Filled.of([Variable(one, one, known=False) if place % 2 else one for place, one in enumerate(pieces)])


def texts_of(tree: Any) -> Iterator[Filled]:
    """Every text in a tree that contains a variable."""
    if isinstance(tree, Filled):
        yield tree
    elif isinstance(tree, (dict, list)):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from texts_of(item)


def _replaced(text: str, by_word: Mapping[str, str]) -> str:
    if not by_word or not any(word in text for word in by_word):
        return text
    return re.sub("|".join(by_word), lambda found: by_word[found[0]], text)

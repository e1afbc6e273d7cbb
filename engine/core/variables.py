"""Texts with variables in them. A variable's value is a value: no template, expression, path or pattern reads it.

What parses such a text parses ``source``, in which a word of its own stands for each variable, and puts the values
in afterwards, where the parsed text has a place for a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isfinite
from typing import Any, Final

#: What a variable is outside of quotes: a number as JSON writes it, or a boolean.
_SCALAR: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,300})(?:\.[0-9]{1,300})?(?:[eE][-+]?[0-9]{1,4})?|true|false")

#: How a variable is written.
_REFERENCE: Final = re.compile(r"(\$\{[^{}\n]+\})")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a text: how it is written (``${NAME}``), and its value. ``known`` is false for a placeholder."""

    reference: str
    value: str
    known: bool = True

    @property
    def scalar(self) -> int | float | bool | str | None:
        """The number or boolean that it is where it stands outside of quotes; None if it is neither.

        A placeholder is its text.
        """
        if not self.known:
            return self.value
        found: int | float | bool | None = json.loads(self.value) if _SCALAR.fullmatch(self.value) else None
        return None if isinstance(found, float) and not isfinite(found) else found


class Filled(str):
    """A text with variables in it. As a text it is what it came to, for whatever takes it as a value.

    ``written`` is what the author wrote. ``source`` is that with a word in each variable's place, an identifier that
    stands nowhere else in it; ``variables`` has them by these words.
    """

    __slots__ = ("source", "variables")

    source: str
    variables: Mapping[str, Variable]

    @classmethod
    def of(cls, parts: Sequence[str | Variable]) -> Filled:
        """A text from what the author wrote and the variables between."""
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
        return self.told(self.source)

    def told(self, text: str) -> str:
        """A text about the source, such as a message, with variables as their author wrote them."""
        return _replaced(text, {word: each.reference for word, each in self.variables.items()})

    def valued(self, text: str) -> str:
        """A piece of the source with the variables' values in it."""
        return _replaced(text, {word: each.value for word, each in self.variables.items()})

    def holds(self, text: str) -> bool:
        """Whether a variable stands in a piece of the source."""
        return any(word in text for word in self.variables)

    def piece(self, source: str) -> str:
        """A piece of the source as a text of its own."""
        return Filled._made(source, self.variables) if self.holds(source) else source

    def parts(self, source: str) -> list[str | Variable]:
        """A piece of the source, each variable apart."""
        pieces = re.split(f"({'|'.join(self.variables)})", source)
        return [self.variables.get(piece, piece) for piece in pieces if piece]

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it another text to a compiler than one that reads the same."""
        return (self.source, *((word, self.variables[word]) for word in self.variables))

    def __reduce__(self) -> tuple[Any, ...]:
        return Filled._made, (self.source, dict(self.variables))


def source_of(text: str) -> str:
    """What a parser reads of a text."""
    return text.source if isinstance(text, Filled) else text


def written(text: str) -> str:
    """A text as its author wrote it."""
    return text.written if isinstance(text, Filled) else text


def identity(text: str) -> object:
    """By what a compiled text is remembered."""
    return text.identity if isinstance(text, Filled) else text


def piece_of(text: str, source: str) -> str:
    """A piece of a text's source, with the text's variables where it has any."""
    return text.piece(source) if isinstance(text, Filled) else source


def plain(tree: Any) -> Any:
    """A tree whose texts are what they came to, and nothing more."""
    if isinstance(tree, dict):
        return {key: plain(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [plain(item) for item in tree]
    return str(tree) if isinstance(tree, Filled) else tree


def as_written(tree: Any) -> Any:
    """A tree as its author wrote it, with the names of variables in place of their values."""
    if isinstance(tree, dict):
        return {key: as_written(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [as_written(item) for item in tree]
    return tree.written if isinstance(tree, Filled) else tree


def with_placeholders(tree: Any) -> Any:
    """A tree as its author wrote it, with the variables in its texts taken as such, whatever their values are."""
    if isinstance(tree, dict):
        return {key: with_placeholders(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [with_placeholders(item) for item in tree]
    if not isinstance(tree, str) or isinstance(tree, Filled) or not _REFERENCE.search(tree):
        return tree
    pieces = _REFERENCE.split(tree)
    return Filled.of([Variable(one, one, known=False) if place % 2 else one for place, one in enumerate(pieces)])


def texts_of(tree: Any) -> Iterator[Filled]:
    """Every text in a tree that has a variable in it."""
    if isinstance(tree, Filled):
        yield tree
    elif isinstance(tree, (dict, list)):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from texts_of(item)


def _replaced(text: str, by_word: Mapping[str, str]) -> str:
    if not by_word or not any(word in text for word in by_word):
        return text
    return re.sub("|".join(by_word), lambda found: by_word[found[0]], text)

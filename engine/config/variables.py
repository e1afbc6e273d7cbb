"""``${NAME}``, ``${NAME:-default}`` and ``${file:/path}`` in the values of a configuration.

It works on the parsed tree, in texts only, never in keys, and what it puts in is never
parsed again: neither as YAML nor as a reference. An interpolated value stays a text. Below
``routes``, where texts may be templates, expressions, paths or patterns, the text remembers
which parts of it are values (``engine.core.variables``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.core.env_file import read_small
from engine.core.errors import Problem
from engine.core.positions import Source, Where, in_condition
from engine.core.suggest import nearest
from engine.core.variables import Filled, Variable

#: What stands in a dump where a secret stands in the configuration.
MASK: Final = "***"
#: Characters put into one file's values, all taken together.
MAX_CHARACTERS: Final = 8 << 20

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Words in the names of what should not be written into a file.
_SECRET: Final = re.compile(
    r"secret|token(?!s)|passw|pwd|credential|authorization|cookie|webhook_url|dsn|(?:^|[-_.]|api)keys?(?![a-z])",
    re.IGNORECASE,
)
_OPEN_SECTIONS: Final = frozenset({"rules", "vars"})
#: Addresses are no secrets: the engine itself prints them (docs/decisions/0010).
_ADDRESSES: Final = frozenset({("langsmith", "endpoint"), ("slack", "endpoint")})


@dataclass(frozen=True, slots=True)
class Interpolated:
    """A tree with its references replaced.

    ``shown`` is the same tree with secrets masked. ``masked`` are the secret values.
    ``places`` are the texts that held a reference, ``failed`` those where one could not be replaced.
    ``files`` are those that were read, or could not be: the tree changes when they do. ``unset`` are the references
    to what is not set: at their places, which are among ``failed``, a stand-in (``<NAME>``) takes the value's place.
    """

    tree: Any
    shown: Any
    masked: frozenset[str]
    places: frozenset[Where]
    failed: frozenset[Where]
    files: tuple[Path, ...] = ()
    unset: tuple[Unset, ...] = ()


@dataclass(frozen=True, slots=True)
class Unset:
    """A variable that is not set, or a secret's file that is not there, and where it is used."""

    reference: str
    places: tuple[Where, ...]
    problem: Problem


def interpolate(
    tree: Any, source: Source, environ: Mapping[str, str] | None, base: Path | None = None, *, elsewhere: str = ""
) -> Interpolated:
    """Replace every reference in a parsed tree; what cannot be replaced is reported to ``source``.

    Unset variables are returned, not reported: they may be set elsewhere. Other problems there are suppressed.

    ``environ`` None puts in placeholders (``<NAME>``) instead of values, for text that
    strangers wrote. Relative paths of ``${file:…}`` count from ``base``; None allows no files.
    ``elsewhere`` says in a hint where variables may be set beside the environment.
    """
    work = _Interpolation(source, environ, base, elsewhere)
    value, shown = work.walk(tree, ())
    return Interpolated(
        value,
        shown,
        frozenset(filter(None, work.masked)),
        frozenset(work.places),
        frozenset(work.failed),
        tuple(work.files),
        tuple(work.unset()),
    )


class _Failure(Exception):  # noqa: N818 - carries a message to where it is reported
    """A reference cannot be replaced; the message and a hint."""


class _NotSet(_Failure):
    """There is nothing to replace a reference with here; there may be elsewhere."""


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of what is not set: why it is not, and where in the text of its place it stands."""

    failure: _NotSet
    where: Where
    line: int
    column: int


@dataclass(slots=True)
class _Interpolation:
    source: Source
    environ: Mapping[str, str] | None
    base: Path | None
    elsewhere: str = ""
    masked: set[str] = field(default_factory=set)
    places: set[Where] = field(default_factory=set)
    failed: set[Where] = field(default_factory=set)
    files: dict[Path, None] = field(default_factory=dict)
    uses: dict[str, list[_Use]] = field(default_factory=dict)
    room: int = MAX_CHARACTERS

    def walk(self, node: Any, where: Where) -> tuple[Any, Any]:
        """A node as it is, and as it is shown."""
        if isinstance(node, str):
            return self._text(node, where) if "${" in node else (node, node)
        if isinstance(node, list):
            both = [self.walk(item, (*where, index)) for index, item in enumerate(node)]
            return [value for value, _ in both], [shown for _, shown in both]
        if isinstance(node, dict):
            pairs = {key: self._item(key, item, (*where, key)) for key, item in node.items()}
            return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}
        return node, node

    def unset(self) -> Iterator[Unset]:
        """What is not set, each with one message for all its places."""
        for reference, uses in self.uses.items():
            first, places = uses[0], tuple(dict.fromkeys(use.where for use in uses))
            message, hint = first.failure.args
            lines = dict.fromkeys(self.source.line_of(use.where, use.line) for use in uses)
            own = self.source.line_of(first.where, first.line)
            if others := [str(line) for line in lines if line not in (0, own)]:
                message += f" (also used in line{'s' * (len(others) > 1)} {', '.join(others)})"
            problem = self.source.problem(first.where, message, hint, line=first.line, column=first.column)
            yield Unset(reference, places, problem)

    def _item(self, key: str, item: Any, where: Where) -> tuple[Any, Any]:
        if "${" in key:
            message = f"the key {key!r}: variables stand in values only, not in keys"
            self.source.report(where, message, _key_hint(where), at_key=True)
        return self.walk(item, where)

    def _text(self, text: str, where: Where) -> tuple[str, str]:
        """Every reference of one text; all its problems are reported, and then the text stays as it is."""
        self.places.add(where)
        parts: list[str | Variable] = []
        shown: list[str] = []
        last, sound = 0, True
        for match in _REFERENCE.finditer(text):
            known = True
            try:
                value, secret = self._replace(match, where)
            except _NotSet as failure:
                self._stand_in(failure, where, match)
                known, value, secret = False, f"<{match[1]}>", self._is_secret(where, match.string, "")
            except _Failure as failure:
                self._fail(failure, where, text, match.start())
                sound = False
                continue
            parts += [text[last : match.start()], self._part(value, match, known=known)]
            shown += [text[last : match.start()], MASK if secret and value else value]
            last = match.end()
        if not sound:
            return text, text
        filled = Filled.of([*parts, text[last:]])
        is_filled = where[0] == "routes" and bool(filled.variables)
        return filled if is_filled else str(filled), "".join([*shown, text[last:]])

    def _part(self, value: str, match: re.Match[str], *, known: bool) -> str | Variable:
        """What stands in a reference's place."""
        if match[0] == "$${":
            return value
        known = known and self.environ is not None and (self.base is not None or not match[1].startswith("file:"))
        return Variable(match[0], value, known or ":-" in match[1])

    def _stand_in(self, failure: _NotSet, where: Where, match: re.Match[str]) -> None:
        self.failed.add(where)
        self.source.suppress(where)
        line, column = _position(match.string, match.start())
        self.uses.setdefault(match[1], []).append(_Use(failure, where, line, column))

    def _fail(self, failure: _Failure, where: Where, text: str, position: int) -> None:
        self.failed.add(where)
        message, hint = failure.args
        line, column = _position(text, position)
        self.source.report(where, message, hint, line=line, column=column)

    def _replace(self, match: re.Match[str], where: Where) -> tuple[str, bool]:
        """The value of one reference, and whether it is a secret."""
        if match[0] == "$${":
            return "${", False
        if not match[0].endswith("}"):
            raise _Failure("'${' is never closed", "write $${ where a literal ${ is meant")
        if match[1].startswith("{") and in_condition(where):
            return match[0], False  # what is wrong with it is said where conditions are read
        if match[1].startswith("{"):
            raise _Failure("'${' begins a variable, and a template stands behind it", _dollar_advice(match))
        if "${" in match[1]:
            raise _nested(match[1])
        value, secret = self._look_up(match[1], where)
        self.room -= len(value)
        if self.room < 0:
            raise _Failure(f"the variables put in more than {MAX_CHARACTERS >> 20} MiB", "")
        secret = secret and self._is_secret(where, match.string, value)
        if secret and self.environ is not None:
            self.masked.add(value)
        return value, secret

    @staticmethod
    def _is_secret(where: Where, text: str, value: str) -> bool:
        """Whether what a variable holds is masked where it is used."""
        return where[0] not in _OPEN_SECTIONS and not _is_address(where, text, value)

    def _look_up(self, reference: str, where: Where) -> tuple[str, bool]:
        if reference.startswith("file:"):
            return self._read(reference.removeprefix("file:")), True
        name, dash, default = reference.partition(":-")
        if not _NAME.fullmatch(name):
            raise _Failure(f"${{{reference}}} is not a variable", _advice(reference, where))
        if self.environ is None:
            return (default, False) if dash else (f"<{name}>", True)
        found = self.environ.get(name)
        if dash and not found:  # as in a shell, :- also stands in for a variable that is set to nothing
            return default, False
        if found is None:
            raise _NotSet(f"the environment variable {name} is not set", self._near(name, where))
        return found, True

    def _near(self, name: str, where: Where) -> str:
        near = f"did you mean {meant!r}? or " if (meant := _alike(name, self.environ or ())) else ""
        instead = (
            f"read it from a file: ${{file:/run/secrets/{name}}}" if _holds_secret(f"{name} {near}", where) else ""
        )
        return f"{near}set it{self.elsewhere}, or {instead or f'give it a default: ${{{name}:-value}}'}"

    def _read(self, path: str) -> str:
        if self.environ is None or self.base is None:
            return f"<file:{path}>"
        self.files[self.base / path] = None
        try:
            text = read_small(self.base / path)
        except OSError as error:
            absent = isinstance(error, (FileNotFoundError, PermissionError)) and ":-" not in path
            kind = _NotSet if absent else _Failure
            raise kind(f"cannot read {path}: {error.strerror or error}", _file_advice(path)) from None
        except ValueError as error:
            raise _Failure(f"cannot read {path}: {error}", _file_advice(path)) from None
        return text.removesuffix("\n").removesuffix("\r")


def _nested(reference: str) -> _Failure:
    if reference.startswith("file:"):
        return _Failure("a variable cannot stand in the path of ${file:…}", "write the path, or use ${NAME}")
    return _Failure("a variable cannot stand inside another's default", "use two variables, or a plain default")


def _alike(name: str, known: Iterable[str]) -> str:
    """The variable that was probably meant, or empty. A first word that many have in common makes none alike."""
    first, _, rest = name.partition("_")
    common = f"{first}_" if rest else ""
    if common and (near := nearest(rest, [each.removeprefix(common) for each in known if each.startswith(common)])):
        return common + near
    return nearest(name, [each for each in known if each[:1] == name[:1] and not (common and each.startswith(common))])


def _position(text: str, at: int) -> tuple[int, int]:
    """Line and column within a text, from 1. The column is known in the first line only."""
    before = text[:at]
    line = before.count("\n") + 1
    return line, at + 1 if line == 1 else 1


def _key_hint(where: Where) -> str:
    """What to write where a variable stands in a key; a key among an action's parameters may be a template."""
    if where[0] != "routes":
        return ""
    if len(where) == 2:
        return "name the rule under 'rules' and use its name here"
    return 'among parameters a key may be a template: put the variable under vars, and write "{{ vars.NAME }}":'


def _dollar_advice(match: re.Match[str]) -> str:
    """How to write a dollar sign before a template, or a variable as other products' templates name one."""
    if named := re.match(r"\{\s*(?:secrets|env|vars)\.([A-Z_][A-Z0-9_]*)\s*\}", match[1] + "}"):
        return f"a variable is written ${{{named[1]}}}"
    text = match.string.replace("${{", "$${{").strip()
    shown = f'"{text}"' if "\n" not in text and len(text) <= 100 and '"' not in text else "$${{ … }}"
    return f"for a dollar sign before a template write {shown}"


def _is_address(where: Where, text: str, value: str) -> bool:
    """Whether a value is one of the engine's own addresses, which it shows; with something secret in it, it is not."""
    return where in _ADDRESSES and not re.search("[@?]", text + value)


def _holds_secret(name: str, where: Where) -> bool:
    """Whether the name of a variable, or the keys it stands below, say that it is a secret: it has no default then."""
    keys = where[2:] if where[:1] == ("routes",) else where
    return any(_SECRET.search(str(word)) for word in (name, *keys))


def _advice(reference: str, where: Where) -> str:
    name = re.match(r"[A-Za-z_][A-Za-z0-9_]*", reference.strip())
    if name and _holds_secret(name[0], where):
        return f"write ${{{name[0]}}}"
    if name and re.match(r":?[-=?+]", reference.strip()[name.end() :]):
        return f"a default is written ${{{name[0]}:-value}}"
    return "write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${"


def _file_advice(path: str) -> str:
    return "a file takes no default" if ":-" in path else ""

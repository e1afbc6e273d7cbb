"""Keys that belong a level or two further to the right or left: one message for all that stand together.

A key of a route beside the routes, or at the top level; a route at the top level; a section of the file among the
routes. What follows from such a slip (a route without actions, an id that is none) is not reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from engine.config.indentation import indent_of
from engine.config.keys import FILE_KEYS, FILE_WORDS, KEY_WORDS, ROUTE_KEYS, ROUTE_WORDS, UUID
from engine.core.positions import Source, Where

#: Keys of a route by what people write for them. ``disabled`` means the opposite.
_ROUTE_KEY: Final = {
    **{key: key for key in ROUTE_KEYS},
    **{word: key for word, key in ROUTE_WORDS.items() if word != "disabled" and word not in FILE_WORDS},
    "filter": "filters",
    "action": "actions",
}
_UNDER: Final = "under 'routes'"
#: How to go on where no route is right above.
_WHERE: Final = {
    "route": "write {} below the id of a rule, under 'routes'",
    "rule": "write {} below 'routes:', indented by 2 spaces",
}
#: More lines are not shown as they should read, but named.
_MOST_LINES: Final = 8


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Keys next to each other that belong into the mapping at ``into``; None: there is none they could belong to."""

    keys: tuple[Where, ...]
    what: str
    into: Where | None


def misplaced(tree: Mapping[str, Any]) -> Iterator[Misplaced]:
    """Every such group of a file's tree."""
    routes, rules = tree.get("routes"), tree.get("rules")
    names = frozenset(rules) if isinstance(rules, dict) else frozenset()
    if isinstance(routes, dict):
        yield from _among_routes(routes, names)
    yield from _at_the_top(tree, names)


def _among_routes(routes: Mapping[str, Any], names: frozenset[str]) -> Iterator[Misplaced]:
    above: Where | None = None
    group: list[Where] = []
    for key in routes:
        if key in _ROUTE_KEY and key not in names | KEY_WORDS:
            group.append(("routes", key))
            continue
        if group:
            yield Misplaced(tuple(group), "route", above)
            group = []
        if key in FILE_KEYS and key not in names:
            yield Misplaced((("routes", key),), "file", ())
        else:
            above = ("routes", key)
    if group:
        yield Misplaced(tuple(group), "route", above)


def _at_the_top(tree: Mapping[str, Any], names: frozenset[str]) -> Iterator[Misplaced]:
    """Groups of keys of a route, and of routes. They go on with what stands right above them: the last route."""
    above: Where | None = None
    for kind, keys in groupby(tree, lambda key: _kind_at_the_top(key, names)):
        group = tuple((key,) for key in keys)
        if kind == "rule":
            yield Misplaced(group, kind, ("routes",) if above is not None else None)
            above = group[-1]
        elif kind == "route":
            yield Misplaced(group, kind, above or None)
            above = None
        else:
            routes = tree["routes"] if group[-1] == ("routes",) else ()
            last = [("routes", key) for key in routes][-1:] if isinstance(routes, dict) else [()]
            above = (last or [()])[0] if group[-1] == ("routes",) else None


def _kind_at_the_top(key: str, names: frozenset[str]) -> str:
    if key in FILE_KEYS:
        return ""
    if UUID.fullmatch(key) or key in KEY_WORDS or key in names:
        return "rule"
    return "route" if key in _ROUTE_KEY else ""


def without(tree: Mapping[str, Any], groups: Sequence[Misplaced]) -> dict[str, Any]:
    """The tree without those keys."""
    gone = {key for group in groups for key in group.keys}
    kept = {key: value for key, value in tree.items() if (key,) not in gone}
    if isinstance(routes := kept.get("routes"), dict):
        kept["routes"] = {key: value for key, value in routes.items() if ("routes", key) not in gone}
    return kept


def missed(tree: Mapping[str, Any], group: Misplaced) -> Iterator[Where]:
    """Places at which something is missing because of a group of misplaced keys."""
    if group.what != "file":
        yield ("routes",)
    if group.what == "route" and group.into is not None:
        value = _at(tree, group.into)
        inner = (len(value) - 1,) if isinstance(value, list) and value else ()
        for key in group.keys:
            yield (*group.into, *inner, _ROUTE_KEY[str(key[-1])])


def _at(tree: Any, where: Where) -> Any:
    for step in where:
        tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree


# --- telling ---------------------------------------------------------------------------------------------------------


def report(source: Source, group: Misplaced, tree: Mapping[str, Any]) -> None:
    """One message, at the first of the keys, with the lines as they should read where those are few."""
    names = " and ".join(repr(key[-1]) for key in group.keys)
    verb, them = ("belongs", "it") if len(group.keys) == 1 else ("belong", "them")
    block = _block(source, group)
    if group.what == "file":
        words, hint = f"{names} {verb} at the top level", f"write {them} there, without indentation"
    elif group.into is None or block is None:
        words = f"{names} {verb} {'to a route' if group.what == 'route' else _UNDER}"
        hint = _WHERE[group.what].format(them)
    else:
        by = _column_of(source, group.into, tree, block.column) - block.column
        place = "to the route above" if group.what == "route" else _UNDER
        words = f"{names} {verb} {place}: indent {them} by {by} space{'s' * (by != 1)}"
        hint = _as_it_should_read(block, group, by) if group.into[0] == "routes" else ""
    source.report(group.keys[0], words, hint, at_key=True)


def _as_it_should_read(block: _Block, group: Misplaced, by: int) -> str:
    if len(block.lines) > _MOST_LINES:
        return f"with all that is below, to line {block.first + len(block.lines) - 1}"
    moved = [" " * by + line for line in _with_right_words(block, group)]
    word = "line" if len(moved) == 1 else "lines"
    return f"the {word} should read:\n" + "\n".join(f"    {line}".rstrip() for line in moved)


@dataclass(frozen=True, slots=True)
class _Block:
    """All lines of some keys and of what is below them: the number of the first, the lines, the keys' indentation."""

    first: int
    lines: list[str]
    column: int


def _block(source: Source, group: Misplaced) -> _Block | None:
    """The lines of the keys; None where they do not stand on lines of their own."""
    marks = [source.marks[key] for key in group.keys]
    if any(source.lines[mark.key_line - 1][: mark.key_column - 1].strip() for mark in marks):
        return None
    first, end, column = marks[0].key_line, marks[-1].key_line, marks[0].key_column - 1
    while end < len(source.lines) and _is_below(source.lines[end], column):
        end += 1
    lines = source.lines[first - 1 : end]
    while not lines[-1].strip():
        lines.pop()
    return _Block(first, lines, column)


def _is_below(line: str, column: int) -> bool:
    inner = indent_of(line) > column or (indent_of(line) == column and line.lstrip().startswith("- "))
    return not line.strip() or inner


def _column_of(source: Source, into: Where, tree: Mapping[str, Any], column: int) -> int:
    """The indentation of the keys of the mapping they belong into: of its first one, else two more than its own."""
    moved = 0 if into[0] == "routes" else _column_of(source, ("routes",), tree, 0)  # the route above is to move, too
    value = _at(tree, into)
    if isinstance(value, list) and value:
        into, value = (*into, len(value) - 1), value[-1]
    for key in value if isinstance(value, dict) else ():
        mark = source.marks.get((*into, key))
        if mark is not None and not source.lines[mark.key_line - 1][: mark.key_column - 1].strip(" -"):
            return mark.key_column - 1 + moved
    mark = source.marks.get(into)
    return (mark.key_column - 1 if mark and mark.key_column else column) + 2 + moved


def _with_right_words(block: _Block, group: Misplaced) -> Iterator[str]:
    """The lines with a route's keys as they are called."""
    words = {str(key[-1]): _ROUTE_KEY.get(str(key[-1]), str(key[-1])) for key in group.keys}
    for line in block.lines:
        word, colon, rest = line[block.column :].partition(":")
        yield line[: block.column] + words[word] + colon + rest if colon and word in words else line

"""Routes by what people call them: an id, a name, or the start of an id, as log lines show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: A shorter start of an id is more likely a name.
_SHORTEST_START = 8


def routes_called(word: str, routes: Iterable[tuple[str, str | None]]) -> Sequence[str]:
    """The ids of the routes that a word may mean: it is their id, else their name, else a start of their id.

    ``routes`` are ids and names.
    """
    known = list(routes)
    return (
        [id_ for id_, _ in known if id_ == word]
        or [id_ for id_, name in known if name == word]
        or [id_ for id_, _ in known if _is_start(word, id_)]
    )


def _is_start(word: str, route_id: str) -> bool:
    """Whether a word is a route's id with its rule cut short: ``d75d7417-0c57/slow``, or without what follows it."""
    rule, slash, route = word.partition("/")
    whole_rule, _, whole_route = route_id.partition("/")
    return len(rule) >= _SHORTEST_START and whole_rule.startswith(rule) and (not slash or route == whole_route)

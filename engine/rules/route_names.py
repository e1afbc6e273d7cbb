"""Routes by what people call them: an id, a name, or the start of one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: How many routes an error names.
_MOST_NAMED = 10


def routes_called(word: str, routes: Iterable[tuple[str, str | None]]) -> Sequence[str]:
    """The ids of the routes that a word may mean: their id, else their name, else the start of one of the two.

    ``routes`` are ids and names. An id may have its rule cut short, as in log lines: ``d75d7417-0c57/slow``.
    """
    known = list(routes)
    return (
        [id_ for id_, _ in known if id_ == word]
        or [id_ for id_, name in known if name == word]
        or [id_ for id_, _ in known if _is_cut_short(word, id_)]
        or [id_ for id_, name in known if word and (id_.startswith(word) or (name or "").startswith(word))]
    )


def _is_cut_short(word: str, route_id: str) -> bool:
    """Whether a word is a route's id with the end of its rule left out."""
    rule, slash, route = word.partition("/")
    whole_rule, _, whole_route = route_id.partition("/")
    return bool(rule and slash) and whole_rule.startswith(rule) and route == whole_route


def ambiguous_message(word: str, ids: Sequence[str], what: str = "route") -> str:
    """What to answer to a word that may mean several routes."""
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return f"{what} {word!r} is ambiguous: {', '.join(ids[:_MOST_NAMED])}{more}"

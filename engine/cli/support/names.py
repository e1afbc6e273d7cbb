"""Routes and actions by the names people have for them, as the store knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.admin.query import NotFound
from engine.cli.support.admin_client import Asked
from engine.cli.support.output import say
from engine.core.suggest import did_you_mean
from engine.core.vocabulary import ON_DEAD
from engine.rules.route_names import ambiguous_message, routes_called


async def resolved(asked: Asked, words: Mapping[str, Any]) -> dict[str, Any]:
    """The words of a question about deliveries, with the route's id for its name.

    A name that only the history knows is used as it is, with a note.

    Raises:
        NotFound: nothing goes by a name, or several routes do.
    """
    words = dict(words)
    asks = [word for word in ("route", "action") if word in words]
    routes = await asked.routes() if asks else None
    if routes is None:
        return words
    for word in asks:
        name = str(words[word])
        known = _route_ids(routes, name) if word == "route" else _action_names(routes)
        words[word] = await _name(asked, word, name, known)
    return words


def _route_ids(routes: Sequence[Mapping[str, Any]], name: str) -> dict[str, Sequence[str]]:
    """What may be named, and the ids that a name means, if it means any."""
    known: dict[str, Sequence[str]] = {word: () for route in routes for word in (route["id"], route["name"]) if word}
    return known | {name: ids} if (ids := routes_called(name, ((one["id"], one["name"]) for one in routes))) else known


def _action_names(routes: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Names by name, and by the type of actions that have another one; those of ``on_dead`` by name alone."""
    actions = [action for route in routes for action in route["actions"]]
    known = {action["name"]: [action["name"]] for action in actions}
    known |= {name: [name] for route in routes for name in (f"{ON_DEAD}{dead['name']}" for dead in route["on_dead"])}
    for action in actions:
        if action["type"] not in known:
            named = dict.fromkeys(other["name"] for other in actions if other["type"] == action["type"])
            known[action["type"]] = list(named)
    return known


async def _name(asked: Asked, word: str, name: str, known: Mapping[str, Sequence[str]]) -> str:
    meant = known.get(name, ())
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise NotFound(ambiguous_message(name, meant, word), "write more of the one")
    if not (await asked.deliveries({word: name, "limit": 1}))["deliveries"]:
        raise NotFound(f"no {word} is called {name!r}", did_you_mean(name, known))
    say(f"{word} {name} is not in the configuration any more", "yellow")
    return name

"""What rules make of stored events, sending nothing: asked of a running engine's rules, or of a stopped one's."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from engine.admin.events import Queries
from engine.admin.explain import Focus, explain, feedback_from, needs_of, recorded_in
from engine.admin.previews import Previews
from engine.admin.query import BadQuery, boolean, check_fields, text
from engine.core.document import Fetched
from engine.core.errors import ConfigError
from engine.core.event import Event
from engine.rules.reload import Loaded
from engine.store.records import Control

T = TypeVar("T")

_EXPLAIN_WORDS: Final = ("event", "route", "run", "render", "fetch", "feedback", "fetched")
_PARTS: Final = frozenset({"inputs", "outputs", "feedback"})


@dataclass(frozen=True, slots=True)
class Means:
    """What the answers are made with.

    ``loaded`` are the rules, and may raise ConfigError; ``mutes`` what is muted, by route. ``run`` runs code that may
    be a plug-in's, within a limit of time; ``fetch`` brings what LangSmith has: the third of its arguments.
    """

    loaded: Callable[[], Loaded]
    mutes: Callable[[], Awaitable[Mapping[str, Control]]]
    run: Callable[[Callable[[], dict[str, Any]]], Awaitable[dict[str, Any]]]
    fetch: Callable[[Loaded, Event, frozenset[str], Fetched], Awaitable[Fetched]]


class Rules:
    """Answers as JSON, with the secrets of the rules masked."""

    def __init__(self, queries: Queries, means: Means) -> None:
        self._queries, self._means = queries, means

    async def explain(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Why the routes match a stored event or don't (see ``engine.admin.explain``).

        Raises:
            BadQuery: the question makes no sense.
            NotFound: there is no such event, route or run, or its payload was deleted.
        """
        focus = _focus(body)
        render, fetches = (boolean(word, body.get(word, False)) for word in ("render", "fetch"))
        event, known, evaluations = await self._queries.stored_and_decided(text("event", body.get("event")) or "")
        known = _supplied(event, known, body)
        loaded = self._means.loaded()
        if fetches and (needs := needs_of(loaded, event)):
            known = await self._means.fetch(loaded, event, needs, known)
        whole = Focus(focus.route, focus.run, render, time.time(), await self._means.mutes())
        return await self._means.run(lambda: recorded_in(explain(loaded, event, known, whole), evaluations))

    async def preview(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a replay of a ``delivery``, or of an ``event``, would send.

        Raises:
            BadQuery: it is not one of the two.
            NotFound: nothing goes by that id.
        """
        check_fields(body, ("delivery", "event"))
        delivery, event = (text(word, body.get(word)) for word in ("delivery", "event"))
        if (delivery is None) == (event is None):
            raise BadQuery("nothing says what to preview", 'write {"delivery": id} or {"event": id}')
        try:
            loaded: Loaded | None = self._means.loaded()
        except ConfigError:
            loaded = None
        previews = Previews(self._queries, loaded, self._means.run, self._means.mutes)
        return await (previews.of(delivery) if delivery is not None else previews.of_event(event or ""))


def _focus(body: Mapping[str, Any]) -> Focus:
    check_fields(body, _EXPLAIN_WORDS)
    run = body.get("run")
    if run is not None and (not isinstance(run, int) or isinstance(run, bool) or run < 0):
        raise BadQuery(f"run is {run!r}", "write the run's place in the event, from 0")
    if not text("event", body.get("event")):
        raise BadQuery("nothing says which event", 'write {"event": id}')
    return Focus(text("route", body.get("route")), run)


def _supplied(event: Event, known: Fetched, body: Mapping[str, Any]) -> Fetched:
    try:
        return supplied(event, known, feedback=body.get("feedback"), fetched=body.get("fetched"))
    except ValueError as error:
        raise BadQuery(str(error)) from error


def supplied(event: Event, known: Fetched, *, feedback: Any, fetched: Any) -> Fetched:
    """What is known, with what a person says LangSmith would have answered; None is nothing.

    Raises:
        ValueError: with words for the author of the data.
    """
    if fetched is not None:
        if not isinstance(fetched, dict) or not set(fetched) <= _PARTS:
            raise ValueError("fetched data is an object of inputs, outputs and feedback, each by run id")
        known = known.merge(Fetched.from_json(fetched))
    return known if feedback is None else known.merge(Fetched(feedback=feedback_from(event, feedback)))

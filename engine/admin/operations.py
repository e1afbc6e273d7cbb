"""The API's operations on a store: the same for the admin listener and for the store of a stopped engine."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from engine.admin.audit_log import Journal
from engine.admin.destinations import Destinations
from engine.admin.events import Queries
from engine.admin.mutes import Muting, nothing_changed
from engine.admin.openapi_schemas import Schema, delivery_words, event_words, ref
from engine.admin.responses import Renderer
from engine.admin.rules import Means, Rules
from engine.config import Config
from engine.core.masking import Masker
from engine.store.protocol import Store
from engine.worker.destinations.gateway import Gateway

A_contra = TypeVar("A_contra", contravariant=True)


class Api:
    """Answers as JSON, secrets masked. ``config`` gives the configuration, None where it cannot be read.

    ``gateway`` is None where no engine runs; ``woken`` is called when work was made due, ``changed`` awaited when a
    route was muted or unmuted.
    """

    def __init__(
        self,
        store: Store,
        masker: Callable[[], Masker],
        config: Callable[[], Config | None],
        means: Means,
        *,
        gateway: Gateway | None = None,
        woken: Callable[[], None] = lambda: None,
        changed: Callable[[], Awaitable[None]] = nothing_changed,
        clock: Callable[[], float] = time.time,
    ) -> None:
        def rules() -> Mapping[str, Any]:
            return found.rules if (found := config()) else {}

        def routes() -> list[tuple[str, str]] | None:
            return [(route.id, route.name) for route in found.routes] if (found := config()) else None

        self.renderer = Renderer()
        self.queries = Queries(store, masker, rules, woken=woken, renderer=self.renderer, clock=clock)
        self.muting = Muting(store, masker, routes, changed=changed, clock=clock)
        self.destinations = Destinations(store, gateway, clock=clock)
        self.rules = Rules(self.queries, means)


@dataclass(frozen=True, slots=True)
class Call:
    """The ``fields`` of the query or the body, the ``id`` in the path, and the name of the user."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Operation(Generic[A_contra]):
    """One method of one path, for the router and for the OpenAPI document.

    ``answer`` and ``refusal`` (answered with 422) name schemas, ``errors`` are the other statuses it may have.
    ``query`` and ``body`` say what it takes, ``id`` what the id in its path is. ``journal`` logs what it changed.
    """

    method: str
    path: str
    run: Callable[[A_contra, Call], Awaitable[dict[str, Any]]]
    summary: str
    answer: str
    errors: tuple[int, ...] = ()
    query: tuple[Schema, ...] = ()
    body: Schema | None = None
    id: str = ""
    refusal: str = ""
    journal: Callable[[Journal, Mapping[str, Any], Call], None] | None = None


_BY_ID = "an id, its first 8 characters or more, or `last` for the newest one"
_ERRORS = (400, 404)

OPERATIONS: Final[tuple[Operation[Api], ...]] = (
    Operation(
        "GET",
        "/api/v1/events",
        lambda api, call: api.queries.events(call.fields),
        "Events, newest first",
        "Events",
        _ERRORS,
        query=event_words(),
    ),
    Operation(
        "GET",
        "/api/v1/events/{id}",
        lambda api, call: api.queries.event(call.id),
        "An event with payload, decisions and deliveries",
        "EventDetail",
        _ERRORS,
        id=_BY_ID,
    ),
    Operation(
        "GET",
        "/api/v1/deliveries",
        lambda api, call: api.queries.deliveries(call.fields),
        "Deliveries, newest first",
        "Deliveries",
        _ERRORS,
        query=delivery_words(),
    ),
    Operation(
        "GET",
        "/api/v1/deliveries/{id}",
        lambda api, call: api.queries.delivery(call.id),
        "A delivery with its attempts",
        "DeliveryDetail",
        _ERRORS,
        id=_BY_ID,
    ),
    Operation(
        "POST",
        "/api/v1/replay",
        lambda api, call: api.queries.replay(call.fields),
        "Make deliveries or events due again",
        "Replayed",
        _ERRORS,
        body=ref("Replay"),
        journal=Journal.replayed,
    ),
    Operation(
        "POST",
        "/api/v1/discard",
        lambda api, call: api.queries.discard({"by": call.by} | {**call.fields}),
        "Give up what is dead",
        "Discarded",
        _ERRORS,
        body=ref("Discard"),
        journal=Journal.discarded,
    ),
    Operation(
        "POST",
        "/api/v1/explain",
        lambda api, call: api.rules.explain(call.fields),
        "Why the routes in use match a stored event or don't",
        "Explanation",
        _ERRORS,
        body=ref("Explain"),
    ),
    Operation(
        "POST",
        "/api/v1/preview",
        lambda api, call: api.rules.preview(call.fields),
        "What a replay would send, by the rules in use",
        "Preview",
        _ERRORS,
        body=ref("PreviewOf"),
    ),
    Operation(
        "GET",
        "/api/v1/destinations",
        lambda api, call: api.destinations.list(),
        "Where deliveries go; those that are paused first",
        "Destinations",
    ),
    Operation(
        "POST",
        "/api/v1/destinations/resume",
        lambda api, call: api.destinations.resume(call.fields),
        "Let deliveries go to a destination again",
        "Resumed",
        _ERRORS,
        body=ref("Resume"),
        journal=Journal.resumed,
    ),
    Operation("GET", "/api/v1/mutes", lambda api, call: api.muting.list(), "The routes that are muted", "Mutes"),
    Operation(
        "POST",
        "/api/v1/mutes",
        lambda api, call: api.muting.mute({"by": call.by} | {**call.fields}),
        "Mute a route: what matches it counts as matched, and nothing is done",
        "Muted",
        _ERRORS,
        body=ref("Mute"),
        journal=Journal.muted,
    ),
    Operation(
        "DELETE",
        "/api/v1/mutes/{id}",
        lambda api, call: api.muting.unmute(call.id),
        "Let a muted route act again",
        "Unmuted",
        (404,),
        id="a route's id or name",
        journal=Journal.unmuted,
    ),
)

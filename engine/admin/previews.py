"""What deliveries would send if they were replayed now."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from engine.admin.events import Queries
from engine.admin.explain import Focus, explain, not_fetched, rendered
from engine.admin.query import NotFound
from engine.core.document import Fetched
from engine.core.event import Event
from engine.rules.decision import delivery_id
from engine.rules.reload import Loaded
from engine.rules.route import RoutedAction
from engine.store.records import Control

#: A document: an event, the place of a run in it (-1: the whole event), and what was fetched for it.
Place = tuple[Event, int, Fetched]
#: An event, and what was fetched for it.
_Stored = tuple[Event, Fetched]
#: A digest is rendered with so many of its items at most, and with none after those that have so many bytes.
_MOST_ITEMS, _MOST_BYTES = 50, 16 * 2**20
_NOT_LOADED = "the configuration cannot be loaded"


class Previews:
    """Renders deliveries one by one, by some rules; ``loaded`` None: they cannot be loaded.

    Code that may be a plug-in's is handed to ``run``.

    The events of the latest one are kept: a digest may have many items of one event.
    """

    def __init__(
        self,
        asked: Queries,
        loaded: Loaded | None,
        run: Callable[[Callable[[], dict[str, Any]]], Awaitable[dict[str, Any]]],
        mutes: Callable[[], Awaitable[Mapping[str, Control]]],
    ) -> None:
        self._asked, self._loaded, self._run, self._mutes = asked, loaded, run, mutes
        self._events: dict[str, _Stored] = {}

    async def of(self, wanted: str) -> dict[str, Any]:
        """A delivery, whether it had succeeded before, and what it would come to (see ``engine.admin.preview``)."""
        delivery = await self._asked.delivery(wanted)
        about = {key: delivery[key] for key in ("id", "event_id", "route", "action", "run_index", "state", "reason")}
        return about | {"succeeded_before": had_succeeded(delivery), "would": await self._preview(delivery)}

    async def of_event(self, event_id: str) -> dict[str, Any]:
        """An event, and the deliveries that follow if it is evaluated now, each as ``of`` shows it."""
        event = await self._asked.event(event_id)
        about = {key: event[key] for key in ("id", "kind", "rule_id", "state", "reason")}
        loaded = self._loaded
        if loaded is None or event["payload"] is None:
            error = _NOT_LOADED if loaded is None else "its payload is no longer kept"
            return about | {"would_fetch": [], "deliveries": [], "error": error}
        stored = await self._asked.stored(event["id"])
        focus = Focus(render=True, now=time.time(), mutes=await self._mutes())
        report = await self._run(lambda: explain(loaded, *stored, focus))
        kept = {row["id"] for row in event["deliveries"]}
        deliveries = [one | {"succeeded_before": await self._had(one["id"], kept)} for one in _following(report)]
        return about | {"would_fetch": report["would_fetch"], "deliveries": deliveries, "error": ""}

    async def _had(self, wanted: str, kept: Container[str]) -> bool:
        return wanted in kept and had_succeeded(await self._asked.delivery(wanted))

    async def _preview(self, delivery: Mapping[str, Any]) -> dict[str, Any]:
        if (loaded := self._loaded) is None:
            return {"would": "unknown", "params": None, "error": _NOT_LOADED}
        before, self._events = self._events, {}
        try:
            event, fetched = await self._remember(delivery["event_id"], before)
        except NotFound as error:
            return {"would": "unknown", "params": None, "error": str(error)}
        places, gone = await self._places(delivery["items"], before)
        chosen = places or [(event, delivery["run_index"], fetched)]
        return await self._run(lambda: preview(loaded, chosen, delivery, gone=gone))

    async def _places(
        self, items: Sequence[Mapping[str, Any]], before: Mapping[str, _Stored]
    ) -> tuple[list[Place], int]:
        """The documents of the first items, and how many of these are no longer kept."""
        places: list[Place] = []
        gone = 0
        for item in items[:_MOST_ITEMS]:
            if places and sum(len(event.body) for event, _ in self._events.values()) > _MOST_BYTES:
                break
            try:
                event, fetched = await self._remember(item["event_id"], before)
            except NotFound:
                gone += 1
            else:
                places.append((event, item["run_index"], fetched))
        return places, gone

    async def _remember(self, event_id: str, before: Mapping[str, _Stored]) -> _Stored:
        """An event, read from the store unless it is in memory."""
        stored = self._events.get(event_id) or before.get(event_id)
        if stored is None:
            stored = await self._asked.stored(event_id)
        self._events[event_id] = stored
        return stored


def _following(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The deliveries that a report's matches make, with what each would send."""
    event_id = report["event"]["id"]
    for document in report["documents"]:
        for route in document["routes"]:
            for action in route["actions"] if route["applies"] else ():
                if action["fires"]:
                    place = {"route": route["route"], "action": action["name"], "run_index": document["index"]}
                    id_ = delivery_id(event_id, document["index"], route["route"], action["name"])
                    yield {"id": id_, "event_id": event_id, **place, "state": None, "would": _would(action)}


def _would(action: Mapping[str, Any]) -> dict[str, Any]:
    shown = ("would", "params", "error", "reason", "hint", "destination")
    held_back = f"{action['gate']['kind']} stands before it" if action["gate"] else ""
    notes = [note for note in (held_back, action["because"]) if note]
    return {key: action[key] for key in shown if key in action} | {"note": "; ".join(notes)}


def had_succeeded(delivery: Mapping[str, Any]) -> bool:
    """Whether any attempt at a delivery did."""
    return any(attempt["outcome"] == "succeeded" for attempt in delivery["history"])


def preview(loaded: Loaded, places: Sequence[Place], delivery: Mapping[str, Any], *, gone: int = 0) -> dict[str, Any]:
    """What a delivery (as JSON for people) would come to, see ``rendered``; secrets are masked.

    ``places`` is the document that it is about, or of a digest those of its first items, without the ``gone``, whose
    events are no longer kept. ``note`` says what of it is not shown.
    """
    found = loaded.router.find(delivery["route"], delivery["action"])
    if found is None:
        reason = f"{delivery['route']} → {delivery['action']} is not in today's configuration: it waits until it is"
        return {"would": "wait", "params": None, "error": reason, "note": ""}
    route, action = found
    seen = [(event, index, not_fetched(fetched)) for event, index, fetched in places]
    shown = rendered(loaded.router.delivery_document(route, action, seen, delivery["words"]), action)
    note = _note(action, len(places), gone, len(delivery["items"]))
    masked: dict[str, Any] = loaded.masker.tree({**shown, "note": note})
    return masked


def _note(action: RoutedAction, shown: int, gone: int, items: int) -> str:
    """What is to be known of a digest beside what is shown."""
    notes = []
    if gone:
        notes.append(f"{gone} of the first {shown + gone} items are no longer kept, so it can't be replayed")
    if not action.digests and items > 1:
        notes.append("no digest any more: its other items would be sent on their own")
    elif shown + gone < items:
        notes.append(f"shown with the first {shown + gone} of {items} items")
    return "; ".join(notes)

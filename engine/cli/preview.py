"""What deliveries would send if they were replayed now: for ``engine replay --dry-run``."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from engine.admin.query import NotFound
from engine.cli.access import Asked
from engine.cli.client import Absent, AccessError
from engine.cli.explanation import dies
from engine.cli.mutes import controls_of
from engine.cli.outline import Outline, in_json, value
from engine.cli.output import plural, say
from engine.cli.stored import stored_event
from engine.decision import delivery_id
from engine.document import Fetched
from engine.errors import ConfigError
from engine.event import Event
from engine.explain import Focus, explain
from engine.preview import WOULD_FETCH, Place, preview
from engine.reload import Loaded, Loader

#: An event, and what was fetched for it.
_Stored = tuple[Event, Fetched]
#: A digest is rendered with so many of its items at most, and with none after those that have so many bytes.
_MOST_ITEMS, _MOST_BYTES = 50, 16 * 2**20
_NOT_LOADED = "the configuration cannot be loaded"


class Previews:
    """Renders deliveries one by one, by the configuration's file as it is now.

    The events of the latest one are kept in mind: several deliveries of an event stand beside each other.
    """

    def __init__(self, asked: Asked, loader: Loader) -> None:
        self._asked = asked
        self._loader = loader
        self._loaded = _load(self._loader)
        self._events: dict[str, _Stored] = {}

    async def of(self, wanted: str) -> dict[str, Any]:
        """A delivery, whether it had succeeded before, and what it would come to (see ``engine.preview``)."""
        delivery = await self._asked.delivery(wanted)
        about = {key: delivery[key] for key in ("id", "event_id", "route", "action", "run_index", "state", "reason")}
        return about | {"succeeded_before": had_succeeded(delivery), "would": await self._preview(delivery)}

    async def of_event(self, event_id: str) -> dict[str, Any]:
        """An event, and the deliveries that follow if it is evaluated now, each as ``of`` tells of one."""
        event = await self._asked.event(event_id)
        about = {key: event[key] for key in ("id", "kind", "rule_id", "state", "reason")}
        if self._loaded is None or event["payload"] is None:
            error = _NOT_LOADED if self._loaded is None else "its payload is no longer kept"
            return about | {"would_fetch": [], "deliveries": [], "error": error}
        mutes = controls_of(await self._asked.mutes())
        focus = Focus(render=True, now=time.time(), mutes=mutes)
        loaded, stored = self._loaded, stored_event(event)
        report = self._loader.bounded(lambda: explain(loaded, *stored, focus))
        kept = {row["id"] for row in event["deliveries"]}
        deliveries = [one | {"succeeded_before": await self._had(one["id"], kept)} for one in _following(report)]
        return about | {"would_fetch": report["would_fetch"], "deliveries": deliveries, "error": ""}

    async def _had(self, wanted: str, kept: Container[str]) -> bool:
        return wanted in kept and had_succeeded(await self._asked.delivery(wanted))

    async def _preview(self, delivery: Mapping[str, Any]) -> dict[str, Any]:
        if self._loaded is None:
            return {"would": "unknown", "params": None, "error": _NOT_LOADED}
        before, self._events = self._events, {}
        try:
            event, fetched = await self._remember(delivery["event_id"], before)
        except (AccessError, NotFound) as error:
            return {"would": "unknown", "params": None, "error": str(error)}
        places, gone = await self._places(delivery["items"], before)
        loaded, chosen = self._loaded, places or [(event, delivery["run_index"], fetched)]
        return self._loader.bounded(lambda: preview(loaded, chosen, delivery, gone=gone))

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
            except (Absent, NotFound):
                gone += 1
            else:
                places.append((event, item["run_index"], fetched))
        return places, gone

    async def _remember(self, event_id: str, before: Mapping[str, _Stored]) -> _Stored:
        """An event, loaded unless it is at hand."""
        stored = self._events.get(event_id) or before.get(event_id)
        if stored is None:
            stored = stored_event(await self._asked.event(event_id))
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
    told = ("would", "params", "error", "reason", "hint", "destination")
    held_back = f"{action['gate']['kind']} stands before it" if action["gate"] else ""
    notes = [note for note in (held_back, action["because"]) if note]
    return {key: action[key] for key in told if key in action} | {"note": "; ".join(notes)}


def succeeded_before(delivery: Mapping[str, Any]) -> bool:
    """Whether an attempt at a delivery succeeded in an earlier round than its present one."""
    rounds = {attempt["replay"] for attempt in delivery["history"] if attempt["outcome"] == "succeeded"}
    return bool(rounds - {delivery["replays"]})


def had_succeeded(delivery: Mapping[str, Any]) -> bool:
    """Whether any attempt at a delivery did."""
    return any(attempt["outcome"] == "succeeded" for attempt in delivery["history"])


def outline_of_event(shown: Mapping[str, Any]) -> Outline:
    """An event's preview for people."""
    count = plural(len(shown["deliveries"]), "delivery", "deliveries")
    outline = Outline(value(f"event {shown['id']}", "  ", (f"{count} would follow", "bold")))
    if shown["error"]:
        outline.add(Text(shown["error"], style="yellow"))
    if shown["would_fetch"]:
        outline.add(Text(f"{', '.join(shown['would_fetch'])} {WOULD_FETCH}: more may follow", style="yellow"))
    for delivery in shown["deliveries"]:
        _fill(outline.add(_head(delivery)), delivery, again="")
    return outline


def outline_of(shown: Mapping[str, Any]) -> Outline:
    """A delivery's preview for people."""
    outline = Outline(_head(shown))
    _fill(outline, shown, again=" again")
    return outline


def _head(shown: Mapping[str, Any]) -> Text:
    before = "  had succeeded before" if shown["succeeded_before"] else ""
    run = f"  run {shown['run_index']}" if shown["run_index"] >= 0 else ""
    place = (f"{shown['route']} → {shown['action']}", "bold")
    return value(shown["id"], "  ", place, (run, "dim"), (before, "yellow"))


def _fill(outline: Outline, shown: Mapping[str, Any], *, again: str) -> None:
    """What a delivery would come to, below its head."""
    would = shown["would"]
    if dies(would):
        outline.add(Text.assemble((f"✗ would be dead{again}: ", "red"), would["error"]))
    elif would.get("error"):
        outline.add(Text(would["error"], style="yellow"))
    if would.get("note"):
        outline.add(Text(would["note"], style="dim"))
    if would.get("hint"):
        outline.add(Text(would["hint"], style="cyan"))
    if would["params"] is not None:
        to = f" to {would['destination']}" if would.get("destination") not in (None, shown["action"]) else ""
        outline.add(Text(f"would send{to}", style="green")).add(in_json(would["params"]))


def _load(loader: Loader) -> Loaded | None:
    try:
        return loader.load_bounded()
    except ConfigError as error:
        say(f"{loader.path} cannot be loaded, so what would be sent is not known: {error.problems[0]}", "yellow")
        return None

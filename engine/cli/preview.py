"""What deliveries would send if they were replayed now: for ``engine replay --dry-run``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from engine.admin.query import NotFound
from engine.cli.access import Asked
from engine.cli.client import AccessError
from engine.cli.explanation import dies
from engine.cli.outline import Outline, in_json, value
from engine.cli.output import say
from engine.cli.stored import stored_event
from engine.document import Fetched
from engine.errors import ConfigError
from engine.event import Event
from engine.preview import Place, preview
from engine.reload import Loaded, Loader

#: An event, and what was fetched for it.
_Stored = tuple[Event, Fetched]
#: A digest is rendered with so many of its items at most, and with none after those that have so many bytes.
_MOST_ITEMS, _MOST_BYTES = 50, 16 * 2**20


class Previews:
    """Renders deliveries one by one, by the configuration's file as it is now.

    The events of the latest one are kept in mind: several deliveries of an event stand beside each other.
    """

    def __init__(self, asked: Asked, config: Path) -> None:
        self._asked = asked
        self._loaded = _load(config)
        self._events: dict[str, _Stored] = {}

    async def of(self, delivery_id: str) -> dict[str, Any]:
        """A delivery, whether it had succeeded before, and what it would come to (see ``engine.preview``)."""
        delivery = await self._asked.delivery(delivery_id)
        about = {key: delivery[key] for key in ("id", "event_id", "route", "action", "run_index", "state", "reason")}
        return about | {"succeeded_before": had_succeeded(delivery), "would": await self._preview(delivery)}

    async def _preview(self, delivery: Mapping[str, Any]) -> dict[str, Any]:
        if self._loaded is None:
            return {"would": "unknown", "params": None, "error": "the configuration cannot be loaded"}
        before, self._events = self._events, {}
        try:
            event, fetched = await self._remember(delivery["event_id"], before)
        except (AccessError, NotFound) as error:
            return {"would": "unknown", "params": None, "error": str(error)}
        places, gone = await self._places(delivery["items"], before)
        return preview(self._loaded, places or [(event, delivery["run_index"], fetched)], delivery, gone=gone)

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
            except (AccessError, NotFound):
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


def succeeded_before(delivery: Mapping[str, Any]) -> bool:
    """Whether an attempt at a delivery succeeded in an earlier round than its present one."""
    rounds = {attempt["replay"] for attempt in delivery["history"] if attempt["outcome"] == "succeeded"}
    return bool(rounds - {delivery["replays"]})


def had_succeeded(delivery: Mapping[str, Any]) -> bool:
    """Whether any attempt at a delivery did."""
    return any(attempt["outcome"] == "succeeded" for attempt in delivery["history"])


def outline_of(shown: Mapping[str, Any]) -> Outline:
    """A delivery's preview for people."""
    before = "  had succeeded before" if shown["succeeded_before"] else ""
    run = f"  run {shown['run_index']}" if shown["run_index"] >= 0 else ""
    place = (f"{shown['route']} → {shown['action']}", "bold")
    outline = Outline(value(shown["id"], "  ", place, (run, "dim"), (before, "yellow")))
    would = shown["would"]
    if dies(would):
        outline.add(Text.assemble(("✗ would be dead again: ", "red"), would["error"]))
    elif would.get("error"):
        outline.add(Text(would["error"], style="yellow"))
    if would.get("note"):
        outline.add(Text(would["note"], style="dim"))
    if would.get("hint"):
        outline.add(Text(would["hint"], style="cyan"))
    if would["params"] is not None:
        to = f" to {would['destination']}" if would.get("destination") not in (None, shown["action"]) else ""
        outline.add(Text(f"would send{to}", style="green")).add(in_json(would["params"]))
    return outline


def _load(config: Path) -> Loaded | None:
    try:
        return Loader(config, os.environ).load()
    except ConfigError as error:
        say(f"{config} cannot be loaded, so what would be sent is not known: {error.problems[0]}", "yellow")
        return None

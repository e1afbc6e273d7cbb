"""What deliveries would send if they were replayed now: for ``engine replay --dry-run``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from engine.cli.access import Asked
from engine.cli.client import AccessError
from engine.cli.explanation import dies
from engine.cli.outline import Outline, in_json, value
from engine.cli.output import say
from engine.cli.stored import stored_event
from engine.document import Fetched
from engine.errors import ConfigError
from engine.event import Event
from engine.preview import preview
from engine.reload import Loaded, Loader


class Previews:
    """Renders deliveries one by one, by the configuration's file as it is now; the latest event is kept in mind."""

    def __init__(self, asked: Asked, config: Path) -> None:
        self._asked = asked
        self._loaded = _load(config)
        self._event_id = ""
        self._event: tuple[Event, Fetched] | None = None

    async def of(self, delivery_id: str) -> dict[str, Any]:
        """A delivery, whether it had succeeded before, and what it would come to (see ``engine.preview``)."""
        delivery = await self._asked.delivery(delivery_id)
        about = {key: delivery[key] for key in ("id", "event_id", "route", "action", "run_index", "state", "reason")}
        return about | {"succeeded_before": had_succeeded(delivery), "would": await self._preview(delivery)}

    async def _preview(self, delivery: Mapping[str, Any]) -> dict[str, Any]:
        if self._loaded is None:
            return {"would": "unknown", "params": None, "error": "the configuration cannot be loaded"}
        if self._event is None or self._event_id != delivery["event_id"]:
            self._event_id = delivery["event_id"]
            try:
                self._event = stored_event(await self._asked.event(self._event_id))
            except AccessError as error:
                self._event = None
                return {"would": "unknown", "params": None, "error": str(error)}
        return preview(self._loaded, *self._event, delivery)


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

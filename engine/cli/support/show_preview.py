"""What deliveries would send if they were replayed now, for people: for ``engine replay --dry-run``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from engine.admin.explain import WOULD_FETCH
from engine.cli.support.outline import Outline, in_json
from engine.cli.support.output import plural, short_delivery, short_event
from engine.cli.support.show_explanation import dies


def succeeded_before(delivery: Mapping[str, Any]) -> bool:
    """Whether an attempt at a delivery succeeded in an earlier round than its present one."""
    rounds = {attempt["replay"] for attempt in delivery["history"] if attempt["outcome"] == "succeeded"}
    return bool(rounds - {delivery["replays"]})


def outline_of_event(shown: Mapping[str, Any]) -> Outline:
    """An event's preview for people."""
    count = plural(len(shown["deliveries"]), "delivery", "deliveries")
    outline = Outline(Text.assemble(f"event {short_event(shown['id'])}", "  ", (f"{count} would follow", "bold")))
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
    return Text.assemble(short_delivery(shown["id"]), "  ", place, (run, "dim"), (before, "yellow"))


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

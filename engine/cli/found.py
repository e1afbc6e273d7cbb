"""What conditions found when an event was decided: not kept, but told again by the rules that decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.cli.access import Place
from engine.cli.explanation import found_of
from engine.cli.stored import stored_event
from engine.errors import ConfigError
from engine.explain import explain
from engine.reload import Loaded, needs_what_decides

#: By run and route: what the condition found that decided.
Found = Mapping[tuple[int, str], str]


def found_by_decision(place: Place, event: Mapping[str, Any]) -> Found:
    """What the deciding conditions of a detailed answer found.

    Nothing where the configuration at hand is not the one that decided, or the payload is gone:
    then it would be a guess.
    """
    if not event["evaluations"] or event["payload"] is None:
        return {}
    loaded = _loaded(place)
    if loaded is None or loaded.config.hash != event["evaluations"][-1]["config_hash"]:
        return {}
    report = explain(loaded, *stored_event(event))
    return {
        (document["index"], route["route"]): _first_unmet(route["filter"])
        for document in report["documents"]
        for route in document["routes"]
    }


def _loaded(place: Place) -> Loaded | None:
    if not place.config.exists():
        return None
    try:
        return place.loader(needs_what_decides).load_bounded()
    except ConfigError:
        return None


def _first_unmet(verdict: Mapping[str, Any]) -> str:
    """Of the first condition that does not hold; a group of conditions found nothing itself."""
    unmet = next((child for child in verdict["children"] if child["truth"] != "true"), None)
    return found_of(unmet) if unmet else ""

"""What conditions found when an event was decided: not kept, but told again by the rules that decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.admin.query import NotFound
from engine.cli.support.admin_client import AccessError, Asked
from engine.cli.support.show_explanation import found_of
from engine.core.errors import ConfigError

#: By run and route: what the condition found that decided.
Found = Mapping[tuple[int, str], str]


async def found_by_decision(asked: Asked, event: Mapping[str, Any]) -> Found:
    """What the deciding conditions of a detailed answer found.

    Nothing where the rules at work are not those that decided, or the payload is gone: then it would be a guess.
    """
    if not event["evaluations"] or event["payload"] is None:
        return {}
    try:
        report = await asked.do("explain", {"event": event["id"]})
    except (AccessError, NotFound, ConfigError):  # it is beside the point
        return {}
    if report["config"]["hash"] != event["evaluations"][-1]["config_hash"]:
        return {}
    return {
        (document["index"], route["route"]): _first_unmet(route["filter"])
        for document in report["documents"]
        for route in document["routes"]
    }


def _first_unmet(verdict: Mapping[str, Any]) -> str:
    """Of the first condition that does not hold; a group of conditions found nothing itself."""
    unmet = next((child for child in verdict["children"] if child["truth"] != "true"), None)
    return found_of(unmet) if unmet else ""

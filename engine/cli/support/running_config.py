"""Whether the rules at work in a running engine are those of the file: after a mistake they are not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from engine.cli.support.access import Place, neighbour
from engine.cli.support.admin_client import AccessError
from engine.cli.support.loaded_rules import RulesAtWork
from engine.cli.support.output import say

#: How long an engine may take to answer, in seconds.
_PATIENCE = 3.0
#: How often an engine is asked again, and how long between, in seconds, whose file was saved just now.
_LOOKS, _PAUSE = 6, 0.25


def at_work(place: Place) -> RulesAtWork | None:
    """What an engine that works on this configuration's store, or was named, has loaded from it; None without one."""
    try:
        rules = asyncio.run(_ask(place))
    except (AccessError, TimeoutError) as error:
        say(f"what is at work is not known: {str(error) or 'the engine does not answer'}")
        return None
    return rules if rules is not None and rules.are_of(place.config) else None


async def _ask(place: Place) -> RulesAtWork | None:
    async with asyncio.timeout(_PATIENCE), neighbour(place) as client:
        if client is None:
            return None
        for _ in range(_LOOKS):
            if client.rules is None or client.rules.file_is != "changed":
                break
            await asyncio.sleep(_PAUSE)
            await client.owner()
        if client.rules is None or client.rules.file_is != "refused":
            return client.rules
        problems = (await client.call("GET", "/api/v1/config"))["last_reload"]["problems"]
        return replace(client.rules, refused_for=tuple(problem["message"] for problem in problems))

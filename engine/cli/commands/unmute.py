"""``engine unmute``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from engine.cli.main import FINDINGS
from engine.cli.support.access import Place, access_options, opened, place_from
from engine.cli.support.options import json_option
from engine.cli.support.output import emit, say


@click.command("unmute")
@click.argument("route")
@access_options
@json_option
def command(route: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Let a muted ROUTE act again. Exits with 1 if it was not muted."""
    answer = asyncio.run(_unmute(place_from(options), route))
    if as_json:
        emit(answer)
    else:
        was = answer["muted"]
        say(f"{answer['route']} {'acts again' if was else 'was not muted'}", "green" if was else "yellow")
    if not answer["muted"]:
        sys.exit(FINDINGS)


async def _unmute(place: Place, route: str) -> dict[str, Any]:
    async with opened(place, changes=True) as asked:
        return await asked.unmute(route)

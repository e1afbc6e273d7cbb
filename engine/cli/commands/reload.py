"""``engine reload``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from engine.cli.main import FINDINGS
from engine.cli.support.access import Place, access_options, connected, place_from
from engine.cli.support.options import json_option
from engine.cli.support.output import emit, err, out, plural, print_problems
from engine.core.errors import Problem


@click.command("reload")
@access_options
@json_option
def command(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Have a running engine load its configuration as it is now, and tell what is wrong with it.

    An engine does so by itself as soon as the file is saved; this waits for the outcome. With
    a mistake the previous rules stay in use, and it exits with 1.
    """
    answer = asyncio.run(_reload(place_from(options)))
    refused = bool(answer["problems"])
    if as_json:
        emit(answer)
    else:
        _tell(answer, refused=refused)
    if refused:
        sys.exit(FINDINGS)


async def _reload(place: Place) -> dict[str, Any]:
    async with connected(place, changes=True) as client:
        return await client.reload()


def _tell(answer: Mapping[str, Any], *, refused: bool) -> None:
    print_problems(err(), problems_of(answer["problems"]), word="error", mark="error")
    print_problems(err(), problems_of(answer["broken_plugins"]), style="yellow", word="broken plug-in")
    if refused:
        words = Text.assemble(("not reloaded: ", "red"), f"the previous rules ({answer['hash']}) stay in use")
    else:
        words = Text.assemble(("reloaded: ", "green"), f"{plural(answer['routes'], 'route')} · {answer['hash']}")
    out().print(words)


def problems_of(views: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Problems as the admin listener tells them."""
    return [Problem(**{name: value for name, value in view.items() if name != "text"}) for view in views]

"""``make chaos``: prints one table. Exits with 1 if a promise is broken."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence

import click
import uvloop

from chaos import backlog, disk, hanging
from chaos.kills import Run
from chaos.table import Row

#: The longest time for everything, in seconds.
LIMIT = 480.0
#: The part of it for kills.
KILLING = 250.0
#: The scenarios, in the order of the table.
SCENARIOS = ("kills", "disk", "hanging", "backlog")


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(SCENARIOS))
@click.option("--seed", type=int, envvar="CHAOS_SEED", default=lambda: random.SystemRandom().randrange(10**6))
@click.option("--kills", type=int, envvar="CHAOS_KILLS", default=50, show_default=True)
def main(scenarios: Sequence[str], seed: int, kills: int) -> None:
    """Run the scenarios and print the result of each promise."""
    started = time.monotonic()
    print(f"chaos: seed {seed} (CHAOS_SEED={seed} throws the same dice)", flush=True)
    try:
        broken = uvloop.run(_all(scenarios or SCENARIOS, seed, kills))
    except TimeoutError:
        print(f"something did not end in time, or not within {LIMIT:g} s in all: there is no verdict")
        raise
    print(f"{'promises broken' if broken else 'all promises kept'}, in {time.monotonic() - started:.0f} s")
    sys.exit(1 if broken else 0)


async def _all(scenarios: Sequence[str], seed: int, kills: int) -> bool:
    """Print the rows as they come; return whether any promise is broken."""
    broken = False
    async with asyncio.timeout(LIMIT):
        for name in scenarios:
            for row in await _scenario(name, seed, kills):
                print(row.text, flush=True)
                broken = broken or row.good is False
    return broken


async def _scenario(name: str, seed: int, kills: int) -> list[Row]:
    match name:
        case "kills":
            return await Run(seed, kills, KILLING).run()
        case "disk":
            return await disk.run()
        case "hanging":
            return await hanging.run()
        case _:
            return await backlog.run()


if __name__ == "__main__":
    main()

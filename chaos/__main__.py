"""``make chaos``: one table. Exit 1 where a promise is broken."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time

import uvloop

from chaos.kills import Run
from chaos.table import Row

#: The most that everything may take, in seconds.
LIMIT = 480.0
#: What of that kills may take.
KILLING = 270.0


def main() -> int:
    """Run what was asked for, print the table."""
    asked = _arguments()
    started = time.monotonic()
    print(f"chaos: seed {asked.seed} (--seed {asked.seed} throws the same dice)", flush=True)
    rows = uvloop.run(_all(asked))
    for row in rows:
        print(row.text)
    broken = [row for row in rows if row.good is False]
    print(f"{'promises broken' if broken else 'all promises kept'}, in {time.monotonic() - started:.0f} s")
    return 1 if broken else 0


async def _all(asked: argparse.Namespace) -> list[Row]:
    async with asyncio.timeout(LIMIT):
        return await Run(asked.seed, asked.kills, KILLING).run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    seed = os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6)
    parser.add_argument("--seed", type=int, default=int(seed), help="throw the same dice again (CHAOS_SEED)")
    kills = int(os.environ.get("CHAOS_KILLS") or 50)
    parser.add_argument("--kills", type=int, default=kills, help="how often to kill it (CHAOS_KILLS, 50)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

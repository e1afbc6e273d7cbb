"""A process that appends until it is killed, and prints the id of each event once it is acknowledged."""

import asyncio
import itertools
import sys
import time

from engine.core.event import parse_event
from engine.store import open_store


async def main(url: str) -> None:
    store = open_store(url)
    await store.open()
    numbers = itertools.count()

    async def caller() -> None:
        for number in numbers:
            body = b'{"rule_id": "r", "runs": [{"id": "%d"}]}' % number
            appended = await store.append(parse_event(body, time.time()), leased=True)
            print(appended.event_id, flush=True)

    await asyncio.gather(*(caller() for _ in range(50)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

"""A process whose files may not grow, for a while: the operating system refuses its writes."""

import asyncio
import resource
import signal
import sys

from engine.core.errors import StoreBusy
from engine.core.event import Event, parse_event
from engine.store import open_store
from engine.store.queries import EventQuery


def event(number: int) -> Event:
    return parse_event(b'{"rule_id": "r", "runs": [{"id": "%d"}], "pad": "%s"}' % (number, b"x" * 5000), 1.75e9)


async def main(path: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_store(path)
    await store.open()
    await store.append(event(0), leased=True)
    print("before:ok")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        for number in range(1, 200):
            await store.append(event(number), leased=True)
    except StoreBusy:
        print("during:StoreBusy")
    kept = len(await store.events(EventQuery(limit=1000)))
    print("reading:ok" if kept == number else f"reading:{kept}!={number}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    appended = await store.append(event(number), leased=True)
    print("after:ok" if not appended.duplicate else "after:duplicate")
    await store.close()
    again = open_store(path)
    await again.open()
    rows = await again.events(EventQuery(limit=1000))
    print("kept:ok" if len(rows) == number + 1 else f"kept:{len(rows)}")
    await again.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

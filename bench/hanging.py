"""A destination's latency while another one hangs, beside its latency alone, under the same load.

Latency is from a webhook's first byte sent to the forwarded one's arrival. The destination that hangs takes
connections and never answers. Before anything is measured, more events come than the engine delivers at once.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from bench.bodies import RULE
from bench.processes import BenchError, Helper, Sink
from bench.servers import engine, served

#: Events that come first, and how many come in a second.
WARM_UP, WARM_UP_RATE = 700, 700.0
#: Events of a round, and how many of them come in a second.
EVENTS, RATE = 100, 100.0
HEALTHY = '    - {name: healthy, actions: [{forward_webhook: {url: "SINK"}}]}\n'
#: With so long a timeout it hangs to the end: no attempt fails, and no circuit opens.
HANGING = '    - {name: hanging, actions: [{forward_webhook: {url: "HANGS"}, timeout: 5m}]}\n'
_HEAD = f"secrets: none\nroutes:\n  {RULE}:\n"


class Subject:
    """An engine, what sends to it, and what it forwards to."""

    def __init__(self, config: str, checkout: Path, folder: Path | None, stack: contextlib.ExitStack) -> None:
        self._sink = stack.enter_context(Sink())
        server = stack.enter_context(served(engine("", config, checkout), self._sink.url, folder))
        self._warm = stack.enter_context(Helper("bench.pace", str(server.port), str(WARM_UP_RATE)))
        self._pace = stack.enter_context(Helper("bench.pace", str(server.port), str(RATE)))
        self._next = WARM_UP

    def warm_up(self) -> None:
        self._warm.ask(f"0 {WARM_UP}")
        self._all_of(WARM_UP)

    def begin(self) -> None:
        self._pace.say(f"{self._next} {EVENTS}")

    def latency(self) -> float:
        """The mean of the round that was begun, in milliseconds; the slowest events count, too."""
        sent = json.loads(self._pace.read())
        self._all_of(self._next + EVENTS)
        came = self._sink.times(self._next, EVENTS)
        self._next += EVENTS
        return statistics.fmean(end - start for start, end in zip(sent, came, strict=True)) * 1e3

    def _all_of(self, count: int) -> None:
        seen = self._sink.wait(count, 60)["seen"]
        if seen < count:
            raise BenchError(f"{count - seen} of {count} events were not forwarded within a minute")


def measure(checkout: Path, rounds: Iterable[int], folder: Path | None) -> list[tuple[float, float]]:
    """Milliseconds beside the one that hangs, and alone.

    Both engines run all the time, and each has its events in the middle between two of the other's: what
    disturbs the machine disturbs both.

    Raises:
        BenchError: events did not arrive.
    """
    with contextlib.ExitStack() as stack:
        hanging = stack.enter_context(Sink("--hang"))
        beside_config = _HEAD + HANGING.replace("HANGS", hanging.url) + HEALTHY
        beside = Subject(beside_config, checkout, folder, stack)
        alone = Subject(_HEAD + HEALTHY, checkout, folder, stack)
        beside.warm_up()
        alone.warm_up()
        return [_round(beside, alone) for _ in rounds]


def _round(beside: Subject, alone: Subject) -> tuple[float, float]:
    beside.begin()
    time.sleep(0.5 / RATE)
    alone.begin()
    return beside.latency(), alone.latency()

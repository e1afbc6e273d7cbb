"""One party under load, and groups of parties in alternating rounds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.bodies import Shape
from bench.load import MEASURED, WARM_UP, Load, Result, run
from bench.processes import BenchError, Server, Sink
from bench.servers import Party, served

#: How many seconds what was accepted has to be forwarded.
FORWARDED_WITHIN = 120.0
#: How many seconds a server has to come to rest.
REST = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """``seconds`` of load for each measurement, after ``warm_up`` seconds; data folders are made in ``folder``."""

    rounds: int
    seconds: float
    warm_up: float
    folder: Path | None
    own_generator: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: events a second, processor time for each in µs, the most memory in bytes.

    ``generator`` and ``sink`` are how much of a core the busiest process of each took. ``unexpected`` counts
    answers of another status and requests without one, ``missing`` events that were accepted and not forwarded.
    """

    rate: float
    cpu: float
    peak_rss: int
    generator: float
    sink: float
    events: int
    unexpected: int
    missing: int


@dataclass(frozen=True, slots=True)
class Group:
    """Parties that are measured in the same rounds, with the same bodies over so many connections."""

    name: str
    shape: Shape
    connections: int
    parties: tuple[Party, ...]

    def load(self, party: Party, port: int, numbers: tuple[int, int], seconds: float) -> Load:
        return Load(port, party.path, self.shape, *numbers, seconds, self.connections)


def measure(group: Group, party: Party, options: Options) -> Sample:
    """A fresh process of a party, warmed up, under load until it rests."""
    with Sink() as sink, served(party, sink.url, options.folder) as server:
        warm_up = group.load(party, server.port, WARM_UP, options.warm_up)
        warm = run(warm_up, party.status, own=options.own_generator)
        if party.forwards:
            sink.wait(warm.answered, FORWARDED_WITHIN)
        _rest(party, server)
        begun, sink_begun, seen = server.cpu(), sink.server.cpu(), int(sink.wait(0, 0)["seen"])
        load = group.load(party, server.port, MEASURED, options.seconds)
        result = run(load, party.status, own=options.own_generator)
        ended, missing = _forwarded(sink, seen, result) if party.forwards else (result.ended, 0)
        sink_busy = (sink.server.cpu() - sink_begun) / (ended - result.started)
        _rest(party, server)
        done = result.answered - missing
        return Sample(
            rate=done / (ended - result.started),
            cpu=(server.cpu() - begun) / max(result.answered, 1) * 1e6,
            peak_rss=server.peak_rss(),
            generator=result.busy,
            sink=sink_busy,
            events=result.answered,
            unexpected=result.others + result.lost,
            missing=missing,
        )


def _rest(party: Party, server: Server) -> None:
    if party.rests:
        server.settle(REST)


def _forwarded(sink: Sink, seen: int, result: Result) -> tuple[float, int]:
    """When the last accepted event came to the sink, which had ``seen`` others before, and how many did not.

    Raises:
        BenchError: none came.
    """
    told = sink.wait(seen + result.answered, FORWARDED_WITHIN)
    came = int(told["seen"]) - seen
    if came <= 0:
        raise BenchError(f"none of {result.answered} events was forwarded within {FORWARDED_WITHIN:g} s")
    return told["at"], max(0, result.answered - came)


def rounds_until(count: int, until: float, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Numbers of rounds: ``count`` at most, one at least, and no more than end before ``until`` if all take as long."""
    begun = clock()
    for number in range(count):
        now = clock()
        if number and now + (now - begun) / number > until:
            return
        yield number


def in_rounds(group: Group, options: Options, until: float) -> dict[str, list[Sample]]:
    """Samples of each party by its name; every second round goes the other way round."""
    samples: dict[str, list[Sample]] = {party.name: [] for party in group.parties}
    for number in rounds_until(options.rounds, until):
        for party in group.parties[:: -1 if number % 2 else 1]:
            progress(f"{group.name}, round {number + 1} of {options.rounds}: {party.name}")
            samples[party.name].append(measure(group, party, options))
    progress("")
    return samples


def progress(text: str) -> None:
    """Say on a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

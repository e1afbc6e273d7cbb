"""Faults of destinations: random ones, counted by kind, and periods of one fault."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from engine.testing.faults import Fault, Faults
from engine.testing.server import StandIn

#: The engine's timeout in seconds; requests that hang take longer.
TIMEOUT = 2.0
_HANG = TIMEOUT + 1.0

Maker = Callable[[random.Random], Fault]

#: Faults of a request: name, relative frequency, and fault.
KINDS: Mapping[str, tuple[int, Maker]] = {
    "5xx": (6, lambda rng: Fault(rng.choice([500, 502, 503, 504]))),
    "429, with Retry-After": (1, lambda _: Fault(429, retry_after=1)),
    "hang": (1, lambda _: Fault(503, hang=_HANG)),
    "hang after the effect": (1, lambda _: Fault(hang=_HANG)),
    "reset": (3, lambda _: Fault(reset=True)),
    "reset after the effect": (3, lambda _: Fault(reset=True, applied=True)),
    "answer cut in the middle": (3, lambda _: Fault(cut=True)),
    "5xx after the effect": (2, lambda _: Fault(500, applied=True)),
    "slow answer": (3, lambda rng: Fault(hang=rng.uniform(0.05, 0.8))),
    "slow body": (2, lambda rng: Fault(drip=rng.uniform(0.05, 0.8))),
}
#: A fault of every request to one destination, for a while.
SPELLS: Mapping[str, Fault] = {
    "spell of 5xx": Fault(503),
    "spell of 429": Fault(429, retry_after=1),
    "spell of 401": Fault(401),
    "spell of resets": Fault(reset=True),
}
#: A period in which connections are refused.
AWAY = "spell of refused connections"


class Moods(Faults):
    """Replaces a stand-in's ``faults``: each request fails with the probability ``share``."""

    def __init__(self, rng: random.Random, tally: Counter[str], share: float) -> None:
        super().__init__()
        self.rng, self.tally, self.share = rng, tally, share
        self.spell: tuple[str, Fault] | None = None
        self._names = list(KINDS)
        self._weights = [weight for weight, _ in KINDS.values()]

    def take(self, _method: str, *_paths: str) -> Fault | None:
        """The fault of this request; counted."""
        if self.spell is not None:
            name, fault = self.spell
        elif self.rng.random() < self.share:
            name = self.rng.choices(self._names, self._weights)[0]
            fault = KINDS[name][1](self.rng)
        else:
            return None
        self.tally[name] += 1
        return fault

    def clear(self) -> None:
        """Stop all faults."""
        self.share, self.spell = 0.0, None


class Weather:
    """Lets destinations fail for a while, one after another, until cancelled."""

    def __init__(self, rng: random.Random, tally: Counter[str], mended: Callable[[], None]) -> None:
        self._rng, self._tally, self._mended = rng, tally, mended

    async def blow(self, destinations: Sequence[StandIn]) -> None:
        """Every few seconds, one destination fails for a second or two. After 401s it calls ``mended``."""
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 4.0))
            where = self._rng.choice(destinations)
            name = self._rng.choice([*SPELLS, AWAY])
            until = time.monotonic() + self._rng.uniform(0.3, 2.0)
            if name == AWAY:
                await self._away(where, until)
            else:
                await self._under(where, name, until)

    async def _under(self, where: StandIn, name: str, until: float) -> None:
        where.faults.spell = (name, SPELLS[name])
        try:
            await asyncio.sleep(until - time.monotonic())
        finally:
            where.faults.spell = None
        if SPELLS[name].status == 401:
            self._mended()

    async def _away(self, where: StandIn, until: float) -> None:
        self._tally[AWAY] += 1
        await where.stop()
        try:
            await asyncio.sleep(max(until - time.monotonic(), 0.1))
        finally:
            await where.start()
